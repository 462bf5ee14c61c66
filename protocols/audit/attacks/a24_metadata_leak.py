"""A24: an input, a weight or a count stands somewhere in clear.

The adversary has every byte that anybody sends, the transcript, whatever a store keeps, what a client's saved
state holds once its seal is off, and the logs with every error in them. It looks for canaries: updates,
weights and counts that are nowhere by chance, in every form that an accident might give them. Beside these
there is a budget: two runs that differ in their inputs alone may differ in masked vectors alone, and in none
of their lengths.
"""

import base64
import io
import json
import logging
import traceback
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from protocols import durable, saved, simulation, wire
from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.table import secret
from protocols.audit.watch import Watch, watching
from protocols.client_session import ClientSession
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.durable import DurableClient, DurableServer
from protocols.errors import InputError, ProtocolError
from protocols.layout import Segment
from protocols.messages import Masked
from protocols.outputs import SavedState
from protocols.pairwise import client as machine
from protocols.pipeline import prepare, quantized
from protocols.policy import ClientPolicy
from protocols.saved import Header
from protocols.server_session import ServerSession
from protocols.simulated import client_sessions
from protocols.simulation import Contribute, Drop, Federation
from secagg.keys import SigningKey
from secagg.prg import uniform_words
from secagg.secret import SecretBytes

COUNTS = Segment("counts", length=4, clip=2.0**29 - 1, value_bits=30, weighted=False)
CONFIG = RoundConfig(clients=5, length=10_000, clip=10.0, segments=[COUNTS], weight_bound=1 << 26)
ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Canary:
    """What one client knows and nobody else may.

    Attributes:
        update: float64 (10,000,).
        weight: An integer of 25 or 26 bits.
        counts: Four integers of 27 bits.
    """

    update: NDArray[np.float64]
    weight: int
    counts: NDArray[np.float64]

    @property
    def inputs(self) -> dict[str, Any]:
        """As `prepare` takes them, and `quantized`."""
        segments = {COUNTS.name: self.counts}
        return {"update": self.update, "config": CONFIG, "weight": self.weight, "segments": segments}


@dataclass
class Evidence:
    """Everything that is searched.

    Attributes:
        watch: Messages.
        kept: What stores keep, and the plaintext of it.
        text: The transcript, logs, and errors.
    """

    watch: Watch
    kept: list[bytes] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def bytes(self) -> bytes:
        """All of it, once."""
        messages = (data for _, data in self.watch.from_clients + self.watch.to_clients)
        text = (line.encode() for line in self.text)
        return b"\0".join(dict.fromkeys((*messages, *self.kept, *text)))


def canary(client: int) -> Canary:
    """A client's own numbers."""
    words = uniform_words(secret("canary", client), CONFIG.words)
    update = (words[: CONFIG.length] / 2.0**64 - 0.5) / 4
    counts = (1 << 26) + words[CONFIG.length : -1] % (1 << 26)
    return Canary(update, (1 << 24) + int(words[-1] % (1 << 25)), counts.astype(np.float64))


def run() -> Finding:
    """The budget; then two rounds with the same inputs, in which everyone is durable, and the search."""
    canaries = {ClientId(v): canary(v) for v in range(CONFIG.clients)}
    within_budget = _inputs_change_masked_vectors_alone(canaries)
    with _gathering() as evidence:
        _session(canaries, evidence)
        _mishaps(canaries[ClientId(0)], evidence)
    needles = defaultdict[str, list[bytes]](list)
    for one in canaries.values():
        for name, windows in forms(one).items():
            needles[name] += windows
    vectors = {v: prepare(**one.inputs, seed=bytes(32)) for v, one in canaries.items()}
    return Finding(
        reached=not within_budget or bool(hits(evidence.bytes(), needles)),
        ring=CONFIG.ring,
        secrets={(v, number): vector for v, vector in vectors.items() for number in range(1, ROUNDS + 1)},
    )


