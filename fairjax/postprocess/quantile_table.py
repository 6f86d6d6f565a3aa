"""Quantile functions of groups at a few levels: the state of the exact repair, and its two fits.

The fits differ in the sort alone. On a CPU numpy's sort is twenty times as fast as XLA's, but only
XLA's can be traced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.types import Array

POINTS = 1024  # at 5,000 rows this changes the error to the true map by a thousandth


class QuantileTable(NamedTuple):
    """Quantile functions of T tasks in G cells; the last entry is of all rows together."""

    quantiles: Array  # [T, G + 1, K], on the scale of the repair
    rows: Array  # [G + 1] rows of the pool in every cell, and in all cells
    mass: Array  # [G + 1] their weight
    share: Array  # [G] barycenter weights, adding up to 1


class SortedPool(NamedTuple):
    """A pool whose values are sorted cell by cell. numpy arrays, or traced arrays of jax."""

    value: Array  # [T, N]
    weight: Array | None  # [T, N] in the order of the values; None counts every row once
    rows: Array  # [G]
    mass: Array  # [G]


class Borrowing(NamedTuple):
    """How cells with few rows use the quantiles of all rows."""

    minimum: float = 0.0  # a cell of fewer rows takes the quantiles of all rows
    prior: float = 0.0  # a cell leans on all rows as if it had this many rows of them


def quantile_levels(count: int) -> np.ndarray:
    """Levels ``[K]`` in [0, 1], ``sin^2`` of even steps: quadratically denser at both ends."""
    middle = np.arange(count) + 0.5
    angle = np.pi / 2 * middle / count
    return np.sin(angle) ** 2


def level_widths(count: int) -> np.ndarray:
    """The share ``[K]`` of [0, 1] that each level stands for; the shares add up to 1."""
    edge = np.arange(count + 1)
    angle = np.pi / 2 * edge / count
    level = np.sin(angle) ** 2
    return np.diff(level)


def level_position(level: Array, count: int) -> Array:
    """Position of a level between the K entries of a table, a number in [0, K - 1]."""
    angle = jnp.arcsin(jnp.sqrt(level))
    position = angle * (2 * count / np.pi) - 0.5
    return jnp.clip(position, 0.0, count - 1.0)


# ------------------------------------------------------------------------------------ the two sorts


def sort_pool(
    value: Array,
    cell: Array,
    weight: Array,
    count: int,
) -> SortedPool:
    """Sort values ``[N, T]`` by cell in a trace; rows that do not count go last."""
    cell = jnp.where(weight > 0, cell, count)
    is_counted = cell < count
    weight = jnp.where(is_counted, weight, 0.0)
    zeros = jnp.zeros(count + 1)
    one = jnp.ones_like(weight)
    rows = zeros.at[cell].add(one)[:count]
    mass = zeros.at[cell].add(weight)[:count]

    def sort_task(value_n: Array) -> tuple[Array, Array]:
        known_n = jnp.where(is_counted, value_n, 0.0)
        _, sorted_n, weight_n = jax.lax.sort((cell, known_n, weight), num_keys=2)
        return sorted_n, weight_n

    sorted_tn, weight_tn = jax.vmap(sort_task, 1)(value)
    return SortedPool(sorted_tn, weight_tn, rows, mass)


def sort_pool_on_host(
    value: np.ndarray,
    cell: np.ndarray,
    weight: np.ndarray | None,
    count: int,
) -> SortedPool:
    """Sort values ``[N, T]`` by cell in numpy; rows that do not count are left out."""
    inside = cell < count
    if weight is not None:
        inside = inside & (weight > 0)
    if not inside.all():
        value = value[inside]
        cell = cell[inside]
        weight = None if weight is None else weight[inside]
    # numpy sorts short integers by radix
    short_cell = cell.astype(np.min_scalar_type(count))
    by_cell = np.argsort(short_cell, kind="stable")
    rows = np.bincount(cell, minlength=count).astype(float)
    ends = np.cumsum(rows).astype(int)
    value_tn = np.stack([value_n[by_cell] for value_n in value.T])
    if weight is None:
        _sort_blocks(value_tn, ends)
        return SortedPool(value_tn, None, rows, rows)
    mass = np.bincount(cell, weight, minlength=count)
    weight_n = weight[by_cell].astype(float)
    weight_tn = np.tile(weight_n, (len(value_tn), 1))
    _sort_weighted_blocks(value_tn, weight_tn, ends)
    return SortedPool(value_tn, weight_tn, rows, mass)


def _sort_blocks(value_tn: np.ndarray, ends: np.ndarray) -> None:
    """Sort each block in place; block ``i`` ends before ``ends[i]``."""
    for value_n in value_tn:
        for block in np.split(value_n, ends[:-1]):
            block.sort()


def _sort_weighted_blocks(value_tn: np.ndarray, weight_tn: np.ndarray, ends: np.ndarray) -> None:
    """Sort each block in place, and carry the weights along."""
    for value_n, weight_n in zip(value_tn, weight_tn, strict=True):
        blocks = np.split(value_n, ends[:-1])
        weight_blocks = np.split(weight_n, ends[:-1])
        for block, weight_block in zip(blocks, weight_blocks, strict=True):
            # of equal values the order of the weights decides which weight stands at their end
            order = np.argsort(block, kind="stable")
            block[:] = block[order]
            weight_block[:] = weight_block[order]


# ------------------------------------------------------------------------------------------ the fit


def _namespace(value: Array) -> Any:
    """The library that computes with an array: numpy on the host, else jax.numpy."""
    return np if isinstance(value, np.ndarray) else jnp


def table_of(
    pool: SortedPool,
    share: Callable[[Array], Array],
    points: int,
    borrowing: Borrowing,
) -> QuantileTable:
    """The table of a sorted pool, in the pool's own library and precision."""
    xp = _namespace(pool.value)

    def quantiles_of_task(value_n: Array, weight_n: Array | None) -> Array:
        return _with_all_rows(value_n, weight_n, pool.rows, pool.mass, points, borrowing)

    if xp is np:
        weights = pool.weight
        if weights is None:
            weights = [None] * len(pool.value)
        quantiles = np.stack(list(map(quantiles_of_task, pool.value, weights)))
    else:
        quantiles = jax.vmap(quantiles_of_task)(pool.value, pool.weight)
    return QuantileTable(
        quantiles=quantiles,
        rows=xp.append(pool.rows, xp.sum(pool.rows)),
        mass=xp.append(pool.mass, xp.sum(pool.mass)),
        share=share(pool.mass),
    )


