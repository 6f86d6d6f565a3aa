"""Exact repair: every score to the Wasserstein barycenter of the groups' score distributions, task by task.

With ``F_s`` and ``Q_s`` the distribution and quantile function of a task's scores in group s and ``pi_s`` the weight of
the group, ``y -> sum_r pi_r Q_r(F_s(y))`` makes the score independent of the group (strong demographic parity) at the
least possible mean squared change, and keeps the order inside each group. In one dimension this needs a sort and no
solver: :func:`barycenter` keeps each group's quantile function at ``points`` levels, denser towards both ends, and a row is
scored by a binary search in its own group's, whatever the number of groups.

In: scores ``[N, T]`` of a pool of rows that the model was not trained on, membership ``[N, G]``, weights ``[N]``; no
labels. Out: a small pytree, which may be saved, mapped and jitted, and repaired scores ``[M, T]``.

Reference:
  Hu, Ratz, Charpentier: Fairness in multi-task learning via Wasserstein barycenters, ECML-PKDD 2023, Theorem 1. Partial
  and sequential repair: Hu, Ratz, Charpentier: A sequentially fair mechanism for multiple sensitive attributes, AAAI 2024.
  Where this differs (see :func:`published_barycenter`): the distribution function takes the middle rank, so that ``Q_s`` and
  ``F_s`` are inverse to one another and a group's own term is the score itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.masked import divide
from fairjax.core.types import Array, Post
from fairjax.postprocess.scales import Scale, identity

POINTS = 1024  # at 5,000 rows this changes the error to the true map by a thousandth


class Table(NamedTuple):
    """Quantile functions of T tasks in G cells (groups, or crossed groups), and last of all rows together."""

    quantiles: Array  # [T, G + 1, K], on the scale of the repair
    rows: Array  # [G + 1] rows of the pool in every cell, and in all
    mass: Array  # [G + 1] their weight
    share: Array  # [G] barycenter weights, adding up to 1


# ------------------------------------------------------------------------------------------------ levels


def levels(count: int) -> np.ndarray:
    """Levels ``[K]`` between 0 and 1, ``sin^2`` of even steps: quadratically denser towards both ends."""
    return np.sin(np.pi / 2 * (np.arange(count) + 0.5) / count) ** 2


def _place(level: Array, count: int) -> Array:
    """Where a level lies between the entries of a table, a number in [0, K - 1]."""
    place = jnp.arcsin(jnp.sqrt(level)) * (2 * count / np.pi) - 0.5
    return jnp.clip(place, 0.0, count - 1.0)


def widths(count: int) -> np.ndarray:
    """The share ``[K]`` of [0, 1] for which each level stands; they add up to 1."""
    return np.diff(np.sin(np.pi / 2 * np.arange(count + 1) / count) ** 2)


# ------------------------------------------------------------------------------------------------ cells


def cells(groups: Array, sizes: Sequence[int]) -> Array:
    """Which cell a row is in, ``[N]`` in ``0 .. G``: its levels crossed, the last attribute fastest; G where one is unknown.

    Args:
      groups: membership ``[N, sum(sizes)]``, attributes side by side; a block of zeros is an unknown level.
      sizes: levels of each attribute; G is their product.
    """
    cell, known, start = jnp.zeros(groups.shape[0], jnp.int32), jnp.ones(groups.shape[0], bool), 0
    for size in sizes:
        block, start = groups[:, start : start + size], start + size
        cell = cell * size + jnp.argmax(block, axis=1).astype(jnp.int32)
        known &= jnp.max(block, axis=1) > 0
    return jnp.where(known, cell, math.prod(sizes))


def mixing(share: Array, sizes: Sequence[int], amount: Array) -> Array:
    """Which quantile functions a cell's target is made of: ``target_s = sum_r M_sr Q_r``, rows adding up to 1.

    ``M = sum_S prod_{a in S} t_a prod_{a not in S} (1 - t_a) E_S`` over all sets S of attributes, where ``E_S`` is the average
    of the cells that share a cell's levels of all attributes outside S: what repairing those of S makes equal. An amount of 0
    leaves an attribute alone, all amounts 1 give the barycenter of all cells, and no order of the attributes matters.

    Args:
      share: ``[G]``.
      sizes: levels of each attribute.
      amount: ``t [A]``.

    Returns:
      ``[G, G]``.
    """
    level = np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes))  # [A, G]
    mixed = staying(amount) * jnp.eye(level.shape[1])
    for repaired in itertools.product((False, True), repeat=len(sizes)):
        if any(repaired):
            others = level[~np.array(repaired)]
            weight = np.all(others[:, :, None] == others[:, None, :], axis=0) * share[None]
            mass = jnp.sum(weight, axis=1, keepdims=True)
            average = jnp.where(
                mass > 0, divide(weight, mass), share[None]
            )  # nobody like it was seen: all stand in
            mixed += jnp.prod(jnp.where(np.array(repaired), amount, 1.0 - amount)) * average
    return mixed


def staying(amount: Array) -> Array:
    """The part of a score that stays after repair of ``amount[A]``."""
    return jnp.prod(1.0 - amount)


# ------------------------------------------------------------------------------------------------ fit


def proportional(mass: Array) -> Array:
    """Barycenter weights by frequency, as in the paper: scores change least."""
    return mass / mass.sum()


def uniform(mass: Array) -> Array:
    """The same barycenter weight for every cell that is there."""
    return (mass > 0) / (mass > 0).sum()


def quantiles(
    xp: Any, value: Array, weight: Array | None, rows: Array, mass: Array, points: int
) -> Array:
    """Quantiles ``[G, K]`` of values ``[N]`` that are sorted, cell after cell; meaningless for a cell without rows.

    A value stands at its middle rank, half of its own weight and all of the smaller ones'; between, quantiles are linear.
    ``xp`` is numpy, whose sort is fast, or jax.numpy, which can be traced. Without weights all are 1.
    """
    rows = rows[:, None].astype(int)
    first, wanted = (
        xp.cumsum(rows, axis=0) - rows,
        mass[:, None] * xp.asarray(levels(points), mass.dtype),
    )
    last = first + xp.maximum(rows - 1, 0)
    if weight is None:
        low = first + xp.floor(wanted - 0.5).astype(int)
    else:
        middle, before = xp.cumsum(weight) - weight / 2, (xp.cumsum(mass) - mass)[:, None]
        low = xp.searchsorted(middle, (before + wanted).ravel()).reshape(wanted.shape) - 1
    low, high = (xp.minimum(xp.clip(i, first, last), len(value) - 1) for i in (low, low + 1))
    # from the start of the cell: a level near 0 or 1 would not survive the addition of the cells before
    start, step = (
        (low - first + 0.5, 1.0)
        if weight is None
        else (middle[low] - before, middle[high] - middle[low])
    )
    part = xp.clip((wanted - start) / xp.where(step > 0, step, 1), 0, 1)
    return value[low] + part * (value[high] - value[low])


def with_pooled(
    xp: Any,
    value: Array,
    weight: Array | None,
    rows: Array,
    mass: Array,
    points: int,
    minimum: float,
    prior: float,
) -> Array:
    """Quantiles ``[G + 1, K]`` of one task, all rows together last; small cells lean on those, empty ones are those."""
    own = quantiles(xp, value, weight, rows, mass, points)
    piece, order = (
        (mass[:, None] * xp.asarray(widths(points), mass.dtype)).ravel(),
        xp.argsort(own.ravel()),
    )
    pooled = quantiles(
        xp, own.ravel()[order], piece[order], xp.asarray([own.size]), mass.sum()[None], points
    )
    part = xp.where((rows > 0) & (rows >= minimum), rows / xp.maximum(rows + prior, 1), 0)[:, None]
    return xp.concatenate([part * own + (1 - part) * pooled, pooled])


def _fit(
    value: Array, cell: Array, weight: Array, count: int, share: Callable[[Array], Array], **how
) -> Table:
    """A table from values ``[N, T]`` on the scale of the repair and cells ``[N]``, traced."""
    cell = jnp.where(weight > 0, cell, count)
    weight = jnp.where(cell < count, weight, 0.0)
    rows, mass = (
        jnp.zeros(count + 1).at[cell].add(v)[:count] for v in (jnp.ones_like(weight), weight)
    )

    def of_task(value_n: Array) -> Array:
        _, value_n, weight_n = jax.lax.sort(
            (cell, jnp.where(cell < count, value_n, 0.0), weight), num_keys=2
        )
        return with_pooled(jnp, value_n, weight_n, rows, mass, **how)

    found = jax.vmap(of_task, 1)(value)
    return Table(
        found, jnp.append(rows, jnp.sum(rows)), jnp.append(mass, jnp.sum(mass)), share(mass)
    )


def fit_host(
    value: np.ndarray,
    cell: np.ndarray,
    weight: np.ndarray | None,
    count: int,
    share: Callable[[np.ndarray], np.ndarray],
    **how,
) -> Table:
    """The same in numpy, whose sort is twenty times as fast as XLA's on a CPU; ``weight`` None counts every row once."""
    inside = cell < count if weight is None else (cell < count) & (weight > 0)
    if not inside.all():
        value, cell, weight = (
            value[inside],
            cell[inside],
            None if weight is None else weight[inside],
        )
    order = np.argsort(cell.astype(np.min_scalar_type(count)), kind="stable")  # by radix
    rows = np.bincount(cell, minlength=count).astype(float)
    end = np.cumsum(rows).astype(int)
    mass = rows if weight is None else np.bincount(cell, weight, minlength=count)
    found = []
    for value_n in value.T:
        value_n, weight_n = value_n[order], None if weight is None else weight[order].astype(float)
        for low, high in zip(end - rows.astype(int), end, strict=True):
            block = value_n[low:high]
            if weight is None:
                block.sort()
            else:
                by = np.argsort(
                    block, kind="stable"
                )  # of equal values the weights' order decides which stands at their end
                value_n[low:high], weight_n[low:high] = block[by], weight_n[low:high][by]
        found.append(with_pooled(np, value_n, weight_n, rows, mass, **how))
    return Table(
        *(
            np.asarray(a, np.float32)
            for a in (
                np.stack(found),
                np.append(rows, rows.sum()),
                np.append(mass, mass.sum()),
                share(mass),
            )
        )
    )


