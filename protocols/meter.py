"""What a simulation costs: seconds and bytes by client and phase. It measures nothing by itself: the clock is
an argument."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def stopped() -> float:
    """A clock that stands still."""
    return 0.0


@dataclass(slots=True)
class Meter:
    """Seconds and bytes by client and phase.

    Args:
        clock: Seconds. Where clients live in worker processes, a function of module `time` or `stopped`:
            each process reads its own.
    """

    clock: Callable[[], float] = stopped
    client_seconds: defaultdict[tuple[int, str], float] = field(default_factory=lambda: defaultdict(float))
    custodian_seconds: float = 0.0
    server_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    upload_bytes: defaultdict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    download_bytes: defaultdict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))

    @contextmanager
    def client(self, client: int, phase: str) -> Iterator[None]:
        """Count what happens inside as a client's work."""
        begin = self.clock()
        yield
        self.client_seconds[client, phase] += self.clock() - begin

    @contextmanager
    def custodian(self) -> Iterator[None]:
        """Count what happens inside as the key custodian's work."""
        begin = self.clock()
        yield
        self.custodian_seconds += self.clock() - begin

    @contextmanager
    def server(self, phase: str) -> Iterator[None]:
        """Count what happens inside as the server's work."""
        begin = self.clock()
        yield
        self.server_seconds[phase] += self.clock() - begin
