"""Distances between the groups' joint distributions of all scores of a row.

They see what all scores together tell about the group, beyond each score alone. Both distances add
up squares over tasks. Unless scores share a unit, divide them first by one fixed deviation per
task, the same before and after a repair. Rows of weight 0 and rows without a group do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import check_membership, divide, keep, members
from fairjax.core.types import Array
from fairjax.notions.transport import largest, sinkhorn, sliced

Distance = Callable[[Array, Array, Array], Array]  # scores[N, T], groups[N, G], weight[N] -> scalar


class PermutationTest(NamedTuple):
    """A distance between groups, and the same distance between random groups."""

    value: Array
    floor: Array  # mean over draws
    p_value: Array  # share of draws that reach the value; the data count as one draw


def sliced_wasserstein(
    scores: Array, groups: Array, weight: Array, *, key: Array, directions: int = 128
) -> Array:
    """Sliced ``W_2^2`` of the two most distant groups; see :func:`fairjax.notions.sliced`."""
    return sliced(scores, groups, weight, key=key, directions=directions, over=largest)


def sinkhorn_divergence(
    scores: Array,
    groups: Array,
    weight: Array,
    *,
    epsilon: Array | float = 0.05,
    iterations: int = 500,
) -> Array:
    """Sinkhorn divergence of the two most distant groups; see :func:`fairjax.notions.sinkhorn`.

    Time grows with ``N^2``: take a few thousand rows at most.
    """
    return sinkhorn(scores, groups, weight, epsilon=epsilon, iterations=iterations, over=largest)


def group_correlations(
    scores: Array,
    groups: Array,
    weight: Array,
) -> Array:
    """Correlation between tasks in each group.

    Args:
      scores: ``[N, T]``.
      groups: membership ``[N, G]``.
      weight: ``[N]``.

    Returns:
      ``[G, T, T]``; NaN for an absent group, and for a task that does not vary in the group.
    """
    scores = keep(scores, weight[:, None])

    def of_group(group_weight):
        total = group_weight @ scores
        mean = divide(total, jnp.sum(group_weight))
        centred = scores - mean
        weighted = group_weight[:, None] * centred
        covariance = weighted.T @ centred
        deviation = jnp.sqrt(jnp.diag(covariance))
        deviation_product = deviation[:, None] * deviation
        return divide(covariance, deviation_product, jnp.nan)

    weight_ng = members(groups, weight)
    return jax.vmap(of_group, 1)(weight_ng)


def permutation_test(
    key: Array,
    distance: Distance,
    scores: Array,
    groups: Array,
    weight: Array,
    draws: int = 20,
) -> PermutationTest:
    """A distance between groups, and the same after random permutations of the rows' groups.

    The permutations show what distance samples of this size have by chance.

    Args:
      key: for the draws.
      distance: ``(scores, groups, weight) -> scalar``, such as
        ``partial(sliced_wasserstein, key=key)``.
      scores: ``[N, T]``.
      groups: membership ``[N, G]``.
      weight: ``[N]``; weights stay with their rows.
      draws: number of permutations.

    Returns:
      :class:`PermutationTest`: the smallest possible ``p_value`` is ``1 / (draws + 1)``.
    """
    check_membership(groups, scores)
    groups = jnp.asarray(groups)

    def permuted_distance(key):
        random_groups = _permuted(key, groups, weight)
        return distance(scores, random_groups, weight)

    keys = jax.random.split(key, draws)
    chance = jax.lax.map(permuted_distance, keys)
    value = distance(scores, groups, weight)
    reaching = jnp.sum(chance >= value)
    p_value = (1 + reaching) / (draws + 1)
    return PermutationTest(value, jnp.mean(chance), p_value)


def _permuted(
    key: Array,
    groups: Array,
    weight: Array,
) -> Array:
    """Groups in a random order among the rows that count; other rows keep their group."""
    counts = (weight > 0) & jnp.any(groups > 0, axis=1)
    position = jax.random.uniform(key, weight.shape)
    position = jnp.where(counts, position, 2.0)  # other rows stand at the end
    shuffled = jnp.argsort(position)
    number = jnp.cumsum(counts) - 1  # of each row among those that count
    permuted = groups[shuffled[number]]
    return jnp.where(counts[:, None], permuted, groups)
