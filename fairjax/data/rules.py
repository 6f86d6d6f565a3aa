"""Rules: the text form of tasks and sensitive attributes.

``income`` is a column. ``income > 50000`` and ``income == >50K`` compare it with a value,
``race in White, Asian`` with several. ``education >= Bachelors`` compares levels in the order that
the roles give. ``rich: income > 50000`` gives the rule a name. ``job :multiclass`` gives the kind
of a task. ``age :number`` is a sensitive attribute that is a number and has no groups.
``mood: valence, arousal`` is one task of several columns: a regression with an output per column,
or a multi-label task with a label per column.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fairjax.data.complaints import collect, complain, listing
from fairjax.data.numbers import PLAIN, NumberForm, is_number, number
from fairjax.data.raw_table import RawTable, canonical

_KINDS = ("binary", "multiclass", "multilabel", "regression", "number")
_OPERATOR = re.compile(r"==|!=|>=|<=|=|>|<|≥|≤|≠|\bnot in\b|\bin\b")
_KIND = re.compile(rf"^(.*?)\s*:\s*({'|'.join(_KINDS)})$", re.DOTALL)
_VALUE = re.compile(r"\s*(\"[^\"]*\"|'[^']*'|[^,]+?)\s*(?:,|$)")
_SPELLINGS = {"=": "==", "≥": ">=", "≤": "<=", "≠": "!="}
_COMPARE = {">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal}


class ColumnRule(NamedTuple):
    """A column, perhaps compared with a value.

    A fit to a table fills in ``kind``, ``levels``, ``mean``, ``deviation`` and ``form``. A task of
    several columns is a rule per column, side by side and with one name.
    """

    name: str
    column: str
    op: str = ""
    value: str = ""
    kind: str = ""
    levels: tuple[str, ...] = ()
    mean: float = 0.0  # of a regression, or of a sensitive number
    deviation: float = 1.0
    order: tuple[str, ...] = ()  # levels in the order in which the rule compares them
    form: NumberForm = PLAIN  # how the column spells numbers

    @property
    def text(self) -> str:
        """The rule as a person writes it, without name and kind."""
        return f"{self.column} {self.op} {self.value}".strip()

    @property
    def values(self) -> tuple[str, ...]:
        """The values of ``in``, or the one of another comparison."""
        text = self.value
        if self.op not in ("in", "not in"):
            return (text,)
        for pair in ("()", "[]", "{}"):
            if text.startswith(pair[0]) and text.endswith(pair[1]):
                text = text[1:-1]
        return tuple(_unquoted(value) for value in _VALUE.findall(text) if value.strip())


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if is_quoted else text


def parse_rules(
    texts: tuple[str, ...],
    table: RawTable,
    role: str,
    levels: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[ColumnRule, ...]:
    """Rules of a tuple of texts.

    A rule without a name takes the name of its column. If two rules have the same column, it takes
    its text as its name. A task of several columns gives a rule per column, all with its name.

    Args:
        texts: rules in text form.
        table: the table with their columns. A text that is exactly a column is that column.
        role: "task" or "sensitive", for messages.
        levels: of columns, in order, by which rules compare.

    Raises:
        DataError: no rule, unknown column, unreadable rule, repeated name.
    """
    if not texts:
        problem = f"no {role} column given for {len(table):,} rows"
        raise complain(table.where, problem, "Name at least one column.")

    def parse(text: str) -> tuple[ColumnRule, ...]:
        several = _several(text, table) if role == "task" else ()
        return several or (_parse(text, table, levels or {}),)

    parsed = collect(lambda text: parse(text.strip()), texts)
    columns = [rule.column for of_text in parsed for rule in of_text]
    rules = []
    names = []
    for text, of_text in zip(texts, parsed, strict=True):
        is_unique = columns.count(of_text[0].column) == 1
        default_name = of_text[0].column if is_unique else text.strip()
        name = of_text[0].name or default_name
        names.append(name)
        rules += [rule._replace(name=name) for rule in of_text]
    for name in names:
        if names.count(name) > 1:
            problem = f"{role} {name!r} occurs {names.count(name)} times ({len(table):,} rows)"
            cure = "Give each its own name, as in 'name: column > 3'."
            raise complain(table.where, problem, cure)
    return tuple(rules)


def _several(text: str, table: RawTable) -> tuple[ColumnRule, ...]:
    """A rule per column of ``name: column, column``; () where a text is something else."""
    body, kind = _split_kind(text, table)
    name, _, rest = body.partition(":")
    parts = rest.split(",")
    columns = [table.find(_unquoted_column(part)) for part in parts]
    if None in columns or len(columns) < 2 or body in table:
        return ()
    if len(set(columns)) < len(columns):
        problem = f"task {name.strip()!r} on {len(table):,} rows names a column twice"
        raise complain(table.where, problem, f"Name each of {listing(columns)} once.")
    return tuple(ColumnRule(name.strip(), column, kind=kind) for column in columns)


def _parse(text: str, table: RawTable, levels: Mapping[str, tuple[str, ...]]) -> ColumnRule:
    """The rule of one text; its name is empty if the text gives none."""
    column = table.find(text)
    if column is not None:
        return ColumnRule("", column)
    body, kind = _split_kind(text, table)
    rule = _comparison(body, table)
    name, colon, rest = body.partition(":")
    if rule is None and colon:
        rule = _comparison(rest.strip(), table)
        rule = rule and rule._replace(name=name.strip())
    if rule is None:
        raise _unreadable(body, table)
    rule = rule._replace(kind=kind)
    if rule.op not in _COMPARE:
        are_numbers = rule.op and all(map(is_number, rule.values))
        return rule._replace(form=table.form(rule.column) or PLAIN) if are_numbers else rule
    order = levels.get(rule.column, ())
    if canonical(rule.value) in order:
        return rule._replace(order=order)
    rule = rule._replace(form=table.form(rule.column) or PLAIN)
    if not is_number(rule.value) and number(rule.value, rule.form) is None:
        raise _unordered(rule, table, order)
    return rule


def _comparison(body: str, table: RawTable) -> ColumnRule | None:
    """The column, or the comparison of the longest column, that a text begins with."""
    column = table.find(_unquoted_column(body))
    if column is not None:
        return ColumnRule("", column)
    for match in reversed(list(_OPERATOR.finditer(body))):
        column = table.find(_unquoted_column(body[: match.start()]))
        if column is not None:
            op = _SPELLINGS.get(match.group(), match.group())
            value = body[match.end() :].strip()
            is_list = op in ("in", "not in")
            return ColumnRule("", column, op, value if is_list else _unquoted(value))
    return None


def _unquoted_column(text: str) -> str:
    text = text.strip()
    is_quoted = len(text) > 1 and text[0] == text[-1] == "`"
    return text[1:-1] if is_quoted else text


def _unreadable(body: str, table: RawTable) -> Exception:
    """The complaint about a text that begins with no column."""
    _, _, rest = body.rpartition(": ") if ": " in body else ("", "", body)
    match = _OPERATOR.search(rest)
    name = rest[: match.start()].strip() if match else rest.strip()
    if table.find(name) is None:
        try:
            table.column(name)
        except ValueError as error:
            return error
    problem = f"rule {body!r} on {len(table):,} rows is not readable"
    return complain(table.where, problem, "Write 'name: column > 3' or 'name: column == text'.")


def _unordered(rule: ColumnRule, table: RawTable, order: tuple[str, ...]) -> Exception:
    problem = f"rule {rule.text!r} on {len(table):,} rows: {rule.value!r} is not a number"
    if order:
        cure = f"Compare with one of the levels {listing(order)}."
    else:
        equality = f"{rule.column} == {rule.value!r}"
        levels = shlex.quote(f"{rule.column}: LOWEST, ..., HIGHEST")
        cure = (
            f"Compare with a number, write {equality} for a text, or give the order of its levels: "
            f"levels {rule.column!r} (--levels {levels})."
        )
    return complain(table.where, problem, cure)


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
    """``(truth [N] bool, is_known [N] bool)`` of a comparison; an unknown row is False.

    Raises:
        DataError: cells are not what the rule compares.
    """
    is_known = ~table.missing(rule.column)
    if rule.order:
        truth = _holds_in_order(rule, table, is_known)
    elif rule.op in _COMPARE:
        truth = _COMPARE[rule.op](_compared_numbers(rule, table), _limit(rule.value, rule.form))
    else:
        is_equal = _is_one_of(rule, table)
        truth = ~is_equal if rule.op in ("!=", "not in") else is_equal
    return truth & is_known, is_known


def _limit(value: str, form: NumberForm) -> float:
    """The number of a rule, spelled as in the column or plainly."""
    limit = number(value, form)
    return float(value) if limit is None else limit


def _compared_numbers(rule: ColumnRule, table: RawTable) -> np.ndarray:
    cells = "correct the cells, name them as missing (--na), or use == with a text"
    cure = f"{rule.name!r} compares numbers: {cells}."
    return table.require_numbers(rule.column, cure, rule.form)


def _is_one_of(rule: ColumnRule, table: RawTable) -> np.ndarray:
    """Equality as numbers where the column and the values are numbers, else as texts."""
    if all(map(is_number, rule.values)):
        cells, bad = table.numbers(rule.column, rule.form)
        if not bad.any():
            return np.isin(cells, [_limit(value, rule.form) for value in rule.values])
    wanted = [canonical(value) for value in rule.values]
    return np.isin(table.text(rule.column).astype(str), wanted)


def _holds_in_order(rule: ColumnRule, table: RawTable, is_known: np.ndarray) -> np.ndarray:
    place_of = {canonical(level): place for place, level in enumerate(rule.order)}
    texts = table.text(rule.column).tolist()
    place = np.array([place_of.get(text, -1) for text in texts])
    bad = is_known & (place < 0)
    if bad.any():
        count = f"{bad.sum():,} of {len(table):,} cells are not {listing(rule.order)}"
        problem = f"column {rule.column!r}: {count}, {table.spots(bad, rule.column)}"
        cure = "Give all levels in order, merge them (--merge), or name them as missing (--na)."
        raise complain(table.where, problem, cure)
    return _COMPARE[rule.op](place, place_of[canonical(rule.value)])


def levels_of(rule: ColumnRule, table: RawTable) -> tuple[str, ...]:
    """Distinct known values of a rule's column: numbers in order, then texts by alphabet."""
    if table.is_text(rule.column):
        values = {canonical(text) for text in table.known_texts(rule.column)}
    else:
        is_known = ~table.missing(rule.column)
        values = {canonical(value) for value in np.unique(table.column(rule.column)[is_known])}
    return tuple(sorted(values, key=_level_order))


def _level_order(text: str) -> tuple[bool, float, str]:
    value = number(text)
    return value is None, value or 0.0, text
