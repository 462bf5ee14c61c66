"""What sums over several sets tell together, if every client's input stays the same.

A sum over S and one over S without u differ by u's input; many sums give whatever is a linear combination of
their sets. No client sees enough sets to notice by itself; whoever keeps the record of the sums does. No
input is looked at, only who was in which sum.
"""

from collections.abc import Hashable, Iterable
from collections.abc import Set as AbstractSet
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

_PRIME: Final = (1 << 31) - 1  # products of two residues fit int64
_Member = TypeVar("_Member", bound=Hashable)


def isolated(sets: Iterable[AbstractSet[_Member]]) -> set[_Member]:
    """Members whose input alone is a linear combination of the sums over these sets.

    The unit vector of such a member lies in the row space of the participation matrix, and then it is a row
    of the reduced echelon form. Modulo a prime a set of rows may be taken for dependent that is not, which
    takes a minor divisible by 2**31 - 1.

    Args:
        sets: Who was in each sum.
    """
    rows = [set(row) for row in sets]
    everyone = list(dict.fromkeys(member for row in rows for member in row))
    matrix = np.array([[member in row for member in everyone] for row in rows], np.int64)
    if not matrix.size:
        return set()
    reduced = _reduced(matrix)
    single = np.flatnonzero(np.count_nonzero(reduced, axis=1) == 1)
    return {everyone[int(np.flatnonzero(reduced[row])[0])] for row in single}


def _reduced(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """The reduced row echelon form modulo the prime."""
    rows, place = matrix.copy(), 0
    for column in range(rows.shape[1]):
        pivots = np.flatnonzero(rows[place:, column])
        if not len(pivots):
            continue
        pivot = place + int(pivots[0])
        rows[[place, pivot]] = rows[[pivot, place]]
        rows[place] = rows[place] * pow(int(rows[place, column]), -1, _PRIME) % _PRIME
        factors = rows[:, column].copy()
        factors[place] = 0
        rows = (rows - factors[:, None] * rows[place]) % _PRIME
        place += 1
        if place == len(rows):
            break
    return rows
