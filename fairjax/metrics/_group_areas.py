"""Areas under the curve in groups and in resamples: rows are sorted once per group.

Every resample is then a cumulative sum of its counts over the sorted rows, and exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ScoreColumn(NamedTuple):
    """One task, or one class of it, whose area is measured."""

    score: np.ndarray  # [N]
    label: np.ndarray  # [N] of 0/1
    weight: np.ndarray  # [N], 0 where the label is missing


class RankedGroup(NamedTuple):
    """Rows of one group by ascending score, positives and negatives in two lists."""

    positive: np.ndarray  # [P] rows of label 1
    negative: np.ndarray  # [M] rows of label 0
    positive_weight: np.ndarray  # [P, 1]
    negative_weight: np.ndarray  # [M, 1]
    lower: np.ndarray  # [P] number of negatives with a lower score than the positive
    not_higher: np.ndarray | None  # [P] number with no higher score; None if no pair is tied


def rank_group(column: ScoreColumn, member: np.ndarray) -> RankedGroup:
    """Sort the rows of one group; ``member[N]`` is 1 for its rows."""
    weight = column.weight.astype(float) * member
    score = column.score
    counts = weight > 0
    positive = _ascending(score, counts & (column.label == 1))
    negative = _ascending(score, counts & (column.label == 0))
    lower = np.searchsorted(score[negative], score[positive], "left")
    not_higher = np.searchsorted(score[negative], score[positive], "right")
    no_tie = (lower == not_higher).all()
    return RankedGroup(
        positive=positive,
        negative=negative,
        positive_weight=weight[positive, None],
        negative_weight=weight[negative, None],
        lower=lower,
        not_higher=None if no_tie else not_higher,
    )


def _ascending(score: np.ndarray, select: np.ndarray) -> np.ndarray:
    """Numbers of the selected rows in ascending order of score."""
    rows = np.flatnonzero(select)
    order = np.argsort(score[rows])
    return rows[order]


def areas(counts: np.ndarray, groups: list[list[RankedGroup]]) -> np.ndarray:
    """Areas under the curve in every group and resample.

    ``P(s_i > s_j) + P(s_i = s_j) / 2`` for positives i and negatives j.

    Args:
      counts: ``[N, b]``, how often a resample draws each row.
      groups: U ranked columns of each of G groups.

    Returns:
      ``[b, G, U]``; NaN without positives or without negatives.
    """
    draws = counts.shape[1]
    shape = (draws, len(groups), len(groups[0]))
    area_bgu = np.zeros(shape)
    for g, columns in enumerate(groups):
        for u, ranked in enumerate(columns):
            area_bgu[:, g, u] = _area(counts, ranked)
    return area_bgu


def _area(counts: np.ndarray, ranked: RankedGroup) -> np.ndarray:
    """Area ``[b]`` of one column in one group."""
    positive_nb = counts[ranked.positive] * ranked.positive_weight
    # weight of the first 0, 1, ..., M negatives
    reached_nb = np.zeros((len(ranked.negative) + 1, counts.shape[1]))
    reached_nb[1:] = counts[ranked.negative] * ranked.negative_weight
    np.cumsum(reached_nb, axis=0, out=reached_nb)
    below_nb = reached_nb[ranked.lower]
    if ranked.not_higher is not None:
        below_nb = 0.5 * (below_nb + reached_nb[ranked.not_higher])
    won_b = np.einsum("nb,nb->b", positive_nb, below_nb)
    pairs_b = positive_nb.sum(axis=0) * reached_nb[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        area_b = won_b / pairs_b
    return np.where(pairs_b > 0, area_b, np.nan)
