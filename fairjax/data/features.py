"""Choose the features of a table: which columns they are, and which of them are numbers."""

from __future__ import annotations

import numpy as np

from fairjax.data.cells import read_feature
from fairjax.data.complaints import complain
from fairjax.data.raw_table import RawTable
from fairjax.data.roles import Roles
from fairjax.data.rules import ColumnRule


def feature_names(
    table: RawTable,
    roles: Roles,
    tasks: tuple[ColumnRule, ...],
    attributes: tuple[ColumnRule, ...],
) -> tuple[list[str], list[str]]:
    """Names of numeric and of categorical features; both empty for a text.

    They are in the order of ``roles.features``, or in the order of the table.

    Raises:
        DataError: a named column is absent or has another role, or no feature is left.
    """
    sensitive = [rule.column for rule in attributes]
    excluded = _excluded(roles, tasks, sensitive)
    _refuse_excluded(table, roles, excluded)
    if roles.text is not None:
        return [], []
    if roles.features is None:
        candidates = list(table.columns)
    else:
        added = sensitive if roles.use_sensitive else []
        candidates = list(dict.fromkeys((*roles.features, *added)))
    names = [name for name in candidates if name not in excluded]
    if not names:
        problem = f"0 features are left in {len(table):,} rows"
        raise complain(table.where, problem, "Give columns beside the tasks.")
    numeric = [name for name in names if _is_numeric(name, table, roles)]
    categorical = [name for name in names if name not in numeric]
    return numeric, categorical


def _excluded(roles: Roles, tasks: tuple[ColumnRule, ...], sensitive: list[str]) -> set[str]:
    """Columns that cannot be features."""
    excluded = {rule.column for rule in tasks}
    excluded.update(roles.drop)
    excluded.update(name for name in (roles.weight, roles.split) if name is not None)
    if not roles.use_sensitive:
        excluded.update(sensitive)
    return excluded


def _refuse_excluded(table: RawTable, roles: Roles, excluded: set[str]) -> None:
    """Refuse a named feature that is absent or has another role. ``drop`` wins over a feature."""
    features = roles.features or ()
    named = [*features, *roles.numeric, *roles.categorical]
    if roles.text is not None:
        named.append(roles.text)
    for name in (*roles.drop, *named):
        table.column(name)
    for name in named:
        is_dropped = name in roles.drop
        if name not in excluded or (is_dropped and name != roles.text):
            continue
        problem = f"column {name!r} cannot be a feature of {len(table):,} rows"
        dropped = ", or dropped" if is_dropped else ""
        problem = f"{problem}: it is a task, sensitive, weight or split{dropped}"
        cure = "Remove it from the features (use_sensitive allows sensitive ones)."
        raise complain(table.where, problem, cure)


def _is_numeric(name: str, table: RawTable, roles: Roles) -> bool:
    """Whether a feature is declared numeric, or every known cell is a number.

    Raises:
        DataError: a declared number is a text; or nearly all cells are numbers, so that the others
            are probably typing errors.
    """
    if name in roles.categorical:
        if name in roles.numeric:
            problem = f"column {name!r} is declared numeric and categorical ({len(table):,} rows)"
            raise complain(table.where, problem, "Declare one.")
        return False
    value, bad = table.numbers(name)
    is_known = bad | ~np.isnan(value)
    few_bad = bad.any() and bad.sum() < 0.1 * is_known.sum()
    if name in roles.numeric or few_bad:
        read_feature(table, name, "impute")
    return not bad.any()
