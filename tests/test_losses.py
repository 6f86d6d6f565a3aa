"""Supervised losses against scikit-learn and numpy, for every kind of task."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import log_loss, mean_squared_error

from fairjax.core.types import Attribute, Spec, Task
from fairjax.losses import (
    probabilities,
    row_losses,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)

BINARY, NUMBER = Task("b"), Task("r", "regression")
CLASSES, LABELS = Task("m", "multiclass", ("x", "y", "z")), Task("l", "multilabel", ("p", "q"))


def problem(task: Task, n: int = 8, missing: bool = True):
    """Scores, labels (NaN where missing) and mask; the first two rows are always known."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(n, task.score_width)) * 2
    labels = {
        "multiclass": lambda s: rng.integers(0, 3, s),
        "regression": lambda s: rng.normal(size=s),
    }.get(task.kind, lambda s: rng.integers(0, 2, s))((n, task.label_width)).astype(float)
    mask = (rng.random(labels.shape) < 0.6).astype(float) if missing else np.ones_like(labels)
    mask[:2] = 1
    return scores, labels, mask


def test_binary_is_log_loss():
    scores, labels, _ = problem(BINARY, missing=False)
    weight = np.random.default_rng(0).uniform(0.1, 2, len(scores))
    loss, known = row_losses(
        BINARY, jnp.asarray(scores), jnp.asarray(labels), jnp.ones_like(labels)
    )
    np.testing.assert_array_equal(known, 1)
    want = log_loss(labels[:, 0], expit(scores[:, 0]), sample_weight=weight, labels=[0, 1])
    np.testing.assert_allclose(np.average(loss, weights=weight), want, rtol=1e-5)


def test_multiclass_is_log_loss():
    scores, labels, _ = problem(CLASSES, missing=False)
    loss, _ = row_losses(CLASSES, jnp.asarray(scores), jnp.asarray(labels), jnp.ones_like(labels))
    np.testing.assert_allclose(
        np.mean(loss), log_loss(labels[:, 0], softmax(scores, axis=1), labels=[0, 1, 2]), rtol=1e-5
    )


def test_multilabel_adds_the_log_losses_of_its_columns():
    scores, labels, _ = problem(LABELS, missing=False)
    loss, _ = row_losses(LABELS, jnp.asarray(scores), jnp.asarray(labels), jnp.ones_like(labels))
    want = sum(log_loss(labels[:, c], expit(scores[:, c]), labels=[0, 1]) for c in range(2))
    np.testing.assert_allclose(np.mean(loss), want, rtol=1e-5)


def test_regression_is_the_squared_error():
    scores, labels, _ = problem(NUMBER, missing=False)
    loss, _ = row_losses(NUMBER, jnp.asarray(scores), jnp.asarray(labels), jnp.ones_like(labels))
    np.testing.assert_allclose(np.mean(loss), mean_squared_error(labels, scores), rtol=1e-5)


@pytest.mark.parametrize("task", [BINARY, NUMBER, CLASSES, LABELS], ids=lambda t: t.kind)
def test_masked_labels_count_for_nothing(task):
    scores, labels, mask = problem(task)
    each = {
        "multiclass": lambda: (
            -log_softmax(scores, 1)[np.arange(8), labels[:, 0].astype(int)][:, None]
        ),
        "regression": lambda: (scores - labels) ** 2,
    }.get(
        task.kind, lambda: -np.where(labels == 1, np.log(expit(scores)), np.log(expit(-scores)))
    )()
    want = (mask * each).sum(1)
    hidden = jnp.asarray(np.where(mask > 0, labels, np.nan))
    loss, known = row_losses(task, jnp.asarray(scores), hidden, jnp.asarray(mask))
    np.testing.assert_allclose(loss, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(known, mask.max(1))
    assert loss.dtype == jnp.float32


@pytest.mark.parametrize("task", [BINARY, NUMBER, CLASSES, LABELS], ids=lambda t: t.kind)
def test_nan_labels_under_the_mask_leave_the_gradient_alone(task):
    scores, labels, mask = problem(task)

    def gradient(hidden):
        return jax.grad(
            lambda s: jnp.sum(row_losses(task, s, jnp.asarray(hidden), jnp.asarray(mask))[0])
        )(jnp.asarray(scores))

    got = gradient(np.where(mask > 0, labels, np.nan))
    np.testing.assert_array_equal(got, gradient(labels))
    np.testing.assert_array_equal(got[mask.max(1) == 0], 0.0)


def test_large_scores_stay_finite():
    score = jnp.array([-1e4, 1e4])
    np.testing.assert_allclose(sigmoid_cross_entropy(score, jnp.array([1.0, 1.0])), [1e4, 0.0])
    np.testing.assert_allclose(
        softmax_cross_entropy(jnp.array([[1e4, -1e4]]), jnp.array([1.0])), [2e4]
    )
    assert np.all(
        np.isfinite(jax.grad(lambda s: jnp.sum(sigmoid_cross_entropy(s, jnp.zeros(2))))(score))
    )


def test_cross_entropies_are_those_of_optax():
    scores, labels, _ = problem(CLASSES, missing=False)
    np.testing.assert_allclose(
        softmax_cross_entropy(jnp.asarray(scores), jnp.asarray(labels[:, 0])),
        optax.losses.softmax_cross_entropy_with_integer_labels(
            jnp.asarray(scores), labels[:, 0].astype(int)
        ),
        rtol=1e-5,
    )
    scores, labels, _ = problem(LABELS, missing=False)
    np.testing.assert_allclose(
        sigmoid_cross_entropy(jnp.asarray(scores), jnp.asarray(labels)),
        optax.losses.sigmoid_binary_cross_entropy(jnp.asarray(scores), jnp.asarray(labels)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_half_precision_scores_give_float32_losses():
    scores, labels, mask = problem(BINARY)
    loss, _ = row_losses(
        BINARY, jnp.asarray(scores, jnp.bfloat16), jnp.asarray(labels), jnp.asarray(mask)
    )
    assert loss.dtype == jnp.float32 and np.all(np.isfinite(loss))


def test_probabilities_per_kind():
    spec = Spec((BINARY, CLASSES, LABELS, NUMBER), (Attribute("a", ("0", "1")),))
    scores = np.random.default_rng(5).normal(size=(6, 7)) * 3
    one, three, two, number = probabilities(spec, jnp.asarray(scores))
    np.testing.assert_allclose(one, expit(scores[:, :1]), rtol=1e-5)
    np.testing.assert_allclose(three, softmax(scores[:, 1:4], axis=1), rtol=1e-5)
    np.testing.assert_allclose(two, expit(scores[:, 4:6]), rtol=1e-5)
    np.testing.assert_allclose(number, scores[:, 6:], rtol=1e-5)
