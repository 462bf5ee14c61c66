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

    def mean(
        self, updates: Mapping[int, Float64], *, model: Float64, weights: Mapping[int, int] | None = None
    ) -> Float64:
        """The mean of the clipped and rounded updates of the round's clients, trained on a model.

        Args:
            updates: By client.
            model: What they were trained on.
            weights: From 1 to the bound that the sums were opened with, if they were: of each client. The
                server learns their sum.
        """


def exact_config(
    *, clients: int, length: int, clip: float, bits: int, bound: int | None = None
) -> RoundConfig:
    """A round without noise among so many clients, a third of whom may collude with an active server."""
    return RoundConfig(clients=clients, length=length, clip=clip, value_bits=bits, weight_bound=bound)


@contextmanager
def opened(
    *, masked: bool, length: int, clip: float, bits: int, seed: int, bound: int | None = None
) -> Iterator[Sums]:
    """Sums of either kind, whose sessions end with the context; weighted where weights have a bound."""
    if not masked:
        yield PlainSums(length=length, clip=clip, bits=bits, bound=bound)
        return
    with MaskedSums(length=length, clip=clip, bits=bits, seed=seed, bound=bound) as sums:
        yield sums


class PlainSums:
    """In clear. Nothing is hidden."""

    def __init__(self, *, length: int, clip: float, bits: int, bound: int | None = None) -> None:
        self._length, self._clip, self._bits, self._bound, self.exact = length, clip, bits, bound, True

    def mean(
        self, updates: Mapping[int, Float64], *, model: Float64, weights: Mapping[int, int] | None = None
    ) -> Float64:
        """As `Sums`."""
        config = exact_config(
            clients=len(updates), length=self._length, clip=self._clip, bits=self._bits, bound=self._bound
        )
        each = [weights[client] for client in updates] if weights else None
        found = plain_sum(list(updates.values()), config=config, weights=each)
        return found.sum / (len(updates) if found.weight is None else found.weight)


class MaskedSums:
    """Through the protocol: a session of real clients for each cohort, a round of it for each mean.

    A cohort that stays keeps its session. To be used as a context, which ends its sessions.
    """

    def __init__(self, *, length: int, clip: float, bits: int, seed: int, bound: int | None = None) -> None:
        self._length, self._clip, self._bits, self._seed, self._bound = length, clip, bits, seed, bound
        self._cohort: tuple[int, ...] = ()
        self._opened, self._session, self.exact = 0, ExitStack(), True
        self._federation: Federation | None = None

    def mean(
        self, updates: Mapping[int, Float64], *, model: Float64, weights: Mapping[int, int] | None = None
    ) -> Float64:
        """As `Sums`."""
        federation = self._federation_of(tuple(sorted(updates)), len(updates))

        def contribute(client: ClientId, need: NeedInput) -> Words:
            # Nothing is drawn from the seed: the round adds no noise and rounds to nearest.
            weight = weights[int(client)] if weights else 1
            return prepare(updates[int(client)], config=need.config, seed=0, weight=weight)

        result = federation.round(contribute, model=model.astype("<f8").tobytes())
        self.exact &= result.exact
        return result.mean

    def _federation_of(self, cohort: tuple[int, ...], clients: int) -> Federation:
        if self._federation is None or cohort != self._cohort:
            self._session.close()
            config = exact_config(
                clients=clients, length=self._length, clip=self._clip, bits=self._bits, bound=self._bound
            )
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
