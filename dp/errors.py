"""Every error of this package; all of them derive from `DPError`.

A class per decision a caller can take. Messages name the fault, where it is, and what to do; they never
carry a client's data.
"""


class DPError(Exception):
    """Root of all errors of `dp`."""


class DPInputError(DPError, ValueError):
    """The caller passed something outside the domain: a NaN, a wrong shape or type, a value out of range."""


class CalibrationError(DPError, ValueError):
    """No parameters satisfy the request; the message names the bound that failed."""


class NoiseRangeError(CalibrationError):
    """The noise that is needed is wider than the sampler draws: a coarser grid needs fewer units of it."""


class LedgerError(DPError):
    """The privacy ledger is broken, cannot be written, or already holds this event. Release nothing."""


class UnaccountedReadError(DPError, ValueError):
    """Something would read a client's examples that no event counts; the claimed epsilon would be false."""
