"""The frontier of a set of runs: its points, the volume that they dominate, and one point of it.

In: numpy points ``[N, d]``. Every column is minimised (negate a column to maximise it). Out: numpy.
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

    ``a`` dominates ``b`` if ``a <= b`` everywhere and ``a < b`` somewhere. Equal rows do not
    dominate each other: all copies of a front point are kept. The cost is O(N log N) for one or two
    columns, otherwise O(N F) for a front of F rows.

    Args:
      points: ``[N, d]``.

    Returns:
      ``[N]`` of bool.

    Source: Kung, Luccio and Preparata, "On finding the maxima of a set of vectors", J. ACM 22, 1975
    (d = 2).
    """
    points = _checked(points)
    failed = np.isnan(points).any(axis=1)
    valid = np.flatnonzero(~failed)
    front_of = _front_2d if points.shape[1] <= 2 else _front
    front = np.zeros(len(points), bool)
    front[valid] = front_of(points[valid])
    return front


def _checked(points: np.ndarray) -> np.ndarray:
    """The points as floats, refused unless they have rows and columns."""
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] < 1:
        raise ValueError(
            f"points: expected an array [N, d], got shape {points.shape}; one row per run"
        )
    return points


def _front_2d(points: np.ndarray) -> np.ndarray:
    """Front of one or two columns: a sort, then the lowest y so far."""
    first = points[:, 0]
    second = points[:, -1]  # the same column when d = 1
    order = np.lexsort((second, first))
    x = first[order]
    y = second[order]
    x_changes = x[1:] != x[:-1]
    new_x = np.append(True, x_changes)[: len(x)]
    column = np.cumsum(new_x) - 1  # number of each row's distinct x
    lowest = y[new_x]  # lowest y of every distinct x
    lowest_so_far = np.minimum.accumulate(lowest)
    lowest_before = np.append(np.inf, lowest_so_far)[:-1]
    dominated = lowest >= lowest_before
    dominated[:1] = False  # nothing dominates the lowest x, even with y = inf
    in_front = (y == lowest[column]) & ~dominated[column]
    front = np.zeros(len(x), bool)
    front[order] = in_front
    return front


def _front(points: np.ndarray) -> np.ndarray:
    """Front of any number of columns: each front point removes the rows that it dominates."""
    # A row comes after every row that dominates it: order by sum, then lexicographically (a rounded
    # sum can tie). Clipped, because infinities of both signs have no sum.
    total = np.clip(points, -1e300, 1e300).sum(axis=1)
    last_to_first = points.T[::-1]
    candidates = np.lexsort((*last_to_first, total))
    front = np.zeros(len(points), bool)
    while len(candidates):
        front[candidates[0]] = True
        best = points[candidates[0]]
        candidates = candidates[1:]
        others = points[candidates]
        lower = (others < best).any(axis=1)
        equal = (others == best).all(axis=1)
        candidates = candidates[lower | equal]
    return front


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Volume of what the points dominate within the reference, ``vol(union_i [p_i, reference])``.

    Exact in one to four dimensions: a sweep over the last coordinate with a staircase in the first
    two. The cost is O(N log N) for d = 2, at most O(N^2) for d = 3 and O(N^3) for d = 4.

    Args:
      points: ``[N, d]``. Those not below the reference in every coordinate add nothing.
      reference: ``[d]``, finite.

    Raises:
      ValueError: d is above 4, or the shapes disagree.

    Source: Zitzler and Thiele, PPSN 1998; dimension sweep: Fonseca, Paquete and Lopez-Ibanez, CEC
    2006.
    """
    points = _checked(points)
    reference = np.asarray(reference, float)
    objectives = points.shape[1]
    fits = reference.shape == (objectives,) and objectives <= 4
    if not fits or not np.isfinite(reference).all():
        raise ValueError(
            f"hypervolume: expected a finite reference for 1 to 4 objectives, got reference "
            f"{reference} for points {points.shape}"
        )
    below = (points < reference).all(axis=1)  # NaN compares false
    inside = points[below]
    front = inside[nondominated(inside)]
    return _volume(reference - front)


def _volume(depths: np.ndarray) -> float:
    """Volume of the union of the boxes from the origin to every row of ``depths``."""
    objectives = depths.shape[1]
    if len(depths) == 0:
        return 0.0
    if objectives == 1:
        return float(depths.max())
    if objectives == 2:
        depths = _descending(depths, 0)
        width = depths[:, 0]
        height = np.maximum.accumulate(depths[:, 1])
        rise = np.diff(height, prepend=0.0)
        return float(np.sum(width * rise))
    depths = _descending(depths, -1)
    last = depths[:, -1]
    thickness = last - np.append(last[1:], 0.0)
    if objectives == 3:
        areas = _areas(depths[:, :2])
        return float(np.dot(areas, thickness))
    volume = 0.0
    for i in np.flatnonzero(thickness > 0):
        deeper = depths[: i + 1, :-1]
        volume += _volume(deeper) * thickness[i]
    return float(volume)


def _descending(rows: np.ndarray, column: int) -> np.ndarray:
    """The rows in descending order of one column."""
    order = np.argsort(-rows[:, column], kind="stable")
    return rows[order]


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
            added_width = end - widths[step - 1]
            added_height = height - heights[step]
            area += added_width * added_height
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
      point_sets: one array ``[N_s, d]`` per seed. To compare methods, give all of them the same
        number of runs: more runs have more volume.
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

    A set attains z if one of its points is ``<= z`` in both coordinates. Let k be the smallest
    count of sets that is ``>= level n``. Then the surface ``y(x)`` is the k-th smallest, over sets,
    of ``min { p_2 : p_1 <= x }``.

    Args:
      point_sets: one array ``[N_s, 2]`` per seed.
      level: in (0, 1]. 0.5 is the median surface, 1 what every seed attains, 1/n what the best one
        does.

    Returns:
      ``[M, 2]`` corners of the staircase, the first coordinate rising. ``[0, 2]`` if nothing is
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
    all_x = np.concatenate([front[:, 0] for front in fronts])
    x = np.unique(all_x)
    lowest_sx = np.stack([_lowest_up_to(x, front) for front in fronts])
    # without the small number, rounding makes four sets of 3/10 of ten sets
    k = math.ceil(level * len(fronts) - 1e-9)
    ascending_sx = np.sort(lowest_sx, axis=0)
    surface = ascending_sx[k - 1]
    surface_before = np.append(np.inf, surface)[:-1]
    corner = surface < surface_before
    return np.stack([x[corner], surface[corner]], axis=1)


def _staircase(points: np.ndarray) -> np.ndarray:
    """Distinct front points, the first coordinate rising."""
    points = _checked(points)
    if points.shape[1] != 2:
        raise ValueError(f"expected points with two objectives, got {points.shape[1]}")
    front = points[nondominated(points)]
    return np.unique(front, axis=0)


def _lowest_up_to(x: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Second coordinate of a staircase at every x; infinity before its first point."""
    position = np.searchsorted(front[:, 0], x, side="right")
    second = np.append(np.inf, front[:, 1])
    return second[position]


