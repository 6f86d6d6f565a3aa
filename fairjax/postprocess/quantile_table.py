"""Quantile functions of groups, kept at a few levels: the state of the exact repair, and its two
fits.

The fits differ in the sort alone: numpy's sort is twenty times as fast as XLA's on a CPU, XLA's can
be traced.
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
    return np.sin(np.pi / 2 * (np.arange(count) + 0.5) / count) ** 2


def level_widths(count: int) -> np.ndarray:
    """The share ``[K]`` of [0, 1] that each level stands for; the shares add up to 1."""
    return np.diff(np.sin(np.pi / 2 * np.arange(count + 1) / count) ** 2)


def level_position(level: Array, count: int) -> Array:
    """Position of a level between the K entries of a table, a number in [0, K - 1]."""
    position = jnp.arcsin(jnp.sqrt(level)) * (2 * count / np.pi) - 0.5
    return jnp.clip(position, 0.0, count - 1.0)


# ------------------------------------------------------------------------------------ the two sorts


def sort_pool(value: Array, cell: Array, weight: Array, count: int) -> SortedPool:
    """Sort values ``[N, T]`` by cell in a trace; rows that do not count go last."""
    cell = jnp.where(weight > 0, cell, count)
    weight = jnp.where(cell < count, weight, 0.0)
    rows = jnp.zeros(count + 1).at[cell].add(jnp.ones_like(weight))[:count]
    mass = jnp.zeros(count + 1).at[cell].add(weight)[:count]

    def sort_task(value_n: Array) -> tuple[Array, Array]:
        known_n = jnp.where(cell < count, value_n, 0.0)
        _, sorted_n, weight_n = jax.lax.sort((cell, known_n, weight), num_keys=2)
        return sorted_n, weight_n

    sorted_tn, weight_tn = jax.vmap(sort_task, 1)(value)
    return SortedPool(sorted_tn, weight_tn, rows, mass)


def sort_pool_on_host(
    value: np.ndarray, cell: np.ndarray, weight: np.ndarray | None, count: int
) -> SortedPool:
    """Sort values ``[N, T]`` by cell in numpy; rows that do not count are left out."""
    inside = cell < count
    if weight is not None:
        inside = inside & (weight > 0)
    if not inside.all():
        value = value[inside]
        cell = cell[inside]
        weight = None if weight is None else weight[inside]
    by_cell = np.argsort(cell.astype(np.min_scalar_type(count)), kind="stable")  # a radix sort
    rows = np.bincount(cell, minlength=count).astype(float)
    ends = np.cumsum(rows).astype(int)
    value_tn = np.stack([value_n[by_cell] for value_n in value.T])
    if weight is None:
        _sort_blocks(value_tn, ends)
        return SortedPool(value_tn, None, rows, rows)
    mass = np.bincount(cell, weight, minlength=count)
    weight_tn = np.tile(weight[by_cell].astype(float), (len(value_tn), 1))
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
    pool: SortedPool, share: Callable[[Array], Array], points: int, borrowing: Borrowing
) -> QuantileTable:
    """The table of a sorted pool, in the pool's own library and precision."""
    xp = _namespace(pool.value)

    def quantiles_of_task(value_n: Array, weight_n: Array | None) -> Array:
        return _with_all_rows(value_n, weight_n, pool.rows, pool.mass, points, borrowing)

    if xp is np:
        weights = [None] * len(pool.value) if pool.weight is None else pool.weight
        tasks = zip(pool.value, weights, strict=True)
        quantiles = np.stack([quantiles_of_task(*task) for task in tasks])
    else:
        quantiles = jax.vmap(quantiles_of_task)(pool.value, pool.weight)
    return QuantileTable(
        quantiles,
        xp.append(pool.rows, xp.sum(pool.rows)),
        xp.append(pool.mass, xp.sum(pool.mass)),
        share(pool.mass),
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
    return table_of(sort_pool(value, cell, weight, count), share, points, borrowing)


def fit_table_on_host(
    value: np.ndarray,
    cell: np.ndarray,
    weight: np.ndarray | None,
    count: int,
    share: Callable[[np.ndarray], np.ndarray],
    points: int = POINTS,
    borrowing: Borrowing = Borrowing(),  # noqa: B008 - immutable
) -> QuantileTable:
    """:func:`fit_table` in double precision with numpy's sort; the table is kept in single
    precision.

    ``weight`` None counts every row once.
    """
    pool = sort_pool_on_host(value, cell, weight, count)
    table = table_of(pool, share, points, borrowing)
    return QuantileTable(*(np.asarray(entry, np.float32) for entry in table))


def _cell_quantiles(
    value: Array, weight: Array | None, rows: Array, mass: Array, points: int
) -> Array:
    """Quantiles ``[G, K]`` of values ``[N]`` that are sorted cell by cell; meaningless for a cell
    without rows.

    A value stands at its middle rank: half of its own weight and all weight of smaller values.
    Between values quantiles are linear. Without weights every row weighs 1.
    """
    xp = _namespace(value)
    count = rows[:, None].astype(int)
    first = xp.cumsum(count, axis=0) - count
    last = first + xp.maximum(count - 1, 0)
    wanted = mass[:, None] * xp.asarray(quantile_levels(points), mass.dtype)
    if weight is None:
        unclipped = first + xp.floor(wanted - 0.5).astype(int)
    else:
        middle = xp.cumsum(weight) - weight / 2
        before = (xp.cumsum(mass) - mass)[:, None]
        above = xp.searchsorted(middle, (before + wanted).ravel())
        unclipped = above.reshape(wanted.shape) - 1
    end = len(value) - 1
    low = xp.minimum(xp.clip(unclipped, first, last), end)
    high = xp.minimum(xp.clip(unclipped + 1, first, last), end)
    # from the start of the cell: a level near 0 or 1 would not survive the addition of the cells
    # before
    if weight is None:
        start = low - first + 0.5
        step = 1.0
    else:
        start = middle[low] - before
        step = middle[high] - middle[low]
    nonzero_step = xp.where(step > 0, step, 1)
    part = xp.clip((wanted - start) / nonzero_step, 0, 1)
    lower = value[low]
    return lower + part * (value[high] - lower)


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
    piece = (mass[:, None] * widths).ravel()
    order = xp.argsort(own_gk.ravel())
    all_rows = xp.asarray([own_gk.size])
    all_mass = xp.sum(mass)[None]
    ascending = own_gk.ravel()[order]
    pooled = _cell_quantiles(ascending, piece[order], all_rows, all_mass, points)
    enough = (rows > 0) & (rows >= borrowing.minimum)
    part = xp.where(enough, rows / xp.maximum(rows + borrowing.prior, 1), 0)[:, None]
    return xp.concatenate([part * own_gk + (1 - part) * pooled, pooled])
