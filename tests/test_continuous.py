"""Sensitive attributes that are numbers: from the table to the study, against numpy and scipy."""

from __future__ import annotations

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import by_text, double, slope, terms_of

from fairjax import metrics, notions
from fairjax.core.groups import crossed
from fairjax.core.types import Attribute, Columns, DataError, Dataset, Spec, Task
from fairjax.data import Encoder, Part, Roles, from_table, mask_supervision
from fairjax.metrics import gap_metric
from fairjax.notions import (
    differential_fairness,
    everyone,
    from_distance,
    hsic,
    negatives,
    pearson,
    positives,
    rate_gap,
)
from fairjax.objectives import Penalty, fairness_terms
from fairjax.study import from_names, named_study, run_study
from fairjax.training import grid, sweep

AGE, SEX = (
    Attribute("age", (), continuous=True, mean=40.0, deviation=10.0),
    Attribute("sex", ("f", "m")),
)
N = 40
DISTANCES = {"pearson": pearson, "hsic": partial(hsic, bandwidth=0.2, bandwidth_value=1.3)}
each = pytest.mark.parametrize("name", DISTANCES)
COMPILED = {name: jax.jit(jax.value_and_grad(d)) for name, d in DISTANCES.items()}


def rows(seed=0, n=N):
    """Scores that follow the value, the attribute's block, a quarter unknown, and whole weights."""
    rng = np.random.default_rng(seed)
    value, known = rng.normal(size=n), (rng.random(n) < 0.75).astype(float)
    prob = 1 / (1 + np.exp(-value - rng.normal(size=n)))
    return tuple(
        np.asarray(a, np.float32)
        for a in (prob, np.stack([known, value * known], 1), rng.integers(0, 4, n))
    )


def repeated(prob, groups, weight):
    """Scores and values of known rows, each as often as its weight says, in float64."""
    times = (weight * groups[:, 0]).astype(int)
    return np.repeat(prob, times).astype(float), np.repeat(groups[:, 1], times).astype(float)


def brute_pearson(*batch):
    return abs(np.corrcoef(*repeated(*batch))[0, 1])


def brute_hsic(*batch, widths=(0.2, 1.3)):
    """``tr(K H L H) / n^2`` with the centring matrix written out."""
    of_prob, of_value = (
        np.exp(-(((v[:, None] - v) / width) ** 2))
        for v, width in zip(repeated(*batch), widths, strict=True)
    )
    h = np.eye(len(of_prob)) - 1 / len(of_prob)
    return np.trace(of_prob @ h @ of_value @ h) / len(h) ** 2


BRUTE = {"pearson": brute_pearson, "hsic": brute_hsic}


# ---------------------------------------------------------------- distances


@each
@pytest.mark.parametrize("seed", range(3))
def test_values_are_brute_force(name, seed):
    batch = rows(seed)
    np.testing.assert_allclose(COMPILED[name](*batch)[0], BRUTE[name](*batch), rtol=2e-5)


def test_pearson_is_scipys():
    prob, groups, _ = rows(3)
    ours = pearson(prob, groups, np.ones(N, np.float32))
    seen = groups[:, 0] > 0
    np.testing.assert_allclose(
        ours, abs(scipy.stats.pearsonr(prob[seen], groups[seen, 1]).statistic), rtol=1e-5
    )


@each
def test_order_and_scale_of_weights_and_unknown_rows_change_nothing(name):
    prob, groups, weight = rows(4)
    value, gradient = COMPILED[name](prob, groups, weight)
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_allclose(
        COMPILED[name](prob[order], groups[order], 3 * weight[order])[0], value, rtol=1e-5
    )
    out = (weight == 0) | (groups[:, 0] == 0)
    assert 5 < out.sum() < N - 5
    for weights in (
        weight,
        np.where(out, 0, weight),
    ):  # a score that is NaN may stand wherever the weight is 0
        broken = np.where(weights > 0, prob, np.nan).astype(np.float32)
        again, slopes = COMPILED[name](broken, groups, weights.astype(np.float32))
        np.testing.assert_allclose(again, value, rtol=1e-6)
        np.testing.assert_allclose(slopes, gradient, rtol=1e-5, atol=1e-7)
    assert (np.asarray(gradient)[out] == 0).all() and (np.asarray(gradient)[~out] != 0).all()