def _front_index(points: np.ndarray) -> np.ndarray:
    """Finite rows on the front, by rising first objective."""
    finite = np.isfinite(points).all(axis=1)
    finite_front = nondominated(points) & finite
    index = np.flatnonzero(finite_front)
    if not len(index):
        raise ValueError(
            f"no finite point on the front of {len(points)} runs: runs failed, or a metric is not "
            f"defined. Look at the metrics of single runs"
        )
    last_to_first = points[index].T[::-1]
    order = np.lexsort(last_to_first)
    return index[order]


def knee(points: np.ndarray) -> int:
    """The front point furthest from the chord between the front's ends, towards the ideal corner.

    Both objectives are first scaled to [0, 1] over the front, which puts the ends at ``(0, 1)`` and
    ``(1, 0)``. Then ``knee = argmin x + y``. On a front that bulges the other way, or has one or
    two points, the knee is the end with the lower first objective.

    Args:
      points: ``[N, 2]``. Scaling by the range of the front makes the answer free of units.

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
    span = np.where(span > 0, span, 1.0)
    scaled = (front - front.min(axis=0)) / span
    # rounding must not make a middle point win against an end on a straight front
    total = np.round(scaled.sum(axis=1), 12)
    return int(index[np.argmin(total)])


def midpoint(points: np.ndarray) -> int:
    """The front point nearest to the middle of the *front's* interval of the first objective.

    ``argmin_i |p_i1 - (min + max) / 2|`` with min and max over the front, the lower one in a tie.

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
    front = points[_front_index(points)]
    return _nearest_to_middle(points, front[:, 0])


def midpoint_of_all(points: np.ndarray) -> int:
    """As :func:`midpoint`, with the interval of all runs without NaN or infinity."""
    points = _checked(points)
    finite = np.isfinite(points).all(axis=1)
    return _nearest_to_middle(points, points[finite, 0])


def _nearest_to_middle(points: np.ndarray, interval: np.ndarray) -> int:
    """The front point whose first objective is nearest to the middle of an interval's values."""
    index = _front_index(points)
    middle = (interval.min() + interval.max()) / 2.0
    distance = np.abs(points[index, 0] - middle)
    return int(index[np.argmin(distance)])
