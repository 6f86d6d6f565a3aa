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
    cells = math.prod(sizes)
    level_ag = np.stack(np.unravel_index(np.arange(cells), sizes))
    mixed = unrepaired_share(amount) * jnp.eye(cells)
    for subset in itertools.product((False, True), repeat=len(sizes)):
        is_repaired = np.array(subset)
        if not is_repaired.any():
            continue
        others = level_ag[~is_repaired]
        is_same_level = others[:, :, None] == others[:, None, :]
        has_same_levels = np.all(is_same_level, axis=0)
        all_cells = share[None]
        weight = has_same_levels * all_cells
        mass = jnp.sum(weight, axis=1, keepdims=True)
        average = divide(weight, mass)
        # where the pool has no cell of these levels, all cells stand in
        average = jnp.where(mass > 0, average, all_cells)
        factors = jnp.where(is_repaired, amount, 1.0 - amount)
        mixed += jnp.prod(factors) * average
    return mixed


def repair_map(
    table: QuantileTable,
    sizes: Sequence[int],
    amount: Array,
    drawn: bool = False,
) -> RepairMap:
    """The map of a table for repair of ``amount[A]``; the last cell is the unknown one.

    Args:
      table: fitted.
      sizes: number of levels of each attribute.
      amount: ``[A]``.
      drawn: equal scores are to be separated at random, see :func:`map_values`.
    """
    stays = unrepaired_share(amount)
    known_cells = mixing_weights(table.share, sizes, amount)
    barycenter_part = (1.0 - stays) * table.share
    unknown_cell = jnp.append(barycenter_part, stays)[None]
    known_cells = jnp.pad(known_cells, ((0, 0), (0, 1)))
    mixed = jnp.concatenate([known_cells, unknown_cell])
    moving = mixed - stays * jnp.eye(len(mixed))
    target = jnp.einsum("gh,thk->tgk", moving, table.quantiles, precision="highest")
    half_g = divide(jnp.asarray(0.5), table.rows)

    def jumps_of_task(quantile_gk: Array) -> Array:
        return _jump_levels(quantile_gk, half_g, drawn)

    bottom, top = jax.vmap(jumps_of_task, 0, 1)(table.quantiles)
    return RepairMap(table.quantiles, target, bottom, top)


def _jump_levels(quantile_gk: Array, half_g: Array, drawn: bool) -> Array:
    """Levels ``[2, G + 1, K]`` at which the distribution function begins and ends to jump.

    For draws these are the levels of the first and the last entry that equal an entry. Otherwise
    they are the middle of the jump, twice. That jump is longer at either side by ``half_g``, half a
    row's share of its cell, and stays within 0 and 1.
    """
    first = jax.vmap(lambda q: jnp.searchsorted(q, q, side="left"))(quantile_gk)
    above = jax.vmap(lambda q: jnp.searchsorted(q, q, side="right"))(quantile_gk)
    points = quantile_gk.shape[1]
    level = jnp.asarray(quantile_levels(points), quantile_gk.dtype)
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
        place = start + jnp.minimum(next_count, length) - 1
        entry = flat[place]
        is_further = (next_count <= length) & passes(entry, value)
        count = jnp.where(is_further, next_count, count)
    return count


def map_values(
    mapping: RepairMap,
    value: Array,
    cell: Array,
    position: Array | None = None,
) -> tuple[Array, Array]:
    """Values ``[N, T]`` clipped to the range of their cells, and their targets ``[N, T]``.

    A target lacks the part of the score that is not repaired.

    Args:
      mapping: of a table.
      value: ``[N, T]``.
      cell: ``[N]``.
      position: ``[N, T]`` in [0, 1], which point of a jump of the distribution function is used.
        It is for a mapping made with ``drawn``. The middle of the jump if not given.
    """
    count = mapping.quantiles.shape[-1]
    start = cell * count

    def map_task(
        mapping_gk: RepairMap,
        value_n: Array,
        position_n: Array | None,
    ) -> tuple[Array, Array]:
        flat, target, bottom, top = (entry.ravel() for entry in mapping_gk)
        least = flat[start]
        greatest = flat[start + count - 1]
        inside = jnp.clip(value_n, least, greatest)
        rank = count_below(flat, start, count, inside, count)
        # without the barrier XLA searches anew for each use
        rank = jax.lax.optimization_barrier(rank)
        right = start + jnp.minimum(rank, count - 1)
        left = jnp.maximum(rank - 1, 0)
        lower = flat[start + left]
        upper = flat[right]
        between = left + divide(inside - lower, upper - lower)
        if position_n is None:
            # bottom and top are the middle; entries are fewer than rows, so that its position is
            # computed per entry
            jump = level_position(bottom, count)[right]
        else:
            jump_start = bottom[right]
            jump_end = top[right]
            level = jump_start + position_n * (jump_end - jump_start)
            jump = level_position(level, count)
        place = jnp.where(upper == inside, jump, between)
        left = jnp.clip(place.astype(jnp.int32), 0, count - 2)
        entry = start + left
        low = target[entry]
        high = target[entry + 1]
        part = place - left
        # in this form equal targets stay equal to the last bit, so that rounding tells no group's
        # atoms apart
        return inside, low + part * (high - low)

    return jax.vmap(map_task, (0, 1, 1), 1)(mapping, value, position)
