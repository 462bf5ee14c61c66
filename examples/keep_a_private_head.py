"""A client that keeps its private head between runs: sealed on its own disk, and nowhere else.

Run: python examples/keep_a_private_head.py
"""

import copy
import tempfile
from pathlib import Path

from personalization import DigitsSettings, PrivateState, PrivateStateError, accuracy, digits, ffgg, fit_head
from protocols.learning import vault

settings = DigitsSettings()
client = digits(clients=3, seed=0).clients[0]
shared = settings.initial(seed=0)

result = ffgg(shared, PrivateState(), client.train, settings=settings.ffgg, seed=1)
head = fit_head(shared, result.private, client.train, settings=settings.ffgg)
print(f"what may be sent: an update of {result.update.size} numbers; what may not: {head!r}")

try:
    copy.deepcopy(head)
except PrivateStateError as error:
    print(f"copying it: {error}")

with tempfile.TemporaryDirectory() as folder:
    key_file, file = Path(folder) / "client.key", Path(folder) / "client.vault"
    vault.create_key(key_file)
    vault.save(file, head, key=vault.load_key(key_file), owner="client-0")
    again = vault.load(file, key=vault.load_key(key_file), owner="client-0")

images, labels = client.heldout.images, client.heldout.labels
before, after = (accuracy(shared, h, images, labels, body=settings.body) for h in (head, again))
print(f"held-out accuracy {before:.0%} before sealing and {after:.0%} after")
