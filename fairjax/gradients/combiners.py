"""Combiners: K losses ``[K]`` to one scalar, pure functions of the losses.

Each has a link of its own, whose weights are its slopes. ``where`` says which losses take part, as
in numpy's reductions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fairjax.core.masked import divide
from fairjax.core.types import Array

LEAST_LOSS = 1e-8


def smooth_tchebycheff(
    values: Array,
    weight: ArrayLike | None = None,
    *,
    mu: Array | float,
    ideal: ArrayLike = 0.0,
    where: ArrayLike = True,
) -> Array:
    """``mu log sum_k exp(weight_k (L_k - ideal_k) / mu)``, a smooth largest weighted loss.

    Args:
      values: L, ``[K]``.
      weight: ``[K]``. Default: equal, of sum 1.
      mu: above 0; the smaller, the nearer to the largest.
      ideal: the least value of each loss, ``[K]`` or a number.
      where: ``[K]`` bool, the losses that take part.

    Source: Lin, Zhang, Yang, Liu, Wang, Zhang, Smooth Tchebycheff scalarization for multi-objective
    optimization, ICML 2024.
    """
    if weight is None:
        weight = _shares(values, where)
    weighted = jnp.asarray(weight) * (values - ideal)
    return mu * jax.nn.logsumexp(weighted / mu, where=where)


def geometric_mean(values: Array, *, where: ArrayLike = True) -> Array:
    """``exp(mean_k log L_k)``; a loss below 1e-8 counts as 1e-8.

    Args:
      values: L, ``[K]``.
      where: ``[K]`` bool, the losses that take part.

    Source: Chennupati, Sistu, Yogamani, Rawashdeh, MultiNet++, CVPR workshops 2019.
    """
    log_values = jnp.log(jnp.maximum(values, LEAST_LOSS))
    return jnp.exp(jnp.sum(_shares(values, where) * log_values))


def cosmos_loss(
    values: Array,
    preference: ArrayLike | None = None,
    *,
    lam: Array | float,
    where: ArrayLike = True,
) -> Array:
    """``r . L - lam cos(r, L)``: losses in proportion to the preference r are preferred.

    Args:
      values: L, ``[K]``.
      preference: r, ``[K]``. Default: equal, of sum 1.
      lam: the weight of the cosine.
      where: ``[K]`` bool, the losses that take part.

    Source: Ruchte, Grabocka, Scalable Pareto front approximation for deep multi-objective learning,
    ICDM 2021.
    """
    values, preference = _along(values, preference, where)
    product = preference @ values
    return product - lam * divide(product, _norm(preference) * _norm(values))


def boundary_intersection(
    values: Array,
    preference: ArrayLike | None = None,
    *,
    theta: Array | float,
    ideal: ArrayLike = 0.0,
    where: ArrayLike = True,
) -> Array:
    """PBI, ``d_1 + theta d_2``: the length of the losses along r, and their distance from it.

    Args:
      values: L, ``[K]``.
      preference: r, ``[K]``. Default: equal.
      theta: the weight of the distance.
      ideal: the least value of each loss, ``[K]`` or a number.
      where: ``[K]`` bool, the losses that take part.

    Source: Zhang, Li, MOEA/D: a multiobjective evolutionary algorithm based on decomposition, IEEE
    Transactions on Evolutionary Computation, 2007.
    """
    above, preference = _along(values - ideal, preference, where)
    direction = divide(preference, _norm(preference))
    along = direction @ above
    # A distance that is rounding has no slope.
    rounding = 8 * jnp.finfo(above.dtype).eps * _norm(above)
    return along + theta * _norm(above - along * direction, rounding)


def _shares(values: Array, where: ArrayLike) -> Array:
    """Equal weights of sum 1 for the losses that take part."""
    takes_part = jnp.broadcast_to(where, values.shape)
    return takes_part / jnp.maximum(jnp.sum(takes_part), 1)


def _along(values: Array, preference: ArrayLike | None, where: ArrayLike) -> tuple[Array, Array]:
    """Losses and preferences, 0 for those that take no part."""
    if preference is None:
        preference = _shares(values, where)
    preference = jnp.asarray(preference, values.dtype)
    return jnp.where(where, values, 0.0), jnp.where(where, preference, 0.0)


def _norm(vector: Array, least: Array | float = 0.0) -> Array:
    """The length; up to ``least`` it is 0 and has no slope."""
    least = jnp.maximum(least, jnp.sqrt(jnp.finfo(vector.dtype).tiny))
    square = jnp.sum(vector**2)
    is_above = square > least**2
    return jnp.where(is_above, jnp.sqrt(jnp.where(is_above, square, 1.0)), 0.0)
