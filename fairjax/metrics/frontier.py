"""The frontier of a set of runs: who is not dominated, how much is dominated, and which point stands for it.

In: numpy points ``[N, d]``, every column to be minimised (negate what should be large). Out: numpy. A row with a NaN is
a run that failed: it is on no front and dominates nothing.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np

from fairjax.metrics._bootstrap import Interval, interval_over_seeds


def nondominated(points: np.ndarray) -> np.ndarray:
    """Rows that no other row dominates: ``a`` dominates ``b`` if ``a <= b`` everywhere and ``a < b`` somewhere.

    Equal rows do not dominate each other: all copies of a front point are kept. O(N log N) for d <= 2, otherwise
    O(N F) for a front of F rows.

    Args:
      points: ``[N, d]``.

    Returns:
      ``[N]`` of bool.

    Source: Kung, Luccio and Preparata, "On finding the maxima of a set of vectors", J. ACM 22, 1975 (d = 2).
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
    first, second = points[:, 0], points[:, -1]  # the same column twice when d = 1
    order = np.lexsort((second, first))
    x, y = first[order], second[order]
    fresh = np.append(True, x[1:] != x[:-1])[: len(x)]
    column = np.cumsum(fresh) - 1
    low = y[fresh]  # lowest y of every distinct x
    before = np.append(np.inf, np.minimum.accumulate(low))[: len(low)]
    # y = inf at the lowest x is beaten by nothing, hence the second clause
    beaten = (low >= before) & (np.arange(len(low)) > 0)
    front = np.zeros(len(x), bool)
    front[order] = (y == low[column]) & ~beaten[column]
    return front


def _front(points: np.ndarray) -> np.ndarray:
    # by sum, then lexicographically: whoever dominates a row stands before it, rounding of the sum included
    # (clipped: infinities of both signs have no sum)
    left = np.lexsort((*points.T[::-1], np.clip(points, -1e300, 1e300).sum(axis=1)))
    front = np.zeros(len(points), bool)
    while len(left):
        best = points[left[0]]
        front[left[0]] = True
        rest = points[left[1:]]
        left = left[1:][(rest < best).any(axis=1) | (rest == best).all(axis=1)]
    return front


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Volume of what the points dominate within the reference, ``vol(union_i [p_i, reference])``.

    Exact in two to four dimensions (one as well): a sweep over the last coordinate with a staircase in the first two;
    O(N log N) for d = 2, at most O(N^2) for d = 3, O(N^3) for d = 4.

    Args:
      points: ``[N, d]``; those not below the reference in every coordinate add nothing.
      reference: ``[d]``, finite.

    Raises:
      ValueError: d is above 4, or the shapes disagree.

    Source: Zitzler and Thiele, PPSN 1998; dimension sweep: Fonseca, Paquete and Lopez-Ibanez, CEC 2006.
    """
    points, reference = _checked(points), np.asarray(reference, float)
    if (
        reference.shape != points.shape[1:]
        or points.shape[1] > 4
        or not np.isfinite(reference).all()
    ):
        raise ValueError(
            f"hypervolume: expected a finite reference for 1 to 4 objectives, got reference {reference} "
            f"for points {points.shape}"
        )
    inside = points[(points < reference).all(axis=1)]  # NaN compares false
    depths = reference - inside[nondominated(inside)]
    return _volume(depths)


def _volume(depths: np.ndarray) -> float:
    """Volume of the union of boxes from the origin to every row of ``depths`` (larger reaches further)."""
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
    return float(sum(_volume(depths[: i + 1, :-1]) * t for i, t in enumerate(thickness) if t > 0))


def _areas(depths: np.ndarray) -> list[float]:
    """Area of the union of the first 1, 2, ... rectangles, each added to a staircase that is kept sorted."""
    widths, heights, area, areas = [0.0, math.inf], [math.inf, 0.0], 0.0, []
    for width, height in depths.tolist():
        step = right = bisect.bisect_left(widths, width)
        end = width
        # leftwards over the steps lower than the new rectangle, adding what it has above each
        while heights[step] < height:
            area += (end - widths[step - 1]) * (height - heights[step])
            end, step = widths[step - 1], step - 1
        if step < right:
            covered = right + (widths[right] == width)
            widths[step + 1 : covered], heights[step + 1 : covered] = [width], [height]
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
      point_sets: one array ``[N_s, d]`` per seed, of equal size if methods are to be compared: more runs, more volume.
      reference: ``[d]``.
      draws: number of resamples.
      level: coverage.

    Returns:
      Interval of floats.
    """
    volumes = np.array([hypervolume(points, reference) for points in point_sets])
    return interval_over_seeds(rng, volumes, draws, level)


