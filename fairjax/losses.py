"""Supervised losses per task kind, and the probabilities that belong to the scores.

Inputs are scores ``[B, C]``, labels and mask ``[B, Y]``. The result is a loss per row and task,
``[B]``, 0 where the label is missing. Reductions live in :mod:`fairjax.objectives`.

The squared error is optax's. Both cross-entropies are our own: optax's are the same functions with
other roundings, and the sigmoid one costs two logarithms where ours costs one.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import keep
from fairjax.core.types import Array, Spec, Task


def sigmoid_cross_entropy(score: Array, label: Array) -> Array:
    """``-y log s(f) - (1-y) log(1 - s(f))`` per element, stable for large ``|f|``."""
    return jax.nn.softplus(score) - label * score


def softmax_cross_entropy(scores: Array, label: Array) -> Array:
    """``-log softmax(f)_y`` of scores ``[B, C]`` and class indices ``[B]``."""
    index = label.astype(jnp.int32)[:, None]
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), index, axis=1)[:, 0]


def row_losses(
    task: Task,
    scores: Array,
    labels: Array,
    mask: Array,
) -> tuple[Array, Array]:
    """The loss of every row on one task, and which rows count.

    Args:
      task: binary and multilabel take the sigmoid cross-entropy (summed over the labels of a row),
        multiclass the softmax cross-entropy, regression the squared error.
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
