"""Disaggregated tables: every statistic of every task in every group, with counts and intervals.

In: scores and a data set. Out: a tidy :class:`GroupTable` on the host. Groups are those of every
attribute, and of crossed attributes. All statistics but one are ratios of sums over rows, so all of
them are one matrix product over all groups and a few resamples at a time. Areas under the curve are
cumulative sums over rows that are sorted once, exact in every resample; a row is in one group of an
attribute, so their cost does not grow with the number of groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from fairjax.core.groups import crossed
from fairjax.core.types import Array, Dataset, Spec
from fairjax.metrics._group_areas import areas, rank_group
from fairjax.metrics._group_sums import Part, group_statistics, ratios, sums

OVERALL = "overall"
DIFFERENCE = "difference"
TOGETHER = 8  # resamples in one product


class GroupTable(NamedTuple):
    """A row per task (or class of it), group and statistic; per attribute the largest difference.

    ``columns``: ``task``, ``attribute`` (crossed ones joined by " & "), ``group`` (a level,
    ``overall`` or ``difference``), ``statistic``, ``count`` (weight of the rows that it is measured
    on, before decisions), ``value``, ``low``, ``high``.
    ``left_out``: groups with less weight than the minimum, with their weight; no difference
    contains them. Attributes that are numbers have no groups: they are in ``left_out`` too.
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
      thresholds: on the score, per binary task; default 0, probability one half.
      cross: tuples of names of attributes to cross; every attribute alone is in the table anyway.
      minimum: groups with less weight are left out, and listed.
      draws: resamples.
      level: coverage of the percentile intervals. Where groups do not differ, the estimate of their
        difference is biased upwards.

    Raises:
      ValueError: scores have another width, a score is NaN, or a crossed attribute is unknown or a
        number.
    """
    scores = np.asarray(scores, np.float32)
    weight = np.asarray(data.weight, np.float32)
    _check_scores(spec, scores, weight)
    blocks, left_out = _blocks(spec, data, cross, minimum)
    everyone = np.ones((len(weight), 1), np.float32)
    member = np.concatenate([*(block.member for block in blocks), everyone], axis=1)
    parts, columns, ordered = group_statistics(spec, scores, data, thresholds)
    ranks = [[rank_group(column, group) for column in ordered] for group in member.T]
    member_ng = jnp.asarray(member)

    def values(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # the device adds up while the host measures areas
        sums_bgm = sums(jnp.asarray(counts, jnp.float32), member_ng, columns)
        area_bgu = areas(np.ascontiguousarray(counts.T, np.float32), ranks)
        return ratios(np.asarray(sums_bgm), area_bgu, parts)

    (value,), (count,) = values(np.ones((1, len(weight))))
    drawn = None
    if rng is not None:
        batches = -(-draws // TOGETHER)
        counts_of = (rng.poisson(1.0, (TOGETHER, len(weight))) for _ in range(batches))
        drawn = np.concatenate([values(counts)[0] for counts in counts_of])[:draws]
    sections = _sections(blocks, count, value, drawn, level)
    return GroupTable(_tidy(parts, sections), left_out)


def _check_scores(spec: Spec, scores: np.ndarray, weight: np.ndarray) -> None:
    expected = (len(weight), sum(task.score_width for task in spec.tasks))
    if scores.shape != expected:
        raise ValueError(
            f"group_table: expected scores [{expected[0]}, {expected[1]}], got {scores.shape}; "
            f"were they made with another spec?"
        )
    broken = int(np.isnan(scores[weight > 0]).any(axis=1).sum())
    if broken:
        raise ValueError(
            f"group_table: {broken} rows have a score that is NaN. Weight 0 leaves rows out"
        )


def _blocks(
    spec: Spec, data: Dataset, cross: Sequence[Sequence[str]], minimum: float
) -> tuple[list[_Block], dict[str, float]]:
    """Blocks of groups with enough weight, and the weight of what is left out."""
    left_out: dict[str, float] = {}
    weight = np.asarray(data.weight)
    for i, attribute in enumerate(spec.attributes):
        if attribute.continuous:
            known = np.asarray(data.groups[:, spec.group_slice(i).start])
            left_out[f"{attribute.name} (a number)"] = float(weight @ known)
    alone = [(attribute.name,) for attribute in spec.attributes if not attribute.continuous]
    blocks = []
    for names in [*alone, *(tuple(names) for names in cross)]:
        block = _block(spec, data, names)
        mass_g = weight @ block.member
        enough_g = mass_g >= max(minimum, np.finfo(np.float32).tiny)
        levels = []
        for level, mass, enough in zip(block.levels, mass_g, enough_g, strict=True):
            if enough:
                levels.append(level)
            else:
                left_out[f"{block.attribute}={level}"] = float(mass)
        blocks.append(_Block(block.attribute, levels, block.member[:, enough_g]))
    return blocks, left_out


def _block(spec: Spec, data: Dataset, names: tuple[str, ...]) -> _Block:
    """All groups of one attribute, or of a crossing of several."""
    index = {attribute.name: i for i, attribute in enumerate(spec.attributes)}
    for name in names:
        if name not in index:
            raise ValueError(f"group_table: attribute {name!r} is not one of {', '.join(index)}")
    attributes = [index[name] for name in names]
    member = np.asarray(crossed(spec, jnp.asarray(data.groups), attributes))
    combinations = itertools.product(*(spec.attributes[i].levels for i in attributes))
    levels = [" & ".join(combination) for combination in combinations]
    return _Block(" & ".join(names), levels, member)


def _sections(
    blocks: list[_Block],
    count: np.ndarray,
    value: np.ndarray,
    drawn: np.ndarray | None,
    level: float,
) -> list[_Section]:
    """Everyone, then per attribute its groups and their difference.

    Args:
      blocks: attributes, in the order of the groups.
      count: ``[G + 1, S]``, everyone last.
      value: ``[G + 1, S]``.
      drawn: values ``[draws, G + 1, S]`` of resamples; None for no intervals.
      level: coverage.
    """
    unknown = np.full(value.shape[-1], np.nan)
    low = np.broadcast_to(unknown, value.shape)
    high = low
    if drawn is not None:
        low, high = _ends(drawn, level)
    sections = [_Section("", OVERALL, count[-1], value[-1], low[-1], high[-1])]
    start = 0
    for attribute, levels, _ in blocks:
        for g, group in enumerate(levels, start):
            sections.append(_Section(attribute, group, count[g], value[g], low[g], high[g]))
        block = slice(start, start + len(levels))
        ends = (unknown, unknown)
        if drawn is not None and len(levels) >= 2:
            ends = _ends(_difference(drawn[:, block]), level)
        total = count[block].sum(axis=0)
        difference = _difference(value[None, block])[0]
        sections.append(_Section(attribute, DIFFERENCE, total, difference, *ends))
        start = block.stop
    return sections


def _ends(drawn: np.ndarray, level: float) -> np.ndarray:
    """Lower and upper end over the leading axis; NaN where a resample has no value."""
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _difference(value: np.ndarray) -> np.ndarray:
    """Largest minus smallest value over groups ``[..., G, S]``; NaN if fewer than two have one."""
    if value.shape[-2] < 2:
        return np.full((value.shape[0], value.shape[-1]), np.nan)
    unknown = np.isnan(value)
    top = np.where(unknown, -np.inf, value).max(axis=-2)
    bottom = np.where(unknown, np.inf, value).min(axis=-2)
    comparable = (~unknown).sum(axis=-2) >= 2
    with np.errstate(invalid="ignore"):
        return np.where(comparable, top - bottom, np.nan)


def _tidy(parts: list[Part], sections: list[_Section]) -> dict[str, np.ndarray]:
    """Columns of the table: the sections below each other, a row per statistic."""
    statistics = len(parts)
    columns = {
        "task": np.array([part.task for part in parts] * len(sections)),
        "attribute": np.repeat([section.attribute for section in sections], statistics),
        "group": np.repeat([section.group for section in sections], statistics),
        "statistic": np.array([part.statistic for part in parts] * len(sections)),
    }
    for name in ("count", "value", "low", "high"):
        columns[name] = np.concatenate([getattr(section, name) for section in sections])
    return columns
