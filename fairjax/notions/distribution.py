"""Distances between whole distributions of scores: strong demographic parity, for predictions of
any unit.

Of more than two groups: the largest distance of a pair (Kolmogorov-Smirnov), the mean over pairs
  (Wasserstein).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide, keep
from fairjax.core.types import Array
from fairjax.notions.gaps import difference


class Steps(NamedTuple):
    """Distribution functions of groups; of several attributes side by side, a block of columns is
    one attribute's.
    """

    score: Array  # [N], ascending
    reached: Array  # [N, G] every group's distribution function after each score
    mass: Array  # [G] its weight


def steps(prob: Array, groups: Array, weight: Array) -> Steps:
    """Distribution functions by one sort; a score without weight counts as 0 and steps nowhere."""
    order = jnp.argsort(jax.lax.stop_gradient(keep(prob, weight)))
    member = (groups * weight[:, None])[order]
    mass = jnp.sum(member, axis=0)
    return Steps(keep(prob, weight)[order], divide(jnp.cumsum(member, axis=0), mass[None]), mass)


def largest_gap(found: Steps) -> Array:
    """``max_t max_gh |F_g(t) - F_h(t)|``."""
    last = jnp.append(
        found.score[1:] > found.score[:-1], True
    )  # within equal scores nothing can be told apart
    gap_n = jax.vmap(difference, (0, None))(found.reached, found.mass)
    return jnp.where(jnp.any(jnp.isnan(found.score)), jnp.nan, jnp.max(jnp.where(last, gap_n, 0.0)))


def apart(found: Steps) -> Array:
    """``|F_g - F_h|`` after each score but the last, ``[N - 1]``, mean over pairs of groups that
    are there.
    """
    present = found.mass > 0
    pair = (present[:, None] & present[None] & ~jnp.eye(len(present), dtype=bool)).astype(
        found.score.dtype
    )
    reached = found.reached
    return divide(
        jnp.sum(jnp.abs(reached[:, :, None] - reached[:, None, :]) * pair[None], axis=(1, 2)),
        jnp.sum(pair),
    )[:-1]


def kolmogorov_smirnov(prob: Array, groups: Array, weight: Array) -> Array:
    """``max_t max_gh |F_g(t) - F_h(t)|``, exactly: the largest gap of selection rates over all
    thresholds.

    A metric: its gradient is 0 everywhere; to train there is :func:`soft_kolmogorov_smirnov`.
    """
    return largest_gap(steps(jax.lax.stop_gradient(prob), groups, weight))


def soft_kolmogorov_smirnov(thresholds: Array, temperature: Array | float):
    """The largest gap of soft selection rates ``mean sigmoid((p - t) / tau)`` over thresholds
    ``[M]``.

    Returns:
      ``distance(prob[N], groups[N, G], weight[N]) -> scalar``.
    """

    def distance(prob: Array, groups: Array, weight: Array) -> Array:
        above = jax.nn.sigmoid(
            (keep(prob, weight)[:, None] - jnp.asarray(thresholds, prob.dtype)[None]) / temperature
        )
        member = groups * weight[:, None]
        mass = jnp.sum(member, axis=0)
        return jnp.max(jax.vmap(difference, (0, None))(divide(above.T @ member, mass[None]), mass))

    return distance


def wasserstein(prob: Array, groups: Array, weight: Array) -> Array:
    """``W_1 = int |F_g(t) - F_h(t)| dt`` by a sort, mean over pairs of present groups; in the units
    of the scores.

    Source: the one-dimensional optimal transport distance is the area between distribution
      functions (Vallender, 1974).
    """
    found = steps(prob, groups, weight)
    score, apart_n = found.score, apart(found)
    value = jnp.sum(jnp.diff(jax.lax.stop_gradient(score)) * apart_n)
    # a score's slope is how far apart the functions are below it less above it; equal scores share
    # theirs
    tie = jnp.cumsum(jnp.append(False, jnp.diff(score) > 0))
    slope, count = (
        jnp.zeros_like(score).at[tie].add(v)
        for v in (jnp.diff(-jnp.pad(apart_n, 1)), jnp.ones_like(score))
    )
    return value + jnp.sum(
        (slope / jnp.maximum(count, 1))[tie] * (score - jax.lax.stop_gradient(score))
    )
