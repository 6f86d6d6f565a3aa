"""What new rows have that the training rows had not: gaps, other levels, numbers out of range."""

from __future__ import annotations

import numpy as np

from fairjax.data.complaints import listing
from fairjax.data.encoder import Codes, Encoder, Standardiser
from fairjax.data.raw_table import RawTable
from fairjax.data.rules import ColumnRule


def remarks(encoder: Encoder, table: RawTable) -> list[str]:
    """Sentences about the cells of new rows; none about a column like that of training.

    Args:
        encoder: fitted to the training rows.
        table: what :meth:`Encoder.read` made of the new rows.
    """
    sentences = []
    for feature in encoder.numeric:
        sentences += _of_numbers(feature, table)
    for feature in encoder.categorical:
        sentences += _of_levels(feature, table)
    for rule in encoder.attributes:
        sentences += _of_attribute(rule, table)
    return sentences


def _of_numbers(feature: Standardiser, table: RawTable) -> list[str]:
    value, _ = table.numbers(feature.name, feature.form)
    sentences = []
    gaps = np.isnan(value)
    if gaps.any():
        sentences.append(
            f"{feature.name}: {_count(gaps)} are missing and count as the training mean, "
            f"{feature.mean:g}."
        )
    outside = (value < feature.low) | (value > feature.high)
    if outside.any():
        sentences.append(
            f"{feature.name}: {_count(outside)} are outside of the training rows' "
            f"{feature.low:g} to {feature.high:g}, {table.spots(outside, feature.name)}."
        )
    return sentences


def _of_levels(feature: Codes, table: RawTable) -> list[str]:
    texts = table.text(feature.name)
    is_known = np.isin(texts.astype(str), feature.levels)
    if is_known.all():
        return []
    others = sorted(set(texts[~is_known].tolist()))
    named = [level or "a missing cell" for level in others]
    return [
        f"{feature.name}: {_count(~is_known)} have a level that no training row has: "
        f"{listing(named)}."
    ]


def _of_attribute(rule: ColumnRule, table: RawTable) -> list[str]:
    if rule.column not in table:
        return [f"{rule.name}: the column {rule.column!r} is absent, so no group is known."]
    unknown = table.missing(rule.column)
    if rule.levels and not rule.op:
        unknown = unknown | ~np.isin(table.text(rule.column).astype(str), rule.levels)
    if not unknown.any():
        return []
    return [f"{rule.name}: {_count(unknown)} are of no group of the training rows."]


def _count(rows: np.ndarray) -> str:
    return f"{rows.sum():,} of {len(rows):,} cells"
