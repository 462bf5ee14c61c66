"""Sessions that end in an error: an honest one, cut at one party and one event, with one thing altered.

The file has what that party needs and no more. It is also run with the alteration undone, so that nothing
else can be what is refused.
"""

from collections.abc import Mapping, Sequence

import msgspec

from protocols import wire
from protocols.client_session import ClientSession
from protocols.context import SUITE, VERSION, ClientId, RoundContext
from protocols.messages import Body
from tests.vectors.play import FORMAT, Play, identity
from tests.vectors.replay import Run, run

SERVER = "server"


def fault(
    play: Play,
    party: int | str,
    until: str,
    *,
    field: str,
    about: str,
    messages: Mapping[str, bytes] | None = None,
    policy: Mapping[str, object] | None = None,
    instead: Mapping[str, object] | None = None,
    before: int = 0,
) -> dict:
    """One file.

    Args:
        play: The honest session.
        party: Who notices.
        until: The message that its last event is about.
        field: What is altered.
        about: One sentence.
        messages: What takes the place of messages, by name; further ones that `instead` names.
        policy: What the client's policy has instead.
        instead: What the last event has, if it is another than the honest one.
        before: So many events before that one the party's story ends.
    """
    honest, sent = told_until(play, party, until, before=before), play.table.messages
    altered = [*honest[:-1], _instead(honest[-1], instead)]
    vector = {"setup": _setup(play, party), "clients": _with_policy(play, party, policy)}
    wrong = run(vector, party, altered, {**sent, **(messages or {})})
    right = run(play.vector, party, honest, sent)
    assert (wrong.error is not None, right.error) == (True, None), about
    assert wrong.gives[:-1] == right.gives[:-1], about
    error = {"phase": wrong.phase, "field": field, "suspects": list(wrong.error.suspects)}
    head = {**FORMAT, "kind": "session", "about": about, "expect": str(wrong.error.code), "party": party}
    undone = {
        "messages": {n: d.hex() for n, d in right.messages.items() if wrong.messages.get(n) != d},
        "policy": None if policy is None else play.setup.client(int(party))["policy"],
        "event": {**honest[-1], "gives": right.gives[-1]},
    }
    return {**head, **error, **vector, **_shown(altered, wrong), "undone": undone}


def told_until(play: Play, party: int | str, name: str, *, before: int = 0) -> list[dict]:
    """A party's events without their outcomes, up to the first about a message, or so many before that."""
    events = [_asked(event) for event in play.events if event["party"] == party]
    place = next(i for i, event in enumerate(events) if event.get("message") == name)
    return events[: place + 1 - before]


def _asked(event: Mapping) -> dict:
    return {key: value for key, value in event.items() if key != "gives"}


def _shown(events: Sequence[Mapping], ran: Run) -> dict:
    """Messages and events as a file has them."""
    return {
        "messages": {name: data.hex() for name, data in ran.messages.items()},
        "events": [{**event, "gives": gives} for event, gives in zip(events, ran.gives, strict=True)],
    }


def _setup(play: Play, party: int | str) -> dict:
    """What the file of one party has: a client learns all but the configs' places from its invitation."""
    setup = play.vector["setup"]
    return setup if party == SERVER else {"configs": setup["configs"]}


def _with_policy(play: Play, party: int | str, policy: Mapping[str, object] | None) -> list[dict]:
    if party == SERVER:
        return []
    client = play.setup.client(int(party))
    return [{**client, "policy": client["policy"] | (policy or {})}]


def _instead(event: Mapping, changes: Mapping[str, object] | None) -> dict:
    if changes is None:
        return dict(event)
    if changes.get("does", event["does"]) != event["does"]:
        return {"party": event["party"], "now": event["now"], **changes}
    return {**event, **changes}


def one_party(
    play: Play,
    party: int | str,
    events: Sequence[Mapping],
    *,
    about: str,
    messages: Mapping[str, bytes] | None = None,
) -> dict:
    """A file of one party that ends well.

    Args:
        play: The session.
        party: Whose.
        events: Of the session; those of other parties are passed over.
        about: One sentence.
        messages: What takes the place of messages, by name.
    """
    own = [_asked(event) for event in events if event["party"] == party]
    vector = {"setup": _setup(play, party), "clients": _with_policy(play, party, None)}
    ran = run(vector, party, own, {**play.table.messages, **(messages or {})})
    assert ran.error is None, about
    head = {**FORMAT, "kind": "session", "about": about, "expect": "ok"}
    return {**head, **vector, **_shown(own, ran)}


def party_before(play: Play, client: int, name: str) -> ClientSession:
    """A corrupt client's session as it was when a message came, secrets and all."""
    events = told_until(play, client, name, before=1)
    session = run(play.vector, client, events, play.table.messages).party.session
    assert isinstance(session, ClientSession)
    return session


# Alterations of a server's message, which nobody signs


def envelope(data: bytes, **changes: object) -> bytes:
    """The same message with other fields in its envelope."""
    fields = msgspec.structs.asdict(wire.decode_envelope(data))
    assert changes.keys() <= fields.keys()
    return msgspec.msgpack.encode(list({**fields, **changes}.values()))


def fields_of(data: bytes) -> dict:
    """The fields of a message's body."""
    decoded = wire.decode_envelope(data)
    return msgspec.structs.asdict(wire.decode_body(decoded, wire.KINDS[decoded.kind]))


def body(data: bytes, **changes: object) -> bytes:
    """The same message with other fields in its body."""
    fields = fields_of(data)
    assert changes.keys() <= fields.keys()
    return envelope(data, body=msgspec.msgpack.encode(list({**fields, **changes}.values())))


def flip(data: bytes, at: int = 0) -> bytes:
    """One bit altered."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# Messages that a corrupt client signs


def signed(
    context: RoundContext,
    sender: int,
    kind: str,
    content: bytes | Body,
    *,
    within: RoundContext | None = None,
) -> bytes:
    """A message under a client's signature.

    Args:
        context: What its envelope names.
        sender: The client.
        kind: Of the message.
        content: A body, or its bytes.
        within: What the signature is bound to, if it is another context.
    """
    data = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
    to_sign = wire._signed_bytes(within or context, kind, ClientId(sender), data)
    where = (context.session, context.round, context.config_hash)
    signature = identity(sender).sign(to_sign)
    return msgspec.msgpack.encode((VERSION, SUITE, *where, sender, kind, data, signature))


def resigned(play: Play, name: str, **changes: object) -> bytes:
    """A client's message with other fields in its body, under its signature."""
    data = play.table.messages[name]
    decoded, fields = wire.decode_envelope(data), fields_of(data)
    assert changes.keys() <= fields.keys()
    content = msgspec.msgpack.encode(list({**fields, **changes}.values()))
    return signed(play.contexts[decoded.round], decoded.sender, decoded.kind, content)
