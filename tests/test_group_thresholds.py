"""Thresholds per group: brute force over all thresholds in double precision, fairlearn's
randomised ones, and a study that repairs by them."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from sklearn.base import BaseEstimator

from fairjax.core.types import Attribute, DataError, Post, Spec, Task
from fairjax.data import Roles, from_table
from fairjax.notions import CONDITIONS
from fairjax.postprocess import (
    REGISTRY,
    barycenter,
    compose,
    cross_fitted,
    group_thresholds,
    on_scores,
)
from fairjax.study import (
    StudyConfig,
    from_names,
    load_model,
    make_study,
    model_of_run,
    named_study,
    run_study,
)

AMOUNTS = (0.25, 0.5, 0.75, 1.0)
STEPS = {"parity": 1 / 200, "tpr": 1 / 200, "fpr": 1 / 200, "odds": 1 / 50}
every = pytest.mark.parametrize("condition", STEPS)
one_and_two = pytest.mark.parametrize("condition", ["tpr", "odds"])  # conditions


def pool(seed: int, sizes: tuple[int, ...], weighted: bool = False, ties: bool = False):
    """Scores, codes of groups, labels and weights of one task."""
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(len(sizes)), sizes)
    rows = len(code)
    label = rng.integers(0, 2, rows)
    score = rng.normal(size=rows) + 1.5 * label - 1.2 + 1.3 * code
    if ties:
        score = np.round(2 * score) / 2
    weight = rng.choice([0.5, 1.0, 2.0], rows) if weighted else np.ones(rows)
    return np.float32(score), code, np.float32(label), np.float32(weight)


def repaired(post: Post, rows, amounts=AMOUNTS, groups: int | None = None) -> np.ndarray:
    """Scores ``[A, N]`` of the pool's own rows."""
    score, code, label, weight = rows
    membership = np.eye(groups or code.max() + 1, dtype=np.float32)[code]

    @jax.jit
    def after(score, label, weight):
        mask = jnp.ones_like(label)
        state = post.fit(score[:, None], membership, weight, label[:, None], mask[:, None])
        at = jax.vmap(lambda amount: post.apply(state, score[:, None], membership, amount=amount))
        return at(jnp.asarray(amounts))[..., 0]

    return np.asarray(after(score, label, weight))


def chosen_rows(condition: str, label: np.ndarray) -> list[np.ndarray]:
    """Which rows the rates of a condition look at, written without the library."""
    everyone = np.ones(len(label), bool)
    return {
        "parity": [everyone],
        "tpr": [label == 1],
        "fpr": [label == 0],
        "odds": [label == 0, label == 1],
    }[condition]


def measured(condition: str, decision: np.ndarray, rows) -> tuple[float, float]:
    """Error and gap of decisions ``[N]`` in double precision."""
    _, code, label, weight = rows
    weight = weight.astype(float)
    error = np.average(decision != label, weights=weight)
    gaps = [0.0]
    for inside in chosen_rows(condition, label):
        rates = []
        for g in range(code.max() + 1):
            mine = inside & (code == g)
            rates.append(np.average(decision[mine], weights=weight[mine]))
        gaps.append(max(rates) - min(rates))
    return error, max(gaps)


def all_thresholds(condition: str, rows) -> np.ndarray:
    """Error and gap ``[combinations, 2]`` of every combination of one threshold per group."""
    score, code, _, _ = rows
    cuts = []
    for g in range(code.max() + 1):
        cuts.append([*np.unique(score[code == g]), np.inf])
    found = []
    for thresholds in itertools.product(*cuts):
        decision = score >= np.array(thresholds)[code]
        found.append(measured(condition, decision, rows))
    return np.array(found)


def largest_rows(condition: str, rows) -> float:
    """Half the largest row's share in each of two groups, added."""
    _, code, label, weight = rows
    largest = []
    for inside in chosen_rows(condition, label):
        shares = []
        for g in range(code.max() + 1):
            mine = weight[inside & (code == g)]
            shares.append(mine.max() / mine.sum())
        largest.append(sum(sorted(shares)[-2:]) / 2)
    return max(largest)


