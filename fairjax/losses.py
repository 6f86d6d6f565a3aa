"""Supervised losses per task kind, and the probabilities that belong to the scores.

In: scores ``[B, C]``, labels and mask ``[B, Y]``. Out: a loss per row and task, ``[B]``, 0 where the label is missing.
Reductions live in :mod:`fairjax.objectives`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fairjax.core.masked import keep
from fairjax.core.types import Array, Spec, Task


def sigmoid_cross_entropy(score: Array, label: Array) -> Array:
    """``-y log s(f) - (1-y) log(1 - s(f))`` per element, stable for large ``|f|``."""
    return jax.nn.softplus(score) - label * score


def softmax_cross_entropy(scores: Array, label: Array) -> Array:
    """``-log softmax(f)_y`` of scores ``[B, C]`` and class indices ``[B]``."""
    index = label.astype(jnp.int32)[:, None]
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), index, axis=1)[:, 0]


def squared_error(score: Array, label: Array) -> Array:
    """``(f - y)^2`` per element."""
    return jnp.square(score - label)


def row_losses(task: Task, scores: Array, labels: Array, mask: Array) -> tuple[Array, Array]:
    """The loss of every row on one task, and which rows count.

    Args:
      task: binary and multilabel take sigmoid cross-entropy (labels of a row added up), multiclass softmax
        cross-entropy, regression the squared error.
      scores: the task's columns ``[B, c]``.
      labels: the task's columns ``[B, y]``; anything (NaN too) where the mask is 0.
      mask: ``[B, y]``.

    Returns:
      ``loss[B]`` in float32, 0 where nothing is known, and ``known[B]``, 1 where any label is known.
    """
    scores, labels = scores.astype(jnp.float32), keep(labels, mask)
    known = jnp.max(mask, axis=1)
    if task.kind == "multiclass":
        return known * softmax_cross_entropy(scores, labels[:, 0]), known
    each = squared_error if task.kind == "regression" else sigmoid_cross_entropy
    return jnp.sum(mask * each(scores, labels), axis=1), known


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
        "regression": lambda f: f,
    }
    if not isinstance(scores, list | tuple):
        scores = [scores[:, spec.score_slice(i)] for i in range(len(spec.tasks))]
    return [
        link[task.kind](columns.astype(jnp.float32))
        for task, columns in zip(spec.tasks, scores, strict=True)
    ]


def against_rest(spec: Spec, t: int, labels: Array, mask: Array) -> tuple[Array, Array]:
    """Labels and mask of a task, ``[B, c]`` with a column per score column: of several classes each against the rest."""
    task, y = spec.tasks[t], spec.label_slice(t)
    label, known = labels[:, y], mask[:, y]
    if task.kind == "multiclass":
        label = (label == jnp.arange(len(task.levels))[None]).astype(jnp.float32)
        known = jnp.broadcast_to(known, label.shape)
    return label, known
