"""Transport penalties and distances of distributions: brute forces, closed forms, OTT and scipy."""

from __future__ import annotations

import functools
import itertools
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats
from cases import dataset, double, rows, slope, tabular_spec, terms_of

from fairjax import metrics, notions, objectives
from fairjax.core.keys import Metric
from fairjax.core.ordering import ordered
from fairjax.core.types import Attribute, Columns, Dataset, Spec, Task
from fairjax.models import scores, shared_bottom
from fairjax.notions import everyone, from_distance, jointly
from fairjax.notions.distribution import apart, steps

KEY = jax.random.key(3)


# ------------------------------------------------------------------------------------ brute forces


def quantile(value, weight, level) -> float:
    """The smallest value at which the weight below and at it reaches the level; by a loop."""
    reached, total = 0.0, weight.sum()
    for v, w in sorted(zip(value, weight, strict=True)):
        reached += w / total
        if reached >= level - 1e-12:
            return v
    raise AssertionError("a level above 1")


def members(groups, weight) -> list[np.ndarray]:
    """Weights of every present group."""
    every = [
        np.asarray(weight, float) * np.asarray(groups, float)[:, g] for g in range(groups.shape[1])
    ]
    return [w for w in every if w.sum() > 0]


def brute_barycenter(prob, groups, weight, levels: int | None) -> float:
    """``sum_g pi_g int (Q_g - Qbar)^2`` at mid-points, or between all levels of a jump."""
    prob, inside = np.asarray(prob, float), members(groups, weight)
    share = np.array([w.sum() for w in inside]) / sum(w.sum() for w in inside)
    edges = (
        np.arange(levels + 1) / levels
        if levels
        else np.unique(
            np.concatenate(
                [[0.0], *(np.cumsum(w[np.argsort(prob)]) / w.sum() for w in inside)]
            ).round(12)
        )
    )
    total = 0.0
    for low, high in itertools.pairwise(edges):
        q = np.array([quantile(prob[w > 0], w[w > 0], (low + high) / 2) for w in inside])
        total += (high - low) * share @ (q - share @ q) ** 2
    return total


def brute_w2(prob, one, other) -> float:
    """``W_2^2`` of two weighted samples, from the pooled form of two equal shares."""
    pair = np.stack([one / one.sum(), other / other.sum()], axis=1)
    return 4 * brute_barycenter(
        np.tile(prob, 2), np.repeat(np.eye(2), len(prob), axis=0), np.concatenate(pair.T), None
    )


@functools.cache
def compiled(levels: int | None):
    return jax.jit(jax.value_and_grad(partial(notions.barycenter_distance, levels=levels)))


# -------------------------------------------------------------------------------------- barycenter


@pytest.mark.parametrize("levels", [7, 256, None])
@pytest.mark.parametrize("seed", range(3))
def test_barycenter_is_the_brute_force_with_its_gradient(levels, seed):
    prob, groups, weight = rows(seed, 14, 3)
    weight[[2, 5]] = 0.0
    with double():
        batch = [np.asarray(a, np.float64) for a in (prob, groups, weight)]
        value, slopes = compiled(levels)(*batch)
        np.testing.assert_allclose(value, brute_barycenter(*batch, levels), rtol=1e-9)
        np.testing.assert_allclose(
            slopes,
            slope(lambda p: brute_barycenter(p, *batch[1:], levels), prob),
            rtol=1e-5,
            atol=1e-8,
        )


def test_moving_every_group_to_the_barycenter_costs_it():
    """The fair map by hand: groups of equal size go rank by rank to the mean of the ranks."""
    rng = np.random.default_rng(0)
    prob = np.sort(rng.uniform(size=(3, 20)), axis=1)
    groups = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    moved = np.broadcast_to(prob.mean(axis=0), (3, 20))
    value, slopes = compiled(None)(prob.astype(np.float32).ravel(), groups, np.ones(60, np.float32))
    np.testing.assert_allclose(value, np.mean((prob - moved) ** 2), rtol=1e-5)
    np.testing.assert_allclose(slopes, 2 * (prob - moved).ravel() / 60, rtol=1e-4, atol=1e-7)
    stepped = (prob - 30 * slopes.reshape(3, 20)).astype(
        np.float32
    )  # a step of half a slope per unit of weight is the map
    assert compiled(None)(stepped.ravel(), groups, np.ones(60, np.float32))[0] < 1e-12


