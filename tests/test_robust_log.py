"""The robust log loss against means of cells in float64, with cells that are absent."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import double, pad, terms_of

from fairjax import notions
from fairjax.core.types import Attribute, Columns, Dataset, Spec, Task

N = 60


def worst_cell(cost, member, weight) -> float:
    """Largest of the groups' weighted means; 0 without a row of a group."""
    means = []
    for g in range(member.shape[1]):
        inside = (member[:, g] > 0) & (weight > 0)
        if inside.any():
            means.append(np.average(cost[inside], weights=weight[inside]))
    return max(means, default=0.0)


def brute(prob, member, weight, label) -> float:
    """Equation 1 of a binary task."""
    of_negatives = worst_cell(-np.log1p(-prob), member, weight * (label == 0))
    return of_negatives + worst_cell(-np.log(prob), member, weight * (label == 1))


def apply(notion, prob, member, weight, label, kind="binary"):
    """The notion of columns ``[N, U]``; a row of weight 0 has no label."""
    known = (weight > 0).astype(weight.dtype)
    weights = tuple(weight * condition(label, known) for condition in notion.conditions)
    return notion.apply(notions.TaskRows(prob, label, member, weights, kind, None), ())[0]


def rows(seed: int, groups: int, outcomes: int = 2):
    """Scores ``[N, outcomes]`` that add up to 1, membership, weights, labels."""
    rng = np.random.default_rng(seed)
    prob = rng.dirichlet(np.ones(outcomes), N)
    member = np.eye(groups)[rng.integers(0, groups, N)] * (rng.random(N) < 0.8)[:, None]
    return prob, member, rng.uniform(0.2, 2.0, N), rng.integers(0, outcomes, N)


def value_of(prob, member, weight, label) -> float:
    """The notion of a binary task, compiled, in float64."""
    columns = prob[:, None], member, weight[:, None], label[:, None].astype(float)
    with double():
        run = jax.jit(partial(apply, notions.get("robust_log")))
        return float(run(*map(jnp.asarray, columns)))


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_it_is_the_sum_over_labels_of_the_worst_cells_mean(groups):
    prob, member, weight, label = rows(groups, groups)
    want = brute(prob[:, 1], member, weight, label)
    assert want > 0.5
    np.testing.assert_allclose(value_of(prob[:, 1], member, weight, label), want, rtol=1e-9)


def test_by_hand():
    prob = np.array([0.5, 0.25, 0.5, 0.8])
    member, label = np.eye(2)[[0, 1, 0, 1]], np.array([0, 0, 1, 1])
    np.testing.assert_allclose(value_of(prob, member, np.ones(4), label), 2 * np.log(2))


def test_groups_that_agree_have_their_loss_and_no_gap():
    prob, label = np.full(4, 0.5), np.array([0, 0, 1, 1])
    member = np.eye(2)[[0, 1, 0, 1]]
    np.testing.assert_allclose(value_of(prob, member, np.ones(4), label), 2 * np.log(2))
    assert [name for name, entry in notions.REGISTRY.items() if not entry.is_gap] == ["robust_log"]


@pytest.mark.parametrize(
    "lost",
    [
        lambda label, member: (label == 1) & (member[:, 0] > 0),  # a group has no positives
        lambda label, member: label == 1,  # nobody is positive
        lambda label, member: member[:, 0] > 0,  # a group is absent
        lambda label, member: np.ones(N, bool),  # nobody's group is known
    ],
)
def test_of_absent_cells_the_others_count(lost):
    prob, member, weight, label = rows(7, 2)
    gone = lost(label, member)
    member = np.where(gone[:, None], 0, member)
    want = brute(prob[:, 1], member, weight, label)
    np.testing.assert_allclose(value_of(prob[:, 1], member, weight, label), want, rtol=1e-9)
    if gone.all():
        assert want == 0


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_columns_count_one_against_the_rest(kind):
    prob, member, weight, label = rows(3, 3, outcomes=4)
    one_hot = np.eye(4)[label]
    with double():
        columns = [jnp.asarray(a) for a in (prob, member, np.repeat(weight[:, None], 4, 1))]
        of = partial(apply, prob=columns[0], member=columns[1], weight=columns[2])
        value = of(notions.get("robust_log"), label=jnp.asarray(one_hot), kind=kind)
        classes = notions.get("robust_log", (notions.positives,), average=notions.added)
        softmax = of(classes, label=jnp.asarray(one_hot), kind=kind)
    want = [brute(prob[:, c], member, weight, one_hot[:, c]) for c in range(4)]
    np.testing.assert_allclose(value, np.mean(want), rtol=1e-6)
    per_class = [worst_cell(-np.log(prob[:, c]), member, weight * (label == c)) for c in range(4)]
    np.testing.assert_allclose(softmax, sum(per_class), rtol=1e-6)


