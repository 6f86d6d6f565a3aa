"""Means under masks, per group or not: the only division by a count in the house.

A mean over nothing is 0 with gradient 0, and whatever stands where the weight is 0 (NaN included) leaves value and
gradient alone.
"""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.core.types import Array


def divide(numerator: Array, denominator: Array, fallback: float = 0.0) -> Array:
    """``numerator / denominator`` where the denominator is positive, else ``fallback``; gradients stay finite."""
    positive = denominator > 0
    # where on both sides: the untaken branch must not divide by zero, or its NaN reaches the gradient
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1.0), fallback)


def keep(values: Array, weight: Array) -> Array:
    """``values`` where ``weight`` is positive, 0 elsewhere; shapes broadcast."""
    return jnp.where(weight > 0, values, 0.0)


def weighted_sum(values: Array, weight: Array) -> Array:
    """``sum_i w_i v_i`` over the leading axis; entries of weight 0 may be NaN."""
    return jnp.sum(weight * keep(values, weight), axis=0)


def weighted_mean(values: Array, weight: Array) -> Array:
    """``sum_i w_i v_i / sum_i w_i`` over the leading axis; 0 when no weight is left."""
    return divide(weighted_sum(values, weight), jnp.sum(weight, axis=0))


def group_mean(values: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
    """Mean of ``values[N]`` in each group, and the weight of each group.

    ``mean_g = sum_i w_i m_ig v_i / sum_i w_i m_ig``; 0 for an absent group.

    Args:
      values: ``[N]``.
      groups: membership ``[N, G]``.
      weight: ``[N]``, not negative.

    Returns:
      ``mean[G]`` and ``mass[G] = sum_i w_i m_ig``.
    """
    # both a product with the vector of weights, so that XLA makes one small matmul of each
    mass_g = weight @ groups
    total_g = (weight * keep(values, weight)) @ groups
    return divide(total_g, mass_g), mass_g