@every
@pytest.mark.parametrize(
    ("seed", "sizes", "weighted", "ties"),
    [(0, (14, 20), False, False), (0, (14, 20), True, True), (1, (9, 11, 10), True, False)],
)
def test_no_thresholds_within_the_tolerance_err_less(condition, seed, sizes, weighted, ties):
    rows = pool(seed, sizes, weighted, ties)
    score, _, _, _ = rows
    found = all_thresholds(condition, rows)
    _, gap = measured(condition, score >= 0, rows)
    assert gap > 0.15
    resolution = STEPS[condition] + largest_rows(condition, rows)
    post = group_thresholds(CONDITIONS[condition], minimum=1)
    for amount, after in zip(AMOUNTS, repaired(post, rows), strict=True):
        error, reached = measured(condition, after >= 0, rows)
        tolerance = (1 - amount) * gap
        assert reached <= tolerance + resolution + 1e-6
        within = found[found[:, 1] <= tolerance + 1e-9, 0].min()
        nearly_within = found[found[:, 1] <= tolerance + resolution + 1e-6, 0].min()
        assert nearly_within - 1e-6 <= error <= within + 1e-6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_a_condition_every_group_errs_least(seed):
    rows = pool(seed, (14, 20), weighted=True)
    (after,) = repaired(group_thresholds((), minimum=1), rows, amounts=(0.3,))
    error, _ = measured("tpr", after >= 0, rows)
    assert error == pytest.approx(all_thresholds("tpr", rows)[:, 0].min(), abs=1e-6)


@every
def test_the_gap_falls_with_the_amount(condition):
    rows = pool(3, (700, 500, 300))
    post = group_thresholds(CONDITIONS[condition])
    amounts = np.linspace(0, 1, 11)
    after = repaired(post, rows, amounts)
    np.testing.assert_array_equal(after[0], rows[0])
    gaps = [measured(condition, scores >= 0, rows)[1] for scores in after]
    resolution = STEPS[condition] + largest_rows(condition, rows)
    assert np.all(np.diff(gaps) <= resolution)
    assert np.all(gaps <= (1 - amounts) * gaps[0] + resolution)
    assert gaps[0] > 0.25 and gaps[-1] <= resolution


class Given(BaseEstimator):
    """A classifier whose probabilities are a column of its rows."""

    def fit(self, x, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, x):
        return np.asarray(x)[:, 0]


CONSTRAINTS = {
    "parity": "demographic_parity",
    "tpr": "true_positive_rate_parity",
    "fpr": "false_positive_rate_parity",
}


@pytest.mark.parametrize("condition", CONSTRAINTS)
def test_errors_are_those_of_fairlearn_but_for_its_draws(condition):
    rows = pool(5, (900, 700))
    score, code, label, _ = rows
    optimizer = ThresholdOptimizer(
        estimator=Given(),
        constraints=CONSTRAINTS[condition],
        objective="accuracy_score",
        prefit=True,
        predict_method="predict",
        grid_size=2000,
    )
    prob = 1 / (1 + np.exp(-score.astype(float)))[:, None]
    optimizer.fit(prob, label, sensitive_features=code)
    drawn = optimizer._pmf_predict(prob, sensitive_features=code)[:, 1]
    expected = np.mean(np.abs(drawn - label))
    (after,) = repaired(group_thresholds(CONDITIONS[condition]), rows, amounts=(1.0,))
    error, _ = measured(condition, after >= 0, rows)
    before, _ = measured(condition, score >= 0, rows)
    # between two neighbouring cuts of the convex hull decisions are drawn: a few rows of 1,600
    assert expected - 0.004 <= error <= expected + 0.004
    assert abs(before - expected) > 0.01


