"""How good predictions are, one number per task, under scikit-learn's names where it has them.

A mean over no rows is NaN here: a task without labelled rows has no error, not the error 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fairjax.core.decisions import choose
from fairjax.core.masked import check_rows, divide, keep, varies, weighted_sum
from fairjax.core.ordering import ordered
from fairjax.core.types import Array
from fairjax.losses import concordance
from fairjax.metrics.ranking import area_under_curve


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


def f1(
    decision: Array,
    label: Array,
    weight: Array,
) -> Array:
    """``2 sum w d y / sum w (d + y)``, as scikit-learn's ``f1_score`` with ``zero_division=0``.

    Arguments are those of :func:`error`, of 0/1.

    Returns:
      A scalar in [0, 1]; 0 where no row is positive or decided positive, NaN where no weight is
      left.
    """
    check_rows(decision, weight)
    check_rows(label, weight)
    agreement = 2.0 * weighted_sum(decision * label, weight)
    total = weighted_sum(decision + label, weight)
    # a sum with NaN in it is not positive either
    score = jnp.where(total == 0, 0.0, agreement / jnp.where(total == 0, 1.0, total))
    return jnp.where(jnp.sum(weight) > 0, score, jnp.nan)


def macro_f1(
    outcome: Array,
    label: Array,
    weight: Array,
) -> Array:
    """Mean over K classes of ``2 sum w o_k y_k / sum w (o_k + y_k)``.

    scikit-learn's ``f1_score`` with ``average="macro"``, all K ``labels`` and ``zero_division=0``:
    a class that neither occurs nor is chosen has 0. A label that no row knows is left out.

    Args:
      outcome: decisions ``[N, K]`` of 0/1, one-hot or one per label; NaN gives NaN.
      label: ``[N, K]``, anything where the weight is 0.
      weight: ``[N]``, or ``[N, K]`` where every label has a mask of its own.

    Raises:
      ValueError: decisions or labels are not ``[N, K]``; binary ones ``[N]`` have two columns too.
    """
    if jnp.ndim(outcome) != 2 or jnp.shape(outcome) != jnp.shape(label):
        raise ValueError(
            f"macro_f1: outcomes have shape {jnp.shape(outcome)} and labels {jnp.shape(label)}, "
            "expected [N, K] one-hot; notions.differential.two makes two columns of a binary one"
        )
    weight = weight if jnp.ndim(weight) == 2 else weight[:, None]
    weight_nk = jnp.broadcast_to(weight, jnp.shape(label))
    f1_k = jax.vmap(f1, 1)(outcome, label, weight_nk)
    known_k = jnp.sum(weight_nk, axis=0) > 0
    return mean(f1_k, known_k.astype(jnp.float32))


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
    return area_under_curve(ordered(keep(score, weight)), label, weight)


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


def mean_absolute_error(
    prediction: Array,
    label: Array,
    weight: Array,
) -> Array:
    """``sum_i w_i |f_i - y_i| / sum_i w_i``; arguments as in :func:`mean_squared_error`."""
    check_rows(prediction, weight)
    check_rows(label, weight)
    return mean(jnp.abs(prediction - keep(label, weight)), weight)


def r2(
    prediction: Array,
    label: Array,
    weight: Array,
) -> Array:
    """Coefficient of determination, ``1 - sum w (f - y)^2 / sum w (y - mean y)^2``.

    Arguments as in :func:`mean_squared_error`.

    Returns:
      A scalar up to 1; NaN where all labels are equal (scikit-learn's ``r2_score`` has 0 or 1
      there).
    """
    residual = mean_squared_error(prediction, label, weight)
    centre = jnp.broadcast_to(mean(label, weight), jnp.shape(label))
    variance = mean_squared_error(centre, label, weight)
    return jnp.where(varies(label, weight), 1.0 - divide(residual, variance), jnp.nan)


def ccc(
    prediction: Array,
    label: Array,
    weight: Array,
) -> Array:
    """Lin's concordance, see :func:`fairjax.losses.concordance`.

    Arguments as in :func:`mean_squared_error`.

    Returns:
      A scalar in [-1, 1]; NaN where all labels are equal: nothing can agree with a constant.
    """
    return jnp.where(varies(label, weight), concordance(prediction, label, weight), jnp.nan)
