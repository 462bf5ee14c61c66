"""A client's policy against an oracle written from its definition, in exact arithmetic."""

import random
from fractions import Fraction

import numpy as np
import pytest

from personalization import Manifest
from protocols import ClientPolicy, ConfigError, PolicyRefusedError, RoundConfig, SkellamNoise, simulate
from protocols.audit.table import signing_key
from protocols.context import ClientId

KEYS = {"authority": signing_key("authority").public, "operator": signing_key("operator").public}


def accepts(
    config: RoundConfig,
    *,
    fraction: Fraction,
    floor: int,
    servers: set[str],
    noise: float,
) -> bool:
    """Whether the client's own numbers make the round safe, whatever the config claims."""
    n, t, m = config.clients, config.threshold, config.minimum_survivors
    c = max(1, -(-fraction.numerator * n // fraction.denominator))
    safe = 2 * t > n + c if config.server == "active" else t > c
    claimed = config.noise.multiplier if config.noise else 0.0
    return (
        config.server in servers
        and config.corrupt >= c
        and safe
        and m >= floor
        and m - c >= 2
        and claimed >= noise
    )


def random_config(draw: random.Random) -> RoundConfig | None:
    n = draw.randint(3, 60)
    c = draw.randint(1, n - 2)
    server = draw.choice(["active", "semi-honest"])
    least = (n + c) // 2 + 1 if server == "active" else c + 1
    t = draw.randint(least, min(n, least + 3))
    m = draw.randint(t, n)
    noise = SkellamNoise(multiplier=draw.choice([0.5, 1.0])) if draw.random() < 0.05 else None
    try:
        return RoundConfig(
            clients=n,
            length=1,
            clip=1.0,
            threshold=t,
            corrupt=c,
            minimum_survivors=m,
            server=server,
            noise=noise,
        )
    except ConfigError:
        return None


def test_ten_thousand_configs_against_the_oracle() -> None:
    draw, verdicts = random.Random(20170), []
    while len(verdicts) < 10_000:
        config = random_config(draw)
        if config is None:
            continue
        numerator = draw.randint(0, 12)
        terms = {
            "fraction": Fraction(numerator, draw.randint(max(1, numerator), 12)),
            "floor": draw.choice([3, 3, 5, 20]),
            "servers": draw.choice([{"active"}, {"active", "semi-honest"}]),
            "noise": draw.choice([0.0, 0.0, 0.0, 0.7]),
        }
        policy = ClientPolicy(
            **KEYS,
            corrupt_fraction=float(terms["fraction"]),
            minimum_survivors=terms["floor"],
            servers=frozenset(terms["servers"]),
            minimum_noise_multiplier=terms["noise"],
        )
        try:
            policy.check(config)
            verdict = True
        except PolicyRefusedError:
            verdict = False
        assert verdict == accepts(config, **terms), (config, terms)
        verdicts.append(verdict)
    assert 1000 < sum(verdicts) < 9000  # both answers are well represented


def test_the_default_policy_wants_a_third_and_an_active_server() -> None:
    policy = ClientPolicy(**KEYS)
    policy.check(RoundConfig(clients=9, length=1, clip=1.0))
    refused = {
        "threshold-policy-violation": {"corrupt": 2},
        "server-model-refused": {"server": "semi-honest", "threshold": 7},
    }
    for code, weaker in refused.items():
        with pytest.raises(PolicyRefusedError) as caught:
            policy.check(RoundConfig(clients=9, length=1, clip=1.0, **weaker))
        assert caught.value.code == code


STRICTER = [
    (ClientPolicy(**KEYS, corrupt_fraction=0.5), "threshold-policy-violation"),
    (ClientPolicy(**KEYS, minimum_survivors=8), "threshold-policy-violation"),
    (ClientPolicy(**KEYS, minimum_noise_multiplier=0.1), "noise-policy-violation"),
    (ClientPolicy(**KEYS, servers=frozenset({"semi-honest"})), "server-model-refused"),
    (ClientPolicy(**KEYS, schemas=frozenset({"0" * 64})), "schema-refused"),
]


@pytest.mark.parametrize(("policy", "code"), STRICTER)
def test_simulated_clients_refuse_what_their_policy_refuses(policy: ClientPolicy, code: str) -> None:
    config = RoundConfig(clients=9, length=2, clip=1.0)
    updates = {i: np.full(2, 0.1) for i in range(9)}
    simulate(config, updates, policy=ClientPolicy(**KEYS), seed=1)
    with pytest.raises(PolicyRefusedError) as caught:
        simulate(config, updates, policy=policy, seed=1)
    assert caught.value.code == code


def test_vectors_of_one_length_and_two_meanings_are_not_summed() -> None:
    """The same tensors in another order are as many numbers."""
    one = Manifest(names=("weight", "bias"), shapes=((2,), (2,)))
    other = Manifest(names=("bias", "weight"), shapes=((2,), (2,)))
    mine = ClientPolicy(**KEYS, schemas=frozenset({one.digest().hex(), ""}))
    for schema in (one.digest().hex(), ""):
        mine.check(RoundConfig(clients=9, length=one.length, clip=1.0, schema=schema))
    with pytest.raises(PolicyRefusedError) as caught:
        mine.check(RoundConfig(clients=9, length=one.length, clip=1.0, schema=other.digest().hex()))
    assert caught.value.code == "schema-refused"


def test_simulate_derives_a_policy_from_any_valid_config() -> None:
    for n in (3, 4, 7, 10):
        for c in range(1, n - 1):
            config = RoundConfig(clients=n, length=1, clip=1.0, corrupt=c, minimum_survivors=n)
            assert simulate(config, {i: np.zeros(1) for i in range(n)}, seed=1).exact


@pytest.mark.parametrize("name", ["minimum_survivors", "minimum_serial", "maximum_rounds"])
@pytest.mark.parametrize("value", [np.int64(5), 5.0, -1, True], ids=repr)
def test_a_policy_counts_in_plain_integers(name: str, value: object) -> None:
    """A saved state is bound to its policy by canonical bytes, which other numbers do not have."""
    with pytest.raises(ConfigError, match=f"{name} is an integer"):
        ClientPolicy(**KEYS, **{name: value})


def ids(*numbers: int) -> tuple[ClientId, ...]:
    return tuple(ClientId(v) for v in numbers)


ALL = ids(*range(8))


@pytest.mark.parametrize("survivors", [ALL, ids(0, 1, 2, 3, 4)], ids=["the same", "three fewer"])
def test_survivors_are_those_of_an_earlier_round_or_far_from_them(survivors: tuple[ClientId, ...]) -> None:
    policy = ClientPolicy(authority=b"", operator=b"", minimum_difference=3)
    policy.check_survivors([ALL], survivors)
    policy.check_survivors([], survivors)


@pytest.mark.parametrize(
    ("earlier", "survivors"),
    [([ALL], ALL[:-1]), ([ALL], ALL[:-2]), ([ALL[:-2]], ALL), ([ids(), ALL, ALL[:-1]], ALL)],
    ids=["one fewer", "two fewer", "two more", "not the last alone"],
)
def test_survivors_too_close_to_those_of_an_earlier_round_are_refused(
    earlier: list[tuple[ClientId, ...]], survivors: tuple[ClientId, ...]
) -> None:
    with pytest.raises(PolicyRefusedError) as caught:
        ClientPolicy(authority=b"", operator=b"", minimum_difference=3).check_survivors(earlier, survivors)
    assert caught.value.code == "survivor-sets-too-close"
    ClientPolicy(authority=b"", operator=b"").check_survivors(earlier, survivors)