@pytest.mark.parametrize("condition", ["parity", "tpr"])
def test_masked_labels_and_rows_of_weight_0_may_be_nan(condition):
    score, code, label, weight = pool(6, (200, 150))
    known = np.arange(350) % 5 > 0
    counts = np.arange(350) % 7 > 0
    membership = np.eye(2, dtype=np.float32)[code]
    post = group_thresholds(CONDITIONS[condition])

    def fitted(score, label, mask, weight, membership=membership):
        columns = (label[:, None], np.float32(mask)[:, None])
        return jax.jit(post.fit)(score[:, None], membership, np.float32(weight), *columns)

    holes = fitted(
        np.where(counts, score, np.nan), np.where(known, label, np.nan), known, weight * counts
    )
    for leaf in jax.tree.leaves(holes):
        assert np.isfinite(leaf).all()
    if condition == "parity":  # rates are of all rows, labelled or not
        shifted = fitted(np.where(known, score, score + 9), label, known, weight * counts)
        assert np.abs(shifted.gap - holes.gap) > 0.03
        return
    kept = known & counts
    without = fitted(score[kept], label[kept], kept[kept], weight[kept], membership[kept])
    for field in ("rate", "error", "row", "share", "gap"):
        actual, expected = getattr(holes, field), getattr(without, field)
        np.testing.assert_allclose(actual, expected, atol=1e-6)


@one_and_two
def test_integer_weights_are_repeated_rows(condition):
    score, code, label, _ = pool(7, (60, 50))
    weight = np.random.default_rng(0).integers(1, 4, 110)
    fit = jax.jit(group_thresholds(CONDITIONS[condition]).fit)

    def fitted(score, code, label, weight):
        membership = np.eye(2, dtype=np.float32)[code]
        ones = np.ones((len(score), 1), np.float32)
        return fit(score[:, None], membership, np.float32(weight), label[:, None], ones)

    weighted = fitted(score, code, label, weight)
    repeats = [np.repeat(column, weight) for column in (score, code, label)]
    repeated = fitted(*repeats, np.ones(weight.sum()))
    for field in ("rate", "error", "threshold", "share", "gap"):
        actual, expected = getattr(weighted, field), getattr(repeated, field)
        np.testing.assert_allclose(actual, expected, atol=1e-6)


@one_and_two
def test_small_absent_and_unknown_groups_have_the_threshold_of_all_rows(condition):
    score, code, label, weight = pool(8, (400, 300, 6))
    membership = np.eye(4, dtype=np.float32)[code]  # nobody is of the last
    post = group_thresholds(CONDITIONS[condition])
    columns = (label[:, None], np.ones((706, 1), np.float32))
    state = jax.jit(post.fit)(score[:, None], membership, weight, *columns)
    assert np.array_equal(np.asarray(state.share[0] > 0), [True, True, False, False, True])
    new = np.zeros((5, 1), np.float32)
    rows = np.concatenate([np.eye(4), np.zeros((1, 4))]).astype(np.float32)
    after = np.asarray(jax.jit(post.apply)(state, new, rows))[:, 0]
    assert after[0] != after[1]
    np.testing.assert_array_equal(after[2:], np.full(3, after[4]))
    # the rates of the small group's threshold, over all rows, are those of the groups
    decisions = score >= -after[4]
    for inside in chosen_rows(condition, label):
        rate = decisions[inside].mean()
        own = [(score >= -after[g])[inside & (code == g)].mean() for g in (0, 1)]
        slack = STEPS[condition] + 0.01
        assert min(own) - slack <= rate <= max(own) + slack


@pytest.mark.parametrize("conditions", [*CONDITIONS.values(), ()])
def test_pools_of_one_row(conditions):
    post = group_thresholds(conditions, minimum=1)
    fit = jax.jit(post.fit)
    apply = jax.jit(post.apply)
    groups = np.float32([[1, 0]])
    one = np.ones((1, 1), np.float32)
    for label, score in itertools.product((0.0, 1.0), (-0.7, 0.3)):
        scores = score * one
        after = apply(fit(scores, groups, one[0], label * one, one), scores, groups)
        assert np.isfinite(after).all()
        assert (after[0, 0] >= 0) == bool(label)
        # no label at all: nothing is known to be better
        blind = fit(scores, groups, one[0], np.nan * one, 0 * one)
        np.testing.assert_array_equal(apply(blind, scores, groups), scores)


