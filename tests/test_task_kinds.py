"""Binary, multiclass, multi-label and regression tasks, also of several numbers, in one model."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from cases import slope

from fairjax import Roles, from_table, metrics, models, notions
from fairjax.core.keys import Metric
from fairjax.core.types import Attribute, Columns, DataError, Dataset, Spec, Task
from fairjax.data.encoder import Encoder
from fairjax.losses import concordance, concordance_loss, row_losses
from fairjax.objectives import accuracy_terms, fairness_terms, per_task, predict
from fairjax.study.predictions import prediction_columns

MEANS, DEVIATIONS = (3.0, -1.0), (10.0, 0.5)
SEX = Attribute("sex", ("f", "m"))


def mood(loss: str = "squared_error") -> Task:
    return Task("mood", "regression", ("valence", "arousal"), MEANS, DEVIATIONS, loss)


def spec_of(loss: str = "squared_error") -> Spec:
    tasks = (
        Task("hired"),
        Task("job", "multiclass", ("a", "b", "c")),
        Task("signs", "multilabel", ("smiles", "cries")),
        Task("age", "regression", (), 40.0, 10.0, loss),
        mood(loss),
    )
    return Spec(tasks, (SEX,), ("x0", "x1", "x2"), ())


SPEC = spec_of()


def batch_of(missing: tuple[float, ...], n: int = 24, seed: int = 0) -> Dataset:
    """Rows of SPEC of which each task misses its share; a missing label is 0 here."""
    rng = np.random.default_rng(seed)
    bits, classes = rng.integers(2, size=(n, 3)), rng.integers(3, size=n)
    labels = np.column_stack([bits[:, 0], classes, bits[:, 1:], rng.normal(size=(n, 3))])
    share = np.repeat(missing, [task.label_width for task in SPEC.tasks])
    mask = rng.random(labels.shape) >= share
    groups = np.eye(2)[rng.integers(2, size=n)]
    numeric, codes = rng.normal(size=(n, 3)), np.zeros((n, 0), np.int32)
    arrays = (np.where(mask, labels, 0), mask, groups, rng.uniform(0.5, 2, n))
    return Dataset(Columns(np.float32(numeric), codes), *map(np.float32, arrays))


def hidden(batch: Dataset) -> Dataset:
    """The same rows with NaN where a label is missing."""
    labels = np.where(batch.label_mask > 0, batch.labels, np.nan)
    return batch._replace(labels=np.float32(labels))


# ------------------------------------------------------------------------------------- concordance


def brute_loss(prediction, label, weight) -> float:
    """``1 - CCC`` in float64, by numpy's averages and covariance matrix."""
    keep = weight > 0
    f, y, w = (np.asarray(v, np.float64)[keep] for v in (prediction, label, weight))
    covariance = np.cov(np.stack([f, y]), aweights=w, ddof=0)
    bias = np.average(f, weights=w) - np.average(y, weights=w)
    return 1 - 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + bias**2)


def rows(seed: int, n: int = 15):
    rng = np.random.default_rng(seed)
    label = rng.normal(size=n)
    prediction = 0.7 * label + rng.normal(size=n) + 0.3
    weight = rng.uniform(0.2, 2, n) * (rng.random(n) < 0.7)
    return prediction, label, weight


def single(arrays):
    return tuple(jnp.asarray(a, jnp.float32) for a in arrays)


def test_concordance_loss_and_its_gradient_are_brute_force():
    gradient = jax.jit(jax.vmap(jax.value_and_grad(concordance_loss)))
    stacked = [np.stack(arrays) for arrays in zip(*map(rows, range(8)), strict=True)]
    # what has no weight may be anything
    known = stacked[2] > 0
    label = np.where(known, stacked[1], np.nan)
    values, slopes = gradient(*single((stacked[0], label, stacked[2])))
    for i in range(8):
        f, y, w = (array[i] for array in stacked)
        np.testing.assert_allclose(values[i], brute_loss(f, y, w), rtol=1e-5)
        expected = slope(lambda at, y=y, w=w: brute_loss(at, y, w), f)
        np.testing.assert_allclose(slopes[i], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(slopes)[~known], 0.0)


def test_concordance_of_itself_is_one_and_of_its_mirror_minus_one():
    label = jnp.arange(5.0) - 2.0
    np.testing.assert_allclose(concordance(label, label, jnp.ones(5)), 1.0, rtol=1e-6)
    np.testing.assert_allclose(concordance(-label, label, jnp.ones(5)), -1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("label", "weight"),
    [([0.1, 0.1, 0.1], [1, 1, 1]), ([5, 7, 9], [0, 1, 0]), ([5, 7, 9], [0, 0, 0])],
    ids=["constant", "one row", "none"],
)
def test_labels_that_do_not_vary_say_nothing(label, weight):
    arrays = single(([1.0, 2.0, 4.0], label, weight))
    value, gradient = jax.value_and_grad(concordance_loss)(*arrays)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_constant_predictions_have_loss_one_and_a_way_out():
    label = jnp.array([0.0, 1.0, 5.0])
    value, gradient = jax.value_and_grad(concordance_loss)(jnp.full(3, 2.0), label, jnp.ones(3))
    assert value == 1.0
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_a_prediction_that_diverged_shows():
    bad = single(([np.nan, 1.0, 2.0], [0.0, 1.0, 2.0], [1, 1, 1]))
    assert np.isnan(concordance_loss(*bad))


