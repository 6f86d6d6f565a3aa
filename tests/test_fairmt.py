"""FairMT as we read it: its step, its constraint and what it measures."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fairjax import methods, metrics, notions
from fairjax.core.types import Attribute, Columns, Dataset, Spec, Splits, Task
from fairjax.gradients import value_and_rows
from fairjax.models import scores as model_scores
from fairjax.models import shared_bottom
from fairjax.objectives import constrained
from fairjax.training import TrainConfig, grid, make_train, sweep

SPEC = Spec(
    (
        Task("hired"),
        Task("job", "multiclass", ("a", "b", "c")),
        Task("signs", "multilabel", ("smiles", "cries")),
        Task("age", "regression"),
    ),
    (Attribute("sex", ("f", "m")),),
    ("x0", "x1", "x2"),
)
MODEL = shared_bottom(SPEC, (5,), ())
RATE = 0.1


def rows_of(n: int = 80, missing: float = 0.3, fill: float = 0.0, seed: int = 0) -> Dataset:
    """Rows whose labels follow the features, which differ between the groups."""
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.4
    x = rng.normal(size=(n, 3)) + member[:, None]
    noisy = x + rng.normal(size=(n, 3)) * (1 + member[:, None])
    labels = np.column_stack(
        [
            noisy[:, 0] > 0,
            np.clip(np.round(noisy[:, 1] + 0.5), 0, 2),
            noisy[:, 2] > 0,
            noisy[:, 0] + noisy[:, 1] > 1,
            noisy[:, 2],
        ]
    )
    mask = rng.random(labels.shape) >= missing
    labels = np.where(mask, labels, fill)
    groups = np.eye(2)[member.astype(int)] * (rng.random(n) > 0.1)[:, None]
    arrays = (labels, mask, groups, np.ones(n))
    codes = np.zeros((n, 0), np.int32)
    return Dataset(Columns(np.float32(x), codes), *map(np.float32, arrays))


def context_of(rate: float = RATE) -> methods.Context:
    return methods.Context(SPEC, MODEL, lambda hparams: optax.sgd(rate), {}, reduction="mean")


def hparams_of(recipe, **values) -> dict:
    space = {name: interval.default for name, interval in recipe.space.items()}
    return {name: jnp.float32(value) for name, value in (space | values).items()}


@functools.cache
def train_of(batch: int, measured: str):
    """A compiled run; several tests share it, because it compiles for long."""
    recipe = methods.fairmt(measured=measured)(context_of())
    return recipe, jax.jit(make_train(TrainConfig(2, batch), recipe))


def trained_on(data: Dataset, batch: int = 40, measured: str = "decisions"):
    recipe, train = train_of(batch, measured)
    return train(jax.random.key(0), jax.random.key(1), hparams_of(recipe), data)


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def least_norm(products: np.ndarray) -> np.ndarray:
    """The simplex point of least ``a' H a``, by trying every support."""
    count = len(products)
    best, least = None, np.inf
    for size in range(1, count + 1):
        for support in itertools.combinations(range(count), size):
            matrix = np.ones((size + 1, size + 1))
            matrix[:size, :size] = products[np.ix_(support, support)]
            matrix[size, size] = 0.0
            solution = np.linalg.lstsq(matrix, np.eye(size + 1)[size], rcond=None)[0][:size]
            a = np.zeros(count)
            a[list(support)] = solution
            if solution.min() > -1e-9 and abs(solution.sum() - 1) < 1e-6:
                value = a @ products @ a
                if value < least:
                    best, least = a, value
    return best


