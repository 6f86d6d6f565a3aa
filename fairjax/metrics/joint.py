"""Distances between the groups' joint distributions of all scores of a row.

They see what all scores together tell about the group, beyond each score alone. Both distances add
up squares over tasks: unless scores share a unit, divide them first by one fixed deviation per
task, the same before and after a repair. Rows of weight 0 and rows without a group do not count.
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
    """A distance between groups, and the same distance between random groups."""

    value: Array
    floor: Array  # mean over draws
    p_value: Array  # share of draws that reach the value; the data count as one draw


def sliced_wasserstein(key: Array, directions: int = 128) -> Distance:
    """Sliced ``W_2^2`` of the two most distant groups; see :func:`fairjax.notions.sliced`."""
    return sliced(key, directions, largest)


def sinkhorn_divergence(epsilon: float = 0.05, iterations: int = 500) -> Distance:
    """Sinkhorn divergence of the two most distant groups; see :func:`fairjax.notions.sinkhorn`.

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
      ``[G, T, T]``; NaN for an absent group, and for a task that does not vary in the group.
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
    """A distance between groups, and the same after random permutations of the rows' groups.

    The permutations show what distance samples of this size have by chance.

    Args:
      key: for the draws.
      distance: ``(scores, groups, weight) -> scalar``.
      scores: ``[N, T]``.
      groups: membership ``[N, G]``.
      weight: ``[N]``; weights stay with their rows.
      draws: number of permutations.

    Returns:
      :class:`PermutationTest`: the smallest possible ``p_value`` is ``1 / (draws + 1)``.
    """

    def permuted_distance(key):
        return distance(scores, _permuted(key, groups, weight), weight)

    chance = jax.lax.map(permuted_distance, jax.random.split(key, draws))
    value = distance(scores, groups, weight)
    p_value = (1 + jnp.sum(chance >= value)) / (draws + 1)
    return PermutationTest(value, jnp.mean(chance), p_value)


def _permuted(key: Array, groups: Array, weight: Array) -> Array:
    """Groups in a random order among the rows that count; other rows keep their group."""
    counts = (weight > 0) & jnp.any(groups > 0, axis=1)
    shuffled = jnp.argsort(jnp.where(counts, jax.random.uniform(key, weight.shape), 2.0))
    return jnp.where(counts[:, None], groups[shuffled[jnp.cumsum(counts) - 1]], groups)
