"""Secure aggregation as the paper states it, slowly and on its own: Bonawitz et al. 2017, figure 4.

Plain Python integers throughout: Diffie-Hellman and Shamir sharing modulo a prime, masks from SHA-512 modulo
R. Nothing is imported from the product, so that the two can disagree. There are no signatures, seals or bytes
here; what is modelled is who survives, what each share opens, and what the sum then is.

`run` is the protocol. `expected` is its one-line specification, which `run` is held against.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEYS, SHARES, MASKED, CONSISTENCY, UNMASK = PHASES = (
    "AdvertiseKeys",
    "ShareKeys",
    "MaskedInputCollection",
    "ConsistencyCheck",
    "Unmasking",
)
PRIME = (1 << 521) - 1  # for the key agreement and the sharing; a toy group, an honest field
GENERATOR = 3


@dataclass(frozen=True)
class Opened:
    """The sum over U3."""

    survivors: tuple[int, ...]
    total: tuple[int, ...]


@dataclass(frozen=True)
class Abort:
    """Too few clients answered a phase."""

    phase: str


Outcome = Opened | Abort
Vectors = Mapping[int, Sequence[int]]


def expected(vectors: Vectors, drop: Mapping[int, str], *, threshold: int, minimum: int) -> Outcome:
    """The sum of everyone whose masked input was collected, or the first phase with too few answers."""
    for phase in PHASES:
        answered = _answering(vectors, drop, phase)
        if len(answered) < (threshold if phase in (CONSISTENCY, UNMASK) else minimum):
            return Abort(phase)
    survivors = _answering(vectors, drop, MASKED)
    total = tuple(sum(column) for column in zip(*(vectors[u] for u in survivors), strict=True))
    return Opened(tuple(survivors), total)


def run(vectors: Vectors, drop: Mapping[int, str], *, threshold: int, minimum: int, modulus: int) -> Outcome:
    """Every round of the paper with real masks and shares; the total is centred modulo `modulus`."""
    u1 = _answering(vectors, drop, KEYS)
    if len(u1) < minimum:
        return Abort(KEYS)
    secret_keys = {u: _secret("s", u) for u in u1}
    public_keys = {u: pow(GENERATOR, secret_keys[u], PRIME) for u in u1}

    u2 = _answering(vectors, drop, SHARES)
    if len(u2) < minimum:
        return Abort(SHARES)
    seeds = {u: _secret("b", u) for u in u2}
    seed_shares = {u: _share(seeds[u], threshold, u1, f"b{u}") for u in u2}
    key_shares = {u: _share(secret_keys[u], threshold, u1, f"s{u}") for u in u2}

    length = len(next(iter(vectors.values())))
    u3 = _answering(vectors, drop, MASKED)
    if len(u3) < minimum:
        return Abort(MASKED)
    masked = {}
    for u in u3:
        # y_u = x_u + PRG(b_u) + sum_{v<u} PRG(s_uv) - sum_{v>u} PRG(s_uv)
        y = _add(list(vectors[u]), _prg(seeds[u], length, modulus), 1, modulus)
        for v in u2:
            if v != u:
                pair = pow(public_keys[v], secret_keys[u], PRIME)
                y = _add(y, _prg(pair, length, modulus), 1 if v < u else -1, modulus)
        masked[u] = y

    u4 = _answering(vectors, drop, CONSISTENCY)
    if len(u4) < threshold:
        return Abort(CONSISTENCY)
    u5 = _answering(vectors, drop, UNMASK)
    if len(u5) < threshold:
        return Abort(UNMASK)
    z = [0] * length
    for u in u3:
        z = _add(z, masked[u], 1, modulus)
        seed = _rebuild({v: seed_shares[u][v] for v in u5[:threshold]})
        z = _add(z, _prg(seed, length, modulus), -1, modulus)
    for v in u2:
        if v in u3:
            continue
        secret_key = _rebuild({u: key_shares[v][u] for u in u5[-threshold:]})
        for u in u3:
            pair = pow(public_keys[u], secret_key, PRIME)
            z = _add(z, _prg(pair, length, modulus), -1 if v < u else 1, modulus)
    return Opened(tuple(u3), tuple(value - modulus if value >= (modulus + 1) // 2 else value for value in z))


def _answering(vectors: Vectors, drop: Mapping[int, str], phase: str) -> list[int]:
    """A client that does not answer a phase answers none after it."""
    return sorted(u for u in vectors if u not in drop or PHASES.index(drop[u]) > PHASES.index(phase))


def _secret(kind: str, client: int) -> int:
    return int.from_bytes(hashlib.sha512(f"{kind} {client}".encode()).digest()) % PRIME


def _prg(seed: int, length: int, modulus: int) -> list[int]:
    """Values modulo R; 512 bits reduced, so the bias is far below what any test could see."""
    return [int.from_bytes(hashlib.sha512(f"{seed} {i}".encode()).digest()) % modulus for i in range(length)]


def _add(a: Sequence[int], b: Sequence[int], sign: int, modulus: int) -> list[int]:
    return [(x + sign * y) % modulus for x, y in zip(a, b, strict=True)]


def _share(secret: int, threshold: int, holders: Sequence[int], salt: str) -> dict[int, int]:
    """Shares at points id + 1: the polynomial is its constant term and t - 1 derived coefficients."""
    coefficients = [secret] + [_secret(f"{salt} coefficient {i}", 0) for i in range(1, threshold)]
    return {v: sum(c * pow(v + 1, i, PRIME) for i, c in enumerate(coefficients)) % PRIME for v in holders}


def _rebuild(shares: Mapping[int, int]) -> int:
    total = 0
    for u, share in shares.items():
        weight = 1
        for v in shares:
            if v != u:
                weight = weight * (v + 1) * pow(v - u, -1, PRIME) % PRIME
        total += share * weight
    return total % PRIME
