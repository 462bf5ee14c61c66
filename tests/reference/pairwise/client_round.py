"""SPEC 6.2, 6.3, 7.1 to 7.6: one round of one client, from its deal to its answer.

Every rule takes the fields of a body and gives the fields of what the client sends, or raises the fault.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.reference.pairwise import keys, sharing, surplus, wire
from tests.reference.pairwise.cohort import Cohort
from tests.reference.pairwise.config import Config
from tests.reference.pairwise.primitives import Fault, open_sealed, pack_vector, require, seal

Fields = list[object]


@dataclass(kw_only=True)
class Round:
    """What a client has of a round.

    Attributes:
        me, number, config, cohort: Whose round it is, and which.
        context: C.
        tag_keys: By (sender, receiver), for pairs with a witness.
        minimum_difference: Of the policy; 1 accepts any sets of survivors.
        told: Every U3 that the client was told in the session.
        pairs: Keys of the round by neighbour: of the own record, of the neighbour's, and s_uv.
        b: The seed of the self mask.
        awaited: The kind of message that is to come, "input", or "" once it has answered.
        held: b | rho shares, by dealer.
        noise_seed: What the seeds of the noise's parts come from, where surplus is removed.
    """

    me: int
    number: int
    config: Config
    cohort: Cohort
    context: bytes
    tag_keys: Mapping[tuple[int, int], bytes]
    minimum_difference: int
    told: list[set[int]]
    pairs: dict[int, tuple[bytes, bytes, bytes]]
    b: bytes = b""
    awaited: str = "deal"
    held: dict[int, bytes] = field(default_factory=dict)
    u2: list[int] = field(default_factory=list)
    u3: list[int] = field(default_factory=list)
    view: bytes = b""
    noise_seed: bytes = b""

    def rule(self, kind: str) -> Callable[..., tuple[str, Fields] | None]:
        """The rule for a kind of message: it gives kind and fields of what is sent, or nothing."""
        return {
            "deal": self._deal,
            "survivors": self._survivors,
            "tags": self._tags,
            "certified": self._certified,
        }[kind]

    def shares(self, seed: bytes) -> Fields:
        """The body of `shares`, from seed_r."""
        context, holders = self.context, self.cohort.holders[self.me]
        self.b, rho = keys.self_mask_seed(seed, context), keys.list_root(seed, context)
        rows = sharing.shares(
            self.b + rho,
            key=keys.polynomial_key(seed, context),
            threshold=self.config.t,
            holders=len(holders),
        )
        row_of = dict(zip(holders, rows, strict=True))
        self.held[self.me] = row_of[self.me]
        to_self = {v: keys.self_commitment(context, row[:32]) for v, row in row_of.items()}
        to_list = {v: keys.list_commitment(context, row[32:]) for v, row in row_of.items()}
        neighbours = self.cohort.neighbours(self.me)
        seeds = [self.pairs[v][2] for v in neighbours]
        return [
            keys.seed_commitment(context, self.me, self.b),
            [seal(self.pairs[v][0], row_of[v], to_self[v] + to_list[v]) for v in neighbours],
            list(to_self.values()),
            list(to_list.values()),
            seal(keys.list_key(rho, context, self.me), b"".join(seeds)),
            b"".join(keys.pair_commitment(context, seed) for seed in seeds),
        ]

    # 7.2

    def _deal(
        self, missing: list[int], records: list[bytes], to_self: list[bytes], to_list: list[bytes]
    ) -> None:
        invalid = "sharing-set-invalid"
        require(wire.ascending(missing) and set(missing) <= set(self.cohort.members), invalid)
        self.u2 = self.cohort.without(missing)
        require(self.me in self.u2 and len(self.u2) >= self.config.m, invalid)
        dealers = [v for v in self.cohort.neighbours(self.me) if v in self.u2]
        require(len(dealers) == len(records) == len(to_self) == len(to_list), invalid)
        if len(dealers) + 1 < self.config.t:
            raise SitsOut
        for v, record, *committed in zip(dealers, records, to_self, to_list, strict=True):
            row = open_sealed(self.pairs[v][1], record, b"".join(committed))
            if row is None:
                raise Fault("sealed-share-does-not-open", [v])
            made = [
                keys.self_commitment(self.context, row[:32]),
                keys.list_commitment(self.context, row[32:]),
            ]
            require(made == committed, "share-commitment-mismatch", [v])
            self.held[v] = row
        self.awaited = "input"

    def masked(self, values: Sequence[int], noise_seed: bytes) -> Fields:
        """The body of `masked`, from d integers that are taken into the ring."""
        self.noise_seed = noise_seed
        bits, count = self.config.b, self.config.d
        assert self.awaited == "input"
        assert len(values) == count
        u2 = keys.sharing_digest(self.context, self.cohort.without(self.u2))
        mask = keys.self_mask(self.b, self.context, u2, self.me, bits=bits, count=count)
        y = keys.added(values, 1, mask, bits)
        for v, (_, _, seed) in self.pairs.items():
            if v in self.u2:
                mask = keys.pair_mask(seed, self.context, u2, bits=bits, count=count)
                y = keys.added(y, keys.sign_towards(self.me, v), mask, bits)
        self.awaited = "survivors"
        return [pack_vector(y, bits)]

    # 7.3

    def _survivors(self, dropped: list[int]) -> tuple[str, Fields]:
        invalid = "survivor-set-invalid"
        require(wire.ascending(dropped) and set(dropped) <= set(self.u2) - {self.me}, invalid)
        require(len(self.u2) - len(dropped) >= self.config.m, invalid)
        self.u3 = [v for v in self.u2 if v not in dropped]
        distances = [len(earlier ^ set(self.u3)) for earlier in self.told]
        require(all(not 0 < d < self.minimum_difference for d in distances), "survivor-sets-too-close")
        self.told.append(set(self.u3))
        self.view = keys.view_digest(self.context, self.cohort.without(self.u2), dropped)
        self.awaited = "tags" if self.me in self.cohort.witnesses else "certified"
        return "consistency", [self.view, self._words_for(self._witnesses(), keys.tag)]

    def _witnesses(self) -> list[int]:
        return [v for v in self.cohort.witnesses if v in self.u3]

    def _words_for(self, receivers: list[int], word: Callable[[bytes, bytes, bytes], bytes]) -> bytes:
        """Tags or certificates of the view for each of them but oneself, side by side."""
        return b"".join(
            word(self.tag_keys[self.me, v], self.context, self.view) for v in receivers if v != self.me
        )

    # 7.4, 7.5

    def _tags(self, absent: list[int], tags: bytes) -> tuple[str, Fields]:
        agreeing, differing = self._judged(self.u3, absent, tags, keys.tag)
        needed = self.config.t if self.config.k is None else self.config.m
        require(agreeing >= needed, "survivor-set-mismatch", differing)
        if self.config.k is None:
            return self._answer()
        self.awaited = "certified"
        return "certificates", [self._words_for(self.u3, keys.certificate)]

    def _certified(self, absent: list[int], tags: bytes) -> tuple[str, Fields]:
        agreeing, differing = self._judged(self._witnesses(), absent, tags, keys.certificate)
        require(agreeing >= self.cohort.needed, "survivor-set-mismatch", differing)
        return self._answer()

    def _judged(
        self, among: list[int], absent: list[int], tags: bytes, word: Callable[[bytes, bytes, bytes], bytes]
    ) -> tuple[int, list[int]]:
        """How many of those sent what this client computes, itself among them, and who sent another."""
        require(wire.ascending(absent) and set(absent) <= set(among), "survivor-set-invalid")
        senders = [v for v in among if v not in absent and v != self.me]
        require(len(tags) == 16 * len(senders), "survivor-set-invalid")
        differing = [
            v
            for place, v in enumerate(senders)
            if tags[16 * place :][:16] != word(self.tag_keys[v, self.me], self.context, self.view)
        ]
        return len(senders) - len(differing) + (self.me in among), differing

    # 7.6

    def _answer(self) -> tuple[str, Fields]:
        self.awaited = ""
        dealers = [v for v in self.cohort.holders[self.me] if v in self.u2]
        shares = [self.held[v][:32] if v in self.u3 else self.held[v][32:] for v in dealers]
        of = self.config.surplus(len(self.u3))
        return "unmask", [shares, surplus.part_seeds(self.noise_seed, self.config.hash, of) if of else b""]


class SitsOut(Exception):  # noqa: N818 (nobody is at fault)
    """Fewer than t of a client's holders are in U2."""
