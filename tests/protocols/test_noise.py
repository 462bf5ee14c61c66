"""A client's noise and its surplus: drawn in parts, revealed once, subtracted, and what stays is measured."""

import numpy as np
import pytest

from protocols.config import RoundConfig, SkellamNoise
from protocols.context import ClientId
from protocols.errors import ConfigError, InputError, ThresholdError
from protocols.noise import (
    draw_noise,
    noise_variance,
    seeds_bytes,
    surplus_key,
    surplus_seeds,
    without_surplus,
)
from protocols.outputs import Finished, NeedInput
from protocols.pairwise.client import Bound
from protocols.pipeline import prepare
from protocols.plan import release_of
from protocols.simulation import Federation, simulate


def config(*, remove: bool = True, **more: object) -> RoundConfig:
    """Twelve clients of which nine are enough and four may collude."""
    noise = SkellamNoise(multiplier=1.0, remove_surplus=remove)
    fields = {"clients": 12, "length": 30_000, "clip": 1.0, "value_bits": 12, "noise": noise}
    return RoundConfig(**{**fields, **more})  # type: ignore[arg-type]


def opened(drop: dict, *, seed: int = 1) -> tuple[float, float, int]:
    """Measured variance of the released noise and the stated one, over the claim S; how many survived."""
    zeros = {v: np.zeros(30_000) for v in range(12)}
    result = simulate(config(), zeros, drop=drop, seed=seed)
    assert result.exact
    claim = config().layout.l2_bound ** 2
    return (
        float(np.mean(result.total.astype(float) ** 2)) / claim,
        result.noise_variance / claim,
        len(result.survivors),
    )


# Of 30,000 squares the mean errs by 0.8 %.
TOLERANCE = 0.03


@pytest.mark.parametrize("survivors", [9, 10, 11, 12])
def test_realised_noise_is_that_of_the_survivors_and_never_below_the_claim(survivors: int) -> None:
    measured, stated, count = opened(dict.fromkeys(range(survivors, 12), "masked"))
    assert count == survivors
    ideal = survivors / (survivors - 4)
    assert ideal <= stated <= 1.01 * ideal
    assert measured == pytest.approx(stated, rel=TOLERANCE)
    honest = measured * (survivors - 4) / survivors
    assert honest >= 1 - TOLERANCE


def test_who_falls_silent_after_its_vector_keeps_its_surplus_in() -> None:
    measured, stated, count = opened({0: "unmask", 1: "consistency"})
    assert count == 12
    everybody = 12 / 8
    shares = 12 / 5
    assert stated == pytest.approx(everybody * 10 / 12 + shares * 2 / 12, rel=0.01)
    assert measured == pytest.approx(stated, rel=TOLERANCE)


def test_fewer_than_are_enforced_open_nothing() -> None:
    with pytest.raises(ThresholdError):
        opened(dict.fromkeys(range(8, 12), "masked"))


def test_what_is_subtracted_is_exactly_what_the_revealed_parts_drew() -> None:
    """The sum of what survivors submitted, less the drawn parts: zeros and the rest of the noise."""
    c = config(length=50)
    seeds = {ClientId(v): bytes([v]) * 32 for v in range(12)}
    total = np.sum([draw_noise(seed, config=c) for seed in seeds.values()], axis=0)
    surplus = c.surplus
    assert surplus is not None
    revealed = {
        v: surplus_seeds(surplus_key(seed, config=c), surplus=surplus, survivors=12).reveal()
        for v, seed in seeds.items()
    }
    finished = Finished(1, total, tuple(seeds), tuple(seeds), revealed)
    rest = without_surplus(finished, config=c)
    # All parts are surplus where all survive: the base of each share is left, and only that.
    none = Finished(1, np.zeros(50, np.int64), tuple(seeds), tuple(seeds), revealed)
    assert np.array_equal(rest, total + without_surplus(none, config=c))
    assert noise_variance(finished, config=c) == pytest.approx(12 * surplus.variances[0])
    bases = np.mean(rest.astype(float) ** 2)
    assert bases == pytest.approx(12 * surplus.variances[0], rel=0.8)
    assert bases < np.mean(total.astype(float) ** 2)


