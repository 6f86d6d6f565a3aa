"""Fit an encoder to a table: kinds of tasks, levels of groups, means of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fairjax.data.cells import read_feature, read_label, read_sensitive_number
from fairjax.data.complaints import collect, complain, listing
from fairjax.data.encoder import Codes, Encoder, Standardiser
from fairjax.data.features import feature_names, refuse_absent
from fairjax.data.frozen import fit_frozen
from fairjax.data.merging import refuse_alike
from fairjax.data.numbers import PLAIN
from fairjax.data.raw_table import RawTable
from fairjax.data.roles import Roles
from fairjax.data.rules import ColumnRule, holds, levels_of, parse_rules
from fairjax.data.vocabulary import learn

_MOST_GROUPS = 20  # a sensitive column with more levels should be cut by a rule
_MOST_CLASSES = 20  # a text column with more levels is a task only on request
QUANTILE_STEPS = 16  # between the knots of a number
_ROWS_OF_QUANTILES = 50_000


def fit(table: RawTable, roles: Roles, train: np.ndarray) -> Encoder:
    """The encoder of a table: kinds and groups from all rows, statistics and levels from train.

    Args:
        table: N rows, with the features of its pretrained network if there is one.
        roles: what the columns are for; ``standardise="all"`` takes statistics and levels from all
            rows.
        train: indices of the training rows.

    Raises:
        DataError: see :func:`fairjax.data.from_table`.
    """
    tasks, attributes = rules_of(table, roles)
    rule_names = [rule.name for rule in (*tasks, *attributes)]
    described = [name for name in (*roles.levels, *roles.kinds) if name not in rule_names]
    collect(table.column, described)
    _refuse_sensitive_tasks(table, tasks, attributes)
    if roles.language is not None and roles.text is None:
        problem = f"language {roles.language!r} without a text ({len(table):,} rows)"
        raise complain(table.where, problem, "Name the column of tokens as text.")
    rows = np.arange(len(table)) if roles.standardise == "all" else train

    def of(fit_one: Callable[..., Any], items: Sequence[Any]) -> Callable[[], tuple[Any, ...]]:
        def fitted() -> tuple[Any, ...]:
            return tuple(
                collect(lambda item: fit_one(item, table, roles, rows), items, in_threads=True)
            )

        return fitted

    def features() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        numeric, categorical = feature_names(table, roles, tasks, attributes)
        parts = (of(_fit_standardiser, numeric), of(_fit_codes, categorical))
        return tuple(collect(lambda part: part(), parts))

    # each part is tried, so that all complaints come together
    parts = (of(_fit_task, tasks), of(_fit_attribute, attributes), features)
    fitted_tasks, fitted_attributes, (numeric, categorical) = collect(lambda part: part(), parts)
    fitted_tasks = _as_tasks(table, fitted_tasks)
    fitted = (roles, fitted_tasks, fitted_attributes, numeric, categorical)
    if roles.encoder is not None:
        return Encoder(*fitted, frozen=(fit_frozen(table, rows),))
    vocabularies = () if roles.text is None else learn(table, roles, rows)
    shape = () if roles.image is None else table.pixels[roles.image].shape[1:3]
    return Encoder(*fitted, vocabularies, shape)


def rules_of(
    table: RawTable, roles: Roles
) -> tuple[tuple[ColumnRule, ...], tuple[ColumnRule, ...]]:
    """The rules of tasks and of sensitive attributes.

    Raises:
        DataError: a rule cannot be read, or a column is absent, here or elsewhere in the roles.
    """
    texts = {"task": roles.tasks, "sensitive": roles.sensitive}
    parts = [
        partial(parse_rules, rules, table, role, roles.levels) for role, rules in texts.items()
    ]
    tasks, attributes, _ = collect(
        lambda part: part(), [*parts, partial(refuse_absent, table, roles)]
    )
    return tasks, attributes


def _refuse_sensitive_tasks(
    table: RawTable, tasks: tuple[ColumnRule, ...], attributes: tuple[ColumnRule, ...]
) -> None:
    task_columns = {rule.column for rule in tasks}
    for rule in attributes:
        if rule.column in task_columns:
            problem = f"column {rule.column!r} is sensitive and also a task ({len(table):,} rows)"
            cure = "Predict it or protect it: remove it from one of the two."
            raise complain(table.where, problem, cure)


# ------------------------------------------------------------------------------------------ tasks


def _fit_task(rule: ColumnRule, table: RawTable, roles: Roles, rows: np.ndarray) -> ColumnRule:
    if table.missing(rule.column).all():
        problem = f"task {rule.name!r}: column {rule.column!r} has 0 labels"
        problem = f"{problem} in {len(table):,} rows"
        raise complain(table.where, problem, "Give labels, or remove the task.")
    column_kind = roles.kinds.get(rule.column, rule.kind)
    kind = roles.kinds.get(rule.name, column_kind)
    if rule.op:
        return _fit_comparison(rule, table, kind or "binary")
    given = roles.levels.get(rule.name, roles.levels.get(rule.column))
    levels = given or levels_of(rule, table)
    kind = kind or _infer_kind(rule, table, levels)
    _refuse_levels(rule, table, levels, kind)
    if kind == "regression":
        form = table.form(rule.column) or PLAIN
        return _fit_regression(rule._replace(kind=kind, form=form), table, rows)
    if given is None:
        refuse_alike(table, rule.column, levels)
    return rule._replace(kind=kind, levels=levels)


def _as_tasks(table: RawTable, rules: tuple[ColumnRule, ...]) -> tuple[ColumnRule, ...]:
    """The rules, where columns of one task agree: numbers are outputs, pairs of levels are labels.

    Raises:
        DataError: the columns of a task are of several kinds.
    """
    names = [rule.name for rule in rules]
    agreed = []
    for rule in rules:
        kinds = {other.kind for other in rules if other.name == rule.name}
        if names.count(rule.name) > 1 and kinds <= {"binary", "multilabel"}:
            rule = rule._replace(kind="multilabel")
        elif names.count(rule.name) > 1 and kinds != {"regression"}:
            columns = [f"{r.column!r} {r.kind}" for r in rules if r.name == rule.name]
            problem = f"task {rule.name!r} on {len(table):,} rows has columns of kinds that do not"
            problem = f"{problem} go together: {', '.join(columns)}"
            cure = "Give ':regression' for numbers or ':multilabel' for labels, or make more tasks."
            raise complain(table.where, problem, cure)
        agreed.append(rule)
    return tuple(agreed)


def _fit_comparison(rule: ColumnRule, table: RawTable, kind: str) -> ColumnRule:
    """A rule such as ``income > 50000``; it must be true in some rows and false in others."""
    truth, is_known = holds(rule, table)
    matches = truth[is_known]
    if matches.all() or not matches.any():
        count = f"{'every one' if matches.all() else 'none'} of {is_known.sum():,} known rows"
        problem = f"rule '{rule.column} {rule.op} {rule.value}' matches {count}"
        values = listing(levels_of(rule, table))
        cure = f"Column {rule.column!r} holds {values}: change the rule."
        raise complain(table.where, problem, cure)
    _refuse_kind(rule, table, kind, ("binary",))
    return rule._replace(kind=kind)


def _fit_regression(rule: ColumnRule, table: RawTable, rows: np.ndarray) -> ColumnRule:
    value, is_known = read_label(rule, table)
    known_value = value[rows][is_known[rows]]
    if not len(known_value):
        # the check of the splits refuses a task without training labels
        return rule
    mean, deviation = _moments(known_value)
    return rule._replace(mean=mean, deviation=deviation)


def _refuse_levels(rule: ColumnRule, table: RawTable, levels: tuple[str, ...], kind: str) -> None:
    if len(levels) < 2:
        is_known = ~table.missing(rule.column)
        problem = f"task {rule.name!r}: column {rule.column!r} is constant"
        level = next(iter(levels))
        problem = f"{problem} ({level!r} in {is_known.sum():,} rows)"
        cure = "A constant cannot be learned: remove the task, or cut it by a rule."
        raise complain(table.where, problem, cure)
    _refuse_kind(rule, table, kind, ("binary", "multiclass", "multilabel", "regression"))
    if kind in ("binary", "multilabel") and len(levels) != 2:
        problem = f"task {rule.name!r} is {kind}, but column {rule.column!r}"
        problem = f"{problem} holds {len(levels):,} values in {len(table):,} rows"
        raise complain(table.where, problem, f"Cut it by a rule: {rule.column} > 0.")


def _refuse_kind(rule: ColumnRule, table: RawTable, kind: str, allowed: tuple[str, ...]) -> None:
    if kind not in allowed:
        problem = f"task {rule.name!r} on {len(table):,} rows: kind {kind!r} is not possible here"
        raise complain(table.where, problem, f"Give {listing(allowed)}.")


def _infer_kind(rule: ColumnRule, table: RawTable, levels: tuple[str, ...]) -> str:
    """Two values are binary, texts are multi-class, numbers are a regression."""
    if len(levels) <= 2:
        return "binary"
    if table.form(rule.column) is not None:
        return "regression"
    if len(levels) > _MOST_CLASSES:
        problem = f"task {rule.name!r}: column {rule.column!r} holds {len(levels):,} different"
        problem = f"{problem} texts in {len(table):,} rows"
        cure = "Cut it by a rule, or ask for ':multiclass' if every one is a class."
        raise complain(table.where, problem, cure)
    return "multiclass"


# ---------------------------------------------------------------------------- sensitive attributes


def _fit_attribute(rule: ColumnRule, table: RawTable, roles: Roles, rows: np.ndarray) -> ColumnRule:
    if rule.kind == "number":
        return _fit_sensitive_number(rule, table, rows)
    given = roles.levels.get(rule.name, roles.levels.get(rule.column))
    levels = _group_levels(rule, table, given)
    if not (rule.op or given):
        refuse_alike(table, rule.column, levels)
    if len(levels) < 2:
        count = f"{len(levels)} group in {len(table):,} rows"
        problem = f"sensitive column {rule.column!r} has {count}"
        cure = "Give a column, or a rule such as 'age > 25', that makes two groups or more."
        raise complain(table.where, problem, cure)
    if len(levels) > _MOST_GROUPS:
        count = f"{len(levels):,} different values in {len(table):,} rows"
        problem = f"sensitive column {rule.column!r} has {count}"
        cure = (
            f"Cut it into groups by a rule: '{rule.column} > 25', merge its levels (--merge), "
            f"or use it as a number: '{rule.column} :number'."
        )
        raise complain(table.where, problem, cure)
    return rule._replace(kind="group", levels=levels)


def _group_levels(
    rule: ColumnRule, table: RawTable, given: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Levels of a sensitive rule that rows have, or that are given."""
    if not rule.op:
        present = levels_of(rule, table)
        others = [level for level in present if level not in (given or present)]
        if others:
            problem = f"sensitive column {rule.column!r} in {len(table):,} rows"
            problem = f"{problem} holds {listing(others)} beside the given levels"
            cure = "Give all levels (--levels), merge them (--merge), or name them missing (--na)."
            raise complain(table.where, problem, cure)
        return given or present
    truth, is_known = holds(rule, table)
    members = {"no": ~truth & is_known, "yes": truth}
    return tuple(level for level, member in members.items() if member.any())


