"""What a client refuses before it joins: invitations it cannot read, lists and tasks it does not accept."""

from collections.abc import Mapping

import msgspec

from protocols.config import SkellamNoise
from secagg.kdf import Label, digest
from secagg.keys import SigningKey
from tests.vectors.client_faults import ME, Faults, honest, message, told
from tests.vectors.faults import body, envelope, fault, fields_of, flip
from tests.vectors.play import Play, identity, seed, sign_configs, sign_list
from tests.vectors.sessions import ACCEPTING, FIVE, FOUR, begin, small

NAME = "invitation"


def invitation(**changes: object) -> bytes:
    """An invitation with other parts, under the session hash that follows from them."""
    parts = {**fields_of(message(NAME)), **changes}
    session = digest(Label.SESSION, parts["operator_signature"], *parts["configs"], parts["enrolment"])
    return envelope(body(message(NAME), **changes), config_hash=session)


def envelope_faults() -> Faults:
    whole = message(NAME)

    def altered(field: str, about: str, **changes: object) -> dict:
        return told(NAME, envelope(whole, **changes), f"envelope.{field}", about)

    longer = whole.replace(b"\x00\xc4\x20", b"\xcc\x00\xc4\x20", 1)
    return {
        "envelope-version": altered("version", "A later version.", version="pairwise-2"),
        "envelope-suite": altered("suite", "Another suite.", suite="x25519-ed25519-aes128-sha256"),
        "envelope-kind": altered("kind", "A kind that does not exist.", kind="invite"),
        "envelope-integer": told(NAME, longer, "envelope.round", "The round is not in its shortest form."),
        "envelope-trailing": told(NAME, whole + b"\x00", "envelope end", "A byte follows the message."),
        "envelope-fields": told(NAME, b"\x9a" + whole[1:] + b"\xc0", "envelope fields", "A tenth field."),
        "invitation-round": altered("round", "The invitation names a round.", round=1),
        "invitation-hash": altered("config_hash", "The session hash is another one.", config_hash=bytes(32)),
        "invitation-no-configs": told(
            NAME, body(whole, configs=()), "invitation.configs", "A task of no configs."
        ),
    }


# The enrolment list


def listed(
    ids: tuple[int, ...] = (0, 1, 2, 3), keys: Mapping[int, bytes] | None = None, **signed: object
) -> bytes:
    """An invitation with another enrolment list."""
    known = {v: identity(v).public for v in ids} | (keys or {})
    numbers = {"serial": 1, "expires": 1_000_000, **signed}
    return invitation(enrolment=sign_list(ids, [known[v] for v in ids], **numbers).to_bytes())  # type: ignore[arg-type]


def enrolment_faults() -> Faults:
    enrolment = fields_of(message(NAME))["enrolment"]
    pretender = SigningKey.from_seed(seed("another authority"))

    def altered(field: str, about: str, data: bytes) -> dict:
        return told(NAME, data, f"enrolment.{field}", about)

    return {
        "enrolment-signature": altered(
            "signature", "A bit of the signature is altered.", invitation(enrolment=flip(enrolment, -1))
        ),
        "enrolment-authority": altered(
            "signature of another", "Another authority signed the list.", listed(authority=pretender)
        ),
        "enrolment-order": altered(
            "ids", "The authority signed ids that do not ascend.", listed((0, 1, 3, 2))
        ),
        "enrolment-one-key-twice": altered(
            "identities",
            "The authority signed one key for two clients.",
            listed(keys={3: identity(0).public}),
        ),
        "enrolment-without-me": altered("ids", "The client is not enrolled.", listed((0, 1, 3))),
        "enrolment-my-key": altered(
            "identities", "The client is enrolled with another key.", listed(keys={ME: identity(9).public})
        ),
    }


# The task


def task(*configs: bytes) -> bytes:
    """An invitation to other configs, which the operator signed."""
    return invitation(configs=configs, operator_signature=sign_configs(configs))


