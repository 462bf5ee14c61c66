"""What a saved state holds, and that no state is taken for another."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import (
    SERVER,
    ClientId,
    Persist,
    RoundConfig,
    SavedState,
    StateError,
    enrol,
    restore_client,
    restore_server,
    sign_task,
)
from protocols.durable import _PARTS
from protocols.outputs import Output
from protocols.saved import _DECODER, Header, read_saved, write_saved
from tests.protocols.durable_site import (
    AUTHORITY,
    COMPLETE,
    OPERATOR,
    Site,
    site_after,
)

# What a state holds


def test_a_state_holds_no_identity_and_shows_nothing() -> None:
    site = site_after("client Done")
    for name, saved in site.states.items():
        identity = site.identities[saved.party] if saved.party != SERVER else None
        body = read_saved(saved.data, saved.party, identity)[1]
        for key in site.identities.values():
            assert key.seed.reveal() not in body, name
        assert saved.data.hex()[:16] not in repr(saved)
        assert "data" not in repr(Persist(saved))


def test_a_client_s_state_is_sealed_and_two_states_never_share_a_key() -> None:
    site = site_after("client Done")
    saved = site.states["client AwaitInput"]
    header, body = read_saved(saved.data, saved.party, site.identities[saved.party])
    assert body[100:140] not in saved.data
    twin = write_saved(header, body[:-1] + bytes([body[-1] ^ 1]), site.identities[saved.party])
    one, two = (_DECODER.decode(data) for data in (saved.data, twin.data))
    assert one.tag != two.tag
    assert one.body[: len(body) - 1] != two.body[: len(body) - 1]  # another keystream altogether
    assert write_saved(header, body, site.identities[saved.party]).data == saved.data


def test_what_a_state_has_erased_is_in_no_later_one() -> None:
    """A snapshot, not a log: the secrets of a phase are gone from the states behind it."""
    site, bodies, secrets = Site(config=COMPLETE), {}, {}
    take = site.take_client

    def keep(v: ClientId, outputs: list[Output]) -> list[Output]:
        state = site.clients[v]._session.memory()[1]
        rest = take(v, outputs)
        if v == 0:
            saved = site.clients[v]._saved
            bodies[type(state).__name__] = read_saved(saved.data, v, site.identities[v])[1]
            if hasattr(state, "self_seed"):
                secrets["self_seed"] = state.self_seed.reveal()
            for name in ("opening", "seeds"):
                for peer, key in getattr(state, name, {}).items():
                    secrets[f"{name} {peer}"] = key.reveal()
            for peer, shares in getattr(state, "held", {}).items():
                secrets[f"share {peer}"] = shares.of_self_mask.reveal()
                secrets[f"other share {peer}"] = shares.of_list_key.reveal()
        return rest

    site.take_client = keep  # type: ignore[method-assign]
    site.run()
    lasts = {"self_seed": "AwaitInput", "opening": "AwaitShares", "seeds": "AwaitInput"}
    last = {name: lasts.get(name.split()[0], "AwaitConsistency") for name in secrets}
    order = ["AwaitShares", "AwaitInput", "AwaitSurvivors", "AwaitConsistency", "Done"]
    assert len(secrets) == 1 + 2 * 4 + 2 * 5
    for name, value in secrets.items():
        assert value in bodies[last[name]], name
        for state in order[order.index(last[name]) + 1 :]:
            # The answer itself holds the shares that left; the others are in nothing.
            answered = state == "Done" and name.startswith("share")
            assert (value in bodies[state]) == answered, (name, state)


# Refusals


def test_a_state_is_refused_by_name_elsewhere() -> None:
    site = site_after("client AwaitSurvivors")
    client, server = site.states["client AwaitSurvivors"], site.states["server AwaitMasked"]
    v = ClientId(client.party)
    other = ClientId((v + 1) % 5)
    with pytest.raises(StateError, match="under another identity"):
        restore_client(client.data, site.policy, site.identities[other], me=v)
    with pytest.raises(StateError, match=f"of party {v}, not of client {other}"):
        restore_client(client.data, site.policy, site.identities[other], me=other)
    with pytest.raises(StateError, match="another policy"):
        restore_client(client.data, replace(site.policy, minimum_serial=1), site.identities[v], me=v)
    with pytest.raises(StateError, match="not of client"):
        restore_client(server.data, site.policy, site.identities[v], me=v)
    with pytest.raises(StateError, match="not of the server"):
        restore_server(client.data, site.task, site.enrolment, now=0.0)
    tasks = sign_task(OPERATOR, replace_length(site.config, 4))
    with pytest.raises(StateError, match="another task or enrolment"):
        restore_server(server.data, tasks, site.enrolment, now=0.0)
    lists = enrol(AUTHORITY, {v: k.public for v, k in site.identities.items()}, serial=2, expires=1 << 40)
    with pytest.raises(StateError, match="another task or enrolment"):
        restore_server(server.data, site.task, lists, now=0.0)


def replace_length(config: RoundConfig, length: int) -> RoundConfig:
    return RoundConfig(clients=config.clients, length=length, clip=config.clip, corrupt=config.corrupt)


@pytest.mark.parametrize("name", ["format", "version", "suite"])
def test_a_state_of_another_version_is_refused_by_name(name: str) -> None:
    site = site_after("server AwaitMasked")
    saved = msgspec.structs.replace(_DECODER.decode(site.states["server AwaitMasked"].data), **{name: "x-9"})
    with pytest.raises(StateError, match="'x-9'"):
        site.restored_server(msgspec.msgpack.encode(saved))


FINISHED = Site(config=COMPLETE)
FINISHED.run()
NAMES = sorted(FINISHED.states)


def restore(saved: SavedState, data: bytes) -> object:
    if saved.party == SERVER:
        return FINISHED.restored_server(data)
    return FINISHED.restored_client(saved.party, data)


@given(st.sampled_from(NAMES), st.data())
def test_an_altered_byte_is_refused_by_name(name: str, data: st.DataObject) -> None:
    saved = FINISHED.states[name]
    place = data.draw(st.integers(0, len(saved.data) - 1))
    altered = bytearray(saved.data)
    altered[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateError):
        restore(saved, bytes(altered))


@given(st.sampled_from(NAMES), st.data())
def test_a_cut_or_lengthened_state_is_refused_by_name(name: str, data: st.DataObject) -> None:
    saved = FINISHED.states[name]
    cut = data.draw(st.integers(0, len(saved.data) - 1))
    for damaged in (saved.data[:cut], saved.data + saved.data[: cut + 1], saved.data[cut + 1 :]):
        with pytest.raises(StateError):
            restore(saved, damaged)


@given(st.sampled_from([name for name in NAMES if name.startswith("server")]), st.data())
@settings(max_examples=300)
def test_a_state_that_passes_its_digest_is_still_read_with_care(name: str, data: st.DataObject) -> None:
    """Whoever writes the server's file can make its digest: no byte of it ends in another error."""
    saved = FINISHED.states[name]
    header, body = read_saved(saved.data, saved.party, None)
    altered = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        altered[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        server = restore(saved, write_saved(header, bytes(altered), None).data)
    except StateError:
        return
    assert server.dump().sequence == saved.sequence + 1


def test_a_cohort_out_of_order_is_refused_by_name() -> None:
    """Its encoding is canonical and its digest made again; no graph joins it."""
    saved = FINISHED.states["server NoneType"]
    header, body = read_saved(saved.data, saved.party, None)
    pending, known, state = msgspec.msgpack.decode(body)
    fields = msgspec.msgpack.decode(known)
    cohort = next(entry for entry in fields if isinstance(entry, list) and len(entry) == 2)[1]
    cohort[0] = dict(reversed(cohort[0].items()))
    parts = (pending, msgspec.msgpack.encode(fields), state)
    with pytest.raises(StateError, match="holds no cohort: a graph joins"):
        restore(saved, write_saved(header, msgspec.msgpack.encode(parts), None).data)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_state_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(StateError):
        restore(FINISHED.states["client Done"], data)


def test_what_a_new_store_holds_is_refused_by_name() -> None:
    with pytest.raises(StateError, match="bytes, not NoneType: a new store holds none"):
        FINISHED.restored_client(ClientId(0), None)
    with pytest.raises(StateError, match="bytes, not NoneType"):
        FINISHED.restored_server(None)


def test_a_header_alone_is_refused_by_name() -> None:
    header = Header(b"a session's name", FINISHED.server._session.session_hash, SERVER, 1)
    for body in (b"", b"\x93\xc4\x00\xc4\x00\xc4\x00", b"\x90"):
        with pytest.raises(StateError):
            FINISHED.restored_server(write_saved(header, body, None).data)


def test_a_round_before_the_cohort_is_refused_by_name() -> None:
    saved, early = FINISHED.states["server AwaitMasked"], Site(config=COMPLETE)
    header, body = read_saved(saved.data, SERVER, None)
    (first,) = (o.record for o in early.server.invite() if isinstance(o, Persist))
    known = _PARTS.decode(read_saved(first.data, SERVER, None)[1])[1]
    pending, _, state = _PARTS.decode(body)
    mixed = write_saved(header, msgspec.msgpack.encode((pending, known, state)), None)
    with pytest.raises(StateError, match="before its cohort"):
        FINISHED.restored_server(mixed.data)
