"""Split the rows of a table into training, validation and test rows."""

from __future__ import annotations

import numpy as np

from fairjax.core.types import Dataset, Spec, Splits
from fairjax.data.complaints import complain, listing
from fairjax.data.raw_table import RawTable
from fairjax.data.roles import Roles
from fairjax.data.rules import ColumnRule, holds, parse_rules

SPLITS = Splits._fields
_SPELLINGS = {
    "train": 0,
    "training": 0,
    "validation": 1,
    "valid": 1,
    "val": 1,
    "dev": 1,
    "test": 2,
    "testing": 2,
}
_RESPLIT = "Split otherwise (another --seed or larger --fractions)"


def split_rows(
    table: RawTable, roles: Roles, fractions: tuple[float, float, float], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of training, validation and test rows, each in the order of the table.

    Raises:
        DataError: bad fractions, a split column with one value, or a split without rows.
    """
    n = len(table)
    shares = _checked_fractions(table.where, fractions)
    train_share, validation_share, test_share = shares
    if roles.split is None and roles.split_at is None:
        if not test_share:
            problem = f"fractions {fractions} leave 0 of {n:,} rows to test"
            raise complain(table.where, problem, "Give some.")
        if roles.split_by is None:
            train, validation, test = _random_parts(n, shares, seed, table.where)
        else:
            train, validation, test = _parts_together(table, roles.split_by, shares, seed)
    else:
        if roles.split is None:
            train, validation, test = _split_at_rule(table, roles)
        else:
            train, validation, test = _split_by_column(table, roles.split)
        if not len(validation) and validation_share:
            two_shares = (train_share, validation_share)
            parts = _random_parts(len(train), two_shares, seed, table.where)
            train, validation = [train[part] for part in parts]
    if not len(validation):
        validation = test
    return train, validation, test


def split_rules(roles: Roles, table: RawTable) -> tuple[ColumnRule, ...]:
    """The rule of ``split_at``."""
    return parse_rules((roles.split_at,), table, "split", roles.levels)


def _split_at_rule(table: RawTable, roles: Roles) -> list[np.ndarray]:
    """Rows for which the rule holds train, the others are the test rows."""
    (rule,) = split_rules(roles, table)
    if not rule.op:
        problem = f"split rule {roles.split_at!r} on {len(table):,} rows compares nothing"
        raise complain(table.where, problem, f"Write '{rule.column} < 2019', or the like.")
    is_early, is_known = holds(rule, table)
    if not is_known.all():
        count = f"{(~is_known).sum():,} of {len(table):,} cells are missing"
        problem = f"split rule {rule.text!r}: {count}, {table.spots(~is_known)}"
        raise complain(table.where, problem, "Fill them, or leave out those rows.")
    train = np.flatnonzero(is_early)
    test = np.flatnonzero(~is_early)
    if not (len(train) and len(test)):
        problem = f"split rule {rule.text!r} gives {len(train):,} training"
        problem = f"{problem} and {len(test):,} test rows of {len(table):,}"
        raise complain(table.where, problem, "Change the rule.")
    return [train, np.zeros(0, int), test]


def _parts_together(
    table: RawTable, name: str, shares: tuple[float, ...], seed: int
) -> list[np.ndarray]:
    """Random parts of the rows in which equal cells of a column are in one part.

    A missing cell is equal to no other. A part has its share of the distinct cells, drawn at
    random.
    """
    texts = table.text(name)
    missing = table.missing(name)
    _, code = np.unique(texts.astype(str), return_inverse=True)
    code[missing] = code.max(initial=0) + 1 + np.arange(missing.sum())
    _, code = np.unique(code, return_inverse=True)
    count = int(code.max()) + 1
    where = f"{table.where}: column {name!r} holds {count:,} different values"
    parts = _random_parts(count, shares, seed, where)
    part_of_code = np.zeros(count, int)
    for place, part in enumerate(parts):
        part_of_code[part] = place
    return [np.flatnonzero(part_of_code[code] == place) for place in range(len(parts))]


def _checked_fractions(where: str, fractions) -> tuple[float, ...]:
    shares = tuple(float(fraction) for fraction in fractions)
    is_share = len(shares) == 3 and min(shares) >= 0 and shares[0] > 0
    is_whole = abs(sum(shares) - 1) <= 1e-6
    if not (is_share and is_whole):
        problem = f"fractions {fractions} of the rows"
        raise complain(where, problem, "Give three that sum to 1, such as 0.6, 0.2, 0.2.")
    return shares


def _random_parts(n: int, shares: tuple[float, ...], seed: int, where: str) -> list[np.ndarray]:
    """Random parts of ``range(n)``, sorted. The first part takes what rounding leaves."""
    total = sum(shares)
    other_shares = shares[1:]
    sizes = [round(n * share / total) for share in other_shares]
    first_size = n - sum(sizes)
    is_lost = [share > 0 and size == 0 for share, size in zip(other_shares, sizes, strict=True)]
    if any(is_lost) or first_size <= 0:
        problem = f"{n:,} rows are too few for shares {shares}"
        raise complain(where, problem, "Give more rows, or other fractions.")
    # RandomState, because numpy promises that its stream never changes.
    rng = np.random.RandomState(seed)
    order = rng.permutation(n)
    ends = np.cumsum([first_size, *sizes])
    part_of = np.empty(n, np.int8)
    for place, part in enumerate(np.split(order, ends[:-1])):
        part_of[part] = place
    return [np.flatnonzero(part_of == place) for place in range(len(ends))]


def _split_by_column(table: RawTable, name: str) -> list[np.ndarray]:
    cells = table.text(name).tolist()
    values = sorted(set(cells))
    column = f"split column {name!r}"
    row_count = f"{len(table):,}"
    if len(values) < 2:
        problem = f"{column} has one value, {values[0]!r}, in {row_count} rows"
        cure = "Give train, validation and test rows, or leave the split to fractions."
        raise complain(table.where, problem, cure)
    unreadable = [value for value in values if value.lower() not in _SPELLINGS]
    if unreadable:
        problem = f"{column} holds {listing(unreadable)} among {row_count} rows"
        raise complain(table.where, problem, "Use the values train, validation and test.")
    split_n = np.array([_SPELLINGS[cell.lower()] for cell in cells])
    rows_of = {split: np.flatnonzero(split_n == i) for i, split in enumerate(SPLITS)}
    for split in ("train", "test"):
        if not len(rows_of[split]):
            problem = f"{column} has 0 {split} rows among {row_count}"
            raise complain(table.where, problem, f"Mark some rows {split!r}.")
    return list(rows_of.values())


def refuse_thin(where: str, splits: Splits, spec: Spec) -> None:
    """Refuse splits with too little in them to train and to measure.

    Every task needs labels in every split, and training labels that vary. Every group needs rows in
    every split. Every sensitive number needs known values in every split.

    Raises:
        DataError: one of these is missing; the message names the task or group and the split.
    """
    for split, data in zip(SPLITS, splits, strict=True):
        _refuse_thin_tasks(where, split, data, spec)
        _refuse_thin_groups(where, split, data, spec)


def _refuse_thin_tasks(where: str, split: str, data: Dataset, spec: Spec) -> None:
    for t, task in enumerate(spec.label_tasks):
        has_label = data.label_mask[:, t] > 0
        label = data.labels[has_label, t]
        if not len(label):
            rows = f"the {len(data.weight):,} {split} rows"
            problem = f"task {task.name!r} has 0 labels in {rows}"
            raise complain(where, problem, "Give labels there, or split otherwise.")
        is_constant = label.min() == label.max()
        if split == "train" and is_constant:
            rows = f"({label[0]:g}) in the {len(label):,} labelled train rows"
            problem = f"task {task.name!r}: its label is constant {rows}"
            raise complain(where, problem, "Split otherwise, or change the rule.")


def _refuse_thin_groups(where: str, split: str, data: Dataset, spec: Spec) -> None:
    rows = f"0 of the {len(data.weight):,} {split} rows"
    for i, attribute in enumerate(spec.attributes):
        columns = spec.group_slice(i)
        counts = data.groups[:, columns].sum(0)
        if attribute.continuous:
            if not counts[0]:
                problem = f"sensitive number {attribute.name!r} is known in {rows}"
                raise complain(where, problem, f"{_RESPLIT}.")
            continue
        for name, count in zip(attribute.columns, counts, strict=True):
            if not count:
                problem = f"group {name!r} has {rows}"
                raise complain(where, problem, f"{_RESPLIT}, or merge the group (--merge).")