def test_two_classes_are_a_binary_task():
    prob, member, weight, label = rows(4, 3)
    with double():
        two = apply(
            notions.get("robust_log"),
            jnp.asarray(prob),
            jnp.asarray(member),
            jnp.asarray(np.repeat(weight[:, None], 2, 1)),
            jnp.asarray(np.eye(2)[label]),
            "multiclass",
        )
    np.testing.assert_allclose(two, value_of(prob[:, 1], member, weight, label), rtol=1e-6)


def test_extreme_probabilities_and_what_is_masked_leave_all_finite():
    prob = np.float32([0, 1, 0, 1, 1e-30, 0.5, np.nan, 0.3])[:, None]
    label = np.float32([1, 0, 0, 1, 1, np.nan, 1, np.nan])[:, None]
    weight = np.float32([1, 1, 1, 1, 1, 0, 0, 0])[:, None]
    member = np.eye(2, dtype=np.float32)[np.arange(8) % 2]
    run = jax.jit(jax.value_and_grad(partial(apply, notions.get("robust_log"))))
    value, slopes = run(prob, member, weight, label)
    # the worst cells are certain and wrong, by 23 bits
    np.testing.assert_allclose(value, 2 * 23 * np.log(2), rtol=1e-5)
    assert np.isfinite(slopes).all() and (np.asarray(slopes)[5:] == 0).all()


def test_mapped_it_is_the_loop():
    batches = [rows(seed, 3) for seed in range(4)]
    prob, member, weight, label = (
        np.stack(a).astype(np.float32) for a in zip(*batches, strict=True)
    )
    columns = prob[..., 1:], member, weight[..., None], label[..., None]
    of = jax.value_and_grad(partial(apply, notions.get("robust_log")))
    mapped = jax.jit(jax.vmap(of))(*columns)
    for i in range(4):
        alone = of(*(a[i] for a in columns))
        np.testing.assert_allclose(mapped[0][i], alone[0], rtol=1e-6)
        np.testing.assert_allclose(mapped[1][i], alone[1], rtol=1e-5, atol=1e-7)


def test_an_objective_that_takes_means_has_equation_1():
    rng = np.random.default_rng(5)
    logits, member, weight, label = rng.normal(size=(N, 1)), *rows(5, 3)[1:]
    mask = (rng.random(N) < 0.7).astype(float)
    spec = Spec((Task("y"),), (Attribute("a", ("0", "1", "2")),))
    batch = Dataset(
        Columns(np.zeros((N, 0), np.float32), np.zeros((N, 0), np.int32)),
        np.where(mask > 0, label, np.nan)[:, None].astype(np.float32),
        mask[:, None].astype(np.float32),
        member.astype(np.float32),
        weight.astype(np.float32),
    )
    prob = 1 / (1 + np.exp(-logits[:, 0]))
    want = brute(prob, member, weight * mask, label)
    scores = np.concatenate([logits, np.zeros((3, 1))]).astype(np.float32)
    got = terms_of(spec, scores, pad(batch, 3), notions.get("robust_log"), "mean").fairness
    np.testing.assert_allclose(got[0], want, rtol=1e-5)
