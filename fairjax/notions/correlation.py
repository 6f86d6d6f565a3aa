"""Correlation between scores and membership: zero when all group means agree."""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.core.masked import check_membership, divide, group_mean, keep, weighted_mean
from fairjax.core.types import Array


def _sqrt(x: Array) -> Array:
    # The gradient of sqrt at 0 is infinite, and 0 * inf is NaN. A NaN stays NaN.
    zero = x <= 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


def correlation_ratio(prob: Array, groups: Array, weight: Array) -> Array:
    """Square root of the share of the scores' variance that lies between groups.

    ``eta = sqrt(sum_g pi_g (m_g - m)^2) / std(p)``, with population moments over the rows whose
    group is known. For two groups it is the absolute Pearson correlation ``|corr(p, a)|`` of the
    MTA-F code (Wang et al., KDD 2021), without its 1e-6 in the denominator. For more groups it is
    the multiple correlation on the group indicators.

    Args:
      prob: ``[N]``.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``.

    Returns:
      A scalar in [0, 1]; 0 with gradient 0 when fewer than two groups are present or the scores are
      constant.
    """
    check_membership(groups, weight)
    weight = weight * jnp.sum(groups, axis=1)
    # Before any arithmetic: the square of a NaN of weight 0 would spoil the gradient.
    prob = keep(prob, weight)
    mean = weighted_mean(prob, weight)
    mean_g, mass_g = group_mean(prob, groups, weight)
    share_g = divide(mass_g, jnp.sum(mass_g))
    between = jnp.sum(share_g * jnp.square(mean_g - mean))
    total = weighted_mean(jnp.square(prob - mean), weight)
    # Rounding leaves a trace of variance in constant scores.
    varies = ~(total <= 1e-12)  # true for NaN, which must stay NaN
    comparable = (jnp.sum(mass_g > 0) >= 2) & varies
    between = jnp.where(comparable, between, 0.0)
    total = jnp.where(comparable, total, 1.0)
    return _sqrt(between) / _sqrt(total)


def published_correlation(prob: Array, groups: Array, weight: Array) -> Array:
    """``|E[pa] - E[p]E[a]| / (std(p) std(a) + 1e-6)`` as coded by Wang et al. (2021).

    For two groups; a is membership in the second.
    """
    check_membership(groups, weight)
    member = groups[:, 1]
    weight = weight * jnp.sum(groups, axis=1)
    prob = keep(prob, weight)
    centred_p = prob - weighted_mean(prob, weight)
    centred_a = member - weighted_mean(member, weight)
    covariance = weighted_mean(centred_p * centred_a, weight)
    std_p = _sqrt(weighted_mean(jnp.square(centred_p), weight))
    std_a = _sqrt(weighted_mean(jnp.square(centred_a), weight))
    return jnp.abs(covariance) / (std_p * std_a + 1e-6)