def test_of_gaussians_it_is_the_spread_of_means_and_deviations():
    share, mean, deviation = (
        np.array([0.5, 0.3, 0.2]),
        np.array([0.0, 1.0, -0.5]),
        np.array([1.0, 0.5, 2.0]),
    )
    sizes = (share * 4000).astype(int)
    prob = np.concatenate(
        [
            m + v * scipy.stats.norm.ppf((np.arange(n) + 0.5) / n)
            for m, v, n in zip(mean, deviation, sizes, strict=True)
        ]
    ).astype(np.float32)
    want = share @ ((mean - share @ mean) ** 2 + (deviation - share @ deviation) ** 2)
    groups = np.repeat(np.eye(3, dtype=np.float32), sizes, axis=0)
    np.testing.assert_allclose(
        jax.jit(notions.barycenter_distance)(prob, groups, np.ones(4000, np.float32)),
        want,
        rtol=0.01,
    )


def test_of_two_groups_it_is_otts_distance_times_both_shares():
    from ott.geometry.pointcloud import PointCloud
    from ott.solvers.linear import solve_univariate

    prob, groups, weight = rows(5, 60)
    inside = [weight * groups[:, g] for g in range(2)]
    a, b = (jnp.asarray(w / w.sum()) for w in inside)
    theirs = solve_univariate(PointCloud(prob[:, None], prob[:, None]), a, b).ot_costs[0]
    share = inside[0].sum() / weight.sum()
    np.testing.assert_allclose(
        compiled(None)(prob, groups, weight)[0], share * (1 - share) * theirs, rtol=1e-4
    )
    np.testing.assert_allclose(
        compiled(256)(prob, groups, weight)[0], share * (1 - share) * theirs, rtol=0.03
    )


def test_it_is_over_pairs_and_not_against_all_rows_together():
    rng = np.random.default_rng(1)
    prob = (rng.normal(size=(8, 12)) + rng.normal(size=(8, 1))).ravel()
    groups, weight = np.repeat(np.eye(8, dtype=np.float32), 12, axis=0), np.ones(96, np.float32)
    value = float(compiled(None)(prob.astype(np.float32), groups, weight)[0])
    inside = members(groups, weight)
    pairs = sum(brute_w2(prob, a, b) for a, b in itertools.combinations(inside, 2)) / 64
    pooled = np.mean([brute_w2(prob, a, np.ones(96)) for a in inside])
    np.testing.assert_allclose(value, pairs, rtol=1e-4)
    assert pooled > 1.05 * value


def test_equal_scores_share_one_value_and_one_slope():
    prob, groups, weight = rows(4, 8)
    value, slopes = compiled(None)(prob, groups, weight)
    twice, each = compiled(None)(*(np.repeat(a, 2, axis=0) for a in (prob, groups, weight)))
    np.testing.assert_allclose(twice, value, rtol=1e-5)
    np.testing.assert_allclose(each.reshape(8, 2).sum(axis=1), slopes, rtol=1e-4, atol=1e-6)


def test_an_attribute_of_one_level_has_no_distance():
    prob, _, weight = rows(0)
    every = {"barycenter": notions.barycenter_distance, **JOINT}
    for value, slopes in jax.jit(
        lambda *batch: [jax.value_and_grad(of)(*batch) for of in every.values()]
    )(prob, np.ones((12, 1), np.float32), weight):
        assert value == 0 and not np.any(slopes)


# ------------------------------------------------------------------------- several columns at once

JOINT = {
    "sliced": partial(notions.sliced, key=KEY, directions=16),
    "projected": partial(
        notions.projected,
        key=KEY,
        distance=partial(notions.barycenter_distance, levels=None),
        directions=16,
    ),
    "sinkhorn": partial(notions.sinkhorn, epsilon=0.2),
}
joint = pytest.mark.parametrize("name", JOINT)


