"""Several bounded integers in one residue modulo t, so that sums of residues are sums of all of them.

Fields lie 2**width apart. A client adds its signed integers, each shifted to its field, modulo t: a negative
one borrows from the field above, which is harmless as long as everything is linear. Only the sum is taken
apart, after S, the largest magnitude of a field's sum, was added to every field: then none is negative and
none reaches the next. Masks act on the whole residue and cancel before.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secagg.encoding import Encoding
from secagg.errors import CapacityError, DomainError

from .residues import Residues


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """`fields` integers in each residue modulo `modulus`.

    Attributes:
        encoding: Clients, the bound of one integer and the tail of the noise: S, and the width of a field.
        fields: Integers in one residue.
        modulus: t, above every sum.

    Raises:
        CapacityError: If a sum could reach t.
        DomainError: If there is no field.
    """

    encoding: Encoding
    fields: int
    modulus: int

    def __post_init__(self) -> None:
        if self.fields < 1:
            raise DomainError(f"a residue has at least one field, not {self.fields}")
        if not 2 * self._offset < self.modulus < 1 << 62:
            raise CapacityError(
                f"{self.fields} fields of {self.width} bits sum to {2 * self._offset}, and t is "
                f"{self.modulus}: pack fewer fields or lower value_bits or the cohort"
            )

    @property
    def width(self) -> int:
        """Bits of a field: sums of all clients and the noise do not leave it."""
        return self.encoding.least_width

    @property
    def _offset(self) -> int:
        """S in every field."""
        return sum(self.encoding.largest_sum << self.width * index for index in range(self.fields))

    def slots(self, length: int) -> int:
        """Residues that `length` integers take."""
        return -(-length // self.fields)

    def pack(self, values: NDArray[np.int64]) -> Residues:
        """Residues of one client's integers, noise included.

        Field j of residue i is value i + j * slots: neighbours stay neighbours, and the fields of a residue
        lie far apart. Fields beyond the last value are zero.

        Args:
            values: int64, shape (d,).

        Returns:
            uint64, shape (slots(d),), below t.

        Raises:
            DomainError: If a magnitude exceeds S, which no summand does.
        """
        limit = self.encoding.largest_sum
        if values.size and not -limit <= int(values.min()) <= int(values.max()) <= limit:
            raise DomainError(f"an integer exceeds {limit}, the bound of a whole sum")
        slots = self.slots(len(values))
        total = np.zeros(slots, np.int64)
        for index in range(self.fields):
            part = values[index * slots : (index + 1) * slots]
            total[: len(part)] += part << np.int64(self.width * index)
        return np.where(total < 0, total + self.modulus, total).astype(np.uint64)

    def unpack(self, residues: Residues, length: int) -> NDArray[np.int64]:
        """The signed sums, int64, shape (length,).

        Raises:
            CapacityError: If a field is none of a sum: masks are left in it, or a summand was not what it
                declared.
            DomainError: If there are not as many residues as `length` integers take.
        """
        if len(residues) != self.slots(length):
            raise DomainError(f"{length} integers take {self.slots(length)} residues, not {len(residues)}")
        shifted = (residues + np.uint64(self._offset)) % np.uint64(self.modulus)
        values = np.zeros((self.fields, len(residues)), np.int64)
        for index in range(self.fields):
            values[index] = shifted & np.uint64((1 << self.width) - 1)
            shifted >>= np.uint64(self.width)
        if shifted.any() or (values > 2 * self.encoding.largest_sum).any():
            raise CapacityError(f"a field of a sum exceeds {self.encoding.largest_sum}")
        return values.reshape(-1)[:length] - self.encoding.largest_sum
