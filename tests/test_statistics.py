"""Statistics and gaps: fairlearn and scikit-learn on decisions, float64 loops, and laws."""

from __future__ import annotations

import functools
from functools import partial

import fairlearn.metrics as fairlearn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk
from cases import double

from fairjax import notions
from fairjax.core.types import KINDS
from fairjax.notions import gaps, statistics

N, ONES = 48, np.ones(48, np.float32)
SOFT_AUC = statistics.pairwise_auc()
STATISTICS = {
    s.name: s
    for s in (
        statistics.selection_rate,
        statistics.rejection_rate,
        statistics.precision,
        statistics.false_omission_rate,
        statistics.accuracy,
        statistics.zero_one_loss,
        statistics.f_score,
        statistics.treatment,
        statistics.calibration_in_the_large,
        statistics.log_loss,
        statistics.calibration_error(),
        SOFT_AUC,
        statistics.mean_prediction,
        statistics.mean_residual,
        statistics.squared_loss,
        statistics.absolute_loss,
        statistics.correlation,
        statistics.concordance,
    )
}
GAPS = {
    "difference": gaps.difference,
    "ratio_gap": gaps.ratio_gap,
    "to_overall": gaps.to_overall,
    "norm": partial(gaps.norm, order=2.0),
    "log_sum_exp": partial(gaps.log_sum_exp, temperature=0.1),
}
every = pytest.mark.parametrize("name", STATISTICS)


def rows(seed, groups=3, hard=False, numbers=False):
    rng = np.random.default_rng(seed)
    prob = rng.uniform(0.02, 0.98, N)
    label = rng.normal(size=N) if numbers else (rng.random(N) < 0.3 + 0.4 * prob).astype(float)
    prob = (
        rng.normal(size=N) + 0.5 * label
        if numbers
        else (prob > 0.5).astype(float)
        if hard
        else prob
    )
    member = np.eye(groups)[rng.permutation(np.arange(N) % groups)]
    return tuple(np.asarray(a, np.float32) for a in (prob, label, member, rng.uniform(0.2, 2.0, N)))


def for_kind(name, seed=0, **how):
    return rows(seed, numbers=STATISTICS[name].kinds == statistics.REGRESSIONS, **how)


THEIRS = {
    "selection_rate": fairlearn.selection_rate,
    "precision": sk.precision_score,
    "accuracy": sk.accuracy_score,
    "zero_one_loss": sk.zero_one_loss,
    "f_score": sk.f1_score,
    "mean_prediction": fairlearn.mean_prediction,
    "squared_loss": sk.mean_squared_error,
    "absolute_loss": sk.mean_absolute_error,
}
AMONG = {
    "true_positive_rate": (statistics.selection_rate, notions.positives),
    "true_negative_rate": (statistics.rejection_rate, notions.negatives),
    "false_negative_rate": (statistics.rejection_rate, notions.positives),
    "false_positive_rate": (statistics.selection_rate, notions.negatives),
}


@pytest.mark.parametrize("name", [*THEIRS, *AMONG])
@pytest.mark.parametrize("groups", [2, 4])
def test_decisions_have_fairlearns_numbers(name, groups):
    statistic, condition = AMONG.get(name) or (STATISTICS[name], notions.known)
    theirs = getattr(fairlearn, name) if name in AMONG else THEIRS[name]
    d, y, member, w = rows(
        groups, groups, hard=True, numbers=statistic.kinds == statistics.REGRESSIONS
    )
    frame = fairlearn.MetricFrame(
        metrics=theirs,
        y_true=y,
        y_pred=d,
        sensitive_features=member.argmax(1),
        sample_params={"sample_weight": w},
    )
    chosen = w * condition(y, ONES)
    value, mass = statistic.of(d, y, member, chosen)
    np.testing.assert_allclose(value, frame.by_group, rtol=1e-5, atol=1e-6)
    overall = statistic.of(d, y, np.ones((N, 1), np.float32), chosen)[0][0]
    np.testing.assert_allclose(overall, frame.overall, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        notions.parity(d, member, chosen, y, statistic=statistic, gap=gaps.difference),
        frame.difference(),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        gaps.to_overall(value, mass, overall), frame.difference(method="to_overall"), atol=1e-6
    )
    if statistic.kinds != statistics.REGRESSIONS:
        np.testing.assert_allclose(
            1 - gaps.ratio_gap(value, mass, overall), frame.ratio(), atol=1e-6
        )
        np.testing.assert_allclose(gaps.worst(value, mass), frame.group_max(), atol=1e-6)


