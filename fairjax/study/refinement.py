"""New points of a method where its frontier is thin, from the runs that it has."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np

from fairjax.core.types import Range
from fairjax.metrics.frontier import nondominated

_GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, never fall on one another


def refined(
    space: Mapping[str, Range],
    hparams: Mapping[str, np.ndarray],
    objectives: np.ndarray,
    count: int,
    turn: int,
) -> dict[str, np.ndarray]:
    """Hyper-parameters of new points between neighbours of a frontier.

    Two neighbours span a rectangle: what a point between them may add to the volume that the
    frontier dominates. The new points go to the largest rectangles, k points to one of area A as
    long as ``A / k`` is the largest. Their hyper-parameters lie between those of the neighbours,
    evenly, on the scale of each range, so that weights on a simplex stay there.

    Args:
      space: the ranges of the hyper-parameters.
      hparams: of the points so far, ``[L, ...]`` each.
      objectives: ``[L, 2]``, both minimised; a point with a value that is not finite is left out.
      count: of new points, at least 1.
      turn: 1, 2, ... in the order of the calls: it moves the points, so that two turns which look
        at the same neighbours do not try the same point.

    Returns:
      Arrays ``[count, ...]``, float32; of no point where the frontier has fewer than two.
    """
    known = np.flatnonzero(np.isfinite(objectives).all(axis=1))
    front = known[nondominated(objectives[known])] if len(known) else known
    _, distinct = np.unique(objectives[front], axis=0, return_index=True)
    front = front[distinct]  # ascending in the first objective
    if len(front) < 2:
        return {name: values[:0] for name, values in hparams.items()}
    sides = np.abs(np.diff(objectives[front], axis=0))
    gaps = [(-area, 1, i) for i, area in enumerate(np.prod(sides, axis=1))]
    heapq.heapify(gaps)
    points_in = np.zeros(len(sides), int)
    for _ in range(count):
        shrunk, points, i = heapq.heappop(gaps)
        points_in[i] = points
        heapq.heappush(gaps, (shrunk * points / (points + 1), points + 1, i))
    left = np.repeat(np.arange(len(sides)), points_in)
    place = np.concatenate([np.arange(points) for points in points_in])
    offset = (turn * _GOLDEN) % 1
    share = (place + offset) / points_in[left]
    return {
        name: _between(space[name], values[front[left]], values[front[left + 1]], share)
        for name, values in hparams.items()
    }


def _between(interval: Range, first: np.ndarray, second: np.ndarray, share: np.ndarray):
    """Values a share of the way from the first to the second, on the scale of the range."""
    share = share.reshape(-1, *(1,) * (first.ndim - 1))
    if interval.low is not None and interval.log:
        return np.float32(first * (second / first) ** share)
    return np.float32(first + share * (second - first))
