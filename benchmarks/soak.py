"""A long session, then many short ones: every sum right, memory flat, no sealing key twice.

A tenth of the clients vanishes in every round, each at a phase of its own. Sums are held against plain
integer sums made here, apart from the package. Prints a line every hundred rounds and verdicts; writes
benchmarks/results/soak.json; exits 1 if a verdict is missed.
Run: make soak
"""

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from timing import say, wall

from protocols.config import RoundConfig
from protocols.simulation import Federation, Phase
from protocols.transcript import Transcript, chain_head
from secagg import sealing

CLIENTS: Final = 20
LENGTH: Final = 64
VANISH: Final = CLIENTS // 10
# On the complete graph nobody is asked for certificates.
SEALED_NOTHING: Final[tuple[Phase, ...]] = ("keys", "shares")
NOT_SUMMED: Final[tuple[Phase, ...]] = (*SEALED_NOTHING, "masked")
PHASES: Final[tuple[Phase, ...]] = (*NOT_SUMMED, "consistency", "unmask")
SESSION_ROUNDS: Final = 100  # of each of the short sessions, and between two lines of the long one
WARM: Final = 100  # rounds after which memory should not grow
GROWTH: Final = 0.05


class Seals:
    """A digest of each key and nonce that the cipher encrypted under, in memory held from the start.

    Stands in for the cipher class inside `secagg.sealing`, through which every seal of the package goes.
    """

    def __init__(self, capacity: int) -> None:
        self.digests = np.ones((capacity, 2), np.uint64)  # written, so that its pages are there already
        self.count = 0
        self._cipher = sealing.AESGCM

    def __call__(self, key: bytes) -> "Seals.Cipher":
        return self.Cipher(self, key)

    def note(self, key: bytes, nonce: bytes) -> None:
        """One encryption."""
        digest = hashlib.sha256(key + nonce).digest()[:16]
        self.digests[self.count] = np.frombuffer(digest, np.uint64)
        self.count += 1

    def repeats(self) -> int:
        """Encryptions under a key and nonce that were used before."""
        return self.count - len(np.unique(self.digests[: self.count], axis=0))

    class Cipher:
        """The real cipher, and a note of every encryption."""

        def __init__(self, seals: "Seals", key: bytes) -> None:
            self._seals, self._key, self._real = seals, key, seals._cipher(key)
            self.decrypt = self._real.decrypt

        def encrypt(self, nonce: bytes, plaintext: bytes, context: bytes) -> bytes:
            """Note it, then do it."""
            self._seals.note(self._key, nonce)
            return self._real.encrypt(nonce, plaintext, context)


