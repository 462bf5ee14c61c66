"""The study of many tasks: how it deals, who is summed with whom, and what its evaluation may say."""

from dataclasses import replace

import numpy as np
import pytest

from dp.metrics import encode_metrics, metrics_clip
from personalization.data import ClientData, Pairs
from personalization.engine import Algorithm
from personalization.errors import DataError
from personalization.private_state import PrivateState
from personalization.tasks import INPUTS
from protocols.studies import multitask
from protocols.studies.multitask import run
from protocols.studies.tasks_7 import CLIENTS, GENERAL, SIZES, Client, dealt, members
from protocols.studies.tasks_7_controls import CONTROLS, USUAL, client_schemes, head_losses
from protocols.studies.tasks_7_released import METRICS, Fitted, released, values
from protocols.studies.tasks_7_training import BOUND, Course, Layout, alone, layout, trained

SHORT = replace(multitask.STUDY.settings, rounds=2, seeds=1, masked=False)
DEALT = dealt(3)
OF = members(DEALT)


def _schemes() -> dict[str, Algorithm]:
    return dict(USUAL.schemes(3, l2=0.0))


def _course(chosen: Layout, clients: tuple[Client, ...] = DEALT) -> Course:
    return Course(clients=clients, layout=chosen, schemes=client_schemes(clients, USUAL, 3), seed=3)


def test_groups_have_their_sizes_and_no_client_holds_anothers_row_or_a_held_out_one() -> None:
    assert len(DEALT) == CLIENTS == 60
    for name, (clients, examples) in SIZES.items():
        group = [DEALT[client] for client in OF[name]]
        assert len(group) == clients
        assert all(client.train.examples == examples and client.own.examples == 40 for client in group)
    # Scales differ between clients of a table; those of images are public, so that rows can be compared.
    images = [row.tobytes() for at in OF["upright"] for row in DEALT[at].train.inputs]
    held = {row.tobytes() for row in DEALT[OF["upright"][0]].test.inputs}
    assert len(set(images)) == len(images)
    assert not held & set(images)


def test_the_small_group_joins_its_neighbour() -> None:
    apart = layout("apart", DEALT, 3)
    assert "iris" not in apart.groups
    assert apart.groups["wine"] == tuple(sorted(OF["wine"] + OF["iris"]))


def test_fair_weights_are_larger_where_folds_lose_more_and_never_beyond_the_bound() -> None:
    weights, losses = layout("fair", DEALT, 3).weights, head_losses(DEALT, USUAL, 3)[:, 0]
    assert set(weights) == set(range(CLIENTS))
    assert {type(weight) for weight in weights.values()} == {int}
    assert all(1 <= weight <= BOUND for weight in weights.values())
    for group in OF.values():
        by_loss = [weights[client] for client in sorted(group, key=lambda client: losses[client])]
        assert by_loss == sorted(by_loss)
    # Two groups of nearly one size: who loses more counts more.
    assert losses[list(OF["renamed"])].mean() > losses[list(OF["cancer"])].mean()
    assert min(weights[at] for at in OF["renamed"]) > max(weights[at] for at in OF["cancer"])


def test_a_weighted_base_is_the_same_through_masks_and_another_than_without_weights() -> None:
    common = layout("common", DEALT, 3)
    course = _course(replace(common, weights={client: 1 + client % BOUND for client in range(CLIENTS)}))
    masked, exact = trained(course, 1, masked=True)
    plain, _ = trained(course, 1, masked=False)
    alike, _ = trained(_course(common), 1, masked=False)
    assert exact
    assert masked[0].shared.tobytes() == plain[0].shared.tobytes()
    assert not np.allclose(masked[0].shared, alike[0].shared, atol=1e-4)


def test_groups_that_merge_wholly_train_the_one_base_for_all() -> None:
    wholly = replace(layout("apart", DEALT, 3), share=1.0)
    by_groups, _ = trained(_course(wholly), 2, masked=False)
    by_all, _ = trained(_course(layout("common", DEALT, 3)), 2, masked=False)
    for client in range(CLIENTS):
        assert np.allclose(by_groups[client].shared, by_all[client].shared, atol=1e-4)
    apart, _ = trained(_course(replace(wholly, share=0.0)), 2, masked=False)
    assert not np.allclose(apart[0].shared, by_all[0].shared, atol=1e-3)


