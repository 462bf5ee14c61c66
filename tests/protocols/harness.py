"""What tests of sessions share beside the auditor's table."""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.cohort import Cohort
from protocols.context import ClientId
from secagg.graph import _shuffled, _words
from secagg.kdf import Label, digest
from secagg.ring import Words
from secagg.secret import SecretBytes


def ring_of(cohort: Cohort | None) -> list[ClientId]:
    """The seats in ring order."""
    assert cohort is not None
    return [ClientId(v) for v in _shuffled(tuple(cohort.seats), _words(digest(Label.GRAPH, cohort.digest)))]


def looks_uniform(words: Words, bits: int) -> bool:
    """Whether ring words could be uniform: mean of the top bits, and no word near zero too often."""
    values = words.astype(np.float64) / 2.0**bits
    spread = abs(values.mean() - 0.5) * np.sqrt(12 * len(values))
    near_zero = np.mean(np.minimum(values, 1 - values) < 1 / 64)
    return bool(spread < 5 and near_zero < 1 / 32 + 5 * np.sqrt(1 / 32 / len(values)))


def decrypted_only(key: SecretBytes, record: bytes, *, context: bytes) -> bytes:
    """AES-256-GCM without its tag: counter mode, of which the first block is the tag's."""
    counter = bytes(12) + (2).to_bytes(4, "big")
    return Cipher(algorithms.AES(key.reveal()), modes.CTR(counter)).decryptor().update(record[:-16])
