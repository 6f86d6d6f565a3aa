"""The exact repair of rows on the host: numpy in double precision around one compiled search."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from fairjax.data.complaints import complain
from fairjax.postprocess._repair_map import RepairMap, map_values, repair_map
from fairjax.postprocess.scales import Scale

SMALLEST_BATCH = 256  # rows; fewer are padded
LARGEST = 1e37  # of a score, on the scale of the repair: single precision ends there

jitted_repair_map = jax.jit(repair_map, static_argnums=(1, 3))
_jitted_map_values = jax.jit(map_values)


def scale_scores(scale: Scale, name: str, tasks: Sequence[str], score: np.ndarray) -> np.ndarray:
    """Scores ``[N, T]`` on the scale of the repair.

    Args:
      scale: of the repair.
      name: of the scale, for messages.
      tasks: names of the score columns.
      score: ``[N, T]``.

    Raises:
      DataError: a score has no place on the scale, or is too large for single precision.
    """
    for task, refused in zip(tasks, scale.refused(score).T, strict=True):
        if refused.any():
            raise complain(
                task,
                f"{refused.sum():,} of {len(refused):,} scores are not {scale.needs}, as the "
                f"scale {name!r} needs them",
                "Clip them, or take the scale 'identity'.",
            )
    value = scale.forward(score)
    is_large = np.abs(value) > LARGEST
    for task, large in zip(tasks, is_large.T, strict=True):
        if large.any():
            raise complain(
                task,
                f"{large.sum():,} of {len(large):,} scores are beyond {LARGEST:g}",
                "Take a larger unit.",
            )
    return value


def repair_values(
    mapping: RepairMap,
    value: np.ndarray,
    cell: np.ndarray,
    centre: np.ndarray,
    stays: float,
    slope: float,
    seed: int | None,
) -> np.ndarray:
    """Values ``[N, T]`` after repair, on its scale.

    Targets are computed in single precision. The part of a value that stays is kept in double
    precision.

    Args:
      mapping: of the fitted table.
      value: ``[N, T]`` on the scale of the repair.
      cell: ``[N]``.
      centre: ``[T]`` subtracted from the values of the pool before the fit.
      stays: the part of a value that is not repaired.
      slope: of the map outside the pool's range.
      seed: separates equal scores at random; None takes the middle of where they belong.
    """
    rows = len(value)
    from_centre = (value - centre).astype(np.float32)
    position = None
    if seed is not None:
        generator = np.random.default_rng(seed)
        position = generator.random(value.shape, np.float32)
    power_of_two = 1 << max(rows - 1, 0).bit_length()
    size = max(SMALLEST_BATCH, power_of_two)
    inside, target = _jitted_map_values(
        mapping,
        _pad(from_centre, size),
        _pad(cell, size),
        _pad(position, size),
    )
    inside = np.asarray(inside)[:rows]
    target = np.asarray(target)[:rows]
    unrepaired = stays * value + (1 - stays) * centre
    repaired = target + unrepaired
    if slope:
        beyond = (1 - stays) * slope * (value - centre - inside)
        repaired += np.where(inside == from_centre, 0, beyond)
    return repaired


def join_maps(mappings: Sequence[RepairMap]) -> RepairMap:
    """The maps of several folds as one map: cells of fold k follow those of fold k - 1."""
    joined = [np.concatenate(parts, axis=1) for parts in zip(*mappings, strict=True)]
    return RepairMap(*joined)


def _pad(values: np.ndarray | None, size: int) -> np.ndarray | None:
    """Rows of zeros appended, so that batches of all sizes share a few programs."""
    if values is None:
        return None
    row_shape = values.shape[1:]
    padding = np.zeros((size - len(values), *row_shape), values.dtype)
    return np.concatenate([values, padding])
