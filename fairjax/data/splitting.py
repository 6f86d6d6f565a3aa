"""Split the rows of a table into training, validation and test rows."""

from __future__ import annotations

import numpy as np

from fairjax.core.types import Dataset, Spec, Splits
from fairjax.data.complaints import complain, listing
from fairjax.data.raw_table import RawTable
from fairjax.data.roles import Roles

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
_RESPLIT = "Split otherwise (another seed or larger fractions)"


def split_rows(
    table: RawTable, roles: Roles, fractions, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of training, validation and test rows, each in the order of the table.

    Raises:
        DataError: bad fractions, a split column with one value, or a split without rows.
    """
    n = len(table)
    shares = _checked_fractions(table.where, fractions)
    train_share, validation_share, test_share = shares
    if roles.split is None:
        if not test_share:
            problem = f"fractions {fractions} leave 0 of {n:,} rows to test"
            raise complain(table.where, problem, "Give some.")
        train, validation, test = _random_parts(n, shares, seed, table.where)
    else:
        train, validation, test = _split_by_column(table, roles.split)
        if not len(validation) and validation_share:
            two_shares = (train_share, validation_share)
            parts = _random_parts(len(train), two_shares, seed, table.where)
            train, validation = [train[part] for part in parts]
    if not len(validation):
        validation = test
    return train, validation, test


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
    parts = np.split(order, ends[:-1])
    return [np.sort(part) for part in parts]


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
    for t, task in enumerate(spec.tasks):
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
                raise complain(where, problem, f"{_RESPLIT}, or merge the group.")
