"""How many bytes a client sends in a round, counted on encoded messages. Nothing is sent here."""

from secagg.encrypted.containers import size_bounds
from secagg.keys import SigningKey
from secagg.secret import SecretBytes

from . import wire
from .config import RoundConfig
from .context import ClientId, RoundContext
from .messages import Answer, Body, Certificates, Consistency, Encrypted, Masked, Shares
from .noise import seeds_bytes


def upload(config: RoundConfig) -> dict[str, int]:
    """Bytes of each message of a client in a full cohort from which nobody vanishes, and their sum.

    Messages of zeros are encoded and signed, from the last of clients 0 to n - 1 in round 1; a larger id
    or a later round adds a few bytes to each envelope. Ciphertexts have the most bytes they may have.
    On a sparse graph the sum is that of a client that is
    no witness; what a witness sends besides stands apart as "certificates".
    """
    sparse = config.degree is not None
    holders = config.clients if config.degree is None else config.degree + 1
    told = config.committee(seated=config.clients).size if sparse else config.clients - 1
    digest = bytes(32)
    if config.cipher is None:
        vector: Body = Masked(bytes(config.ring.packed_bytes(config.words)))
    else:
        _, most = size_bounds(config.cipher.parameters)
        vector = Encrypted((bytes(most),) * config.cipher.chunks)
    bodies: tuple[Body, ...] = (
        Shares(
            digest,
            (bytes(80),) * (holders - 1),
            (digest,) * holders,
            (digest,) * holders,
            bytes(32 * (holders - 1) + 16),
            bytes(16 * (holders - 1)),
        ),
        vector,
        Consistency(digest, bytes(16 * told)),
        Answer((digest,) * holders, bytes(seeds_bytes(config, survivors=config.clients))),
    )
    if config.protection == "ckks":
        bodies = (vector,)  # nothing is shared and nothing unmasked
    sizes = {wire.kind_of(body): _size(config, body) for body in bodies}
    certifies = sparse and config.protection != "ckks"
    extra = {"certificates": Certificates(bytes(16 * (config.clients - 1)))} if certifies else {}
    return {
        **sizes,
        "upload": sum(sizes.values()),
        **{kind: _size(config, body) for kind, body in extra.items()},
    }


def _size(config: RoundConfig, body: Body) -> int:
    context, sender = RoundContext(bytes(16), 1, config.hash), ClientId(config.clients - 1)
    return len(wire.encode_message(context, sender, body, SigningKey.from_seed(SecretBytes(bytes(32)))))