def loop(name, p, y, w):
    """A statistic of one group, in float64, row by row where it is not a library's."""
    some = w > 0
    p, y, w = (np.asarray(a, float)[some] for a in (p, y, w))
    fractions = {
        "selection_rate": (p, 1),
        "rejection_rate": (1 - p, 1),
        "precision": (p * y, p),
        "mean_prediction": (p, 1),
        "false_omission_rate": ((1 - p) * y, 1 - p),
        "accuracy": (1 - abs(p - y), 1),
        "zero_one_loss": (abs(p - y), 1),
        "f_score": (2 * p * y, p + y),
        "treatment": ((1 - p) * y, p * (1 - y)),
        "mean_residual": (p - y, 1),
        "calibration_in_the_large": (p - y, 1),
        "squared_loss": ((p - y) ** 2, 1),
        "absolute_loss": (abs(p - y), 1),
    }
    if name in fractions:
        above, below = fractions[name]
        return (w * above).sum() / (w * below).sum()
    if name == "log_loss":
        return sk.log_loss(y, p, sample_weight=w, labels=[0, 1])
    if name == "calibration_error":
        return (
            sum(abs((w * (p - y))[(p >= b / 10) & (p < (b + 1) / 10)].sum()) for b in range(10))
            / w.sum()
        )
    if name == "auc":
        pairs = [
            (w[i] * w[j], 1 / (1 + np.exp(-(p[i] - p[j]) / 0.05)))
            for i in range(len(p))
            for j in range(len(p))
            if y[i] and not y[j]
        ]
        return np.average([v for _, v in pairs], weights=[v for v, _ in pairs])
    cov = np.cov(p, y, aweights=w, ddof=0)
    if name == "correlation":
        return cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
    return (
        2
        * cov[0, 1]
        / (cov[0, 0] + cov[1, 1] + (np.average(p, weights=w) - np.average(y, weights=w)) ** 2)
    )


@every
def test_probabilities_are_a_loop_over_rows(name):
    p, y, member, w = for_kind(name, 3)
    want = [loop(name, p, y, w * member[:, g]) for g in range(3)]
    np.testing.assert_allclose(STATISTICS[name].of(p, y, member, w)[0], want, rtol=2e-5, atol=1e-6)


def test_soft_auc_goes_to_the_hard_one():
    p, y, member, w = rows(4)
    value, _ = statistics.pairwise_auc(1e-5).of(p, y, member, w)
    for g in range(3):
        m = member[:, g] > 0
        np.testing.assert_allclose(
            value[g], sk.roc_auc_score(y[m], p[m], sample_weight=w[m]), rtol=1e-5
        )


@every
def test_what_stands_under_a_mask_is_not_looked_at(name):
    statistic = STATISTICS[name]
    p, y, member, w = for_kind(name, 5)
    w[:6], broken, lost = 0, p.copy(), y.copy()
    broken[:6], lost[:6] = np.nan, np.nan
    with_nan, slopes = jax.value_and_grad(lambda q: statistic.of(q, lost, member, w)[0].sum())(
        broken
    )
    np.testing.assert_allclose(
        with_nan, statistic.of(p[6:], y[6:], member[6:], w[6:])[0].sum(), rtol=1e-4
    )
    assert np.isfinite(slopes).all() and (slopes[:6] == 0).all()
    if not statistic.labelled:
        np.testing.assert_array_equal(
            statistic.of(p, np.full(N, np.nan), member, w)[0], statistic.of(p, y, member, w)[0]
        )


@functools.lru_cache
def parities(name):
    """Value and gradient of a statistic under every gap, compiled once per shape."""
    distances = {
        gap: partial(notions.parity, statistic=STATISTICS[name], gap=of) for gap, of in GAPS.items()
    }
    return jax.jit(
        lambda *batch: {gap: jax.value_and_grad(d)(*batch) for gap, d in distances.items()}
    )


def padded(p, member, w, y):
    """Rows of weight 0 and a group without rows beside the others: one shape, one compilation."""
    rows, groups = 2 * N - len(p), 3 - member.shape[1]
    return [
        np.pad(a, (0, rows)) if a.ndim == 1 else np.pad(a, ((0, rows), (0, groups)))
        for a in (p, member, w, y)
    ]


@every
def test_parity_is_zero_for_equal_groups_and_finite_without_some(name):
    p, y, _, w = for_kind(name, 6)
    twice = [np.concatenate([a, a]) for a in (p, y, w)]
    equal = np.repeat(np.eye(2, dtype=np.float32), N, axis=0)
    for value, slopes in parities(name)(*padded(twice[0], equal, twice[2], twice[1])).values():
        assert abs(value) < 2e-5 and np.isfinite(slopes).all()
    member = np.eye(2, dtype=np.float32)[np.arange(N) % 2]
    for groups in (
        np.stack([ONES, 0 * ONES], 1),
        np.zeros((N, 2), np.float32),
    ):  # one group, none known
        for value, slopes in parities(name)(*padded(p, groups, w, y)).values():
            assert value == 0 and (slopes == 0).all()
    found, other = (
        parities(name)(*padded(*batch))
        for batch in ((p, member, w, y), (p[::-1], member[::-1, ::-1], w[::-1], y[::-1]))
    )
    for gap, (value, slopes) in found.items():
        assert value >= 0 and np.isfinite(slopes).all()
        np.testing.assert_allclose(other[gap][0], value, rtol=1e-4, atol=1e-6)


