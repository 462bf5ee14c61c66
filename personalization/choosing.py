"""Which of several models a client uses: its own evidence, weighed against what is known of everybody.

A client has few examples to choose by, and a choice by four of them is little better than a coin. What all
clients together found, one released mean for each model, is a prior: a client follows it unless its own
evidence outweighs it (empirical Bayes: with a Beta prior of `strength` examples at the released mean, the
score below is the posterior mean). Examples that count as evidence must be ones that no part of the model was
trained on: a head that was fitted without an example still stands on a body that has seen it.

Must not: let a client's evidence or choice leave it; only bounded, noised sums of them may be released.
"""

from collections.abc import Sequence

from personalization.errors import DataError


def choose(evidence: Sequence[tuple[float, int]], *, prior: Sequence[float], strength: float) -> int:
    """The model with the highest posterior mean accuracy, the first of equals.

    Args:
        evidence: for each model (right, examples), right at most examples; (0, 0) where there are none.
        prior: for each model its released mean accuracy; noise may have carried it out of [0, 1].
        strength: how many examples the prior is worth, above 0.

    Raises:
        DataError: no models, other numbers of priors, impossible evidence, a strength that is not positive.
    """
    if not evidence or len(prior) != len(evidence) or not strength > 0:
        raise DataError("one prior for each model, at least one model, and a positive strength")
    if any(not 0 <= right <= examples for right, examples in evidence):
        raise DataError("evidence is (right, examples) with 0 <= right <= examples")
    scores = [
        (right + strength * min(max(mean, 0.0), 1.0)) / (examples + strength)
        for (right, examples), mean in zip(evidence, prior, strict=True)
    ]
    return scores.index(max(scores))
