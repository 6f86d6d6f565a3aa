"""Disaggregated tables: every statistic of every task in every group, and in crossed groups, with counts and intervals.

In: scores and a data set. Out: a tidy :class:`GroupTable` on the host. All statistics but one are made of sums over rows,
so all of them, in all groups and in a few resamples at a time, are one matrix product. Areas under the curve are cumulative
sums over rows that are put in order once, exact in every resample; a row is in one group of an attribute, so their cost
does not grow with groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.masked import keep
from fairjax.core.types import Array, Dataset, Spec, Task
from fairjax.losses import against_rest, probabilities
from fairjax.metrics.scores import chosen
from fairjax.notions import everyone, known, negatives, positives, statistics
from fairjax.core.groups import crossed

BINS = 10  # of the calibration error, of equal width
# name -> statistic, rows, and whether it looks at probabilities; everything else looks at decisions
OF_CLASSES = {
    "selection_rate": (statistics.selection_rate, everyone, False),
    "true_positive_rate": (statistics.selection_rate, positives, False),
    "false_positive_rate": (statistics.selection_rate, negatives, False),
    "precision": (statistics.precision, known, False),
    "false_omission_rate": (statistics.false_omission_rate, known, False),
    "accuracy": (statistics.accuracy, known, False),
    "f_score": (statistics.f_score, known, False),
    "treatment": (statistics.treatment, known, False),
    "mean_probability": (statistics.selection_rate, everyone, True),
    "calibration_in_the_large": (statistics.calibration_in_the_large, known, True),
    "log_loss": (statistics.log_loss, known, True),
}
OF_NUMBERS = {
    "mean_prediction": (statistics.mean_prediction, everyone, True),
    "mean_residual": (statistics.mean_residual, known, True),
    "mean_absolute_error": (statistics.absolute_loss, known, True),
    "mean_squared_error": (statistics.squared_loss, known, True),
}
BINNED, AREA = "calibration_error", "auc"  # of classes too, after the others
OVERALL, TOGETHER = "overall", 8  # resamples in one product


class GroupTable(NamedTuple):
    """A row per task (or class of it), group and statistic, and per attribute the largest difference between groups.

    ``columns``: ``task``, ``attribute`` (crossed ones joined by " & "), ``group`` (a level, ``overall`` or ``difference``),
    ``statistic``, ``count`` (weight of rows that its denominator rests on, before decisions), ``value``, ``low``, ``high``.
    ``left_out``: groups with fewer rows than asked for, with their counts; they are in no difference either. Attributes that
    are numbers have no groups, and are listed there too.
    """

    columns: dict[str, np.ndarray]
    left_out: dict[str, float]

    def to_pandas(self):
        """The rows as a data frame.

        Raises:
          ImportError: pandas is missing.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("a data frame needs pandas: pip install pandas") from error
        return pd.DataFrame(self.columns)