def columns(seed: int, n: int = 24, groups: int = 3) -> tuple[np.ndarray, ...]:
    """Points of two columns whose correlation differs by group, with equal marginals."""
    _, member, weight = rows(seed, n, groups)
    points = np.random.default_rng(seed).normal(size=(n, 2))
    lean = np.linspace(-0.9, 0.9, groups)[member.argmax(1)]
    points[:, 1] = lean * points[:, 0] + np.sqrt(1 - lean**2) * points[:, 1]
    return points.astype(np.float32), member, weight


@functools.cache
def on_columns():
    """Value and gradient of all, one program per shape."""
    return jax.jit(
        lambda *batch: {name: jax.value_and_grad(of)(*batch) for name, of in JOINT.items()}
    )


def brute_sinkhorn(points, one, other, epsilon: float) -> float:
    """The debiased value from the dual, by many alternating soft minima."""

    def cost(a, b):
        c = ((points[:, None] - points[None]) ** 2).sum(2)[np.ix_(a > 0, b > 0)]
        a, b, g = a[a > 0], b[b > 0], np.zeros(int((b > 0).sum()))
        for _ in range(2000):
            f = -epsilon * np.log(np.exp((g - c) / epsilon) @ b)
            g = -epsilon * np.log(np.exp((f[:, None] - c) / epsilon).T @ a)
        return a @ f + b @ g

    one, other = one / one.sum(), other / other.sum()
    return cost(one, other) - (cost(one, one) + cost(other, other)) / 2


def test_values_of_two_columns_are_brute_forces():
    points, groups, weight = columns(0)
    found, inside = on_columns()(points, groups, weight), members(groups, weight)
    way = np.asarray(jax.random.normal(KEY, (16, 2)), float)
    along = points.astype(float) @ (way / np.linalg.norm(way, axis=1, keepdims=True)).T
    sliced = np.mean(
        [brute_w2(p, a, b) for p in along.T for a, b in itertools.combinations(inside, 2)]
    )
    np.testing.assert_allclose(found["sliced"][0], sliced, rtol=1e-4)
    projected = np.mean([brute_barycenter(p, groups, weight, None) for p in along.T])
    np.testing.assert_allclose(found["projected"][0], projected, rtol=1e-4)
    divergence = np.mean(
        [
            brute_sinkhorn(points.astype(float), a, b, 0.2)
            for a, b in itertools.combinations(inside, 2)
        ]
    )
    np.testing.assert_allclose(found["sinkhorn"][0], divergence, rtol=1e-2)


@joint
def test_gradients_of_two_columns_are_finite_differences(name):
    points, groups, weight = columns(1, 24, 3)
    with double():
        batch = [np.asarray(a, np.float64) for a in (points, groups, weight)]
        slopes = np.asarray(on_columns()(*batch)[name][1])
        way, h = np.random.default_rng(0).normal(size=points.shape), 1e-6
        up, down = (
            float(on_columns()(batch[0] + s * h * way, *batch[1:])[name][0]) for s in (1, -1)
        )
    np.testing.assert_allclose(
        np.sum(slopes * way), (up - down) / (2 * h), rtol=1e-2 if name == "sinkhorn" else 1e-5
    )


@joint
def test_nan_under_weight_zero_and_absent_groups_leave_points_alone(name):
    points, groups, weight = columns(2)
    weight[[0, 3]] = 0.0
    value, slopes = on_columns()(points, groups, weight)[name]
    points[[0, 3]] = np.nan
    same, same_slopes = on_columns()(points, groups, weight)[name]
    assert same == value > 0
    np.testing.assert_array_equal(same_slopes, slopes)
    assert not np.any(slopes[np.array([0, 3])])
    two, _ = on_columns()(points, groups * [1.0, 0.0, 1.0], weight)[name]
    for left in ([1.0, 0.0, 0.0], [0.0, 0.0, 0.0]):
        value, slopes = on_columns()(points, (groups * left).astype(np.float32), weight)[name]
        assert value == 0 and not np.any(slopes)
    assert 0 < two < np.inf


def test_mapped_over_models_they_are_the_loop():
    many = [columns(seed) for seed in (4, 5)]
    _, groups, weight = many[0]
    every = jax.jit(
        jax.vmap(lambda points: {name: of(points, groups, weight) for name, of in JOINT.items()})
    )
    for name, value in every(np.stack([m[0] for m in many])).items():
        want = [on_columns()(m[0], groups, weight)[name][0] for m in many]
        np.testing.assert_allclose(value, want, rtol=1e-4)