@pytest.mark.parametrize(
    ("beta", "protect_best"), [(0.3, False), pytest.param(1.0, True, marks=pytest.mark.slow)]
)
def test_a_step_is_the_least_norm_of_lagrangians_in_the_metric_of_heads(beta, protect_best):
    data = rows_of()
    recipe = methods.fairmt(protect_best=protect_best)(context_of())
    hparams = hparams_of(recipe, beta=beta, cap=8.0)
    parts = recipe.build(hparams)
    params = MODEL.init(jax.random.key(3))
    memory = parts.objective.init(jax.random.key(1), data)
    memory = memory._replace(violation=jnp.array([0.3]))

    @jax.jit
    def stepped(params):
        def losses(params):
            return parts.objective.apply(params, data, jax.random.key(0), memory)[0]

        _, rows = value_and_rows(losses)(params)
        state = parts.transform.init(params)
        update, state = parts.transform.update(rows, state, params, memory=memory)
        return rows, update, optax.tree_utils.tree_get(state, "multiplier")

    rows, update, multiplier = jax.tree.map(np.asarray, stepped(params))
    count = len(parts.objective.rows)
    assert count == (9 if protect_best else 5)
    row_vectors = np.stack([flat(jax.tree.map(lambda r, k=k: r[k], rows)) for k in range(count)])
    scale = flat(
        {
            "heads": jax.tree.map(lambda leaf: np.full(leaf.shape, beta), params["heads"]),
            "trunk": jax.tree.map(lambda leaf: np.ones(leaf.shape), params["trunk"]),
        }
    )
    row_vectors = row_vectors.astype(float)
    lagrangians = row_vectors[:-1] + multiplier * row_vectors[-1]
    products = (lagrangians * scale) @ lagrangians.T
    d = least_norm(products) @ lagrangians
    np.testing.assert_allclose(flat(update), -RATE * scale * d, atol=2e-5)
    # no Lagrangian, and no risk of a best group, rises to first order
    assert np.min(lagrangians @ (scale * d)) >= d @ (scale * d) - 1e-5


def test_the_constraint_reaches_the_heads_of_its_tasks_and_no_other():
    """P5."""
    data = rows_of()
    notion = [notions.ahfda(), None, notions.ahfda(), notions.ahfda()]
    made = constrained(MODEL, SPEC, notion=notion)
    memory = made.init(jax.random.key(1), data)

    @jax.jit
    def rows(params):
        return value_and_rows(lambda p: made.apply(p, data, jax.random.key(0), memory)[0])(params)

    _, gradients = rows(MODEL.init(jax.random.key(3)))
    of_constraint = {
        name: np.abs(flat(head)[None]).max()
        for name, head in jax.tree.map(lambda leaf: leaf[-1], gradients["heads"]).items()
    }
    assert of_constraint["job"] == 0.0
    assert min(of_constraint[name] for name in ("hired", "signs", "age")) > 0.0


def test_the_risk_of_the_best_groups_is_a_brute_force_and_moves_no_other_group():
    data = rows_of()
    notion = notions.best_group_risk(rho=1.0)
    label, mask, groups = data.labels[:, :1], data.label_mask[:, :1], data.groups

    def rows(prob):
        return notions.TaskRows(prob, label, groups, (mask,), "binary", None)

    prob = np.random.default_rng(3).random((len(label), 1)).astype(np.float32)
    memory = notion.init(rows(np.zeros_like(prob)), 40)
    value, slope = jax.value_and_grad(lambda p: notion.apply(rows(p), memory)[0])(prob)
    risks = np.zeros((2, 2))
    for unit, group in itertools.product(range(2), range(2)):
        inside = (mask[:, 0] > 0) & (groups[:, group] > 0) & (label[:, 0] == 1 - unit)
        wrong = 1 - prob if unit == 0 else prob
        risks[unit, group] = wrong[inside, 0].mean()
    np.testing.assert_allclose(value, risks.min(axis=1).mean(), rtol=1e-5)
    for unit in range(2):
        worse = groups[:, 1 - risks[unit].argmin()] > 0
        of_unit = label[:, 0] == 1 - unit
        np.testing.assert_array_equal(np.asarray(slope)[worse & of_unit], 0.0)
    assert np.abs(slope).max() > 0


def test_the_violation_is_that_of_decisions_on_all_training_rows():
    data = rows_of()
    run = trained_on(data)
    scores = model_scores(MODEL, run.state.params, data.x)
    half = jnp.zeros(len(SPEC.tasks))
    by_task = metrics.evaluate_ahfda(SPEC, scores, data, half, min_count=10)
    np.testing.assert_allclose(run.record.violation[-1, 0], max(by_task.values()), rtol=1e-5)


