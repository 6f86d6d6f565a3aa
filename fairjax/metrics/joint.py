"""How much all scores of a row together tell about its group, beyond each score alone: distances between joint laws.

Both distances add up squares over tasks: divide scores by one fixed deviation per task first, the same before and after a
repair, unless they share a unit. Rows of weight 0 and rows without a group do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide, keep
from fairjax.core.types import Array
from fairjax.notions.transport import largest, sinkhorn, sliced

Distance = Callable[[Array, Array, Array], Array]  # scores[N, T], groups[N, G], weight[N] -> scalar


class PermutationTest(NamedTuple):
    """A distance beside what it would be if groups were drawn by lot."""

    value: Array
    floor: Array  # mean over draws
    p_value: Array  # share of draws, the data counted as one, that reach the value


def sliced_wasserstein(key: Array, directions: int = 128) -> Distance:
    """Sliced ``W_2^2`` of the two groups that are furthest apart, see :func:`fairjax.notions.sliced`."""
    return sliced(key, directions, largest)


def sinkhorn_divergence(epsilon: float = 0.05, iterations: int = 500) -> Distance:
    """Sinkhorn divergence of the two groups that are furthest apart, see :func:`fairjax.notions.sinkhorn`.

    Time grows with ``N^2``: take a few thousand rows at most.
    """
    return sinkhorn(epsilon, iterations, largest)


def group_correlations(scores: Array, groups: Array, weight: Array) -> Array:
    """Correlation between tasks in each group.

    Args:
      scores: ``[N, T]``.
      groups: membership ``[N, G]``.
      weight: ``[N]``.

    Returns:
      ``[G, T, T]``; NaN for an absent group and beside a task that does not vary in it.
    """
    scores = keep(scores, weight[:, None])

    def of_group(w):
        centred = scores - divide(w @ scores, jnp.sum(w))
        cov = (w[:, None] * centred).T @ centred
        deviation = jnp.sqrt(jnp.diag(cov))
        return divide(cov, deviation[:, None] * deviation, jnp.nan)

    return jax.vmap(of_group, 1)(groups * weight[:, None])


def permutation_test(
    key: Array, distance: Distance, scores: Array, groups: Array, weight: Array, draws: int = 20
) -> PermutationTest:
    """A distance between groups, and the same with groups dealt out again at random: what samples of this size show anyway.

    Args:
      key: for the draws.
      distance: ``(scores, groups, weight) -> scalar``.
      scores: ``[N, T]``.
      groups: membership ``[N, G]``.
      weight: ``[N]``; weights stay with their rows.
      draws: how often groups are dealt out.

    Returns:
      :class:`PermutationTest`: the smallest possible ``p_value`` is ``1 / (draws + 1)``.
    """
    drawn = jax.lax.map(
        lambda k: distance(scores, _dealt(k, groups, weight), weight), jax.random.split(key, draws)
    )
    value = distance(scores, groups, weight)
    return PermutationTest(value, jnp.mean(drawn), (1 + jnp.sum(drawn >= value)) / (draws + 1))


def _dealt(key: Array, groups: Array, weight: Array) -> Array:
    """Groups in another order among the rows that count; nobody else's change."""
    counts = (weight > 0) & jnp.any(groups > 0, axis=1)
    shuffled = jnp.argsort(jnp.where(counts, jax.random.uniform(key, weight.shape), 2.0))
    return jnp.where(counts[:, None], groups[shuffled[jnp.cumsum(counts) - 1]], groups)