def _fit_sensitive_number(rule: ColumnRule, table: RawTable, rows: np.ndarray) -> ColumnRule:
    if rule.op:
        problem = f"sensitive rule '{rule.column} {rule.op} {rule.value} :number'"
        problem = f"{problem} on {len(table):,} rows makes groups, no number"
        cure = f"Give '{rule.column} :number', or the rule without ':number'."
        raise complain(table.where, problem, cure)
    rule = rule._replace(form=table.form(rule.column) or PLAIN)
    value, is_known = read_sensitive_number(rule, table)
    known_value = value[rows][is_known[rows]]
    if not len(known_value) or known_value.min() == known_value.max():
        count = f"{min(len(known_value), 1)} value in {len(known_value):,} known training rows"
        problem = f"sensitive column {rule.column!r} has {count}"
        cure = "Nothing can depend on a constant: give a column with two values or more."
        raise complain(table.where, problem, cure)
    mean, deviation = _moments(known_value)
    return rule._replace(mean=mean, deviation=deviation)


# --------------------------------------------------------------------------------------- features


def _fit_standardiser(name: str, table: RawTable, roles: Roles, rows: np.ndarray) -> Standardiser:
    form = table.form(name) or PLAIN
    value = read_feature(table, name, roles.missing, form)[rows]
    is_known = np.isfinite(value)
    if not is_known.all():
        value = value[is_known]
    if not len(value):
        problem = f"column {name!r}: 0 numbers in {len(rows):,} training rows"
        raise complain(table.where, problem, "Drop the column (--drop).")
    mean, deviation = _moments(value)
    low, high = float(value.min()), float(value.max())
    has_gaps = not is_known.all()
    return Standardiser(name, mean, deviation, low, high, has_gaps, form, _quantiles(value))