@each
def test_a_nan_that_counts_is_seen(name):
    prob, groups, weight = rows(5)
    prob[np.flatnonzero(weight * groups[:, 0])[0]] = np.nan
    assert np.isnan(COMPILED[name](prob, groups, weight)[0])


@each
def test_one_row_or_none_is_nothing(name):
    prob, groups, weight = rows(6)
    for left in (0, 1):
        known = np.isin(np.arange(N), np.flatnonzero(weight * groups[:, 0])[:left])
        value, gradient = COMPILED[name](prob, groups * known[:, None].astype(np.float32), weight)
        assert value == 0 and (np.asarray(gradient) == 0).all()


@each
def test_what_does_not_vary_has_no_dependence(name):
    prob, groups, weight = rows(7)
    same = np.stack([groups[:, 0], 0.7 * groups[:, 0]], 1)
    for batch in ((np.full(N, 0.3, np.float32), groups, weight), (prob, same, weight)):
        value, gradient = COMPILED[name](*batch)
        np.testing.assert_allclose(value, 0, atol=1e-7)
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_pearson_knows_no_units():
    prob, groups, weight = rows(8)
    other = np.stack([groups[:, 0], (12 - 5 * groups[:, 1]) * groups[:, 0]], 1)
    (value, slopes), (again, others) = (
        COMPILED["pearson"](prob, g, weight) for g in (groups, other)
    )
    np.testing.assert_allclose(again, value, rtol=1e-5)
    np.testing.assert_allclose(others, slopes, rtol=1e-4, atol=1e-6)


@each
def test_gradients_are_finite_differences(name):
    prob, groups, weight = (a.astype(float) for a in rows(9))
    with double():
        got = COMPILED[name](jnp.asarray(prob), groups, weight)[1]
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(
            got, slope(lambda p: BRUTE[name](p, groups, weight), prob), rtol=1e-5, atol=1e-8
        )


@each
def test_numbers_with_two_values_are_groups(name):
    """HSIC is ``2 (1 - l) (q (1 - q))^2 MMD^2``, Pearson's correlation the correlation ratio."""
    prob, groups, weight = rows(10)
    second = (groups[:, 1] > 0).astype(np.float32)
    member = np.stack([groups[:, 0] * (1 - second), groups[:, 0] * second], 1)
    number = np.stack([groups[:, 0], (0.4 + 1.5 * second) * groups[:, 0]], 1)
    share = (weight * member[:, 1]).sum() / (weight * groups[:, 0]).sum()
    distance, times = {
        "pearson": (notions.correlation_ratio, 1),
        "hsic": (
            partial(notions.mmd, kernel=notions.gaussian_kernel(0.2)),
            2 * (1 - np.exp(-((1.5 / 1.3) ** 2))) * (share * (1 - share)) ** 2,
        ),
    }[name]
    want = times * jax.jit(distance)(prob, member, weight)
    np.testing.assert_allclose(COMPILED[name](prob, number, weight)[0], want, rtol=1e-4)


def test_a_bent_dependence_escapes_pearson_and_not_hsic():
    value = np.linspace(-1, 1, 41).astype(np.float32)
    groups, ones = np.stack([np.ones(41, np.float32), value], 1), np.ones(41, np.float32)
    assert pearson(value**2, groups, ones) < 1e-6
    shuffled = [np.random.default_rng(s).permutation(value**2) for s in range(20)]
    seen, *by_chance = jax.jit(
        jax.vmap(lambda p: hsic(p, groups, ones, bandwidth=0.2, bandwidth_value=0.5))
    )(np.stack([value**2, *shuffled]))
    assert seen > 3 * max(by_chance) > 0


def test_bandwidths_may_be_mapped():
    batch, narrow, wide = rows(11), np.float32([0.1, 0.2, 0.5]), np.float32([0.5, 1.0, 2.0])
    got = jax.jit(jax.vmap(lambda p, v: hsic(*batch, bandwidth=p, bandwidth_value=v)))(narrow, wide)
    np.testing.assert_allclose(
        got, [brute_hsic(*batch, widths=w) for w in zip(narrow, wide, strict=True)], rtol=2e-5
    )