@one_and_two
def test_mapped_and_compiled_as_in_a_loop(condition):
    post = group_thresholds(CONDITIONS[condition])
    score, code, label, weight = pool(9, (150, 120))
    membership = np.eye(2, dtype=np.float32)[code]
    models = np.stack([score, -score, score[::-1]])[..., None]
    columns = (label[:, None], np.ones((270, 1), np.float32))
    amounts = jnp.array([0.4, 1.0])

    @jax.jit
    def after(scores, amount, weight):
        state = post.fit(scores, membership, weight, *columns)
        return post.apply(state, scores, membership, amount=amount)

    over_models = jax.vmap(jax.vmap(after, (None, 0, None)), (0, None, None))
    mapped = jax.jit(over_models)(models, amounts, weight)
    for m, a in itertools.product(range(3), range(2)):
        np.testing.assert_allclose(mapped[m, a], after(models[m], amounts[a], weight), atol=1e-6)
    fold = np.arange(270) % 3

    @jax.jit
    def by_folds(scores):
        return cross_fitted(post, scores, membership, weight, fold, 3, columns, amount=1.0)

    crossed = np.asarray(by_folds(models[0]))
    for k in range(3):
        alone = after(models[0], 1.0, weight * (fold != k))
        np.testing.assert_allclose(crossed[fold == k], alone[fold == k], atol=1e-6)


def test_a_state_does_not_grow_with_the_rows():
    post = group_thresholds(CONDITIONS["odds"], points=64)

    def size(rows: int) -> int:
        shapes = [(rows, 2), (rows, 50), (rows,), (rows, 2), (rows, 2)]
        given = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
        state = jax.eval_shape(post.fit, *given)
        return sum(leaf.size for leaf in jax.tree.leaves(state))

    assert size(100) == size(10_000) < 2 * 51 * 64 * 5


# ------------------------------------------------------------------------------- scores of a model

SPEC = Spec(
    (
        Task("pay", "regression"),
        Task("hired"),
        Task("job", "multiclass", ("a", "b", "c")),
        Task("signs", "multilabel", ("smiles", "cries")),
    ),
    (Attribute("sex", ("f", "m")), Attribute("race", ("a", "b"))),
)


@pytest.mark.parametrize("name", sorted(name for name in REGISTRY if name.endswith("_thresholds")))
def test_tasks_that_decide_are_treated_and_others_left(name):
    rng = np.random.default_rng(0)
    scores = np.float32(rng.normal(size=(600, 7)))
    labels = np.float32(rng.integers(0, 2, (600, 5)))
    sex, race = rng.integers(0, 2, (2, 600))
    scores[:, [1, 5, 6]] += np.float32(labels[:, [1, 3, 4]] + (sex + race)[:, None])
    groups = np.concatenate([np.eye(2)[sex], np.eye(2)[race]], axis=1).astype(np.float32)
    post = REGISTRY[name](SPEC)
    assert post.name == name and post.labelled
    weight = np.ones(600, np.float32)
    state = jax.jit(post.fit)(scores, groups, weight, labels, np.ones_like(labels))
    after = np.asarray(jax.jit(post.apply)(state, scores, groups))
    np.testing.assert_array_equal(after[:, [0, 2, 3, 4]], scores[:, [0, 2, 3, 4]])
    moved = scores - after
    for column, label in ((1, 1), (5, 3), (6, 4)):
        for cell in range(4):
            inside = 2 * sex + race == cell
            assert np.ptp(moved[inside, column]) < 1e-5
        condition = name.removesuffix("_thresholds")
        if condition in STEPS:
            rows = (scores[:, column], 2 * sex + race, labels[:, label], weight)
            before = measured(condition, scores[:, column] >= 0, rows)[1]
            reached = measured(condition, after[:, column] >= 0, rows)[1]
            assert reached < 0.06 < 0.15 < before