# ------------------------------------------------------------------------------------------------ apply


def below(
    flat: Array,
    start: Array,
    length: Array | int,
    value: Array,
    most: int,
    passes: Callable = jnp.less,
) -> Array:
    """How many of ``length`` (at ``most``) ascending entries from ``start`` on ``passes(entry, value)``; shapes ``[N]``."""
    found, step = jnp.zeros_like(start), 1 << most.bit_length()
    while step := step // 2:
        further = (found + step <= length) & passes(
            flat[start + jnp.minimum(found + step, length) - 1], value
        )
        found = jnp.where(further, found + step, found)
    return found


def _jumps(quantile_gk: Array, half_g: Array, drawn: bool) -> Array:
    """For every entry the levels, ``[2, G + 1, K]``, of the first and the last entry that equal it; or their middle, twice.

    The middle is that of the jump of the distribution function, which is ``half_g``, half a row's share of its cell, longer
    at either side, and ends at 0 and 1.
    """
    first, after = (
        jax.vmap(lambda q, side=side: jnp.searchsorted(q, q, side=side))(quantile_gk)
        for side in ("left", "right")
    )
    level, half = jnp.asarray(levels(quantile_gk.shape[1]), quantile_gk.dtype), half_g[:, None]
    bottom, top = level[first], level[after - 1]
    middle = (jnp.maximum(bottom - half, 0.0) + jnp.minimum(top + half, 1.0)) / 2
    return jnp.stack([bottom, top] if drawn else [jnp.clip(middle, bottom, top)] * 2)


