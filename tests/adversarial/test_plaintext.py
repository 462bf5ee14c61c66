"""Canaries: no form of an update is in the bytes that reach the server or the transcript."""

import base64
from contextlib import suppress

import numpy as np
import pytest
from msgspec.structs import replace

from protocols import ProtocolError, RoundConfig, Segment, simulate, wire
from protocols.audit.table import body_of
from protocols.audit.watch import watching
from protocols.messages import Masked
from protocols.pairwise import client as machine
from protocols.pipeline import prepare, quantized
from protocols.simulation import Federation
from tests.protocols.harness import looks_uniform

LENGTH = 256
CONFIG = RoundConfig(clients=5, length=LENGTH, clip=10.0, value_bits=16)
UPDATES = {i: np.random.default_rng(i).normal(size=LENGTH) for i in range(5)}
WINDOW = 4  # words that must not appear together


def forms(update: np.ndarray) -> dict[str, list[bytes]]:
    """Windows of a client's update in every encoding an accident might use."""
    integers = quantized(update, config=CONFIG)
    words = prepare(update, config=CONFIG, seed=1)
    arrays = {
        "float64": update.astype("<f8"),
        "float64 big-endian": update.astype(">f8"),
        "float32": update.astype("<f4"),
        "float32 big-endian": update.astype(">f4"),
        "int64": integers.astype("<i8"),
        "int32": integers.astype("<i4"),
        "int32 big-endian": integers.astype(">i4"),
        "ring words": words,
        "ring words big-endian": words.astype(words.dtype.newbyteorder(">")),
    }
    found = {
        name: [array[i : i + WINDOW].tobytes() for i in range(0, LENGTH - WINDOW, WINDOW)]
        for name, array in arrays.items()
    }
    # 8 words of b bits are b whole bytes, wherever a packed vector is aligned to its start.
    packed = CONFIG.ring.pack(words)
    bits = CONFIG.ring.bits
    found["packed"] = [packed[i * bits : (i + 1) * bits] for i in range(LENGTH // 8)]
    found["decimal"] = [repr(float(x))[:12].encode() for x in update if abs(x) > 0.1]
    for name in ("float64", "float32", "ring words", "packed"):
        found[f"{name}, hex"] = [window.hex().encode() for window in found[name]]
        found[f"{name}, base64"] = [base64.b64encode(window)[:-2] for window in found[name]]
    return found


def hits(haystack: bytes, update: np.ndarray) -> set[str]:
    return {name for name, needles in forms(update).items() if any(needle in haystack for needle in needles)}


def run() -> tuple[dict[int, bytes], bytes, object]:
    """Everything that reached the server by client, everything the transcript holds, and the recording."""
    with watching() as record:
        federation = Federation(CONFIG, seed=9)
        federation.round(
            lambda v, _: prepare(UPDATES[v], config=CONFIG, seed=1), drop={3: "masked"}, model=b"model"
        )
    by_client = {v: b"".join(data for sender, data in record.to_server if sender == v) for v in range(5)}
    return by_client, "\n".join(federation.transcript.lines()).encode(), record


def test_no_form_of_any_update_reaches_the_server_or_the_transcript() -> None:
    by_client, transcript, record = run()
    everything = b"".join(by_client.values()) + transcript + b"".join(data for _, data in record.to_clients)
    for client, update in UPDATES.items():
        assert hits(everything, update) == set(), client


def test_teeth_the_scan_finds_an_unmasked_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: no mask is added."""
    monkeypatch.setattr(machine, "apply_masks_threaded", lambda vector, masks, *, ring, threads: None)
    federation = Federation(CONFIG, seed=9)
    with watching() as record, suppress(ProtocolError):  # what is opened then is garbage
        federation.round(lambda v, _: prepare(UPDATES[v], config=CONFIG, seed=1))
    everything = b"".join(data for _, data in record.to_server)
    assert "packed" in hits(everything, UPDATES[0])


@pytest.mark.parametrize("name", list(forms(UPDATES[0])))
def test_teeth_the_scan_finds_every_form(name: str) -> None:
    by_client, _, _ = run()
    for client in (0, 4):
        leak = by_client[client] + b"metrics=" + b"".join(forms(UPDATES[client])[name][:3])
        assert name in hits(leak, UPDATES[client])


def test_masked_vectors_look_uniform_and_uncorrelated() -> None:
    """Over one long vector: |Pearson r| with the truth within the band of chance, and uniform words."""
    length = 10_000
    config = RoundConfig(clients=4, length=length, clip=100.0, corrupt=1)
    updates = {i: np.random.default_rng(i).normal(size=length) for i in range(4)}
    with watching() as record:
        federation = Federation(config, seed=4)
        federation.round(lambda v, _: prepare(updates[v], config=config, seed=1))
    for client, data in record.sent("masked", 1).items():
        words = config.ring.unpack(body_of(data, Masked).vector, length)
        truth = prepare(updates[client], config=config, seed=1)
        assert looks_uniform(words, config.ring.bits)
        assert not looks_uniform(truth, config.ring.bits)
        centred = config.ring.centre(words).astype(float)
        assert abs(np.corrcoef(centred, updates[client])[0, 1]) < 0.05
        assert np.mean(words == truth) < 0.01


def test_the_difference_of_two_rounds_with_one_input_looks_uniform() -> None:
    """Masks are fresh: y_1 - y_2 of equal inputs says nothing; a two-time mask would give zeros."""
    length = 10_000
    config = RoundConfig(clients=4, length=length, clip=100.0, corrupt=1)
    vector = prepare(np.random.default_rng(1).normal(size=length), config=config, seed=1)
    with watching() as record:
        federation = Federation(config, seed=4)
        for _ in range(2):
            federation.round(lambda v, _: vector)
    for client in range(4):
        first, second = (
            config.ring.unpack(body_of(record.sent("masked", r)[client], Masked).vector, length)
            for r in (1, 2)
        )
        assert looks_uniform(config.ring.reduce(first - second), config.ring.bits)


def test_the_clear_fields_of_client_messages_are_few() -> None:
    """Clear-field budget: two rounds that differ in their inputs alone differ in masked vectors alone."""
    recordings = []
    for shift in (0, 1):
        with watching() as record:
            federation = Federation(CONFIG, seed=9)
            federation.round(
                lambda v, _, shift=shift: prepare(UPDATES[(v + shift) % 5], config=CONFIG, seed=1)
            )
        recordings.append(record.to_server)
    differing = set()
    for (sender, a), (other, b) in zip(*recordings, strict=True):
        assert sender == other
        assert len(a) == len(b)
        if a != b:
            differing.add(wire.decode_envelope(a).kind)
    assert differing == {"masked"}


@pytest.mark.parametrize("weights", [(0, 0, 0, 0, 0), (1000, 0, 2, 999, 3)])
def test_a_weight_and_a_count_change_masked_vectors_alone(weights: tuple[int, ...]) -> None:
    """A server that sees a weight in clear sees how much data a client has: nothing else depends on it.

    Equal lengths, kinds, envelopes and bodies in everything a client sends, whatever its weight and counts.
    """
    counts = Segment("counts", length=2, clip=127, value_bits=8, weighted=False)
    config = RoundConfig(clients=5, length=LENGTH, clip=10.0, segments=[counts], weight_bound=1000)
    recordings = []
    for chosen in ((1, 1, 1, 1, 1), weights):
        segments = {v: {"counts": np.array([chosen[v] % 100, 1.0])} for v in range(5)}
        with watching() as record:
            result = simulate(
                config,
                UPDATES,
                weights=dict(enumerate(chosen)),
                segments=segments,
                drop={3: "unmask"},
                seed=9,
            )
        assert result.weight == sum(chosen)
        recordings.append(record.to_server)
    for (sender, a), (other, b) in zip(*recordings, strict=True):
        assert sender == other
        assert len(a) == len(b)
        first, second = wire.decode_envelope(a), wire.decode_envelope(b)
        if first.kind != "masked":
            assert a == b
            continue
        assert replace(first, body=b"", signature=b"") == replace(second, body=b"", signature=b"")
        one, two = (wire.decode_body(envelope, Masked).vector for envelope in (first, second))
        assert len(one) == len(two) == config.ring.packed_bytes(config.words)
        assert one != two
