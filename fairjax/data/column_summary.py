"""What the columns of a table are: their roles, types, ranges and gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.checks import Checks
from fairjax.data.encoder import Codes, Encoder, Standardiser
from fairjax.data.frozen import encoder_name
from fairjax.data.numbers import NumberForm
from fairjax.data.raw_table import RawTable
from fairjax.data.rules import ColumnRule
from fairjax.data.splitting import split_rules

_LONGEST = 30  # characters of a cell


class ColumnSummary(NamedTuple):
    """A column in words."""

    name: str
    role: str  # task, sensitive, weight, split, text, language, image, feature or dropped
    type: str = ""  # number, whole number, dates, text, or a number of levels
    values: str = ""  # the range in training rows, the first levels, or the rule
    missing: int = 0  # cells of all rows
    noted: str = ""  # words of what was found
    alone: str = ""  # how well it alone predicts its best task: an AUC, or r and a correlation


def column_summaries(
    table: RawTable, encoder: Encoder, checks: Checks
) -> tuple[ColumnSummary, ...]:
    """All columns: tasks, sensitive ones, those with another role, features, the others.

    A column with several roles occurs several times. Cells of columns without a role are not shown.
    """
    words: dict[str, dict[str, None]] = {}
    for finding in checks.findings:
        for name in finding.columns:
            if finding.word:
                words.setdefault(name, {})[finding.word] = None
    summaries = []
    for summary in _in_order(table, encoder, checks):
        missing = int(table.missing(summary.name).sum())
        noted = ", ".join(words.get(summary.name, ())) if summary.role == "feature" else ""
        summaries.append(summary._replace(missing=missing, noted=noted))
    return tuple(summaries)


def _in_order(table: RawTable, encoder: Encoder, checks: Checks) -> list[ColumnSummary]:
    found = [_of_rule(rule, "task") for rule in encoder.tasks]
    found += [_of_rule(rule, "sensitive") for rule in encoder.attributes]
    found += _other_roles(table, encoder)
    numeric = {feature.name: _of_number(feature, checks) for feature in encoder.numeric}
    categorical = {feature.name: _of_levels(feature, checks) for feature in encoder.categorical}
    features = numeric | categorical
    found += [features[name] for name in table.columns if name in features]
    named = {summary.name for summary in found}
    dropped = [name for name in table.columns if name not in named]
    return found + [ColumnSummary(name, "dropped", _type(table, name)) for name in dropped]


def _of_rule(rule: ColumnRule, role: str) -> ColumnSummary:
    if rule.op:
        return ColumnSummary(rule.column, role, "rule", cut(rule.text))
    if rule.kind in ("number", "regression"):
        values = f"mean {_number(rule.mean, rule.form)}"
        return ColumnSummary(rule.column, role, _number_type(rule.form, False), values)
    return ColumnSummary(rule.column, role, f"{len(rule.levels)} levels", _first(rule.levels))


def _other_roles(table: RawTable, encoder: Encoder) -> list[ColumnSummary]:
    roles = encoder.roles
    named = {roles.weight: "weight", roles.split: "split", roles.split_by: "split"}
    named |= {roles.language: "language"}
    if roles.encoder is None:
        named[roles.text] = "text"
    if roles.split_at is not None:
        named |= {rule.column: "split" for rule in split_rules(roles, table)}
    named.pop(None, None)
    found = [ColumnSummary(name, role, _type(table, name)) for name, role in named.items()]
    if encoder.frozen:
        found.append(_of_network(table, encoder))
    elif roles.image is not None:
        height, width = encoder.image_shape
        found.append(ColumnSummary(roles.image, "image", f"{height} x {width} pixels"))
    return found


def _of_network(table: RawTable, encoder: Encoder) -> ColumnSummary:
    """The column that a pretrained network reads: its features, and how many rows differ."""
    (frozen,) = encoder.frozen
    roles = encoder.roles
    role = "text" if roles.image is None else "image"
    kind = f"{len(frozen.mean):,} features of {encoder_name(roles.encoder)}"
    distinct = len({row.tobytes() for row in table.features})
    return ColumnSummary(roles.raw_feature, role, kind, f"{distinct:,} different {role}s")


def _of_number(feature: Standardiser, checks: Checks) -> ColumnSummary:
    low = _number(feature.low, feature.form)
    high = _number(feature.high, feature.form)
    # two dates need the room
    between = "\N{EN DASH}" if feature.form.is_date else " to "
    values = low if low == high else f"{low}{between}{high}"
    unit = feature.form.unit
    kind = _number_type(feature.form, feature.name in checks.whole)
    values = cut(f"{values} {unit}".strip())
    return ColumnSummary(feature.name, "feature", kind, values, alone=_alone(feature.name, checks))


def _of_levels(feature: Codes, checks: Checks) -> ColumnSummary:
    known = [level for level in feature.levels if level]
    kind = f"{len(known):,} level{'' if len(known) == 1 else 's'}"
    alone = _alone(feature.name, checks)
    return ColumnSummary(feature.name, "feature", kind, _first(known), alone=alone)


def _alone(name: str, checks: Checks) -> str:
    best = checks.best.get(name)
    if best is None:
        return ""
    score = f"{best.score:.3f}"
    return score if best.measure == "AUC" else f"r {score}"


def _type(table: RawTable, name: str) -> str:
    """The type of a column that is no feature."""
    try:
        form = table.form(name)
    except DataError:
        return "text"
    return "text" if form is None else _number_type(form, False)


def _number_type(form: NumberForm, is_whole: bool) -> str:
    if form.is_date:
        return "dates"
    return "whole number" if is_whole else "number"


def _number(value: float, form: NumberForm) -> str:
    if form.is_date:
        return str(np.datetime64(int(value), "D"))
    is_whole = value == round(value) and abs(value) < 1e12
    return f"{value:,.0f}" if is_whole else f"{value:.4g}"


def _first(levels: Sequence[str]) -> str:
    """The first levels, as many as there is room for."""
    return cut(", ".join(levels[:_LONGEST]))


def cut(text: str, width: int = _LONGEST) -> str:
    """A text on one line, its end cut where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"
