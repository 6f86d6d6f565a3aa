"""Distances between groups: golden values, float64 brute forces, and laws of every distance."""

from __future__ import annotations

import functools
import itertools
from functools import partial

import fairlearn.metrics as fairlearn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import (
    DISTANCES,
    brute_exclusive,
    brute_gap,
    brute_gaussian,
    brute_mmd,
    brute_select,
    rows,
    slope,
)

from fairjax import notions
from fairjax.metrics import group_rates
from fairjax.notions import conditions, statistics

NAMED = {case.name: case for case in DISTANCES}
every = pytest.mark.parametrize("name", NAMED)
zero_when_absent = pytest.mark.parametrize("name", [c.name for c in DISTANCES if c.absent_is_zero])


@jax.jit
def everything(prob, member, weight):
    """Value and gradient of all distances that take so many groups: one program per shape."""
    return {
        case.name: jax.value_and_grad(case.distance)(prob, member, weight)
        for case in DISTANCES
        if case.many or member.shape[1] == 2
    }


def compiled(name: str):
    """One distance: ``(prob, groups, weight) -> value, gradient``."""
    return lambda *batch: everything(*batch)[name]


# ------------------------------------------------------------------------------------------ golden

PROB = np.array([0.10, 0.20, 0.35, 0.50, 0.62, 0.80], np.float32)
MEMBER = np.array([0, 1, 0, 1, 1, 0], np.float32)
GROUPS, ONES = np.stack([1 - MEMBER, MEMBER], 1), np.ones(6, np.float32)
ONE_GROUP = np.stack([np.ones(6), np.zeros(6)], 1).astype(np.float32)

GAUSSIAN = [-1.613572, 0.934004, -0.029637, 1.962987, -1.568739, 0.314957]
TIMES_SIX = [-9.681434, 5.604023, -0.177823, 11.777924, -9.412430, 1.889732]
LAPLACIAN = [-0.686033, 0.460118, -0.307070, 0.984591, -0.908370, 0.456764]
ADJUSTED = [-3.694565, 2.138570, -0.067860, 4.494615, -3.591910, 0.721150]
CORRELATION = [-3.887212, 4.356015, -4.097752, 4.103367, 4.002307, -4.476725]

