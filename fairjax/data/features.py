"""Choose the features of a table: which columns they are, and which of them are numbers."""

from __future__ import annotations

from fairjax.data.cells import read_feature
from fairjax.data.complaints import collect, complain, listing
from fairjax.data.numbers import PLAIN, looks_like_number, number
from fairjax.data.raw_table import RawTable
from fairjax.data.roles import Roles
from fairjax.data.rules import ColumnRule
from fairjax.data.splitting import split_rules

_MOST_LEVELS = 20  # more different numbers with units are no levels


def feature_names(
    table: RawTable,
    roles: Roles,
    tasks: tuple[ColumnRule, ...],
    attributes: tuple[ColumnRule, ...],
) -> tuple[list[str], list[str]]:
    """Names of numeric and of categorical features; none where a text or image is the only one.

    They are in the order of ``roles.features``, or in the order of the table.

    Raises:
        DataError: a named column has another role, or no feature is left.
    """
    sensitive = [rule.column for rule in attributes]
    excluded = _excluded(table, roles, tasks, sensitive)
    _refuse_excluded(table, roles, excluded)
    if roles.features is None and roles.raw_feature is None:
        candidates = list(table.columns)
    else:
        added = sensitive if roles.use_sensitive else []
        candidates = list(dict.fromkeys((*(roles.features or ()), *added)))
    names = [name for name in candidates if name not in (*excluded, roles.raw_feature)]
    if not names and roles.raw_feature is None:
        problem = f"0 features are left in {len(table):,} rows"
        raise complain(table.where, problem, "Give columns beside the tasks.")
    _refuse_images(table, names)
    table.look_at(names)
    is_numeric = collect(lambda name: _is_numeric(name, table, roles), names)
    numeric = [name for name, yes in zip(names, is_numeric, strict=True) if yes]
    categorical = [name for name in names if name not in numeric]
    return numeric, categorical


def _excluded(
    table: RawTable, roles: Roles, tasks: tuple[ColumnRule, ...], sensitive: list[str]
) -> set[str]:
    """Columns that cannot be features."""
    excluded = {rule.column for rule in tasks}
    excluded.update(roles.drop)
    columns = (roles.weight, roles.split, roles.split_by)
    excluded.update(name for name in columns if name is not None)
    if roles.split_at is not None:
        excluded.update(rule.column for rule in split_rules(roles, table))
    if not roles.use_sensitive:
        excluded.update(sensitive)
    return excluded


def refuse_absent(table: RawTable, roles: Roles) -> None:
    """Refuse columns that the roles name outside of rules and that the table has not.

    Raises:
        DataError: there are such columns.
    """
    columns = (roles.weight, roles.split, roles.split_by, roles.language)
    named = [name for name in columns if name is not None]
    collect(table.column, dict.fromkeys([*roles.drop, *_named(roles), *named]))


def _named(roles: Roles) -> list[str]:
    """Columns that the roles name as features."""
    raw = [] if roles.raw_feature is None else [roles.raw_feature]
    return [*(roles.features or ()), *roles.numeric, *roles.categorical, *raw]


def _refuse_excluded(table: RawTable, roles: Roles, excluded: set[str]) -> None:
    """Refuse a named feature that has another role. ``drop`` wins over a feature."""
    for name in _named(roles):
        is_dropped = name in roles.drop
        if name not in excluded or (is_dropped and name != roles.raw_feature):
            continue
        problem = f"column {name!r} cannot be a feature of {len(table):,} rows"
        dropped = ", or dropped" if is_dropped else ""
        problem = f"{problem}: it is a task, sensitive, weight or split{dropped}"
        cure = "Remove it from the features (use_sensitive allows sensitive ones)."
        raise complain(table.where, problem, cure)


def _refuse_images(table: RawTable, names: list[str]) -> None:
    """Refuse images among features of other kinds."""
    images = [name for name in names if name in table.pixels]
    if images:
        problem = f"column {images[0]!r} holds images of {len(table):,} rows"
        raise complain(table.where, problem, "Name it as image, or leave it out (--drop).")


def _is_numeric(name: str, table: RawTable, roles: Roles) -> bool:
    """Whether a feature is declared numeric, or every known cell is a number and no code.

    A number with zeros before it, as in a postal code, is a code.

    Raises:
        DataError: a declared number is a text; nearly all cells are numbers, so that the others
            are probably typing errors; or they are numbers in several units.
    """
    if name in roles.categorical:
        if name in roles.numeric:
            problem = f"column {name!r} is declared numeric and categorical ({len(table):,} rows)"
            raise complain(table.where, problem, "Declare one.")
        return False
    form = table.form(name)
    if form is not None:
        return name in roles.numeric or not table.has_leading_zeros(name)
    rows_of = table.known_texts(name)
    others = sum(rows for text, rows in rows_of.items() if number(text) is None)
    if name in roles.numeric or others < 0.1 * sum(rows_of.values()):
        # the error names the cells
        read_feature(table, name, "impute", PLAIN)
    _refuse_mixed_numbers(table, name)
    return False


def _refuse_mixed_numbers(table: RawTable, name: str) -> None:
    """Refuse many different numbers with several units, or dates in an unclear order."""
    texts = list(table.known_texts(name))
    if len(texts) <= _MOST_LEVELS:
        return
    share = sum(map(looks_like_number, texts)) / len(texts)
    if share > 0.9:
        problem = f"column {name!r}: {len(texts):,} different texts in {len(table):,} rows"
        problem = f"{problem} look like numbers or dates in several forms: {listing(texts, 3)}"
        cure = (
            "Write them in one unit, dates as 2024-01-31; or declare them as levels "
            "(--categorical), or leave them out (--drop)."
        )
        raise complain(table.where, problem, cure)
