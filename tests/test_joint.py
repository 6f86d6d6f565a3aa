"""Joint repair and joint distances: closed forms of Gaussians, OTT, scipy, numpy in float64, and
what repair must not do."""

from __future__ import annotations

import functools
import itertools
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from fairjax import metrics, notions
from fairjax import postprocess as joint
from fairjax.core.types import Post
from fairjax.notions.distribution import kolmogorov_smirnov
from fairjax.postprocess._free_support import draw_points, smooth
from fairjax.postprocess._gaussian import bures_barycenter, optimal_map

KEY = jax.random.key(3)
NOTES = np.array([[[1.0, r], [r, 1.0]] for r in (0.9, -0.6)])  # covariances of the two groups
BARYCENTER = np.array([[0.8179450, 0.1929450], [0.1929450, 0.8179450]])
POOL, HELD, POINTS = 240, 1000, 80
EXTEND = {"entropic": joint.entropic(0.05), "kernel": joint.kernel(epsilon=0.05)}
# both maps of one cloud: the barycenter is found, and the program compiled, once
CLOUD = joint.free_support(
    KEY,
    POINTS,
    lambda *cloud: {name: extend(*cloud) for name, extend in EXTEND.items()},
    epsilon=0.05,
)
every = pytest.mark.parametrize("name", ["gaussian", *EXTEND])
CLOUD_FIT, CLOUD_APPLY = jax.jit(CLOUD.fit), jax.jit(CLOUD.apply)
GAUSSIAN = joint.gaussian()


def of_cloud(name: str) -> Post:
    def fit(scores, groups, weight):
        state = CLOUD_FIT(scores, groups, weight)
        return state._replace(smoother=state.smoother[name])

    return Post(fit, CLOUD_APPLY)


POSTS = {
    "gaussian": Post(jax.jit(GAUSSIAN.fit), jax.jit(GAUSSIAN.apply)),
    **{name: of_cloud(name) for name in EXTEND},
}


def moved_by(post: Post, scores, groups, weight):
    """A pool moved by what was fitted to it, in one program."""
    return np.asarray(
        jax.jit(lambda *pool: post.apply(post.fit(*pool), *pool[:2]))(scores, groups, weight)
    )


def repaired(name: str, pool, scores, groups, amount=1.0):
    state = fitted(name) if pool is POOLED else POSTS[name].fit(*pool)
    return np.asarray(POSTS[name].apply(state, scores, groups, amount=amount))


@functools.cache
def fitted(name: str):
    return POSTS[name].fit(*POOLED)