@pytest.mark.parametrize("reduction", ["batch", "mean"])
def test_the_term_of_a_task_weighs_outputs_by_their_rows(reduction):
    spec = Spec((mood("ccc"),), (SEX,))
    batch = batch_of((0.0, 0.0, 0.0, 0.0, 0.4))
    batch = batch._replace(labels=batch.labels[:, 5:], label_mask=batch.label_mask[:, 5:])
    scores = np.random.default_rng(1).normal(size=(24, 2)).astype(jnp.bfloat16)
    (term,) = accuracy_terms(spec, predict(spec, jnp.asarray(scores)), hidden(batch), reduction)
    total = 0.0
    for u in range(2):
        weight = batch.weight * batch.label_mask[:, u]
        total += weight.sum() * brute_loss(scores[:, u], batch.labels[:, u], weight)
    known = (batch.weight * batch.label_mask.max(axis=1)).sum()
    np.testing.assert_allclose(term, total / (24 if reduction == "batch" else known), rtol=1e-5)
    assert term.dtype == jnp.float32


# -------------------------------------------------------------------------------- all kinds at once


@functools.cache
def problem(loss: str, reduction: str):
    """Parameters of a network, and its losses ``[T]`` with their gradients."""
    spec = spec_of(loss)
    model = models.shared_bottom(spec, (6,), (4,), 2)
    params = model.init(jax.random.key(0))
    objective = per_task(model, spec, reduction=reduction)

    def losses(params, batch):
        return jnp.stack(objective.apply(params, batch, jax.random.key(0), ())[0])

    def values_and_gradients(params, batch):
        return losses(params, batch), jax.jacrev(losses)(params, batch)

    return params, jax.jit(values_and_gradients)


SHARES = [(0.0, 0.2, 0.4, 0.6, 0.8), (0.8, 0.6, 0.4, 0.2, 0.0), (0.8,) * 5]


@pytest.mark.parametrize("reduction", ["batch", "mean"])
@pytest.mark.parametrize("loss", ["squared_error", "ccc"])
def test_missing_labels_may_be_anything(loss, reduction):
    params, of = problem(loss, reduction)
    for missing in SHARES:
        batch = batch_of(missing)
        found = of(params, batch)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
        assert np.all(found[0] > 0)
        jax.tree.map(np.testing.assert_array_equal, of(params, hidden(batch)), found)


@pytest.mark.parametrize("loss", ["squared_error", "ccc"])
def test_an_absent_task_has_no_loss_and_no_gradient(loss):
    params, of = problem(loss, "mean")
    for t in range(len(SPEC.tasks)):
        values, gradients = of(params, hidden(batch_of(tuple(float(i == t) for i in range(5)))))
        assert values[t] == 0.0 and np.all(np.delete(values, t) > 0)
        assert all(np.all(leaf[t] == 0.0) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("loss", ["squared_error", "ccc"])
def test_a_batch_of_one_row(loss):
    params, of = problem(loss, "mean")
    values, gradients = of(params, batch_of((0.0,) * 5, n=1))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((values, gradients)))
    is_silent = values == 0.0
    np.testing.assert_array_equal(is_silent, [False] * 3 + [loss == "ccc"] * 2)


# ---------------------------------------------------------------------------------------- metrics


@functools.cache
def measured():
    batch = batch_of((0.3,) * 5, n=200)
    scores = np.random.default_rng(2).normal(size=(200, 9)).astype(np.float32)
    evaluate = jax.jit(metrics.evaluate, static_argnums=0)
    out = evaluate(SPEC, jnp.asarray(scores), hidden(batch), jnp.zeros(5))
    return batch, scores, {key: float(value) for key, value in out.items()}


def known(batch: Dataset, column: int, prediction: np.ndarray):
    """Labels, predictions and ``sample_weight`` of the rows whose label is known."""
    rows = batch.label_mask[:, column] > 0
    label = batch.labels[rows, column].astype(float)
    return label, prediction[rows].astype(float), {"sample_weight": batch.weight[rows]}