def _session(canaries: Mapping[ClientId, Canary], evidence: Evidence) -> None:
    """Rounds in which one client's vector does not arrive, and one falls silent after it."""
    federation = Federation(CONFIG, seed=1)
    drops: tuple[Drop, ...] = ({3: "masked"}, {4: "unmask"})
    for drop in drops:
        with suppress(ProtocolError):  # on the mutant what is opened is garbage
            federation.round(_giving(canaries), drop=drop)
        durable_clients = cast("dict[ClientId, DurableClient]", federation.clients)
        evidence.text += [repr(client._session.memory()) for client in durable_clients.values()]
    evidence.text += federation.transcript.lines()


def _giving(canaries: Mapping[ClientId, Canary]) -> Contribute:
    """Everyone submits its canary."""
    vectors = {v: prepare(**one.inputs, seed=bytes(32)) for v, one in canaries.items()}
    return lambda client, _: vectors[client]


def _mishaps(one: Canary, evidence: Evidence) -> None:
    """Inputs that are refused: what the errors say is written to logs."""
    broken = one.update.copy()
    broken[-1] = np.nan
    changes: tuple[dict[str, Any], ...] = (
        {"update": broken},
        {"update": one.update[:-1]},
        {"update": one.update.tolist()},
        {"weight": one.weight << 3},
        {"weight": float(one.weight)},
        {"segments": {}},
        {"segments": {COUNTS.name: one.counts.astype(int)}},
    )
    for change in changes:
        try:
            prepare(**one.inputs | change, seed=bytes(32))
        except InputError as error:
            evidence.text += [*traceback.format_exception(error), repr(error)]


@contextmanager
def _gathering() -> Iterator[Evidence]:
    """Keep whatever is said, written or stored inside the block; sessions in it are durable."""
    output, write = io.StringIO(), saved.write_saved
    handler, root = logging.StreamHandler(output), logging.getLogger()

    def write_saved(header: Header, body: bytes, identity: SigningKey | None) -> SavedState:
        state = write(header, body, identity)
        evidence.kept += [body, state.data]
        return state

    def durable_sessions(
        seed: SecretBytes, ids: Iterable[ClientId], policy: ClientPolicy
    ) -> dict[ClientId, ClientSession]:
        sessions = client_sessions(seed, ids, policy)
        wrapped = {
            v: DurableClient(session, me=v, identity=session._identity, policy=policy)
            for v, session in sessions.items()
        }
        return cast("dict[ClientId, ClientSession]", wrapped)

    with (
        watching() as watch,
        redirect_stdout(output),
        redirect_stderr(output),
        replaced(
            (durable, "write_saved", write_saved),
            (simulation, "client_sessions", durable_sessions),
            (simulation, "ServerSession", lambda **given: DurableServer(ServerSession(**given))),
        ),
    ):
        evidence = Evidence(watch)
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.NOTSET)
        try:
            yield evidence
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
    evidence.text.append(output.getvalue())


def forms(one: Canary) -> dict[str, list[bytes]]:
    """Windows of a canary in every encoding an accident might use, of five bytes and more."""
    integers, words = quantized(**one.inputs), prepare(**one.inputs, seed=bytes(32))
    scalars = np.array([one.weight, *one.counts.astype(int)])
    found = {}
    for name, array in {"": one.update, "integers, ": integers, "scalars, ": scalars}.items():
        kinds = ("f8", "f4") if name == "" else ("i8", "i4", "f8", "f4")
        for kind in kinds:
            for order, label in (("<", "little-endian"), (">", "big-endian")):
                found[f"{name}{kind} {label}"] = _windows(array.astype(order + kind))
    found |= {
        "ring words": _windows(words),
        "ring words, big-endian": _windows(words.astype(words.dtype.newbyteorder(">"))),
        # Eight words of b bits are b whole bytes, wherever a packed vector is aligned to its start.
        "packed": _cut(CONFIG.ring.pack(words), CONFIG.ring.bits),
        "MessagePack": [msgspec.msgpack.encode(float(x)) for x in one.update],
        "MessagePack, scalars": [msgspec.msgpack.encode(int(x)) for x in scalars],
        "decimal": [repr(float(x))[:12].encode() for x in one.update if abs(x) > 1e-3],
        # Of a long array a few numbers, to eight places.
        "as NumPy prints": [x.encode() for x in str(one.update).strip("[]").split() if x != "..."],
        "decimal, scalars": [str(int(x)).encode() for x in scalars],
        "decimal, list": _cut(json.dumps(integers.tolist()).encode(), 32),
    }
    for name in ("f8 little-endian", "f4 little-endian", "scalars, i8 little-endian", "packed"):
        found[f"{name}, hex"] = [window.hex().encode() for window in found[name]]
        found[f"{name}, HEX"] = [window.hex().upper().encode() for window in found[name]]
    for name, data in {"float64": one.update.tobytes(), "packed": CONFIG.ring.pack(words)}.items():
        for skip in range(3):  # where the text of three bytes begins
            found[f"{name}, base64 at {skip}"] = _cut(base64.b64encode(data[skip:]), 16)
    return found


