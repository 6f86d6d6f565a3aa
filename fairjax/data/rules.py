"""Rules: the text form of tasks and sensitive attributes.

``income`` is a column. ``income > 50000`` and ``income == >50K`` compare it with a value.
``rich: income > 50000`` gives the rule a name. ``job :multiclass`` gives the kind of a task.
``age :number`` is a sensitive attribute that is a number and has no groups.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from fairjax.data.complaints import complain
from fairjax.data.raw_table import RawTable, canonical, number

_KINDS = ("binary", "multiclass", "regression", "number")
_COMPARISON = re.compile(r"^(.*?)\s*(==|!=|>=|<=|=|>|<)\s*(.*)$", re.DOTALL)
_KIND = re.compile(rf"^(.*?)\s*:\s*({'|'.join(_KINDS)})$", re.DOTALL)
_NAME = re.compile(r"^([^:<>=!]+?)\s*:\s*(.+)$", re.DOTALL)
_COMPARE = {">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal}


class ColumnRule(NamedTuple):
    """A column, perhaps compared with a value.

    A fit to a table fills in ``kind``, ``levels``, ``mean`` and ``deviation``.
    """

    name: str
    column: str
    op: str = ""
    value: str = ""
    kind: str = ""
    levels: tuple[str, ...] = ()
    mean: float = 0.0  # of a regression, or of a sensitive number
    deviation: float = 1.0

    @property
    def text(self) -> str:
        """The rule as a person writes it, without name and kind."""
        return f"{self.column} {self.op} {self.value}".strip()


def parse_rules(texts: tuple[str, ...], table: RawTable, role: str) -> tuple[ColumnRule, ...]:
    """Rules of a tuple of texts.

    A rule without a name takes the name of its column. If two rules have the same column, it takes
    its text as its name.

    Args:
        texts: rules in text form.
        table: the table with their columns. A text that is exactly a column is that column.
        role: "task" or "sensitive", for messages.

    Raises:
        DataError: no rule, unknown column, unreadable rule, repeated name.
    """
    if not texts:
        problem = f"no {role} column given for {len(table):,} rows"
        raise complain(table.where, problem, "Name at least one column.")
    parsed = [_parse(text.strip(), table) for text in texts]
    columns = [rule.column for rule in parsed]
    rules = []
    for text, rule in zip(texts, parsed, strict=True):
        is_unique = columns.count(rule.column) == 1
        default_name = rule.column if is_unique else text.strip()
        rules.append(rule._replace(name=rule.name or default_name))
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            problem = f"{role} {name!r} occurs {names.count(name)} times ({len(table):,} rows)"
            cure = "Give each its own name, as in 'name: column > 3'."
            raise complain(table.where, problem, cure)
    return tuple(rules)


def _parse(text: str, table: RawTable) -> ColumnRule:
    """The rule of one text; its name is empty if the text gives none."""
    if text in table:
        return ColumnRule("", text)
    body, kind = _split_kind(text, table)
    name = ""
    if body not in table and (match := _NAME.match(body)):
        name, body = match.groups()
    column = body
    op = ""
    value = ""
    if body not in table and (match := _COMPARISON.match(body)):
        column, op, value = match.groups()
    table.column(column)
    op = "==" if op == "=" else op
    rule = ColumnRule(name.strip(), column, op, value.strip().strip("\"'"), kind)
    if rule.op in _COMPARE and number(rule.value) is None:
        problem = f"rule {text!r} on {len(table):,} rows: {rule.value!r} is not a number"
        equality = f"{column} == {text[len(column) :].strip()!r}"
        cure = f"Compare with a number, or write {equality} for a text."
        raise complain(table.where, problem, cure)
    return rule


def _split_kind(text: str, table: RawTable) -> tuple[str, str]:
    """``(text without kind, kind)``; the kind is empty if the text gives none."""
    match = _KIND.match(text)
    if match is None:
        return text, ""
    body, kind = match.groups()
    if kind in table and body not in table:
        # 'score: number' names a column that is called 'number'
        return text, ""
    return body, kind


def holds(rule: ColumnRule, table: RawTable) -> tuple[np.ndarray, np.ndarray]:
    """``(truth [N] bool, is_known [N] bool)`` of a comparison; an unknown row is False."""
    is_known = ~table.missing(rule.column)
    if rule.op in _COMPARE:
        cells = "correct the cells, name them in na_values, or use == with a text"
        value = table.require_numbers(rule.column, f"{rule.name!r} compares numbers: {cells}.")
        truth = _COMPARE[rule.op](value, float(rule.value))
    else:
        is_equal = table.text(rule.column) == canonical(rule.value)
        truth = is_equal if rule.op == "==" else ~is_equal
    return truth & is_known, is_known


def levels_of(rule: ColumnRule, table: RawTable) -> tuple[str, ...]:
    """Distinct known values of a rule's column: numbers in order, then texts by alphabet."""
    is_known = ~table.missing(rule.column)
    values = set(table.text(rule.column)[is_known].tolist())
    return tuple(sorted(values, key=_level_order))


def _level_order(text: str) -> tuple[bool, float, str]:
    value = number(text)
    return value is None, value or 0.0, text