def test_a_large_epsilon_leaves_the_distance_of_means():
    with double():
        points, groups, weight = (a.astype(np.float64) for a in columns(3, 24, 2))
        got = jax.jit(partial(notions.sinkhorn, epsilon=1e4, iterations=20))(points, groups, weight)
    mean = [np.average(points, axis=0, weights=w) for w in members(groups, weight)]
    np.testing.assert_allclose(got, np.sum((mean[0] - mean[1]) ** 2), rtol=1e-2)


def test_without_ott_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ott.tools.sliced", None)
    with pytest.raises(ImportError, match=r"pip install 'fairjax\[ot\]'"):
        notions.sliced(*columns(3, 24, 2), key=KEY)


# ------------------------------------------------------------------------------- inside objectives


def means_apart(prob, groups, weight):
    """A distance of points that is easy to do by hand: of two groups' means."""
    one, two = (
        jnp.sum(prob * (groups[:, g] * weight)[:, None], axis=0) / jnp.sum(groups[:, g] * weight)
        for g in range(2)
    )
    return jnp.sum(jnp.square(one - two))


def brute_means_apart(prob, groups, weight) -> float:
    one, two = (np.average(prob, axis=0, weights=w) for w in members(groups, weight))
    return float(np.sum((one - two) ** 2))


def mixed() -> tuple[Spec, Dataset, np.ndarray]:
    """A task of classes and a regression with missing labels, and scores."""
    spec = Spec(
        (Task("job", "multiclass", ("a", "b", "c")), Task("pay", "regression")),
        (Attribute("sex", ("f", "m")),),
    )
    rng = np.random.default_rng(0)
    mask = (rng.random((12, 2)) < 0.7).astype(np.float32)
    labels = np.where(
        mask > 0, np.stack([rng.integers(0, 3, 12), rng.normal(size=12)], 1), np.nan
    ).astype(np.float32)
    data = Dataset(
        Columns(np.zeros((12, 0)), np.zeros((12, 0), int)),
        labels,
        mask,
        np.eye(2, dtype=np.float32)[np.arange(12) % 2],
        rng.uniform(0.5, 2, 12).astype(np.float32),
    )
    return spec, data, rng.normal(size=(12, 4)).astype(np.float32)


def test_classes_jointly_are_points_and_count_where_they_are_known():
    spec, batch, score = mixed()
    prob = scipy.special.softmax(score[:, :3].astype(float), axis=1)
    for condition, counts in (
        (notions.everyone, np.ones(12)),
        (notions.known, batch.label_mask[:, 0]),
    ):
        notion = from_distance(means_apart, (condition,), average=jointly)
        chosen = [notion, None]
        got = jax.jit(lambda f, n=chosen: terms_of(spec, f, batch, n, "mean").fairness[0])(score)
        np.testing.assert_allclose(
            got, brute_means_apart(prob, batch.groups, batch.weight * counts), rtol=1e-5
        )


def test_by_name_it_is_on_classes_one_by_one_and_on_numbers():
    spec, batch, score = mixed()
    chosen = notions.suited(spec, "barycenter", "parity")
    got = jax.jit(lambda f: terms_of(spec, f, batch, chosen, "mean").fairness)(score)
    prob = scipy.special.softmax(score[:, :3].astype(float), axis=1)
    np.testing.assert_allclose(
        got[0], sum(brute_barycenter(p, batch.groups, batch.weight, 256) for p in prob.T), rtol=1e-4
    )
    np.testing.assert_allclose(
        got[1], brute_barycenter(score[:, 3], batch.groups, batch.weight, 256), rtol=1e-4
    )


def joint_notion(distance):
    """A notion of the predictions of all tasks together."""
    return from_distance(distance, (everyone,), joint=True, average=jointly)