@each
def test_half_precision_is_finite_and_near(name):
    batch = rows(12)
    value, gradient = COMPILED[name](*(jnp.asarray(a, jnp.bfloat16) for a in batch))
    assert np.isfinite(np.asarray(gradient, np.float32)).all()
    np.testing.assert_allclose(value, BRUTE[name](*batch), rtol=0.05)


@each
def test_groups_of_three_levels_are_refused(name):
    with pytest.raises(
        ValueError,
        match=f"{name} is for an attribute that is a number, whose block has 2 columns.* got 3",
    ):
        DISTANCES[name](np.ones(4), np.ones((4, 3)), np.ones(4))


# ---------------------------------------------------------------- objectives


def batch_of(spec, seed=0, n=N):
    """Random rows of a spec; labels NaN and demographics 0 where they are unknown."""
    rng = np.random.default_rng(seed)
    labels = np.stack(
        [
            rng.normal(size=n)
            if t.kind == "regression"
            else rng.integers(0, max(2, len(t.levels)), n)
            for t in spec.tasks
        ],
        1,
    )
    mask = (rng.random(labels.shape) < 0.8).astype(np.float32)
    blocks = [
        np.stack([np.ones(n), rng.normal(size=n)], 1)
        if a.continuous
        else np.eye(a.width)[rng.integers(0, a.width, n)]
        for a in spec.attributes
    ]
    groups = np.concatenate([b * (rng.random(n) < 0.8)[:, None] for b in blocks], 1)
    lean = sum(groups[:, spec.group_slice(i)][:, 1] for i in range(len(spec.attributes)))
    scores = lean[:, None] + rng.normal(size=(n, sum(t.score_width for t in spec.tasks)))
    data = Dataset(
        Columns(np.zeros((n, 0), np.float32), np.zeros((n, 0), np.int32)),
        np.where(mask > 0, labels, np.nan).astype(np.float32),
        mask,
        groups.astype(np.float32),
        rng.integers(0, 3, n).astype(np.float32),
    )
    return scores.astype(np.float32), data


MIXED = Spec(
    (Task("y"), Task("w", "regression"), Task("c", "multiclass", ("a", "b", "d"))), (SEX, AGE)
)


def test_a_notion_looks_at_attributes_of_its_sort():
    scores, data = batch_of(MIXED)
    prob, block = 1 / (1 + np.exp(-scores[:, 0])), data.groups[:, 2:]
    of_number = from_distance(pearson, (negatives, positives), continuous=True)
    both = [from_distance(rate_gap, (everyone,)), of_number]
    age = [data.weight * data.label_mask[:, 0] * (data.labels[:, 0] == y) for y in (0, 1)]
    for reduction, scale in (
        ("mean", lambda w, known: 1.0),
        ("batch", lambda w, known: (w * known).sum() / N),
    ):
        terms = terms_of(MIXED, scores, data, [both, None, None], reduction)
        gap = rate_gap(prob, data.groups[:, :2], data.weight) * scale(
            data.weight, data.groups[:, :2].sum(1)
        )
        of_age = sum(brute_pearson(prob, block, w) * scale(w, block[:, 0]) for w in age)
        np.testing.assert_allclose(terms.fairness[0], gap + of_age, rtol=1e-4)
        assert terms.fairness[1] == 0
    alone = terms_of(MIXED, scores, data, [of_number._replace(attributes=(1,)), None, None], "mean")
    np.testing.assert_allclose(
        alone.fairness[0], sum(brute_pearson(prob, block, w) for w in age), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("attributes", "notion", "message"),
    [
        (
            (SEX, AGE),
            from_distance(pearson, (everyone,), continuous=True, attributes=(0,)),
            "numbers .pearson and hsic.*'sex' is none",
        ),
        (
            (SEX, AGE),
            from_distance(rate_gap, (everyone,), attributes=(1,)),
            "with levels .*but attribute 'age' is none",
        ),
        (
            (AGE,),
            from_distance(rate_gap, (everyone,)),
            "'y' has a notion for attributes with levels.*none among 1 attr.*pearson",
        ),
        (
            (SEX,),
            from_distance(pearson, (everyone,), continuous=True),
            "numbers.*none among 1 attributes. Give one for attributes with",
        ),
    ],
)
def test_a_notion_for_another_sort_is_refused(attributes, notion, message):
    spec = Spec((Task("y"),), attributes)
    with pytest.raises(ValueError, match=message):
        fairness_terms(spec, notion)