def test_private_slots_train_as_open_groups_do_but_for_the_noise_of_their_counts() -> None:
    chosen = layout("slots", DEALT, 3)
    assert chosen.slots is not None
    exact = tuple(float(len(chosen.groups[name])) for name in chosen.slots.names)
    counted = replace(chosen, slots=replace(chosen.slots, counts=exact))
    in_slots, _ = trained(_course(counted), 2, masked=False)
    in_groups, _ = trained(_course(layout("apart", DEALT, 3)), 2, masked=False)
    closed = set(chosen.groups) - set(chosen.slots.names)
    assert set(range(CLIENTS)) - set(in_slots) == {at for name in closed for at in chosen.groups[name]}
    for client, fitted in in_slots.items():
        assert np.allclose(fitted.shared, in_groups[client].shared, atol=1e-3)


def test_masked_groups_train_as_plain_ones_to_the_last_bit() -> None:
    course = _course(layout("half", DEALT, 3))
    masked, exact = trained(course, 1, masked=True)
    plain, _ = trained(course, 1, masked=False)
    assert exact
    assert all(masked[at].shared.tobytes() == plain[at].shared.tobytes() for at in range(CLIENTS))


def test_a_client_whose_step_fails_hands_in_zeros_and_keeps_what_it_had() -> None:
    broken = OF["cancer"][1]
    # A column more than the base takes: the step of this client alone raises.
    bad = ClientData(images=np.zeros((3, INPUTS + 1)), labels=np.zeros(3, dtype=np.int64), classes=2)
    clients = tuple(replace(one, train=bad) if at == broken else one for at, one in enumerate(DEALT))
    course = _course(layout("common", DEALT, 3), clients)
    states = {client: PrivateState() for client in range(CLIENTS)}
    updates = course.updates(dict.fromkeys(range(CLIENTS), course.any.initial), states, 1)
    assert not updates[broken].any()
    assert not states[broken].arrays()
    for client in OF["cancer"]:
        assert client == broken or updates[client].any()


def test_a_loss_that_is_no_number_costs_its_client_the_round_and_nobody_else() -> None:
    broken, course = OF["diabetes"][2], _course(layout("common", DEALT, 3))
    # Squares of such numbers leave single precision: the loss is infinite and its gradient no number.
    huge = Pairs(inputs=DEALT[broken].train.inputs, targets=np.full(DEALT[broken].train.examples, 1e300))
    clients = tuple(replace(one, train=huge) if at == broken else one for at, one in enumerate(DEALT))
    start = {client: PrivateState() for client in range(CLIENTS)}
    models = dict.fromkeys(range(CLIENTS), course.any.initial)
    found = _course(course.layout, clients).updates(models, start, 1)
    want = course.updates(models, {client: PrivateState() for client in range(CLIENTS)}, 1)
    assert not found[broken].any()
    assert all(np.array_equal(found[at], want[at]) for at in range(CLIENTS) if at != broken)


def test_what_a_client_puts_into_an_evaluation_is_within_the_clip_and_about_its_task() -> None:
    schemes = _schemes()
    for name, group in OF.items():
        one = DEALT[group[0]]
        fitted = Fitted(one, schemes[name], schemes[name].initial, PrivateState())
        put = values(fitted, fitted)
        assert ("digit" in put) == (name in GENERAL)
        assert ("right" in put) == ("score" in put) == (name != "diabetes")
        assert put["gain"] == (name, 0.0)
        assert np.linalg.norm(encode_metrics(put, metrics=METRICS)) <= metrics_clip(METRICS) * (1 + 1e-12)


def test_digits_under_other_names_are_counted_in_the_general_tasks_names() -> None:
    def oracle(shared: object, state: object, inputs: np.ndarray) -> np.ndarray:
        return np.eye(10)[np.asarray(one.own.targets)]

    one = DEALT[OF["renamed"][0]]
    scheme = replace(_schemes()["renamed"], predict=oracle)
    counts = Fitted(one, scheme, scheme.initial, PrivateState()).counts()
    digits = 9 - np.asarray(one.own.targets)
    assert counts[:, 0].tolist() == np.bincount(digits, minlength=10).tolist()
    assert not counts[:, 1:].any()