@dataclass
class Tally:
    """What was seen."""

    rounds: int = 0
    wrong_sums: int = 0
    wrong_survivors: int = 0
    broken_transcripts: int = 0
    vanished: dict[Phase, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    rss_mib: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0


def rss_mib() -> float:
    """Resident memory of this process now; where the system does not say, the most it ever was."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def play(session: int, rounds: int, tally: Tally, progress: Callable[[Tally], None]) -> None:
    """One session of real machines; its transcript goes to a file, as one that long should."""
    config = RoundConfig(clients=CLIENTS, length=LENGTH, clip=1.0)
    rng = np.random.default_rng(session)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "transcript.jsonl"
        transcript = Transcript(path)
        with Federation(config, seed=session, transcript=transcript) as federation:
            for _ in range(rounds):
                begin = wall()
                _round(federation, config, rng, tally)
                tally.seconds += wall() - begin
                progress(tally)
        transcript.close()
        with path.open(encoding="ascii") as lines:
            tally.broken_transcripts += chain_head(lines) != transcript.head


def _round(federation: Federation, config: RoundConfig, rng: np.random.Generator, tally: Tally) -> None:
    bound = config.encoding.bound
    integers: NDArray[np.int64] = rng.integers(-bound, bound, (CLIENTS, config.words), endpoint=True)
    words = [config.encoding.encode(row) for row in integers]
    drop = {int(v): PHASES[rng.integers(len(PHASES))] for v in rng.permutation(CLIENTS)[:VANISH]}
    result = federation.round(lambda client, _: words[client], drop=drop)
    survivors = tuple(v for v in range(CLIENTS) if drop.get(v) not in NOT_SUMMED)
    # Python's integers, which neither wrap nor round.
    expected = [sum(int(integers[v, word]) for v in survivors) for word in range(config.words)]
    tally.rounds += 1
    tally.wrong_sums += result.total.tolist() != expected
    tally.wrong_survivors += result.survivors != survivors
    for phase in drop.values():
        tally.vanished[phase] += 1


def _reporter(name: str) -> Callable[[Tally], None]:
    def progress(tally: Tally) -> None:
        if tally.rounds % SESSION_ROUNDS == 0:
            tally.rss_mib[tally.rounds] = rss_mib()
            say(
                f"{name}: {tally.rounds:>5} rounds, {tally.rounds / tally.seconds:6.1f} a second, "
                f"{tally.rss_mib[tally.rounds]:7.2f} MiB resident, {tally.wrong_sums} sums wrong"
            )

    return progress


def _growth(tally: Tally) -> float:
    """Of the resident memory, from the warm-up to the end."""
    return tally.rss_mib[max(tally.rss_mib)] / tally.rss_mib[WARM] - 1


def judge(tallies: dict[str, Tally], seals: Seals) -> dict[str, bool]:
    """What must hold, in words with the figures, and whether it does."""
    every = tallies.values()
    rounds, repeats = sum(tally.rounds for tally in every), seals.repeats()
    silent = sum(tally.vanished[phase] for tally in every for phase in SEALED_NOTHING)
    # Whoever deals seals a record for each of the others and one list of seeds.
    expected = (CLIENTS * rounds - silent) * CLIENTS
    verdicts = {
        f"every one of {rounds} sums equals the plain integer sum": not any(t.wrong_sums for t in every),
        "every set of survivors is the expected one": not any(t.wrong_survivors for t in every),
        "every transcript's chain verifies": not any(t.broken_transcripts for t in every),
        f"{seals.count} records were sealed, as the dealers and holders count": seals.count == expected,
        f"{repeats} of them under a key and nonce that sealed another": repeats == 0,
    }
    for name, tally in tallies.items():
        growth = _growth(tally)
        verdicts[f"{name}: memory grows by {growth:+.1%} after round {WARM}, below {GROWTH:.0%}"] = (
            growth < GROWTH
        )
    return verdicts


def main() -> int:
    """One long session, then as many rounds in short ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1000, help="of either part, a multiple of 100")
    rounds = parser.parse_args().rounds
    if rounds < 2 * SESSION_ROUNDS or rounds % SESSION_ROUNDS:
        parser.error(f"--rounds is a multiple of {SESSION_ROUNDS}, at least {2 * SESSION_ROUNDS}")
    seals = Seals(2 * rounds * CLIENTS * CLIENTS)
    sealing.AESGCM = seals  # type: ignore[assignment, misc]
    tallies = {"one session": Tally(), "many sessions": Tally()}
    play(0, rounds, tallies["one session"], _reporter("one session"))
    progress = _reporter("many sessions")
    for session in range(1, 1 + rounds // SESSION_ROUNDS):
        play(session, SESSION_ROUNDS, tallies["many sessions"], progress)
    verdicts = judge(tallies, seals)
    for name, tally in tallies.items():
        print(f"{name}: {tally.rounds / tally.seconds:.1f} rounds a second; vanished at {tally.vanished}")
    for what, holds in verdicts.items():
        print(f"{'holds ' if holds else 'MISSED'}  {what}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    content = {"parts": {name: asdict(t) for name, t in tallies.items()}, "verdicts": verdicts}
    (results / "soak.json").write_text(json.dumps(content, indent=1))
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
