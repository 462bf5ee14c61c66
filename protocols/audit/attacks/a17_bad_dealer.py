"""A17: a client deals shares of something else than what it masks with, lists and commits to.

Its shares lie on no polynomial, so that each set of holders rebuilds another secret; or they are of another
seed, or of a key that does not open its list, or the list holds other seeds. Whoever answers, the sum is
exact or the round ends with the dealer's name, before a mask of anyone is removed. SPEC 7.2, 8.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from protocols.audit.attack import Attack, Finding, replaced
from protocols.audit.moments import Sweep, tally
from protocols.audit.saboteur import dealer
from protocols.audit.table import secret, vectors_for
from protocols.config import RoundConfig
from protocols.context import ClientId, RoundContext
from protocols.errors import Code, FaultyPeerError, ProtocolError
from protocols.pairwise import client as machine
from protocols.pairwise import unmasking
from protocols.pairwise.place import Place
from protocols.pairwise.schedule import CommitFunction, self_mask, share_commitments
from protocols.pairwise.unmasking import Unmasking
from protocols.parallel import apply_masks_threaded
from protocols.simulation import Federation, Phase
from secagg.masks import Mask
from secagg.sealing import seal
from secagg.secret import SecretBytes

CONFIG = RoundConfig(clients=5, length=100, clip=1.0, corrupt=1)  # t = m = 4
BAD = ClientId(3)
HONEST = tuple(ClientId(v) for v in range(5) if v != BAD)
# Everybody answers, all but one of the honest do, or the dealer vanishes and is rebuilt.
ENDINGS: tuple[Mapping[int, Phase], ...] = (
    {},
    {0: "unmask"},
    {1: "unmask"},
    {2: "unmask"},
    {4: "unmask"},
    {BAD: "unmask"},
    {BAD: "masked"},
)
Rows = list[bytes]
Shared = tuple[SecretBytes, SecretBytes]


def run() -> Finding:
    """Every way to deal badly, with every ending."""
    return Finding(reached=everything().taken + unmatched().taken > 0)


def everything() -> Sweep:
    """Each bad dealing with each ending: taken is what neither sums exactly nor names the dealer alone."""
    return tally(ended(deals, ending) == "wrong" for deals in DEALINGS.values() for ending in ENDINGS)


def ended(deals: Callable[[], AbstractContextManager[None]], ending: Mapping[int, Phase]) -> str:
    """How a round goes: "exact", "named", or "wrong" where it is neither.

    Where the dealer is named, no mask has been removed, and the next round is exact without it.
    """
    vectors, applied = vectors_for(CONFIG, range(5)), list[object]()
    with deals(), _counting(applied):
        federation = Federation(CONFIG, seed=1)
        try:
            result = federation.round(lambda v, _: vectors[v], drop=ending)
        except FaultyPeerError as error:
            if (error.code, error.suspects) != (Code.DEALER_INCONSISTENT, (BAD,)) or applied:
                return "wrong"
            after = federation.round(lambda v, _: vectors[v])
            return "named" if after.exact and after.survivors == HONEST else "wrong"
        return "exact" if result.exact and not result.refused else "wrong"


def unmatched() -> Sweep:
    """Shares that do not match their commitments: every holder finds it before it is asked for an input."""
    asked, vectors = list[ClientId](), vectors_for(CONFIG, range(5))
    with dealer(BAD, share_commitments=_of_other_shares):
        federation = Federation(CONFIG, seed=1)
        try:
            federation.round(lambda v, _: asked.append(v) or vectors[v])  # type: ignore[func-returns-value]
        except ProtocolError:
            return tally(v in asked or not federation.clients[v].over for v in HONEST)
    return tally(True for _ in HONEST)


def _of_other_shares(context: RoundContext) -> tuple[CommitFunction, CommitFunction]:
    of_self, of_list = share_commitments(context)
    return (lambda _: of_self(bytes(32))), (lambda _: of_list(bytes(32)))


@contextmanager
def _counting(applied: list[object]) -> Iterator[None]:
    """Note what masks a server removes."""

    def apply(vector: object, masks: object, **how: object) -> None:
        applied.append(masks)
        apply_masks_threaded(vector, masks, **how)  # type: ignore[arg-type]

    with replaced((unmasking, "apply_masks_threaded", apply)):
        yield


def dealing(
    *, of: Callable[[Shared], Shared] = lambda both: both, rows: Callable[[Rows], Rows] = lambda rows: rows
) -> Callable[..., Rows]:
    """The machine's way to share both secrets, with other secrets or other rows."""
    honest = machine._deal

    def deal(
        place: Place, context: RoundContext, seed: SecretBytes, self_seed: SecretBytes, root: SecretBytes
    ) -> Rows:
        return rows(honest(place, context, seed, *of((self_seed, root))))

    return deal


def _other_list(key: SecretBytes, plaintext: bytes, *, context: bytes) -> bytes:
    """Of all that a dealer seals, its list alone has nothing bound to it."""
    return seal(key, plaintext if context else bytes(len(plaintext)), context=context)


FALSE = secret("of nobody")
DEALINGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "one share off the polynomial": lambda: dealer(
        BAD, _deal=dealing(rows=lambda rows: [rows[0], bytes(64), *rows[2:]])
    ),
    "no polynomial": lambda: dealer(
        BAD, _deal=dealing(rows=lambda rows: [secret(place).reveal() * 2 for place, _ in enumerate(rows)])
    ),
    "another self mask seed": lambda: dealer(BAD, _deal=dealing(of=lambda both: (FALSE, both[1]))),
    "another seed's commitment": lambda: dealer(BAD, seed_commitment=lambda *_: bytes(32)),
    "another key of its list": lambda: dealer(BAD, _deal=dealing(of=lambda both: (both[0], FALSE))),
    "another list": lambda: dealer(BAD, seal=_other_list),
    "nothing bad": nullcontext,
}


@contextmanager
def mutant() -> Iterator[None]:
    """The mask of whatever was rebuilt is removed."""

    def unverified(self: Unmasking, client: ClientId, secret: bytes, sharing: bytes) -> Mask:
        config = self.round.config
        mask = self_mask(SecretBytes(secret), client, context=self.context, sharing=sharing, config=config)
        return Mask(mask.key, -mask.sign)

    with replaced((Unmasking, "_own_mask", unverified)):
        yield


ATTACK = Attack(
    id="A17",
    name="bad dealer",
    adversary="one client",
    run=run,
    mutant=mutant,
    checks_removed=("a rebuilt self mask seed is the one its owner committed to: Unmasking._own_mask",),
    error=Code.DEALER_INCONSISTENT,
    also=frozenset({Code.SHARE_COMMITMENT, Code.PEER_ABORTED, Code.TOO_FEW_CLIENTS}),
)
