"""No module reads bytes from outside without standing in the table."""

import ast

from tests.fuzz.targets import table
from tests.protocols.test_source import PACKAGES, ROOT, names, sources

READERS = {
    "json.loads",
    "msgspec.convert",
    "msgspec.json.decode",
    "msgspec.msgpack.Decoder",
    "msgspec.msgpack.decode",
    "numpy.frombuffer",
    "safetensors.numpy.load",
    "sqlite3.connect",
    "tomllib.loads",
}
# By module, what tries it.
TRIED_BY = {
    "dp/ledger.py": ("ledger", "ledger entry"),
    "personalization/vector.py": ("manifest",),
    "protocols/codec.py": ("parts of a state of a client", "parts of a state of a server"),
    "protocols/config.py": ("config", "task"),
    "protocols/durable.py": ("parts of a state of a client", "parts of a state of a server"),
    "protocols/enrolment.py": ("enrolment list",),
    "protocols/learning/reading.py": ("scenario", "override"),
    "protocols/learning/vault.py": ("vault", "vault's content", "header in a vault"),
    "protocols/saved.py": ("saved state of a client", "saved state of a server"),
    "protocols/store.py": ("state store",),
    "protocols/studies/running.py": ("run of a study",),
    "protocols/transcript.py": ("transcript",),
    "protocols/wire.py": ("envelope", "session of a client", "session of the server"),
    "protocols/workers.py": ("replies of a worker",),
    "secagg/encrypted/containers.py": ("ciphertext", "compressed ciphertext"),
    "secagg/ring.py": ("packed vector",),
    "secagg/shamir.py": ("shares",),
}
FROM_INSIDE = {
    "dp/rotation.py": "a hash of the seed",
    "protocols/app/cli.py": "TOML that it wrote itself",
    "protocols/audit/catalogue.py": "what its own child printed",
    "protocols/learning/arm.py": "the model of its own server",
    "protocols/learning/federated.py": "the model of its own server",
    "protocols/worker.py": "orders of the simulation that started it",
    "secagg/encrypted/gaussian.py": "keystream",
    "secagg/prg.py": "keystream",
}


def test_every_module_that_reads_bytes_is_tried_or_reads_its_own() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in sources(PACKAGES)
        if "attacks" not in path.parts  # an adversary reads what it likes
        and READERS & set(names(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == TRIED_BY.keys() | FROM_INSIDE.keys()


def test_what_tries_a_module_is_in_the_table() -> None:
    assert {name for tried in TRIED_BY.values() for name in tried} <= table().keys()