def test_what_cannot_be_treated_is_refused():
    spec = Spec((Task("pay", "regression"), Task("job", "multiclass", ("a", "b"))), SPEC.attributes)
    with pytest.raises(DataError, match="none of 2 tasks decides.*pay is regression.*barycenter"):
        REGISTRY["tpr_thresholds"](spec)
    with pytest.raises(ValueError, match="3 conditions; give at most 2"):
        group_thresholds([*CONDITIONS["odds"], *CONDITIONS["parity"]])
    with pytest.raises(ValueError, match="decides at score 0"):
        on_scores(group_thresholds(CONDITIONS["tpr"]), SPEC)


def test_thresholds_behind_a_barycenter():
    score, code, label, weight = pool(4, (300, 200))
    membership = np.eye(2, dtype=np.float32)[code]
    post = compose(barycenter(), group_thresholds(CONDITIONS["tpr"]))
    assert post.labelled
    columns = (label[:, None], np.ones((500, 1), np.float32))
    state = jax.jit(post.fit)(score[:, None], membership, weight, *columns)
    after = np.asarray(jax.jit(post.apply)(state, score[:, None], membership))[:, 0]
    assert measured("tpr", after >= 0, (score, code, label, weight))[1] < 0.02


# ---------------------------------------------------------------------------------------- a study


def people():
    rng = np.random.default_rng(0)
    sex = rng.choice(["f", "m"], 1500)
    skill = rng.normal(size=1500) + (sex == "m")
    columns = {
        "skill": skill,
        "sex": sex,
        "hired": (skill + rng.normal(size=1500) > 0.5).astype(int),
    }
    return from_table(columns, Roles(tasks=("hired",), sensitive=("sex",)))


NAMES = {
    "methods": ("vanilla",),
    "runs": 2,
    "reference_seeds": 1,
    "epochs": 2,
    "trunk": (4,),
    "head": (3,),
    "condition": "tpr",
    "repairs": ("tpr_thresholds",),
    "amounts": (0.0, 0.5, 1.0),
}


@pytest.mark.parametrize("decision", ["least_error", "base_rate", "transductive"])
def test_a_rule_beside_chosen_thresholds_is_refused(decision):
    words = f"--decision {decision} beside 1 repairs .*tpr_thresholds.*--decision half"
    spec = Spec((Task("hired"),), SPEC.attributes)
    with pytest.raises(DataError, match=words):
        from_names(spec, named_study(**NAMES, decision=decision))
    with pytest.raises(DataError, match=words):
        make_study(
            spec,
            [],
            model=from_names(spec, named_study(**NAMES)).names.build_model,
            repairs=[REGISTRY["tpr_thresholds"]],
            config=StudyConfig(decision=decision),
        )
    # without amounts nothing is repaired
    from_names(spec, named_study(**{**NAMES, "amounts": ()}, decision=decision))


def test_a_study_and_its_saved_model(tmp_path):
    data = people()
    results = run_study(data, study=from_names(data, named_study(**NAMES)))
    table = results.table
    after = table["method"] == "vanilla+tpr_thresholds"
    plain = table["method"] == "vanilla"
    gap = "validation.true_positive_rate_difference[hired|sex]"
    gaps = table[gap][after].reshape(2, 3)
    np.testing.assert_allclose(gaps[:, 0], table[gap][plain], atol=1e-5)
    assert np.all(gaps[:, 0] > 0.2) and np.all(gaps[:, 2] < 0.5 * gaps[:, 0])
    run = int(np.flatnonzero(after)[2])
    model, scores = model_of_run(data, results, run)
    assert float(model.metrics[next(key for key in model.metrics if str(key) == gap)]) == (
        pytest.approx(gaps[0, 2], abs=1e-4)
    )
    model.save(tmp_path)
    rows = {"skill": [0.4, 0.4, 0.4], "sex": ["f", "m", ""]}
    expected = model.predict(rows)
    loaded = load_model(tmp_path).predict(rows)
    np.testing.assert_array_equal(loaded["hired"], expected["hired"])
    assert loaded["hired"][0] > loaded["hired"][2] > loaded["hired"][1]
