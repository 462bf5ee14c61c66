"""The digits studies, short: masks change no bit, tasks are what they say, choices leave noised sums."""

from dataclasses import replace

import numpy as np
import pytest

from personalization import DataError
from personalization.engine import Algorithm, ClientResult
from personalization.optimisers import sgd
from personalization.private_state import PrivateState
from protocols.studies import rotations, tasks_40
from protocols.studies.course import begin, worst_tenth
from protocols.studies.schemes import RATES, gradient_scheme, head_fit
from protocols.studies.sums import PlainSums

SHORT = replace(tasks_40.STUDY.settings, rounds=2, seeds=1)


def test_masked_training_of_the_phases_is_plain_training_to_the_last_bit() -> None:
    masked = tasks_40.run("ridge", 0, SHORT)
    assert masked == tasks_40.run("ridge", 0, replace(SHORT, masked=False))
    assert masked.figures["core-first"] > 0.4


def test_tasks_share_no_training_image_and_change_at_every_phase() -> None:
    phases = tasks_40.core_tasks(0)
    assert [len(tasks) for tasks in phases] == [10] * 4
    offsets = {round(float(task.data.images.min()), 6) for tasks in phases for task in tasks}
    assert len(offsets) == 40
    # Less the offset and turned back, no image is held twice.
    images = set()
    for tasks in phases:
        for task in tasks:
            plain = np.round((task.data.images - task.data.images.min(axis=1, keepdims=True)) * 16)
            for image in plain.reshape(-1, 8, 8).astype(int):
                images.add(min(np.rot90(image, turns).tobytes() for turns in range(4)))
    assert len(images) >= 40 * 22 - 5  # a few digits are equal in the data set itself
    mixed = tasks_40.mixed_tasks(0)
    tables = [sum(len(task.test.labels) != 900 for task in tasks) for tasks in mixed]
    assert tables == [3, 3, 3, 3]


def test_a_row_of_a_table_is_learned_from_once_and_then_tested_on_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Every row is its own number in bits, which are read again above and below a client's own mean.
    numbers = np.arange(256)
    bits = (numbers[:, None] >> np.arange(8) & 1).astype(float)
    monkeypatch.setattr(tasks_40, "_TABLES", (lambda **_: (bits, numbers % 3),))
    tables = [task for tasks in tasks_40.mixed_tasks(0) for task in tasks if len(task.test.labels) != 900]
    learned, tested = (
        [(part.images[:, :8] > 0.3) @ (1 << np.arange(8)) for part in parts]
        for parts in ([task.data for task in tables], [task.test for task in tables])
    )
    once = np.concatenate(learned)
    assert len(set(once.tolist())) == len(once) == 4 * 22
    for rows in tested:
        assert sorted(rows.tolist()) == sorted(set(numbers.tolist()) - set(once.tolist()))


@pytest.mark.slow
def test_a_noticed_shift_fits_a_new_head_before_the_shared_part_moves() -> None:
    before, after = ([task.data for task in tasks] for tasks in tasks_40.core_tasks(0)[:2])
    scheme = tasks_40._scheme("fedper", 0)
    with scheme.sums(masked=False, seed=0) as sums:
        course = scheme.course(sums, clients=10, seed=0).onward(before, 12)
    watch = tasks_40._Watch(head_fit(0))
    watch.remember(course, course.personal(before), before)
    assert watch.look(course, before, new=False) is course
    moved = watch.look(course, after, new=True)
    assert watch.detected == 1.0
    assert moved.shared is course.shared
    for own, state, kept in zip(after, moved.private, course.private, strict=True):
        fitted, start, former = (watch._of(course, one, own).mean() for one in (state, PrivateState(), kept))
        assert fitted < 0.9 * min(start, former)


@pytest.mark.exhaustive
def test_a_head_that_is_fitted_anew_serves_its_task_at_once() -> None:
    settings = replace(SHORT, rounds=10)
    found, plain = (tasks_40.run(method, 0, settings) for method in ("fedper-refit", "fedper"))
    assert found.figures["core-first"] > plain.figures["core-first"] + 0.2
    assert 0.0 <= found.figures["fresh"] <= 1.0


def test_a_choice_is_made_of_what_was_held_back_and_released_as_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    released = []
    evaluate = rotations.evaluate_privately

    def watch(metrics: object, values: dict, **more: object) -> object:
        released.append((metrics, dict(values), more))
        return evaluate(metrics, values, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(rotations, "evaluate_privately", watch)
    monkeypatch.setattr(rotations, "SETTINGS", {"labels": rotations.SETTINGS["labels"]})
    settings = replace(rotations.STUDY.settings, rounds=3, seeds=1)
    found = rotations.run("choice", 0, settings)
    assert found.figures["labels"] > 0.4
    assert len(found.curves["choices-labels"]) == 5
    assert [len(values) for _, values, _ in released] == [40, 40]
    assert sum(more["epsilon"] for *_, more in released) == rotations.EPSILON
    assert all(set(own) == {"choice"} for own in released[1][1].values())


def test_the_parts_that_a_fold_holds_back_are_judged_once_each() -> None:
    federation = rotations.digits(clients=40, seed=1, task=rotations.SETTINGS["labels"])
    data = [client.everything() for client in federation.clients]
    evidence = rotations._trials(data, 1, folds=11, rounds=1, names=("personal",))
    assert all(own.keys() == {"personal", "local"} for own in evidence)
    assert all(examples == 22 for own in evidence for _, examples in own.values())
    assert all(0 <= right <= 22 for own in evidence for right, _ in own.values())


def failing(which: int) -> Algorithm:
    def step(shared: np.ndarray, private: PrivateState, data: int, seed: object) -> ClientResult:
        if data == which:
            raise DataError("unusable")
        return ClientResult(update=np.full(3, 0.25), private=PrivateState({"n": np.array([data])}))

    def personalize(*call: object) -> PrivateState:
        raise DataError("unusable")

    return Algorithm(
        name="failing",
        length=3,
        summed=3,
        initial=np.zeros(3),
        step=step,  # type: ignore[arg-type]
        personalize=personalize,
        predict=lambda shared, private, inputs: inputs,
    )


def test_a_client_that_fails_puts_in_zeros_and_keeps_its_state() -> None:
    sums = PlainSums(length=3, clip=1.0, bits=16)
    course = begin(failing(2), sgd(rate=1.0), sums, clients=4, seed=0)
    after = course.onward([0, 1, 2, 3], 1)  # type: ignore[list-item]
    np.testing.assert_allclose(after.shared, 0.75 * 0.25, atol=1e-4)
    assert [len(state.arrays()) for state in after.private] == [1, 1, 0, 1]
    with pytest.raises(DataError):
        after.personal([0, 1, 2, 3])  # type: ignore[list-item]


def test_the_worst_tenth_is_of_at_least_one_client() -> None:
    assert worst_tenth(np.array([0.5, 0.1, 0.9])) == 0.1
    assert worst_tenth(np.arange(20) / 20) == pytest.approx(0.025)


@pytest.mark.parametrize("key", ["fedavg", "ditto", "ifca", "fedper"])
def test_a_gradient_scheme_takes_the_steps_that_it_is_given(key: str) -> None:
    data = tasks_40.core_tasks(0)[0][0].data
    plain, small = (gradient_scheme(key, 0, rate=rate).algorithm for rate in (RATES[key], RATES[key] / 1000))
    far, near = (
        one.step(one.initial, PrivateState(), data, 0).update[: plain.length] for one in (plain, small)
    )
    assert 0 < np.linalg.norm(near) < np.linalg.norm(far) / 100
