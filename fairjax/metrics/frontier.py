"""The frontier of a set of runs: its points, the volume that they dominate, and one point of it.

In: numpy points ``[N, d]``; every column is minimised (negate a column to maximise it). Out: numpy.
A row with a NaN is a run that failed: it is on no front and dominates nothing.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np

from fairjax.metrics._bootstrap import Interval, interval_over_seeds


def nondominated(points: np.ndarray) -> np.ndarray:
    """Which rows no other row dominates.

    ``a`` dominates ``b`` if ``a <= b`` everywhere and ``a < b`` somewhere.
    Equal rows do not dominate each other: all copies of a front point are kept. O(N log N) for d <=
    2, otherwise O(N F) for a front of F rows.

    Args:
      points: ``[N, d]``.

    Returns:
      ``[N]`` of bool.

    Source: Kung, Luccio and Preparata, "On finding the maxima of a set of vectors", J. ACM 22, 1975
    (d = 2).
    """
    points = _checked(points)
    real = np.flatnonzero(~np.isnan(points).any(axis=1))
    front = np.zeros(len(points), bool)
    front[real] = _front_2d(points[real]) if points.shape[1] <= 2 else _front(points[real])
    return front


def _checked(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] < 1:
        raise ValueError(
            f"points: expected an array [N, d], got shape {points.shape}; one row per run"
        )
    return points


def _front_2d(points: np.ndarray) -> np.ndarray:
    first = points[:, 0]
    second = points[:, -1]  # the same column when d = 1
    order = np.lexsort((second, first))
    x = first[order]
    y = second[order]
    new_x = np.append(True, x[1:] != x[:-1])[: len(x)]
    column = np.cumsum(new_x) - 1
    lowest = y[new_x]  # lowest y of every distinct x
    lowest_before = np.append(np.inf, np.minimum.accumulate(lowest))[: len(lowest)]
    # no row dominates y = inf at the lowest x, hence the second clause
    dominated = (lowest >= lowest_before) & (np.arange(len(lowest)) > 0)
    front = np.zeros(len(x), bool)
    front[order] = (y == lowest[column]) & ~dominated[column]
    return front


def _front(points: np.ndarray) -> np.ndarray:
    # A row comes after every row that dominates it: order by sum, then lexicographically (a rounded
    # sum can tie). Clipped, because infinities of both signs have no sum.
    total = np.clip(points, -1e300, 1e300).sum(axis=1)
    candidates = np.lexsort((*points.T[::-1], total))
    front = np.zeros(len(points), bool)
    while len(candidates):
        best = points[candidates[0]]
        front[candidates[0]] = True
        candidates = candidates[1:]
        others = points[candidates]
        not_dominated = (others < best).any(axis=1) | (others == best).all(axis=1)
        candidates = candidates[not_dominated]
    return front


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Volume of what the points dominate within the reference, ``vol(union_i [p_i, reference])``.

    Exact in one to four dimensions: a sweep over the last coordinate with a staircase in the first
    two; O(N log N) for d = 2, at most O(N^2) for d = 3, O(N^3) for d = 4.

    Args:
      points: ``[N, d]``; those not below the reference in every coordinate add nothing.
      reference: ``[d]``, finite.

    Raises:
      ValueError: d is above 4, or the shapes disagree.

    Source: Zitzler and Thiele, PPSN 1998; dimension sweep: Fonseca, Paquete and Lopez-Ibanez, CEC
    2006.
    """
    points = _checked(points)
    reference = np.asarray(reference, float)
    fits = reference.shape == points.shape[1:] and points.shape[1] <= 4
    if not fits or not np.isfinite(reference).all():
        raise ValueError(
            f"hypervolume: expected a finite reference for 1 to 4 objectives, got reference "
            f"{reference} for points {points.shape}"
        )
    inside = points[(points < reference).all(axis=1)]  # NaN compares false
    depths = reference - inside[nondominated(inside)]
    return _volume(depths)


def _volume(depths: np.ndarray) -> float:
    """Volume of the union of the boxes from the origin to every row of ``depths``."""
    if len(depths) == 0:
        return 0.0
    if depths.shape[1] == 1:
        return float(depths.max())
    if depths.shape[1] == 2:
        depths = depths[np.argsort(-depths[:, 0], kind="stable")]
        height = np.maximum.accumulate(depths[:, 1])
        return float(np.sum(depths[:, 0] * np.diff(height, prepend=0.0)))
    depths = depths[np.argsort(-depths[:, -1], kind="stable")]
    thickness = depths[:, -1] - np.append(depths[1:, -1], 0.0)
    if depths.shape[1] == 3:
        return float(np.dot(_areas(depths[:, :2]), thickness))
    volume = 0.0
    for i in np.flatnonzero(thickness > 0):
        volume += _volume(depths[: i + 1, :-1]) * thickness[i]
    return float(volume)


def _areas(depths: np.ndarray) -> list[float]:
    """Areas of the unions of the first 1, 2, ... rectangles; the staircase stays sorted."""
    widths = [0.0, math.inf]
    heights = [math.inf, 0.0]
    area = 0.0
    areas = []
    for width, height in depths.tolist():
        right = bisect.bisect_left(widths, width)
        step = right
        end = width
        # go left over the steps below the new rectangle and add its area above each of them
        while heights[step] < height:
            area += (end - widths[step - 1]) * (height - heights[step])
            step -= 1
            end = widths[step]
        if step < right:
            covered = right + (widths[right] == width)
            widths[step + 1 : covered] = [width]
            heights[step + 1 : covered] = [height]
        areas.append(area)
    return areas