def test_a_joint_notion_is_one_distance_of_all_predictions_shared_by_the_tasks():
    spec = tabular_spec()
    model = shared_bottom(spec, (4,), (3,), 2)
    batch = dataset(spec, 10, 0, missing=0.3, unknown=0.3, weighted=True)
    params = jax.jit(model.init)(jax.random.key(0))
    inner = objectives.per_task(model, spec)
    lam = jnp.array([0.5, 1.5])
    made = {
        reduction: objectives.per_task(
            model,
            spec,
            notion=joint_notion(means_apart),
            lam=lam,
            split=True,
            reduction=reduction,
        )
        for reduction in ("batch", "mean")
    }
    memory = made["mean"].init(None, batch)
    assert not jax.tree.leaves(memory)

    @jax.jit
    def run(params):
        prob = jax.nn.sigmoid(scores(model, params, batch.x))
        losses = inner.apply(params, batch, None, ())[0]
        rows = {name: o.apply(params, batch, None, memory)[0] for name, o in made.items()}
        return prob, losses, rows

    prob, losses, rows = run(params)
    want = brute_means_apart(prob, batch.groups, batch.weight)
    counted = np.sum(batch.weight * batch.groups.sum(1)) / 10
    for reduction, share in (("batch", counted), ("mean", 1.0)):
        np.testing.assert_allclose(rows[reduction][2:], share * want * lam, rtol=1e-5)
    np.testing.assert_allclose(rows["batch"][:2], losses, rtol=1e-6)


def test_joint_notions_of_other_attributes_or_rows_are_not_shared():
    attributes = (Attribute("sex", ("f", "m")), Attribute("age", ("old", "young")))
    spec = Spec((Task("a"), Task("b")), attributes)
    rng = np.random.default_rng(2)
    score = rng.normal(size=(12, 2)).astype(np.float32)
    sex = np.eye(2)[np.arange(12) % 2]
    age = np.eye(2)[np.arange(12) // 6]
    groups = np.concatenate([sex, age], axis=1).astype(np.float32)
    ones = np.ones((12, 2), np.float32)
    batch = Dataset((), ones, ones, groups, ones[:, 0])
    notion = joint_notion(means_apart)
    of_sex, of_age = (notion._replace(attributes=(a,)) for a in (0, 1))
    values = terms_of(spec, score, batch, (of_sex, of_age), "mean").fairness
    prob = scipy.special.expit(score.astype(float))
    want = [brute_means_apart(prob, g, np.ones(12)) for g in (sex, age)]
    np.testing.assert_allclose(values, want, rtol=1e-5)


def test_a_joint_notion_refuses_what_has_no_groups():
    spec = Spec((Task("t"),), (Attribute("age", (), continuous=True),))
    for options, match in (
        ({}, "attributes with levels"),
        ({"reduction": "sum"}, "reduction must be"),
    ):
        with pytest.raises(ValueError, match=match):
            objectives.fairness_terms(
                spec, joint_notion(partial(notions.sliced, key=KEY)), **options
            )


def crossed_tasks(seed: int, n: int = 400) -> Dataset:
    """A feature per task, correlated .9 in one group and -.9 in the other, with equal marginals."""
    rng = np.random.default_rng(seed)
    member, x = np.arange(n) % 2, rng.normal(size=(n, 2))
    x[:, 1] = np.where(member, 0.9, -0.9) * x[:, 0] + np.sqrt(1 - 0.81) * x[:, 1]
    labels, ones = rng.random((n, 2)) < 1 / (1 + np.exp(-2 * x)), np.ones((n, 2), np.float32)
    return Dataset(
        Columns(x.astype(np.float32), np.zeros((n, 0), np.int32)),
        labels.astype(np.float32),
        ones,
        np.eye(2, dtype=np.float32)[member],
        ones[:, 0],
    )


def test_a_joint_notion_closes_what_each_task_alone_leaves_open():
    spec = tabular_spec(numeric=2, levels=())
    model, train, test = shared_bottom(spec, (6,), (4,), 2), crossed_tasks(0), crossed_tasks(1)
    distance = partial(notions.barycenter_distance, levels=64)
    alone = from_distance(distance, (everyone,))
    together = joint_notion(partial(notions.projected, key=KEY, distance=distance, directions=8))
    penalties = [objectives.Penalty(t, n) for t, n in ((0, alone), (1, alone), (0, together))]
    fairness = objectives.fairness_terms(spec, penalties)
    memory = fairness.init(train)

    @jax.jit
    @jax.vmap
    def trained(lam):
        adam = optax.adam(0.03)
        params = model.init(jax.random.key(0))

        def loss(params):
            predictions = objectives.predict(spec, scores(model, params, train.x))
            losses = objectives.accuracy_terms(spec, predictions, train)
            of_first, of_second, of_both = fairness.apply(predictions, train, memory)[0]
            return sum(losses) + 5.0 * (of_first + of_second) + lam * of_both

        def step(state, _):
            slopes = jax.grad(loss)(state[0])
            updates, memory = adam.update(slopes, state[1])
            return (optax.apply_updates(state[0], updates), memory), None

        return jax.nn.sigmoid(
            scores(model, jax.lax.scan(step, (params, adam.init(params)), None, 100)[0][0], test.x)
        )

    def apart(prob):
        """The worst task's distance, and how far the groups' covariances of tasks are apart."""
        covariance = [np.cov(prob[test.groups[:, g] > 0].T)[0, 1] for g in range(2)]
        return max(float(measured(p, test.groups, test.weight).wasserstein) for p in prob.T), abs(
            np.subtract(*covariance)
        )

    each, jointly_trained = (apart(prob) for prob in np.asarray(trained(jnp.array([0.0, 20.0]))))
    assert (
        each[0] < 0.1 < each[1]
    )  # no task tells the group more than 200 rows of each may by chance, the pair does
    assert jointly_trained[0] < 0.1 and jointly_trained[1] < 0.5 * each[1]


# ----------------------------------------------------------------------------------------- metrics


def laws(seed: int, n: int = 200, groups: int = 2) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n) % groups)
    return (
        rng.normal(0.3 * member, 1.0).round(1).astype(np.float32),
        np.eye(groups, dtype=np.float32)[member],
        np.ones(n, np.float32),
    )


