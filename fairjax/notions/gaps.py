"""Gaps: one number from a statistic of every group.

A gap is ``(value[G], mass[G], overall) -> scalar``; ``overall`` is the statistic of all groups
together. Groups without
mass are left out, and with fewer than two groups there is no gap: 0 with gradient 0 (1 for
  :func:`ratio`).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array

Gap = Callable[[Array, Array, Array], Array]


def difference(value: Array, mass: Array, overall: Array | None = None) -> Array:
    """``max_g v_g - min_g v_g``: for two groups the absolute difference, for more the largest, as
    in fairlearn.
    """
    del overall
    two, present = _two(mass)
    top = jnp.max(jnp.where(present, value, -jnp.inf))
    low = jnp.min(jnp.where(present, value, jnp.inf))
    # infinities of an empty set must not meet in a subtraction
    return jnp.where(two, jnp.where(two, top, 0.0) - jnp.where(two, low, 0.0), 0.0)


def ratio(value: Array, mass: Array, overall: Array | None = None) -> Array:
    """``min_g v_g / max_g v_g`` of values that are not negative; 1 with fewer than two groups or
    when all values are 0.

    1 where groups agree: no loss, see :func:`ratio_gap`.
    """
    del overall
    two, present = _two(mass)
    top = jnp.max(jnp.where(present, value, 0.0))
    low = jnp.min(jnp.where(present, value, jnp.inf))
    return jnp.where(two & (top > 0), divide(jnp.where(two, low, 0.0), top), 1.0)


def ratio_gap(value: Array, mass: Array, overall: Array | None = None) -> Array:
    """``1 - min_g v_g / max_g v_g``; 0.2 is where the four-fifths rule ends."""
    return 1.0 - ratio(value, mass, overall)


def to_overall(value: Array, mass: Array, overall: Array) -> Array:
    """``max_g |v_g - v|``: the largest distance of a group from all together (fairlearn's
    ``method="to_overall"``).
    """
    return jnp.max(_distances(value, mass, overall))


def norm(order: Array | float = 1.0) -> Gap:
    """``(sum_g |v_g / v - 1|^p)^(1/p)``: the p-norm of relative distances from the overall value; 0
    when that is not positive.

    Reference:
      Buyl, Defrance, De Bie: fairret, a framework for differentiable fairness regularization terms,
        ICLR 2024.
    """

    def gap(value: Array, mass: Array, overall: Array) -> Array:
        relative = divide(_distances(value, mass, overall), overall)
        some = relative > 0  # the slope of a power at 0
        total = jnp.sum(jnp.where(some, jnp.where(some, relative, 1.0) ** order, 0.0))
        return jnp.where(total > 0, jnp.where(total > 0, total, 1.0) ** (1.0 / order), 0.0)

    return gap


def log_sum_exp(temperature: Array | float) -> Gap:
    """``tau log mean_g exp(|v_g - v| / tau)``: :func:`to_overall` that every group pulls at; at
    most that, and 0 with it.
    """

    def gap(value: Array, mass: Array, overall: Array) -> Array:
        two, present = _two(mass)
        scaled = jnp.where(present, _distances(value, mass, overall) / temperature, -jnp.inf)
        mean = jax.nn.logsumexp(jnp.where(two, scaled, 0.0)) - jnp.log(
            jnp.maximum(jnp.sum(present), 1)
        )
        return jnp.where(two, temperature * mean, 0.0)

    return gap


def worst(value: Array, mass: Array, overall: Array | None = None) -> Array:
    """``max_g v_g``, for statistics that are losses: group risk. One group is enough."""
    del overall
    some = jnp.any(mass > 0)
    return jnp.where(some, jnp.max(jnp.where(mass > 0, value, jnp.where(some, -jnp.inf, 0.0))), 0.0)


def bounded(bound: Array | float) -> Gap:
    """``max(0, max_g v_g - bound)``: bounded group loss.

    Reference:
      Agarwal, Dudik, Wu: Fair regression: quantitative definitions and reduction-based algorithms,
        ICML 2019.
    """

    def gap(value: Array, mass: Array, overall: Array | None = None) -> Array:
        return jnp.where(jnp.any(mass > 0), jax.nn.relu(worst(value, mass, overall) - bound), 0.0)

    return gap


def _two(mass: Array) -> tuple[Array, Array]:
    """Whether two groups are present, and which are ``[G]``."""
    present = mass > 0
    return jnp.sum(present) >= 2, present


def _distances(value: Array, mass: Array, overall: Array) -> Array:
    """``|v_g - v|``, 0 for absent groups and where fewer than two are present."""
    two, present = _two(mass)
    return jnp.where(two & present, jnp.abs(jnp.where(present, value, 0.0) - overall), 0.0)