@every
def test_gradients_are_finite_differences(name):
    p, y, member, w = (a.astype(float) for a in for_kind(name, 7))
    with double():

        def values(q):
            return np.array([v for v, _ in parities(name)(jnp.asarray(q), member, w, y).values()])

        got = np.stack([g for _, g in parities(name)(jnp.asarray(p), member, w, y).values()])
        for i in range(0, N, 5):
            step = 1e-6 * (np.arange(N) == i)
            np.testing.assert_allclose(
                got[:, i], (values(p + step) - values(p - step)) / 2e-6, rtol=1e-4, atol=1e-5
            )


def test_gaps_by_hand():
    value, mass, overall = jnp.asarray([0.2, 0.5, 0.9]), jnp.asarray([1.0, 2, 0]), jnp.asarray(0.4)
    expected = {
        "difference": 0.3,
        "ratio_gap": 0.6,
        "to_overall": 0.2,
        "norm": np.hypot(0.5, 0.25),
        "log_sum_exp": 0.1 * np.log((np.exp(2) + np.exp(1)) / 2),
    }
    for name, want in expected.items():
        np.testing.assert_allclose(GAPS[name](value, mass, overall), want, rtol=1e-5)
    assert gaps.worst(value, mass) == 0.5 and gaps.worst(value, 0 * mass) == 0
    np.testing.assert_allclose(
        [gaps.bounded(value, mass, bound=0.3), gaps.bounded(value, mass, bound=0.6)],
        [0.2, 0],
        atol=1e-6,
    )
    assert gaps.bounded(value, 0 * mass, bound=-1.0) == 0
    sharp = gaps.log_sum_exp(value, mass, overall, temperature=1e-3)
    assert 0.19 < sharp <= 0.2
    orders = jax.jit(jax.vmap(lambda o: gaps.norm(value, mass, overall, order=o)))(
        jnp.asarray([1.0, 2.0, 30.0])
    )
    np.testing.assert_allclose(orders, [0.75, np.hypot(0.5, 0.25), 0.5], rtol=1e-4)


def takes_any_rows(name):
    return notions.REGISTRY[name].conditions is None


@pytest.mark.parametrize("name", notions.REGISTRY)
def test_every_named_notion_says_what_it_is_for(name):
    conditions = (notions.everyone,) if takes_any_rows(name) else None
    made = notions.get(name, conditions, attributes=(1,))
    assert made.name == name
    assert made.attributes == (1,)
    assert not made.continuous
    assert set(made.kinds) <= set(KINDS)
    if not takes_any_rows(name):
        assert all(name in notions.for_kind(kind) for kind in made.kinds)


@pytest.mark.parametrize("name", [name for name in notions.REGISTRY if takes_any_rows(name)])
def test_a_distance_by_name_needs_rows_and_has_a_form_for_numbers(name):
    with pytest.raises(ValueError, match=f"{name!r} takes any rows.*fpr, tpr, odds, parity"):
        notions.get(name)
    dependence = notions.get(name, notions.CONDITIONS["odds"], continuous=True)
    assert dependence.continuous
    assert dependence.conditions == (notions.negatives, notions.positives)


def test_names_and_forms_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="'fairness' is not a notion .*demographic_parity"):
        notions.get("fairness")
    with pytest.raises(ValueError, match="'accuracy_parity' compares groups.*rate_gap"):
        notions.get("accuracy_parity", continuous=True)


def test_a_statistic_by_name_takes_a_gap_and_an_average():
    rng = np.random.default_rng(3)
    prob = rng.random((N, 2)).astype(np.float32)
    label = (rng.random((N, 2)) < 0.5).astype(np.float32)
    member = rows(3)[2]
    notion = notions.get("accuracy_parity", gap=gaps.to_overall, average=notions.worst)
    weight = np.ones((N, 2), np.float32)
    view = notions.TaskRows(prob, label, member, (weight,), "multilabel", None)
    value, memory = notion.apply(view, ())
    distance = partial(notions.parity, statistic=statistics.accuracy, gap=gaps.to_overall)
    per_label = [float(distance(prob[:, u], member, ONES, label[:, u])) for u in range(2)]
    np.testing.assert_allclose(value, max(per_label), rtol=1e-6)
    assert memory == ()


def test_columns_are_averaged_pooled_or_the_worst():
    rng = np.random.default_rng(8)
    prob, label = (
        rng.random((N, 3)).astype(np.float32),
        (rng.random((N, 3)) < 0.5).astype(np.float32),
    )
    member, weight = rows(8)[2], rng.uniform(0.5, 1.5, (N, 3)).astype(np.float32)
    distance = partial(notions.parity, statistic=statistics.accuracy, gap=gaps.difference)
    each = [float(distance(prob[:, u], member, weight[:, u], label[:, u])) for u in range(3)]
    for over, want in (
        (notions.macro, np.mean(each)),
        (notions.worst, max(each)),
        (notions.added, sum(each)),
    ):
        np.testing.assert_allclose(over(distance, prob, member, weight, label), want, rtol=1e-5)
    right = weight * (1 - np.abs(prob - label))
    pooled = [(right * member[:, [g]]).sum() / (weight * member[:, [g]]).sum() for g in range(3)]
    np.testing.assert_allclose(
        notions.micro(distance, prob, member, weight, label), max(pooled) - min(pooled), rtol=1e-4
    )