def test_what_compares_groups_refuses_numbers():
    scores, data = batch_of(MIXED)
    with pytest.raises(
        ValueError, match="made of levels, but attribute 'age' is a number.*'age > 25'"
    ):
        crossed(MIXED, data.groups, (0, 1))
    for attributes, message in (
        ((1,), "'age' is a number"),
        ((), "no attribute was given"),
    ):
        notion = differential_fairness(attributes=attributes)
        with pytest.raises(ValueError, match=message):
            fairness_terms(MIXED, [Penalty(0, notion)])
    fairness_terms(MIXED, [Penalty(0, differential_fairness())])
    with pytest.raises(DataError, match="made of levels, but no attribute has levels.*age"):
        fairness_terms(Spec((Task("y"),), (AGE,)), differential_fairness())
    table = metrics.group_table(MIXED, scores, data)
    assert set(table.columns["attribute"]) == {"", "sex"}
    assert table.left_out == {
        "age (a number)": pytest.approx(((data.weight > 0) * data.groups[:, 2]).sum())
    }
    assert set(
        metrics.group_table(
            Spec(MIXED.tasks, (AGE,)), scores, data._replace(groups=data.groups[:, 2:])
        ).columns["group"]
    ) == {"overall"}
    with pytest.raises(ValueError, match="'age' is a number"):
        metrics.group_table(MIXED, scores, data, cross=[("sex", "age")])


# ---------------------------------------------------------------- metrics


def correlation(value, block, weight):
    return abs(np.corrcoef(*repeated(value, block, weight))[0, 1])


def test_metrics_are_numpys_and_those_of_groups_are_left_alone():
    scores, data = batch_of(MIXED, 1, 200)
    known = data.weight * data.label_mask[:, 0]
    line = float(metrics.base_rate_threshold(scores[:, 0], known, 0.4))
    thresholds = np.float32([line, np.nan, np.nan])
    with jax.numpy_rank_promotion("raise"):
        got = by_text(jax.jit(metrics.evaluate, static_argnums=0)(MIXED, scores, data, thresholds))
    alone = jax.eval_shape(
        lambda *batch: metrics.evaluate(Spec(MIXED.tasks, (SEX,)), *batch),
        scores,
        data._replace(groups=data.groups[:, :2]),
        thresholds,
    )
    alone = by_text(alone)
    assert alone.keys() == {name for name in got if "age" not in name}
    block, weight = data.groups[:, 2:], data.weight
    decision = (scores[:, 0] >= line).astype(float)
    given = [correlation(decision, block, known * (data.labels[:, 0] == y)) for y in (1, 0)]
    want = {
        "correlation": correlation(decision, block, weight),
        "correlation_given_positive": given[0],
        "correlation_given_negative": given[1],
        "correlation_given_label": max(given),
    }
    for name, value in want.items():
        np.testing.assert_allclose(got[f"{name}[y|age]"], value, rtol=1e-4)
    np.testing.assert_allclose(
        got["correlation[w|age]"], correlation(scores[:, 1], block, weight), rtol=1e-4
    )
    chosen = scores[:, 2:].argmax(1)
    np.testing.assert_allclose(
        got["correlation[c|age]"],
        max(correlation(chosen == c, block, weight) for c in range(3)),
        rtol=1e-4,
    )
    for task in "ywc":
        np.testing.assert_allclose(got[f"count[{task}|age]"], (weight * block[:, 0]).sum())
    assert not [
        name for name in got if "age" in name and "correlation" not in name and "count" not in name
    ]
    assert not [name for name in alone if "correlation" in name]
    means = [np.average(scores[:, 1], weights=weight * data.groups[:, g]) for g in (0, 1)]
    np.testing.assert_allclose(
        got["mean_prediction_signed_gap[w|sex]"], means[1] - means[0], rtol=1e-4
    )


def test_constant_decisions_have_no_correlation_and_constant_numbers_none_to_measure():
    _, groups, weight = rows(13)
    decision = (np.arange(N) % 3 == 0).astype(np.float32)
    measured = jax.jit(metrics.attribute_correlation)
    assert measured(0 * decision, groups, weight) == 0
    assert np.isnan(measured(decision, groups * np.float32([1, 0]), weight))
    assert np.isnan(measured(decision, groups, 0 * weight))
    assert np.isnan(
        measured(
            np.where(np.arange(N) == np.argmax(weight * groups[:, 0]), np.nan, decision),
            groups,
            weight,
        )
    )


