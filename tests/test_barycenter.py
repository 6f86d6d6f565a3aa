"""Exact repair: closed forms, a float64 rewrite in numpy, optimal transport by OTT, and the laws
that the theory states."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import double

from fairjax import postprocess as post
from fairjax.core.types import Attribute, DataError, Spec, Task
from fairjax.postprocess.quantile_table import fit_table_on_host

REPAIR = post.barycenter()
fit, apply = jax.jit(REPAIR.fit), jax.jit(REPAIR.apply)


def jitted(repair):
    return jax.jit(repair.fit), jax.jit(repair.apply)


SHARE, MEAN, DEVIATION = np.array([0.7, 0.3]), np.array([0.0, 1.0]), np.array([1.0, 1.5])


def member(cell, count):
    return jnp.asarray(np.eye(count + 1, count, dtype=np.float32)[cell])  # cell `count` is unknown


def gaussians(rows, seed):
    rng = np.random.default_rng(seed)
    cell = (rng.random(rows) < SHARE[1]).astype(int)
    return rng.normal(MEAN[cell], DEVIATION[cell]), cell


def skewed(rows, count, seed, ties=False):
    """Scores of two tasks whose law is another one in every group."""
    rng = np.random.default_rng(seed)
    cell = rng.integers(0, count, rows)
    score = np.stack([rng.gamma(1 + cell, 1.0), rng.beta(1 + cell / 2, 2.0)], axis=1)
    return (np.round(score, 1) if ties else score), cell


@functools.cache
def pool(rows=600, count=3, ties=False):
    score, cell = skewed(rows, count, 0, ties)
    return score, cell, fit(jnp.float32(score), member(cell, count), jnp.ones(rows))


def kolmogorov(score, cell):
    return max(
        scipy.stats.ks_2samp(score[cell == a], score[cell == b]).statistic
        for a, b in itertools.combinations(np.unique(cell), 2)
    )


# ------------------------------------------------------------------------------------- closed forms


def error_to_oracle(rows, seed):
    (y, s), (new, t) = gaussians(rows, seed), gaussians(20_000, seed + 100)
    state = fit(jnp.float32(y)[:, None], member(s, 2), jnp.ones(rows))
    got = np.asarray(apply(state, jnp.float32(new)[:, None], member(t, 2)))[:, 0]
    return np.sqrt(
        np.mean((got - (SHARE @ MEAN + SHARE @ DEVIATION * (new - MEAN[t]) / DEVIATION[t])) ** 2)
    )


@pytest.mark.slow
def test_the_error_to_the_gaussian_oracle_falls_with_the_pool():
    errors = [
        np.mean([error_to_oracle(rows, seed) for seed in range(4)])
        for rows in (200, 1000, 5000, 20_000)
    ]
    assert np.all(np.diff(errors) < 0) and errors[2] < 0.033 and errors[3] < errors[0] / 6


def test_the_price_is_that_of_gaussians_and_what_the_pool_pays():
    y, s = gaussians(20_000, 0)
    state = fit(jnp.float32(y)[:, None], member(s, 2), jnp.ones(len(y)))
    center, spread = SHARE @ MEAN, SHARE @ DEVIATION
    np.testing.assert_allclose(
        post.price(state)[0], (MEAN - center) ** 2 + (DEVIATION - spread) ** 2, rtol=0.06
    )
    after = apply(state, jnp.float32(y)[:, None], member(s, 2))[:, 0]
    paid = [np.mean((np.asarray(after) - y)[s == g] ** 2) for g in (0, 1)]
    np.testing.assert_allclose(post.price(state)[0], paid, rtol=1e-3)
    np.testing.assert_allclose(post.price(state, 0.5), post.price(state) / 4, rtol=1e-6)


# --------------------------------------------------------------------------------- float64 in numpy


def curve(score, weight=None):
    """Sorted scores and their middle ranks."""
    weight = np.ones(len(score)) if weight is None else weight
    order = np.argsort(score, kind="stable")
    weight = weight[order] / weight.sum()
    return score[order], np.cumsum(weight) - weight / 2


def rank(x, score, weight=None):
    value, level = curve(score, weight)
    atoms = np.unique(value)
    return np.interp(x, atoms, [level[value == a].mean() for a in atoms])


def brute(score, cell, new, new_cell, weight=None):
    count = cell.max() + 1
    weight = np.ones(len(score)) if weight is None else weight
    share = np.bincount(cell, weight, minlength=count) / weight.sum()
    level = np.array([rank(new, score[cell == s], weight[cell == s]) for s in range(count)])[
        new_cell, np.arange(len(new))
    ]
    return sum(
        share[r]
        * np.interp(level, curve(score[cell == r], weight[cell == r])[1], np.sort(score[cell == r]))
        for r in range(count)
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_against_numpy(weighted):
    score, cell, _ = pool()
    weight = (
        np.random.default_rng(5).uniform(0.2, 3.0, len(cell)) if weighted else np.ones(len(cell))
    )
    new, new_cell = skewed(300, 3, 1)
    state = fit(jnp.float32(score), member(cell, 3), jnp.float32(weight))
    got = np.asarray(apply(state, jnp.float32(new), member(new_cell, 3)))
    want = np.stack(
        [brute(score[:, t], cell, new[:, t], new_cell, weight) for t in range(2)], axis=1
    )
    spacing = (
        3.0 / np.sqrt(len(cell)) * score.std(axis=0)
    )  # the tables' error must be small beside the sample's own
    assert np.all(np.abs(got - want).mean(axis=0) < 0.02 * spacing)
    assert np.all(np.abs(got - want).max(axis=0) < 0.35 * spacing)


def test_against_numpy_with_ties():
    score, cell, state = pool(ties=True)
    got = np.asarray(apply(state, jnp.float32(score), member(cell, 3)))
    want = np.stack([brute(score[:, t], cell, score[:, t], cell) for t in range(2)], axis=1)
    np.testing.assert_allclose(got, want, atol=0.04)
    assert len(np.unique(got[cell == 0, 1])) == len(
        np.unique(score[cell == 0, 1])
    )  # equal scores stay equal


@pytest.mark.parametrize("weighted", [False, True])
def test_the_fit_in_numpy_is_the_traced_one(weighted):
    score, cell, _ = pool(ties=True)
    cell = np.where(np.arange(len(cell)) % 7 == 0, 3, cell)  # some unknown
    weight = (
        np.random.default_rng(5).integers(0, 3, len(cell)).astype(float)
        if weighted
        else np.ones(len(cell))
    )
    traced = fit(jnp.float32(score), member(cell, 3), jnp.float32(weight))
    host = fit_table_on_host(score, cell, weight if weighted else None, 3, post.frequency_share)
    gap = np.abs(traced.quantiles - host.quantiles)
    assert gap.mean() < 1e-4 and gap.max() < 0.02  # at the edge of a tie rounding decides
    for one, other in zip(traced[1:], host[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_the_published_convention(count):
    (score, cell), (new, new_cell) = (
        skewed(700, count, 2, ties=count == 5),
        skewed(400, count, 3, ties=count == 5),
    )
    share = np.bincount(cell) / len(cell)
    want = np.zeros(len(new))
    for s in range(
        count
    ):  # the share of rows up to a score, and quantiles between the smallest and the largest
        own, rows = np.sort(score[cell == s, 0]), new_cell == s
        level = np.searchsorted(own, new[rows, 0], side="right") / len(own)
        want[rows] = sum(
            share[r]
            * np.interp(level, np.linspace(0, 1, (cell == r).sum()), np.sort(score[cell == r, 0]))
            for r in range(count)
        )
    with double():
        published = post.published_barycenter()
        state = jax.jit(published.fit)(jnp.asarray(score), member(cell, count), jnp.ones(700))
        got = jax.jit(published.apply)(state, jnp.asarray(new), member(new_cell, count))
    np.testing.assert_allclose(got[:, 0], want, atol=1e-12)


# --------------------------------------------------------------------------------------------- laws


def w2(x, y):
    from ott.geometry.pointcloud import PointCloud
    from ott.solvers.linear import solve_univariate

    return (
        float(
            solve_univariate(PointCloud(jnp.float32(x)[:, None], jnp.float32(y)[:, None])).ot_costs[
                0
            ]
        )
        ** 0.5
    )


@pytest.mark.slow
def test_groups_are_alike_on_the_pool_and_their_distance_falls_with_the_amount():
    score, cell, state = pool(3000)
    for amount in (0.0, 0.25, 0.5, 1.0):
        after = np.asarray(apply(state, jnp.float32(score), member(cell, 3), amount=amount))
        for t, (a, b) in itertools.product(range(2), itertools.combinations(range(3), 2)):
            was, now = (w2(s[cell == a, t], s[cell == b, t]) for s in (score, after))
            assert now == pytest.approx((1 - amount) * was, abs=0.03 * score[:, t].std())
    np.testing.assert_allclose(
        apply(state, jnp.float32(score), member(cell, 3), amount=0.0), score, atol=1e-5
    )


def test_the_tables_themselves_contract_exactly():
    score, cell, state = pool()
    inside = np.asarray(
        state.quantiles[0, :3]
    )  # each group's own quantiles, scored as rows of that group
    rows = jnp.tile(jnp.asarray(inside).reshape(-1, 1), 2)
    half = np.asarray(
        apply(state, rows, member(np.repeat(np.arange(3), inside.shape[1]), 3), amount=0.5)
    )[:, 0]
    half = half.reshape(inside.shape)
    middle = slice(100, 900)  # the ends are ranked as ties
    np.testing.assert_allclose(
        (half[1] - half[0])[middle], 0.5 * (inside[1] - inside[0])[middle], atol=1e-5
    )


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_are_kept_inside_each_group(ties):
    score, cell, state = pool(ties=ties)
    new, new_cell = skewed(500, 3, 7)
    after = np.asarray(apply(state, jnp.float32(new), member(new_cell, 3)))
    for g, t in itertools.product(range(3), range(2)):
        order = np.argsort(new[new_cell == g, t])
        assert np.all(np.diff(after[new_cell == g, t][order]) >= -1e-6)


def test_names_of_groups_do_not_matter():
    score, cell, state = pool()
    other = np.array([2, 0, 1])
    renamed = fit(jnp.float32(score), member(other[cell], 3), jnp.ones(len(cell)))
    np.testing.assert_allclose(
        apply(renamed, jnp.float32(score), member(other[cell], 3)),
        apply(state, jnp.float32(score), member(cell, 3)),
        atol=2e-4,
    )


def test_one_group_stays_as_it_is_even_outside_its_range():
    score, cell, _ = pool()
    alone = fit(jnp.float32(score), member(np.zeros_like(cell), 1), jnp.ones(len(cell)))
    far = jitted(post.barycenter(slope=1.0))[1](
        alone, jnp.array([[-9.0, -9.0], [99.0, 99.0]]), jnp.ones((2, 1))
    )
    np.testing.assert_allclose(
        apply(alone, jnp.float32(score), jnp.ones((len(cell), 1))), score, atol=2e-6
    )
    np.testing.assert_allclose(far, [[-9.0, -9.0], [99.0, 99.0]], rtol=1e-6)


def test_out_of_range_scores_stay_at_the_end_or_keep_their_distance():
    score, cell, state = pool()
    top = np.array([[score[cell == 0, t].max() for t in range(2)]], np.float32)
    at_end, beyond = (apply(state, jnp.asarray(top + d), member([0], 3)) for d in (0.0, 2.0))
    np.testing.assert_allclose(at_end, beyond, atol=1e-5)
    shift = jitted(post.barycenter(slope=1.0))[1]
    shifted = shift(state, jnp.asarray(top + 2.0), member([0], 3))
    np.testing.assert_allclose(shifted, at_end + 2.0, atol=1e-5)
    half, half_beyond = (
        shift(state, jnp.asarray(top + d), member([0], 3), amount=0.5) for d in (0.0, 2.0)
    )
    np.testing.assert_allclose(half_beyond, half + 2.0, atol=1e-5)
    untouched = apply(state, jnp.asarray(top + 2.0), member([0], 3), amount=0.0)
    np.testing.assert_allclose(untouched, top + 2.0, rtol=1e-6)


def test_a_row_alone_a_batch_without_a_group_and_any_order_score_the_same():
    score, cell, state = pool()
    rows, groups = jnp.float32(score[:64]), member(cell[:64], 3)
    whole = np.asarray(apply(state, rows, groups))
    np.testing.assert_array_equal(
        np.concatenate([apply(state, rows[i : i + 1], groups[i : i + 1]) for i in range(64)]), whole
    )
    lacking = cell[:64] != 1
    np.testing.assert_array_equal(apply(state, rows[lacking], groups[lacking]), whole[lacking])


def test_ties_are_taken_apart_with_a_key_and_only_then():
    score, cell, state = pool(4000, 3, ties=True)
    drawn = np.asarray(apply(state, jnp.float32(score), member(cell, 3), jax.random.key(1)))
    plain = np.asarray(apply(state, jnp.float32(score), member(cell, 3)))
    for t in range(2):
        assert (
            kolmogorov(drawn[:, t], cell)
            < 0.035
            < kolmogorov(plain[:, t], cell)
            < kolmogorov(score[:, t], cell)
        )
    again = apply(state, jnp.float32(score), member(cell, 3), jax.random.key(1))
    np.testing.assert_array_equal(again, drawn)


def test_without_ties_a_key_changes_little():
    score, cell, state = pool()
    drawn = apply(state, jnp.float32(score), member(cell, 3), jax.random.key(1))
    assert np.mean(np.abs(drawn - apply(state, jnp.float32(score), member(cell, 3)))) < 1e-3


# -------------------------------------------------------------------------------------------- cells


@pytest.mark.slow
def test_a_tiny_group_an_absent_one_and_the_unknown():
    score, cell = skewed(500, 2, 3)
    cell[:1], cell[1:20] = 2, 4  # one row in group 2, none in group 3, some unknown
    everyone = fit(
        jnp.float32(score[cell < 4]), jnp.ones(((cell < 4).sum(), 1)), jnp.ones((cell < 4).sum())
    )
    state = fit(jnp.float32(score), member(cell, 4), jnp.ones(500))
    np.testing.assert_array_equal(state.rows, [*np.bincount(cell)[:3], 0, 481])
    new = jnp.float32(skewed(5, 1, 9)[0])
    got = apply(state, jnp.concatenate([new] * 2), member([3] * 5 + [4] * 5, 4))
    np.testing.assert_allclose(
        got[:5], got[5:], atol=1e-5
    )  # of both all that is known is the rank among all
    level = jax.vmap(lambda q, v: jnp.interp(v, q, jnp.arange(1024.0)), (0, 1), 1)(
        everyone.quantiles[:, 0], new
    )
    target = jnp.einsum("g,tgk->tk", state.share, state.quantiles[:, :4])
    want = jax.vmap(lambda q, i: jnp.interp(i, jnp.arange(1024.0), q), (0, 1), 1)(target, level)
    np.testing.assert_allclose(got[:5], want, atol=0.01)
    half = apply(state, new, member([4] * 5, 4), amount=0.5)
    np.testing.assert_allclose(half, (new + got[5:]) / 2, atol=1e-5)
    assert np.all(np.isfinite(apply(state, new, member([2] * 5, 4))))


def test_small_groups_lean_on_all_rows():
    score, cell = skewed(400, 2, 3)
    cell[:30] = 2
    rows = jnp.float32(score), member(cell, 3), jnp.ones(400)
    hows = ({}, {"minimum": 50}, {"prior": 90.0})
    own, pooled, between = (jitted(post.barycenter(**how))[0](*rows).quantiles for how in hows)
    np.testing.assert_allclose(pooled[:, 2], pooled[:, 3], atol=1e-6)
    np.testing.assert_allclose(between[:, 2], 0.25 * own[:, 2] + 0.75 * own[:, 3], atol=1e-4)
    np.testing.assert_allclose(own[:, :2], pooled[:, :2])


def test_weights_of_the_barycenter():
    score, cell, state = pool()
    rows = jnp.float32(score), member(cell, 3), jnp.ones(len(cell))
    np.testing.assert_allclose(state.share, np.bincount(cell) / len(cell), rtol=1e-6)
    even, given = (
        jitted(post.barycenter(share=share))[0](*rows)
        for share in (post.uniform_share, lambda mass: jnp.array([1.0, 0.0, 0.0]))
    )
    np.testing.assert_allclose(even.share, 1 / 3, rtol=1e-6)
    to_first = apply(given, *rows[:2])
    np.testing.assert_allclose(to_first[cell == 0], score[cell == 0], atol=1e-4)
    assert (
        w2(to_first[cell == 2, 0], score[cell == 0, 0])
        < 0.1
        < w2(score[cell == 2, 0], score[cell == 0, 0])
    )


def test_padding_may_hold_anything():
    score, cell, state = pool()
    padded = np.concatenate([score, np.full((9, 2), np.nan)]), np.append(cell, [0] * 9)
    weight = np.append(np.ones(len(cell)), np.zeros(9))
    again = fit(jnp.float32(padded[0]), member(padded[1], 3), jnp.float32(weight))
    np.testing.assert_allclose(again.quantiles, state.quantiles, atol=1e-6)
    np.testing.assert_array_equal(again.rows, state.rows)


# --------------------------------------------------------------------------------------- attributes

SIZES = (2, 3, 2)


@functools.cache
def crossed():
    rng = np.random.default_rng(8)
    level = np.stack([rng.integers(0, n, 6000) for n in SIZES])
    level[1] = np.where(
        rng.random(6000) < 0.3, level[0], level[1]
    )  # attributes that are not independent
    score = rng.normal(
        0.5 * level[0] + 0.3 * level[1] - 0.4 * level[2] * level[0], 1 + 0.2 * level[1]
    )
    groups = jnp.concatenate([member(level[a], n) for a, n in enumerate(SIZES)], axis=1)
    return (
        level,
        score,
        groups,
        jitted(post.barycenter(SIZES))[0](jnp.float32(score)[:, None], groups, jnp.ones(6000)),
    )


def path_of(order):
    level, score, groups, state = crossed()
    repair = post.barycenter(SIZES)
    return jax.jit(
        jax.vmap(lambda a: repair.apply(state, jnp.float32(score)[:, None], groups, amount=a))
    )(post.sequential_amounts(order))[:, :, 0]


@pytest.mark.slow
def test_all_attributes_together_are_one_attribute_crossed_and_any_order_ends_there():
    level, score, groups, state = crossed()
    cell = np.ravel_multi_index(level, SIZES)
    one = fit(jnp.float32(score)[:, None], member(cell, 12), jnp.ones(6000))
    want = np.asarray(apply(one, jnp.float32(score)[:, None], member(cell, 12)))[:, 0]
    for order in ((0, 1, 2), (2, 0, 1)):
        path = path_of(order)
        np.testing.assert_allclose(path[-1], want, atol=1e-5)
        np.testing.assert_allclose(path[0], score, atol=1e-5)
    assert max(kolmogorov(want, level[a]) for a in range(3)) < 0.02


def test_the_path_is_the_sequential_repair_without_refitting():
    level, score, groups, state = crossed()
    order, now = (1, 2, 0), score
    path = path_of(order)
    for step, a in enumerate(
        order
    ):  # refitted at every step, inside each cell of the attributes still to come
        later, after = order[step + 1 :], np.empty_like(now)
        for key in itertools.product(*(range(SIZES[b]) for b in later)):
            rows = (
                np.all([level[b] == k for b, k in zip(later, key, strict=True)], axis=0)
                if later
                else np.full(6000, True)
            )
            after[rows] = brute(now[rows], level[a][rows], now[rows], level[a][rows])
        now = after
        assert np.sqrt(np.mean((path[step + 1] - now) ** 2)) < 0.03
        # what is left between the levels of an attribute is gone once it has had its turn, and not
        # before
        gaps = [kolmogorov(np.asarray(path[step + 1]), level[b]) for b in range(3)]
        assert max(gaps[b] for b in order[: step + 1]) < 0.06 and all(gaps[b] > 0.06 for b in later)


def test_a_level_that_nobody_has_is_ranked_among_all_and_goes_where_all_go():
    level, score, groups, _ = crossed()
    seen = level[2] == 0
    fitted, repaired = jitted(post.barycenter(SIZES))
    state = fitted(jnp.float32(score[seen])[:, None], groups[seen], jnp.ones(seen.sum()))
    rows = jnp.float32(score[~seen][:20])[:, None]
    unknown = repaired(state, rows, jnp.zeros((20, 7)))
    for amount in ([1.0, 1.0, 1.0], [1.0, 0.0, 0.0]):
        np.testing.assert_allclose(
            repaired(state, rows, groups[~seen][:20], amount=jnp.array(amount)), unknown, atol=1e-5
        )


def test_amounts_per_attribute():
    level, score, groups, state = crossed()
    rows, repaired = (jnp.float32(score)[:, None], groups), jitted(post.barycenter(SIZES))[1]
    none, some, first = (
        repaired(state, *rows, amount=jnp.array([a, 0, 0]))[:, 0] for a in (0.0, 0.5, 1.0)
    )
    np.testing.assert_allclose(some, 0.5 * none + 0.5 * first, atol=1e-5)
    alone = repaired(state, *rows, amount=jnp.array([0.0, 1.0, 0.0]))[:, 0]  # the others' gaps stay
    (before, after) = (
        [kolmogorov(np.asarray(s), level[a]) for a in range(3)] for s in (none, alone)
    )
    assert (
        after[1] < 0.06 < 0.2 < before[1]
        and after[0] > 0.7 * before[0]
        and after[2] > 0.7 * before[2]
    )
    with pytest.raises(ValueError, match="ask for 7"):
        repaired(state, rows[0], groups[:, :6])


# ---------------------------------------------------------------------------------- transformations


def test_gradients_are_those_of_finite_differences():
    score, cell, state = pool()
    rows, groups = skewed(50, 3, 11)[0], member(skewed(50, 3, 11)[1], 3)
    with double():
        state64, rows64 = (
            jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), state),
            jnp.asarray(rows),
        )
        slope = jax.jit(jax.grad(lambda s: jnp.sum(jnp.sin(apply(state64, s, groups)))))(rows64)
        up, down = (np.sin(np.asarray(apply(state64, rows64 + d, groups))) for d in (1e-7, -1e-7))
    rows = jnp.float32(rows)
    np.testing.assert_allclose((up - down) / 2e-7, slope, atol=1e-5)
    by_amount = jax.grad(lambda a: jnp.sum(apply(state, rows, groups, amount=a)))(0.5)
    ends = [jnp.sum(apply(state, rows, groups, amount=a)) for a in (0.0, 1.0)]
    np.testing.assert_allclose(by_amount, ends[1] - ends[0], rtol=1e-4)


def test_mapped_over_models_draws_and_amounts():
    score, cell, state = pool()
    models = jnp.stack([jnp.float32(score), jnp.float32(score[::-1].copy()) * 2])
    draws = jnp.stack(
        [jnp.ones(len(cell)), jnp.float32(np.random.default_rng(0).poisson(1, len(cell)))]
    )
    amounts, groups = jnp.array([0.3, 1.0]), member(cell, 3)
    each = jax.vmap(jax.vmap(fit, (None, None, 0)), (0, None, None))(models, groups, draws)
    got = jax.vmap(
        lambda a: jax.vmap(lambda m, s: jax.vmap(lambda t: apply(t, m, groups, amount=a))(s))(
            models, each
        )
    )(amounts)
    assert got.shape == (2, 2, 2, len(cell), 2)
    want = apply(fit(models[1], groups, draws[1]), models[1], groups, amount=0.3)
    np.testing.assert_allclose(got[0, 1, 1], want, atol=1e-5)


def test_half_precision_scores_are_repaired_as_such():
    score, cell, state = pool()
    low = apply(state, jnp.asarray(score, jnp.bfloat16), member(cell, 3))
    assert (
        np.mean(
            np.abs(np.asarray(low, np.float32) - apply(state, jnp.float32(score), member(cell, 3)))
        )
        < 0.02
    )


@pytest.mark.parametrize(
    ("name", "to", "back"),
    [("logit", scipy.special.logit, scipy.special.expit), ("log", np.log, np.exp)],
)
def test_scales(name, to, back):
    score, cell, _ = pool()
    score = np.clip(score[:, 1:], 1e-3, 1 - 1e-3)
    scaled, repaired = jitted(post.barycenter(scale=getattr(post, name)))
    rows = jnp.float32(score), member(cell, 3)
    got = repaired(scaled(*rows, jnp.ones(len(cell))), *rows)
    inner = fit(jnp.float32(to(score)), rows[1], jnp.ones(len(cell)))
    np.testing.assert_allclose(
        got, back(np.asarray(apply(inner, jnp.float32(to(score)), rows[1]))), rtol=1e-4
    )


# ---------------------------------------------------------------------------------------- of models

SPEC = Spec(
    (
        Task("hired"),
        Task("pay", "regression", mean=5.0, deviation=2.0),
        Task("job", "multiclass", ("a", "b", "c")),
    ),
    (Attribute("age", (), continuous=True), Attribute("sex", ("f", "m"))),
)


def test_scores_of_a_model():
    rng = np.random.default_rng(4)
    cell, logits = rng.integers(0, 2, 800), rng.normal(size=(800, 5))
    logits += 0.8 * cell[:, None] * np.array([1, -1, 0, 1, 0])
    groups = jnp.concatenate(
        [jnp.ones((800, 2)), member(cell, 2)], axis=1
    )  # the number is not looked at
    fitted, repaired = jitted(post.model_barycenter(SPEC))
    scores = jnp.float32(logits)
    after = repaired(fitted(scores, groups, jnp.ones(800)), scores, groups)
    prob, pay = np.asarray(jax.nn.sigmoid(scores[:, :1])), 5 + 2 * logits[:, 1:2]
    for got, column in ((jax.nn.sigmoid(after[:, :1]), prob), (5 + 2 * after[:, 1:2], pay)):
        want = apply(
            fit(jnp.float32(column), member(cell, 2), jnp.ones(800)),
            jnp.float32(column),
            member(cell, 2),
        )
        np.testing.assert_allclose(got, want, atol=5e-4)
    classes = np.asarray(jax.nn.softmax(after[:, 2:]))
    assert (
        max(kolmogorov(classes[:, c], cell) for c in range(3))
        < 0.08
        < kolmogorov(logits[:, 3], cell)
    )


def test_a_number_has_no_groups_to_repair():
    spec = Spec((Task("hired"),), (Attribute("age", (), continuous=True),))
    for attributes in (None, (0,)):
        with pytest.raises(DataError, match="levels.*age"):
            post.model_barycenter(spec, attributes)


def test_rows_of_the_pool_are_repaired_by_the_others():
    score, cell, _ = pool()
    fold, rows = np.arange(len(cell)) % 4, (jnp.float32(score), member(cell, 3))
    got = jax.jit(
        lambda a: post.cross_fitted(
            REPAIR, *rows, jnp.ones(len(cell)), jnp.asarray(fold), 4, amount=a
        )
    )(0.7)
    for k in range(4):
        state = fit(*rows, jnp.float32(fold != k))
        np.testing.assert_allclose(
            got[fold == k], apply(state, *rows, amount=0.7)[fold == k], atol=1e-5
        )


def test_in_the_pool_unfairness_means_nothing():
    inside, outside = [], []
    for seed in range(20):
        (y, s), (new, t) = gaussians(200, seed), gaussians(4000, seed + 50)
        state = fit(jnp.float32(y)[:, None], member(s, 2), jnp.ones(200))
        inside.append(
            kolmogorov(np.asarray(apply(state, jnp.float32(y)[:, None], member(s, 2)))[:, 0], s)
        )
        outside.append(
            kolmogorov(np.asarray(apply(state, jnp.float32(new)[:, None], member(t, 2)))[:, 0], t)
        )
    assert np.mean(inside) < 0.03 and np.mean(outside) == pytest.approx(
        0.146, abs=0.03
    )  # as known of such pools
