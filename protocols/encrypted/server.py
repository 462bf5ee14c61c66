"""The server's part of a round under encryption: the key, and the whole collection under CKKS (SPEC 5).

What it learns of a sum is what the custodian's owner makes of it. The rest of a masked round is `pairwise`.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from protocols.cohort import Ids
from protocols.context import CUSTODIAN, ClientId, RoundContext
from protocols.encryption import Ciphertexts, load_key, require_encryption
from protocols.enrolment import Enrolment
from protocols.errors import Code, ConfigError, ThresholdError
from protocols.messages import Body, Encrypted, EncryptedOpen, EncryptionKey
from protocols.outputs import Opening, Persist
from protocols.pairwise import server as machine
from protocols.pairwise.server import Done
from protocols.pairwise.unmasking import Deliver, Round, ServerOutput
from protocols.protection import least_decrypted
from protocols.task import Task


def require_custodian(task: Task, custodian: bytes, enrolment: Enrolment) -> None:
    """Refuse a task that cannot run here, before any work.

    Raises:
        ConfigError: If rounds are under encryption and the custodian's key or the library is missing, or a
            client is enrolled in the custodian's place; if there is a custodian and nothing that it opens.
    """
    if all(config.cipher is None for config in task.configs):
        if custodian:
            raise ConfigError("a task under masks alone has no custodian: leave `custodian` out")
        return
    if not isinstance(custodian, bytes) or len(custodian) != 32:
        raise ConfigError("a task under encryption needs its custodian's public key of 32 bytes: `custodian`")
    if CUSTODIAN in enrolment.ids:
        raise ConfigError(f"id {CUSTODIAN} is the custodian's in a session under encryption: enrol another")
    base = task.configs[0]
    if base.minimum_survivors < (least := least_decrypted(base.clients)):
        raise ConfigError(
            f"minimum_survivors {base.minimum_survivors} of {base.clients}: no custodian opens a sum of "
            f"fewer than {least}"
        )
    require_encryption()


@dataclass(frozen=True, slots=True)
class AwaitKey:
    """The custodian is asked for the round's key; clients hear of the round when it is there."""

    phase: ClassVar[str] = "key"
    expects: ClassVar[type[Body]] = EncryptionKey
    round: Round
    context: RoundContext
    clients: Ids
    model: bytes
    waiting: set[ClientId] = field(default_factory=lambda: {CUSTODIAN})
    inbox: dict[ClientId, tuple[EncryptionKey, bytes]] = field(default_factory=dict)

    def accept(self, sender: ClientId, message: EncryptionKey, signature: bytes) -> None:
        """Keep a key and its signature, for the clients."""
        self.inbox[sender] = message, signature

    def close(self) -> tuple["machine.AwaitShares | AwaitPlain", list[ServerOutput]]:
        """Open the round to the clients.

        Raises:
            FaultyServerError: If it is no public key of the config's parameters.
            ThresholdError: If the custodian did not answer.
        """
        if not self.inbox:
            raise ThresholdError(
                Code.CUSTODIAN_SILENT,
                "the custodian sent no key in time, and no client was asked",
                phase=self.phase,
            )
        message, signature = self.inbox[CUSTODIAN]
        encryption = load_key(message, config=self.round.config)
        context = replace(self.context, key_digest=encryption.digest)
        opening = EncryptedOpen(self.model, message.key, message.flooding, signature)
        deliveries: list[ServerOutput] = [Deliver(self.clients, opening)]
        if self.round.config.protection == "ckks":
            return AwaitPlain(context, set(self.clients), Ciphertexts.empty(encryption)), deliveries
        table = replace(self.round, encryption=encryption)
        return machine.open_round(table, context, self.clients), deliveries


@dataclass(frozen=True, slots=True)
class AwaitPlain(machine.AddsCiphertexts):
    """Collects vectors under CKKS, adding each one's ciphertexts as they arrive."""

    phase: ClassVar[str] = "masked"
    expects: ClassVar[type[Body]] = Encrypted
    context: RoundContext
    waiting: set[ClientId]
    ciphertexts: Ciphertexts

    def close(self) -> tuple[Done, list[ServerOutput]]:
        """Hand the sum to the custodian, after the record of what is about to be opened.

        Raises:
            ThresholdError: If too few vectors came in.
        """
        config = self.ciphertexts.encryption.config
        survivors = machine.quorum(self.inbox, config.minimum_survivors, self.phase, self.waiting)
        opening = Opening(self.context.session, self.context.round, config, survivors)
        return Done(self.context), [
            Persist(opening),
            Deliver((CUSTODIAN,), self.ciphertexts.request()),
        ]


Collecting = machine.Collecting | machine.AwaitEncrypted | AwaitKey | AwaitPlain
