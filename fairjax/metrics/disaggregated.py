"""Disaggregated tables: every statistic of every task in every group, with counts and intervals.

In: scores and a data set. Out: a tidy :class:`GroupTable` on the host. Groups are those of every
attribute, and of crossed attributes. All statistics but one are ratios of sums over rows. One
matrix product gives these sums, for all groups and a few resamples at a time. The other statistic
is the area under the curve: cumulative sums over rows that are sorted once, exact in every
resample. A row is in one group of an attribute, so the cost of areas does not grow with the number
of groups.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from fairjax.core.groups import crossed
from fairjax.core.tables import Table
from fairjax.core.types import Array, Dataset, Spec
from fairjax.metrics._group_areas import areas, rank_group
from fairjax.metrics._group_sums import Part, group_statistics, ratios, sums

if TYPE_CHECKING:
    import pandas as pd

OVERALL = "overall"
DIFFERENCE = "difference"
TOGETHER = 8  # resamples in one product
LARGEST = 1e37  # of a score: single precision ends there


class GroupTable(NamedTuple):
    """A row per task (or class of it), group and statistic; per attribute the largest difference.

    Classes and labels stand alone, each against the rest; nothing is averaged over them.

    ``columns``: ``task``, ``attribute`` (crossed ones joined by " & "), ``group`` (a level,
    ``overall`` or ``difference``), ``statistic``, ``count`` (weight of the rows that it is measured
    on, before decisions), ``value``, ``low``, ``high``.

    ``left_out``: groups of fewer rows than the minimum, with their rows. No difference contains
    them. Attributes that are numbers have no groups: they are in ``left_out`` too.
    """

    columns: dict[str, np.ndarray]
    left_out: dict[str, float]

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a data frame.

        Raises:
          ImportError: pandas is missing.
        """
        return Table(self.columns).to_pandas()


class _Block(NamedTuple):
    """Groups of one attribute, or of one crossing."""

    attribute: str
    levels: list[str]  # G names
    member: np.ndarray  # [N, G]