GOLDEN = {  # scale, value, gradient: of the published code (times n = 6) and of MinDiff
    "mmd": (partial(notions.mmd, kernel=notions.gaussian_kernel(0.1)), 1, 0.5822964, GAUSSIAN),
    "mmd times n": (
        partial(notions.mmd, kernel=notions.gaussian_kernel(0.1)),
        6,
        3.4937787,
        TIMES_SIX,
    ),
    "fourier": (partial(notions.gaussian_mmd, bandwidth=0.1), 1, 0.5822964, GAUSSIAN),
    "fourier times n": (partial(notions.gaussian_mmd, bandwidth=0.1), 6, 3.4937787, TIMES_SIX),
    "published times n": (
        partial(notions.published_mmd, kernel=notions.gaussian_kernel(0.1)),
        6,
        3.4937787,
        TIMES_SIX,
    ),
    "laplacian": (
        partial(notions.mmd, kernel=notions.laplacian_kernel(0.1)),
        1,
        0.5194089,
        LAPLACIAN,
    ),
    "adjusted": (
        partial(notions.adjusted_mmd, kernel=notions.gaussian_kernel(0.1)),
        1,
        1.3332729,
        ADJUSTED,
    ),
    "published correlation": (notions.published_correlation, 6, 0.2914602, CORRELATION),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values_and_gradients(name):
    distance, scale, value, gradient = GOLDEN[name]
    got, slopes = jax.jit(jax.value_and_grad(lambda p: scale * distance(p, GROUPS, ONES)))(PROB)
    np.testing.assert_allclose(got, value, rtol=0, atol=1e-5)
    np.testing.assert_allclose(slopes, gradient, rtol=0, atol=1e-4)


def test_correlation_ratio_is_the_published_correlation_without_its_epsilon():
    got, slopes = jax.jit(
        jax.value_and_grad(lambda p: 6 * notions.correlation_ratio(p, GROUPS, ONES))
    )(PROB)
    factor = 1 + 1e-6 / (
        np.std(PROB, dtype=np.float64) * 0.5
    )  # what 1e-6 beside std(p) std(a) takes away
    np.testing.assert_allclose(got, 0.2914602 * factor, rtol=0, atol=2e-6)
    np.testing.assert_allclose(slopes, np.array(CORRELATION) * factor, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "kernel, value",
    [(notions.gaussian_kernel(0.1), 0.2143127), (notions.laplacian_kernel(0.1), 0.2546014)],
    ids=["gaussian", "laplacian"],
)
def test_one_group_is_a_repulsion_in_the_published_form_and_nothing_in_ours(kernel, value):
    got, slopes = jax.jit(jax.value_and_grad(partial(notions.published_mmd, kernel=kernel)))(
        PROB, ONE_GROUP, ONES
    )
    np.testing.assert_allclose(got, value, rtol=0, atol=1e-5)
    assert np.max(np.abs(slopes)) > 1e-2
    ours, none = jax.jit(jax.value_and_grad(partial(notions.mmd, kernel=kernel)))(
        PROB, ONE_GROUP, ONES
    )
    assert ours == 0 and not np.any(none)


def test_published_rate_gap_counts_a_missing_group_as_rate_zero():
    gap = jax.jit(partial(notions.published_rate_gap, threshold=0.3))
    assert gap(PROB, ONE_GROUP, ONES) == pytest.approx(4 / 6)
    np.testing.assert_allclose(
        gap(PROB, GROUPS, ONES), brute_gap(PROB > 0.3, GROUPS, ONES), atol=1e-6
    )
    assert not np.any(
        jax.grad(partial(notions.published_rate_gap, threshold=0.3))(PROB, GROUPS, ONES)
    )


# ------------------------------------------------------------------------- the Fourier form of MMD

BANDWIDTHS = (0.05, 0.1, 0.3, 1.0)


@functools.cache
def fourier(bandwidth: float):
    return jax.jit(jax.value_and_grad(partial(notions.gaussian_mmd, bandwidth=bandwidth)))


@jax.jit
def over_pairs(prob, member, weight, bandwidth):
    return jax.value_and_grad(partial(notions.mmd, kernel=notions.gaussian_kernel(bandwidth)))(
        prob, member, weight
    )


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("groups", [2, 3, 4])
def test_gaussian_mmd_is_the_brute_force(bandwidth, groups):
    prob, member, weight = rows(groups, 13, groups)
    prob[:2] = [0.0, 1.0]  # the whole range: the periodic copy must not be seen
    member = np.pad(
        member, ((0, 0), (0, 4 - groups))
    )  # absent groups, so that all cases share one shape
    brute = brute_mmd(brute_gaussian(bandwidth))
    want = brute(prob, member, weight), slope(lambda p: brute(p, member, weight), prob)
    for value, slopes in (
        fourier(bandwidth)(prob, member, weight),
        over_pairs(prob, member, weight, bandwidth),
    ):
        np.testing.assert_allclose(value, want[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(slopes, want[1], rtol=1e-4, atol=2e-5)


def test_gaussian_mmd_takes_a_traced_bandwidth():
    prob, member, weight = rows(7, 13)

    def traced(p, bandwidth):
        return notions.gaussian_mmd(p, member, weight, bandwidth=bandwidth, smallest=0.05)

    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(traced), (None, 0)))(
        prob, jnp.array(BANDWIDTHS)
    )
    for i, bandwidth in enumerate(BANDWIDTHS):
        brute = functools.partial(
            brute_mmd(brute_gaussian(bandwidth)), groups=member, weight=weight
        )
        np.testing.assert_allclose(values[i], brute(prob), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(slopes[i], slope(brute, prob), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("groups", [2, 3])
def test_gaussian_mmd_has_the_gradients_of_the_brute_force_in_every_argument(groups):
    prob, member, weight = rows(5, 14, groups)

    def fast(prob, member, weight, bandwidth):
        return notions.gaussian_mmd(prob, member, weight, bandwidth=bandwidth, smallest=0.1)

    def brute(prob, member, weight, bandwidth):
        return notions.mmd(prob, member, weight, kernel=notions.gaussian_kernel(bandwidth))

    arguments = (prob, member, weight, jnp.float32(0.2))
    got = jax.jit(jax.grad(fast, argnums=(0, 1, 2, 3)))(*arguments)
    wanted = jax.jit(jax.grad(brute, argnums=(0, 1, 2, 3)))(*arguments)
    for one, other in zip(got, wanted, strict=True):
        assert np.any(other)
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    by_weight = jax.grad(fast, argnums=2)(*arguments)
    np.testing.assert_allclose(by_weight, got[2], rtol=1e-4, atol=1e-6)
    in_vmap = jax.vmap(jax.grad(fast, argnums=3), (None, None, None, 0))
    np.testing.assert_allclose(in_vmap(*arguments[:3], jnp.float32([0.2]))[0], got[3], rtol=1e-4)


def test_a_bandwidth_below_the_smallest_is_nan_not_wrong():
    prob, member, weight = rows(7)
    distance = jax.jit(
        lambda b: notions.gaussian_mmd(prob, member, weight, bandwidth=b, smallest=0.1)
    )
    assert np.isnan(distance(0.05)) and np.isfinite(distance(0.1))


def test_a_bandwidth_that_is_no_number_needs_the_smallest():
    with pytest.raises(ValueError, match=r"traced bandwidth needs smallest="):
        notions.gaussian_mmd(PROB, GROUPS, ONES, bandwidth=jnp.float32(0.1))


@pytest.mark.parametrize("score", (-0.01, 1.01))
def test_gaussian_mmd_of_a_score_that_is_no_probability_is_nan_where_it_counts(score):
    prob, groups, weight = (
        jnp.asarray([0.2, 0.4, score]),
        jnp.eye(2)[jnp.asarray([0, 1, 1])],
        jnp.ones(3),
    )
    distance = jax.jit(partial(notions.gaussian_mmd, bandwidth=0.1))
    assert np.isnan(distance(prob, groups, weight))
    assert np.isfinite(distance(prob, groups, weight.at[2].set(0.0)))


TAKES_PROBABILITIES = {
    "rate_gap": notions.rate_gap,
    "sharpened_rate_gap": notions.sharpened_rate_gap,
    "published_rate_gap": partial(notions.published_rate_gap, threshold=0.3),
    "gaussian_mmd": partial(notions.gaussian_mmd, bandwidth=0.1),
    "accuracy": partial(notions.parity, label=jnp.zeros(12), statistic=statistics.accuracy),
    "calibration": partial(
        notions.parity, label=jnp.zeros(12), statistic=statistics.calibration_error()
    ),
    "auc": partial(notions.parity, label=jnp.zeros(12), statistic=statistics.pairwise_auc()),
    "epsilon": notions.differential.smoothed_empirical_epsilon,
    "group_rates": lambda p, g, w: group_rates(p, jnp.zeros_like(p), g, w).selection_rate[0],
}


@pytest.mark.parametrize("name", TAKES_PROBABILITIES)
def test_logits_where_probabilities_are_meant_are_refused(name):
    _, groups, weight = rows(3)
    logits = np.linspace(-3.1, 3.0, len(groups), dtype=np.float32)
    measure = TAKES_PROBABILITIES[name]
    with pytest.raises(ValueError, match=r"\d+ of 12 values.*first is -3.1. jax.nn.sigmoid"):
        measure(logits, groups, weight)
    measure(jax.nn.sigmoid(logits), groups, weight)
    jax.jit(measure)(logits, groups, weight)
    # what has no weight may hold anything
    measure(logits, groups, np.where(np.abs(logits - 0.5) < 0.5, weight, 0.0))


def test_notions_refuse_logits_of_classes_and_take_numbers_of_regressions():
    logits, groups, weight = 3.0 + rows(3)[0][:, None], *rows(3)[1:]
    unlabelled = jnp.zeros_like(logits)
    view = notions.TaskRows(logits, unlabelled, groups, (weight[:, None],), "binary", None)
    for name in ("rate_gap", "wasserstein", "correlation"):
        with pytest.raises(ValueError, match="12 of 12 values are no probabilities"):
            notions.get(name, (notions.everyone,)).apply(view, ())
        notion = notions.get(name, (notions.everyone,), kind="regression")
        value, _ = notion.apply(view._replace(kind="regression"), ())
        assert value > 0


def test_the_published_mmd_refuses_three_groups():
    with pytest.raises(ValueError, match="two groups, got 3"):
        notions.published_mmd(
            jnp.ones(3), jnp.eye(3), jnp.ones(3), kernel=notions.gaussian_kernel(0.1)
        )


def test_a_difference_far_below_float_resolution_of_the_kernel_means_is_not_lost():
    rng = np.random.default_rng(0)
    half = rng.uniform(size=20)
    prob = np.concatenate([half, half + 1e-4]).astype(
        np.float32
    )  # sums of kernels agree to seven digits
    member = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)
    want = brute_mmd(brute_gaussian(0.1))(prob, member, np.ones(40))
    assert want < 1e-6
    got = jax.jit(partial(notions.gaussian_mmd, bandwidth=0.1))(
        prob, member, np.ones(40, np.float32)
    )
    np.testing.assert_allclose(got, want, rtol=1e-2)


# -------------------------------------------------------------------- other distances, brute force


def brute_correlation_ratio(prob, groups, weight):
    prob, groups, weight = (np.asarray(v, np.float64) for v in (prob, groups, weight))
    weight = weight * groups.sum(1)
    mean = np.average(prob, weights=weight)
    inside = [
        (np.average(prob, weights=groups[:, g] * weight), (groups[:, g] * weight).sum())
        for g in range(groups.shape[1])
        if (groups[:, g] * weight).sum() > 0
    ]
    between = sum(w * (m - mean) ** 2 for m, w in inside) / weight.sum()
    return float(np.sqrt(between / np.average((prob - mean) ** 2, weights=weight)))


def brute_correlation(prob, groups, weight):
    """Two groups: numpy's weighted covariance matrix."""
    c = np.cov(
        np.asarray(prob, np.float64), np.asarray(groups, np.float64)[:, 1], aweights=weight, ddof=0
    )
    return float(abs(c[0, 1]) / (np.sqrt(c[0, 0] * c[1, 1]) + 1e-6))


def brute_sharpened(prob, groups, weight):
    return brute_gap(1 / (1 + np.exp(-(np.asarray(prob, np.float64) - 0.4) / 0.2)), groups, weight)


def brute_pairs(of):
    """A distance of two weighted samples, for every pair of groups."""

    def each(prob, groups, weight):
        prob, groups, weight = (np.asarray(v, np.float64) for v in (prob, groups, weight))
        return [
            of(prob[a], weight[a], prob[b], weight[b])
            for a, b in itertools.combinations((groups > 0).T & (weight > 0), 2)
        ]

    return each


def brute_wasserstein(*batch):
    return np.mean(
        brute_pairs(lambda p, v, q, w: scipy.stats.wasserstein_distance(p, q, v, w))(*batch)
    )


def brute_ks(*batch):
    return max(
        brute_pairs(
            lambda p, v, q, w: max(
                abs(v[p <= t].sum() / v.sum() - w[q <= t].sum() / w.sum())
                for t in np.concatenate([p, q])
            )
        )(*batch)
    )


def brute_soft_ks(prob, groups, weight):
    return max(
        brute_gap(1 / (1 + np.exp(-(np.asarray(prob, np.float64) - t) / 0.05)), groups, weight)
        for t in np.linspace(0.1, 0.9, 9)
    )


BRUTE = {
    "wasserstein": brute_wasserstein,
    "kolmogorov_smirnov": brute_ks,
    "soft_kolmogorov_smirnov": brute_soft_ks,
    "mmd_gaussian": brute_mmd(brute_gaussian(0.1)),
    "mmd_laplacian": brute_mmd(lambda d: np.exp(-np.abs(d) / 0.1)),
    "gaussian_mmd": brute_mmd(brute_gaussian(0.1)),
    "published_mmd": brute_mmd(brute_gaussian(0.1)),
    "correlation_ratio": brute_correlation_ratio,
    "published_correlation": brute_correlation,
    "rate_gap": brute_gap,
    "sharpened_rate_gap": brute_sharpened,
}


@pytest.mark.parametrize(
    "name, groups", [(n, g) for n in BRUTE for g in (2, 3) if g == 2 or NAMED[n].many]
)
def test_value_and_gradient_are_the_brute_force(name, groups):
    prob, member, weight = rows(11, 12, groups)
    value, slopes = compiled(name)(prob, member, weight)
    np.testing.assert_allclose(value, BRUTE[name](prob, member, weight), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        slopes, slope(lambda p: BRUTE[name](p, member, weight), prob), rtol=1e-3, atol=2e-5
    )


def test_the_multiple_correlation_of_three_groups_is_the_r_squared_of_the_indicators():
    prob, member, weight = rows(2, 12, 3)
    root = np.sqrt(weight)[:, None]
    fitted = member @ np.linalg.lstsq(root * member, root[:, 0] * prob, rcond=None)[0]
    mean = np.average(prob, weights=weight)
    r2 = np.average((fitted - mean) ** 2, weights=weight) / np.average(
        (prob - mean) ** 2, weights=weight
    )
    np.testing.assert_allclose(
        compiled("correlation_ratio")(prob, member, weight)[0] ** 2, r2, rtol=1e-4
    )


def test_adjusted_mmd_by_its_formula_with_weights():
    prob, member, weight = rows(4)
    kernel, spread = brute_gaussian(0.1), 0.0
    for g in range(2):
        p, w = prob[member[:, g] > 0].astype(float), weight[member[:, g] > 0].astype(float)
        inside = np.average(kernel(np.subtract.outer(p, p)), weights=np.outer(w, w))
        spread += (1 - inside) * np.mean(w**2) / (len(w) * np.mean(w) ** 2)
    want = brute_mmd(kernel)(prob, member, weight) / (spread + 0.01)
    np.testing.assert_allclose(compiled("adjusted_mmd")(prob, member, weight)[0], want, rtol=1e-5)


# --------------------------------------------------------------------------------------- fairlearn


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize(
    "condition, theirs",
    [
        (conditions.everyone, fairlearn.selection_rate),
        (conditions.negatives, fairlearn.false_positive_rate),
        (conditions.positives, fairlearn.true_positive_rate),
    ],
    ids=["selection", "fpr", "tpr"],
)
def test_the_soft_gap_of_decisions_is_fairlearns_difference(condition, theirs, groups):
    rng = np.random.default_rng(groups)
    _, member, weight = rows(groups, 40, groups)
    label, decision = (
        (rng.random(40) < 0.5).astype(np.float32),
        (rng.random(40) < 0.6).astype(np.float32),
    )
    frame = fairlearn.MetricFrame(
        metrics=theirs,
        y_true=label,
        y_pred=decision,
        sensitive_features=member.argmax(1),
        sample_params={"sample_weight": weight},
    )
    got = notions.rate_gap(decision, member, weight * condition(label, np.ones(40, np.float32)))
    np.testing.assert_allclose(got, frame.difference(), atol=1e-6)
    rate = [frame.by_group[g] for g in range(groups)]
    np.testing.assert_allclose(
        notions.ratio(jnp.asarray(rate), jnp.ones(groups)), frame.ratio(), atol=1e-6
    )


def test_difference_and_ratio_look_at_present_groups_only():
    rate = jnp.array([0.2, 0.9, 0.5])
    assert notions.difference(rate, jnp.array([1.0, 0, 2])) == pytest.approx(0.3)
    assert notions.ratio(rate, jnp.array([1.0, 0, 2])) == pytest.approx(0.4)
    for mass in ([0.0, 0, 0], [0.0, 1, 0]):
        assert (
            notions.difference(rate, jnp.array(mass)) == 0
            and notions.ratio(rate, jnp.array(mass)) == 1
        )
    assert notions.ratio(jnp.zeros(2), jnp.ones(2)) == 1


# --------------------------------------------------------------------------- laws of all distances


@every
def test_zero_when_groups_are_copies(name):
    prob, _, weight = rows(1)
    prob, weight = np.tile(prob[:6], 2), np.tile(weight[:6], 2)
    member = np.repeat(np.eye(2, dtype=np.float32), 6, axis=0)
    assert abs(compiled(name)(prob, member, weight)[0]) < 1e-6


@every
@pytest.mark.parametrize("seed", range(5))
def test_not_negative(name, seed):
    assert compiled(name)(*rows(seed))[0] >= 0


@every
def test_rows_and_groups_have_no_order(name):
    prob, member, weight = rows(2)
    value, slopes = compiled(name)(prob, member, weight)
    order = np.random.default_rng(0).permutation(12)
    moved, moved_slopes = compiled(name)(prob[order], member[order], weight[order])
    np.testing.assert_allclose(moved, value, rtol=1e-5)
    np.testing.assert_allclose(moved_slopes, slopes[order], rtol=1e-4, atol=1e-6)
    renamed, same_slopes = compiled(name)(prob, member[:, ::-1], weight)
    np.testing.assert_allclose(renamed, value, rtol=1e-5)
    np.testing.assert_allclose(same_slopes, slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [c.name for c in DISTANCES if c.many])
def test_three_groups_have_no_order(name):
    prob, member, weight = rows(3, 12, 3)
    values = [
        compiled(name)(prob, member[:, list(p)], weight)[0]
        for p in itertools.permutations(range(3))
    ]
    np.testing.assert_allclose(values, values[0], rtol=1e-5)


@pytest.mark.parametrize("name", [c.name for c in DISTANCES if c.many])
def test_an_empty_third_group_changes_nothing(name):
    if name == "published_rate_gap":
        pytest.skip("counts an empty group as rate zero")
    prob, member, weight = rows(3)
    wide = np.concatenate([member, np.zeros((12, 1), np.float32)], axis=1)
    np.testing.assert_allclose(
        compiled(name)(prob, wide, weight)[0], compiled(name)(prob, member, weight)[0], rtol=1e-5
    )


@pytest.mark.parametrize("name", [c.name for c in DISTANCES if c.duplicates])
def test_duplicating_all_rows_changes_nothing(name):
    prob, member, weight = (np.tile(v[:6], (2,) + (1,) * (v.ndim - 1)) for v in rows(4))
    once = weight * (np.arange(12) < 6)
    value, slopes = compiled(name)(prob, member, once)
    twice, halves = compiled(name)(prob, member, weight)
    np.testing.assert_allclose(twice, value, rtol=1e-5)
    np.testing.assert_allclose(halves[:6], slopes[:6] / 2, rtol=1e-4, atol=1e-6)


ABSENT = {
    "one group": lambda g, w: (np.eye(2, dtype=np.float32)[np.zeros(12, int)], w),
    "one group of weight": lambda g, w: (g, w * g[:, 0]),
    "no demographics": lambda g, w: (0 * g, w),
    "empty": lambda g, w: (g, 0 * w),
    "one row": lambda g, w: (g, w * (np.arange(12) == 5)),
}


@zero_when_absent
@pytest.mark.parametrize("how", ABSENT)
def test_zero_value_and_gradient_with_fewer_than_two_groups(name, how):
    prob, member, weight = rows(5)
    value, slopes = compiled(name)(prob, *ABSENT[how](member, weight))
    assert value == 0
    np.testing.assert_array_equal(slopes, 0.0)


@zero_when_absent
def test_a_batch_of_one_row_is_zero(name):
    value, slopes = compiled(name)(*(v[:1] for v in rows(5)))
    assert value == 0 and slopes[0] == 0


@pytest.mark.parametrize("name", [c.name for c in DISTANCES if not c.absent_is_zero])
def test_published_forms_stay_finite_with_an_empty_set(name):
    prob, member, weight = rows(5)
    value, slopes = compiled(name)(prob, member, 0 * weight)
    assert value == 0 and not np.any(slopes)


@every
@pytest.mark.parametrize("junk", [np.nan, 17.0])
def test_what_stands_under_weight_zero_is_not_looked_at(name, junk):
    prob, member, weight = rows(6)
    weight[[1, 4, 7]] = 0
    value, slopes = compiled(name)(prob, member, weight)
    prob[[1, 4, 7]] = junk
    same, same_slopes = compiled(name)(prob, member, weight)
    assert same == value
    np.testing.assert_array_equal(same_slopes, slopes)
    np.testing.assert_array_equal(slopes[np.array([1, 4, 7])], 0.0)


@every
def test_a_nan_that_counts_is_seen(name):
    if name == "published_rate_gap":
        pytest.skip("counts scores above a threshold, and NaN is not above")
    prob, member, weight = rows(6)
    prob[3] = np.nan
    assert np.isnan(compiled(name)(prob, member, weight)[0])


@every
def test_rows_of_unknown_group_do_not_count(name):
    prob, member, weight = rows(8)
    hidden = member * (np.arange(12) < 9)[:, None]
    value, slopes = compiled(name)(prob, hidden, weight)
    want, want_slopes = compiled(name)(prob, member, weight * (np.arange(12) < 9))
    np.testing.assert_allclose(value, want, rtol=1e-6)
    np.testing.assert_allclose(slopes, want_slopes, rtol=1e-5, atol=1e-7)


@every
@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
def test_equal_predictions_have_no_distance_and_a_finite_gradient(name, constant):
    _, member, weight = rows(9)
    value, slopes = compiled(name)(np.full(12, constant, np.float32), member, weight)
    assert abs(value) < 1e-6 and np.all(np.isfinite(slopes))


@every
def test_half_precision_is_finite(name):
    prob, member, weight = (jnp.asarray(v, jnp.bfloat16) for v in rows(10))
    value, slopes = compiled(name)(prob, member, weight)
    assert np.isfinite(value) and np.all(np.isfinite(slopes.astype(jnp.float32)))
    full = compiled(name)(*(np.asarray(v, np.float32) for v in (prob, member, weight)))[0]
    np.testing.assert_allclose(np.float32(value), full, atol=0.05)


BATCHES = [rows(seed) for seed in (20, 21, 22)]


@functools.cache
def over_batches():
    return jax.jit(jax.vmap(everything.__wrapped__))(
        *(np.stack(v) for v in zip(*BATCHES, strict=True))
    )


@every
def test_vmap_is_a_loop(name):
    values, slopes = over_batches()[name]
    for i, batch in enumerate(BATCHES):
        value, slopes_i = compiled(name)(*batch)
        np.testing.assert_allclose(values[i], value, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(slopes[i], slopes_i, rtol=1e-4, atol=1e-6)


@every
def test_jit_is_eager(name):
    np.testing.assert_allclose(
        NAMED[name].distance(*BATCHES[0]), compiled(name)(*BATCHES[0])[0], rtol=1e-5, atol=1e-7
    )


# -------------------------------------------------------------------------------------- conditions


def label_table(tasks: int):
    """Every combination of 0, 1 and missing (NaN) over the tasks."""
    labels = np.array(list(itertools.product([0.0, 1.0, np.nan], repeat=tasks)), np.float32)
    return labels, np.isfinite(labels).astype(np.float32)


@pytest.mark.parametrize("name", ["everyone", "negatives", "positives"])
def test_conditions_are_a_loop_over_rows(name):
    labels, mask = label_table(1)
    got = getattr(conditions, name)(jnp.asarray(labels[:, 0]), jnp.asarray(mask[:, 0]))
    np.testing.assert_array_equal(got, brute_select(name, labels[:, 0], mask[:, 0]))


@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize("name", ["everyone", "negatives", "positives"])
def test_exclusive_is_a_loop_over_rows_and_tasks(name, tasks):
    labels, mask = label_table(tasks)
    for task in range(tasks):
        got = notions.exclusive(
            getattr(conditions, name), jnp.asarray(labels), jnp.asarray(mask), task
        )
        np.testing.assert_array_equal(got, brute_exclusive(name, labels, mask, task))


def test_exclusive_negatives_of_one_task_are_exclusive_positives_of_the_other():
    labels, mask = map(jnp.asarray, label_table(2))
    np.testing.assert_array_equal(
        notions.exclusive(conditions.negatives, labels, mask, 0),
        notions.exclusive(conditions.positives, labels, mask, 1),
    )


def test_the_opposite_of_a_condition_is_known_and_does_not_meet_it():
    labels, mask = (v[:, 0] for v in label_table(1))

    def given_to_few(label, known):
        return known * (label == 1) * (np.arange(len(label)) == 1)

    got = conditions.opposite(given_to_few, jnp.asarray(labels), jnp.asarray(mask))
    np.testing.assert_array_equal(got, [1, 0, 0])
    np.testing.assert_array_equal(
        conditions.opposite(conditions.negatives, labels, mask),
        conditions.positives(labels, mask),
    )


def test_a_condition_of_ones_own_has_exclusive_rows():
    labels, mask = (jnp.asarray(v) for v in label_table(2))

    def is_known_yes(label, known):
        return conditions.positives(label, known)

    np.testing.assert_array_equal(
        notions.exclusive(is_known_yes, labels, mask, 0),
        notions.exclusive(conditions.positives, labels, mask, 0),
    )


@pytest.mark.parametrize(
    "codes",
    [np.array([0, 1, 1, 0]), np.array([True, False, True, True]), np.array(list("abba"))],
    ids=["integers", "booleans", "strings"],
)
@every
def test_codes_of_groups_are_refused(name, codes):
    prob = np.array([0.1, 0.9, 0.4, 0.6], np.float32)
    with pytest.raises(ValueError, match=r"expected membership \[N, G\].*one_hot"):
        NAMED[name].distance(prob, codes, np.ones(4, np.float32))


@pytest.mark.parametrize(
    ("distance", "options", "match"),
    [
        (notions.gaussian_mmd, {"bandwith": 0.2}, "bandwith"),
        (notions.mmd, {}, "kernel"),
        (statistics.accuracy, {}, "not a callable"),
        (notions.rate_gap(PROB, GROUPS, ONES), {}, "not a callable"),
    ],
)
def test_a_notion_refuses_options_that_its_distance_has_not(distance, options, match):
    with pytest.raises(TypeError, match=match):
        notions.from_distance(distance, (notions.everyone,), **options)


def test_a_statistic_that_reads_labels_refuses_to_go_without():
    with pytest.raises(ValueError, match="accuracy reads labels"):
        notions.parity(PROB, GROUPS, ONES, statistic=statistics.accuracy)
