"""Gaps: one number from a statistic of every group.

A gap is ``(value[G], mass[G], overall) -> scalar``, where ``overall`` is the statistic of all
groups together. Groups without mass are left out. With fewer than two groups there is no gap: the
value is 0 (1 for :func:`ratio`) and its gradient is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array
from fairjax.notions.maxima import hard_maximum, smooth_maximum

Gap = Callable[[Array, Array, Array], Array]


def difference(value: Array, mass: Array, overall: Array | None = None) -> Array:
    """``max_g v_g - min_g v_g``, as in fairlearn: the largest difference of two groups."""
    del overall
    present = mass > 0
    comparable = jnp.sum(present) >= 2
    largest = jnp.max(jnp.where(present, value, -jnp.inf))
    smallest = jnp.min(jnp.where(present, value, jnp.inf))
    # Infinities of an empty set must not meet in a subtraction.
    largest = jnp.where(comparable, largest, 0.0)
    smallest = jnp.where(comparable, smallest, 0.0)
    return jnp.where(comparable, largest - smallest, 0.0)


def ratio(value: Array, mass: Array, overall: Array | None = None) -> Array:
    """``min_g v_g / max_g v_g`` of values that are not negative; 1 when all values are 0.

    It is 1 where groups agree, so it is no loss. See :func:`ratio_gap`.
    """
    del overall
    present = mass > 0
    comparable = jnp.sum(present) >= 2
    largest = jnp.max(jnp.where(present, value, 0.0))
    smallest = jnp.min(jnp.where(present, value, jnp.inf))
    smallest = jnp.where(comparable, smallest, 0.0)
    return jnp.where(comparable & (largest > 0), divide(smallest, largest), 1.0)


def ratio_gap(value: Array, mass: Array, overall: Array | None = None) -> Array:
    """``1 - min_g v_g / max_g v_g``; the four-fifths rule is broken above 0.2."""
    return 1.0 - ratio(value, mass, overall)


def to_overall(value: Array, mass: Array, overall: Array) -> Array:
    """``max_g |v_g - v|``: fairlearn's ``method="to_overall"``."""
    return jnp.max(_distances(value, mass, overall))


def norm(value: Array, mass: Array, overall: Array, *, order: Array | float = 1.0) -> Array:
    """``(sum_g |v_g / v - 1|^p)^(1/p)``: the p-norm of relative distances from the overall value.

    It is 0 when the overall value is not positive.

    Reference:
      Buyl, Defrance, De Bie: fairret, a framework for differentiable fairness regularization terms,
      ICLR 2024.
    """
    relative_g = divide(_distances(value, mass, overall), overall)
    power_g = _power(relative_g, order)
    return _power(jnp.sum(power_g), 1.0 / order)


def _power(base: Array, exponent: Array | float) -> Array:
    """``base ** exponent`` of numbers that are not negative, with gradient 0 at 0."""
    positive = base > 0
    return jnp.where(positive, jnp.where(positive, base, 1.0) ** exponent, 0.0)


def log_sum_exp(value: Array, mass: Array, overall: Array, *, temperature: Array | float) -> Array:
    """``tau log mean_g exp(|v_g - v| / tau)``: a soft :func:`to_overall`, and never above it.

    Every group has a gradient.
    """
    present = mass > 0
    comparable = jnp.sum(present) >= 2
    distance_g = _distances(value, mass, overall)
    return smooth_maximum(distance_g, comparable & present, temperature)


def worst(value: Array, mass: Array, overall: Array | None = None) -> Array:
    """``max_g v_g``, for statistics that are losses: group risk. One group is enough."""
    del overall
    return hard_maximum(value, mass > 0)


def bounded(
    value: Array, mass: Array, overall: Array | None = None, *, bound: Array | float
) -> Array:
    """``max(0, max_g v_g - bound)``: bounded group loss.

    Reference:
      Agarwal, Dudik, Wu: Fair regression: quantitative definitions and reduction-based algorithms,
      ICML 2019.
    """
    excess = jax.nn.relu(worst(value, mass, overall) - bound)
    return jnp.where(jnp.any(mass > 0), excess, 0.0)


def _distances(value: Array, mass: Array, overall: Array) -> Array:
    """``|v_g - v|``, 0 for absent groups and where fewer than two are present."""
    present = mass > 0
    comparable = jnp.sum(present) >= 2
    distance_g = jnp.abs(jnp.where(present, value, 0.0) - overall)
    return jnp.where(comparable & present, distance_g, 0.0)


def pairs(present: Array) -> Array:
    """1 for pairs of different groups that are present, ``[G, G]``."""
    both_present = present[:, None] & present[None]
    different = ~jnp.eye(present.shape[0], dtype=bool)
    return (both_present & different).astype(jnp.float32)
