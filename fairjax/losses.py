"""Supervised losses per task kind, and the probabilities that belong to the scores.

Inputs are scores ``[B, C]``, labels and mask ``[B, Y]``. The result is a loss per row and task,
``[B]``, 0 where the label is missing. Reductions live in :mod:`fairjax.objectives`. The concordance
belongs to a batch and not to a row; :func:`total_loss` takes both sorts.

The squared error is optax's. Both cross-entropies are our own: optax's are the same functions with
other roundings, and the sigmoid one costs two logarithms where ours costs one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import check_rows, keep, varies, weighted_mean
from fairjax.core.types import Array, Dataset, Spec, Task


class Supervision(NamedTuple):
    """How the labels of classes are learned. It is for training: no metric reads it.

    Regressions have no classes and are learned as they are.
    """

    smoothing: Array | float | None = None  # s of :func:`smoothed`; may be traced
    # per task [Y, C], a factor of the loss by label column and class; None for a regression
    class_weights: Sequence[Array | None] | None = None

    def of_task(self, t: int) -> tuple[Array | float | None, Array | None]:
        """``smoothing`` and ``class_weight`` of task ``t``, for :func:`row_losses`."""
        return self.smoothing, self.class_weights[t] if self.class_weights else None


AS_LABELLED = Supervision()  # neither smoothing nor factors of classes


def smoothed(target: Array, smoothing: Array | float, classes: int) -> Array:
    """``(1 - s) y + s / C``: the share s of every target is spread over the C classes.

    Args:
      target: probabilities of any shape: of label 1, where C is 2, or of every class.
      smoothing: s in [0, 1]; at 1 the labels say nothing.
      classes: C.

    Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, Rethinking the inception architecture for
    computer vision, CVPR 2016, section 7.
    """
    return (1.0 - smoothing) * target + smoothing / classes


def balanced_class_weights(spec: Spec, data: Dataset) -> tuple[Array | None, ...]:
    """``n / (C n_c)`` per task ``[Y, C]``, for :class:`Supervision`.

    ``n_c`` is the weight of the rows that are known to be of class c, ``n`` the sum over classes,
    and C the number of classes that occur. So the classes weigh alike, and together as much as
    before. A class that does not occur has factor 1. A regression has None. A label column of a
    multilabel task has two classes.

    Powers of these numbers between 0 and 1 are between no weights and balanced ones.

    Source: ``class_weight="balanced"`` of scikit-learn, after King, Zeng, Logistic regression in
    rare events data, Political Analysis 9, 2001.
    """
    weights = []
    for t, task in enumerate(spec.tasks):
        if task.kind == "regression":
            weights.append(None)
            continue
        columns = spec.label_slice(t)
        mask = data.label_mask[:, columns]
        labels = keep(data.labels[:, columns], mask)
        classes = len(task.levels) if task.kind == "multiclass" else 2
        is_class = labels[:, :, None] == jnp.arange(classes)
        count = jnp.einsum("n,ny,nyc->yc", data.weight, mask, is_class.astype(jnp.float32))
        occurs = count > 0
        total = jnp.sum(count, axis=1, keepdims=True)
        equal = total / jnp.maximum(jnp.sum(occurs, axis=1, keepdims=True), 1)
        weights.append(jnp.where(occurs, equal / jnp.where(occurs, count, 1.0), 1.0))
    return tuple(weights)


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
    smoothing: Array | float | None = None,
    class_weight: Array | None = None,
) -> tuple[Array, Array]:
    """The loss of every row on one task, and which rows count.

    Args:
      task: binary and multilabel take the sigmoid cross-entropy (summed over the labels of a row),
        multiclass the softmax cross-entropy, regression the squared error (summed over outputs).
      scores: the task's columns ``[B, c]``.
      labels: the task's columns ``[B, y]``; any value (also NaN) where the mask is 0.
      mask: ``[B, y]``.
      smoothing: s of :func:`smoothed`; a regression ignores it.
      class_weight: ``[y, C]``, a factor of the loss by the label's class; a regression ignores it.

    Returns:
      ``loss [B]`` in float32, 0 where no label is known, and ``has_label [B]``, 1 where any label
      is known.
    """
    scores = scores.astype(jnp.float32)
    labels = keep(labels, mask)
    has_label = jnp.max(mask, axis=1)
    if task.kind == "regression":
        losses = optax.losses.squared_error(scores, labels)
        return jnp.sum(mask * losses, axis=1), has_label
    factor = None
    if class_weight is not None:
        factor = jnp.take_along_axis(class_weight.T, labels.astype(jnp.int32), axis=0)
    if task.kind == "multiclass":
        losses = _of_classes(scores, labels[:, 0], smoothing)
        losses = losses if factor is None else factor[:, 0] * losses
        return has_label * losses, has_label
    target = labels if smoothing is None else smoothed(labels, smoothing, 2)
    losses = sigmoid_cross_entropy(scores, target)
    losses = losses if factor is None else factor * losses
    return jnp.sum(mask * losses, axis=1), has_label


def _of_classes(scores: Array, label: Array, smoothing: Array | float | None) -> Array:
    """Cross-entropy of scores ``[B, C]`` with class indices ``[B]``, perhaps smoothed."""
    if smoothing is None:
        return softmax_cross_entropy(scores, label)
    classes = scores.shape[1]
    target = smoothed(jax.nn.one_hot(label.astype(jnp.int32), classes), smoothing, classes)
    return -jnp.sum(target * jax.nn.log_softmax(scores), axis=1)


def total_loss(
    task: Task,
    scores: Array,
    labels: Array,
    mask: Array,
    weight: Array,
    smoothing: Array | float | None = None,
    class_weight: Array | None = None,
) -> tuple[Array, Array]:
    """The loss of a batch on one task, summed over its rows, and the weight of these rows.

    ``sum_i w_i l_i`` of :func:`row_losses`. Factors of classes are in the sum and not in the
    weight, so that a batch of one class does not undo them. With the loss ``"ccc"`` every row has
    its batch's ``1 - concordance``, so it is ``sum_u n_u (1 - concordance_u)`` over outputs u whose
    labels in the batch have the weight ``n_u``.

    Args:
      task: see :func:`row_losses`.
      scores: the task's columns ``[B, c]``.
      labels: the task's columns ``[B, y]``; any value (also NaN) where the mask is 0.
      mask: ``[B, y]``.
      weight: of the rows ``[B]``.
      smoothing: see :func:`row_losses`.
      class_weight: see there.
    """
    if task.loss == "ccc":
        weight_by = weight[:, None] * mask
        loss_y = jax.vmap(concordance_loss, 1)(scores.astype(jnp.float32), labels, weight_by)
        total = jnp.sum(jnp.sum(weight_by, axis=0) * loss_y)
        return total, jnp.sum(weight * jnp.max(mask, axis=1))
    loss, has_label = row_losses(task, scores, labels, mask, smoothing, class_weight)
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
    if not isinstance(scores, Sequence):
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