def config(**changes: object) -> bytes:
    """The config's encoding with other values; further keys stand last."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(FOUR.to_bytes()) | changes)


def config_faults() -> Faults:
    fields = msgspec.msgpack.decode(FOUR.to_bytes())

    def refused(field: str, about: str, *configs: bytes) -> dict:
        return told(NAME, task(*configs), field, about)

    reordered = msgspec.msgpack.encode({"length": 3, **fields})
    width = {"ring_bits": fields.pop("ring_bits")}
    with_segments = msgspec.msgpack.encode({**fields, "segments": [], **width})
    return {
        "config-ring-bits": refused(
            "config.ring_bits",
            "A ring one bit wider than follows from the config.",
            config(ring_bits=FOUR.ring.bits + 1),
        ),
        "config-threshold": refused(
            "config.threshold", "t = 2: 2t > n + c does not hold.", config(threshold=2)
        ),
        "config-minimum-survivors": refused(
            "config.minimum_survivors", "m is less than t.", config(minimum_survivors=2)
        ),
        "config-key-order": refused("config key order", "Two keys change places.", reordered),
        "config-integer-clip": refused(
            "config.clip", "The clip is an integer and not a float64.", config(clip=1)
        ),
        "config-empty-segments": refused(
            "config.segments", "No segments are written out, where the key is left out.", with_segments
        ),
        "config-modulus-too-wide": refused(
            "config.modulus_bits",
            "A limit of bits that is none: the sum needs fewer.",
            msgspec.msgpack.encode(
                {**fields, "noise": {"multiplier": 1.0}, "modulus_bits": 40, "ring_bits": 40}
            ),
        ),
        "config-modulus-and-weights": refused(
            "config.modulus_bits beside a weight",
            "A limited ring in which the weight's word could wrap.",
            msgspec.msgpack.encode(
                {
                    **fields,
                    "noise": {"multiplier": 1.0},
                    "weight_bound": 3,
                    "modulus_bits": 6,
                    "ring_bits": 6,
                }
            ),
        ),
        "config-graph": refused(
            "config.degree",
            "Two neighbours each against an active server: no bound of a sparse graph holds.",
            config(degree=2),
        ),
    }


def signature_faults() -> Faults:
    good, signature = FOUR.to_bytes(), fields_of(message(NAME))["operator_signature"]
    return {
        "task-of-two-thresholds": told(
            NAME,
            task(good, small(threshold=4).to_bytes()),
            "configs",
            "Two configs with different thresholds, which the operator signed.",
        ),
        "task-signature": told(
            NAME,
            invitation(operator_signature=flip(signature)),
            "invitation.operator_signature",
            "A bit of the operator's signature is altered.",
        ),
        "task-not-signed": told(
            NAME,
            invitation(configs=(good, config(length=4))),
            "invitation.configs",
            "A config more than the operator signed.",
        ),
    }


def policy_faults() -> Faults:
    def refused(play: Play, about: str, **policy: object) -> dict:
        (name,) = policy
        return fault(play, ME, NAME, field=f"policy.{name}", about=about, policy=policy)

    noisy = small(length=6, noise=SkellamNoise(multiplier=1.0))
    about = "The list expires at this second."
    return {
        "enrolment-expired": fault(honest(), ME, NAME, field="now", about=about, instead={"now": 1_000_000}),
        "enrolment-stale": refused(honest(), "The list is older than the policy accepts.", minimum_serial=2),
        "policy-corrupt": refused(
            honest(), "The policy counts on two corrupt of four.", corrupt_fraction="1/2"
        ),
        "policy-survivors": refused(
            honest(), "The policy opens nothing for fewer than four.", minimum_survivors=4
        ),
        "policy-server": refused(
            begin("semi-honest task", FIVE, policy=ACCEPTING),
            "The policy accepts no semi-honest server.",
            servers=["active"],
        ),
        "policy-schema": refused(
            begin("task of a schema", small(schema="01" * 32)),
            "The policy knows another schema.",
            schemas=["02" * 32],
        ),
        "policy-noise": refused(
            begin("task with noise", noisy), "The policy asks for more noise.", minimum_noise_multiplier=1.5
        ),
    }


def task_faults() -> Faults:
    """By file name."""
    return envelope_faults() | enrolment_faults() | config_faults() | signature_faults() | policy_faults()