def test_what_stands_under_the_mask_changes_nothing():
    """P4, through training: NaN for labels that are missing."""
    plain, hidden = (trained_on(rows_of(fill=fill)) for fill in (0.0, np.nan))
    assert np.isfinite(flat(plain.state.params)).all()
    np.testing.assert_array_equal(flat(plain.state.params), flat(hidden.state.params))
    np.testing.assert_array_equal(plain.record.violation, hidden.record.violation)


@pytest.mark.parametrize("absent", [(0, slice(0, 1)), (3, slice(4, 5))])
def test_a_task_without_any_label_stands_still_and_the_others_move(absent):
    task, columns = absent
    data = rows_of()
    mask = data.label_mask.copy()
    mask[:, columns] = 0.0
    run = trained_on(data._replace(label_mask=mask))
    start = MODEL.init(jax.random.split(jax.random.key(0), 3)[2])
    for t, name in enumerate(task.name for task in SPEC.tasks):
        moved = np.abs(flat(run.state.params["heads"][name]) - flat(start["heads"][name])).max()
        assert (moved == 0.0) == (t == task), name


@pytest.mark.parametrize("kind", ["no group known", "one group"])
def test_thin_data_stays_finite(kind):
    data = rows_of()
    known = 0.0 if kind == "no group known" else 1.0
    run = trained_on(data._replace(groups=data.groups * np.float32([known, 0.0])))
    assert np.isfinite(flat(run.state.params)).all()
    assert np.isfinite(run.record.multiplier).all()


@pytest.mark.slow
def test_batches_of_one_row_stay_finite_and_steps_measure_running_risks():
    data = rows_of(12)
    run = trained_on(data, batch=1, measured="running")
    assert np.isfinite(flat(run.state.params)).all()
    sums = run.state.memory.fairness
    own = [notions.ahfda().violation(of_task) for (of_task,) in sums]
    np.testing.assert_allclose(run.record.violation[-1, 0], max(own), rtol=1e-5)


def test_another_measure_is_refused():
    with pytest.raises(ValueError, match="measured 'soft' is not one of decisions, running"):
        methods.fairmt(measured="soft")
    recipe = methods.fairmt(notions.from_distance(notions.rate_gap, ()), measured="running")
    with pytest.raises(ValueError, match="one has not: let an event measure decisions"):
        recipe(context_of()).build(hparams_of(recipe(context_of())))


def test_a_study_of_ahfda_follows_the_gap_that_it_shows():
    spec = Spec((Task("hired"),), SPEC.attributes, SPEC.numeric)
    data = rows_of(200)
    data = data._replace(labels=data.labels[:, :1], label_mask=data.label_mask[:, :1])
    scores = data.x.numeric[:, :1]
    odds, ahfda = (notions.get(name) for name in ("equalized_odds", "ahfda"))
    shown, followed = (
        methods.reported_gaps(spec, notion, "one")(scores, data) for notion in (odds, ahfda)
    )
    np.testing.assert_array_equal(followed, shown)
    own = methods.reported_gaps(spec, notions.ahfda(), "one")(scores, data)
    np.testing.assert_allclose(own, shown, rtol=1e-5)
    assert shown[0] > 0


@pytest.mark.slow
def test_a_sweep_over_tolerance_cap_and_seed_compiles_once():
    data = rows_of(120)
    recipe = methods.get("fairmt", None)(context_of())
    points = grid(recipe.space, {"tolerance": (0.02, 0.5), "cap": (1.0, 20.0), "rate": [1.0]})
    runs = sweep(
        recipe,
        TrainConfig(8, 40),
        points,
        [0, 1],
        Splits(data, data, data),
        lambda scores, splits: {"score": jnp.mean(scores["test"])},
        chunk=8,
        devices=jax.local_devices()[:1],
    )
    assert runs.compilations == 1 and not runs.diverged.any()
    last = runs.record.multiplier[:, -1, 0]
    tight, loose = last[2:4], last[6:8]
    assert np.all(tight > loose)
