"""Means under masks, over all rows or per group. Every division by a count is made here.

A mean over no rows is 0 and its gradient is 0. An entry of weight 0 may hold anything, NaN
included: it changes neither the value nor the gradient.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fairjax.core.types import Array

_SLACK = 1e-3  # by which rounding may leave [0, 1]


def divide(numerator: Array | float, denominator: Array, fallback: float = 0.0) -> Array:
    """``numerator / denominator`` where the denominator is positive, else ``fallback``.

    Gradients stay finite, and equal numbers give exactly 1 under ``vmap`` too.
    """
    positive = denominator > 0
    # Both sides need a ``where``: a division by zero in the unused branch makes the gradient NaN.
    # The inner one reads the numerator: XLA multiplies by the reciprocal of a denominator that all
    # members share, and 41 * (1 / 41) is less than 1.
    safe_denominator = jnp.where(positive & ~jnp.isnan(numerator), denominator, 1.0)
    ratio = numerator / safe_denominator
    return jnp.where(positive, ratio, fallback)


def keep(values: Array, weight: Array) -> Array:
    """``values`` where ``weight`` is positive, 0 elsewhere; shapes broadcast."""
    counts = weight > 0
    return jnp.where(counts, values, 0.0)


def weighted_sum(values: Array, weight: Array) -> Array:
    """``sum_i w_i v_i`` over the leading axis; entries of weight 0 may be NaN."""
    terms = weight * keep(values, weight)
    return jnp.sum(terms, axis=0)


def weighted_mean(values: Array, weight: Array) -> Array:
    """``sum_i w_i v_i / sum_i w_i`` over the leading axis; 0 when the sum of weights is 0."""
    total = weighted_sum(values, weight)
    mass = jnp.sum(weight, axis=0)
    return divide(total, mass)


def varies(values: Array, weight: Array) -> Array:
    """Whether there are two different values among those ``[N]`` of positive weight."""
    counts = weight > 0
    highest = jnp.max(jnp.where(counts, values, -jnp.inf), initial=-jnp.inf)
    lowest = jnp.min(jnp.where(counts, values, jnp.inf), initial=jnp.inf)
    return highest > lowest


def check_membership(groups: Array, rows: Array) -> None:
    """Refuse groups that are not one column per group, such as codes ``[N]``.

    Codes would broadcast: every notion would be 0, with gradient 0. ``rows`` is any array with N
    rows.
    """
    if jnp.ndim(groups) != 2 or len(groups) != len(rows):
        raise ValueError(
            f"groups have shape {jnp.shape(groups)}, expected membership [N, G] with "
            f"N = {len(rows)}: a column of 0 and 1 per group. jax.nn.one_hot(codes, G) makes "
            "them of codes 0 ... G - 1"
        )


def check_rows(values: Array, weight: Array) -> None:
    """Refuse values that are not one per row, such as ``[N, 1]``.

    A column would broadcast to ``[N, N]``.
    """
    if jnp.shape(values) != jnp.shape(weight):
        raise ValueError(
            f"values have shape {jnp.shape(values)}, expected [N] as weights "
            f"{jnp.shape(weight)}; jnp.squeeze(values, axis=1) makes [N] of one column"
        )


def check_probabilities(prob: Array, weight: Array) -> None:
    """Refuse values outside [0, 1], such as logits: rates and gaps of them mean nothing.

    It looks at values of positive weight, and NaN passes. Values that are being traced (``jit``,
    ``grad``, ``vmap``) cannot be looked at and pass; the check then costs nothing. ``weight``
    broadcasts to the shape of ``prob``.
    """
    if isinstance(prob, Tracer) or isinstance(weight, Tracer):
        return
    values = np.asarray(prob)
    counts = np.broadcast_to(np.asarray(weight) > 0, values.shape)
    outside = counts & ((values < -_SLACK) | (values > 1 + _SLACK))
    if np.any(outside):
        raise ValueError(
            f"{np.sum(outside)} of {np.sum(counts)} values are no probabilities: they lie outside "
            f"[0, 1], the first is {float(values[outside][0]):g}. jax.nn.sigmoid(logits) makes "
            "probabilities of logits, jax.nn.softmax those of classes. Predictions of a regression "
            "have notions of their own, see fairjax.notions.for_kind('regression')"
        )


def members(groups: Array, weight: Array) -> Array:
    """Each row's weight in its groups, ``w_i m_ig``: ``[N, G]``.

    Args:
      groups: membership ``[N, G]``.
      weight: ``[N]``.

    Raises:
      ValueError: groups are not one column per group.
    """
    check_membership(groups, weight)
    return groups * weight[:, None]


def group_mean(values: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
    """Mean of ``values[N]`` in each group, and the weight of each group.

    ``mean_g = sum_i w_i m_ig v_i / sum_i w_i m_ig``; 0 for a group without rows.

    Args:
      values: ``[N]``.
      groups: membership ``[N, G]``.
      weight: ``[N]``, not negative.

    Returns:
      ``mean[G]`` and ``mass[G] = sum_i w_i m_ig``.

    Raises:
      ValueError: groups are not one column per group, or values are not ``[N]``.
    """
    check_membership(groups, weight)
    check_rows(values, weight)
    # Both are products of a vector and a matrix, so that XLA makes one small matmul of each.
    mass_g = weight @ groups
    terms = weight * keep(values, weight)
    total_g = terms @ groups
    mean_g = divide(total_g, mass_g)
    return mean_g, mass_g
