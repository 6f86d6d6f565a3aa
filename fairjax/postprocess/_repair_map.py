"""The map of the exact repair: the target of every entry of a quantile table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.masked import divide
from fairjax.core.types import Array
from fairjax.postprocess.quantile_table import QuantileTable, level_position, quantile_levels


class RepairMap(NamedTuple):
    """What rows are scored with, ``[T, G + 1, K]`` each: entries of a table and their targets."""

    quantiles: Array
    target: Array  # without the part of the score that is not repaired
    bottom: Array  # level at which the distribution function begins to jump at an entry
    top: Array  # level at which the jump ends


def unrepaired_share(amount: Array) -> Array:
    """The part of a score that stays after repair of ``amount[A]``."""
    return jnp.prod(1.0 - amount)


def mixing_weights(share: Array, sizes: Sequence[int], amount: Array) -> Array:
    """Weights of quantile functions in a cell's target, ``target_s = sum_r M_sr Q_r``.

    ``M = sum_S prod_{a in S} t_a prod_{a not in S} (1 - t_a) E_S`` over all sets S of attributes.
    ``E_S`` is the average of the cells that share a cell's levels of all attributes outside S:
    repair of the attributes in S makes these cells equal. An amount of 0 leaves an attribute alone,
    all amounts 1 give the barycenter of all cells, and the order of the attributes does not matter.

    Args:
      share: ``[G]``.
      sizes: number of levels of each attribute.
      amount: ``t [A]``.

    Returns:
      ``[G, G]``.
    """
    level_ag = np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes))
    cells = level_ag.shape[1]
    mixed = unrepaired_share(amount) * jnp.eye(cells)
    for subset in itertools.product((False, True), repeat=len(sizes)):
        repaired = np.array(subset)
        if not repaired.any():
            continue
        others = level_ag[~repaired]
        same_levels = np.all(others[:, :, None] == others[:, None, :], axis=0)
        weight = same_levels * share[None]
        mass = jnp.sum(weight, axis=1, keepdims=True)
        # where the pool has no cell of these levels, all cells stand in
        average = jnp.where(mass > 0, divide(weight, mass), share[None])
        factors = jnp.where(repaired, amount, 1.0 - amount)
        mixed += jnp.prod(factors) * average
    return mixed


def repair_map(
    table: QuantileTable, sizes: Sequence[int], amount: Array, drawn: bool = False
) -> RepairMap:
    """The map of a table for repair of ``amount[A]``; the last cell is the unknown one.

    Args:
      table: fitted.
      sizes: number of levels of each attribute.
      amount: ``[A]``.
      drawn: equal scores are to be separated at random, see :func:`map_values`.
    """
    stays = unrepaired_share(amount)
    mixed = mixing_weights(table.share, sizes, amount)
    unknown = jnp.append((1.0 - stays) * table.share, stays)[None]
    of_cells = jnp.pad(mixed, ((0, 0), (0, 1)))
    mixed = jnp.concatenate([of_cells, unknown])
    moving = mixed - stays * jnp.eye(len(mixed))
    target = jnp.einsum("gh,thk->tgk", moving, table.quantiles, precision="highest")
    half_g = divide(jnp.asarray(0.5), table.rows)

    def jumps_of_task(quantile_gk: Array) -> Array:
        return _jump_levels(quantile_gk, half_g, drawn)

    bottom, top = jax.vmap(jumps_of_task, 0, 1)(table.quantiles)
    return RepairMap(table.quantiles, target, bottom, top)


def _jump_levels(quantile_gk: Array, half_g: Array, drawn: bool) -> Array:
    """Levels ``[2, G + 1, K]`` at which the distribution function begins and ends to jump.

    For draws these are the levels of the first and the last entry that equal an entry; else their
    middle, twice. The middle is that of the jump, which is longer by ``half_g``, half a row's share
    of its cell, at either side, and stays within 0 and 1.
    """
    first = jax.vmap(lambda q: jnp.searchsorted(q, q, side="left"))(quantile_gk)
    above = jax.vmap(lambda q: jnp.searchsorted(q, q, side="right"))(quantile_gk)
    level = jnp.asarray(quantile_levels(quantile_gk.shape[1]), quantile_gk.dtype)
    half = half_g[:, None]
    bottom = level[first]
    top = level[above - 1]
    if drawn:
        return jnp.stack([bottom, top])
    jump_start = jnp.maximum(bottom - half, 0.0)
    jump_end = jnp.minimum(top + half, 1.0)
    middle = jnp.clip((jump_start + jump_end) / 2, bottom, top)
    return jnp.stack([middle, middle])


def count_below(
    flat: Array,
    start: Array,
    length: Array | int,
    value: Array,
    most: int,
    passes: Callable[[Array, Array], Array] = jnp.less,
) -> Array:
    """How many ascending entries from ``start`` on pass a test, by binary search.

    Args:
      flat: the entries of all cells, one cell after another.
      start: ``[N]`` where the entries of the row's cell begin.
      length: ``[N]`` how many these are, or one number.
      value: ``[N]``.
      most: largest length.
      passes: true for the first entries of a cell, then false.
    """
    count = jnp.zeros_like(start)
    step = 1 << most.bit_length()
    while step := step // 2:
        next_count = count + step
        entry = flat[start + jnp.minimum(next_count, length) - 1]
        further = (next_count <= length) & passes(entry, value)
        count = jnp.where(further, next_count, count)
    return count


def map_values(
    mapping: RepairMap, value: Array, cell: Array, position: Array | None = None
) -> tuple[Array, Array]:
    """Values ``[N, T]`` clipped to the range of their cells, and their targets ``[N, T]``.

    A target lacks the part of the score that is not repaired.

    Args:
      mapping: of a table.
      value: ``[N, T]``.
      cell: ``[N]``.
      position: ``[N, T]`` in [0, 1], the point of a jump of the distribution function that is used,
        for a mapping made with ``drawn``; the middle of the jump if not given.
    """
    count = mapping.quantiles.shape[-1]
    start = cell * count

    def map_task(
        mapping_gk: RepairMap, value_n: Array, position_n: Array | None
    ) -> tuple[Array, Array]:
        flat, target, bottom, top = (entry.ravel() for entry in mapping_gk)
        inside = jnp.clip(value_n, flat[start], flat[start + count - 1])
        rank = count_below(flat, start, count, inside, count)
        # without the barrier XLA searches anew for each use
        rank = jax.lax.optimization_barrier(rank)
        right = start + jnp.minimum(rank, count - 1)
        left = jnp.maximum(rank - 1, 0)
        lower = flat[start + left]
        between = left + divide(inside - lower, flat[right] - lower)
        if position_n is None:
            # bottom and top are the middle; its position is found per entry, as entries are fewer
            # than rows
            jump = level_position(bottom, count)[right]
        else:
            level = bottom[right] + position_n * (top[right] - bottom[right])
            jump = level_position(level, count)
        place = jnp.where(flat[right] == inside, jump, between)
        left = jnp.clip(place.astype(jnp.int32), 0, count - 2)
        low = target[start + left]
        high = target[start + left + 1]
        # in this form equal targets stay equal to the last bit, so that rounding tells no group's
        # atoms apart
        return inside, low + (place - left) * (high - low)

    return jax.vmap(map_task, (0, 1, 1), 1)(mapping, value, position)