def fit_table(
    value: Array,
    cell: Array,
    weight: Array,
    count: int,
    share: Callable[[Array], Array],
    points: int = POINTS,
    borrowing: Borrowing = Borrowing(),  # noqa: B008 - immutable
) -> QuantileTable:
    """The table of values ``[N, T]`` on the scale of the repair, traced."""
    pool = sort_pool(value, cell, weight, count)
    return table_of(pool, share, points, borrowing)


def fit_table_on_host(
    value: np.ndarray,
    cell: np.ndarray,
    weight: np.ndarray | None,
    count: int,
    share: Callable[[np.ndarray], np.ndarray],
    points: int = POINTS,
    borrowing: Borrowing = Borrowing(),  # noqa: B008 - immutable
) -> QuantileTable:
    """Fit the table in double precision with numpy's sort, and keep it in single precision.

    The arguments are those of :func:`fit_table`; ``weight`` None counts every row once.
    """
    pool = sort_pool_on_host(value, cell, weight, count)
    table = table_of(pool, share, points, borrowing)
    return QuantileTable(*(np.asarray(entry, np.float32) for entry in table))


def _cell_quantiles(
    value: Array,
    weight: Array | None,
    rows: Array,
    mass: Array,
    points: int,
) -> Array:
    """Quantiles ``[G, K]`` of values ``[N]`` that are sorted cell by cell.

    A value stands at its middle rank: half of its own weight and all weight of smaller values.
    Between values quantiles are linear. Without weights every row weighs 1. Quantiles of a cell
    without rows have no meaning.
    """
    xp = _namespace(value)
    count = rows[:, None].astype(int)
    first = xp.cumsum(count, axis=0) - count
    last = first + xp.maximum(count - 1, 0)
    level = xp.asarray(quantile_levels(points), mass.dtype)
    rank = mass[:, None] * level
    if weight is None:
        place = first + xp.floor(rank - 0.5).astype(int)
    else:
        middle = xp.cumsum(weight) - weight / 2
        before = (xp.cumsum(mass) - mass)[:, None]
        rank_in_pool = before + rank
        above = xp.searchsorted(middle, rank_in_pool.ravel())
        place = above.reshape(rank.shape) - 1
    end = len(value) - 1
    low = xp.minimum(xp.clip(place, first, last), end)
    high = xp.minimum(xp.clip(place + 1, first, last), end)
    # ranks count from the start of the cell: a level near 0 or 1 would be lost to rounding if the
    # mass of the cells before were added
    if weight is None:
        start = low - first + 0.5
        step = 1.0
    else:
        start = middle[low] - before
        step = middle[high] - middle[low]
    nonzero_step = xp.where(step > 0, step, 1)
    part = xp.clip((rank - start) / nonzero_step, 0, 1)
    lower = value[low]
    upper = value[high]
    return lower + part * (upper - lower)


def _with_all_rows(
    value: Array,
    weight: Array | None,
    rows: Array,
    mass: Array,
    points: int,
    borrowing: Borrowing,
) -> Array:
    """Quantiles ``[G + 1, K]`` of one task, all rows last; small cells borrow from all rows."""
    xp = _namespace(value)
    own_gk = _cell_quantiles(value, weight, rows, mass, points)
    widths = xp.asarray(level_widths(points), mass.dtype)
    quantile = own_gk.ravel()
    piece = (mass[:, None] * widths).ravel()
    order = xp.argsort(quantile)
    all_rows = xp.asarray([own_gk.size])
    all_mass = xp.sum(mass)[None]
    pooled_1k = _cell_quantiles(quantile[order], piece[order], all_rows, all_mass, points)
    is_enough = (rows > 0) & (rows >= borrowing.minimum)
    own_part = rows / xp.maximum(rows + borrowing.prior, 1)
    own_part = xp.where(is_enough, own_part, 0)[:, None]
    mixed_gk = own_part * own_gk + (1 - own_part) * pooled_1k
    return xp.concatenate([mixed_gk, pooled_1k])
