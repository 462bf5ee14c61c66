"""Errors of the personalization package: one root, one class per decision a caller can take.

Must not: carry a client's numbers. A message names the place and the kind of the fault, never a value.
"""


class PersonalizationError(Exception):
    """Root of everything this package raises on purpose."""


class DataError(PersonalizationError, ValueError):
    """An array, a label, a seed or a setting has the wrong type, shape, range, or is not finite."""


class VectorError(PersonalizationError, ValueError):
    """Tensors and manifest, or vector and manifest, do not belong together."""


class SplitError(PersonalizationError, ValueError):
    """A split of a model into shared and private parameters that cannot be meant."""


class PrivateStateError(PersonalizationError, TypeError):
    """Something tried to serialise, copy or change a client's private state."""


# What a module or a loss of the caller's raises on examples that it cannot take.
REFUSALS = (RuntimeError, ValueError, IndexError, KeyError, TypeError, ArithmeticError, AssertionError)
