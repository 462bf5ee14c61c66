"""Who may sit at the table: lists, tasks, and cohorts that a client refuses."""

from dataclasses import replace

import msgspec
import pytest

from protocols import (
    SERVER,
    ClientId,
    ConfigError,
    FaultyServerError,
    FaultyServerOrPeerError,
    PolicyRefusedError,
    ProtocolError,
    RoundConfig,
    enrol,
    messages,
    sign_task,
    wire,
)
from protocols.audit.table import Table, secret, signing_key
from protocols.client_session import ClientSession
from protocols.context import RoundContext
from protocols.enrolment import Enrolment, _signed_bytes, check_enrolment
from protocols.policy import ClientPolicy
from protocols.task import Task, check_task
from secagg.keys import AgreementKey, SigningKey

CONFIG = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1)
AUTHORITY, OPERATOR = signing_key("authority"), signing_key("operator")
IDENTITIES = {ClientId(v): signing_key("identity", v) for v in range(4)}
PUBLIC = {v: key.public for v, key in IDENTITIES.items()}
POLICY = ClientPolicy(
    authority=AUTHORITY.public, operator=OPERATOR.public, corrupt_fraction=0.25, minimum_serial=5
)
GOOD = enrol(AUTHORITY, PUBLIC, serial=5, expires=1000)


def resigned(enrolment: Enrolment, authority: SigningKey = AUTHORITY, **changes: object) -> Enrolment:
    """A list as a dishonest but real authority would sign it."""
    changed = msgspec.structs.replace(enrolment, **changes)
    signed = _signed_bytes(changed.serial, changed.expires, changed.ids, changed.identities)
    return msgspec.structs.replace(changed, signature=authority.sign(signed))


REFUSED = {
    "expired": (GOOD.to_bytes(), 1000.0, "enrolment-expired"),
    "stale": (resigned(GOOD, serial=4).to_bytes(), 0.0, "enrolment-stale"),
    "wrong authority": (resigned(GOOD, OPERATOR).to_bytes(), 0.0, "enrolment-signature-invalid"),
    "unsigned change": (
        msgspec.structs.replace(GOOD, serial=6).to_bytes(),
        0.0,
        "enrolment-signature-invalid",
    ),
    "descending ids": (resigned(GOOD, ids=(1, 0, 2, 3)).to_bytes(), 0.0, "enrolment-signature-invalid"),
    "repeated id": (resigned(GOOD, ids=(0, 0, 2, 3)).to_bytes(), 0.0, "enrolment-signature-invalid"),
    "repeated identity": (
        resigned(GOOD, identities=(PUBLIC[0], PUBLIC[0], PUBLIC[2], PUBLIC[3])).to_bytes(),
        0.0,
        "enrolment-signature-invalid",
    ),
    "unequal lengths": (resigned(GOOD, ids=(0, 1, 2)).to_bytes(), 0.0, "enrolment-signature-invalid"),
    "trailing byte": (GOOD.to_bytes() + b"\0", 0.0, "enrolment-signature-invalid"),
    "no list": (b"", 0.0, "enrolment-signature-invalid"),
    "nested": (b"\x91" * 100_000, 0.0, "enrolment-signature-invalid"),
}


@pytest.mark.parametrize(("data", "now", "code"), REFUSED.values(), ids=REFUSED)
def test_lists_that_are_refused(data: bytes, now: float, code: str) -> None:
    with pytest.raises(PolicyRefusedError) as caught:
        check_enrolment(data, POLICY, now=now)
    assert caught.value.code == code


def test_a_good_list_until_its_last_moment() -> None:
    assert check_enrolment(GOOD.to_bytes(), POLICY, now=999.999).members() == PUBLIC


def test_every_flipped_bit_of_a_list_is_refused() -> None:
    data = GOOD.to_bytes()
    for bit in range(8 * len(data)):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PolicyRefusedError):
            check_enrolment(bytes(altered), POLICY, now=0.0)


def test_one_key_one_client() -> None:
    with pytest.raises(ConfigError):
        enrol(AUTHORITY, {ClientId(0): PUBLIC[0], ClientId(1): PUBLIC[0]}, serial=1, expires=1)


TASK = sign_task(OPERATOR, CONFIG)
WEAK = RoundConfig(clients=4, length=3, clip=1.0, corrupt=1, threshold=3, server="semi-honest")


def test_tasks_that_are_refused() -> None:
    good = (CONFIG.to_bytes(),)
    assert check_task(good, TASK.signature, POLICY).configs == (CONFIG,)
    cases = [
        (good, sign_task(AUTHORITY, CONFIG).signature, "operator-signature-invalid"),
        (good, bytes(64), "operator-signature-invalid"),
        (good * 2, TASK.signature, "operator-signature-invalid"),
        ((WEAK.to_bytes(),), sign_task(OPERATOR, WEAK).signature, "server-model-refused"),
    ]
    for configs, signature, code in cases:
        with pytest.raises(PolicyRefusedError) as caught:
            check_task(configs, signature, POLICY)
        assert caught.value.code == code


def test_no_bytes_in_place_of_a_config_are_taken() -> None:
    for data in (b"", b"\xc0", b"\x80", CONFIG.to_bytes()[:-1], b"\x81\xa1\xff\x00", b"\x91" * 100_000):
        with pytest.raises(PolicyRefusedError):
            check_task((data,), TASK.signature, POLICY)


