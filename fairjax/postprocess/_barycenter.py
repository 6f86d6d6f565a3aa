"""Exact repair of each task: scores to the Wasserstein barycenter of the groups.

With ``F_s`` and ``Q_s`` the distribution and quantile function of a task's scores in group s and
``pi_s`` the weight of the group, ``y -> sum_r pi_r Q_r(F_s(y))`` makes the score independent of the
group (strong demographic parity) at the least possible mean squared change, and keeps the order
inside each group. In one dimension this needs a sort and no solver: :func:`barycenter` keeps each
group's quantile function at ``points`` levels, denser towards both ends. A row is scored by a
binary search in its own group's quantiles, whatever the number of groups.

In: scores ``[N, T]`` of a pool of rows that the model was not trained on, membership ``[N, G]``,
weights ``[N]``; no labels. Out: a small pytree, which may be saved, mapped and jitted, and repaired
scores ``[M, T]``.

Reference:
  Hu, Ratz, Charpentier: Fairness in multi-task learning via Wasserstein barycenters, ECML-PKDD
  2023, Theorem 1. Partial and sequential repair: Hu, Ratz, Charpentier: A sequentially fair
  mechanism for multiple sensitive attributes, AAAI 2024. This differs (see
  :func:`published_barycenter`): the distribution function takes the middle rank, so that ``Q_s``
  and ``F_s`` are inverse to one another and a group's own term is the score itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.masked import check_membership
from fairjax.core.types import Array, Post
from fairjax.postprocess._repair_map import map_values, repair_map, unrepaired_share
from fairjax.postprocess.cells import cells_of_groups
from fairjax.postprocess.quantile_table import (
    POINTS,
    Borrowing,
    QuantileTable,
    fit_table,
    level_widths,
)
from fairjax.postprocess.scales import Scale, identity


def frequency_share(mass: Array) -> Array:
    """Barycenter weights by frequency, as in the paper: scores change least."""
    return mass / mass.sum()


def uniform_share(mass: Array) -> Array:
    """The same barycenter weight for every cell that the pool has."""
    present = mass > 0
    return present / present.sum()


def barycenter(
    sizes: Sequence[int] | None = None,
    *,
    scale: Scale = identity,
    share: Callable[[Array], Array] = frequency_share,
    minimum: float = 0.0,
    prior: float = 0.0,
    slope: float = 0.0,
    points: int = POINTS,
) -> Post:
    """Repair of every task's scores by its own Wasserstein barycenter of the groups.

    ``fit(scores[N, T], groups[N, G], weight[N]) -> QuantileTable`` and
    ``apply(table, scores[M, T], groups[M, G], key=None, amount=1.0) -> [M, T]``, both pure; scores
    of fitted rows of weight 0 may be anything. ``amount`` is how far along the geodesic scores go,
    0 (as they are) to 1, one or per attribute, traced; the W2 distance between groups falls in
    proportion. For equal scores, a jump of the distribution function, the middle is taken. With a
    ``key`` a random point of the jump is taken, which separates the equal scores and makes the
    repair exact for them. A row whose group is unknown, or has no row in the pool, is ranked among
    all rows.

    Args:
      sizes: number of levels of each attribute where ``groups`` holds several attributes, which are
        then crossed; None for one attribute.
      scale: on which quantiles are averaged.
      share: from the cells' weights ``[G]`` in the pool to the barycenter's weights:
        :func:`frequency_share` (least change), :func:`uniform_share` or a function of your own.
      minimum: a cell of fewer rows takes the quantiles of all rows.
      prior: cells lean on all rows as if they had so many rows of them,
        ``(n Q_s + prior Q_all) / (n + prior)``.
      slope: of the map outside the pool's range: 0 stays at its end, as in the paper; 1 keeps the
        distance to it, so that ranks remain distinct.
      points: K, levels at which a cell's quantiles are kept.

    Example:
      >>> import jax.numpy as jnp
      >>> post = barycenter()
      >>> groups = jnp.eye(2)[jnp.array([0, 0, 0, 1, 1, 1])]
      >>> scores = jnp.array([[1.0], [2.0], [3.0], [5.0], [6.0], [7.0]])
      >>> state = post.fit(scores, groups, jnp.ones(6))
      >>> [round(float(s), 3) for s in post.apply(state, scores, groups)[:, 0]]
      [3.0, 4.0, 5.0, 3.0, 4.0, 5.0]
      >>> [round(float(s), 3) for s in post.apply(state, scores, groups, amount=0.5)[:, 0]]
      [2.0, 3.0, 4.0, 4.0, 5.0, 6.0]
    """
    borrowing = Borrowing(minimum, prior)

    def sizes_of(groups: Array, rows: Array) -> tuple[int, ...]:
        check_membership(groups, rows)
        width = groups.shape[1]
        if sizes is not None and sum(sizes) != width:
            raise ValueError(
                f"groups have {width} columns, but sizes {tuple(sizes)} ask for {sum(sizes)}; "
                "give one column per level"
            )
        return tuple(sizes or (width,))

    def fit(scores: Array, groups: Array, weight: Array) -> QuantileTable:
        counted = weight > 0
        harmless = scale.inverse(jnp.zeros(()))
        value = scale.forward(jnp.where(counted[:, None], scores, harmless))
        levels = sizes_of(groups, scores)
        cell = cells_of_groups(groups, levels)
        return fit_table(value, cell, weight, math.prod(levels), share, points, borrowing)

    def apply(
        state: QuantileTable,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        scores = jnp.asarray(scores)
        levels = sizes_of(groups, scores)
        amounts = jnp.broadcast_to(jnp.asarray(amount, scores.dtype), len(levels))
        value = scale.forward(scores)
        position = None if key is None else jax.random.uniform(key, value.T.shape).T
        mapping = repair_map(state, levels, amounts, drawn=key is not None)
        cell = cells_of_groups(groups, levels)
        inside, target = map_values(mapping, value, cell, position)
        stays = unrepaired_share(amounts)
        return scale.inverse(stays * value + target + (1.0 - stays) * slope * (value - inside))

    return Post(fit, apply)


def sequential_amounts(order: Sequence[int]) -> np.ndarray:
    """Amounts ``[A + 1, A]`` that repair the first 0, 1, ... A attributes of an order.

    ``apply``, mapped over them, gives the contribution of each attribute: the sequential repair, at
    each step inside the cells of the attributes still to come, read from one table. The last row is
    the same for every order.
    """
    return np.tri(len(order) + 1, len(order), -1, np.float32)[:, np.argsort(order)]


def price(state: QuantileTable, amount: Array | float = 1.0) -> Array:
    """Mean squared change of a score in every cell, ``[T, G]``, on the scale of the repair.

    ``amount^2 int_0^1 (Q_s(u) - sum_r pi_r Q_r(u))^2 du``; the mean over cells, by ``share``, is
    the least any repair can do.

    Reference:
      Chzhen, Denis, Hebiri, Oneto, Pontil: Fair regression with Wasserstein barycenters, NeurIPS
        2020, Theorem 2.3.
    """
    own_tgk = state.quantiles[:, :-1]
    target_tk = jnp.einsum("g,tgk->tk", state.share, own_tgk)
    change = jnp.square(own_tgk - target_tk[:, None])
    widths = jnp.asarray(level_widths(own_tgk.shape[-1]), own_tgk.dtype)
    return jnp.square(jnp.asarray(amount)) * (change @ widths)
