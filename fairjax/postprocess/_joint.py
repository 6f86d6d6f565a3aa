"""What the joint repairs share: standardised tasks, and weights of the groups.

A joint repair is fair across tasks: one map of all scores of a row, per group, to the groups'
common barycenter. Repaired task by task, every score has the same law in every group, but the
scores together may still tell the groups apart, by how they vary together. Here the rows' whole
score vectors are transported to the Wasserstein barycenter of the groups' laws.

Every joint repair is a :class:`fairjax.core.types.Post`:
``fit(scores[N, T], groups[N, G], weight[N]) -> state`` and
``apply(state, scores[M, T], groups[M, G], key=None, amount=1.0) -> [M, T]``. Nothing is drawn; a
``key`` is for the second of two repairs. ``groups`` is 0/1 membership in one attribute, or in its
crossed cells. A row of zeros, of unknown group, and a row of a group that the pool did not have are
moved by the map of the whole pool's law, as if the pool were one more group of share 0. ``amount``
goes along the straight line from a score (0) to its repaired place (1), the geodesic between the
laws. Rows of weight 0 are padding. A state is a pytree of arrays.

Tasks are standardised by the pool's deviation first, since the cost of a move adds up squares of
different units.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fairjax.core.masked import divide, keep, members, weighted_mean
from fairjax.core.types import Array
from fairjax.postprocess.cells import cells_of_groups


class Standard(NamedTuple):
    """Mean of the pool, and what one unit of standardised score is, per task."""

    centre: Array  # [T]
    scale: Array  # [T]; a constant task keeps its own unit


class Members(NamedTuple):
    """Weights of the groups; the pool is the last, and stands in for a group that it lacks."""

    present: Array  # [G] which groups the pool has
    share: Array  # [G] their weight in the barycenter
    weight: Array  # [N, G + 1] weight of a row in each group


def standard_of(scores: Array, weight: Array, cost: Array | None) -> Standard:
    """Centre and scale of a pool; ``cost`` ``[T]`` weighs the tasks in the cost of a move."""
    weight_n1 = weight[:, None]
    centre = weighted_mean(scores, weight_n1)
    squared_deviation = (scores - centre) ** 2
    variance = weighted_mean(squared_deviation, weight_n1)
    precision = jnp.finfo(centre.dtype).eps
    rounding = (precision * centre) ** 2
    is_varying = variance > rounding
    nonzero_variance = jnp.where(is_varying, variance, 1.0)
    cost_of_task = 1.0 if cost is None else cost
    scale = jnp.sqrt(nonzero_variance / cost_of_task)
    return Standard(centre, scale)


def standardise(scores: Array, weight: Array, standard: Standard) -> Array:
    """Scores ``[N, T]`` in units of the standard; 0 in a row of weight 0."""
    standardised = (scores - standard.centre) / standard.scale
    return keep(standardised, weight[:, None])


def members_of(groups: Array, weight: Array, share: Array | None) -> Members:
    """Weights of rows and of groups; ``share`` None takes the groups' shares of the pool."""
    pool_weight = weight[:, None]
    weight_ng = members(groups, weight)
    mass = jnp.sum(weight_ng, axis=0)
    present = mass > 0
    unnormalised = mass if share is None else share
    present_share = jnp.where(present, unnormalised, 0.0)
    weight_ng = jnp.where(present, weight_ng, pool_weight)
    uniform = 1 / len(present_share)
    normalised = divide(present_share, jnp.sum(present_share), uniform)
    weights = jnp.concatenate([weight_ng, pool_weight], axis=1)
    return Members(present, normalised, weights)


def map_index(groups: Array, present: Array) -> Array:
    """Index ``[M]`` of each row's map; the last where the group is unknown or not in the pool."""
    known_groups = groups * present
    return cells_of_groups(known_groups, groups.shape[1:])
