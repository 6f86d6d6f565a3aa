"""Differential fairness: golden values, AIF360's on Adult, loops in float64, and its laws."""

from __future__ import annotations

import gzip
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import double, slope

from fairjax.notions import differential as df

# TP/P = 8/10 and 5/10, FP/N = 2/20 and 4/20
JOINT = np.array([[[18, 2], [2, 8]], [[16, 4], [5, 5]]], float)
EVERY = {"parity": df.parity, "opportunity": df.opportunity, "odds": df.odds}


def batch(seed, n=60, groups=3, classes=2):
    rng = np.random.default_rng(seed)
    prob = rng.dirichlet(np.ones(classes), n).astype(np.float32)
    label = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, n)]
    member = np.eye(groups, dtype=np.float32)[rng.permutation(np.arange(n) % groups)]
    return prob, label, member, rng.uniform(0.5, 2.0, n).astype(np.float32)


def test_golden_values():
    np.testing.assert_allclose(df.epsilon(JOINT, df.opportunity), np.log(8.05 / 5.05), rtol=1e-6)
    np.testing.assert_allclose(
        df.epsilon(JOINT, (df.false_positive_rates,)), np.log(4.05 / 2.05), rtol=1e-6
    )
    np.testing.assert_allclose(df.epsilon(JOINT), 1.1471609, rtol=1e-6)
    np.testing.assert_allclose(df.epsilon(JOINT, together=jnp.max), 0.6808771, rtol=1e-6)
    np.testing.assert_allclose(df.evaluated_epsilon(JOINT), 0.9162907, rtol=1e-6)
    with pytest.raises(ValueError, match="smoothed_empirical_epsilon"):
        df.evaluated_epsilon(JOINT, df.parity)
    with pytest.raises(ValueError, match=r"shape \(2, 1, 2\), expected \[G, K, K\]"):
        df.epsilon(JOINT[:, :1])


@pytest.mark.parametrize(
    "white_or_not, published", [(True, 1.53679014653623), (False, 2.063813731996515)]
)
def test_adults_labels_as_aif360_publishes(data_dir, white_or_not, published):
    with gzip.open(data_dir / "adult" / "adult.test.gz", "rt") as stream:
        rows = [
            [cell.strip(" .\n") for cell in line.split(",")]
            for line in stream
            if line.count(",") == 14
        ]
    assert len(rows) == 16_281
    race, sex, country = ([row[i] for row in rows] for i in (8, 9, 13))
    race = [r == "White" for r in race] if white_or_not else race
    names = list(zip(race, sex, [c == "United-States" for c in country], strict=True))
    levels = sorted(set(names))
    label = np.array([row[14] == ">50K" for row in rows], np.float32)
    with double():
        groups = jnp.asarray(np.eye(len(levels))[[levels.index(name) for name in names]])
        got = df.smoothed_empirical_epsilon(
            df.two(jnp.asarray(label, float)), groups, jnp.ones(len(rows))
        )
        np.testing.assert_allclose(got, published, rtol=1e-9)


def brute(joint, kind, c, add=None):
    """Loops over pairs of groups, classes and rates."""
    groups, _, k = joint.shape
    chosen = range(1 if k == 2 else 0, k)

    def rate(g, name, y):
        if name == "parity":
            return (joint[g, :, y].sum(), joint[g].sum())
        if name == "tpr":
            return joint[g, y, y], joint[g, y].sum()
        others = [o for o in range(k) if o != y]
        return joint[g, others, y].sum(), joint[g, others].sum()

    total = 0.0
    for name in {"parity": ["parity"], "opportunity": ["tpr"], "odds": ["tpr", "fpr"]}[kind]:
        worst = 0.0
        for y in range(k) if name == "parity" else chosen:
            more = (c / k, c) if add is None else (k - 1,) * 2 if name == "fpr" else (1, 1)
            theta = [
                (above + more[0]) / (below + more[1])
                for above, below in (rate(g, name, y) for g in range(groups))
            ]
            worst = max([worst] + [abs(np.log(a / b)) for a, b in itertools.combinations(theta, 2)])
        total += worst
    return total


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", EVERY)
def test_epsilon_is_a_loop_over_pairs(kind, classes):
    prob, label, member, weight = batch(classes, classes=classes)
    joint = df.count(prob, label, member, weight)
    want = np.array(
        [
            [
                [
                    sum(weight[i] * prob[i, k] for i in range(60) if member[i, g] and label[i, y])
                    for k in range(classes)
                ]
                for y in range(classes)
            ]
            for g in range(3)
        ]
    )
    np.testing.assert_allclose(joint, want, rtol=1e-4)
    np.testing.assert_allclose(
        df.epsilon(joint, EVERY[kind], 0.3), brute(want, kind, 0.3), rtol=1e-4
    )
    if kind != "parity":
        hard = df.count(
            np.eye(classes, dtype=np.float32)[prob.argmax(1)],
            label,
            member,
            np.ones(60, np.float32),
        )
        np.testing.assert_allclose(
            df.evaluated_epsilon(hard, EVERY[kind]),
            brute(np.asarray(hard, float), kind, 0, True),
            rtol=1e-4,
        )