def test_utilities_of_classes_are_scikit_learns():
    batch, scores, out = measured()
    f1 = sklearn.metrics.f1_score
    y, d, weight = known(batch, 0, scores[:, 0] >= 0)
    np.testing.assert_allclose(out[Metric("f1", "hired")], f1(y, d, **weight), rtol=1e-5)
    macro = f1(y, d, average="macro", **weight)
    np.testing.assert_allclose(out[Metric("macro_f1", "hired")], macro, rtol=1e-5)
    y, d, weight = known(batch, 1, scores[:, 1:4].argmax(axis=1))
    macro = f1(y, d, average="macro", labels=[0, 1, 2], **weight)
    np.testing.assert_allclose(out[Metric("macro_f1", "job")], macro, rtol=1e-5)
    of_labels = []
    for c in (0, 1):
        y, d, weight = known(batch, 2 + c, scores[:, 4 + c] >= 0)
        of_labels.append(f1(y, d, **weight))
    np.testing.assert_allclose(out[Metric("macro_f1", "signs")], np.mean(of_labels), rtol=1e-5)


def expected_of_numbers(y, f, weight) -> dict[str, float]:
    square = sklearn.metrics.mean_squared_error(y, f, **weight)
    return {
        "error": np.sqrt(square),
        "rmse": np.sqrt(square),
        "mae": sklearn.metrics.mean_absolute_error(y, f, **weight),
        "r2": sklearn.metrics.r2_score(y, f, **weight),
        "ccc": 1 - brute_loss(f, y, weight["sample_weight"]),
    }


def test_utilities_of_numbers_are_scikit_learns_in_units():
    batch, scores, out = measured()
    y, f, weight = known(batch, 4, scores[:, 6])
    for name, value in expected_of_numbers(40 + 10 * y, 40 + 10 * f, weight).items():
        np.testing.assert_allclose(out[Metric(name, "age")], value, rtol=2e-5)
    means: dict[str, list] = {}
    for u, output in enumerate(mood().levels):
        y, f, weight = known(batch, 5 + u, scores[:, 7 + u])
        mean, deviation = MEANS[u], DEVIATIONS[u]
        values = expected_of_numbers(mean + deviation * y, mean + deviation * f, weight)
        for name, value in values.items():
            found = out[Metric(name, "mood", outcome=output)]
            np.testing.assert_allclose(found, value, rtol=2e-5, err_msg=name)
        for name, value in expected_of_numbers(y, f, weight).items():
            means.setdefault(name, []).append(value)
    for name, values in means.items():
        np.testing.assert_allclose(out[Metric(name, "mood")], np.mean(values), rtol=2e-5)


def test_the_gap_of_several_outputs_is_that_of_the_worst_in_deviations():
    batch, scores, out = measured()
    gaps = []
    for u, output in enumerate(mood().levels):
        member = [batch.groups[:, g] * batch.weight for g in (0, 1)]
        first, second = (np.average(scores[:, 7 + u], weights=w) for w in member)
        gaps.append(abs(first - second))
        key = Metric("mean_prediction_difference", "mood", output, "sex")
        np.testing.assert_allclose(out[key], DEVIATIONS[u] * gaps[u], rtol=1e-4)
    worst = Metric("mean_prediction_difference", "mood", attribute="sex")
    np.testing.assert_allclose(out[worst], max(gaps), rtol=1e-4)
    steps = [Metric("kolmogorov_smirnov", "mood", level, "sex") for level in mood().levels]
    key = Metric("kolmogorov_smirnov", "mood", attribute="sex")
    assert out[key] == max(out[step] for step in steps)


def test_where_a_utility_is_not_defined():
    ones, none = jnp.ones(3), jnp.zeros(3)
    moved = jnp.array([1.0, 2.0, 4.0])
    assert metrics.f1(none, none, ones) == 0.0
    for name in ("f1", "r2", "ccc", "mean_absolute_error"):
        assert np.isnan(getattr(metrics, name)(moved, moved, none)), name
    for name in ("r2", "ccc"):
        assert np.isnan(getattr(metrics, name)(moved, ones, ones)), name
    broken = jnp.array([np.nan, 0.0, 1.0])
    for name in ("f1", "r2", "ccc", "mean_absolute_error"):
        assert np.isnan(getattr(metrics, name)(broken, moved, ones)), name


def test_a_label_that_no_row_knows_is_in_no_mean():
    label = jnp.array([[1.0, np.nan], [0.0, np.nan]])
    weight = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    assert metrics.macro_f1(jnp.ones((2, 2)), label, weight) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", notions.for_kind("regression"))
