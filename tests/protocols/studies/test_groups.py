"""Groups that are summed apart: none under the minimum, merged in part or whole, slots by noised counts."""

import numpy as np
import pytest

from protocols.errors import ConfigError
from protocols.studies.groups import (
    Slots,
    counted_slots,
    fair,
    group_sums,
    merged,
    require_open,
    seated,
)

MEMBERS = {"large": tuple(range(8)), "other": tuple(range(8, 14)), "tiny": (14, 15)}


def test_a_group_under_the_minimum_is_never_opened_by_itself() -> None:
    require_open("other", MEMBERS["other"], minimum=6)
    with pytest.raises(ConfigError, match="'tiny' has 2 members"):
        require_open("tiny", MEMBERS["tiny"])
    with (
        pytest.raises(ConfigError, match="'tiny'"),
        group_sums(MEMBERS, masked=True, length=3, clip=1.0, bits=16, seed=1),
    ):
        pytest.fail("a group of two was opened")


def test_a_small_group_joins_its_neighbour_or_stays_alone() -> None:
    joined = seated(MEMBERS, neighbours={"tiny": "other"})
    assert joined.groups == {"large": MEMBERS["large"], "other": (*range(8, 14), 14, 15)}
    assert joined.alone == ()
    apart = seated(MEMBERS, neighbours={})
    assert set(apart.groups) == {"large", "other"}
    assert apart.alone == (14, 15)


@pytest.mark.parametrize("neighbour", ["tiny", "small", "nobody"])
def test_a_neighbour_that_is_not_opened_itself_is_refused(neighbour: str) -> None:
    members = {**MEMBERS, "small": (20, 21)}
    with pytest.raises(ConfigError, match="not opened itself"):
        seated(members, neighbours={"tiny": neighbour, "small": "large"})


def test_a_client_in_two_groups_is_refused() -> None:
    with pytest.raises(ConfigError, match="one group"):
        seated({"one": (1, 2), "two": (2, 3)}, neighbours={})


def test_sums_of_groups_are_masked_each_in_a_session_of_its_own_and_stay_exact() -> None:
    groups = seated(MEMBERS, neighbours={"tiny": "other"}).groups
    source, found = np.random.default_rng(3), dict[bool, dict[str, np.ndarray]]()
    updates = {client: source.normal(0.0, 0.2, 5) for client in range(16)}
    for masked in (True, False):
        with group_sums(groups, masked=masked, length=5, clip=1.0, bits=20, seed=2) as sums:
            found[masked] = {
                name: sums[name].mean({client: updates[client] for client in group}, model=np.zeros(5))
                for name, group in groups.items()
            }
            assert all(each.exact for each in sums.values())
    for name, group in groups.items():
        assert np.array_equal(found[True][name], found[False][name])
        want = np.mean([updates[client] for client in group], axis=0)
        assert np.allclose(found[True][name], want, atol=1e-4)


def test_merging_goes_from_groups_apart_to_one_model_for_all() -> None:
    models = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 4.0])}
    weights = {"a": 3.0, "b": 1.0}
    common = np.array([0.75, 1.0])
    apart = merged(models, weights=weights, share=0.0)
    assert all(np.array_equal(apart[name], models[name]) for name in models)
    one = merged(models, weights=weights, share=1.0)
    assert all(np.allclose(one[name], common) for name in models)
    half = merged(models, weights=weights, share=0.5)
    assert all(np.allclose(half[name], (models[name] + common) / 2) for name in models)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="share"):
            merged(models, weights=weights, share=share)
    with pytest.raises(ConfigError, match="positive"):
        merged(models, weights={"a": 1.0, "b": 0.0}, share=0.5)


def test_clients_count_by_what_they_lose_and_how_many_they_are_until_the_bound_holds_them() -> None:
    sizes = (30, 30, 10, 2)
    alike = np.ones(4)
    assert fair(alike, sizes, cap=1.0, power=0.0, bound=60) == (4, 4, 12, 60)
    assert fair(alike, sizes, cap=1.0, power=0.0, bound=15) == (1, 1, 3, 15)
    # Half the loss is half the weight at power 1 and a quarter at 2; nobody counts for nothing, or beyond.
    losses = np.array([1.0, 0.5, 0.0, 9.0])
    assert fair(losses, (5, 5, 5, 5), cap=1.0, power=1.0, bound=8) == (8, 4, 1, 8)
    assert fair(losses, (5, 5, 5, 5), cap=1.0, power=2.0, bound=8) == (8, 2, 1, 8)
    assert fair(np.array([np.nan, np.inf]), (5, 5), cap=1.0, power=1.0, bound=8) == (8, 8)
    for wrong in ({"cap": 0.0}, {"power": -1.0}, {"power": np.nan}, {"bound": 0}):
        with pytest.raises(ConfigError):
            fair(losses, (5, 5, 5, 5), **{"cap": 1.0, "power": 1.0, "bound": 8} | wrong)
    with pytest.raises(ConfigError):
        fair(losses, (5, 5, 5, 0), cap=1.0, power=1.0, bound=8)


def test_slots_give_each_group_its_mean_and_show_nothing_of_who_has_none() -> None:
    slots, source = Slots(("a", "b"), (2.0, 3.0)), np.random.default_rng(5)
    of = ["a", "b", "b", "a", "b", "closed"]
    updates = [source.normal(size=4) for _ in of]
    put = [slots.put(update, group) for update, group in zip(updates, of, strict=True)]
    assert not put[-1].any()
    found = slots.means(np.mean(put, axis=0), clients=len(of))
    for name in ("a", "b"):
        own = [update for update, group in zip(updates, of, strict=True) if group == name]
        assert np.allclose(found[name], np.mean(own, axis=0))


def test_only_slots_that_a_noised_count_shows_to_be_large_are_opened() -> None:
    of = {client: "large" if client < 24 else "other" for client in range(38)} | {38: "tiny", 39: "tiny"}
    for seed in range(3):
        slots = counted_slots(("large", "other", "tiny"), of, epsilon=8.0, delta=1e-3, seed=seed)
        assert slots.names == ("large", "other")
        assert np.allclose(slots.counts, (24, 14), atol=6)
        assert slots.counts != (24.0, 14.0)


def test_where_no_slot_is_surely_large_nothing_is_opened() -> None:
    of = {client: f"group {client % 4}" for client in range(12)}
    with pytest.raises(ConfigError, match="nothing is opened"):
        counted_slots(sorted(set(of.values())), of, epsilon=8.0, delta=1e-3, seed=1)
