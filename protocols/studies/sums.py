"""Means of clients' updates: through the protocol, or of the same integers in clear.

Both quantise as a round does, so a masked mean and a plain one are the same to the last bit (a test holds
it): where a study compares many methods, those that are compared with may go the short way.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.outputs import NeedInput
from protocols.pipeline import plain_sum, prepare
from protocols.simulation import Federation
from secagg.ring import Words

Float64 = NDArray[np.float64]


class Sums(Protocol):
    """What turns a round's updates into their mean.

    Attributes:
        exact: Whether every sum so far was that of what clients put in.
    """

    exact: bool

    def mean(self, updates: Mapping[int, Float64], *, model: Float64) -> Float64:
        """The mean of the clipped and rounded updates of the round's clients, trained on a model."""


def exact_config(*, clients: int, length: int, clip: float, bits: int) -> RoundConfig:
    """A round without noise among so many clients, a third of whom may collude with an active server."""
    return RoundConfig(clients=clients, length=length, clip=clip, value_bits=bits)


@contextmanager
def opened(*, masked: bool, length: int, clip: float, bits: int, seed: int) -> Iterator[Sums]:
    """Sums of either kind, whose sessions end with the context."""
    if not masked:
        yield PlainSums(length=length, clip=clip, bits=bits)
        return
    with MaskedSums(length=length, clip=clip, bits=bits, seed=seed) as sums:
        yield sums


class PlainSums:
    """In clear. Nothing is hidden."""

    def __init__(self, *, length: int, clip: float, bits: int) -> None:
        self._length, self._clip, self._bits, self.exact = length, clip, bits, True

    def mean(self, updates: Mapping[int, Float64], *, model: Float64) -> Float64:
        """As `Sums`."""
        config = exact_config(clients=len(updates), length=self._length, clip=self._clip, bits=self._bits)
        return plain_sum(list(updates.values()), config=config).sum / len(updates)


class MaskedSums:
    """Through the protocol: a session of real clients for each cohort, a round of it for each mean.

    A cohort that stays keeps its session. To be used as a context, which ends its sessions.
    """

    def __init__(self, *, length: int, clip: float, bits: int, seed: int) -> None:
        self._length, self._clip, self._bits, self._seed = length, clip, bits, seed
        self._cohort: tuple[int, ...] = ()
        self._opened, self._session, self.exact = 0, ExitStack(), True
        self._federation: Federation | None = None

    def mean(self, updates: Mapping[int, Float64], *, model: Float64) -> Float64:
        """As `Sums`."""
        federation = self._federation_of(tuple(sorted(updates)), len(updates))

        def contribute(client: ClientId, need: NeedInput) -> Words:
            # Nothing is drawn from the seed: the round adds no noise and rounds to nearest.
            return prepare(updates[int(client)], config=need.config, seed=0)

        result = federation.round(contribute, model=model.astype("<f8").tobytes())
        self.exact &= result.exact
        return result.sum / len(result.survivors)

    def _federation_of(self, cohort: tuple[int, ...], clients: int) -> Federation:
        if self._federation is None or cohort != self._cohort:
            self._session.close()
            config = exact_config(clients=clients, length=self._length, clip=self._clip, bits=self._bits)
            seed = self._seed * 1_000_003 + self._opened
            self._federation = self._session.enter_context(Federation(config, ids=cohort, seed=seed))
            self._cohort, self._opened = cohort, self._opened + 1
        return self._federation

    def __enter__(self) -> "MaskedSums":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()