def halves(rows: int) -> np.ndarray:
    return np.repeat(np.eye(2, dtype=np.float32), rows // 2, axis=0)


def correlated(seed: int, rows: int, shift: float = 0.0):
    """Scores, groups and weights of two groups of standard normal pairs that differ in their
    correlation."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(2, rows // 2, 2)) @ np.linalg.cholesky(NOTES).transpose(0, 2, 1)
    normal += shift * np.array([1.0, -1.0])[:, None, None]
    return normal.reshape(-1, 2).astype(np.float32), halves(rows), np.ones(rows, np.float32)


def bent(seed: int, rows: int):
    """Nearly the same means and covariances, not the same laws: one group bends up, the other
    down."""
    rng = np.random.default_rng(seed)
    along, across = rng.normal(size=rows), 0.3 * rng.normal(size=rows)
    side = np.repeat([1.0, -1.0], rows // 2)
    scores = np.stack([along, side * 0.64 * (along**2 - 1) + across], axis=1)
    return scores.astype(np.float32), halves(rows), np.ones(rows, np.float32)


POOLED, HELD_OUT = correlated(0, POOL), correlated(1, HELD)


def root(matrix):
    return scipy.linalg.sqrtm(matrix).real


def bures(a, b):
    return np.trace(a + b - 2 * root(root(a) @ b @ root(a)))


def moments(scores, groups):
    """Means and covariances of groups, divided by the number of rows less one, in float64."""
    parts = [np.asarray(scores, float)[groups[:, g] > 0] for g in range(groups.shape[1])]
    return [p.mean(0) for p in parts], [np.cov(p.T).reshape(p.shape[1], -1) for p in parts]


@functools.cache
def distance():
    return jax.jit(partial(metrics.sliced_wasserstein, key=KEY, directions=32))


correlations = jax.jit(metrics.group_correlations)


# ---------------------------------------------------------------------------------- the closed form


def test_the_error_to_the_population_barycenter_falls_with_the_pool():
    scores, groups, _ = (
        np.stack(part) for part in zip(*(correlated(seed, 10000) for seed in range(8)), strict=True)
    )
    fit = jax.jit(jax.vmap(joint.gaussian().fit, (0, 0, None)))

    def error(rows):
        turn = np.asarray(
            fit(scores, groups, (np.arange(10000) % 5000 < rows / 2).astype(np.float32)).turn
        )[:, :2]
        reached = turn @ NOTES @ turn.transpose(0, 1, 3, 2)
        return np.mean(np.abs(reached - BARYCENTER))

    few, more, many = error(100), error(1000), error(10000)
    assert many < 0.015 and many < 0.6 * more and more < 0.6 * few


def test_the_fixed_point_and_the_maps_are_otts():
    from ott.geometry.costs import Bures
    from ott.tools.gaussian_mixture.gaussian import Gaussian

    rng = np.random.default_rng(0)
    half = rng.normal(size=(4, 3, 5))
    cov = (half @ half.transpose(0, 2, 1) / 5 + 0.1 * np.eye(3)).astype(np.float32)
    pi = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    packed = jnp.concatenate([jnp.zeros((4, 3)), cov.reshape(4, -1)], axis=1)
    points = rng.normal(size=(7, 3)).astype(np.float32)

    @jax.jit
    def ours(cov):
        middle = bures_barycenter(cov, pi, 64)
        return middle, points @ optimal_map(cov[0], middle)

    @jax.jit
    def theirs(cov):
        middle = Bures(3).barycenter(pi, packed, tolerance=1e-9)[0][3:].reshape(3, 3)
        source, target = (Gaussian.from_mean_and_cov(jnp.zeros(3), c) for c in (cov[0], middle))
        return middle, source.transport(target, points)

    for mine, other in zip(ours(cov), theirs(cov), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=2e-3)


def test_in_one_dimension_it_is_the_closed_form():
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=(90, 1)) * 3).astype(np.float32)
    scores[60:] = 5 + 0.2 * scores[60:]
    groups = np.eye(2, dtype=np.float32)[(np.arange(90) >= 60).astype(int)]
    post = joint.gaussian(prior=0.0, ridge=0.0)
    got = moved_by(post, scores, groups, np.ones(90, np.float32))
    mean, deviation = np.array(
        [[p.mean(), p.std(ddof=1)] for p in (scores[:60], scores[60:])], float
    ).T
    pi, g = np.array([2 / 3, 1 / 3]), groups.argmax(1)
    expected = pi @ mean + (pi @ deviation) * (scores[:, 0] - mean[g]) / deviation[g]
    np.testing.assert_allclose(got[:, 0], expected, rtol=0, atol=1e-4)


def test_two_groups_pay_the_least_that_transport_allows():
    """``pi_0 pi_1 W_2^2`` between the groups' Gaussians; and what is left between them falls with
    the amount as a line."""
    scores, groups, weight = correlated(4, POOL, shift=0.5)
    deviation = scores.std(0)
    post = joint.gaussian(prior=0.0, ridge=0.0)
    state, apply = jax.jit(post.fit)(scores, groups, weight), jax.jit(post.apply)
    (m0, m1), (s0, s1) = moments(scores / deviation, groups)
    apart = np.sum((m0 - m1) ** 2) + bures(s0, s1)
    moved = (np.asarray(apply(state, scores, groups, amount=1.0)) - scores) / deviation
    least = 0.25 * apart
    # the squared moves are means over rows, the covariances are divided by one row less
    np.testing.assert_allclose(np.mean(np.sum(moved**2, axis=1)), least, rtol=0.01)
    for amount in (0.25, 0.75):
        (m0, m1), (s0, s1) = moments(
            np.asarray(apply(state, scores, groups, amount=amount)) / deviation, groups
        )
        np.testing.assert_allclose(
            np.sum((m0 - m1) ** 2) + bures(s0, s1), (1 - amount) ** 2 * apart, rtol=1e-3
        )


def test_the_weights_of_tasks_are_a_cost_that_is_minimised():
    scores, groups, weight = correlated(4, POOL, shift=0.5)
    scores[groups[:, 1] > 0, 0] *= 2
    cost = np.array([10.0, 1.0], np.float32)

    def paid(post):
        return cost @ np.mean(
            ((moved_by(post, scores, groups, weight) - scores) / scores.std(0)) ** 2, axis=0
        )

    assert paid(joint.gaussian(cost)) < 0.99 * paid(POSTS["gaussian"])


def test_given_shares_are_the_barycenters_weights():
    scores, groups, weight = correlated(4, POOL, shift=1.0)
    post = joint.gaussian(share=np.array([1.0, 0.0], np.float32))
    got = moved_by(post, scores, groups, weight)
    np.testing.assert_allclose(
        got[:120], scores[:120], rtol=0, atol=1e-4
    )  # all must become the first group, which stays
    assert np.abs(got[120:] - scores[120:]).mean() > 1.0


def test_weights_count_as_repeated_rows():
    scores, groups, _ = correlated(5, POOL)
    times = np.random.default_rng(0).integers(1, 4, POOL)
    row, copy = np.repeat(np.arange(POOL), 3), np.tile(np.arange(3), POOL)
    fit = jax.jit(joint.gaussian(prior=0.0).fit)
    weighted, repeated = (
        fit(scores[row], groups[row], weight.astype(np.float32))
        for weight in (times[row] * (copy == 0), copy < times[row])
    )
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=0, atol=1e-5)
    # how many rows the weights are worth is an estimate, and only in the correction of a covariance
    # for its mean
    np.testing.assert_allclose(weighted.turn, repeated.turn, rtol=0, atol=0.01)


# --------------------------------------------------------------------------------- clouds of points


def test_the_entropic_map_is_otts():
    from ott.geometry.pointcloud import PointCloud
    from ott.solvers import linear

    state = fitted("entropic")
    points, _, _ = jax.jit(draw_points, static_argnums=3)(
        KEY,
        (POOLED[0] - state.centre) / state.scale,
        np.concatenate([POOLED[1], np.ones((POOL, 1))], axis=1),
        POINTS,
    )
    new = HELD_OUT[0][:50]

    @jax.jit
    def moved(points, bar, z):
        return (
            linear.solve(PointCloud(points, bar, epsilon=0.05), max_iterations=2000)
            .to_dual_potentials()
            .transport(z)
        )

    theirs = state.centre + state.scale * moved(
        points[0], state.smoother.value[0], (new - state.centre) / state.scale
    )
    np.testing.assert_allclose(
        repaired("entropic", POOLED, *HELD_OUT[:2])[:50], theirs, rtol=0, atol=2e-3
    )


def test_the_kernel_map_is_a_regression_of_where_the_points_go():
    state = jax.tree.map(lambda leaf: np.asarray(leaf, float), fitted("kernel"))
    new = (HELD_OUT[0][-1] - state.centre) / state.scale
    point, place = state.smoother.point[1], state.smoother.value[1]
    near = np.exp(-np.sum((point - new) ** 2, axis=1) / (2 * 0.1**2))
    expected = state.centre + state.scale * (near @ place / near.sum())
    np.testing.assert_allclose(
        repaired("kernel", POOLED, *HELD_OUT[:2])[-1], expected, rtol=0, atol=1e-4
    )
    own = ((POOLED[0] - state.centre) / state.scale)[120:]
    assert (
        np.abs(point[:, None] - own[None]).sum(2).min(1).max() < 1e-4
    )  # rows of the second group, all of them different
    assert len(np.unique(point, axis=0)) == POINTS


def test_regressing_moves_keeps_what_the_kernel_cannot_see():
    """Points and barycenter of one law: hardly anything should move. A mean over neighbours
    shrinks; a mean move does not."""
    draws = np.random.default_rng(0).normal(size=(3, POINTS, 2)).astype(np.float32)

    @jax.jit
    def spread(points, bar, new):
        mass = jnp.full(POINTS, 1 / POINTS)
        return [
            jnp.var(
                jax.vmap(smooth, (None, 0))(joint.kernel(0.5, 0.05, moves)(points, mass, bar), new)
            )
            for moves in (True, False)
        ]

    moved, shrunk = spread(*draws)
    assert shrunk < 0.75 * np.var(draws[2]) and 0.85 * np.var(draws[2]) < moved < 1.15 * np.var(
        draws[2]
    )


def test_in_one_dimension_the_cloud_is_the_mean_of_quantiles():
    rng = np.random.default_rng(0)
    scores = np.zeros((POOL, 2), np.float32)
    scores[:, 0] = np.concatenate([rng.normal(size=120), 2 + rng.exponential(size=120)])
    state = POSTS["entropic"].fit(scores, *POOLED[1:])
    bar = np.sort(np.asarray(state.centre + state.scale * state.smoother.value[0])[:, 0])
    level = (np.arange(POINTS) + 0.5) / POINTS
    expected = sum(np.quantile(scores[POOLED[1][:, g] > 0, 0], level) for g in range(2)) / 2
    assert np.mean(np.abs(bar - expected)) < 0.15
    assert (
        np.mean(np.abs(np.quantile(scores[:, 0], level) - expected)) > 0.3
    )  # the pool's own law is something else


def test_clouds_see_what_means_and_covariances_do_not():
    pool, held = bent(2, POOL), bent(1, HELD)
    left = {name: float(distance()(repaired(name, pool, *held[:2]), *held[1:])) for name in POSTS}
    before = float(distance()(*held))
    assert left["gaussian"] > 0.7 * before
    assert left["entropic"] < 0.4 * before and left["kernel"] < 0.4 * before


# --------------------------------------------------------------------------- what every repair does


def per_task() -> Post:
    """Exact repair of each task alone for two groups of equal size; knows nothing of amounts."""

    def fit(scores, groups, weight):
        own = jax.vmap(
            lambda m: jnp.sort(jnp.where((m * weight)[:, None] > 0, scores, jnp.inf), axis=0), 1
        )(groups)
        return own[:, : len(scores) // 2]

    def apply(state, scores, groups, key=None):
        middle = (jnp.arange(state.shape[1]) + 0.5) / state.shape[1]

        def of_task(column, own):
            level = jnp.sum(
                groups.T * jnp.stack([jnp.interp(column, table, middle) for table in own]), axis=0
            )
            return jnp.interp(level, middle, jnp.mean(own, axis=0))

        return jax.vmap(of_task, (1, 2), 1)(scores, state)

    return Post(fit, apply)


@functools.cache
def repaired_each():
    alone = per_task()
    return jax.jit(lambda pool, *new: alone.apply(alone.fit(*pool), *new))(POOLED, *HELD_OUT[:2])


@every
def test_the_pair_of_scores_reveals_the_group_after_repair_of_each_and_hardly_after_joint_repair(
    name,
):
    scores, groups, weight = HELD_OUT
    rho = correlations(repaired_each(), groups, weight)[:, 0, 1]
    assert rho[0] > 0.85 and rho[1] < -0.5
    together = repaired(name, POOLED, scores, groups)
    rho = correlations(together, groups, weight)[:, 0, 1]
    assert np.all(np.abs(np.asarray(rho) - 0.236) < 0.15)
    assert distance()(together, groups, weight) < 0.15 * distance()(repaired_each(), groups, weight)


@every
def test_the_price_is_near_the_least_that_transport_allows(name):
    least = 0.25 * bures(*NOTES)
    paid = np.mean(np.sum((repaired(name, POOLED, *HELD_OUT[:2]) - HELD_OUT[0]) ** 2, axis=1))
    assert (
        0.8 * least < paid < 1.6 * least
    )  # an entropic barycenter shrinks, and a small pool costs something


def test_groups_of_one_law_are_left_alone():
    scores = np.tile(correlated(0, POOL)[0][:120], (2, 1))
    np.testing.assert_allclose(
        repaired("gaussian", (scores, *POOLED[1:]), *HELD_OUT[:2]), HELD_OUT[0], rtol=0, atol=1e-3
    )


@every
def test_the_order_of_groups_changes_nothing(name):
    scores, groups, weight = POOLED
    got = repaired(name, (scores, groups[:, ::-1], weight), HELD_OUT[0], HELD_OUT[1][:, ::-1])
    np.testing.assert_allclose(got, repaired(name, POOLED, *HELD_OUT[:2]), rtol=0, atol=2e-3)


@every
def test_units_change_nothing(name):
    unit, zero = np.array([10.0, 0.1], np.float32), np.array([3.0, -1.0], np.float32)
    scores, groups, weight = POOLED
    got = repaired(
        name, (scores * unit + zero, groups, weight), HELD_OUT[0] * unit + zero, HELD_OUT[1]
    )
    np.testing.assert_allclose(
        (got - zero) / unit, repaired(name, POOLED, *HELD_OUT[:2]), rtol=0, atol=5e-3
    )


@every
def test_the_amount_is_a_line(name):
    whole = repaired(name, POOLED, *HELD_OUT[:2])
    np.testing.assert_allclose(repaired(name, POOLED, *HELD_OUT[:2], 0.0), HELD_OUT[0])
    np.testing.assert_allclose(
        repaired(name, POOLED, *HELD_OUT[:2], 0.25), 0.75 * HELD_OUT[0] + 0.25 * whole, atol=1e-5
    )


@every
def test_one_row_is_moved_as_in_a_batch(name):
    one = POSTS[name].apply(fitted(name), HELD_OUT[0][7:8], HELD_OUT[1][7:8], amount=1.0)
    np.testing.assert_allclose(one[0], repaired(name, POOLED, *HELD_OUT[:2])[7], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gaussian", "entropic"])
def test_models_of_a_sweep_are_repaired_in_one_call(name):
    scores = np.stack([POOLED[0], 2 * POOLED[0], POOLED[0][:, ::-1]])
    post, (_, groups, weight) = POSTS[name], POOLED
    got = jax.jit(jax.vmap(lambda s: post.apply(post.fit(s, groups, weight), s, groups)))(scores)
    for model, own in zip(got, scores, strict=True):
        np.testing.assert_allclose(
            model, repaired(name, (own, groups, weight), own, groups), rtol=0, atol=2e-3
        )


@every
def test_padding_has_no_say(name):
    scores, groups, weight = (part.copy() for part in POOLED)
    weight[::7] = 0
    blank, poisoned = scores.copy(), scores.copy()
    blank[::7], poisoned[::7] = 0, np.nan
    expected = repaired(name, (blank, groups, weight), *HELD_OUT[:2])
    np.testing.assert_array_equal(
        repaired(name, (poisoned, groups, weight), *HELD_OUT[:2]), expected
    )
    assert np.isfinite(expected).all()


@every
def test_a_group_of_one_row_or_two_is_no_accident(name):
    scores, _, weight = POOLED
    for few in (1, 2):
        groups = np.eye(2, dtype=np.float32)[(np.arange(POOL) < few).astype(int)]
        got = repaired(name, (scores, groups, weight), HELD_OUT[0], HELD_OUT[1])
        assert np.abs(got).max() < 10


def test_fewer_rows_than_tasks_borrow_a_covariance():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(60, 6)).astype(np.float32)
    groups = np.eye(2, dtype=np.float32)[(np.arange(60) < 3).astype(int)]
    post = joint.gaussian()
    new = rng.normal(size=(200, 6)).astype(np.float32)
    tiny = np.tile(np.eye(2, dtype=np.float32)[1], (200, 1))
    moved = jax.jit(lambda *pool: post.apply(post.fit(*pool), new, tiny))(
        scores, groups, np.ones(60, np.float32)
    )
    moved = np.asarray(moved) - scores.mean(0)
    assert np.isfinite(moved).all() and np.mean(moved**2) < 3 * np.mean(new**2)


@every
def test_a_constant_task_stays_where_it_is(name):
    scores = POOLED[0].copy()
    scores[:, 1] = 0.3
    new = HELD_OUT[0].copy()
    new[:, 1] = 0.3
    np.testing.assert_allclose(
        repaired(name, (scores, *POOLED[1:]), new, HELD_OUT[1])[:, 1], 0.3, rtol=0, atol=1e-4
    )


@every
def test_rows_of_unknown_group_and_of_groups_that_the_pool_lacks_follow_the_pool(name):
    scores, groups, weight = correlated(2, POOL, shift=1.0)
    new, member = HELD_OUT[0], HELD_OUT[1]
    unknown = repaired(name, (scores, groups, weight), new, 0 * member)
    assert np.isfinite(unknown).all() and np.abs(unknown.mean(0)).max() < 0.3
    only_first = repaired(name, (scores, groups, weight * groups[:, 0]), new, member)
    nobody = repaired(name, (scores, groups, weight * groups[:, 0]), new, 0 * member)
    np.testing.assert_array_equal(only_first[member[:, 1] > 0], nobody[member[:, 1] > 0])


def test_a_pool_of_padding_is_finite():
    state = POSTS["gaussian"].fit(
        np.full((POOL, 2), np.nan, np.float32), POOLED[1], np.zeros(POOL, np.float32)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@every
def test_a_state_is_arrays_that_a_file_can_hold(name, tmp_path):
    leaves, shape = jax.tree.flatten(fitted(name))
    np.savez(tmp_path / "state.npz", *leaves)
    with np.load(tmp_path / "state.npz") as file:
        state = jax.tree.unflatten(shape, [file[k] for k in file.files])
    np.testing.assert_array_equal(
        POSTS[name].apply(state, *HELD_OUT[:2], amount=1.0), repaired(name, POOLED, *HELD_OUT[:2])
    )


def test_a_last_pass_per_task_restores_equal_laws_and_keeps_the_joint_repair():
    post = joint.compose(POSTS["entropic"], per_task())
    state = post.fit(*POOLED)
    scores, groups, weight = map(jnp.asarray, POOLED)
    ks = jax.jit(jax.vmap(kolmogorov_smirnov, (1, None, None)))
    before = ks(repaired("entropic", POOLED, scores, groups), groups, weight)
    got = post.apply(state, scores, groups)
    assert np.all(np.asarray(ks(got, groups, weight)) <= 1.5 / 120) and np.all(
        np.asarray(before) > 0.03
    )
    held, member, ones = HELD_OUT
    final = post.apply(state, held, member)
    assert distance()(final, member, ones) < 0.15 * distance()(held, member, ones)
    np.testing.assert_allclose(
        post.apply(state, held, member, amount=0.5), (held + final) / 2, rtol=0, atol=1e-5
    )


# ---------------------------------------------------------------------------------------- distances


def three_groups(seed: int):
    rng = np.random.default_rng(seed)
    groups = np.eye(3, dtype=np.float32)[np.repeat(np.arange(3), 40)]
    shift = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    return (
        (rng.normal(size=(120, 2)) + groups @ shift).astype(np.float32),
        groups,
        np.ones(120, np.float32),
    )


THREE = three_groups(0)


def brute_sliced(scores, groups):
    """Every pair's value, in float64, along the same directions."""
    line = np.asarray(jax.random.normal(KEY, (32, 2)), float).T
    line /= np.linalg.norm(line, axis=0)
    parts = [
        np.sort(np.asarray(scores, float)[groups[:, g] > 0] @ line, axis=0)
        for g in range(groups.shape[1])
    ]
    return [np.mean((a - b) ** 2) for a, b in itertools.combinations(parts, 2)]


def test_sliced_distance_is_the_sorted_brute_force():
    scores, groups, weight = THREE
    pairs = np.array(brute_sliced(scores, groups))
    two = weight * (1 - groups[:, 2])
    weights = np.stack([weight, weight, two, two * groups[:, 0]])
    models = np.where(
        weights[:, :, None] > 0, np.stack([scores, 2 * scores, scores, scores]), np.nan
    )

    most, mean = (
        jax.jit(jax.vmap(distance, (0, None, 0)))(models, groups, weights)
        for distance in (
            partial(metrics.sliced_wasserstein, key=KEY, directions=32),
            partial(notions.sliced, key=KEY, directions=32),
        )
    )
    np.testing.assert_allclose(most, [pairs.max(), 4 * pairs.max(), pairs[0], 0], rtol=1e-4)
    np.testing.assert_allclose(mean, [pairs.mean(), 4 * pairs.mean(), pairs[0], 0], rtol=1e-4)


def test_sinkhorn_divergence_is_near_the_assignment():
    scores, groups, weight = THREE
    parts = scores.reshape(3, 40, 2).astype(float)
    prices = [
        np.sum((a[:, None] - b[None]) ** 2, axis=2) for a, b in itertools.combinations(parts, 2)
    ]
    expected = max(price[scipy.optimize.linear_sum_assignment(price)].mean() for price in prices)
    same = np.tile(scores[:40], (3, 1))
    got = jax.jit(jax.vmap(metrics.sinkhorn_divergence, (0, None, None)))(
        np.stack([scores, same]), groups, weight
    )
    np.testing.assert_allclose(got, [expected, 0], rtol=0.01, atol=1e-3)


def test_the_floor_tells_a_difference_from_chance():
    scores, groups, weight = THREE
    beside = jax.jit(
        lambda *batch: metrics.permutation_test(
            KEY, partial(metrics.sliced_wasserstein, key=KEY, directions=8), *batch
        )
    )
    apart = beside(scores, groups, weight)
    np.testing.assert_allclose(apart.p_value, 1 / 21, rtol=1e-6)
    assert apart.value > 10 * apart.floor
    alike = [
        beside(np.random.default_rng(seed).normal(size=(120, 2)).astype(np.float32), groups, weight)
        for seed in range(8)
    ]
    assert np.median([a.p_value for a in alike]) > 0.2
    np.testing.assert_allclose(
        np.mean([a.value for a in alike]), np.mean([a.floor for a in alike]), rtol=0.3
    )


def test_permuted_groups_keep_their_sizes_and_rows_that_do_not_count_keep_their_group():
    rng = np.random.default_rng(0)
    groups = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 60)]
    groups[::9] = 0
    weight = (rng.random(60) > 0.3).astype(np.float32)
    counts = (weight > 0) & groups.any(1)

    def floor(difference):
        def distance(_, drawn, __):
            return jnp.sum(jnp.abs(difference(drawn)))

        scores = np.zeros((60, 1), np.float32)
        return metrics.permutation_test(KEY, distance, scores, groups, weight).floor

    assert floor(lambda drawn: (drawn - groups)[~counts]) == 0
    assert floor(lambda drawn: jnp.sum((drawn - groups)[counts], axis=0)) == 0
    assert floor(lambda drawn: drawn - groups) > 0


def test_correlations_of_groups_are_numpys():
    scores, groups, _ = THREE
    weight = np.random.default_rng(0).integers(0, 4, 120).astype(np.float32)
    poisoned = np.where(weight[:, None] > 0, scores, np.nan)
    got = correlations(poisoned, groups, weight)
    for g in range(3):
        cov = np.cov(scores[groups[:, g] > 0].T.astype(float), aweights=weight[groups[:, g] > 0])
        np.testing.assert_allclose(
            got[g, 0, 1], cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]), rtol=0, atol=1e-5
        )
    assert np.isnan(correlations(scores, groups, weight * (1 - groups[:, 1]))[1]).all()


# ---------------------------------------------------------------------------------------- the extra


def test_without_ott_the_closed_form_works_and_the_rest_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ott", None)
    assert jax.eval_shape(joint.gaussian().fit, *POOLED).turn.shape == (3, 2, 2)
    with pytest.raises(ImportError, match=r"fairjax\[ot\]"):
        joint.free_support(KEY, 10).fit(*POOLED)
