"""The leak oracle has teeth: it sees the least that it claims to see, and nothing in what is uniform."""

from collections.abc import Iterable

import numpy as np
import pytest

from protocols import RoundConfig, wire
from protocols.audit.attack import Finding
from protocols.audit.leak import compare, leaks
from protocols.audit.table import signing_key, vectors_for
from protocols.audit.watch import Watch
from protocols.context import ClientId, RoundContext
from protocols.messages import Masked, RoundOpen
from secagg.ring import Words

CONFIG = RoundConfig(clients=5, length=10_000, clip=1.0)
RING, LENGTH = CONFIG.ring, CONFIG.words
VICTIM, OTHER = ClientId(0), ClientId(1)
TRUTH = vectors_for(CONFIG, [VICTIM])[VICTIM]


def uniform(seed: int) -> Words:
    draws = np.random.default_rng(seed).integers(0, 1 << RING.bits, LENGTH, dtype=np.uint64)
    return draws.astype(RING.dtype)


def signs(words: Words, truth: Words = TRUTH) -> list[str]:
    """How one vector tells of the truth."""
    return [leak.sign for leak in compare(words, truth, ring=RING, source="")]


def sent(*vectors: tuple[int, int, Words], session: int = 0) -> Iterable[tuple[ClientId, bytes]]:
    """Masked vectors as they leave: sender, round, words."""
    for sender, number, words in vectors:
        context = RoundContext(bytes([session] * 16), number, CONFIG.hash, bytes(32), bytes(32))
        message = Masked(RING.pack(words))
        yield ClientId(sender), wire.encode_message(context, ClientId(sender), message, signing_key(sender))


def found(watch: Watch, **finding: object) -> list[str]:
    given = {"reached": False, "ring": RING, "secrets": {(VICTIM, 1): TRUTH}, **finding}
    return [str(leak) for leak in leaks(watch, Finding(**given))]


def test_nothing_is_seen_in_uniform_words() -> None:
    assert [sign for seed in range(200) for sign in signs(uniform(seed))] == []


def test_the_truth_itself_shows_in_every_way() -> None:
    seen = signs(TRUTH)
    assert len(seen) == 2 + RING.bits
    assert seen[0] == f"{LENGTH} of {LENGTH} words are equal"
    assert seen[-1] == "correlation 1.000"


@pytest.mark.parametrize("bit", range(RING.bits))
@pytest.mark.parametrize("inverted", [False, True])
def test_one_bit_plane_is_seen(bit: int, inverted: bool) -> None:
    plane = RING.dtype.type(1 << bit)
    kept = (TRUTH ^ plane if inverted else TRUTH) & plane
    seen = signs((uniform(1) & ~plane) | kept)
    assert f"bit {bit} agrees in {0 if inverted else LENGTH} of {LENGTH} words" in seen


def test_a_bit_that_is_right_in_eleven_of_twenty_words_is_seen() -> None:
    right = np.arange(LENGTH) % 10 == 0
    words = np.where(right, (uniform(2) & ~RING.dtype.type(1)) | (TRUTH & RING.dtype.type(1)), uniform(2))
    assert [sign.split(" agrees")[0] for sign in signs(words)] == ["bit 0"]


@pytest.mark.parametrize("r", [0.06, -0.06])
def test_a_correlation_of_six_hundredths_is_seen(r: float) -> None:
    secret = RING.centre(TRUTH).astype(np.float64)
    # A quarter of the ring: what is added must not wrap.
    noise = RING.centre(uniform(3)).astype(np.float64) / 4
    noise -= secret * (noise @ secret) / (secret @ secret)
    scale = r / np.sqrt(1 - r * r) * noise.std() / secret.std()
    words = RING.words(np.rint(noise + scale * secret).astype(np.int64))
    assert f"correlation {r:.3f}" in signs(words)


def test_five_equal_words_are_seen_anywhere() -> None:
    for places in (slice(0, 5), slice(5_000, 5_005), slice(None, None, 2_000), slice(-5, None)):
        words = uniform(5)
        words[places] = TRUTH[places]
        assert f"5 of {LENGTH} words are equal" in signs(words)


def test_a_vector_sent_in_clear_is_seen() -> None:
    assert any("10000 of 10000" in leak for leak in found(Watch(from_clients=[*sent((VICTIM, 1, TRUTH))])))
    assert found(Watch(from_clients=[*sent((VICTIM, 1, uniform(1)))])) == []


@pytest.mark.parametrize("other", [(VICTIM, 2), (OTHER, 1), (OTHER, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_one_mask_in_two_places_is_seen(other: tuple[int, int], sign: int) -> None:
    mask = uniform(6)
    second = RING.reduce(mask if sign > 0 else np.negative(mask))
    messages = sent((VICTIM, 1, RING.reduce(TRUTH + mask)), (*other, second))
    seen = found(Watch(from_clients=[*messages]))
    assert any("10000 of 10000" in leak for leak in seen)
    assert {leak.split(" of client")[0] for leak in seen} >= {"the difference" if sign > 0 else "the sum"}


def test_one_mask_for_two_inputs_of_one_round_is_seen_in_either_order() -> None:
    mask = uniform(7)
    both = [(VICTIM, 1, RING.reduce(TRUTH + mask)), (VICTIM, 1, mask)]
    for messages in (both, both[::-1]):
        assert any("10000 of 10000" in leak for leak in found(Watch(from_clients=[*sent(*messages)])))


def test_a_vector_is_looked_at_in_every_session() -> None:
    clear, hidden = (VICTIM, 1, TRUTH), (VICTIM, 1, uniform(8))
    for first, second in ((clear, hidden), (hidden, clear)):
        messages = [*sent(first), *sent(second, session=1)]
        assert any("10000 of 10000" in leak for leak in found(Watch(from_clients=messages)))


def test_a_guess_is_held_against_its_secret() -> None:
    assert any("guess" in leak for leak in found(Watch(), guesses={(VICTIM, 1): TRUTH}))
    assert found(Watch(), guesses={(VICTIM, 1): uniform(9)}) == []


@pytest.mark.parametrize(
    "words", [RING.pack(TRUTH[:8]), TRUTH[:8].tobytes(), RING.centre(TRUTH[:8]).tobytes()]
)
def test_eight_words_in_any_message_are_seen(words: bytes) -> None:
    context = RoundContext(bytes(16), 1, CONFIG.hash)
    data = wire.encode_message(context, VICTIM, RoundOpen(b"metrics" + words + b"loss"), None)
    for watch in (Watch(from_clients=[(VICTIM, data)]), Watch(to_clients=[(OTHER, data)])):
        assert [leak for leak in found(watch) if "holds 8 words of client 0" in leak]