def test_rounds_of_a_session_share_cohort_and_thresholds() -> None:
    sign_task(OPERATOR, CONFIG, RoundConfig(clients=4, length=9, clip=2.0, corrupt=1))
    for other in (
        RoundConfig(clients=5, length=3, clip=1.0, corrupt=1),
        RoundConfig(clients=4, length=3, clip=1.0, corrupt=1, threshold=4),
        WEAK,
    ):
        with pytest.raises(ConfigError):
            sign_task(OPERATOR, CONFIG, other)


def invite(me: int, *, now: float = 0.0, policy: ClientPolicy = POLICY, **changes: object) -> ClientSession:
    """A fresh client that got an invitation."""
    fields = {
        "configs": (CONFIG.to_bytes(),),
        "operator_signature": TASK.signature,
        "enrolment": GOOD.to_bytes(),
    }
    fields.update(changes)
    context = RoundContext(bytes(16), 0, TASK.session_hash(GOOD.to_bytes()))
    client = ClientSession(
        me=ClientId(me), identity=signing_key("identity", me), policy=policy, entropy=secret(me)
    )
    client.receive(wire.encode_message(context, SERVER, messages.Invitation(**fields), None), now)
    return client


def error_of(client: ClientSession) -> ProtocolError:
    assert client.over
    return client._session.error


def test_invitations_that_end_the_session() -> None:
    assert not invite(0).over
    cases = [
        (invite(9), "unknown-identity"),  # not on the list
        (invite(0, now=1000.0), "enrolment-expired"),
        (invite(0, policy=replace(POLICY, minimum_serial=6)), "enrolment-stale"),
        (invite(0, policy=replace(POLICY, authority=OPERATOR.public)), "enrolment-signature-invalid"),
        (invite(0, policy=replace(POLICY, operator=AUTHORITY.public)), "operator-signature-invalid"),
        (invite(0, policy=replace(POLICY, corrupt_fraction=0.5)), "threshold-policy-violation"),
        # The envelope's hash covers the list, so another valid list is another session.
        (invite(0, enrolment=resigned(GOOD, serial=6).to_bytes()), "context-mismatch"),
    ]
    assert [str(error_of(client).code) for client, _ in cases] == [code for _, code in cases]


def test_an_identity_under_another_client_s_id_is_refused() -> None:
    swapped = enrol(AUTHORITY, {**PUBLIC, 0: PUBLIC[1], 1: PUBLIC[0]}, serial=5, expires=1000)
    assert error_of(invite(0, enrolment=swapped.to_bytes())).code == "unknown-identity"


def cohort_after(change) -> ProtocolError | None:
    """What client 0 says to an altered cohort; its peers get the honest one."""
    table = Table(CONFIG)
    table.seat(lambda v, cohort: messages.Cohort(tuple(change(list(cohort.members)))) if v == 0 else cohort)
    session = table.clients[ClientId(0)]
    return error_of(session) if session.over else None


def with_member(members: list, position: int, **changes: object) -> list:
    members[position] = msgspec.structs.replace(members[position], **changes)
    return members


STRANGER_KEY = AgreementKey.from_seed(secret("stranger")).public
LOW_ORDER = bytes(32)

COHORTS = [
    ("too small", lambda m: m[:2], FaultyServerError, "roster-invalid"),
    ("unordered", lambda m: [m[1], m[0], *m[2:]], FaultyServerError, "roster-invalid"),
    ("repeated", lambda m: [m[0], m[1], m[1], m[2]], FaultyServerError, "roster-invalid"),
    ("without me", lambda m: m[1:], FaultyServerError, "roster-self-missing-or-altered"),
    (
        "my key altered",
        lambda m: with_member(m, 0, channel_key=STRANGER_KEY),
        FaultyServerError,
        "roster-self-missing-or-altered",
    ),
    ("unknown id", lambda m: with_member(m, 3, id=9), FaultyServerError, "unknown-identity"),
    (
        "a peer's key substituted",
        lambda m: with_member(m, 2, channel_key=STRANGER_KEY),
        FaultyServerOrPeerError,
        "peer-key-signature-invalid",
    ),
    (
        "a peer's signature from another",
        lambda m: with_member(m, 2, signature=m[1].signature),
        FaultyServerOrPeerError,
        "peer-key-signature-invalid",
    ),
    (
        "a peer in another's place",
        lambda m: with_member(m, 2, channel_key=m[1].channel_key, signature=m[1].signature),
        FaultyServerOrPeerError,
        "peer-key-signature-invalid",
    ),
    (
        "my own key as a peer's",
        lambda m: with_member(m, 2, channel_key=m[0].channel_key, signature=m[0].signature),
        FaultyServerOrPeerError,
        "peer-key-signature-invalid",
    ),
]


@pytest.mark.parametrize(
    ("change", "kind", "code"), [case[1:] for case in COHORTS], ids=[c[0] for c in COHORTS]
)
def test_cohorts_that_end_the_session(change, kind, code: str) -> None:
    assert cohort_after(lambda members: members) is None
    error = cohort_after(change)
    assert isinstance(error, kind)
    assert error.code == code


def test_a_signed_but_degenerate_channel_key_names_its_owner() -> None:
    def change(members: list) -> list:
        body = msgspec.msgpack.encode(messages.Join(LOW_ORDER))
        table = Table(CONFIG)
        signed = wire._signed_bytes(table.base, "join", ClientId(2), body)
        return with_member(
            members, 2, channel_key=LOW_ORDER, signature=signing_key("identity", 2).sign(signed)
        )

    error = cohort_after(change)
    assert isinstance(error, FaultyServerOrPeerError)
    assert error.code == "key-degenerate"
    assert error.suspects == (2,)


def test_a_task_needs_a_config() -> None:
    with pytest.raises(ConfigError):
        Task((), bytes(64))
