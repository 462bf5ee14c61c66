"""Forward secrecy within a session: when a round's secrets go, and that a ratchet is never behind.

That nothing older can be opened afterwards is attack A39, whose search these tests use.
"""

import gc

from protocols import RoundConfig, wire
from protocols.audit.attacks.a39_old_secrets import Seen, broken, candidates
from protocols.audit.table import body_of, vectors_for
from protocols.audit.watch import Watch, watching
from protocols.context import SERVER, ClientId, RoundContext, model_digest
from protocols.errors import Code
from protocols.messages import Deal, Shares
from protocols.pairwise.client import AwaitShares
from protocols.simulation import Federation

CONFIG = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)
SILENT = ClientId(3)


def interrupted() -> tuple[Federation, Watch, Seen]:
    """A session whose one round a client left before it masked, and what the server kept of it."""
    with watching() as record:
        federation = Federation(CONFIG, seed=3)
        vectors = vectors_for(CONFIG, range(4), salt=1)
        federation.round(lambda client, _: vectors[client], model=b"m", drop={SILENT: "masked"})
    base, cohort = federation.server._base, federation.server._cohort
    context = RoundContext(base.session, 1, CONFIG.hash, cohort.digest, model_digest(b"m"))
    dealings = {v: body_of(data, Shares) for v, data in sorted(record.sent("shares", 1).items())}
    return federation, record, Seen(context, dealings)


def fallen(federation: Federation, record: Watch, seen: Seen) -> set[str]:
    """What falls of the round to whoever has the silent client's machine and the server's logs."""
    sent = [data for _, data in record.to_server + record.to_clients]
    keys = candidates([federation.clients[SILENT], sent])
    return {what for what, _ in broken(keys, [seen], SILENT)}


def test_the_search_finds_the_keys_of_a_round_in_progress() -> None:
    """Control: a client that fell silent before it masked still holds its round's channels and seeds."""
    federation, record, seen = interrupted()
    assert fallen(federation, record, seen) == {"record", "list"}
    # The next round takes both away.
    with watching() as later:
        vectors = vectors_for(CONFIG, range(4), salt=9)
        federation.round(lambda client, _: vectors[client])
    record.to_server += later.to_server
    assert fallen(federation, record, seen) == set()


def test_a_skipped_round_ratchets_too() -> None:
    """A client that never saw rounds 2 and 3 holds, in round 4, what its peers hold."""
    with watching() as record:
        federation = Federation(CONFIG, seed=3)
        for number in range(1, 5):
            vectors = vectors_for(CONFIG, range(4), salt=number)
            drop = {2: "keys"} if number in (2, 3) else {}
            result = federation.round(lambda client, _, v=vectors: v[client], drop=drop)
            assert result.exact
            assert not result.refused
    assert result.survivors == (0, 1, 2, 3)
    assert 2 not in record.sent("shares", 3)


def test_a_silent_round_is_given_up_and_its_secrets_with_it() -> None:
    federation, record, seen = interrupted()
    client = federation.clients[SILENT]
    patience = client._policy.patience_seconds
    client.tick(patience - 1)
    assert fallen(federation, record, seen) == {"record", "list"}
    client.tick(patience + federation._now + 1)
    assert fallen(federation, record, seen) == set()


def test_whoever_keeps_the_error_of_a_client_keeps_no_state_of_it() -> None:
    """An error's frames would: they hold the state that refused, with its seeds and keys."""
    federation = Federation(CONFIG, seed=3)
    client = federation.clients[ClientId(0)]
    (send,) = federation.server.open_round(now=0.0)
    client.receive(send.data, 0.0)
    context = client._round.context

    def alive() -> int:
        gc.collect()
        states = (thing for thing in gc.get_objects() if type(thing) is AwaitShares)
        return sum(state.context is context for state in states)

    assert alive() == 1
    *_, aborted = client.receive(wire.encode_message(context, SERVER, Deal((), (), (), ()), None), 0.0)
    assert aborted.error.code == Code.SHARING_SET_INVALID
    assert alive() == 0
