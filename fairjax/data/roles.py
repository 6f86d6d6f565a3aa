"""Roles: which column is a task, a sensitive attribute, a feature; and the small text form of a rule.

``income``, ``income > 50000``, ``income == >50K``, ``rich: income > 50000`` (named), ``job :multiclass`` (kind),
``age :number`` (a sensitive attribute that is a number, not groups).
"""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.read import NA, Table, canonical, complain, listing, number

_KINDS = ("binary", "multiclass", "regression")
_RULE = re.compile(r"^(.*?)\s*(==|!=|>=|<=|=|>|<)\s*(.*)$", re.DOTALL)
_HINT = re.compile(rf"^(.*?)\s*:\s*({'|'.join((*_KINDS, 'number'))})$", re.DOTALL)
_NAMED = re.compile(r"^([^:<>=!]+?)\s*:\s*(.+)$", re.DOTALL)
_COMPARE = {">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal}


@dataclasses.dataclass(frozen=True)
class Roles:
    """What each column of a table is for. Everything is text, tuples and dicts: ``dataclasses.asdict`` is JSON.

    Task columns (those in rules too), ``drop``, ``weight`` and ``split`` never become features; sensitive columns do
    only with ``use_sensitive``.
    """

    tasks: tuple[str, ...]  # rules, see the module's first lines
    sensitive: tuple[
        str, ...
    ]  # columns, rules such as ``age > 25``, or numbers, ``age :number``; one attribute each
    features: tuple[str, ...] | None = (
        None  # the only features, in this order; None: every column left
    )
    drop: tuple[str, ...] = ()  # declared leaks
    numeric: tuple[str, ...] = ()  # features that must be numbers
    categorical: tuple[str, ...] = ()  # features that are levels even where they look like numbers
    weight: str | None = None
    split: str | None = (
        None  # column of train, validation, test; without validation it is carved from train
    )
    use_sensitive: bool = False
    standardise: str = (
        "train"  # rows that give means, deviations, levels and words; "all" is the papers' form
    )
    missing: str = (
        "error"  # or "impute": NaN, infinite and empty numeric features become the training mean
    )
    text: str | None = (
        None  # a column of tokens with blanks between them; it is then the only feature
    )
    language: str | None = (
        None  # with text: a column, whose every level has a vocabulary of its own
    )
    length: int = 40  # tokens of a text that are kept, the first ones
    minimum: int = 2  # a token that training rows hold less often is unknown
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)  # task name -> kind
    levels: dict[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict
    )  # name -> order of its levels
    na_values: tuple[str, ...] = NA
    delimiter: str = ","
    encoding: str = "utf-8"

    def __post_init__(self):
        for field in (
            "tasks",
            "sensitive",
            "features",
            "drop",
            "numeric",
            "categorical",
            "na_values",
        ):
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(
                    self, field, (value,) if isinstance(value, str) else tuple(value)
                )
        object.__setattr__(
            self, "levels", {name: tuple(levels) for name, levels in self.levels.items()}
        )
        for field, allowed in (("standardise", ("train", "all")), ("missing", ("error", "impute"))):
            if getattr(self, field) not in allowed:
                raise DataError(
                    f"roles: {field} is {getattr(self, field)!r}. Give one of {listing(allowed)}."
                )
        for field in ("length", "minimum"):
            if getattr(self, field) < 1:
                raise DataError(
                    f"roles: {field} is {getattr(self, field)}. Give one token or more."
                )
        others = [
            field
            for field in ("features", "numeric", "categorical", "use_sensitive")
            if getattr(self, field)
        ]
        if self.text is not None and others:
            what = f"roles: {listing(others)} beside text {self.text!r}"
            raise DataError(f"{what}. Leave them out: the text is the only feature.")


class Rule(NamedTuple):
    """A column, perhaps compared with a value. ``kind`` and ``levels`` are filled in when it has met a table."""

    name: str
    column: str
    op: str = ""
    value: str = ""
    kind: str = ""
    levels: tuple[str, ...] = ()
    mean: float = 0.0  # of a regression, or of a sensitive number
    deviation: float = 1.0


def parse_rules(texts: tuple[str, ...], table: Table, what: str) -> tuple[Rule, ...]:
    """Rules of a tuple of texts. A rule without a name has its column's, or its whole text where two would clash.

    Args:
        texts: rules in text form.
        table: whose columns they name; a text that is exactly a column is that column.
        what: "task" or "sensitive", for messages.

    Raises:
        DataError: no rule at all, unknown column, unreadable rule, repeated name.
    """
    if not texts:
        raise complain(
            table.where,
            f"no {what} column given for {len(table):,} rows",
            "Name at least one column.",
        )
    parsed = [_parse(text.strip(), table) for text in texts]
    columns = [rule.column for _, rule in parsed]
    rules = [
        rule._replace(
            name=given or (rule.column if columns.count(rule.column) == 1 else text.strip())
        )
        for text, (given, rule) in zip(texts, parsed, strict=True)
    ]
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            what = f"{what} {name!r} stands {names.count(name)} times ({len(table):,} rows)"
            raise complain(table.where, what, "Give each its own name, as in 'name: column > 3'.")
    return tuple(rules)


def _parse(text: str, table: Table) -> tuple[str, Rule]:
    """``(given name or "", rule)`` of one text."""
    if text in table:
        return "", Rule(text, text)
    hint = _HINT.match(text)
    if hint and hint[2] in table and hint[1] not in table:
        hint = None  # 'score: number' names a column that is called so
    body, kind = hint.groups() if hint else (text, "")
    named = None if body in table else _NAMED.match(body)
    given, body = named.groups() if named else ("", body)
    compared = None if body in table else _RULE.match(body)
    column, op, value = compared.groups() if compared else (body, "", "")
    table.column(column)
    rule = Rule(column, column, "==" if op == "=" else op, value.strip().strip("\"'"), kind)
    if rule.op in _COMPARE and number(rule.value) is None:
        cure = f"Compare with a number, or write {column} == {text[len(column) :].strip()!r} for a text."
        raise complain(
            table.where,
            f"rule {text!r} on {len(table):,} rows: {rule.value!r} is not a number",
            cure,
        )
    return given.strip(), rule


def holds(rule: Rule, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """``(truth [N] bool, known [N] bool)`` of a rule with an operator; truth is False where unknown."""
    known = ~table.missing(rule.column)
    if rule.op in _COMPARE:
        cure = f"{rule.name!r} compares numbers: correct the cells, name them in na_values, or use == with a text."
        value = table.require_numbers(rule.column, cure)
        return _COMPARE[rule.op](value, float(rule.value)) & known, known
    same = table.text(rule.column) == canonical(rule.value)
    return (same if rule.op == "==" else ~same) & known, known


def levels_of(rule: Rule, table: Table) -> tuple[str, ...]:
    """Distinct known values of a rule's column, numbers in numeric order and the rest by alphabet."""
    words = set(table.text(rule.column)[~table.missing(rule.column)].tolist())
    return tuple(sorted(words, key=lambda w: (number(w) is None, number(w) or 0.0, w)))