class Moves(NamedTuple):
    """What rows are scored with, ``[T, G + 1, K]`` each: every entry of a table, and where it goes."""

    quantiles: Array
    target: Array  # but for what stays of the score
    bottom: Array  # level at which the distribution function begins to jump at an entry
    top: Array


def moves(state: Table, sizes: Sequence[int], amount: Array, drawn: bool = False) -> Moves:
    """Where every entry of a table goes by repair of ``amount[A]``; last of a row whose cell is unknown."""
    stays = staying(amount)
    mixed = mixing(state.share, sizes, amount)
    stranger = jnp.append((1.0 - stays) * state.share, stays)[None]
    mixed = jnp.concatenate([jnp.pad(mixed, ((0, 0), (0, 1))), stranger])
    target = jnp.einsum(
        "gh,thk->tgk", mixed - stays * jnp.eye(len(mixed)), state.quantiles, precision="highest"
    )
    half_g = divide(jnp.asarray(0.5), state.rows)
    jumps = jax.vmap(lambda quantile_gk: _jumps(quantile_gk, half_g, drawn), 0, 1)(state.quantiles)
    return Moves(state.quantiles, target, *jumps)


def along(
    moved: Moves, value: Array, cell: Array, chosen: Array | None = None
) -> tuple[Array, Array]:
    """Values ``[N, T]`` brought into the range of their cells, and where they go, but for what stays of them.

    ``chosen`` ``[N, T]`` in [0, 1] is the point of a jump of the distribution function that is taken, of moves that are to be
    ``drawn``; the middle by default.
    """
    count = moved.quantiles.shape[-1]

    def of_task(moved_gk: Moves, value_n: Array, chosen_n: Array | None) -> tuple[Array, Array]:
        (flat, aim, bottom, top), start = (a.ravel() for a in moved_gk), cell * count
        inside = jnp.clip(value_n, flat[start], flat[start + count - 1])
        found = jax.lax.optimization_barrier(
            below(flat, start, count, inside, count)
        )  # or XLA searches anew for each use
        at, left = start + jnp.minimum(found, count - 1), jnp.maximum(found - 1, 0)
        between = left + divide(inside - flat[start + left], flat[at] - flat[start + left])
        if (
            chosen_n is None
        ):  # then bottom and top are the middle, and the entries are fewer than the rows
            jump = _place(bottom, count)[at]
        else:
            jump = _place(bottom[at] + chosen_n * (top[at] - bottom[at]), count)
        place = jnp.where(flat[at] == inside, jump, between)
        left = jnp.clip(place.astype(jnp.int32), 0, count - 2)
        low, high = aim[start + left], aim[start + left + 1]
        # in this form equal targets stay equal to the last bit, so that no group's atoms are told apart by rounding
        return inside, low + (place - left) * (high - low)

    return jax.vmap(of_task, (0, 1, 1), 1)(moved, value, chosen)


