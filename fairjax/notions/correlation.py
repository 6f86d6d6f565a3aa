"""Correlation between scores and membership: zero when all group means agree."""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.core.masked import divide, group_mean, keep, weighted_mean
from fairjax.core.types import Array


def _sqrt(x: Array) -> Array:
    # the gradient of sqrt at 0 is infinite, and 0 * inf is NaN; a NaN itself goes through
    zero = x <= 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


def correlation_ratio(prob: Array, groups: Array, weight: Array) -> Array:
    """Correlation ratio: square root of the share of the scores' variance that lies between groups.

    ``eta = sqrt(sum_g pi_g (m_g - m)^2) / std(p)``; population moments over the rows whose group is
    known. For two groups it equals the absolute Pearson correlation ``|corr(p, a)|`` of the MTA-F
    code (Wang et al., KDD 2021), without its 1e-6 in the denominator; for more groups it is the
    multiple correlation on the group indicators.

    Args:
      prob: ``[N]``.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``.

    Returns:
      A scalar in [0, 1]; 0 with gradient 0 when fewer than two groups are present or the scores are
      constant.
    """
    weight = weight * jnp.sum(groups, axis=1)
    prob = keep(
        prob, weight
    )  # before any arithmetic: the square of a NaN outside would poison the gradient
    mean = weighted_mean(prob, weight)
    mean_g, mass_g = group_mean(prob, groups, weight)
    share_g = divide(mass_g, jnp.sum(mass_g))
    between = jnp.sum(share_g * jnp.square(mean_g - mean))
    total = weighted_mean(jnp.square(prob - mean), weight)
    # rounding leaves a trace of variance between groups that are equal; what is below it is no
    # correlation
    two = (jnp.sum(mass_g > 0) >= 2) & ~(total <= 1e-12)  # a NaN stays one
    return _sqrt(jnp.where(two, between, 0.0)) / _sqrt(jnp.where(two, total, 1.0))


def published_correlation(prob: Array, groups: Array, weight: Array) -> Array:
    """``|E[pa] - E[p]E[a]| / (std(p) std(a) + 1e-6)`` as coded by Wang et al. (2021); two groups, a
    = second group.
    """
    member = groups[:, 1]
    weight = weight * jnp.sum(groups, axis=1)
    prob = keep(prob, weight)
    p, a = weighted_mean(prob, weight), weighted_mean(member, weight)
    covariance = weighted_mean((prob - p) * (member - a), weight)
    spread = _sqrt(weighted_mean(jnp.square(prob - p), weight)) * _sqrt(
        weighted_mean(jnp.square(member - a), weight)
    )
    return jnp.abs(covariance) / (spread + 1e-6)