class _Section(NamedTuple):
    """All statistics of one group, or of one difference; arrays ``[S]``."""

    attribute: str
    group: str
    count: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


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
      data: the rows of the scores. Rows without the label, or without the attribute, do not count
        where these are needed.
      rng: for resampling (Poisson counts of rows, as :func:`fairjax.metrics.bootstrap`); None for
        no intervals.
      thresholds: on the score, one per task; None is 0, probability one half. Only binary tasks
        use theirs.
      cross: tuples of names of attributes to cross; every attribute alone is in the table anyway.
      minimum: groups with fewer rows are left out, and listed. A statistic of fewer rows (of the
        group with label 1, for a true positive rate) is in no difference.
      draws: resamples.
      level: coverage of the percentile intervals. Where groups do not differ, the estimate of their
        difference is biased upwards.

    Raises:
      ValueError: scores have another shape, are NaN or too large for single precision; a weight is
        negative or not finite; thresholds are of another number of tasks, or NaN; or a crossed
        attribute is unknown or a number.
    """
    weight = np.asarray(data.weight, np.float32)
    _check_weight(weight)
    _check_scores(spec, np.asarray(scores), weight)
    _check_thresholds(spec, thresholds)
    scores = np.asarray(scores, np.float32)
    blocks, left_out = _blocks(spec, data, cross, minimum)
    rows = len(weight)
    everyone = np.ones((rows, 1), np.float32)
    members = [block.member for block in blocks]
    host_member_ng = np.concatenate([*members, everyone], axis=1)
    member_ng = jnp.asarray(host_member_ng)
    parts, columns, ordered = group_statistics(spec, scores, data, thresholds)
    ranks = []
    for member in host_member_ng.T:
        ranks.append([rank_group(column, member) for column in ordered])

    def values(counts_bn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # the device adds up while the host measures areas
        sums_bgm = sums(jnp.asarray(counts_bn, jnp.float32), member_ng, columns)
        counts_nb = np.ascontiguousarray(counts_bn.T, np.float32)
        area_bgu = areas(counts_nb, ranks)
        return ratios(np.asarray(sums_bgm), area_bgu, parts)

    once = np.ones((1, rows))
    (value,), (count,) = values(once)
    resampled = None
    if rng is not None:
        batches = []
        for _ in range(math.ceil(draws / TOGETHER)):
            counts_bn = rng.poisson(1.0, (TOGETHER, rows))
            value_bgs, _ = values(counts_bn)
            batches.append(value_bgs)
        resampled = np.concatenate(batches)[:draws]
    is_enough = _row_counts(parts, columns, host_member_ng, weight) >= minimum
    sections = _sections(blocks, count, value, is_enough, resampled, level)
    return GroupTable(_tidy(parts, sections), left_out)


def _check_weight(weight: np.ndarray) -> None:
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        raise ValueError(
            f"group_table: {bad.sum():,} of {len(weight):,} weights are negative, NaN or infinite. "
            "Give weights of at least 0; 0 leaves a row out"
        )


def _check_thresholds(spec: Spec, thresholds: Sequence[float | None] | None) -> None:
    if thresholds is None:
        return
    names = ", ".join(task.name for task in spec.tasks)
    if len(thresholds) != len(spec.tasks):
        raise ValueError(
            f"group_table: {len(thresholds)} thresholds for {len(spec.tasks)} tasks ({names}). "
            "Give one per task, None where it has none"
        )
    if any(threshold is not None and np.isnan(threshold) for threshold in thresholds):
        raise ValueError(
            f"group_table: thresholds {list(thresholds)} of {names} hold NaN. "
            "Give None for probability one half"
        )


def _check_scores(spec: Spec, scores: np.ndarray, weight: np.ndarray) -> None:
    rows = len(weight)
    width = sum(task.score_width for task in spec.tasks)
    if scores.shape != (rows, width):
        raise ValueError(
            f"group_table: expected scores [{rows}, {width}], got {scores.shape}; "
            f"were they made with another spec?"
        )
    weighted_scores = scores[weight > 0]
    has_nan = np.isnan(weighted_scores).any(axis=1)
    if has_nan.any():
        raise ValueError(
            f"group_table: {has_nan.sum()} rows have a score that is NaN. Weight 0 leaves rows out"
        )
    is_large = np.isfinite(weighted_scores) & (np.abs(weighted_scores) > LARGEST)
    if is_large.any():
        raise ValueError(
            f"group_table: {is_large.any(axis=1).sum()} rows have a score beyond {LARGEST:g}. "
            "Take a larger unit"
        )


def _blocks(
    spec: Spec,
    data: Dataset,
    cross: Sequence[Sequence[str]],
    minimum: float,
) -> tuple[list[_Block], dict[str, float]]:
    """Blocks of groups with enough rows, and the rows of what is left out."""
    left_out: dict[str, float] = {}
    counts = (np.asarray(data.weight) > 0).astype(np.float32)
    minimum = max(minimum, 1)
    combinations = []
    for i, attribute in enumerate(spec.attributes):
        if attribute.continuous:
            column = spec.group_slice(i).start
            has_number = np.asarray(data.groups[:, column])
            left_out[f"{attribute.name} (a number)"] = float(counts @ has_number)
        else:
            combinations.append((attribute.name,))
    combinations += cross
    blocks = []
    for names in combinations:
        block = _block(spec, data, names)
        rows_g = counts @ (block.member > 0)
        enough_g = rows_g >= minimum
        levels = []
        for level, rows, enough in zip(block.levels, rows_g, enough_g, strict=True):
            if enough:
                levels.append(level)
            else:
                left_out[f"{block.attribute}={level}"] = float(rows)
        member = block.member[:, enough_g]
        blocks.append(_Block(block.attribute, levels, member))
    return blocks, left_out


def _block(spec: Spec, data: Dataset, names: Sequence[str]) -> _Block:
    """All groups of one attribute, or of a crossing of several."""
    index = {attribute.name: i for i, attribute in enumerate(spec.attributes)}
    for name in names:
        if name not in index:
            raise ValueError(f"group_table: attribute {name!r} is not one of {', '.join(index)}")
    attributes = [index[name] for name in names]
    groups = jnp.asarray(data.groups)
    member = np.asarray(crossed(spec, groups, attributes))
    levels_of = [spec.attributes[i].levels for i in attributes]
    levels = [" & ".join(combination) for combination in itertools.product(*levels_of)]
    return _Block(" & ".join(names), levels, member)


def _row_counts(
    parts: list[Part], columns: jnp.ndarray, member_ng: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Rows that every statistic of every group rests on, ``[G + 1, S]``."""
    counts_nm = np.asarray(columns) > 0
    counted_ns = counts_nm[:, [part.count for part in parts]] & (weight > 0)[:, None]
    is_member_ng = member_ng > 0
    return is_member_ng.T.astype(np.float32) @ counted_ns.astype(np.float32)


