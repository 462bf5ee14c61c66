"""Degree and threshold of the sharing graph, each with the bounds that prove it.

Clients sit on a ring in a random order and share their secrets with k neighbours and with themselves.
`choose` finds the smallest even k, and for it the smallest threshold t, for which every bound below
holds; where none exists it takes the complete graph. It must not look at a graph: everything here holds
over the random order, for corrupt clients fixed before the order is known.

With n clients, C corrupt, D dropped, B = C + D, and H(N, K, m) the number of marked among m drawn from N
of which K are marked:

E1 privacy       n Pr[H(n, C, k) > c] <= 2**-(sigma + 1), c the most corrupt neighbours t withstands
E2 connectivity  n (n-k-1) / 2 * B! (n-k)! / (n! (B-k)!) <= 2**-(sigma + 1), dropouts at random
E3 correctness   n Pr[H(n, D, k) > k - t] <= 2**-eta
E4 separation    n (n-k-1) / 2 * Pr[H(n, C, k/2) >= t - k/2 - 1]**2 <= 2**-(sigma + 1), active server only

*One's own share counts.* Holders are k neighbours and oneself, h = k + 1. Of them c give both kinds of
share and h - c honest ones one kind each, so an active server opens both secrets of a client only if
2t <= h + c: the rule is 2t > k + 1 + c. A semi-honest server asks for one kind: t > c. On the complete
graph this is 2t > n + c. In E3 all t answers come from neighbours, since a client that dropped does not
answer for itself: stricter than needed for the clients that stayed.

*E4.* E2 is about dropouts at random; an active server names the dropped when it knows the ring. To open
sums of two parts it must silence two runs of k/2 seats. A client in such a run, or next to it, is then
left with k/2 + 1 holders and the corrupt of the run, so unless a run has t - k/2 - 1 corrupt clients its
secrets stay closed and the round stalls. Counts in two disjoint runs are negatively associated (Joag-Dev
and Proschan 1983), hence the square. Privacy against an active server fails with probability at most
E1 + E4 <= 2**-sigma, against a semi-honest one E1 + E2.

*What the protocol owes.* These bounds presume that all clients which answer agree on U2 and U3: a quorum of
the whole cohort, 2q > n + C, not of each neighbourhood; and that a client refuses a U2 with fewer than
t of its k + 1 holders. Neighbours' word alone lets a server give an arc of the ring a U2 of its own.
`clients` is the number seated in the graph: a server that shrinks the roster raises C / n.

*Seeds that can be ground.* Whoever can try s orders multiplies E1, E2 and E4 by s. A seed fixed by the
roster alone, without a beacon published after it, can be ground by the server: pass sigma=80.

*Rounding.* Probabilities are summed in floating point from `math.lgamma`. Nine log-factorials of numbers up
to 10**6 are each wrong by less than 2e-8, their sum by less than 3e-7 bits; 1e-6 bits are added to every
value, and what a sum leaves out is bounded by a geometric series, so values err only upwards.

Source: Bell, Bonawitz, Gascón, Lepoint, Raykova, "Secure Single-Server Aggregation with (Poly)Logarithmic
Overhead", CCS 2020, for E1 to E3; there and in what was published from it, holders are the k neighbours.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, inf, isclose, lgamma, log, log2
from typing import Literal

from .errors import DomainError
from .tails import GUARD_BITS, log2_tail

Server = Literal["active", "semi-honest"]

COMPLETE_BELOW = 200  # a sparse graph saves nothing worth its assumptions in smaller cohorts
MAX_CLIENTS = 10**6  # as far as the rounding was analysed

GRINDABLE_SIGMA = 80  # where the server chooses what the graph's seed is made of

_PRIVACY, _CONNECTIVITY = "E1 privacy", "E2 connectivity"
_CORRECTNESS, _SEPARATION = "E3 correctness", "E4 separation"


class InfeasibleError(DomainError):
    """No degree and threshold satisfy what was asked.

    Attributes:
        bound: Name of the bound that failed.
    """

    def __init__(self, bound: str, reason: str) -> None:
        super().__init__(f"{bound}: {reason}")
        self.bound = bound


@dataclass(frozen=True, slots=True)
class Bound:
    """One line of the proof sheet.

    Attributes:
        name: E1 to E4.
        statement: What is bounded, with its numbers.
        value: log2 of an upper bound of the probability; -inf where it cannot happen.
        limit: log2 of what is allowed.
        holds: Whether the value keeps the limit.
    """

    name: str
    statement: str
    value: float
    limit: float
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """A degree and a threshold for so many clients, and why.

    Attributes:
        clients: n, the clients seated in the graph.
        corrupt: C, how many of them collude with the server.
        dropped: D, how many of them may fall silent.
        server: The adversary.
        sigma: Privacy fails with probability at most 2**-sigma.
        eta: With at most D random dropouts a round fails with probability at most 2**-eta.
        published: Whether holders are the k neighbours alone, as in the published tables.
        degree: k, even; or n - 1.
        threshold: t, shares that open a secret.
        proof: The bounds, all of which hold.
    """

    clients: int
    corrupt: int
    dropped: int
    server: Server
    sigma: int
    eta: int
    published: bool
    degree: int
    threshold: int
    proof: tuple[Bound, ...]

    @property
    def complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return self.degree == self.clients - 1


def choose(
    *,
    clients: int,
    corrupt: float,
    dropout: float,
    server: Server = "active",
    sigma: int = 40,
    eta: int = 20,
    reproduce_published: bool = False,
) -> Parameters:
    """The sparsest graph that satisfies every bound, or the complete one.

    Fractions are read as the nearest with a denominator up to 10**6, then rounded up to whole clients.

    Args:
        clients: n, from 3 to 10**6.
        corrupt: Fraction of corrupt clients, in [0, 1); at least one client is assumed corrupt.
        dropout: Fraction of clients that may fall silent, in [0, 1).
        server: The adversary.
        sigma: Bits of privacy; 80 where the server can grind the graph's seed.
        eta: Bits of correctness.
        reproduce_published: For comparison with published tables only: counts rounded down, holders
            without oneself, no E4, no complete graph.

    Raises:
        DomainError: If an argument is outside its domain.
        InfeasibleError: If no graph will do; names the bound.
    """
    _require(clients=clients, server=server, sigma=sigma, eta=eta)
    bad, silent = _fraction("corrupt", corrupt), _fraction("dropout", dropout)
    _refuse_hopeless(bad, silent, server)
    blank = Parameters(
        clients=clients,
        corrupt=floor(bad * clients) if reproduce_published else max(1, ceil(bad * clients)),
        dropped=floor(silent * clients) if reproduce_published else ceil(silent * clients),
        server=server,
        sigma=sigma,
        eta=eta,
        published=reproduce_published,
        degree=clients - 1,
        threshold=2,
        proof=(),
    )
    found = _graph(blank)
    proof = _bounds(found)
    _refuse_failing(proof)
    return replace(found, proof=proof)


def verify(parameters: Parameters) -> None:
    """Recompute every bound from the counts, the degree and the threshold alone.

    Raises:
        DomainError: If a number is outside its domain, or the proof sheet is not that of the numbers.
        InfeasibleError: If a bound does not hold; names it.
    """
    p = parameters
    _require(clients=p.clients, server=p.server, sigma=p.sigma, eta=p.eta)
    if not (int(not p.published) <= p.corrupt <= p.clients and 0 <= p.dropped <= p.clients):
        raise DomainError(f"{p.corrupt} corrupt and {p.dropped} dropped of {p.clients} clients")
    if not p.complete and (p.degree % 2 or not 2 <= p.degree < p.clients - 1):
        raise DomainError(f"a degree is even, from 2 on, or that of the complete graph, not {p.degree}")
    if not 1 <= p.threshold <= _holders(p):
        raise DomainError(f"a threshold of {p.threshold} among {_holders(p)} holders is impossible")
    proof = _bounds(p)
    _refuse_failing(proof)
    # Logarithms may differ in their last digits between machines; what is stated may not.
    if len(proof) != len(p.proof) or not all(map(_same, proof, p.proof)):
        raise DomainError("the proof sheet is not that of these parameters")


def least_threshold(*, clients: int, corrupt: int, degree: int, server: Server, sigma: int) -> int:
    """The smallest t that keeps secrets (E1, E4) on a graph of a given degree.

    Raises:
        InfeasibleError: If none does.
    """
    for threshold in range(2, degree + 2):
        if _keeps_secrets(_of_counts(clients, corrupt, 0, degree, threshold, server, sigma)):
            return threshold
    raise InfeasibleError(
        _PRIVACY, f"no threshold of {degree + 1} holders withstands {corrupt} corrupt clients"
    )


def check_privacy(
    *, clients: int, corrupt: int, dropped: int, degree: int, threshold: int, server: Server, sigma: int
) -> None:
    """Hold counts against every bound but E3, which is about liveness.

    Raises:
        InfeasibleError: If one does not hold; names it.
    """
    p = _of_counts(clients, corrupt, dropped, degree, threshold, server, sigma)
    _refuse_failing(tuple(bound for bound in _bounds(p) if bound.name != _CORRECTNESS))


def _of_counts(
    clients: int, corrupt: int, dropped: int, degree: int, threshold: int, server: Server, sigma: int
) -> Parameters:
    return Parameters(
        clients=clients,
        corrupt=corrupt,
        dropped=dropped,
        server=server,
        sigma=sigma,
        eta=1,
        published=False,
        degree=degree,
        threshold=threshold,
        proof=(),
    )


def _require(*, clients: int, server: str, sigma: int, eta: int) -> None:
    if not 3 <= clients <= MAX_CLIENTS:
        raise DomainError(f"clients lies in [3, {MAX_CLIENTS}], not {clients}")
    if server not in ("active", "semi-honest"):
        raise DomainError(f"server is 'active' or 'semi-honest', not {server!r}")
    if sigma < 1 or eta < 1:
        raise DomainError(f"sigma and eta are at least one bit, not {sigma} and {eta}")


def _fraction(name: str, value: float) -> Fraction:
    if not 0 <= value < 1:  # false for NaN, too
        raise DomainError(f"{name} is a fraction in [0, 1), not {value}")
    # 0.1 is a little more than a tenth: without this, a tenth of 30 clients would be four of them.
    return Fraction(value).limit_denominator(10**6)


def _refuse_hopeless(corrupt: Fraction, dropout: Fraction, server: Server) -> None:
    """Margins beyond which no cohort of any size is worth a search, as in the published finder."""
    weight, name = (2, "corrupt + 2 dropout") if server == "active" else (1, "corrupt + dropout")
    if corrupt + weight * dropout > Fraction(9, 10):
        raise InfeasibleError(name, f"{float(corrupt + weight * dropout):.3g} exceeds 0.9")


def _refuse_failing(proof: tuple[Bound, ...]) -> None:
    for bound in proof:
        if not bound.holds:
            raise InfeasibleError(
                bound.name, f"{bound.statement} has log2 {bound.value:.2f}, above {bound.limit:.2f}"
            )


def _same(one: Bound, other: Bound) -> bool:
    """Equal but for the last digits of a logarithm; infinities are equal to themselves."""
    return replace(one, value=0.0) == replace(other, value=0.0) and isclose(
        one.value, other.value, rel_tol=0, abs_tol=GUARD_BITS
    )


def _graph(blank: Parameters) -> Parameters:
    """The sparsest graph, or the complete one where there is none or the cohort is small."""
    if not blank.published and blank.clients < COMPLETE_BELOW:
        return _complete(blank)
    found = _sparsest(blank)
    if found is None and blank.published:
        raise InfeasibleError("degree", f"none below {blank.clients - 1} keeps E1, E2 and E3 together")
    return _complete(blank) if found is None else found


def _sparsest(blank: Parameters) -> Parameters | None:
    """The first even degree below n - 1 with a threshold that keeps every bound.

    The least threshold that keeps E1 and E4 never falls as the degree grows, and E3 prefers it low.
    """
    threshold = 2
    for degree in range(2, blank.clients - 1, 2):
        candidate = replace(blank, degree=degree, threshold=threshold)
        while not (secret := _keeps_secrets(candidate)) and threshold < degree:
            threshold += 1
            candidate = replace(candidate, threshold=threshold)
        if secret and _correctness(candidate) <= -blank.eta and _connectivity(candidate) <= -blank.sigma - 1:
            return candidate
    return None


def _complete(blank: Parameters) -> Parameters:
    """The complete graph with the least threshold of Bonawitz et al. 2017, section 6.2."""
    n, c = blank.clients, blank.corrupt
    return replace(blank, degree=n - 1, threshold=(n + c) // 2 + 1 if blank.server == "active" else c + 1)


def _bounds(p: Parameters) -> tuple[Bound, ...]:
    if p.complete:
        return _complete_bounds(p)
    n, k, t = p.clients, p.degree, p.threshold
    private, correct = -float(p.sigma + 1), -float(p.eta)
    lines = [
        (_PRIVACY, f"{n} Pr[H({n}, {p.corrupt}, {k}) > {_withstood(p)}]", _privacy(p), private),
        (
            _CONNECTIVITY,
            f"{n} * {n - k - 1} / 2 Pr[{k} given seats of {n} are among {p.corrupt + p.dropped} lost]",
            _connectivity(p),
            private,
        ),
        (_CORRECTNESS, f"{n} Pr[H({n}, {p.dropped}, {k}) > {k - t}]", _correctness(p), correct),
    ]
    if p.server == "active" and not p.published:
        event = f"H({n}, {p.corrupt}, {k // 2}) >= {t - k // 2 - 1}"
        lines.append((_SEPARATION, f"{n} * {n - k - 1} / 2 Pr[{event}]^2", _separation(p), private))
    return tuple(Bound(*line, holds=line[2] <= line[3]) for line in lines)


def _complete_bounds(p: Parameters) -> tuple[Bound, ...]:
    """On the complete graph the same events are certain or impossible."""
    n, t = p.clients, p.threshold
    private, correct = -float(p.sigma + 1), -float(p.eta)
    rule = f"{p.corrupt} corrupt of {_holders(p)} holders open two secrets with a threshold of {t}"
    left = f"{n - p.dropped} answers of {n} are fewer than {t}"
    lines = [
        (_PRIVACY, rule, p.corrupt <= _withstood(p), private),
        (_CONNECTIVITY, "survivors are not connected", True, private),
        (_CORRECTNESS, left, t <= n - p.dropped, correct),
    ]
    return tuple(
        Bound(name, statement, -inf if holds else 0.0, limit, holds)
        for name, statement, holds, limit in lines
    )


def _holders(p: Parameters) -> int:
    return p.degree if p.published else p.degree + 1


def _withstood(p: Parameters) -> int:
    """c, the most corrupt neighbours for which 2t > holders + c, or t > c."""
    return 2 * p.threshold - _holders(p) - 1 if p.server == "active" else p.threshold - 1


def _keeps_secrets(p: Parameters) -> bool:
    """E1, and E4 where it applies."""
    if _privacy(p) > -p.sigma - 1:
        return False
    return p.server != "active" or p.published or _separation(p) <= -p.sigma - 1


def _privacy(p: Parameters) -> float:
    """E1: some client has more corrupt neighbours than the threshold withstands."""
    return log2(p.clients) + log2_tail(p.clients, p.corrupt, p.degree, above=_withstood(p))


def _connectivity(p: Parameters) -> float:
    """E2: corrupt clients and random dropouts fill two runs of k/2 seats."""
    n, k, lost = p.clients, p.degree, p.corrupt + p.dropped
    if k > lost:
        return -inf
    if lost >= n:
        return _log2_pairs(p)
    ratio = lgamma(lost + 1) + lgamma(n - k + 1) - lgamma(n + 1) - lgamma(lost - k + 1)
    return _log2_pairs(p) + ratio / log(2) + GUARD_BITS


def _correctness(p: Parameters) -> float:
    """E3: some client is left with fewer than t neighbours."""
    return log2(p.clients) + log2_tail(p.clients, p.dropped, p.degree, above=p.degree - p.threshold)


def _separation(p: Parameters) -> float:
    """E4: two disjoint runs of k/2 seats have the corrupt clients it takes to cut the ring there."""
    run = p.degree // 2
    return _log2_pairs(p) + 2 * log2_tail(p.clients, p.corrupt, run, above=p.threshold - run - 2)


def _log2_pairs(p: Parameters) -> float:
    """Ways to cut a ring of n seats at two runs of k/2, with a seat left on either side."""
    return log2(p.clients * (p.clients - p.degree - 1) / 2)
