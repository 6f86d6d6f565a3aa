"""Weights of tasks that add up to 1 and even out their gradient norms, as in L2T-FMT."""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array

LEARNING_RATE = 1e-3
LEAST_WEIGHT = 1e-3


def balanced_weights(omega: Array, norm: Array, pace: Array) -> Array:
    """One step of the weights: ``omega_t - rate n_t (s_t - mean_j s_j)``, divided by their sum.

    ``s_t = sign(omega_t n_t - mean_j(omega_j n_j) r_t)`` with ``r_t = pace_t / mean_j pace_j``. The
    factor of ``s_t`` is ``(T - 1) / T``, that of every other sign ``-1 / T``: the gradient of the
    distance of the weighted norms from their mean.

    Weights stay above 0.001. The published code leaves ``omega`` out of the sign. A weight then
    goes on in one direction whatever it has reached, below 0 in the end.

    Args:
      omega: weights ``[T]`` that add up to 1.
      norm: ``n_t``, gradient norms of the losses without weights, ``[T]``.
      pace: each loss by its first value, ``[T]``.

    Returns:
      ``[T]``, adding up to 1.

    Source: Roy, Ntoutsi, ECML-PKDD 2022, after GradNorm (Chen et al., ICML 2018) with alpha 1.
    """
    rate = jnp.maximum(divide(pace, jnp.mean(pace)), 0.0)
    weighted_norm = omega * norm
    target = jnp.mean(weighted_norm) * rate
    sign = jnp.sign(weighted_norm - target)
    gradient = norm * (sign - jnp.mean(sign))
    after_step = omega - LEARNING_RATE * gradient
    positive = jnp.maximum(after_step, LEAST_WEIGHT)
    return positive / jnp.sum(positive)


def pace_of(value: Array, first: Array) -> tuple[Array, Array]:
    """Losses by their first values, and the first values, both of the shape of ``value``.

    A loss that has been 0 so far has no first value yet.
    """
    first = jnp.where(first == 0, value, first)
    return divide(value, first), first