# ---------------------------------------------------------------- the door


def people(n=300, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, n).astype(float)
    sex = rng.choice(["f", "m"], n)
    skill, luck = (age - 45) / 15 + 0.5 * rng.normal(size=n), rng.normal(size=n)
    return {
        "skill": skill,
        "luck": luck,
        "sex": sex,
        "age": np.where(rng.random(n) < 0.1, np.nan, age),
        "hired": (skill + luck + 0.3 * rng.normal(size=n) > 0).astype(int),
    }


def test_the_door_standardises_on_training_rows_and_keeps_the_unknown():
    columns = people()
    columns["split"] = np.array(["train", "test", "train"] * 100)
    data = from_table(
        columns,
        Roles(tasks="hired", sensitive=("age :number", "sex"), split="split"),
        fractions=(1, 0, 0),
    )
    age = columns["age"][columns["split"] == "train"]
    attribute = data.spec.attributes[0]
    assert attribute == Attribute(
        "age", (), True, pytest.approx(np.nanmean(age)), pytest.approx(np.nanstd(age, ddof=1))
    )
    assert data.spec.group_names == ("age known", "age value", "sex=f", "sex=m")
    assert "age" not in data.spec.numeric
    for part, name in ((data.splits.train, "train"), (data.splits.test, "test")):
        age = columns["age"][columns["split"] == name]
        block = part.groups[:, data.spec.group_slice(0)]
        np.testing.assert_array_equal(block[:, 0], ~np.isnan(age))
        value = attribute.mean + attribute.deviation * block[block[:, 0] > 0, 1]
        np.testing.assert_allclose(value, age[~np.isnan(age)], rtol=1e-5)
        assert (block[np.isnan(age)] == 0).all() and np.isnan(age).any()
    line = next(row for row in data.describe().splitlines() if row.startswith("age (number)"))
    assert f"{np.isfinite(age).sum()} ({np.nanmean(age):.4f})" in line
    # the encoder can be read back, and gives new rows the units of the training rows; without the
    # column no age is known
    again = Encoder.from_json(data.encoder.to_json())
    assert again == data.encoder
    new = again.encode(
        {"skill": [0.0, 1], "luck": [0.0, 1], "age": ["", attribute.mean], "sex": ["f", "m"]}
    ).groups
    np.testing.assert_allclose(new, [[0, 0, 1, 0], [1, 0, 0, 1]], atol=1e-5)
    assert not again.encode({"skill": [0.0], "luck": [1.0]}).groups.any()


def test_numbers_beside_rules_on_the_same_column_and_as_features():
    roles = Roles(
        tasks="hired",
        sensitive=("years: age :number", "age > 40"),
        use_sensitive=True,
        missing="impute",
    )
    spec = from_table(people(), roles).spec
    assert [(a.name, a.continuous) for a in spec.attributes] == [
        ("years", True),
        ("age > 40", False),
    ] and "age" in spec.numeric


def test_knowledge_of_a_number_may_be_dealt():
    data = from_table(people(), Roles(tasks="hired", sensitive=("sex", "age :number")))
    train = mask_supervision(
        data.splits, data.spec, [Part(("hired",), ("sex",)), Part((), ("age",))]
    ).train
    number = train.groups[:, 2] > 0
    assert (
        number.any() and not train.groups[number, :2].any() and not train.groups[~number, 3].any()
    )


def test_a_column_called_number_may_be_named():
    data = from_table(
        people() | {"number": np.arange(300) % 3},
        Roles(tasks="score: number", sensitive="sex", drop="age"),
    )
    assert data.spec.tasks[0].name == "score" and data.spec.tasks[0].kind == "regression"


