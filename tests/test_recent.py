"""Gaps of decisions over the last batches, against loops in numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import dataset

from fairjax import notions
from fairjax.core.types import Attribute, Spec, Task
from fairjax.objectives import fairness_terms, over_recent_batches, predict

SPEC = Spec((Task("a"), Task("b")), (Attribute("sex", ("f", "m")),), ("u", "v", "w"), ())
SIZE = 20
PARITY = notions.get("demographic_parity")


def batches(count, **options):
    data = dataset(SPEC, SIZE * count, 5, **options)
    parts = [jax.tree.map(lambda leaf, i=i: leaf[i::count], data) for i in range(count)]
    scores = np.random.default_rng(1).normal(size=(count, SIZE, 2)).astype(np.float32)
    return data, parts, scores


def hard_gap(score, groups, weight):
    rates = [np.average(score >= 0, weights=weight * groups[:, g]) for g in range(2)]
    return abs(rates[0] - rates[1])


def terms_of(notion=PARITY, remembered=3):
    terms = fairness_terms(SPEC, notion, reduction="mean")
    return over_recent_batches(terms, SPEC, remembered, SIZE)


def test_the_value_is_the_gap_of_decisions_in_the_last_batches():
    data, parts, scores = batches(6, unknown=0.1, weighted=True)
    terms = terms_of()
    memory = terms.init(data)
    apply = jax.jit(lambda score, batch, memory: terms.apply(predict(SPEC, score), batch, memory))
    for i in range(6):
        values, memory = apply(scores[i], parts[i], memory)
        window = slice(max(0, i - 3), i + 1)
        score = scores[window].reshape(-1, 2)
        groups, weight = (
            np.concatenate([getattr(part, name) for part in parts[window]])
            for name in ("groups", "weight")
        )
        want = [hard_gap(score[:, t], groups, weight) for t in range(2)]
        np.testing.assert_allclose(values, want, atol=1e-5)


def test_the_slope_is_that_of_probabilities_signed_by_decisions():
    data, parts, scores = batches(4)
    parts = [part._replace(groups=parts[0].groups) for part in parts]  # equal counts in batches
    terms = terms_of()
    memory = terms.init(data._replace(groups=np.concatenate([parts[0].groups] * 4)))
    for i in range(3):
        _, memory = terms.apply(predict(SPEC, scores[i]), parts[i], memory)

    def first(score):
        return terms.apply(predict(SPEC, score), parts[3], memory)[0][0]

    slope = jax.jit(jax.grad(first))(jnp.asarray(scores[3]))
    count_g = parts[0].groups.sum(axis=0)
    rates = [((scores[:, :, 0] >= 0) * parts[0].groups[:, g]).sum() for g in range(2)] / count_g
    sign = np.sign(rates[0] - rates[1])
    prob = 1 / (1 + np.exp(-scores[3][:, 0]))
    of_mean = parts[0].groups[:, 0] / count_g[0] - parts[0].groups[:, 1] / count_g[1]
    np.testing.assert_allclose(slope[:, 0], sign * of_mean * prob * (1 - prob), atol=1e-6)
    assert sign != 0 and not np.any(slope[:, 1])


def test_a_batch_of_all_rows_has_no_memory_and_one_without_rows_no_slope():
    data, (batch,), (score,) = batches(1)
    terms = terms_of()
    memory = terms.init(data)
    assert memory.rows.weight.shape == (0,)
    values, _ = terms.apply(predict(SPEC, score), batch, memory)
    want = [hard_gap(score[:, t], batch.groups, batch.weight) for t in range(2)]
    np.testing.assert_allclose(values, want, atol=1e-6)
    data, parts, scores = batches(2)
    empty = parts[1]._replace(weight=np.zeros(SIZE, np.float32))
    memory = terms.init(data)
    _, memory = terms.apply(predict(SPEC, scores[0]), parts[0], memory)

    def total(score):
        return sum(terms.apply(predict(SPEC, score), empty, memory)[0])

    value, slope = jax.value_and_grad(total)(jnp.ones((SIZE, 2)))
    assert value > 0 and not np.any(slope)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_other_kinds_are_decided_as_they_are_reported(kind):
    names = ("p", "q", "r") if kind != "regression" else ()
    spec = Spec((Task("a", kind, names),), SPEC.attributes, SPEC.numeric, ())
    data = dataset(spec, SIZE, 3)
    score = np.random.default_rng(0).normal(size=(SIZE, max(1, len(names)))).astype(np.float32)
    notion = notions.get("rate_gap", (notions.everyone,), kind=kind)
    terms = over_recent_batches(fairness_terms(spec, notion, reduction="mean"), spec, 2, SIZE)
    (value,), _ = terms.apply(predict(spec, score), data, terms.init(data))
    if kind == "multiclass":
        decision = score.argmax(axis=1)[:, None] == np.arange(3)
    else:
        decision = score if kind == "regression" else score >= 0
    mean_g = [np.mean(decision[data.groups[:, g] > 0], axis=0) for g in range(2)]
    np.testing.assert_allclose(value, np.abs(mean_g[0] - mean_g[1]).sum(), atol=1e-5)


def test_a_regression_has_the_slope_of_its_predictions():
    spec = Spec((Task("a", "regression"),), SPEC.attributes, SPEC.numeric, ())
    data = dataset(spec, SIZE, 3)
    score = np.random.default_rng(0).normal(size=(SIZE, 1)).astype(np.float32)
    notion = notions.get("rate_gap", (notions.everyone,), kind="regression")
    plain = fairness_terms(spec, notion, reduction="mean")
    slopes = []
    for terms in (plain, over_recent_batches(plain, spec, 2, SIZE)):
        memory = terms.init(data)

        def gap(score, terms=terms, memory=memory):
            return terms.apply(predict(spec, score), data, memory)[0][0]

        slopes.append(jax.grad(gap)(jnp.asarray(score)))
    assert np.any(slopes[0])
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-5)


def test_notions_that_are_not_of_rates_stay_as_they_are():
    for name in ("auc_parity", "ahfda", "differential_fairness"):
        terms = fairness_terms(SPEC, notions.get(name), reduction="mean")
        assert over_recent_batches(terms, SPEC, 3, SIZE) is terms
