"""A client's part of a round under encryption: the custodian's key, and the whole round under CKKS (SPEC 4).

No clock, no randomness of its own, no I/O: encryption draws inside its library.
"""

from dataclasses import dataclass

from protocols.config import RoundConfig
from protocols.context import RoundContext
from protocols.encryption import Encryption, key_message, load_key
from protocols.errors import Code, PolicyRefusedError
from protocols.messages import Encrypted, EncryptedOpen
from protocols.pairwise.client import Done
from protocols.pairwise.place import Place, require_vector
from protocols.policy import ClientPolicy
from protocols.wire import check_key_signature
from secagg.errors import SignatureError
from secagg.ring import Words


def accept_key(
    message: EncryptedOpen, *, config: RoundConfig, context: RoundContext, policy: ClientPolicy
) -> Encryption:
    """The round's key, if the custodian that this client pins made it for this round, cohort and model.

    Args:
        message: What opens the round.
        config: The round's, with encryption.
        context: Without the key's digest.
        policy: The client's own.

    Raises:
        FaultyServerError: If it is no public key of the config's parameters.
        PolicyRefusedError: If another made it, or its flooding is too little.
    """
    key = key_message(message.key, message.flooding, config=config)
    try:
        check_key_signature(context, key, message.signature, policy.custodian)
    except SignatureError as error:
        raise PolicyRefusedError(
            Code.CUSTODIAN_SIGNATURE,
            "the round's key is not signed by this client's custodian for this round, cohort and model",
            phase="key",
        ) from error
    if config.protection == "ckks" and message.flooding < policy.minimum_flooding:
        raise PolicyRefusedError(
            Code.FLOODING_POLICY,
            f"{message.flooding} bits of flooding are below this client's {policy.minimum_flooding}",
            phase="key",
        )
    return load_key(key, config=config)


@dataclass(frozen=True, slots=True)
class AwaitPlain:
    """Under CKKS alone: the client's own vector is awaited, and nothing after it."""

    place: Place
    context: RoundContext
    encryption: Encryption

    def submit(self, vector: Words) -> tuple[Done, Encrypted]:
        """Phase masked: the vector, encrypted. Whoever holds the key can read it.

        Raises:
            InputError: If it is not what `prepare` makes, or exceeds its bound.
        """
        require_vector(vector, self.place.config)
        return Done(self.context), Encrypted(self.encryption.encrypt_plain(vector))
