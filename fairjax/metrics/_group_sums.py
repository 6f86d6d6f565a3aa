"""Statistics of groups as ratios of sums over rows: one matrix product gives all of them.

The product runs over all groups and a few resamples at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.decisions import chosen
from fairjax.core.masked import keep
from fairjax.core.types import Array, Dataset, Spec, Task
from fairjax.losses import against_rest, probabilities
from fairjax.metrics._group_areas import ScoreColumn
from fairjax.notions import everyone, known, negatives, positives, statistics

BINS = 10  # of the calibration error, of equal width


class Measured(NamedTuple):
    """A statistic, the rows that it is measured on, and its input."""

    statistic: statistics.Statistic
    rows: Callable[[Array, Array], Array]  # a condition of fairjax.notions
    on_probabilities: bool  # else on decisions


OF_CLASSES = {
    "selection_rate": Measured(statistics.selection_rate, everyone, False),
    "true_positive_rate": Measured(statistics.selection_rate, positives, False),
    "false_positive_rate": Measured(statistics.selection_rate, negatives, False),
    "precision": Measured(statistics.precision, known, False),
    "false_omission_rate": Measured(statistics.false_omission_rate, known, False),
    "accuracy": Measured(statistics.accuracy, known, False),
    "f_score": Measured(statistics.f_score, known, False),
    "treatment": Measured(statistics.treatment, known, False),
    "mean_probability": Measured(statistics.selection_rate, everyone, True),
    "calibration_in_the_large": Measured(statistics.calibration_in_the_large, known, True),
    "log_loss": Measured(statistics.log_loss, known, True),
}
OF_NUMBERS = {
    "mean_prediction": Measured(statistics.mean_prediction, everyone, True),
    "mean_residual": Measured(statistics.mean_residual, known, True),
    "mean_absolute_error": Measured(statistics.absolute_loss, known, True),
    "mean_squared_error": Measured(statistics.squared_loss, known, True),
}
# tasks of classes also have these two, after the others
CALIBRATION = "calibration_error"
AREA = "auc"


class Part(NamedTuple):
    """A statistic of a task or of one class of it, and the columns of its sums."""

    task: str
    statistic: str
    above: tuple[int, ...]  # the numerator; of several sums the absolute values; () for an area
    below: int  # the denominator
    count: int  # weight of its rows


class Columns:
    """Collects columns ``[N]`` whose sums over rows are wanted."""

    def __init__(self) -> None:
        self.columns: list[Array] = []

    def add(self, column: Array) -> int:
        """Keep a column; return its position."""
        self.columns.append(column)
        return len(self.columns) - 1

    def stacked(self) -> Array:
        """``[N, M]``."""
        return jnp.stack(self.columns, axis=1)


class _Output(NamedTuple):
    """One task of numbers, or one class or label against the rest; all ``[N]``."""

    name: str
    prob: Array
    decision: Array
    label: Array
    mask: Array
    weight: Array


def group_statistics(
    spec: Spec,
    scores: np.ndarray,
    data: Dataset,
    thresholds: Sequence[float | None] | None,
) -> tuple[list[Part], Array, list[ScoreColumn]]:
    """Statistics of all tasks, the columns ``[N, M]`` of their sums, and the columns of areas."""
    if thresholds is None:
        thresholds = [None] * len(spec.tasks)
    threshold_t = np.array([0.0 if one is None else one for one in thresholds], scores.dtype)
    program, parts = _program(spec)
    columns, ordered = program(scores, data._replace(x=()), threshold_t)
    return parts, columns, [ScoreColumn(*map(np.asarray, column)) for column in ordered]


@functools.lru_cache(maxsize=16)
def _program(spec: Spec) -> tuple[Callable[..., Any], list[Part]]:
    """The columns of :func:`group_statistics`, compiled once, and its parts once they have run."""
    parts: list[Part] = []

    @jax.jit
    def columns(
        scores: Array, data: Dataset, threshold_t: Array
    ) -> tuple[Array, list[tuple[Array, ...]]]:
        found, stacked, ordered = _statistics(spec, scores, data, threshold_t)
        parts[:] = found
        return stacked, ordered

    return columns, parts


def _statistics(
    spec: Spec, scores: Array, data: Dataset, threshold_t: Array
) -> tuple[list[Part], Array, list[tuple[Array, ...]]]:
    parts: list[Part] = []
    columns = Columns()
    ordered: list[tuple[Array, ...]] = []
    weight = data.weight[:, None]
    counted = jnp.where(weight > 0, scores, 0.0)
    task_probs = probabilities(spec, counted)
    for t, task in enumerate(spec.tasks):
        task_scores = counted[:, spec.score_slice(t)]
        outputs = _outputs(spec, t, task_probs[t], task_scores, data, threshold_t[t])
        for u, output in enumerate(outputs):
            if task.kind == "regression":
                parts += _ratios(output, OF_NUMBERS, columns)
                continue
            parts += _ratios(output, OF_CLASSES, columns)
            weight = output.weight * output.mask
            prob = keep(output.prob, weight)
            label = keep(output.label, weight)
            parts += _calibration_and_area(output.name, prob, label, weight, columns)
            # scores of two rows of a multiclass task are not comparable, their probabilities are
            score = prob if task.kind == "multiclass" else task_scores[:, u]
            ordered.append((score, label, weight))
    return parts, columns.stacked(), ordered


def _outputs(
    spec: Spec,
    t: int,
    prob: Array,
    scores: Array,
    data: Dataset,
    threshold: Array,
) -> list[_Output]:
    """Outputs of task ``t``: its one column, or every class or label against the rest."""
    task = spec.tasks[t]
    label, mask = against_rest(spec, t, data.labels, data.label_mask)
    decision = _decide(task, scores, threshold)
    if task.kind == "regression":
        prob = task.in_units(prob)
        label = task.in_units(label)
    width = prob.shape[1]
    names = [task.name]
    if width > 1 or task.is_vector:
        names = [f"{task.name}={level}" for level in task.levels]
    return [
        _Output(
            name=names[u],
            prob=prob[:, u],
            decision=decision[:, u],
            label=label[:, u],
            mask=mask[:, u],
            weight=data.weight,
        )
        for u in range(width)
    ]


def _decide(task: Task, scores: Array, threshold: Array) -> Array:
    if task.kind == "multiclass":
        return chosen(scores)
    selected = scores >= threshold
    return selected.astype(jnp.float32)


def _ratios(output: _Output, table: dict[str, Measured], columns: Columns) -> list[Part]:
    """The table's statistics of one output. Rows of a condition are one column for all of them."""
    label_or_zero = keep(output.label, output.mask)
    counts = {}  # position of the weight of every condition's rows
    parts = []
    for name, (statistic, rows, on_probabilities) in table.items():
        weight = output.weight * rows(label_or_zero, output.mask)
        value = output.prob if on_probabilities else output.decision
        value = keep(value, weight)
        label = jnp.zeros_like(value)
        if statistic.labelled:
            label = keep(output.label, weight)
        if rows not in counts:
            counts[rows] = columns.add(weight)
        count = counts[rows]
        below = count
        if statistic.below is not statistics.unit:
            denominator = weight * statistic.below(value, label)
            below = columns.add(denominator)
        numerator = weight * statistic.above(value, label)
        above = columns.add(numerator)
        part = Part(output.name, name, (above,), below, count)
        parts.append(part)
    return parts


