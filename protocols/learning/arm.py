"""One way to train: a shared vector, the server's steps on it, and what each client puts into a round."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dp.adaptive import noisy_fraction
from personalization.algorithms import ffgg, fit_head, momentum_step, server_step
from personalization.data import ClientData
from personalization.private_state import PrivateState
from personalization.vector import FloatArray
from protocols.errors import ConfigError
from protocols.noise import as_seed
from protocols.pipeline import Revealed, Segments
from protocols.plan import WITHIN_CLIP
from protocols.result import RoundResult
from secagg.kdf import Label, derive
from secagg.prg import uniform_words

from .moving_clip import Vector, moved, normalised, split_clip, with_clip
from .scenarios import Settings


@dataclass(slots=True)
class Arm:
    """A shared vector with the server's momentum, and every client's private state beside it."""

    settings: Settings
    data: Sequence[ClientData]
    shared: Vector
    private: list[PrivateState]
    velocity: Vector = field(init=False)
    unusable: int = 0
    clip: float = field(init=False)
    norms: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.velocity = np.zeros_like(self.shared)
        self.clip = self.settings.clip

    @property
    def model(self) -> bytes:
        """What the server sends: little-endian float32."""
        return self.shared.astype("<f4").tobytes()

    @property
    def message(self) -> bytes:
        """What a training round sends: the model, and behind it the clip where that moves."""
        return with_clip(self.model, self.clip) if self.settings.adaptive_clip else self.model

    def give(self, client: int, message: bytes, round_number: int) -> tuple[Vector, Segments]:
        """What one client puts into the sum: its update, in units of the clip where that moves, and its bit.

        Raises:
            InputError: If the clip it was sent or its update is unusable.
        """
        if not self.settings.adaptive_clip:
            return self.update(client, message, round_number), {}
        model, clip = split_clip(message)
        update = self.update(client, model, round_number)
        values, segments = normalised(update, clip)
        self.norms[client] = math.hypot(*update)
        return values, segments

    def update(self, client: int, model: bytes, round_number: int) -> Vector:
        """One client's FFGG step on the model it was sent; its private head stays here."""
        shared = np.frombuffer(model, "<f4")
        result = ffgg(
            shared,
            self.private[client],
            self.data[client],
            settings=self.settings.ffgg,
            seed=public_number(self.settings.seed, "folds", client, round_number),
        )
        self.private[client] = result.private
        return result.update

    def step(self, mean: Vector, round_number: int) -> None:
        """The server's step on the mean of an opened sum."""
        rate = self.settings.tuned.rate_at(round_number - 1)
        self.velocity = momentum_step(self.velocity, mean, momentum=self.settings.momentum)
        with np.errstate(over="ignore"):
            shared = server_step(self.shared, self.velocity, rate=rate)
            finite = np.isfinite(shared.astype("<f4")).all()
        if not finite:
            raise ConfigError("training diverged: lower server_rate or clip")
        self.shared = shared

    def step_and_clip(self, opened: Revealed | RoundResult, survivors: int, number: int) -> float | None:
        """The server's step on an opened sum, and the next clip where that moves.

        Returns:
            The released fraction of clients within the clip.
        """
        mean = opened.sum / survivors
        if WITHIN_CLIP not in opened.segments:
            self.step(mean, number)
            return None
        self.step(self.clip * mean, number)
        fraction = noisy_fraction(float(opened.segments[WITHIN_CLIP][0]), count=survivors)
        self.clip = moved(self.clip, fraction, settings=self.settings)
        return fraction

    def personalize(self, client: int, shared: FloatArray) -> PrivateState:
        """The head a client would use with a shared vector."""
        return fit_head(shared, self.private[client], self.data[client], settings=self.settings.ffgg)


def public_number(seed: int, *purpose: str | int) -> int:
    """A public 64-bit seed for one use in the simulation's learning."""
    return int(uniform_words(derive(as_seed(seed), Label.SIMULATION, "learning", *purpose), 1)[0])
