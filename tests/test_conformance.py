"""Every distance, every statistic by name and differential fairness against one table of laws."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DISTANCES, double

from fairjax import notions
from fairjax.notions import differential, gaps, statistics

N = 16


class Entry(NamedTuple):
    """A scalar of ``(prob[N], groups[N, 2], weight[N], label[N])``."""

    of: Callable
    numbers: bool = False  # predictions and labels of a regression
    zero_alone: bool = True  # with fewer than two groups
    is_gap: bool = True  # zero where groups agree; else it is there the loss of all


def of_table(name: str) -> Entry:
    notion = notions.get(name)
    kind = notion.kinds[0]

    def of(prob, groups, weight, label):
        known = (weight > 0).astype(weight.dtype)
        weights = tuple(
            (weight * condition(label, known))[:, None] for condition in notion.conditions
        )
        view = notions.TaskRows(prob[:, None], label[:, None], groups, weights, kind, None)
        return notion.apply(view, ())[0]

    is_gap = notions.REGISTRY[name].is_gap
    return Entry(of, notion.kinds == notions.REGRESSIONS, zero_alone=is_gap, is_gap=is_gap)


def of_counts(rates, temperature: float) -> Entry:
    def of(prob, groups, weight, label):
        of_label = (
            jnp.ones_like(label)[:, None]
            if rates is differential.parity
            else differential.two(label)
        )
        return differential.epsilon(
            differential.count(differential.two(prob), of_label, groups, weight),
            rates,
            temperature=temperature,
        )

    return Entry(of)


# gaps of statistics, on rows of their own; distances are in DISTANCES
WITHOUT_ROWS = {name for name, entry in notions.REGISTRY.items() if entry.conditions is None}
WITH_MEMORY = {"differential_fairness", "ahfda"}  # tests/test_ahfda.py has its own laws
STATISTICS = [n for n in notions.REGISTRY if n not in WITHOUT_ROWS | WITH_MEMORY]
EVERY = {name: of_table(name) for name in STATISTICS}
EVERY |= {
    case.name: Entry(lambda p, g, w, y, d=case.distance: d(p, g, w), zero_alone=case.absent_is_zero)
    for case in DISTANCES
}
EVERY |= {
    f"differential {name}{how}": of_counts(getattr(differential, name), temperature)
    for name in ("parity", "opportunity", "odds")
    for how, temperature in (("", 0.0), (", smooth", 0.1))
}
every = pytest.mark.parametrize("name", EVERY)
SHOWN = {case.name for case in DISTANCES}  # in half precision and on one row by test_notions
others = pytest.mark.parametrize("name", [name for name in EVERY if name not in SHOWN])


def rows(seed: int, numbers: bool = False) -> tuple[np.ndarray, ...]:
    """Predictions, groups, weights, labels: both groups have rows of both labels."""
    rng = np.random.default_rng(seed)
    prob, label = rng.uniform(0.02, 0.98, N), np.arange(N) // 2 % 2
    if numbers:
        prob, label = rng.normal(size=(2, N))
    return prob, np.eye(2)[np.arange(N) % 2], rng.uniform(0.2, 2.0, N), label.astype(float)


@functools.cache
def program(kind: str, numbers: bool) -> Callable:
    """Value and gradient of entries, compiled once per kind of numbers and shape."""
    chosen = {
        name: entry.of
        for name, entry in EVERY.items()
        if entry.numbers == numbers and (kind == "float64" or name not in SHOWN)
    }
    return jax.jit(
        lambda *batch: {name: jax.value_and_grad(of)(*batch) for name, of in chosen.items()}
    )


def run(name: str, *batch, dtype=np.float64) -> tuple[float, np.ndarray]:
    with double():
        value, slopes = program(np.dtype(dtype).name, EVERY[name].numbers)(
            *(jnp.asarray(a, dtype) for a in batch)
        )[name]
        return float(value), np.asarray(slopes, float)


def drawn(name: str, seed: int = 0) -> tuple[np.ndarray, ...]:
    return rows(seed, EVERY[name].numbers)


@pytest.mark.slow
@every
def test_zero_for_groups_that_are_copies(name):
    prob, _, weight, label = (np.repeat(a[: N // 2], 2, axis=0) for a in drawn(name))
    value, slopes = run(name, prob, np.eye(2)[np.arange(N) % 2], weight, label)
    together = np.eye(2)[np.zeros(N, int)]
    want = 0.0 if EVERY[name].is_gap else run(name, prob, together, weight, label)[0]
    assert abs(value - want) < 1e-6 and np.isfinite(slopes).all()


@every
def test_not_negative_and_not_zero_for_all(name):
    values = [run(name, *drawn(name, seed))[0] for seed in range(5)]
    assert min(values) >= 0 and max(values) > 1e-3


@every
def test_rows_and_groups_have_no_order(name):
    prob, groups, weight, label = drawn(name, 1)
    value, slopes = run(name, prob, groups, weight, label)
    order = np.random.default_rng(0).permutation(N)
    for columns in ([0, 1], [1, 0]):
        moved, moved_slopes = run(
            name, prob[order], groups[order][:, columns], weight[order], label[order]
        )
        np.testing.assert_allclose(moved, value, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(moved_slopes, slopes[order], rtol=1e-6, atol=1e-9)


@every
def test_what_stands_under_a_mask_moves_neither_value_nor_gradient(name):
    prob, groups, weight, label = drawn(name, 2)
    weight[[1, 4, 7]] = 0
    value, slopes = run(name, prob, groups, weight, label)
    prob[[1, 4, 7]], label[[1, 4, 7]] = np.nan, np.nan
    same, same_slopes = run(name, prob, groups, weight, label)
    assert same == value and np.isfinite(value)
    np.testing.assert_array_equal(same_slopes, slopes)
    assert (slopes[[1, 4, 7]] == 0).all()


@every
def test_a_group_may_be_absent(name):
    prob, groups, weight, label = drawn(name, 3)
    for lost in (groups * [1.0, 0.0], 0 * groups):
        value, slopes = run(name, prob, lost, weight, label)
        assert np.isfinite(value) and np.isfinite(slopes).all()
        assert (value == 0 and (slopes == 0).all()) or not EVERY[name].zero_alone


# one works in single precision, the other takes its divisor for a constant: both gradients are
# proportional to this one
PULLS_AS = {"gaussian_mmd": "mmd_gaussian", "adjusted_mmd": "mmd_gaussian"}


@every
def test_gradients_are_finite_differences(name):
    prob, groups, weight, label = drawn(name, 4)
    value, slopes = run(name, prob, groups, weight, label)
    like = PULLS_AS.get(name, name)
    rng, h, scale = (
        np.random.default_rng(4),
        1e-6,
        value / run(like, prob, groups, weight, label)[0],
    )
    for _ in range(3):
        way = rng.normal(size=N)
        up, down = (run(like, prob + s * h * way, groups, weight, label)[0] for s in (1, -1))
        np.testing.assert_allclose(
            slopes @ way, scale * (up - down) / (2 * h), rtol=1e-4, atol=1e-4 * value
        )


@pytest.mark.slow
@others
def test_half_precision_is_finite_and_near(name):
    batch = [np.asarray(jnp.asarray(a, jnp.bfloat16), float) for a in drawn(name, 5)]
    value, slopes = run(name, *batch, dtype=jnp.bfloat16)
    assert np.isfinite(slopes).all()
    assert value == pytest.approx(run(name, *batch)[0], abs=0.1)


@pytest.mark.slow
@others
def test_one_row_is_finite(name):
    for zeros in (False, True):
        value, slopes = run(name, *(a[:1] * (not zeros) for a in drawn(name, 6)), dtype=np.float32)
        assert np.isfinite(value) and np.isfinite(slopes).all()
        if EVERY[name].zero_alone or zeros:
            assert value == 0 and (slopes == 0).all()


# --------------------------------------------------------------------- decisions: soft equals hard


def confusion(decision, weight, label) -> dict[str, float]:
    """The cells of one group's confusion matrix."""
    return {
        cell: weight[(decision == d) & (label == y)].sum()
        for cell, d, y in (("tp", 1, 1), ("fp", 1, 0), ("fn", 0, 1), ("tn", 0, 0))
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


BY_CELLS = {  # of one group's decisions, from its confusion matrix; n is its weight
    "demographic_parity": lambda tp, fp, fn, tn, n: [(tp + fp) / n],
    "equal_opportunity": lambda tp, fp, fn, tn, n: [tp / (tp + fn)],
    "predictive_equality": lambda tp, fp, fn, tn, n: [fp / (fp + tn)],
    "equalized_odds": lambda tp, fp, fn, tn, n: [fp / (fp + tn), tp / (tp + fn)],
    "predictive_parity": lambda tp, fp, fn, tn, n: [tp / (tp + fp)],
    "accuracy_parity": lambda tp, fp, fn, tn, n: [(tp + tn) / n],
    "treatment_equality": lambda tp, fp, fn, tn, n: [fn / fp],
    "f_score_parity": lambda tp, fp, fn, tn, n: [2 * tp / (2 * tp + fp + fn)],
    "auc_parity": lambda tp, fp, fn, tn, n: [
        (1 + tp / (tp + fn) - fp / (fp + tn)) / 2
    ],  # a curve of one corner
    "calibration_in_the_large": lambda tp, fp, fn, tn, n: [(fp - fn) / n],
    "calibration": lambda tp, fp, fn, tn, n: [(fp + fn) / n],  # the first bin's and the last one's
    "log_loss_parity": lambda tp, fp, fn, tn, n: [-np.log(np.finfo(float).eps) * (fp + fn) / n],
    "squared_loss_parity": lambda tp, fp, fn, tn, n: [(fp + fn) / n],
    "absolute_loss_parity": lambda tp, fp, fn, tn, n: [(fp + fn) / n],
}
# the groups' largest, where the notion is no gap
WORST_BY_CELLS = {
    "robust_log": lambda tp, fp, fn, tn: [
        -np.log(np.finfo(float).eps) * rate for rate in (fp / (fp + tn), fn / (fn + tp))
    ],
}
# of the difference of selection rates; all mass is at 0 and 1, where the kernel is e^-100, e^-10
BY_RATES = {
    "mmd_gaussian": lambda gap: 2 * gap**2 * (1 - np.exp(-100)),
    "gaussian_mmd": lambda gap: 2 * gap**2 * (1 - np.exp(-100)),
    "published_mmd": lambda gap: 2 * gap**2 * (1 - np.exp(-100)),
    "mmd_laplacian": lambda gap: 2 * gap**2 * (1 - np.exp(-10)),
    "rate_gap": lambda gap: gap,
    "published_rate_gap": lambda gap: gap,
    "kolmogorov_smirnov": lambda gap: gap,
    "wasserstein": lambda gap: gap,
    "sharpened_rate_gap": lambda gap: gap * (sigmoid(3) - sigmoid(-2)),
    "soft_kolmogorov_smirnov": lambda gap: (
        gap * (sigmoid(10) - sigmoid(-10))
    ),  # most at the threshold in the middle
}


def log_ratio(above: list[float], below: list[float]) -> float:
    """Differential fairness of two groups at a smoothing of 0.1 over two outcomes."""
    theta = [(a + 0.05) / (b + 0.1) for a, b in zip(above, below, strict=True)]
    return abs(np.log(theta[0] / theta[1]))


# of shares of the weight and the selection rates' difference: decisions are moved by 1
BY_SHARES = {
    name: lambda share, gap: share * (1 - share) * gap
    for name in ("barycenter", "barycenter, exact", "projected barycenter")
} | {"sliced": lambda share, gap: gap}


def hard(name: str, decision, groups, weight, label) -> float:
    cells = [confusion(decision[inside], weight[inside], label[inside]) for inside in groups.T > 0]
    if name in BY_CELLS:
        one, two = (BY_CELLS[name](**c, n=sum(c.values())) for c in cells)
        return sum(abs(a - b) for a, b in zip(one, two, strict=True))
    if name in WORST_BY_CELLS:
        one, two = (WORST_BY_CELLS[name](**c) for c in cells)
        return sum(max(a, b) for a, b in zip(one, two, strict=True))
    if name in BY_RATES:
        one, two = ((c["tp"] + c["fp"]) / sum(c.values()) for c in cells)
        return BY_RATES[name](abs(one - two))
    if name in BY_SHARES:
        one, two = (sum(c.values()) for c in cells)
        rates = [(c["tp"] + c["fp"]) / sum(c.values()) for c in cells]
        return BY_SHARES[name](one / (one + two), abs(rates[0] - rates[1]))
    if name in ("correlation_ratio", "published_correlation"):
        cov = np.cov(decision, groups[:, 1], aweights=weight, ddof=0)
        return abs(cov[0, 1]) / (
            np.sqrt(cov[0, 0] * cov[1, 1]) + 1e-6 * (name == "published_correlation")
        )
    assert name.startswith("differential") and not name.endswith("smooth"), name
    pairs = {
        "parity": [("tp fp", "tp fp fn tn"), ("fn tn", "tp fp fn tn")],
        "tpr": [("tp", "tp fn")],
        "fpr": [("fp", "fp tn")],
    }
    asked = {"parity": ["parity"], "opportunity": ["tpr"], "odds": ["tpr", "fpr"]}[name.split()[1]]
    return sum(
        max(
            log_ratio(*([sum(c[k] for k in part.split()) for c in cells] for part in pair))
            for pair in pairs[a]
        )
        for a in asked
    )


# regressions have no decisions; the others have terms that decisions do not determine, and brute
# forces elsewhere
NO_DECISION = {
    name for name, entry in EVERY.items() if entry.numbers or name.endswith("smooth")
} | {"adjusted_mmd", "sinkhorn"}
ON_LEVELS = {
    "barycenter",
    "projected barycenter",
}  # where rates differ is known to one of 256 levels, times share (1 - share)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in NO_DECISION])
def test_on_decisions_it_is_the_hard_metric(name):
    for seed in range(3):
        prob, groups, weight, label = drawn(name, 10 + seed)
        decision = np.array(
            [1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0.0]
        )  # every cell has rows in both groups
        decision = np.roll(decision, 4 * seed)
        assert (
            min(min(confusion(decision[g], weight[g], label[g]).values()) for g in groups.T > 0) > 0
        )
        near = 0.5 / 256 if name in ON_LEVELS else 1e-7
        np.testing.assert_allclose(
            run(name, decision, groups, weight, label)[0],
            hard(name, decision, groups, weight, label),
            rtol=1e-5,
            atol=near,
        )


# ------------------------------------------------------------------------- constants may be mapped

CONSTANTS = {
    "gaussian": lambda c: partial(notions.mmd, kernel=notions.gaussian_kernel(c)),
    "laplacian": lambda c: partial(notions.mmd, kernel=notions.laplacian_kernel(c)),
    "adjusted_mmd": lambda c: partial(notions.adjusted_mmd, kernel=notions.gaussian_kernel(c)),
    "published_mmd": lambda c: partial(notions.published_mmd, kernel=notions.gaussian_kernel(c)),
    "gaussian_mmd": lambda c: partial(notions.gaussian_mmd, bandwidth=c, smallest=0.1),
    "sharpened threshold": lambda c: partial(
        notions.sharpened_rate_gap, threshold=c, temperature=0.2
    ),
    "sharpened temperature": lambda c: partial(
        notions.sharpened_rate_gap, threshold=0.4, temperature=c
    ),
    "published_rate_gap": lambda c: partial(notions.published_rate_gap, threshold=c),
    "soft_ks thresholds": lambda c: partial(
        notions.soft_kolmogorov_smirnov, thresholds=c * jnp.linspace(0.1, 1.0, 5), temperature=0.1
    ),
    "soft_ks temperature": lambda c: partial(
        notions.soft_kolmogorov_smirnov, thresholds=np.linspace(0.1, 0.9, 5), temperature=c
    ),
    "soft auc": lambda c: partial(
        notions.parity, statistic=statistics.pairwise_auc(c), gap=gaps.difference
    ),
    "log_sum_exp": lambda c: partial(
        notions.parity,
        statistic=statistics.selection_rate,
        gap=partial(gaps.log_sum_exp, temperature=c),
    ),
    "norm": lambda c: partial(
        notions.parity, statistic=statistics.selection_rate, gap=partial(gaps.norm, order=1 + c)
    ),
    "concentration": lambda c: (
        lambda p, g, w, y: differential.epsilon(
            differential.count(differential.two(p), differential.two(y), g, w), concentration=c
        )
    ),
}
VALUES = np.array([0.1, 0.3, 0.8])


@functools.cache
def over_constants():
    """Mapped and one by one, in double precision.

    In single precision, kernel means that nearly cancel depend on the order of sums.
    """

    def at(c):
        prob, groups, weight, label = map(jnp.asarray, rows(7))
        made = {name: make(c) for name, make in CONSTANTS.items()}
        return {
            name: of(
                prob, groups, weight, *([label] if "auc" in name or name == "concentration" else [])
            )
            for name, of in made.items()
        }

    with double():
        one = jax.jit(at)
        return jax.jit(jax.vmap(at))(jnp.asarray(VALUES)), [one(jnp.asarray(c)) for c in VALUES]


@pytest.mark.parametrize("name", CONSTANTS)
def test_mapped_over_a_constant_it_is_the_loop(name):
    mapped, alone = over_constants()
    np.testing.assert_allclose(mapped[name], [one[name] for one in alone], rtol=1e-5, atol=1e-6)
    assert len(np.unique(mapped[name])) > 1


@pytest.mark.parametrize("bins", [1, 2, 7])
def test_calibration_with_any_number_of_bins_is_a_loop(bins):
    prob, groups, weight, label = rows(8)
    value, _ = statistics.calibration_error(bins).of(
        *(jnp.asarray(a, jnp.float32) for a in (prob, label, groups, weight))
    )
    for g, inside in enumerate(groups.T > 0):
        off = (weight * (prob - label))[inside]
        want = (
            sum(abs(off[np.floor(prob[inside] * bins) == b].sum()) for b in range(bins))
            / weight[inside].sum()
        )
        np.testing.assert_allclose(value[g], want, rtol=1e-5)
