"""How good predictions are, one number per task: error, area under the curve, squared error.

A mean over no rows is NaN here: a task without labelled rows has no error, not the error 0.
"""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.core.masked import check_rows, divide, keep, weighted_sum
from fairjax.core.types import Array
from fairjax.metrics.ranking import area_under_curve, rank


def mean(values: Array, weight: Array) -> Array:
    """``sum_i w_i v_i / sum_i w_i`` over the leading axis; NaN when no weight is left."""
    total = weighted_sum(values, weight)
    mass = jnp.sum(weight, axis=0)
    return divide(total, mass, jnp.nan)


def error(
    decision: Array,
    label: Array,
    weight: Array,
) -> Array:
    """Share of wrong decisions, ``sum_i w_i 1[d_i != y_i] / sum_i w_i``.

    Args:
      decision: ``[N]`` of 0/1 or class indices; NaN gives NaN.
      label: ``[N]``, anything where the weight is 0.
      weight: ``[N]``, 0 for padding and missing labels.

    Returns:
      A scalar in [0, 1].

    Raises:
      ValueError: decisions or labels are not ``[N]``.
    """
    check_rows(decision, weight)
    check_rows(label, weight)
    unknown = jnp.isnan(decision)
    wrong = decision != label
    loss = jnp.where(unknown, jnp.nan, wrong.astype(jnp.float32))
    return mean(loss, weight)


def choose(scores: Array) -> Array:
    """Index of the largest of the class scores ``[N, C]``.

    The first index in a tie; NaN where a score of the row is NaN.
    """
    unknown = jnp.any(jnp.isnan(scores), axis=-1)
    best = jnp.argmax(scores, axis=-1)
    return jnp.where(unknown, jnp.nan, best.astype(jnp.float32))


def chosen(scores: Array) -> Array:
    """:func:`choose` as one-hot columns ``[N, C]``; a row of NaN where a score is NaN."""
    choice = choose(scores)[:, None]
    classes = jnp.arange(scores.shape[1])[None]
    one_hot = choice == classes
    unknown = jnp.isnan(choice)
    decision = jnp.where(unknown, jnp.nan, one_hot)
    return decision.astype(jnp.float32)


def multiclass_error(
    scores: Array,
    label: Array,
    weight: Array,
) -> Array:
    """Share of rows whose largest score ``[N, C]`` is not at the label.

    Label and weight as in :func:`error`.
    """
    choice = choose(scores)
    return error(choice, label, weight)


def macro_f1(
    outcome: Array,
    label: Array,
    weight: Array,
) -> Array:
    """Mean over K classes of ``2 sum w o_k y_k / sum w (o_k + y_k)``.

    A class that neither occurs nor is chosen has 0.

    Args:
      outcome: decisions ``[N, K]`` one-hot, NaN gives NaN.
      label: ``[N, K]`` one-hot, anything where the weight is 0.
      weight: ``[N]``.

    Raises:
      ValueError: decisions or labels are not ``[N, K]``; binary ones ``[N]`` have two columns too.
    """
    if jnp.ndim(outcome) != 2 or jnp.shape(outcome) != jnp.shape(label):
        raise ValueError(
            f"macro_f1: outcomes have shape {jnp.shape(outcome)} and labels {jnp.shape(label)}, "
            "expected [N, K] one-hot; notions.differential.two makes two columns of a binary one"
        )
    weight = weight[:, None]
    agreement_k = 2 * weighted_sum(outcome * label, weight)
    total_k = weighted_sum(outcome + label, weight)
    f1_k = divide(agreement_k, total_k)
    return jnp.mean(f1_k)


def auc(
    score: Array,
    label: Array,
    weight: Array,
) -> Array:
    """Area under the ROC curve: ``P(s_i > s_j) + P(s_i = s_j) / 2``, i positive and j negative.

    Args:
      score: ``[N]``, NaN gives NaN.
      label: ``[N]`` of 0/1, anything where the weight is 0.
      weight: ``[N]``; a pair counts with the product of its weights.

    Returns:
      A scalar in [0, 1]; NaN when either class has no weight.

    Source: Hanley and McNeil, Radiology 143, 1982.
    """
    ranked = rank(score, label, weight)
    return area_under_curve(ranked)


def mean_squared_error(
    prediction: Array,
    label: Array,
    weight: Array,
) -> Array:
    """``sum_i w_i (f_i - y_i)^2 / sum_i w_i``.

    Args:
      prediction: ``[N]``; NaN gives NaN.
      label: ``[N]``, anything where the weight is 0.
      weight: ``[N]``, 0 for padding and missing labels.

    Raises:
      ValueError: predictions or labels are not ``[N]``.
    """
    check_rows(prediction, weight)
    check_rows(label, weight)
    residual = prediction - keep(label, weight)
    squared_error = jnp.square(residual)
    return mean(squared_error, weight)


def root_mean_squared_error(
    prediction: Array,
    label: Array,
    weight: Array,
) -> Array:
    """Square root of :func:`mean_squared_error`, in the units of the label."""
    return jnp.sqrt(mean_squared_error(prediction, label, weight))
