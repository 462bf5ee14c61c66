"""A client's share of the noise, from a seed of its own, and the surplus of it that is taken away again.

A config that removes surplus splits the share into parts (`dp.surplus`). The base is drawn under the noise's
own label; each binary part from a seed that can be shown without telling anything of another. Nothing here
decides *when* a seed is shown: the client's last state does, once.
"""

import numpy as np
from numpy.typing import NDArray

from dp.samplers import skellam
from dp.surplus import Surplus
from secagg.kdf import KEY_BYTES, Label, derive, digest, encode, extract
from secagg.prg import uniform_words
from secagg.secret import SecretBytes

from .config import RoundConfig
from .errors import InputError
from .outputs import Finished

Seed = SecretBytes | bytes | int


def as_seed(seed: Seed) -> SecretBytes:
    """A uniform key from a seed in any of its forms.

    Raises:
        InputError: If bytes are fewer than 32, or an integer is not in [0, 2**64).
    """
    raw = seed.reveal() if isinstance(seed, SecretBytes) else seed
    if isinstance(raw, bool) or not isinstance(raw, bytes | int):
        raise InputError(f"a seed is bytes or an integer, not {type(raw).__name__}")
    if len(raw) < KEY_BYTES if isinstance(raw, bytes) else not 0 <= raw < 1 << 64:
        raise InputError(f"a seed is {KEY_BYTES} secret bytes, or for simulations an integer below 2**64")
    return extract(SecretBytes(encode(raw)), salt=b"")


def draw_noise(seed: Seed, *, config: RoundConfig) -> NDArray[np.int64]:
    """A client's whole share, int64 (config.words,), grid units. The config adds noise.

    Raises:
        InputError: As `as_seed`.
    """
    key = derive(as_seed(seed), Label.NOISE, config.hash)
    if config.surplus is None:
        return _draw(key, config.local_variance, config.words)
    base, *parts = config.surplus.variances
    noise, root = _draw(key, base, config.words), surplus_key(seed, config=config)
    for part, variance in enumerate(parts):
        noise += _draw(_part_seed(root, part), variance, config.words)
    return noise


def surplus_key(seed: Seed, *, config: RoundConfig) -> SecretBytes:
    """What the seeds of the removable parts come from: a client's session keeps it until its answer."""
    return derive(as_seed(seed), Label.SURPLUS, config.hash)


def used_digest(key: SecretBytes) -> bytes:
    """By which a client knows a surplus key again, 32 bytes; it tells nothing of the key's parts."""
    return digest(Label.SURPLUS_USED, key.reveal())


def surplus_seeds(key: SecretBytes, *, surplus: Surplus, survivors: int) -> SecretBytes:
    """The seeds of the parts that are surplus where so many survived, side by side, 32 bytes each."""
    return SecretBytes(
        b"".join(_part_seed(key, part).reveal() for part in _removed_parts(surplus, survivors))
    )


def seeds_bytes(config: RoundConfig, *, survivors: int) -> int:
    """Length of what every survivor reveals; 0 where no surplus is removed."""
    return 0 if config.surplus is None else KEY_BYTES * config.surplus.removed(survivors).bit_count()


def without_surplus(finished: Finished, *, config: RoundConfig) -> NDArray[np.int64]:
    """The opened sum, int64 (config.words,), less the surplus of every survivor that revealed its seeds.

    The surplus of one that fell silent after its masked vector stays in. Seeds are taken at the word of who
    sent them: k equal false ones move the sum by k times one share.
    """
    if config.surplus is None:
        return finished.total
    ring = config.ring
    variances = config.surplus.variances
    total = ring.words(finished.total)
    parts = _removed_parts(config.surplus, len(finished.survivors))
    for seeds in finished.surplus.values():
        for place, part in enumerate(parts):
            seed = SecretBytes(seeds[place * KEY_BYTES : (place + 1) * KEY_BYTES])
            np.subtract(total, ring.words(_draw(seed, variances[1 + part], config.words)), out=total)
    return ring.centre(ring.reduce(total))


def noise_variance(finished: Finished, *, config: RoundConfig) -> float:
    """Of each coordinate of `without_surplus`, all survivors' noise together; grid units squared.

    If every answer is honest. False seeds take no noise of an honest client away, but add what they like.
    """
    survivors, revealed = len(finished.survivors), len(finished.surplus)
    kept = config.local_variance if config.surplus is None else config.surplus.kept(survivors)
    return revealed * kept + (survivors - revealed) * config.local_variance


def _draw(key: SecretBytes, variance: float, words: int) -> NDArray[np.int64]:
    return skellam(uniform_words(key, 2 * words).reshape(2, words), variance=variance)


def _part_seed(key: SecretBytes, part: int) -> SecretBytes:
    return derive(key, Label.SURPLUS_PART, part)


def _removed_parts(surplus: Surplus, survivors: int) -> list[int]:
    removed = surplus.removed(survivors)
    return [part for part in range(surplus.binary_parts) if removed >> part & 1]