SPLIT = {"split": np.array(["train"] * 150 + ["validation"] * 50 + ["test"] * 100)}
BAD = {
    "text": (
        {"age": ["old"] * 300},
        "age :number",
        r"column 'age': 300 of 300 cells are not numbers.*':number'",
    ),
    "infinite": (
        {"age": [np.inf, *range(299)]},
        "age :number",
        r"'age': 1 of 300 cells are not finite, row 0 .'inf'",
    ),
    "a rule": ({}, "age > 30 :number", r"'age > 30 :number' on 300 rows makes groups, no number"),
    "constant": (
        {"age": [30.0] * 300},
        "age :number",
        r"'age' has 1 value in 150 known training rows",
    ),
    "unknown in training": (
        {"age": [np.nan] * 150 + [*range(150)]},
        "age :number",
        "'age' has 0 value in 0 known training",
    ),
    "unknown in test": (
        {"age": [*range(200)] + [np.nan] * 100},
        "age :number",
        "number 'age' is known in 0 of the 100 test",
    ),
    "too many levels": (
        {},
        "age",
        r"'age' has .* different values in 300 rows.*'age > 25'.*'age :number'",
    ),
    "a task": ({"age": list(range(300))}, "hired :number", "'hired' is sensitive and also a task"),
}


@pytest.mark.parametrize("why", BAD)
def test_the_door_says_what_is_wrong(why):
    columns, rule, message = BAD[why]
    with pytest.raises(DataError, match=message):
        from_table(
            people() | SPLIT | columns, Roles(tasks="hired", sensitive=(rule,), split="split")
        )


def test_a_task_cannot_be_a_sensitive_number():
    with pytest.raises(DataError, match="task 'hired' on 300 rows: kind 'number' is not possible"):
        from_table(people(), Roles(tasks="hired :number", sensitive="sex"))


# ---------------------------------------------------------------- studies


def test_the_gap_of_a_condition_is_each_sorts_own():
    for condition, kind, continuous, want in (
        ("tpr", "binary", False, "true_positive_rate_difference"),
        ("tpr", "regression", False, "mean_prediction_difference"),
        ("tpr", "binary", True, "correlation_given_positive"),
        ("tpr", "regression", True, "correlation"),
        ("parity", "binary", True, "correlation"),
    ):
        assert gap_metric(condition, kind, continuous) == want


@pytest.mark.slow
def test_a_study_of_a_number_beside_groups():
    data = from_table(people(600), Roles(tasks="hired", sensitive=("age :number", "sex")))
    names = named_study(
        methods=("baseline",),
        runs=4,
        reference_seeds=2,
        epochs=12,
        batch_size=120,
        trunk=(8,),
        head=(4,),
        condition="parity",
        lam_max=20.0,
    )
    results = run_study(data, study=from_names(data, names))
    table = results.table
    info = results.info
    assert info["gap"] == "gap"
    assert info["attributes"] == ["age", "sex"]
    assert not table["diverged"].any()
    assert json.dumps(info)
    single = table["method"] == "single_task"
    for split in ("validation", "test"):
        age, sex = (
            table[f"{split}.{name}"]
            for name in ("correlation[hired|age]", "demographic_parity_difference[hired|sex]")
        )
        np.testing.assert_array_equal(table[f"{split}.gap[hired|age]"], age)
        np.testing.assert_array_equal(table[f"{split}.gap[hired|sex]"], sex)
        worst = np.maximum(age, sex)
        np.testing.assert_allclose(table[f"{split}.arfg"], worst / worst[single].mean(), rtol=1e-5)
    lam = table["hparam.lam[hired]"][~single]
    assert lam.max() > 4  # where it counts, training takes most of the dependence away
    assert age[~single][lam.argmax()] < 0.4 * age[single].mean() and age[single].min() > 0.4


def test_training_by_hsic_lowers_the_correlation_as_lam_grows():
    data = from_table(people(600), Roles(tasks="hired", sensitive=("age :number",)))
    names = named_study(
        methods=("baseline",),
        notion="mmd",
        condition="parity",
        trunk=(8,),
        head=(4,),
        epochs=15,
        batch_size=120,
    )
    made = from_names(data, names).recipes["baseline"]

    def evaluate(scores, splits):
        return {
            "correlation": metrics.attribute_correlation(
                scores["test"][:, 0], splits.test.groups, splits.test.weight
            )
        }

    runs = sweep(
        made,
        names.config.train_config,
        grid(made.space, {"lam": np.float32([[0], [2], [40]])}),
        [0],
        data.splits,
        evaluate,
    )
    seen = runs.metrics["correlation"]
    assert seen[0] > 0.4 and seen[2] < 0.5 * seen[0] and seen[2] < seen[1] < seen[0], seen