def _apply(
    state: Table,
    value: Array,
    cell: Array,
    sizes: Sequence[int],
    amount: Array,
    slope: float,
    key: Array | None,
) -> Array:
    """Values ``[N, T]`` after repair, on its scale."""
    chosen, stays = (
        None if key is None else jax.random.uniform(key, value.T.shape).T,
        staying(amount),
    )
    inside, target = along(moves(state, sizes, amount, key is not None), value, cell, chosen)
    return stays * value + target + (1.0 - stays) * slope * (value - inside)


# ------------------------------------------------------------------------------------------------ the pair


def barycenter(
    sizes: Sequence[int] | None = None,
    *,
    scale: Scale = identity,
    share: Callable[[Array], Array] = proportional,
    minimum: float = 0.0,
    prior: float = 0.0,
    slope: float = 0.0,
    points: int = POINTS,
) -> Post:
    """Repair of every task's scores by its own Wasserstein barycenter of the groups.

    ``fit(scores[N, T], groups[N, G], weight[N]) -> Table`` and ``apply(table, scores[M, T], groups[M, G], key=None,
    amount=1.0) -> [M, T]``, both pure; scores of fitted rows of weight 0 may be anything. ``amount`` is how far along the
    geodesic scores go, 0 (as they are) to 1, one or per attribute, traced; the W2 distance between groups falls in
    proportion. Of a score with ties, a jump of the distribution function, the middle is taken; with a ``key`` a random
    point of it, which takes the atom apart and makes the repair exact for it. A row whose group is unknown, or has no row
    in the pool, is ranked among all rows.

    Args:
      sizes: levels of each attribute where ``groups`` holds several, which are then crossed; None for one attribute.
      scale: on which quantiles are averaged.
      share: from the cells' weights ``[G]`` in the pool to the barycenter's weights, :func:`proportional` (least change),
        :func:`uniform` or a function of your own.
      minimum: a cell of fewer rows takes the quantiles of all rows.
      prior: cells lean on all rows as if they had so many rows of them, ``(n Q_s + prior Q_all) / (n + prior)``.
      slope: of the map outside the pool's range: 0 stays at its end, as in the paper; 1 keeps the distance to it, so that
        ranks remain apart.
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

    def shape(groups: Array) -> tuple[int, ...]:
        if sizes is not None and sum(sizes) != groups.shape[1]:
            raise ValueError(
                f"groups have {groups.shape[1]} columns, but sizes {tuple(sizes)} ask for {sum(sizes)}"
            )
        return tuple(sizes or groups.shape[1:])

    def fit(scores: Array, groups: Array, weight: Array) -> Table:
        known = weight > 0
        value = scale.forward(jnp.where(known[:, None], scores, scale.inverse(jnp.zeros(()))))
        sides = shape(groups)
        return _fit(
            value,
            cells(groups, sides),
            weight,
            math.prod(sides),
            share,
            points=points,
            minimum=minimum,
            prior=prior,
        )

    def apply(
        state: Table,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        sides = shape(groups)
        amounts = jnp.broadcast_to(jnp.asarray(amount, scores.dtype), len(sides))
        value = _apply(
            state, scale.forward(scores), cells(groups, sides), sides, amounts, slope, key
        )
        return scale.inverse(value)

    return Post(fit, apply)


def sequential_amounts(order: Sequence[int]) -> np.ndarray:
    """Amounts ``[A + 1, A]`` that repair no attribute, the first of an order, the first two, and so on to all.

    Mapped over by ``apply`` they say what each attribute contributes: the sequential repair, at each step inside the cells of
    the attributes still to come, read from one table. The last row is the same for every order.
    """
    return np.tri(len(order) + 1, len(order), -1, np.float32)[:, np.argsort(order)]


def price(state: Table, amount: Array | float = 1.0) -> Array:
    """Mean squared change of a score in every cell, ``[T, G]``, on the scale of the repair; no labels are needed.

    ``amount^2 int_0^1 (Q_s(u) - sum_r pi_r Q_r(u))^2 du``; the mean over cells, by ``share``, is the least any repair can do.

    Reference:
      Chzhen, Denis, Hebiri, Oneto, Pontil: Fair regression with Wasserstein barycenters, NeurIPS 2020, Theorem 2.3.
    """
    own = state.quantiles[:, :-1]
    apart = own - jnp.einsum("g,tgk->tk", state.share, own)[:, None]
    return jnp.square(jnp.asarray(amount)) * (
        jnp.square(apart) @ jnp.asarray(widths(own.shape[-1]), own.dtype)
    )
