"""Disaggregated tables: every statistic of every task in every group, and in crossed groups, with counts and intervals.

In: scores and a data set. Out: a tidy :class:`GroupTable` on the host. All statistics are fractions of sums over rows, so
all of them, in all groups and in a few resamples at a time, are one matrix product.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.losses import against_rest, probabilities
from fairjax.masked import keep
from fairjax.notions import everyone, known, negatives, positives, statistics
from fairjax.objectives import crossed
from fairjax.types import Array, Dataset, Spec, Task

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


def group_table(spec: Spec, scores: Array, data: Dataset, rng: np.random.Generator | None = None, *,
                thresholds: Sequence[float | None] | None = None, cross: Sequence[Sequence[str]] = (), minimum: float = 1.0,
                draws: int = 200, level: float = 0.95) -> GroupTable:
    """Every statistic in every group.

    Args:
      spec: names tasks, attributes and levels.
      scores: ``[N, C]`` logits, or predictions of a regression.
      data: the rows they belong to; missing labels and unknown demographics are left out where they are needed.
      rng: for the resampling (Poisson counts of rows, as :func:`fairjax.metrics.bootstrap`); None for no intervals.
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
        raise ValueError(f"group_table: expected scores [{len(weight)}, {sum(t.score_width for t in spec.tasks)}], got "
                         f"{scores.shape}; were they made with another spec?")
    if np.isnan(scores[weight > 0]).any():
        raise ValueError(f"group_table: {int(np.isnan(scores[weight > 0]).any(axis=1).sum())} rows have a score that is NaN")
    blocks, left_out = _blocks(spec, data, cross, minimum)
    member = jnp.asarray(np.concatenate([b for _, _, b in blocks] + [np.ones((len(weight), 1), np.float32)], axis=1))
    names, made = _columns(spec, scores, data, thresholds)
    sums = jax.jit(_sums)
    total = np.asarray(sums(jnp.ones((1, len(weight))), member, made))[0]
    drawn = [] if rng is None else [
        np.asarray(sums(jnp.asarray(rng.poisson(1.0, (TOGETHER, len(weight))), jnp.float32), member, made))
        for _ in range(-(-draws // TOGETHER))]
    value, low, high = _values(total), None, None
    if drawn:
        many = _values(np.concatenate(drawn)[:draws])
        low, high = _ends(many, level)
    return GroupTable(_tidy(names, blocks, total[..., 2], value, low, high, many if drawn else None, level), left_out)


def _sums(counts: Array, member: Array, columns: Array) -> Array:
    """``[b, G, U, 3]``: above, below and rows of every column U in every group and resample."""
    b, n = counts.shape
    weights = (counts.T[:, :, None] * member[:, None, :]).reshape(n, -1)
    return jnp.matmul(weights.T, columns.reshape(n, -1), precision=jax.lax.Precision.HIGHEST).reshape(
        b, member.shape[1], *columns.shape[1:])


def _columns(spec: Spec, scores: np.ndarray, data: Dataset, thresholds) -> tuple[list[tuple[str, str]], Array]:
    """Names (task, statistic) and per row what its fraction has above, below, and the row's weight: ``[N, U, 3]``."""
    names, made = [], []
    scores = jnp.where(jnp.asarray(data.weight)[:, None] > 0, scores, 0.0)
    for t, task in enumerate(spec.tasks):
        prob, (label, mask) = probabilities(spec, scores)[t], against_rest(spec, t, data.labels, data.label_mask)
        decision = _decide(task, scores[:, spec.score_slice(t)], None if thresholds is None else thresholds[t])
        if task.kind == "regression":
            prob, label = task.in_units(prob), task.in_units(label)
        for u in range(prob.shape[1]):
            shown = task.name if prob.shape[1] == 1 else f"{task.name}={task.levels[u]}"
            for name, (statistic, condition, soft) in (OF_NUMBERS if task.kind == "regression" else OF_CLASSES).items():
                w = data.weight * condition(keep(label[:, u], mask[:, u]), mask[:, u])
                p = keep(prob[:, u] if soft else decision[:, u], w)
                y = keep(label[:, u], w) if statistic.labelled else jnp.zeros_like(p)
                made.append(jnp.stack([w * statistic.above(p, y), w * statistic.below(p, y), w], axis=1))
                names.append((shown, name))
    return names, jnp.stack(made, axis=1)


def _decide(task: Task, scores: Array, threshold: float | None) -> Array:
    if task.kind == "multiclass":
        return jax.nn.one_hot(jnp.argmax(scores, axis=1), scores.shape[1])
    return (scores >= (0.0 if threshold is None else threshold)).astype(jnp.float32)


def _blocks(spec: Spec, data: Dataset, cross, minimum: float) -> tuple[list[tuple[str, list[str], np.ndarray]], dict]:
    """Per attribute or crossing: its name, its levels and membership ``[N, G]`` of those with enough rows; and the others."""
    where, blocks, left_out = {a.name: i for i, a in enumerate(spec.attributes)}, [], {}
    left_out |= {f"{a.name} (a number)": float(np.asarray(data.weight) @ np.asarray(data.groups[:, spec.group_slice(i).start]))
                 for i, a in enumerate(spec.attributes) if a.number}
    for names in [(a.name,) for a in spec.attributes if not a.number] + [tuple(c) for c in cross]:
        if lacking := [name for name in names if name not in where]:
            raise ValueError(f"group_table: attribute {lacking[0]!r} is not one of {', '.join(where)}")
        member = np.asarray(crossed(spec, jnp.asarray(data.groups), [where[name] for name in names]))
        levels = [" & ".join(pair) for pair in itertools.product(*(spec.attributes[where[name]].levels for name in names))]
        mass, shown = np.asarray(data.weight) @ member, " & ".join(names)
        enough = mass >= max(minimum, np.finfo(np.float32).tiny)
        left_out |= {f"{shown}={level}": float(m) for level, m, kept in zip(levels, mass, enough, strict=True) if not kept}
        blocks.append((shown, [v for v, kept in zip(levels, enough, strict=True) if kept], member[:, enough]))
    return blocks, left_out


def _values(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)


def _ends(drawn: np.ndarray, level: float) -> np.ndarray:
    """Lower and upper end over the leading axis; NaN where a resample has no value."""
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _tidy(names, blocks, count, value, low, high, drawn, level) -> dict[str, np.ndarray]:
    out = {name: [] for name in ("task", "attribute", "group", "statistic", "count", "value", "low", "high")}
    nothing = np.full(value.shape[-1], np.nan)

    def add(attribute: str, group: str, *numbers: np.ndarray) -> None:
        out["task"] += [task for task, _ in names]
        out["statistic"] += [statistic for _, statistic in names]
        out["attribute"] += [attribute] * len(names)
        out["group"] += [group] * len(names)
        for name, one in zip(("count", "value", "low", "high"), numbers, strict=True):
            out[name].append(one)

    def at(g: int) -> tuple:
        return count[g], value[g], nothing if low is None else low[g], nothing if high is None else high[g]

    add("", OVERALL, *at(-1))
    begin = 0
    for attribute, levels, _ in blocks:
        block = slice(begin, begin + len(levels))
        for g, group in zip(range(block.start, block.stop), levels, strict=True):
            add(attribute, group, *at(g))
        ends = (nothing, nothing) if drawn is None or len(levels) < 2 else _ends(_difference(drawn[:, block]), level)
        add(attribute, "difference", count[block].sum(axis=0), _difference(value[None, block])[0], *ends)
        begin = block.stop
    return {name: np.concatenate(v) if name in ("count", "value", "low", "high") else np.array(v) for name, v in out.items()}


def _difference(value: np.ndarray) -> np.ndarray:
    """Largest less smallest over groups ``[..., G, U]`` that have a value; NaN for fewer than two."""
    if value.shape[-2] < 2:
        return np.full((value.shape[0], value.shape[-1]), np.nan)
    top, bottom = np.where(np.isnan(value), -np.inf, value).max(axis=-2), np.where(np.isnan(value), np.inf, value).min(axis=-2)
    with np.errstate(invalid="ignore"):
        return np.where((~np.isnan(value)).sum(axis=-2) >= 2, top - bottom, np.nan)