def _sections(
    blocks: list[_Block],
    count: np.ndarray,
    value: np.ndarray,
    is_enough: np.ndarray,
    resampled: np.ndarray | None,
    level: float,
) -> list[_Section]:
    """Everyone, then per attribute its groups and their difference.

    Args:
      blocks: attributes, in the order of the groups.
      count: ``[G + 1, S]``, everyone last.
      value: ``[G + 1, S]``.
      is_enough: ``[G + 1, S]``, whether a value may be in a difference.
      resampled: values ``[draws, G + 1, S]`` of resamples; None for no intervals.
      level: coverage.
    """
    no_value = np.full(value.shape[-1], np.nan)
    low = np.broadcast_to(no_value, value.shape)
    high = low
    if resampled is not None:
        low, high = _ends(resampled, level)

    def section(attribute: str, group: str, row: int) -> _Section:
        return _Section(attribute, group, count[row], value[row], low[row], high[row])

    sections = [section("", OVERALL, -1)]
    start = 0
    for attribute, levels, _ in blocks:
        for g, group in enumerate(levels, start):
            sections.append(section(attribute, group, g))
        block = slice(start, start + len(levels))
        total = count[block].sum(axis=0)
        difference = no_value
        ends = (no_value, no_value)
        if len(levels) >= 2:
            difference = _difference(np.where(is_enough, value, np.nan)[block])
            if resampled is not None:
                compared = np.where(is_enough, resampled, np.nan)
                resampled_difference = _difference(compared[:, block])
                ends = _ends(resampled_difference, level)
        sections.append(_Section(attribute, DIFFERENCE, total, difference, *ends))
        start = block.stop
    return sections


def _ends(resampled: np.ndarray, level: float) -> np.ndarray:
    """Lower and upper end over the leading axis; NaN where a resample has no value."""
    lower = (1 - level) / 2
    upper = (1 + level) / 2
    return np.quantile(resampled, [lower, upper], axis=0)


def _difference(value: np.ndarray) -> np.ndarray:
    """Largest minus smallest value over groups ``[..., G, S]``; NaN if fewer than two have one."""
    unknown = np.isnan(value)
    value_or_low = np.where(unknown, -np.inf, value)
    value_or_high = np.where(unknown, np.inf, value)
    top = value_or_low.max(axis=-2)
    bottom = value_or_high.min(axis=-2)
    comparable = (~unknown).sum(axis=-2) >= 2
    with np.errstate(invalid="ignore"):
        return np.where(comparable, top - bottom, np.nan)


def _tidy(parts: list[Part], sections: list[_Section]) -> dict[str, np.ndarray]:
    """Columns of the table: the sections below each other, a row per statistic."""
    tasks = [part.task for part in parts]
    statistics = [part.statistic for part in parts]
    attributes = [section.attribute for section in sections]
    groups = [section.group for section in sections]
    return {
        "task": np.tile(tasks, len(sections)),
        "attribute": np.repeat(attributes, len(parts)),
        "group": np.repeat(groups, len(parts)),
        "statistic": np.tile(statistics, len(sections)),
        "count": np.concatenate([section.count for section in sections]),
        "value": np.concatenate([section.value for section in sections]),
        "low": np.concatenate([section.low for section in sections]),
        "high": np.concatenate([section.high for section in sections]),
    }