@pytest.mark.parametrize("kind", EVERY)
def test_laws(kind):
    joint = np.random.default_rng(1).uniform(1, 30, (4, 3, 3))
    one = float(df.epsilon(joint, EVERY[kind]))
    assert one > 0
    np.testing.assert_allclose(df.epsilon(joint[::-1], EVERY[kind]), one, rtol=1e-5)
    np.testing.assert_allclose(
        df.epsilon(7 * joint, EVERY[kind], 0.0), df.epsilon(joint, EVERY[kind], 0.0), rtol=1e-4
    )
    assert df.epsilon(np.stack([joint[0]] * 3), EVERY[kind]) == 0
    assert df.epsilon(joint[:1], EVERY[kind]) == 0
    np.testing.assert_allclose(
        df.epsilon(np.concatenate([joint, np.zeros((2, 3, 3))]), EVERY[kind]), one, rtol=1e-5
    )
    near = [float(df.epsilon(joint, EVERY[kind], temperature=t)) for t in (1e-3, 1e-2, 0.1)]
    assert (
        near[0] == pytest.approx(one, abs=0.02) and one + 1e-5 >= near[0] >= near[1] >= near[2] >= 0
    )
    assert abs(df.epsilon(np.stack([joint[0]] * 3), EVERY[kind], temperature=0.1)) < 1e-6


@pytest.mark.parametrize("kind", EVERY)
def test_a_coarser_partition_never_has_a_larger_epsilon(kind):
    """The rate of a union lies between those of its parts, given the label too."""
    rng = np.random.default_rng(2)
    tables = rng.dirichlet(np.ones(3), (300, 2, 4, 3)) * rng.integers(
        5, 200, (300, 2, 4, 3, 1)
    )  # two attributes crossed
    one = jax.jit(jax.vmap(lambda t: df.epsilon(t, EVERY[kind], 0.0)))
    fine = one(tables.reshape(300, 8, 3, 3))
    for axis in (1, 2):
        coarse = one(tables.sum(axis=axis))
        assert (coarse <= fine + 1e-5).all() and (coarse < fine - 1e-2).any()


def test_bias_amplification_of_the_labels_themselves_is_zero():
    prob, label, member, weight = batch(3)
    assert df.bias_amplification(label, label, member, weight) == 0
    amplified = df.bias_amplification(
        member[:, :2] / np.maximum(member[:, :2].sum(1, keepdims=True), 1), label, member, weight
    )
    assert amplified > 0


# ------------------------------------------------------------ running counts


def test_epsilon_starts_at_zero_and_counts_grow_to_the_data():
    prob, label, member, weight = batch(4, classes=2)
    counts = df.start(600.0, 60.0, member.sum(0), 2, 2)
    assert counts.shape == (3, 2, 2) and df.epsilon(counts) == 0
    np.testing.assert_allclose(counts.sum(axis=(1, 2)), 2 * 600 / 60)
    now = df.count(prob, label, member, weight)
    for _ in range(200):
        counts = df.running(counts, now, 600.0, weight.sum(), 0.1)
    np.testing.assert_allclose(counts, now * 600 / weight.sum(), rtol=1e-4)
    absent = df.start(600.0, 60.0, np.array([5.0, 0, 2]), 2, 2)
    assert (absent[1] == 0).all() and absent[0].sum() > 0


