"""The pool of a repair: its groups, their sizes, and its fingerprint."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.input_columns import check_length
from fairjax.data.level_codes import column_levels
from fairjax.metrics.distribution import CHANCE
from fairjax.postprocess.cells import cells_of_codes

FEW = 400  # rows of a group below which its distance to others is .06 and more on new rows
MOST_CELLS = 2048  # crossed groups; the table of 2048 takes 8 MB per task
MINIMA = {"raise": 2, "pool": 100, "shrink": 100}
HEAD = 256  # rows of the short fingerprint
MOST_NAMED = 4  # groups that a message names


class Learned(NamedTuple):
    """Groups of a pool."""

    levels: list[list[Any]]  # of each attribute, in order
    cell: np.ndarray  # [N] in 0 .. G; G where a level is unknown


class Fingerprint(NamedTuple):
    """What a pool is recognised by."""

    rows: int
    head: str  # of the first rows
    all_rows: str  # of all rows


# ------------------------------------------------------------------------------------------- groups


def learn_groups(names: Sequence[str], columns: Sequence[Any], rows: int) -> Learned:
    """Levels of each attribute, and the cell of every row.

    Raises:
      DataError: a column of another length, cells that are no levels, or too many crossed groups.
    """
    levels_of_attribute = []
    positions = []
    for name, column in zip(names, columns, strict=True):
        checked = check_length(name, column, rows)
        position, levels = column_levels(name, checked)
        positions.append(position)
        levels_of_attribute.append(levels)
    sizes = list(map(len, levels_of_attribute))
    _refuse_many(names, sizes)
    cell = cells_of_codes(positions, sizes)
    return Learned(levels_of_attribute, cell)


def _refuse_many(names: Sequence[str], sizes: Sequence[int]) -> None:
    cells = math.prod(sizes)
    if cells <= MOST_CELLS:
        return
    widest = int(np.argmax(sizes))
    raise DataError(
        f"sensitive_features: {cells:,} groups, {names[widest]!r} with {sizes[widest]:,} "
        f"levels; at most {MOST_CELLS:,} can be repaired: join levels, or cut numbers into ranges."
    )


def check_group_sizes(
    cells: list[tuple[Any, ...]], rows: np.ndarray, small: str, minimum: float
) -> None:
    """Refuse groups that are too small, and warn of groups that leave much to chance.

    Args:
      cells: ``G`` groups, a level per attribute.
      rows: ``[G]`` of the pool.
      small: what happens to groups of fewer than ``minimum`` rows, as of :class:`fairjax.Repair`.
      minimum: rows.
    """
    present = rows > 0
    groups = present.sum()
    if not groups:
        raise DataError(
            "sensitive_features: no row has a known group and a weight above 0; give some."
        )
    row_counts = dict(zip(cells, rows.tolist(), strict=True))
    tiny = {cell: count for cell, count in row_counts.items() if 0 < count < minimum}
    few = {cell: count for cell, count in row_counts.items() if 0 < count < FEW}
    if tiny and small == "raise":
        raise DataError(
            f"sensitive_features: {len(tiny)} of {groups} groups have fewer than {minimum:g} rows "
            f"({list_counts(tiny)}); join levels, or give small='pool' or small='shrink'."
        )
    if groups == 1:
        only = cell_name(cells[int(np.argmax(rows))])
        warnings.warn(
            f"all {rows.sum():,} rows are of one group, {only}: scores stay as they are",
            stacklevel=3,
        )
    elif few:
        treatment = {
            "raise": "",
            "pool": f"; those of fewer than {minimum:g} take the quantiles of all rows",
            "shrink": f"; they lean on all rows as if they had {minimum:g} of them",
        }[small]
        smallest_two = np.sort(rows[present])[:2]
        distance = CHANCE * math.sqrt(np.sum(1 / smallest_two))
        warnings.warn(
            f"{len(few)} of {groups} groups have fewer than {FEW} rows "
            f"({list_counts(few)}){treatment}. On new rows the two smallest will be about "
            f"{min(distance, 1):.2f} apart after repair "
            "(Kolmogorov-Smirnov, 0.87 sqrt(1/n + 1/m))",
            stacklevel=3,
        )


def cell_name(cell: tuple[Any, ...]) -> str:
    """A group in a message: its levels as Python writes them."""
    return " & ".join(map(repr, cell))


def list_counts(counts: dict[tuple[Any, ...], int], most: int = MOST_NAMED) -> str:
    """``'f' & 'x' 3, 'm' & 'x' 12, ... (9 in all)``, the fewest first."""
    ascending = sorted(counts.items(), key=lambda item: item[1])
    entries = [f"{cell_name(cell)} {count:,}" for cell, count in ascending]
    listed = ", ".join(entries[:most])
    if len(entries) <= most:
        return listed
    return f"{listed}, ... ({len(entries):,} in all)"


# -------------------------------------------------------------------------------------- recognition


def fingerprint(score: np.ndarray, cell: np.ndarray) -> Fingerprint:
    """The fingerprint of scores with their groups."""
    return Fingerprint(
        rows=len(score),
        head=_digest(score[:HEAD], cell[:HEAD]),
        all_rows=_digest(score, cell),
    )


def is_pool(pool: Fingerprint, score: np.ndarray, cell: np.ndarray) -> bool:
    """Whether rows are those of the pool; number and first rows rule most others out quickly."""
    if len(score) != pool.rows:
        return False
    head = _digest(score[:HEAD], cell[:HEAD])
    if head != pool.head:
        return False
    return _digest(score, cell) == pool.all_rows


def _digest(score: np.ndarray, cell: np.ndarray) -> str:
    score_bytes = np.ascontiguousarray(score)
    cell_bytes = np.ascontiguousarray(cell, np.int32)
    digest = hashlib.blake2b(score_bytes, digest_size=16)
    digest.update(cell_bytes)
    return digest.hexdigest()