def test_notions_of_numbers_are_their_mean_over_outputs(name):
    notion = notions.get(name, kind="regression")
    batch = hidden(batch_of((0.0, 0.0, 0.0, 0.0, 0.3)))
    both = Spec((mood(),), (SEX,))
    apart = Spec(mood().columns, (SEX,))
    batch = batch._replace(labels=batch.labels[:, 5:], label_mask=batch.label_mask[:, 5:])
    scores = jnp.asarray(np.random.default_rng(4).normal(size=(24, 2)), jnp.float32)
    values = []
    for spec in (both, apart):
        terms = fairness_terms(spec, notion)
        values.append(terms.apply(predict(spec, scores), batch, terms.init(batch))[0])
    (together,), each = values
    assert np.isfinite(together)
    if name == "ahfda":  # a smooth maximum
        assert np.mean(each) < together <= np.max(each) * (1 + 1e-6)
    else:
        np.testing.assert_allclose(together, np.mean(each), rtol=1e-4)


# ------------------------------------------------------------------------------------ from a table


@functools.cache
def table() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 300))
    noise = rng.normal(size=(3, 300))
    sex = rng.choice(["f", "m"], 300)
    valence = 10 * x[0] + noise[0]
    valence[:40] = np.nan
    return {
        "x0": x[0] + rng.normal(size=300),
        "x1": x[1] + rng.normal(size=300),
        "sex": sex,
        "valence": valence,
        "arousal": x[1] + noise[1] + (sex == "m"),
        "smiles": (x[2] + noise[2] > 0).astype(int),
        "cries": np.where(x[1] - noise[2] > 0, "yes", "no"),
    }


def roles(*tasks: str, **options) -> Roles:
    return Roles(tasks=tasks, sensitive=("sex",), **options)


def test_columns_of_a_table_become_one_task():
    tasks = ("mood: valence, arousal :regression", "signs: smiles, cries :multilabel")
    data = from_table(table(), roles(*tasks, drop=("x1",), regression_loss="ccc"))
    mood, signs = data.spec.tasks
    assert (mood.name, mood.levels, mood.loss) == ("mood", ("valence", "arousal"), "ccc")
    assert signs == Task("signs", "multilabel", ("smiles", "cries"))
    train = data.splits.train
    rows = data.origin["train"].row
    label = mood.in_units(np.where(train.label_mask, train.labels, np.nan)[:, :2])
    expected = np.stack([table()[name][rows] for name in mood.levels], axis=1)
    np.testing.assert_allclose(label, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(train.labels[:, 3], table()["cries"][rows] == "yes")
    np.testing.assert_allclose(mood.mean[0], np.nanmean(expected[:, 0]))
    assert Encoder.from_json(data.encoder.to_json()) == data.encoder
    assert "mood=arousal (regression)" in data.describe()


def test_kinds_of_columns_are_found_and_may_be_given():
    data = from_table(table(), roles("m: valence, arousal", "s: smiles, cries"))
    assert [task.kind for task in data.spec.tasks] == ["regression", "multilabel"]
    data = from_table(table(), roles("m: arousal, smiles", kinds={"m": "regression"}))
    assert data.spec.tasks[0].kind == "regression"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("m: valence, smiles", "columns of kinds that do not go together: 'valence' regression"),
        ("m: valence, valence", "names a column twice"),
        ("m: valence, arousal :multilabel", "is multilabel, but column 'valence' holds"),
        ("m: valence, arousel", "arousel"),
    ],
)
def test_columns_that_are_no_one_task_are_refused(task, message):
    with pytest.raises(DataError, match=message):
        from_table(table(), roles(task))


def test_tasks_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="2 means or deviations for 1 outputs"):
        Task("t", "regression", ("a",), (0.0, 1.0))
    with pytest.raises(ValueError, match="is for regressions, but its kind is binary"):
        Task("t", loss="ccc")
    with pytest.raises(ValueError, match="loss 'huber' is not one of"):
        Task("t", "regression", loss="huber")
    with pytest.raises(DataError, match="regression_loss is 'huber'"):
        roles("valence", regression_loss="huber")


def test_predictions_have_a_column_per_output_in_units():
    scores = np.random.default_rng(5).normal(size=(4, 9)).astype(np.float32)
    columns = prediction_columns(SPEC, scores, (0.0, None, None, None, None))
    for u, name in enumerate(("mood=valence", "mood=arousal")):
        expected = MEANS[u] + DEVIATIONS[u] * scores[:, 7 + u]
        np.testing.assert_allclose(columns[name], expected, rtol=1e-5)
    np.testing.assert_allclose(
        mood().standardised(mood().in_units(scores[:, 7:])), scores[:, 7:], rtol=1e-4, atol=1e-5
    )


def test_scalar_regressions_are_as_they_were():
    age = SPEC.tasks[3]
    scores = np.random.default_rng(6).normal(size=5)
    assert age.in_units(scores).tobytes() == (40.0 + 10.0 * scores).tobytes()
    assert age.columns == (age,) and (age.label_width, age.score_width) == (1, 1)
    loss, _ = row_losses(age, jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.ones((1, 1)))
    assert loss[0] == 1.0
