"""Points of a method's hyper-parameters.

Random draws and grids. This is the one place that fills a ``Range``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.types import Array, Range

Space = dict[str, Range]


def draw(
    space: Space,
    count: int,
    seed: int,
    *,
    sequence: str = "uniform",
) -> dict[str, np.ndarray]:
    """Draw random hyper-parameters.

    Args:
      space: a recipe's hyper-parameters. One without bounds stays at its default.
      count: number of points L.
      seed: seed of the draw.
      sequence: ``"uniform"`` for independent draws, ``"sobol"`` for a scrambled Sobol sequence.

    Returns:
      Arrays ``[L, ...]``, float32. A point of a simplex is uniform on the simplex.

    Raises:
      ValueError: for another ``sequence``.
    """
    widths = {name: dimensions(interval) for name, interval in space.items()}
    unit = _unit_cube(count, sum(widths.values()), seed, sequence)
    hparams = {}
    first = 0
    for name, interval in space.items():
        last = first + widths[name]
        hparams[name] = place(interval, unit[:, first:last], count)
        first = last
    return hparams


def draw_with_key(
    interval: Range,
    key: Array,
    count: int,
) -> Array:
    """Draw ``count`` values of one hyper-parameter under ``jit``, ``[count, ...]``, float32.

    On a simplex it uses T uniform numbers, where :func:`draw` uses T - 1. Both are uniform there.
    """
    width = int(np.size(interval.default))
    unit = jax.random.uniform(key, (count, width))
    return place(interval, unit, count, jnp)


def grid(space: Space, values: dict[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    """Make the product of some values; all other hyper-parameters stay at their defaults.

    Args:
      space: a recipe's hyper-parameters.
      values: for each hyper-parameter of the grid, its values. One number stands for all tasks.

    Returns:
      Arrays ``[L, ...]``, float32. The first name of ``values`` varies slowest.

    Raises:
      ValueError: for a hyper-parameter that the space does not have.
    """
    for name in values:
        if name not in space:
            raise ValueError(f"no hparam {name!r}; there are {', '.join(space)}")
    lengths = [len(choices) for choices in values.values()]
    size = int(np.prod(lengths, dtype=int))
    indices = np.indices(lengths).reshape(len(lengths), size)
    no_numbers = np.empty((size, 0))
    hparams = {}
    for name, interval in space.items():
        fixed = interval._replace(low=None)
        hparams[name] = place(fixed, no_numbers, size)
    for (name, choices), index in zip(values.items(), indices, strict=True):
        column = np.asarray(choices, np.float32)[index]
        target = hparams[name]
        new_axes = (1,) * (target.ndim - column.ndim)
        target[...] = column.reshape(size, *new_axes, *column.shape[1:])
    return hparams


def dimensions(interval: Range) -> int:
    """Count the uniform numbers that :func:`draw` spends on one value.

    A fixed hyper-parameter takes none, a point of a simplex of T entries takes T - 1.
    """
    if interval.low is None:
        return 0
    size = int(np.size(interval.default))
    return size - 1 if interval.simplex else size


def place(
    interval: Range,
    unit: Array | np.ndarray,
    count: int,
    xp: ModuleType = np,
) -> Any:
    """Turn uniform numbers into values of a hyper-parameter.

    Between bounds ``low + (high - low) u``, or ``low (high / low)^u`` for a logarithmic range.
    On a simplex of T entries, T - 1 numbers are cut points of [0, 1] and the entries are the
    spacings; T numbers become exponential, ``e = -log(1 - u)``, and the entries are
    ``e / sum(e)``. Both are uniform on the simplex.

    Args:
      interval: the range of the hyper-parameter.
      unit: numbers in [0, 1), ``[count, dimensions]``. A fixed one does not read them.
      count: number of values.
      xp: ``numpy``, or ``jax.numpy`` under ``jit``.

    Returns:
      ``[count, *shape of the default]``, float32.
    """
    shape = (count, *np.shape(interval.default))
    if interval.low is None:
        default = xp.asarray(interval.default, xp.float32)
        return xp.array(xp.broadcast_to(default, shape))
    if interval.simplex:
        entries = int(np.size(interval.default))
        values = _on_simplex(unit, entries, xp)
    elif interval.log:
        ratio = interval.high / interval.low
        values = interval.low * ratio**unit
    else:
        length = interval.high - interval.low
        values = interval.low + length * unit
    return values.reshape(shape).astype(xp.float32)


def _on_simplex(
    unit: Array | np.ndarray,
    entries: int,
    xp: ModuleType,
) -> Array:
    count, numbers = unit.shape
    if numbers == entries:
        exponential = -xp.log1p(-unit)
        total = xp.sum(exponential, axis=-1, keepdims=True)
        return exponential / total
    zeros = xp.zeros((count, 1))
    ones = xp.ones((count, 1))
    cuts = xp.concatenate([zeros, xp.sort(unit, axis=1), ones], axis=1)
    return xp.diff(cuts, axis=1)


def _unit_cube(
    count: int,
    width: int,
    seed: int,
    sequence: str,
) -> np.ndarray:
    """Points of the unit cube, ``[count, width]``."""
    if sequence == "uniform":
        rng = np.random.default_rng(seed)
        return rng.random((count, width))
    if sequence == "sobol":
        from scipy.stats import qmc

        powers_of_two = max(count - 1, 0).bit_length()
        sobol = qmc.Sobol(max(width, 1), rng=seed)
        points = sobol.random_base2(powers_of_two)
        return points[:count, :width]
    raise ValueError(f"sequence must be 'uniform' or 'sobol', got {sequence!r}")