def attainment(point_sets: Sequence[np.ndarray], level: float = 0.5) -> np.ndarray:
    """Boundary of what at least a share ``level`` of the sets attain: the empirical attainment surface, in 2-D.

    A set attains z if one of its points is ``<= z`` in both coordinates. With k the smallest count of sets that is
    ``>= level n``, the surface is ``y(x) = k-th smallest over sets of min { p_2 : p_1 <= x }``.

    Args:
      point_sets: one array ``[N_s, 2]`` per seed.
      level: in (0, 1]; 0.5 is the median surface, 1 what every seed attains, 1/n what the best one does.

    Returns:
      ``[M, 2]`` corners of the staircase, the first coordinate rising; ``[0, 2]`` if nothing is attained that often.

    Raises:
      ValueError: no sets, not two objectives, or level outside (0, 1].

    Source: Fonseca, Guerreiro, Lopez-Ibanez and Paquete, "On the computation of the empirical attainment function",
    EMO 2011.
    """
    if not len(point_sets) or not 0.0 < level <= 1.0:
        raise ValueError(
            f"attainment: expected some sets and a level in (0, 1], got {len(point_sets)} and {level}"
        )
    fronts = [_staircase(points) for points in point_sets]
    xs = np.unique(np.concatenate([front[:, 0] for front in fronts]))
    # one column per set: the lowest second objective reached by each x, inf before the set's first point
    reach = np.stack(
        [np.append(np.inf, f[:, 1])[np.searchsorted(f[:, 0], xs, side="right")] for f in fronts]
    )
    # the guard keeps 3/10 of ten sets at three of them
    k = math.ceil(level * len(fronts) - 1e-9)
    surface = np.sort(reach, axis=0)[k - 1]
    corner = surface < np.append(np.inf, surface)[: len(surface)]
    return np.stack([xs[corner], surface[corner]], axis=1)


def _staircase(points: np.ndarray) -> np.ndarray:
    points = _checked(points)
    if points.shape[1] != 2:
        raise ValueError(f"expected points with two objectives, got {points.shape[1]}")
    return np.unique(points[nondominated(points)], axis=0)


def _front_index(points: np.ndarray) -> np.ndarray:
    """Finite rows on the front, by rising first objective."""
    index = np.flatnonzero(nondominated(points) & np.isfinite(points).all(axis=1))
    if not len(index):
        raise ValueError(
            f"no finite point on the front of {len(points)}: runs failed, or a metric is not defined"
        )
    return index[np.lexsort(points[index].T[::-1])]


def knee(points: np.ndarray) -> int:
    """The front point that lies furthest towards the ideal corner from the chord between the front's two ends.

    Both objectives are first scaled to [0, 1] over the front, which puts the ends at (0, 1) and (1, 0); then
    ``knee = argmin x + y``. On a front that bulges the other way, or of one or two points, it is the end with the lower
    first objective.

    Args:
      points: ``[N, 2]``; scaling by the range of the front makes the answer free of units.

    Returns:
      Row number.

    Raises:
      ValueError: not two objectives, or no finite row.

    Source: Das, "On characterizing the knee of the Pareto curve based on normal-boundary intersection", 1999.
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


def select(
    rule: str,
    error: np.ndarray,
    *,
    auxiliary: np.ndarray | None = None,
    target: np.ndarray | None = None,
) -> int:
    """Which of L models to take, by what is known of validation rows.

    ``"utility"``: the lowest error of the target task; needs its labels alone. ``"pareto_aux"`` and ``"pareto_target"``: the
    :func:`knee` of error against the unfairness of the auxiliary task, or of the target itself; they need the demographics of
    that task's validation rows.

    Args:
      rule: one of the three.
      error: ``[L]`` of the target task.
      auxiliary: ``[L]`` unfairness of the auxiliary task.
      target: ``[L]`` unfairness of the target task.

    Returns:
      Position of the model; the first one in a tie.

    Raises:
      ValueError: another rule, or what it needs is missing.
    """
    needed = {"utility": np.zeros(len(error)), "pareto_aux": auxiliary, "pareto_target": target}
    if rule not in needed:
        raise ValueError(f"rule {rule!r} is not one of {', '.join(needed)}")
    if needed[rule] is None:
        task = rule.removeprefix("pareto_").replace("aux", "auxiliary")
        raise ValueError(
            f"{rule} looks at the unfairness of the {task} task on validation rows: give {task}="
        )
    return knee(np.stack([error, needed[rule]], axis=1))


def midpoint(points: np.ndarray) -> int:
    """The front point whose first objective is nearest to the middle of the *front's* interval of it.

    ``argmin_i |p_i1 - (min + max) / 2|`` with min and max over the front; the lower one in a tie.

    Args:
      points: ``[N, d]``, the first column being ARE.

    Returns:
      Row number.

    Raises:
      ValueError: no finite row.

    Source: Wang et al., KDD 2021, Table 3. The paper takes the interval "from all runs" (:func:`midpoint_of_all`), but
    its numbers look like the front's own interval, which collapsed runs cannot move.
    """
    points = _checked(points)
    return _nearest(points, points[_front_index(points), 0])


def midpoint_of_all(points: np.ndarray) -> int:
    """As :func:`midpoint`, with the middle of the interval over all runs without NaN or infinity."""
    points = _checked(points)
    return _nearest(points, points[np.isfinite(points).all(axis=1), 0])


def _nearest(points: np.ndarray, interval: np.ndarray) -> int:
    index = _front_index(points)
    middle = (interval.min() + interval.max()) / 2.0
    return int(index[np.argmin(np.abs(points[index, 0] - middle))])