def _quantiles(value: np.ndarray) -> tuple[float, ...]:
    """Distinct quantiles at equal steps, of at most so many rows at equal distances."""
    if len(value) > _ROWS_OF_QUANTILES:
        value = value[np.linspace(0, len(value) - 1, _ROWS_OF_QUANTILES, dtype=int)]
    levels = np.linspace(0, 1, QUANTILE_STEPS + 1)
    return tuple(np.unique(np.quantile(value, levels)).tolist())


def _moments(value: np.ndarray) -> tuple[float, float]:
    """Mean and deviation. The deviation of a constant is 1, where rounding would give about 0."""
    is_constant = value.max() <= value.min()
    deviation = 1.0 if is_constant else float(value.std(ddof=1))
    return float(value.mean()), deviation


def _fit_codes(name: str, table: RawTable, roles: Roles, rows: np.ndarray) -> Codes:
    levels = roles.levels.get(name) or _levels_in_order(name, table, rows)
    too_many = len(levels) > max(100, len(rows) // 2)
    if too_many and name not in roles.categorical:
        count = f"{len(levels):,} levels in {len(rows):,} training rows"
        problem = f"column {name!r} has {count}: it looks like an identifier"
        cure = "Drop it (--drop), or declare it categorical (--categorical) to keep it."
        raise complain(table.where, problem, cure)
    return Codes(name, levels)


def _levels_in_order(name: str, table: RawTable, rows: np.ndarray) -> tuple[str, ...]:
    """Levels of some rows by first appearance; missing cells are the empty one."""
    if not table.is_text(name):
        return tuple(dict.fromkeys(table.text(name)[rows].tolist()))
    distinct = table.distinct(name)
    codes = distinct.codes[rows]
    first = np.full(len(distinct.texts), len(codes))
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # the last assignment stays
    present = np.flatnonzero(first < len(codes))
    levels = table.distinct_levels(name)
    return tuple(dict.fromkeys(levels[code] for code in present[np.argsort(first[present])]))