def _calibration_and_area(
    name: str,
    prob: Array,
    label: Array,
    weight: Array,
    columns: Columns,
) -> list[Part]:
    count = columns.add(weight)
    residual_n = weight * (prob - label)
    bin_nb = statistics.in_bins(prob, BINS)
    residual_nb = bin_nb * residual_n[:, None]
    above = tuple(columns.add(residual) for residual in residual_nb.T)
    calibration = Part(name, CALIBRATION, above, count, count)
    area = Part(name, AREA, (), count, count)
    return [calibration, area]


@jax.jit
def sums(counts: Array, member: Array, columns: Array) -> Array:
    """Sums ``[b, G, M]`` of every column in every group and resample.

    Args:
      counts: ``[b, N]``, how often a resample draws each row.
      member: ``[N, G]``.
      columns: ``[N, M]``.
    """
    draws, rows = counts.shape
    groups = member.shape[1]
    weight_nbg = counts.T[:, :, None] * member[:, None, :]
    weights = weight_nbg.reshape(rows, -1)
    product = jnp.matmul(weights.T, columns, precision=jax.lax.Precision.HIGHEST)
    return product.reshape(draws, groups, -1)


def ratios(
    sums_bgm: np.ndarray,
    area_bgu: np.ndarray,
    parts: list[Part],
) -> tuple[np.ndarray, np.ndarray]:
    """Values of all statistics and the weight of their rows, both ``[b, G, S]``.

    A value without a denominator is NaN.
    """
    above = [_numerator(sums_bgm, part) for part in parts]
    below = [part.below for part in parts]
    count = [part.count for part in parts]
    is_area = [part.statistic == AREA for part in parts]
    above_bgs = np.stack(above, axis=-1)
    below_bgs = sums_bgm[..., below]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_bgs = above_bgs / below_bgs
    value_bgs = np.where(below_bgs > 0, ratio_bgs, np.nan)
    value_bgs[..., is_area] = area_bgu
    return value_bgs, sums_bgm[..., count]


def _numerator(sums_bgm: np.ndarray, part: Part) -> np.ndarray:
    if len(part.above) == 1:
        return sums_bgm[..., part.above[0]]
    bin_sums = sums_bgm[..., list(part.above)]
    return np.abs(bin_sums).sum(axis=-1)