def _windows(array: NDArray[Any]) -> list[bytes]:
    """Eight bytes of an array from each of its numbers on."""
    data, size = array.tobytes(), array.itemsize
    return [data[i : i + 8] for i in range(0, len(data) - 8 + 1, size)]


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data) - size + 1, size)]


def hits(haystack: bytes, needles: Mapping[str, list[bytes]]) -> set[str]:
    """The forms of which a window stands in the haystack, whose eight-byte strings are sorted for that."""
    data = np.frombuffer(haystack, np.uint8)
    windows = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(data, 8))
    strings, found = np.sort(windows.view("<u8").ravel()), set()
    for name, wanted in needles.items():
        prefixes = np.unique(np.frombuffer(b"".join(w[:8] for w in wanted if len(w) >= 8), "<u8"))
        places = np.minimum(np.searchsorted(strings, prefixes), len(strings) - 1)
        there = {prefix.tobytes() for prefix in prefixes[strings[places] == prefixes]}
        if any(window in haystack for window in wanted if len(window) < 8 or window[:8] in there):
            found.add(name)
    return found


def _inputs_change_masked_vectors_alone(canaries: Mapping[ClientId, Canary]) -> bool:
    """Whether runs of one seed, with these inputs or zeros of weight zero, differ in masked vectors alone.

    They are what might have happened in one session, under the same masks; nobody sees two of them.
    """
    zeros = Canary(np.zeros(CONFIG.length), 0, np.zeros(COUNTS.length))
    runs = []
    for given in (canaries, dict.fromkeys(canaries, zeros)):
        with watching(aside=True) as watch, suppress(ProtocolError):
            Federation(CONFIG, seed=2).round(_giving(given), drop={3: "unmask"})
        runs.append(watch.from_clients)
    return len(runs[0]) == len(runs[1]) and all(
        sender == other and _differ_in_a_masked_vector(one, two)
        for (sender, one), (other, two) in zip(*runs, strict=True)
    )


def _differ_in_a_masked_vector(one: bytes, two: bytes) -> bool:
    """Whether two messages are the same but for the words of a masked vector, and the signature over it."""
    if one == two:
        return True
    envelopes = [wire.decode_envelope(data) for data in (one, two)]
    if len(one) != len(two) or {envelope.kind for envelope in envelopes} != {"masked"}:
        return False
    lengths = {len(wire.decode_body(envelope, Masked).vector) for envelope in envelopes}
    first, second = (replace(envelope, body=b"", signature=b"") for envelope in envelopes)
    return first == second and lengths == {CONFIG.ring.packed_bytes(CONFIG.words)}


@contextmanager
def mutant() -> Iterator[None]:
    """No mask is added to what a client sends."""
    with replaced((machine, "apply_masks_threaded", lambda vector, masks, *, ring, threads: None)):
        yield


ATTACK = Attack(
    id="A24",
    name="metadata leak",
    adversary="server, whoever reads logs or stores",
    run=run,
    mutant=mutant,
    checks_removed=("masks are added to an input: AwaitInput.submit",),
    error=None,
)
