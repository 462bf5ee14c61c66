"""What people and other runs leave in files: ledgers, transcripts, scenarios, vaults and manifests."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy
import tomli_w

from dp import FixedCohort, Ledger, SkellamRelease
from dp.errors import LedgerError
from dp.ledger import _GENESIS, _body, _digest
from personalization import Manifest, parse_manifest
from personalization.errors import VectorError
from personalization.private_state import PrivateState
from protocols.errors import ConfigError, InputError
from protocols.learning import vault
from protocols.learning.scenarios import SCENARIOS, load
from protocols.studies.running import _read
from protocols.studies.study import Measured
from protocols.transcript import chain_head
from secagg.sealing import seal
from secagg.secret import SecretBytes
from tests.fuzz.messages import sites
from tests.fuzz.states import scratch, small_database
from tests.fuzz.target import JSON, TOML, Target

KEY = SecretBytes(bytes(range(32)))
OWNER = "client 7"
RELEASE = SkellamRelease(
    purpose="training",
    l2_sensitivity=100,
    local_variance=2500.0,
    minimum_survivors=4,
    colluders=1,
    length=10,
    sampling=FixedCohort(),
)
CLIENTS = (1, 2, 3, 5, 8)


# The ledger


def _ledger(data: bytes) -> None:
    with Ledger.open(scratch("ledger", data)) as ledger:
        ledger.releases()


@cache
def _memory() -> Ledger:
    return Ledger.open(":memory:")


def _entry(data: bytes) -> None:
    """A row whose digest is right: whoever can write the file can make it."""
    ledger, body = _memory(), data.decode(errors="replace")
    ledger._connection.execute("BEGIN")
    try:
        row = (1, "session", 1, body, _digest(_GENESIS, body))
        ledger._connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", row)
        ledger.releases()
    finally:
        ledger._connection.execute("ROLLBACK")


def _spent(path: Path) -> None:
    with Ledger.open(path) as ledger:
        for round_number in (1, 2):
            ledger.spend(RELEASE, session="session", round=round_number, clients=CLIENTS)


def _row(clients: tuple[int, ...] | None) -> bytes:
    return _body(RELEASE, "session", 1, clients).encode()


# Transcripts, scenarios, manifests


def _transcript(data: bytes) -> None:
    chain_head(data.decode(errors="surrogateescape").splitlines(keepends=True))


def _scenario(data: bytes) -> None:
    load(str(scratch("scenario.toml", data)))


def _override(data: bytes) -> None:
    """As the command line hands over what is no UTF-8."""
    load("digits", [data.decode(errors="surrogateescape")])


def _run_of_a_study(data: bytes) -> None:
    _read(scratch("run.json", data))


MEASURED = msgspec.json.encode(Measured({"error": 0.5}, {"error": [1.0, 0.5]}))


def _manifest(data: bytes) -> None:
    assert parse_manifest(data).canonical() == data


MANIFESTS = (
    Manifest(names=("body.weight", "body.bias"), shapes=((3, 4), (3,)), dtype="float32"),
    Manifest(names=("é\ud800",), shapes=((),)),
)

# The vault


def _vault(data: bytes) -> None:
    vault.load(scratch("vault", data), key=KEY, owner=OWNER)


def _sealed(content: bytes) -> bytes:
    salt = bytes(32)
    return vault._MAGIC + salt + seal(vault._file_key(KEY, salt, OWNER), content, context=vault._MAGIC)


def _header(data: bytes) -> None:
    """The names, types and shapes of the arrays, before bytes enough for the honest ones."""
    _vault(_sealed(len(data).to_bytes(8, "little") + data + bytes(64)))


def _key(data: bytes) -> None:
    assert vault.load_key(scratch("key", data)).reveal() == data


def _content() -> bytes:
    state = PrivateState({"head": np.arange(6.0).reshape(2, 3), "folds": np.array([1, 2], np.int64)})
    return safetensors.numpy.save(state.arrays())


def _of_vaults() -> list[Target]:
    content = _content()
    return [
        Target(name="vault", run=_vault, errors=(InputError,), seeds=(_sealed(content),), limit=1 << 20),
        Target(
            name="vault's content",
            run=lambda data: _vault(_sealed(data)),
            errors=(InputError,),
            seeds=(content,),
            limit=1 << 20,
            memory=5,
        ),
        Target(
            name="header in a vault",
            run=_header,
            errors=(InputError,),
            seeds=(content[8 : 8 + int.from_bytes(content[:8], "little")],),
            memory=5,
            form=JSON,
        ),
        Target(name="vault's key", run=_key, errors=(InputError,), seeds=(bytes(32),)),
    ]


def targets() -> list[Target]:
    """All of them."""
    settings = asdict(SCENARIOS["digits-1000"]) | {"versions": {"numpy": "2"}, "planned": {"threshold": 3}}
    overrides = (b"clients=20", b"epsilon = 4.5", b"noise=false", b"solver=warm", b"seed=0x7f")
    lines = "\n".join(list(sites()[0].transcript.lines())[:4]).encode()
    return [
        Target(
            name="ledger",
            run=_ledger,
            errors=(LedgerError,),
            seeds=(small_database(_spent),),
        ),
        Target(
            name="ledger entry",
            run=_entry,
            errors=(LedgerError,),
            seeds=(_row(CLIENTS), _row(None)),
            memory=20,
            form=JSON,
        ),
        Target(
            name="transcript", run=_transcript, errors=(ValueError,), seeds=(lines,), limit=1 << 20, memory=20
        ),
        Target(
            name="scenario",
            run=_scenario,
            errors=(ConfigError,),
            seeds=(tomli_w.dumps(settings).encode(), b"clients = 20\n[planned]\n"),
            limit=(1 << 14) + 1,
            memory=20,
            form=TOML,
        ),
        Target(name="override", run=_override, errors=(ConfigError,), seeds=overrides, memory=20),
        Target(
            name="run of a study",
            run=_run_of_a_study,
            errors=(ConfigError,),
            seeds=(MEASURED,),
            memory=20,
            form=JSON,
        ),
        Target(
            name="manifest",
            run=_manifest,
            errors=(VectorError,),
            seeds=tuple(manifest.canonical() for manifest in MANIFESTS),
            form=JSON,
        ),
        *_of_vaults(),
    ]