measured = jax.jit(metrics.unfairness)


@pytest.mark.parametrize("seed", range(3))
def test_unfairness_is_scipys_with_ties(seed):
    score, groups, weight = laws(seed)
    found = measured(score, groups, weight)
    one, two = (score[groups[:, g] > 0] for g in range(2))
    np.testing.assert_allclose(
        found.kolmogorov_smirnov, scipy.stats.ks_2samp(one, two).statistic, rtol=1e-5
    )
    np.testing.assert_allclose(
        found.wasserstein, scipy.stats.wasserstein_distance(one, two), rtol=1e-4
    )
    np.testing.assert_allclose(found.floor, 0.8687 * np.sqrt(1 / 100 + 1 / 100), rtol=1e-4)


def test_unfairness_with_weights_and_three_groups_is_a_loop_over_pairs():
    score, groups, _ = laws(4, 90, 3)
    weight = np.random.default_rng(4).integers(0, 3, 90).astype(np.float32)
    score[weight == 0] = np.nan
    found = measured(score, groups, weight)
    copies = [np.repeat(score, (weight * groups[:, g]).astype(int)) for g in range(3)]
    pairs = list(itertools.combinations(copies, 2))
    np.testing.assert_allclose(
        found.kolmogorov_smirnov, max(scipy.stats.ks_2samp(*p).statistic for p in pairs), rtol=1e-5
    )
    np.testing.assert_allclose(
        found.wasserstein, np.mean([scipy.stats.wasserstein_distance(*p) for p in pairs]), rtol=1e-4
    )
    size = sorted(
        (weight * groups[:, g]).sum() ** 2 / (weight**2 * groups[:, g]).sum() for g in range(3)
    )
    np.testing.assert_allclose(found.floor, 0.8687 * np.sqrt(1 / size[0] + 1 / size[1]), rtol=1e-4)