def _perfect(one: Fitted) -> Fitted:
    """A model that knows its client's own examples."""
    answers = {
        row.tobytes(): answer
        for part in (one.client.train, one.client.own)
        for row, answer in zip(part.inputs, part.targets.tolist(), strict=True)
    }

    def predict(shared: object, state: object, inputs: np.ndarray) -> np.ndarray:
        found = np.array([answers[row.tobytes()] for row in inputs])
        return np.eye(one.client.task.outputs)[found] if found.dtype == np.int64 else found[:, None]

    return replace(one, algorithm=replace(one.algorithm, predict=predict))


def test_every_group_is_told_its_gain_but_one_that_is_too_small() -> None:
    schemes = _schemes()
    start = [
        Fitted(one, schemes[one.task.name], schemes[one.task.name].initial, PrivateState()) for one in DEALT
    ]
    better = [one if one.client.task.name == "quarter" else _perfect(one) for one in start]
    told = released(better, start, seed=5)
    gains = dict(zip(SIZES, told.gains, strict=True))
    assert gains["iris"] is None
    # Gains beyond 0.3 count as that, and the group that learned nothing has none.
    assert gains["upright"] == pytest.approx(0.3, abs=0.1)
    assert gains["quarter"] == pytest.approx(0.0, abs=0.15)
    assert told.figures["gain_gap-true"] == pytest.approx(0.3)
    assert told.figures["gain_gap-told"] == pytest.approx(0.3, abs=0.2)
    # A number is in no accuracy.
    assert told.scores[list(SIZES).index("diabetes")] is None
    assert told.scores[0] == pytest.approx(1.0, abs=0.1)


def test_controls_hold_back_choose_and_drop_as_they_say() -> None:
    clients = tuple(DEALT[OF[name][0]] for name in ("cancer", "diabetes"))
    for key, controls in CONTROLS.items():
        schemes = client_schemes(clients, replace(controls, l2=controls.l2[:1]), 3)
        for one, scheme in zip(clients, schemes, strict=True):
            result = scheme.step(scheme.initial, PrivateState(), one.train, 1)
            held = result.private.arrays().get("validation", np.zeros(1))
            assert held.sum() == round(controls.validation * one.train.examples), key
            assert (scheme.many is None) == (controls.dropout > 0), key


def test_where_folds_choose_a_client_has_the_strength_that_loses_least_on_them() -> None:
    clients = tuple(DEALT[OF[name][0]] for name in ("upright", "cancer", "diabetes"))
    controls = replace(CONTROLS["folds"], l2=(3.0, 0.03))
    chosen, losses = client_schemes(clients, controls, 3), head_losses(clients, controls, 3)
    assert set(losses.argmin(axis=1)) == {1}  # a penalty of 3 lets no head learn
    fixed = client_schemes(clients, replace(controls, l2=(0.03,)), 3)
    for one, scheme, same in zip(clients, chosen, fixed, strict=True):
        found, want = (
            each.step(each.initial, PrivateState(), one.train, 1).update for each in (scheme, same)
        )
        assert np.array_equal(found, want)


@pytest.mark.exhaustive
def test_a_run_says_everything_that_a_table_asks_for_and_is_the_same_again() -> None:
    found = run("apart", 3, SHORT)
    assert {column.key for column in multitask.STUDY.columns} <= found.figures.keys()
    assert {chart.key for chart in multitask.STUDY.charts} == found.curves.keys()
    assert all(np.isfinite(value) for value in found.figures.values())
    assert found == run("apart", 3, SHORT)
    alone = run("local", 3, SHORT)
    assert alone.figures["harmed"] == alone.figures["least-gain"] == 0.0
    assert alone.figures["gain_gap-true"] == 0.0
    loose, held = run("none", 3, SHORT), run("all", 3, SHORT)
    assert loose.figures["overfit"] > held.figures["overfit"]


def test_an_alone_client_that_cannot_train_is_an_error_and_no_row() -> None:
    bad = ClientData(images=np.zeros((3, INPUTS + 1)), labels=np.zeros(3, dtype=np.int64), classes=2)
    clients = (replace(DEALT[OF["cancer"][0]], train=bad),)
    with pytest.raises(DataError):
        alone(clients, 3)
