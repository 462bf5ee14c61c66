"""One training course: an algorithm of the engine, a server's optimiser, and rounds of sums."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from personalization.data import Examples
from personalization.engine import Algorithm, Float64, personalize_many, step_many
from personalization.errors import PersonalizationError
from personalization.optimisers import Memory, Optimiser, no_memory
from personalization.private_state import PrivateState
from protocols.learning.arm import public_number

from .sums import Sums


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Course:
    """Where a training stands; `onward` gives where it stands after more rounds.

    Attributes:
        algorithm: What clients do.
        server: What is done with a mean.
        sums: How a mean is made.
        seed: Of batches and folds, with the client's and the round's number.
        shared: The shared vector.
        private: Every client's state, in a process that is all of them.
        memory: The server's.
        rounds: How many there were.
    """

    algorithm: Algorithm
    server: Optimiser
    sums: Sums
    seed: int
    shared: Float64
    private: tuple[PrivateState, ...]
    memory: Memory
    rounds: int = 0

    def onward(
        self,
        data: Sequence[Examples],
        rounds: int,
        *,
        on_round: Callable[["Course"], None] = lambda course: None,
    ) -> "Course":
        """Train on; every client takes part in every round.

        A client whose step fails puts in zeros, as it would in a session: nobody learns which one it was.
        """
        course = self
        for _ in range(rounds):
            course = course._round(data)
            on_round(course)
        return course

    def _round(self, data: Sequence[Examples]) -> "Course":
        number, nothing = self.rounds + 1, np.zeros(self.algorithm.summed)
        results = step_many(self.algorithm, self.shared, self.private, data, self._seeds("step", number))
        kept, updates = list(self.private), dict[int, Float64]()
        for client, result in enumerate(results):
            if isinstance(result, PersonalizationError):
                updates[client] = nothing
            else:
                updates[client], kept[client] = result.update, result.private
        mean = self.algorithm.aggregate(self.sums.mean(updates, model=self.shared), len(updates))
        shared, memory = self.server(self.shared, mean, self.memory)
        return replace(self, shared=shared, private=tuple(kept), memory=memory, rounds=number)

    def personal(self, data: Sequence[Examples]) -> list[PrivateState]:
        """What every client predicts with: its state, fitted to the shared vector.

        Raises:
            PersonalizationError: As soon as one of them cannot.
        """
        seeds = self._seeds("personal", self.rounds)
        found = personalize_many(self.algorithm, self.shared, self.private, data, seeds)
        return [_good(one) for one in found]

    def _seeds(self, purpose: str, number: int) -> list[int]:
        return [public_number(self.seed, purpose, client, number) for client in range(len(self.private))]


def begin(algorithm: Algorithm, server: Optimiser, sums: Sums, *, clients: int, seed: int) -> Course:
    """A course before its first round."""
    return Course(
        algorithm=algorithm,
        server=server,
        sums=sums,
        seed=seed,
        shared=algorithm.initial,
        private=tuple(PrivateState() for _ in range(clients)),
        memory=no_memory(algorithm.length),
    )


def accuracies(
    algorithm: Algorithm, shared: Float64, private: Sequence[PrivateState], tests: Sequence[Examples]
) -> Float64:
    """Every client's share of examples whose largest output is at the label."""
    return np.array(
        [
            np.mean(algorithm.predict(shared, state, test.inputs).argmax(axis=1) == test.targets)
            for state, test in zip(private, tests, strict=True)
        ]
    )


def worst_tenth(values: Float64) -> float:
    """Mean over the tenth of the clients with the lowest values."""
    return float(np.sort(values)[: max(1, len(values) // 10)].mean())


def _good(found: PrivateState | PersonalizationError) -> PrivateState:
    if isinstance(found, PersonalizationError):
        raise found
    return found