@pytest.mark.parametrize("count", [11, 40])
@pytest.mark.parametrize("kept", ["all", "some", "one", "none"])
def test_many_groups_are_apart_as_a_loop_over_pairs_says(count, kept):
    rng = np.random.default_rng(count)
    rows = 300
    score = np.round(rng.normal(size=rows), 1).astype(np.float32)
    groups = np.eye(count, dtype=np.float32)[rng.integers(count, size=rows)]
    chosen = {"all": count, "some": count // 2, "one": 1, "none": 0}[kept]
    weight = rng.uniform(0.5, 2, rows).astype(np.float32) * groups[:, :chosen].sum(axis=1)
    order = np.argsort(score, kind="stable")
    member = (groups * weight[:, None])[order].astype(float)
    mass = member.sum(axis=0)
    present = np.flatnonzero(mass)
    last = np.searchsorted(score[order], score[order], side="right") - 1
    reached = member.cumsum(axis=0)[last][:, present] / mass[present]
    gaps = [np.abs(reached[:, g] - reached[:, h]) for g in range(chosen) for h in range(g)]
    expected = np.mean(gaps, axis=0)[:-1] if gaps else np.zeros(rows - 1)

    @jax.jit
    def of(score, weight):
        return apart(steps(ordered(score), groups, weight))

    assert len(present) == chosen
    np.testing.assert_allclose(of(score, weight), expected, atol=1e-6)
    both = jax.vmap(of)(np.stack([score, -score]), np.stack([weight, weight]))
    np.testing.assert_allclose(both[0], expected, atol=1e-6)


def test_the_floor_is_the_mean_of_equal_laws():
    score = np.random.default_rng(0).normal(size=(300, 500)).astype(np.float32)
    groups = np.eye(2, dtype=np.float32)[(np.arange(500) < 150).astype(int)]
    found = jax.jit(jax.vmap(metrics.unfairness, (0, None, None)))(
        score, groups, np.ones(500, np.float32)
    )
    assert np.mean(found.kolmogorov_smirnov) == pytest.approx(float(found.floor[0]), rel=0.06)


def test_unfairness_of_fewer_than_two_groups_or_of_nan_is_not_known():
    score, groups, weight = laws(0)
    lonely = np.stack([np.ones(200), np.zeros(200)], axis=1).astype(np.float32)
    for batch in (
        (score, lonely, weight),
        (score, groups, 0 * weight),
        (np.where(np.arange(200) == 7, np.nan, score), groups, weight),
    ):
        assert np.isnan(measured(*batch)).all()
    wide = np.concatenate([groups, np.zeros((200, 1), np.float32)], axis=1)
    np.testing.assert_allclose(
        measured(score, wide, weight), measured(score, groups, weight), rtol=1e-6
    )
    assert np.isnan(measured(score, np.ones((200, 1), np.float32), weight)).all()


def test_evaluate_tells_them_of_probabilities_and_of_numbers_in_units():
    spec = Spec(
        (
            Task("hired"),
            Task("pay", "regression", mean=30.0, deviation=8.0),
            Task("job", "multiclass", ("a", "b")),
        ),
        (Attribute("age", (), continuous=True), Attribute("sex", ("f", "m"))),
    )
    rng = np.random.default_rng(0)
    groups = np.concatenate(
        [np.ones((50, 1)), rng.normal(size=(50, 1)), np.eye(2)[np.arange(50) % 2]], axis=1
    )
    mask = (rng.random((50, 3)) < 0.6).astype(np.float32)  # predictions need no label
    data = Dataset(
        None,
        (rng.random((50, 3)) < 0.5).astype(np.float32),
        mask,
        groups.astype(np.float32),
        np.ones(50, np.float32),
    )
    score = rng.normal(size=(50, 4)).astype(np.float32)
    thresholds = np.zeros(3, np.float32)
    out = jax.jit(lambda *a: metrics.evaluate(spec, *a))(score, data, thresholds)
    for name, value in (
        ("hired", 1 / (1 + np.exp(-score[:, 0].astype(float)))),
        ("pay", 30 + 8 * score[:, 1].astype(float)),
    ):
        one, two = value[::2], value[1::2]
        np.testing.assert_allclose(
            out[Metric("kolmogorov_smirnov", name, attribute="sex")],
            scipy.stats.ks_2samp(one, two).statistic,
            rtol=1e-5,
        )
        np.testing.assert_allclose(
            out[Metric("kolmogorov_smirnov_floor", name, attribute="sex")],
            0.8687 * np.sqrt(2 / 25),
            rtol=1e-4,
        )
        np.testing.assert_allclose(
            out[Metric("wasserstein", name, attribute="sex")],
            scipy.stats.wasserstein_distance(one, two),
            rtol=1e-4,
        )
    told = {key for key in out if key.metric.startswith(("kolmogorov", "wasserstein"))}
    assert len(told) == 6