def test_old_counts_carry_no_gradient_and_new_ones_a_known_share():
    prob, label, member, weight = batch(5)
    prob64, start = (
        prob.astype(float),
        np.asarray(df.start(900.0, 60.0, np.ones(3), 2, 2), float) + JOINT[[0, 1, 0]],
    )

    def penalty(p, rho, old):
        return df.epsilon(
            df.running(old, df.count(df.two(p), label, member, weight), 900.0, 60.0, rho)
        )

    p = prob64[:, 1]
    with double():
        for rho in (0.1, 1.0):
            got = jax.grad(penalty)(jnp.asarray(p), rho, jnp.asarray(start))
            np.testing.assert_allclose(
                got,
                slope(lambda q, r=rho: float(penalty(jnp.asarray(q), r, jnp.asarray(start))), p),
                atol=1e-5,
            )
        assert (jax.grad(penalty, 2)(jnp.asarray(p), 0.1, jnp.asarray(start)) == 0).all()
        counts = df.running(
            jnp.asarray(start),
            df.count(df.two(jnp.asarray(p)), label, member, weight),
            900.0,
            60.0,
            0.1,
        )
        above, below = df.true_positive_rates(counts)
        tpr = ((above + 0.05) / (below + 0.1))[:, 0]
        top = int(jnp.argmax(tpr))
        slopes = jax.grad(
            lambda q: df.epsilon(
                df.running(
                    jnp.asarray(start), df.count(df.two(q), label, member, weight), 900.0, 60.0, 0.1
                ),
                df.opportunity,
            )
        )(jnp.asarray(p))
        i = int(np.flatnonzero((member[:, top] > 0) & (label[:, 1] > 0))[0])
        np.testing.assert_allclose(
            slopes[i], 0.1 * 900 / 60 * weight[i] / (below[top, 0] + 0.1) / tpr[top], rtol=1e-6
        )


def test_unknown_groups_and_missing_labels_count_nowhere():
    prob, label, member, weight = batch(6)
    known = df.count(prob, label, member, weight)
    broken, lost = prob.copy(), member.copy()
    weight[:5], broken[:5] = 0, np.nan
    lost[5:9] = 0
    inside = np.arange(60) >= 9
    got = df.count(broken, np.where(np.arange(60)[:, None] < 5, np.nan, label), lost, weight)
    np.testing.assert_allclose(
        got, df.count(prob[inside], label[inside], member[inside], weight[inside]), rtol=1e-5
    )
    assert not np.allclose(got, known)
    slopes = jax.grad(lambda p: df.epsilon(df.count(df.two(p), label, lost, weight)))(broken[:, 1])
    assert np.isfinite(slopes).all() and (slopes[:9] == 0).all()


def test_compiled_and_mapped_over_its_constants():
    prob, label, member, weight = batch(8)
    joint = df.count(prob, label, member, weight)
    c = jnp.asarray([0.0, 0.1, 1.0])
    mapped = jax.jit(jax.vmap(lambda c: df.epsilon(joint, df.odds, c)))(c)
    np.testing.assert_allclose(mapped, [df.epsilon(joint, df.odds, float(x)) for x in c], rtol=1e-5)


def test_decisions_of_a_binary_task_are_one_column_or_two():
    rng = np.random.default_rng(0)
    decision = jnp.asarray(rng.integers(0, 2, 80), jnp.float32)
    label = jnp.asarray(rng.integers(0, 2, 80), jnp.float32)
    groups = jax.nn.one_hot(rng.integers(0, 3, 80), 3)
    weight = jnp.ones(80)
    one = df.bias_amplification(decision, label, groups, weight)
    two = df.bias_amplification(df.two(decision), df.two(label), groups, weight)
    np.testing.assert_array_equal(one, two)
    for outcome in (decision, decision[:, None]):
        with pytest.raises(ValueError, match=r"expected \[N, K\] with K >= 2 and \[N, Y\]"):
            df.count(outcome, df.two(label), groups, weight)
    for whole in (decision.astype(int), decision > 0, np.asarray(decision, np.int64)):
        np.testing.assert_array_equal(
            df.smoothed_empirical_epsilon(whole, groups, weight),
            df.smoothed_empirical_epsilon(decision, groups, weight),
        )
    with pytest.raises(ValueError, match="K >= 2"):
        df.smoothed_empirical_epsilon(decision[:, None], groups, weight)
    with pytest.raises(ValueError, match="expected membership"):
        df.count(df.two(decision), df.two(label), groups[:, 0], weight)
