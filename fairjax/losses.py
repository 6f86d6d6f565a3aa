"""Supervised losses per task kind, and the probabilities that belong to the scores.

Inputs are scores ``[B, C]``, labels and mask ``[B, Y]``. The result is a loss per row and task,
``[B]``, 0 where the label is missing. Reductions live in :mod:`fairjax.objectives`. The concordance
belongs to a batch and not to a row; :func:`total_loss` takes both sorts.

The squared error is optax's. Both cross-entropies are our own: optax's are the same functions with
other roundings, and the sigmoid one costs two logarithms where ours costs one.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import check_rows, keep, varies, weighted_mean
from fairjax.core.types import Array, Spec, Task


def sigmoid_cross_entropy(score: Array, label: Array) -> Array:
    """``-y log s(f) - (1-y) log(1 - s(f))`` per element, stable for large ``|f|``."""
    return jax.nn.softplus(score) - label * score


def softmax_cross_entropy(scores: Array, label: Array) -> Array:
    """``-log softmax(f)_y`` of scores ``[B, C]`` and class indices ``[B]``."""
    index = label.astype(jnp.int32)[:, None]
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), index, axis=1)[:, 0]


def concordance(prediction: Array, label: Array, weight: Array) -> Array:
    """``2 cov(f, y) / (var f + var y + (mean f - mean y)^2)`` with population moments.

    Args:
      prediction: ``[N]``.
      label: ``[N]``, anything where the weight is 0.
      weight: ``[N]``.

    Returns:
      A scalar in [-1, 1]; 0 where one of the two is constant or no row has weight, NaN where a
      prediction of positive weight is NaN.

    Raises:
      ValueError: predictions or labels are not ``[N]``.

    Source: Lin, Biometrics 45, 1989.
    """
    check_rows(prediction, weight)
    check_rows(label, weight)
    mean_prediction = weighted_mean(prediction, weight)
    mean_label = weighted_mean(label, weight)
    # a NaN of weight 0 leaves before the square, whose gradient would keep it
    prediction = keep(prediction - mean_prediction, weight)
    label = keep(label - mean_label, weight)
    covariance = weighted_mean(prediction * label, weight)
    variances = weighted_mean(jnp.square(prediction) + jnp.square(label), weight)
    spread = variances + jnp.square(mean_prediction - mean_label)
    # a NaN is no 0: a prediction that diverged shows in the result
    ratio = 2.0 * covariance / jnp.where(spread == 0, 1.0, spread)
    return jnp.where(spread == 0, 0.0, ratio)


def concordance_loss(prediction: Array, label: Array, weight: Array) -> Array:
    """``1 - concordance``; 0 with gradient 0 where the labels of positive weight are all equal.

    Nothing can agree with a constant: such a batch, one of a single row among them, says nothing.
    Arguments are those of :func:`concordance`.
    """
    is_varied = varies(label, weight)
    # without varying labels nothing has weight, so that the gradient is 0 and not only small
    value = concordance(prediction, label, jnp.where(is_varied, weight, 0.0))
    return jnp.where(is_varied, 1.0 - value, 0.0)


def row_losses(
    task: Task,
    scores: Array,
    labels: Array,
    mask: Array,
) -> tuple[Array, Array]:
    """The loss of every row on one task, and which rows count.

    Args:
      task: binary and multilabel take the sigmoid cross-entropy (summed over the labels of a row),
        multiclass the softmax cross-entropy, regression the squared error (summed over outputs).
      scores: the task's columns ``[B, c]``.
      labels: the task's columns ``[B, y]``; any value (also NaN) where the mask is 0.
      mask: ``[B, y]``.

    Returns:
      ``loss [B]`` in float32, 0 where no label is known, and ``has_label [B]``, 1 where any label
      is known.
    """
    scores = scores.astype(jnp.float32)
    labels = keep(labels, mask)
    has_label = jnp.max(mask, axis=1)
    if task.kind == "multiclass":
        losses = softmax_cross_entropy(scores, labels[:, 0])
        return has_label * losses, has_label
    if task.kind == "regression":
        losses = optax.losses.squared_error(scores, labels)
    else:
        losses = sigmoid_cross_entropy(scores, labels)
    return jnp.sum(mask * losses, axis=1), has_label


def total_loss(
    task: Task,
    scores: Array,
    labels: Array,
    mask: Array,
    weight: Array,
) -> tuple[Array, Array]:
    """The loss of a batch on one task, summed over its rows, and the weight of these rows.

    ``sum_i w_i l_i`` of :func:`row_losses`. With the loss ``"ccc"`` every row has its batch's
    ``1 - concordance``, so it is ``sum_u n_u (1 - concordance_u)`` over outputs u whose labels in
    the batch have the weight ``n_u``.

    Args:
      task: see :func:`row_losses`.
      scores: the task's columns ``[B, c]``.
      labels: the task's columns ``[B, y]``; any value (also NaN) where the mask is 0.
      mask: ``[B, y]``.
      weight: of the rows ``[B]``.
    """
    if task.loss == "ccc":
        weight_by = weight[:, None] * mask
        loss_y = jax.vmap(concordance_loss, 1)(scores.astype(jnp.float32), labels, weight_by)
        total = jnp.sum(jnp.sum(weight_by, axis=0) * loss_y)
        return total, jnp.sum(weight * jnp.max(mask, axis=1))
    loss, has_label = row_losses(task, scores, labels, mask)
    label_weight = weight * has_label
    return jnp.sum(label_weight * keep(loss, label_weight)), jnp.sum(label_weight)


def probabilities(spec: Spec, scores: Array | Sequence[Array]) -> list[Array]:
    """Per task, what a notion looks at, ``[B, c]`` in float32.

    Sigmoid for binary and multilabel, softmax for multiclass, the score itself for regression.

    Args:
      spec: names the tasks.
      scores: of all tasks ``[B, C]``, or one array ``[B, c]`` per task.
    """
    link = {
        "binary": jax.nn.sigmoid,
        "multilabel": jax.nn.sigmoid,
        "multiclass": jax.nn.softmax,
        "regression": lambda score: score,
    }
    if not isinstance(scores, list | tuple):
        scores = [scores[:, spec.score_slice(i)] for i in range(len(spec.tasks))]
    return [
        link[task.kind](columns.astype(jnp.float32))
        for task, columns in zip(spec.tasks, scores, strict=True)
    ]


def against_rest(
    spec: Spec,
    t: int,
    labels: Array,
    mask: Array,
) -> tuple[Array, Array]:
    """Labels and mask of task ``t``, ``[B, c]``, one column per score column.

    A multiclass task gives one column per class: 1 for the class, 0 for all other classes.
    """
    task = spec.tasks[t]
    columns = spec.label_slice(t)
    label = labels[:, columns]
    label_mask = mask[:, columns]
    if task.kind == "multiclass":
        classes = jnp.arange(len(task.levels))[None]
        label = (label == classes).astype(jnp.float32)
        label_mask = jnp.broadcast_to(label_mask, label.shape)
    return label, label_mask