def hypervolume_interval(
    rng: np.random.Generator,
    point_sets: Sequence[np.ndarray],
    reference: np.ndarray,
    draws: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Mean hypervolume over seeds, with a percentile interval from resampling the seeds.

    Args:
      rng: numpy generator.
      point_sets: one array ``[N_s, d]`` per seed. To compare methods, give all the same number of
        runs: more runs have more volume.
      reference: ``[d]``.
      draws: number of resamples.
      level: coverage.

    Returns:
      Interval of floats.
    """
    volumes = np.array([hypervolume(points, reference) for points in point_sets])
    return interval_over_seeds(rng, volumes, draws, level)


def attainment(point_sets: Sequence[np.ndarray], level: float = 0.5) -> np.ndarray:
    """The empirical attainment surface in 2-D: what at least a share ``level`` of sets attain.

    A set attains z if one of its points is ``<= z`` in both coordinates. With k the smallest count
    of sets that is ``>= level n``, the surface is ``y(x) = k-th smallest over sets of min { p_2 :
    p_1 <= x }``.

    Args:
      point_sets: one array ``[N_s, 2]`` per seed.
      level: in (0, 1]; 0.5 is the median surface, 1 what every seed attains, 1/n what the best one
        does.

    Returns:
      ``[M, 2]`` corners of the staircase, the first coordinate rising; ``[0, 2]`` if nothing is
      attained that often.

    Raises:
      ValueError: no sets, not two objectives, or level outside (0, 1].

    Source: Fonseca, Guerreiro, Lopez-Ibanez and Paquete, "On the computation of the empirical
    attainment function", EMO 2011.
    """
    if not len(point_sets) or not 0.0 < level <= 1.0:
        raise ValueError(
            f"attainment: expected some sets and a level in (0, 1], got {len(point_sets)} sets and "
            f"level {level}"
        )
    fronts = [_staircase(points) for points in point_sets]
    xs = np.unique(np.concatenate([front[:, 0] for front in fronts]))
    # [sets, xs]: lowest second objective of a set up to each x; inf before its first point
    lowest = np.stack([_lowest_up_to(xs, front) for front in fronts])
    # without the small number, rounding makes four sets of 3/10 of ten sets
    k = math.ceil(level * len(fronts) - 1e-9)
    surface = np.sort(lowest, axis=0)[k - 1]
    corner = surface < np.append(np.inf, surface)[: len(surface)]
    return np.stack([xs[corner], surface[corner]], axis=1)


def _staircase(points: np.ndarray) -> np.ndarray:
    points = _checked(points)
    if points.shape[1] != 2:
        raise ValueError(f"expected points with two objectives, got {points.shape[1]}")
    return np.unique(points[nondominated(points)], axis=0)


def _lowest_up_to(xs: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Second coordinate of a staircase at every x."""
    position = np.searchsorted(front[:, 0], xs, side="right")
    return np.append(np.inf, front[:, 1])[position]


def _front_index(points: np.ndarray) -> np.ndarray:
    """Finite rows on the front, by rising first objective."""
    index = np.flatnonzero(nondominated(points) & np.isfinite(points).all(axis=1))
    if not len(index):
        raise ValueError(
            f"no finite point on the front of {len(points)} runs: runs failed, or a metric is not "
            f"defined. Look at the metrics of single runs"
        )
    return index[np.lexsort(points[index].T[::-1])]


def knee(points: np.ndarray) -> int:
    """The front point furthest from the chord between the front's ends, towards the ideal corner.

    Both objectives are first scaled to [0, 1] over the front, which puts the ends at (0, 1) and (1,
    0); then ``knee = argmin x + y``. On a front that bulges the other way, or has one or two
    points, it is the end with the lower first objective.

    Args:
      points: ``[N, 2]``; scaling by the range of the front makes the answer free of units.

    Returns:
      Row number.

    Raises:
      ValueError: not two objectives, or no finite row.

    Source: Das, "On characterizing the knee of the Pareto curve based on normal-boundary
    intersection", 1999.
    """
    points = _checked(points)
    if points.shape[1] != 2:
        raise ValueError(f"knee: expected two objectives, got {points.shape[1]}")
    index = _front_index(points)
    front = points[index]
    span = np.ptp(front, axis=0)
    scaled = (front - front.min(axis=0)) / np.where(span > 0, span, 1.0)
    # rounding must not make a middle point win against an end on a straight front
    return int(index[np.argmin(np.round(scaled.sum(axis=1), 12))])


def midpoint(points: np.ndarray) -> int:
    """The front point nearest to the middle of the *front's* interval of the first objective.

    ``argmin_i |p_i1 - (min + max) / 2|`` with min and max over the front; the lower one in a tie.

    Args:
      points: ``[N, d]``, the first column being ARE.

    Returns:
      Row number.

    Raises:
      ValueError: no finite row.

    Source: Wang et al., KDD 2021, Table 3. The paper takes the interval "from all runs"
    (:func:`midpoint_of_all`), but its numbers look like the interval of the front, which collapsed
    runs cannot move.
    """
    points = _checked(points)
    return _nearest(points, points[_front_index(points), 0])


def midpoint_of_all(points: np.ndarray) -> int:
    """As :func:`midpoint`, with the interval of all runs without NaN or infinity."""
    points = _checked(points)
    return _nearest(points, points[np.isfinite(points).all(axis=1), 0])


def _nearest(points: np.ndarray, interval: np.ndarray) -> int:
    index = _front_index(points)
    middle = (interval.min() + interval.max()) / 2.0
    return int(index[np.argmin(np.abs(points[index, 0] - middle))])
