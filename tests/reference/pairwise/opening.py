"""SPEC 8: who is left out of U2, what answers must match, and how the sum is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.reference.pairwise import keys, sharing
from tests.reference.pairwise.primitives import Fault, open_sealed, require

if TYPE_CHECKING:
    from tests.reference.pairwise.server import Round

Holders = dict[int, list[int]]


def neighbours(holders: Holders, client: int) -> list[int]:
    """Its holders but itself."""
    return [v for v in holders[client] if v != client]


def missing(round_: Round, members: list[int]) -> list[int]:
    """The cohort without U2."""
    return [v for v in members if v not in round_.u2]


def view(round_: Round, members: list[int]) -> bytes:
    """The view of everyone who was told the truth."""
    dropped = [v for v in round_.u2 if v not in round_.masked]
    return keys.view_digest(round_.context, missing(round_, members), dropped)


def dealt_to(receiver: int, round_: Round, holders: Holders) -> list[list[bytes]]:
    """Records and commitments of the receiver's neighbours in U2, in order of id."""
    lists: list[list[bytes]] = [[], [], []]
    for v in neighbours(holders, receiver):
        if v in round_.u2:
            _, records, self_commitments, list_commitments, _, _ = round_.shares[v]
            lists[0].append(records[neighbours(holders, v).index(receiver)])
            lists[1].append(self_commitments[holders[v].index(receiver)])
            lists[2].append(list_commitments[holders[v].index(receiver)])
    return lists


def pair_commitment(round_shares: dict[int, list], holders: Holders, owner: int, peer: int) -> bytes:
    """What the owner committed to for its pair with a peer."""
    at = 16 * neighbours(holders, owner).index(peer)
    return bytes(round_shares[owner][5][at : at + 16])


def left_out(shares: dict[int, list], holders: Holders, *, corrupt: int, threshold: int) -> set[int]:
    """Dealers that are left out of U2."""
    differs = {
        u: {
            v
            for v in neighbours(holders, u)
            if v in shares
            and pair_commitment(shares, holders, u, v) != pair_commitment(shares, holders, v, u)
        }
        for u in shares
    }
    out = {u for u, others in differs.items() if len(others) > corrupt}
    while True:
        left = {u: differs[u] - out for u in sorted(shares) if u not in out and differs[u] - out}
        if not left:
            break
        first = max(left, key=lambda u: len(left[u]))
        second = max(sorted(left[first]), key=lambda u: len(left[u]))
        out |= {first, second}
    while True:
        u2 = set(shares) - out
        lonely = {u for u in u2 if len(u2 & set(holders[u])) < threshold}
        if not lonely:
            return out
        out |= lonely


def check_answer(round_: Round, holders: Holders, sender: int, shares: list[bytes]) -> None:
    """A share per holder in U2, each matching its dealer's commitment."""
    dealers = [v for v in holders[sender] if v in round_.u2]
    require(len(shares) == len(dealers), "shape-mismatch")
    for v, share in zip(dealers, shares, strict=True):
        place = holders[v].index(sender)
        if v in round_.masked:
            good = round_.shares[v][2][place] == keys.self_commitment(round_.context, share)
        else:
            good = round_.shares[v][3][place] == keys.list_commitment(round_.context, share)
        require(good, "share-commitment-mismatch")


def secret(round_: Round, holders: Holders, dealer: int) -> bytes:
    """b or rho of a dealer, from the t lowest of its holders that answered."""
    found = {}
    for place, holder in enumerate(holders[dealer]):
        if holder in round_.answers and len(found) < round_.config.t:
            dealers = [v for v in holders[holder] if v in round_.u2]
            found[place + 1] = round_.answers[holder][dealers.index(dealer)]
    require(len(found) == round_.config.t, "too-few-clients")
    return sharing.combine(found)


def total(round_: Round, holders: Holders, members: list[int]) -> list[int]:
    """The sum, or the fault that ends the round."""
    config, context = round_.config, round_.context
    secrets = {u: secret(round_, holders, u) for u in round_.u2}
    for u in round_.u2:
        if u in round_.masked:
            committed = keys.seed_commitment(context, u, secrets[u])
            require(round_.shares[u][0] == committed, "dealer-inconsistent", [u])
    dropped = [u for u in round_.u2 if u not in round_.masked]
    seeds = {u: listed_seeds(round_, holders, u, secrets[u]) for u in dropped}
    u2, sum_ = keys.sharing_digest(context, missing(round_, members)), [0] * config.d
    for u, vector in round_.masked.items():
        mask = keys.self_mask(secrets[u], context, u2, u, bits=config.b, count=config.d)
        sum_ = keys.added(keys.added(sum_, 1, vector, config.b), -1, mask, config.b)
    for u in dropped:
        for v, seed in seeds[u].items():
            mask = keys.pair_mask(seed, context, u2, bits=config.b, count=config.d)
            sum_ = keys.added(sum_, keys.sign_towards(u, v), mask, config.b)
    centred = [word - (1 << config.b) if word >= 1 << config.b - 1 else word for word in sum_]
    require(all(abs(word) <= config.largest for word in centred), "aggregate-out-of-range")
    return centred


def listed_seeds(round_: Round, holders: Holders, owner: int, root: bytes) -> dict[int, bytes]:
    """The seeds of a dropped client's pairs with survivors, each held against its pair commitment."""
    peers = neighbours(holders, owner)
    opened = open_sealed(keys.list_key(root, round_.context, owner), round_.shares[owner][4])
    if opened is None or len(opened) != 32 * len(peers):
        raise Fault("dealer-inconsistent", [owner])
    used = {}
    for place, v in enumerate(peers):
        seed = opened[32 * place : 32 * place + 32]
        if v in round_.masked:
            committed = pair_commitment(round_.shares, holders, owner, v)
            require(keys.pair_commitment(round_.context, seed) == committed, "dealer-inconsistent", [owner])
            used[v] = seed
    return used