def test_parts_are_independent_of_one_another_and_of_the_base() -> None:
    c = config()
    key = surplus_key(7, config=c)
    surplus = c.surplus
    assert surplus is not None
    seeds = surplus_seeds(key, surplus=surplus, survivors=12).reveal()
    assert len(seeds) == seeds_bytes(c, survivors=12) == 32 * surplus.binary_parts
    parts = {seeds[i : i + 32] for i in range(0, len(seeds), 32)}
    assert len(parts) == surplus.binary_parts
    whole = draw_noise(7, config=c)
    one = Finished(1, np.zeros(c.words, np.int64), tuple(map(ClientId, range(12))), (), {ClientId(0): seeds})
    drawn = -without_surplus(one, config=c)
    assert abs(np.corrcoef(whole - drawn, drawn)[0, 1]) < 6 / np.sqrt(c.words)


def test_a_round_that_removes_surplus_takes_no_vector_without_its_seed() -> None:
    c = config(length=20)
    federation = Federation(c, seed=3)
    taken: list[str] = []

    def contribute(client: ClientId, need: object) -> np.ndarray:
        session = federation.clients[client]
        vector = prepare(np.zeros(20), config=c, seed=federation.noise_seed(client, 1))
        with pytest.raises(InputError, match="noise_seed"):
            session.submit(vector, 0.0, round=1)
        taken.append("refused")
        return vector

    assert federation.round(contribute).exact
    assert len(taken) == 12


def test_a_noise_seed_is_taken_once_in_a_session_also_where_its_round_opened_nothing() -> None:
    """Two answers of one seed may remove different parts: what both leave is less than either promises."""
    c = config(length=20)
    federation = Federation(c, seed=3)
    refused: list[int] = []

    def contribute(client: ClientId, need: NeedInput) -> np.ndarray:
        vector = prepare(np.zeros(20), config=c, seed=federation.noise_seed(client, need.round))
        if need.round == 2 and client < 8:
            with pytest.raises(InputError, match="earlier round"):
                federation.clients[client].submit(
                    vector, 0.0, round=2, noise_seed=federation.noise_seed(client, 1)
                )
            refused.append(client)
        return vector

    with pytest.raises(ThresholdError):
        federation.round(contribute, drop=dict.fromkeys(range(8, 12), "masked"))
    assert federation.round(contribute).exact
    assert refused


def test_from_the_survivors_on_a_client_holds_the_seeds_of_their_surplus_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    c = config(length=20)
    surplus, answer, held = c.surplus, Bound._answer, list[int]()
    assert surplus is not None

    def noting(self: Bound) -> object:
        assert self.revealed is not None
        held.append(len(self.revealed))
        return answer(self)

    monkeypatch.setattr(Bound, "_answer", noting)
    simulate(c, {v: np.zeros(20) for v in range(12)}, drop={3: "masked"}, seed=1)
    assert set(held) == {seeds_bytes(c, survivors=11)}
    assert held[0] < 32 * surplus.binary_parts


def test_no_client_shows_a_seed_where_nothing_is_removed() -> None:
    c = config(remove=False)
    assert c.surplus is None
    assert seeds_bytes(c, survivors=12) == 0
    total = np.arange(c.words)
    assert without_surplus(Finished(1, total, (), ()), config=c) is total


def test_the_config_says_it_once_and_comes_back() -> None:
    with_removal, without = config(), config(remove=False)
    assert RoundConfig.from_bytes(with_removal.to_bytes()) == with_removal
    assert with_removal.hash != without.hash
    assert b"remove_surplus" not in without.to_bytes()
    assert with_removal.ring == without.ring
    assert release_of(with_removal, "training").surplus == with_removal.surplus
    forged = with_removal.to_bytes().replace(b"remove_surplus\xc3", b"remove_surplus\xc2")
    with pytest.raises(ConfigError, match="not canonical"):
        RoundConfig.from_bytes(forged)


def test_shares_too_small_to_split_and_other_kinds_of_yes_are_refused() -> None:
    with pytest.raises(ConfigError, match="too small to be split"):
        config(value_bits=2)
    with pytest.raises(ConfigError, match="true or false"):
        SkellamNoise(multiplier=1.0, remove_surplus=1)  # type: ignore[arg-type]


def test_workers_reveal_what_clients_in_one_process_reveal() -> None:
    c = config(length=40)

    def run(processes: int) -> np.ndarray:
        with Federation(c, seed=9, processes=processes) as federation:
            result = federation.round(
                lambda client, need: prepare(
                    np.zeros(40), config=c, seed=federation.noise_seed(client, need.round)
                ),
                drop={3: "unmask", 5: "masked"},
            )
        assert result.noise_variance < 11 * c.local_variance
        return result.total

    assert np.array_equal(run(1), run(2))