def group_table(
    spec: Spec,
    scores: Array,
    data: Dataset,
    rng: np.random.Generator | None = None,
    *,
    thresholds: Sequence[float | None] | None = None,
    cross: Sequence[Sequence[str]] = (),
    minimum: float = 1.0,
    draws: int = 200,
    level: float = 0.95,
) -> GroupTable:
    """Every statistic in every group.

    Args:
      spec: names tasks, attributes and levels.
      scores: ``[N, C]`` logits, or predictions of a regression.
      data: the rows they belong to; missing labels and unknown demographics are left out where they are needed.
      rng: for the resampling (Poisson counts of rows, as :func:`fairjax.metrics._bootstrap`); None for no intervals.
      thresholds: on the score, per binary task; default 0, probability one half.
      cross: tuples of attributes' names whose levels are crossed, beside every attribute by itself.
      minimum: groups with less weight are left out, and listed.
      draws: resamples.
      level: coverage of the percentile intervals. A difference between groups is biased upwards where there is none.

    Raises:
      ValueError: for scores of another width, a score that is NaN, or a crossed attribute that is not there or is a number.
    """
    scores = np.asarray(scores, np.float32)
    weight = np.asarray(data.weight, np.float32)
    if scores.shape != (len(weight), sum(t.score_width for t in spec.tasks)):
        raise ValueError(
            f"group_table: expected scores [{len(weight)}, {sum(t.score_width for t in spec.tasks)}], got "
            f"{scores.shape}; were they made with another spec?"
        )
    if np.isnan(scores[weight > 0]).any():
        raise ValueError(
            f"group_table: {int(np.isnan(scores[weight > 0]).any(axis=1).sum())} rows have a score that is NaN"
        )
    blocks, left_out = _blocks(spec, data, cross, minimum)
    member = np.concatenate(
        [b for _, _, b in blocks] + [np.ones((len(weight), 1), np.float32)], axis=1
    )
    parts, columns, ordered = _columns(spec, scores, data, thresholds)
    ranks = [[_rank(*one, member[:, g]) for one in ordered] for g in range(member.shape[1])]
    sums, inside = jax.jit(_sums), jnp.asarray(member)

    def values(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        made = sums(
            jnp.asarray(counts, jnp.float32), inside, columns
        )  # on its way while the host does the areas
        areas = _areas(np.ascontiguousarray(counts.T, np.float32), ranks)
        return _values(np.asarray(made), areas, parts)

    (value,), (count,) = values(np.ones((1, len(weight))))
    low = high = many = None
    if rng is not None:
        many = np.concatenate(
            [
                values(rng.poisson(1.0, (TOGETHER, len(weight))))[0]
                for _ in range(-(-draws // TOGETHER))
            ]
        )
        many = many[:draws]
        low, high = _ends(many, level)
    return GroupTable(
        _tidy([part[:2] for part in parts], blocks, count, value, low, high, many, level), left_out
    )


def _sums(counts: Array, member: Array, columns: Array) -> Array:
    """``[b, G, M]``: every column's sum in every group and resample."""
    b, n = counts.shape
    weights = (counts.T[:, :, None] * member[:, None, :]).reshape(n, -1)
    return jnp.matmul(weights.T, columns, precision=jax.lax.Precision.HIGHEST).reshape(
        b, member.shape[1], -1
    )


class _Part(NamedTuple):
    """A statistic of a task (or a class of it), and which columns its sums are; without ``above`` it is an area."""

    task: str
    statistic: str
    above: tuple[int, ...]  # of several, sizes are added up
    below: int
    count: int  # weight of its rows


def _columns(
    spec: Spec, scores: np.ndarray, data: Dataset, thresholds
) -> tuple[list[_Part], Array, list[tuple]]:
    """The statistics, the columns ``[N, M]`` that they add up, and what areas put in order: score, label, weight ``[N]``."""
    parts, made, ordered = [], [], []

    def put(*columns: Array) -> tuple[int, ...]:
        made.extend(columns)
        return tuple(range(len(made) - len(columns), len(made)))

    scores = jnp.where(jnp.asarray(data.weight)[:, None] > 0, scores, 0.0)
    for t, task in enumerate(spec.tasks):
        prob, (label, mask) = (
            probabilities(spec, scores)[t],
            against_rest(spec, t, data.labels, data.label_mask),
        )
        score, numbers = scores[:, spec.score_slice(t)], task.kind == "regression"
        decision = _decide(task, score, None if thresholds is None else thresholds[t])
        if numbers:
            prob, label = task.in_units(prob), task.in_units(label)
        for u in range(prob.shape[1]):
            shown = task.name if prob.shape[1] == 1 else f"{task.name}={task.levels[u]}"
            column = prob[:, u], decision[:, u], label[:, u], mask[:, u], data.weight
            parts += _fractions(shown, OF_NUMBERS if numbers else OF_CLASSES, put, *column)
            if not numbers:
                weight = data.weight * mask[:, u]
                p, y = keep(prob[:, u], weight), keep(label[:, u], weight)
                (rows,), off = (
                    put(weight),
                    statistics.in_bins(p, BINS) * (weight * (p - y))[:, None],
                )
                parts += [
                    _Part(shown, BINNED, put(*off.T), rows, rows),
                    _Part(shown, AREA, (), rows, rows),
                ]
                # of several classes the scores of two rows are not comparable, their probabilities are
                ordered.append(
                    tuple(
                        map(
                            np.asarray, (p if task.kind == "multiclass" else score[:, u], y, weight)
                        )
                    )
                )
    return parts, jnp.stack(made, axis=1), ordered


def _fractions(
    shown: str,
    table: dict,
    put,
    prob: Array,
    decision: Array,
    label: Array,
    mask: Array,
    weight: Array,
) -> list[_Part]:
    """The table's statistics of one column of scores; ``put`` takes columns and says where they are."""
    rows, parts = {}, []
    for name, (statistic, condition, soft) in table.items():
        w = weight * condition(keep(label, mask), mask)
        p = keep(prob if soft else decision, w)
        y = keep(label, w) if statistic.labelled else jnp.zeros_like(p)
        if condition not in rows:
            (rows[condition],) = put(w)
        below = (
            rows[condition]
            if statistic.below is statistics.one
            else put(w * statistic.below(p, y))[0]
        )
        parts.append(_Part(shown, name, put(w * statistic.above(p, y)), below, rows[condition]))
    return parts


class _Ranked(NamedTuple):
    """Rows of a group in order of their scores, positives and negatives apart."""

    up: np.ndarray  # [P] rows of label 1
    down: np.ndarray  # [M] rows of label 0
    up_weight: np.ndarray  # [P, 1]
    down_weight: np.ndarray  # [M, 1]
    beaten: np.ndarray  # [P] how many negatives score less than a positive
    tied: np.ndarray | None  # [P] and how many not more; None if no score is shared


def _rank(score: np.ndarray, label: np.ndarray, weight: np.ndarray, member: np.ndarray) -> _Ranked:
    weight = weight.astype(float) * member
    up, down = (
        rows[np.argsort(score[rows])]
        for rows in (np.flatnonzero((weight > 0) & (label == y)) for y in (1, 0))
    )
    beaten, tied = (np.searchsorted(score[down], score[up], side) for side in ("left", "right"))
    return _Ranked(
        up,
        down,
        weight[up, None],
        weight[down, None],
        beaten,
        None if (beaten == tied).all() else tied,
    )


def _areas(counts: np.ndarray, ranks: list[list[_Ranked]]) -> np.ndarray:
    """``P(s_i > s_j) + P(s_i = s_j) / 2`` of positives i and negatives j, ``[b, G, U]``, in resamples ``counts[N, b]``."""

    def one(r: _Ranked) -> np.ndarray:
        won = np.zeros((len(r.down) + 1, counts.shape[1]))
        np.cumsum(counts[r.down] * r.down_weight, axis=0, out=won[1:])
        up = counts[r.up] * r.up_weight
        beaten = won[r.beaten] if r.tied is None else 0.5 * (won[r.beaten] + won[r.tied])
        pairs = up.sum(axis=0) * won[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(pairs > 0, np.einsum("nb,nb->b", up, beaten) / pairs, np.nan)

    return np.stack(
        [
            np.stack([one(r) for r in of_group], -1) if of_group else np.zeros((counts.shape[1], 0))
            for of_group in ranks
        ],
        axis=1,
    )


def _decide(task: Task, scores: Array, threshold: float | None) -> Array:
    if task.kind == "multiclass":
        return chosen(scores)
    return (scores >= (0.0 if threshold is None else threshold)).astype(jnp.float32)


def _blocks(
    spec: Spec, data: Dataset, cross, minimum: float
) -> tuple[list[tuple[str, list[str], np.ndarray]], dict]:
    """Per attribute or crossing: its name, its levels and membership ``[N, G]`` of those with enough rows; and the others."""
    where, blocks, left_out = {a.name: i for i, a in enumerate(spec.attributes)}, [], {}
    left_out |= {
        f"{a.name} (a number)": float(
            np.asarray(data.weight) @ np.asarray(data.groups[:, spec.group_slice(i).start])
        )
        for i, a in enumerate(spec.attributes)
        if a.continuous
    }
    for names in [(a.name,) for a in spec.attributes if not a.continuous] + [
        tuple(c) for c in cross
    ]:
        if lacking := [name for name in names if name not in where]:
            raise ValueError(
                f"group_table: attribute {lacking[0]!r} is not one of {', '.join(where)}"
            )
        member = np.asarray(
            crossed(spec, jnp.asarray(data.groups), [where[name] for name in names])
        )
        levels = [
            " & ".join(pair)
            for pair in itertools.product(*(spec.attributes[where[name]].levels for name in names))
        ]
        mass, shown = np.asarray(data.weight) @ member, " & ".join(names)
        enough = mass >= max(minimum, np.finfo(np.float32).tiny)
        left_out |= {
            f"{shown}={level}": float(m)
            for level, m, kept in zip(levels, mass, enough, strict=True)
            if not kept
        }
        blocks.append(
            (shown, [v for v, kept in zip(levels, enough, strict=True) if kept], member[:, enough])
        )
    return blocks, left_out


def _values(
    sums: np.ndarray, areas: np.ndarray, parts: list[_Part]
) -> tuple[np.ndarray, np.ndarray]:
    """Values ``[b, G, S]`` of all statistics, NaN without a denominator, and the weight of the rows of each."""
    above = np.stack(
        [
            sums[..., part.above[0]]
            if len(part.above) == 1
            else np.abs(sums[..., list(part.above)]).sum(-1)
            for part in parts
        ],
        -1,
    )
    below = sums[..., [part.below for part in parts]]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(below > 0, above / below, np.nan)
    value[..., [not part.above for part in parts]] = areas
    return value, sums[..., [part.count for part in parts]]


def _ends(drawn: np.ndarray, level: float) -> np.ndarray:
    """Lower and upper end over the leading axis; NaN where a resample has no value."""
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _tidy(names, blocks, count, value, low, high, drawn, level) -> dict[str, np.ndarray]:
    out = {
        name: []
        for name in ("task", "attribute", "group", "statistic", "count", "value", "low", "high")
    }
    nothing = np.full(value.shape[-1], np.nan)

    def add(attribute: str, group: str, *numbers: np.ndarray) -> None:
        out["task"] += [task for task, _ in names]
        out["statistic"] += [statistic for _, statistic in names]
        out["attribute"] += [attribute] * len(names)
        out["group"] += [group] * len(names)
        for name, one in zip(("count", "value", "low", "high"), numbers, strict=True):
            out[name].append(one)

    def at(g: int) -> tuple:
        return (
            count[g],
            value[g],
            nothing if low is None else low[g],
            nothing if high is None else high[g],
        )

    add("", OVERALL, *at(-1))
    begin = 0
    for attribute, levels, _ in blocks:
        block = slice(begin, begin + len(levels))
        for g, group in zip(range(block.start, block.stop), levels, strict=True):
            add(attribute, group, *at(g))
        ends = (
            (nothing, nothing)
            if drawn is None or len(levels) < 2
            else _ends(_difference(drawn[:, block]), level)
        )
        add(
            attribute,
            "difference",
            count[block].sum(axis=0),
            _difference(value[None, block])[0],
            *ends,
        )
        begin = block.stop
    return {
        name: np.concatenate(v) if name in ("count", "value", "low", "high") else np.array(v)
        for name, v in out.items()
    }


def _difference(value: np.ndarray) -> np.ndarray:
    """Largest less smallest over groups ``[..., G, U]`` that have a value; NaN for fewer than two."""
    if value.shape[-2] < 2:
        return np.full((value.shape[0], value.shape[-1]), np.nan)
    top, bottom = (
        np.where(np.isnan(value), -np.inf, value).max(axis=-2),
        np.where(np.isnan(value), np.inf, value).min(axis=-2),
    )
    with np.errstate(invalid="ignore"):
        return np.where((~np.isnan(value)).sum(axis=-2) >= 2, top - bottom, np.nan)
