"""How well a feature alone predicts a task: an AUC, or a rank correlation for a regression."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fairjax.core.types import Task

LEAST = 10  # rows of a class, and of the other classes, that an AUC needs
_LEAST_COPIED = 5  # rows of every class of a copy
_BINS = 50  # of a number that is taken as levels
_MARGIN = 0.02  # by which the levels of a number must be better than the number


class Feature(NamedTuple):
    """A feature of ``n`` rows, as places among its values."""

    name: str
    place: np.ndarray  # [n] of the value among the sorted values, or of the level
    is_missing: np.ndarray  # [n] bool
    is_ordered: bool  # the values are numbers


class Alone(NamedTuple):
    """How well a feature alone predicts a task."""

    task: str = ""
    measure: str = "AUC"
    score: float = 0.0  # 0: it is not known
    rows: int = 0  # that were measured
    is_copy: bool = False  # every value of the feature is a class of its own

    @property
    def strength(self) -> float:
        """From 0, chance, to 1, perfect."""
        return 2 * self.score - 1 if self.measure == "AUC" else self.score


def number_feature(name: str, value: np.ndarray) -> Feature:
    """A feature of numbers ``[n]``, NaN where it is missing."""
    is_missing = np.isnan(value)
    _, place = np.unique(np.where(is_missing, 0.0, value), return_inverse=True)
    return Feature(name, place, is_missing, True)


def auc(score: np.ndarray, truth: np.ndarray) -> float:
    """AUC of scores ``[n]`` for truth values ``[n]``; equal scores count half."""
    _, place = np.unique(score, return_inverse=True)
    return _auc_of_places(place, truth)


def _auc_of_places(place: np.ndarray, truth: np.ndarray) -> float:
    positive = np.bincount(place, truth)
    negative = np.bincount(place) - positive
    pairs = positive.sum() * negative.sum()
    return float((positive * _below(negative)).sum() / pairs)


def _below(count: np.ndarray) -> np.ndarray:
    """How many of the counted lie below each place, of those at it half."""
    return np.cumsum(count) - count / 2


def alone(
    feature: Feature, task: Task, label: np.ndarray, is_known: np.ndarray, is_train: np.ndarray
) -> Alone:
    """How well a feature alone predicts a task.

    A number predicts upwards or downwards. A level predicts by its mean label in training rows,
    which is measured on the other rows. A number that is cut into 50 levels counts where it is
    clearly better so. Of several classes the worst one counts.

    Args:
        feature: of n rows.
        task: its kind is binary, multiclass or regression.
        label: ``[n]``.
        is_known: ``[n]`` bool, whether the label is known.
        is_train: ``[n]`` bool, whether the row is a training row.
    """
    # a missing level predicts as other levels do
    used = is_known & ~feature.is_missing if feature.is_ordered else is_known
    place = feature.place[used]
    label = label[used]
    is_train = is_train[used]
    ordered = feature.is_ordered
    if task.kind == "regression":
        score, rows = _best(place, label, is_train, ordered, _correlation)
        return Alone(task.name, "rank correlation", score, rows)
    sizes = np.bincount(label.astype(int))
    classes = np.flatnonzero(sizes)
    sizes = sizes[classes]
    if task.kind == "binary":
        classes = classes[-1:]
    each = [_best(place, label == one, is_train, ordered, _class_auc) for one in classes]
    score, rows = min((pair for pair in each if pair[1]), default=(0.0, 0))
    is_copy = len(sizes) > 1 and sizes.min() >= _LEAST_COPIED and _is_one_to_one(place, label)
    if is_copy:
        return Alone(task.name, "AUC", 1.0, len(label), True)
    return Alone(task.name, "AUC", score, rows)


def _best(place, label, is_train, ordered: bool, measure) -> tuple[float, int]:
    """The best score of the two predictions, and its rows; zeros where nothing is measured."""
    if not is_train.any():
        return 0.0, 0
    levels = _cut(place) if ordered else place
    mean = _level_means(levels, label, is_train)
    _, place_of_level = np.unique(mean, return_inverse=True)
    of_levels = measure(place_of_level[levels[~is_train]], label[~is_train])
    if not ordered:
        return of_levels
    score, rows = measure(place, label)
    # a falling prediction of a class has an AUC below one half
    falling = 1 - score if measure is _class_auc and rows else score
    of_numbers = (max(score, falling), rows)
    return of_levels if of_levels[0] > of_numbers[0] + _MARGIN else of_numbers


def _cut(place: np.ndarray) -> np.ndarray:
    """Places as parts of about equal size, if there are many."""
    count = np.bincount(place)
    if len(count) <= _BINS:
        return place
    below = np.cumsum(count) - count
    return (below * _BINS // len(place))[place]


def _level_means(level: np.ndarray, label: np.ndarray, is_train: np.ndarray) -> np.ndarray:
    """The mean label of every level in training rows; that of all rows for a level without any."""
    size = level.max(initial=0) + 1
    count = np.bincount(level[is_train], minlength=size)
    total = np.bincount(level[is_train], label[is_train], minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), label[is_train].mean())


def _class_auc(place: np.ndarray, truth: np.ndarray) -> tuple[float, int]:
    positives = int(truth.sum())
    if min(positives, len(truth) - positives) < LEAST:
        return 0.0, 0
    return _auc_of_places(place, truth), len(truth)


def _correlation(place: np.ndarray, label: np.ndarray) -> tuple[float, int]:
    """The size of Spearman's rank correlation."""
    if len(place) < 2 * LEAST or np.ptp(place) == 0 or np.ptp(label) == 0:
        return 0.0, 0
    _, place_of_label = np.unique(label, return_inverse=True)
    ranks = (_below(np.bincount(of_row))[of_row] for of_row in (place, place_of_label))
    # sums, because threads of a matrix product cost more than they save here
    x, y = (rank - rank.mean() for rank in ranks)
    correlation = (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())
    return float(abs(correlation)), len(place)


def _is_one_to_one(place: np.ndarray, label: np.ndarray) -> bool:
    """Whether every value belongs to one class, and every class to one value."""
    code = label.astype(int)
    values = np.count_nonzero(np.bincount(place))
    classes = np.count_nonzero(np.bincount(code))
    if values != classes:
        return False
    pairs = np.unique(place * (code.max() + 1) + code)
    return len(pairs) == classes
