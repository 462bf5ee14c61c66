"""SPEC 8: what a server has of a round, who is left out of U2, and how the sum is opened."""

from dataclasses import dataclass, field
from typing import Any

from tests.reference.pairwise import keys, sharing
from tests.reference.pairwise.cohort import Cohort
from tests.reference.pairwise.config import Config
from tests.reference.pairwise.primitives import Fault, open_sealed, require


@dataclass
class Round:
    """What a server has of a round: what clients sent, by sender.

    Attributes:
        number, place, config, cohort: Of which round, under which of the task's configs.
        context: C.
        shares: The fields of `shares` from everyone who dealt.
        u2: Who is left of them.
        masked: Vectors of words; their senders are U3.
    """

    number: int
    place: int
    config: Config
    cohort: Cohort
    context: bytes
    shares: dict[int, list[Any]] = field(default_factory=dict)
    u2: list[int] = field(default_factory=list)
    masked: dict[int, list[int]] = field(default_factory=dict)
    consistency: dict[int, bytes] = field(default_factory=dict)
    certificates: dict[int, bytes] = field(default_factory=dict)
    answers: dict[int, list[bytes]] = field(default_factory=dict)
    surplus: dict[int, bytes] = field(default_factory=dict)

    def missing(self) -> list[int]:
        """The cohort without U2."""
        return self.cohort.without(self.u2)

    def dropped(self) -> list[int]:
        """U2 without U3."""
        return [v for v in self.u2 if v not in self.masked]

    def view(self) -> bytes:
        """The view of everyone who was told the truth."""
        return keys.view_digest(self.context, self.missing(), self.dropped())

    def told_by(self, sender: int) -> list[int]:
        """For whom a member's tags are: the witnesses in U3 but itself."""
        return [v for v in self.cohort.witnesses if v in self.masked and v != sender]

    def dealers(self, holder: int) -> list[int]:
        """Whose shares a holder has."""
        return [v for v in self.cohort.holders[holder] if v in self.u2]

    def dealt_to(self, receiver: int) -> list[list[bytes]]:
        """Records and commitments that the receiver's neighbours in U2 made for it, in order of id."""
        lists: list[list[bytes]] = [[], [], []]
        for v in self.dealers(receiver):
            if v != receiver:
                place = self.cohort.holders[v].index(receiver)
                lists[0].append(self.shares[v][1][self.cohort.neighbours(v).index(receiver)])
                lists[1].append(self.shares[v][2][place])
                lists[2].append(self.shares[v][3][place])
        return lists

    def pair_commitment(self, owner: int, peer: int) -> bytes:
        """The owner's, for its pair with a peer."""
        return bytes(self.shares[owner][5][16 * self.cohort.neighbours(owner).index(peer) :][:16])


def left_out(round_: Round) -> set[int]:
    """Dealers that are left out of U2."""
    dealt, holders = round_.shares, round_.cohort.holders
    differs = {
        u: {
            v
            for v in round_.cohort.neighbours(u)
            if v in dealt and round_.pair_commitment(u, v) != round_.pair_commitment(v, u)
        }
        for u in dealt
    }
    out = {u for u, others in differs.items() if len(others) > round_.config.c}
    most_first = sorted(dealt, key=lambda u: (-len(differs[u]), u))
    for u in most_first:
        left = [v for v in most_first if v in differs[u] and v not in out]
        if u not in out and left:
            out |= {u, left[0]}
    while True:
        u2 = set(dealt) - out
        lonely = {u for u in u2 if len(u2 & set(holders[u])) < round_.config.t}
        if not lonely:
            return out
        out |= lonely


def check_answer(round_: Round, sender: int, shares: list[bytes], surplus: bytes) -> None:
    """A share per holder in U2, each matching its dealer's commitment; a seed per part that is surplus."""
    dealers = round_.dealers(sender)
    require(len(shares) == len(dealers), "shape-mismatch")
    require(len(surplus) == 32 * len(round_.config.surplus(len(round_.masked))), "shape-mismatch")
    for v, share in zip(dealers, shares, strict=True):
        place = round_.cohort.holders[v].index(sender)
        if v in round_.masked:
            good = round_.shares[v][2][place] == keys.self_commitment(round_.context, share)
        else:
            good = round_.shares[v][3][place] == keys.list_commitment(round_.context, share)
        require(good, "share-commitment-mismatch")


def total(round_: Round) -> list[int]:
    """The sum, or the fault that ends the round."""
    config, context = round_.config, round_.context
    secrets = {u: _secret(round_, u) for u in round_.u2}
    seeds = {}  # by dropped client, of its pairs with survivors
    for u in round_.u2:
        if u in round_.masked:
            committed = keys.seed_commitment(context, u, secrets[u])
            require(round_.shares[u][0] == committed, "dealer-inconsistent", [u])
        else:
            seeds[u] = listed_seeds(round_, u, secrets[u])
    u2, words = keys.sharing_digest(context, round_.missing()), [0] * config.d
    for u, vector in round_.masked.items():
        mask = keys.self_mask(secrets[u], context, u2, u, bits=config.b, count=config.d)
        words = keys.added(keys.added(words, 1, vector, config.b), -1, mask, config.b)
    for u in seeds:
        for v, seed in seeds[u].items():
            mask = keys.pair_mask(seed, context, u2, bits=config.b, count=config.d)
            words = keys.added(words, keys.sign_towards(u, v), mask, config.b)
    centred = [word - (1 << config.b) if word >= 1 << config.b - 1 else word for word in words]
    wraps = "modulus_bits" in config.fields
    require(wraps or all(abs(word) <= config.ring.largest for word in centred), "aggregate-out-of-range")
    return centred


def _secret(round_: Round, dealer: int) -> bytes:
    """b or rho of a dealer, from the t lowest of its holders that answered."""
    holders = round_.cohort.holders[dealer]
    answered = [v for v in holders if v in round_.answers]
    silent = [v for v in holders if v not in round_.answers]
    require(len(answered) >= round_.config.t, "too-few-clients", silent)
    return sharing.combine(
        {
            holders.index(v) + 1: round_.answers[v][round_.dealers(v).index(dealer)]
            for v in answered[: round_.config.t]
        }
    )


def listed_seeds(round_: Round, owner: int, root: bytes) -> dict[int, bytes]:
    """The seeds of a dropped client's pairs with survivors, each held against its pair commitment."""
    peers = round_.cohort.neighbours(owner)
    opened = open_sealed(keys.list_key(root, round_.context, owner), round_.shares[owner][4])
    if opened is None or len(opened) != 32 * len(peers):
        raise Fault("dealer-inconsistent", [owner])
    used = {}
    for place, v in enumerate(peers):
        if v in round_.masked:
            used[v] = opened[32 * place :][:32]
            committed = round_.pair_commitment(owner, v)
            same = keys.pair_commitment(round_.context, used[v]) == committed
            require(same, "dealer-inconsistent", [owner])
    return used
