"""From a raw table and its roles to three data sets, their spec and the encoder."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fairjax.core.inputs import TableLike
from fairjax.core.threads import in_threads
from fairjax.core.types import Dataset, Splits
from fairjax.data.checks import check
from fairjax.data.column_summary import column_summaries
from fairjax.data.complaints import collect, complain
from fairjax.data.fitting import fit, rules_of
from fairjax.data.frozen import Progress, located, with_features
from fairjax.data.merging import merged, refuse_unknown_levels
from fairjax.data.pixels import with_images
from fairjax.data.prepared import Prepared, SourceRows
from fairjax.data.raw_table import RawTable
from fairjax.data.read import as_table
from fairjax.data.roles import Roles
from fairjax.data.splitting import refuse_thin, split_rows

FRACTIONS = (0.6, 0.2, 0.2)  # of training, validation and test rows
_NAME_ENDS = re.compile(
    r"(\.(csv|tsv|txt|data|parquet|feather|arrow|xlsx))?(\.(gz|bz2|xz|zip))?$", re.IGNORECASE
)


def from_table(
    source: TableLike | RawTable,
    roles: Roles,
    *,
    fractions: tuple[float, float, float] = FRACTIONS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Prepared:
    """A table and its roles as training, validation and test data.

    Statistics and category levels come from the training rows only, unless ``roles.standardise`` is
    ``"all"``.

    Args:
        source: path of a CSV, parquet, feather or Excel file, data frame, or dict of arrays, N
            rows; see :func:`fairjax.data.read.as_table`. A dict may hold images.
        roles: what each column is for.
        fractions: of train, validation and test. If there is a split column without validation
            rows, they are drawn from its training rows, ``validation / (train + validation)`` of
            them. If the validation fraction is 0, all training rows stay and the test data is also
            the validation data.
        seed: of the random split.
        progress: is called with the name of a pretrained network, rows whose features are computed,
            and all rows.

    Returns:
        Prepared, with float32 numpy arrays.

    Raises:
        DataError: an error in the file, a column, a rule, a label, a group or the split; the
            message says what to do.

    >>> rows = {
    ...     "age": [20, 30, 40, 50, 60] * 8,
    ...     "sex": ["f", "m"] * 20,
    ...     "paid": [0, 0, 1, 1, 1, 0, 1, 1] * 5,
    ... }
    >>> from_table(rows, Roles(tasks=("paid",), sensitive=("sex",))).spec.group_names
    ('sex=f', 'sex=m')
    """
    table = as_table(source, **roles.reading)
    if roles.images:
        roles = dataclasses.replace(roles, images=str(Path(roles.images).resolve()))
    roles = dataclasses.replace(roles, encoder=located(roles.encoder))
    settings = {"fractions": fractions, "seed": seed, "progress": progress}
    if not isinstance(source, (str, Path)):
        return prepare(table, roles, **settings, name="table", source=None)
    description = {
        "kind": "table",
        "path": str(Path(source).resolve()),
        "sha256": table.sha256,
        "roles": dataclasses.asdict(roles),
        "fractions": list(fractions),
        "seed": seed,
    }
    return prepare(table, roles, **settings, name=table_name(source), source=description)


def table_name(path: str | Path) -> str:
    """The name of a table's data set: that of its file, without what follows the point."""
    return _NAME_ENDS.sub("", Path(path).name)


def prepare(
    table: RawTable,
    roles: Roles,
    *,
    fractions: tuple[float, float, float],
    seed: int,
    name: str,
    source: dict[str, Any] | None,
    progress: Progress | None = None,
) -> Prepared:
    """:func:`from_table` for a table that is already read."""
    roles = roles.named_as(table)
    as_written = table
    table = merged(table, roles.merge)
    # each is tried, so that all complaints come together
    parts = (
        partial(split_rows, table, roles, fractions, seed),
        partial(rules_of, table, roles),
        partial(refuse_unknown_levels, as_written, roles),
        partial(_with_raw_rows, table, roles, progress),
    )
    split_indices, _, _, table = collect(lambda part: part(), parts)
    for key in ("images_sha256", "fingerprint"):
        if source is not None and getattr(table, key):
            source = source | {key: getattr(table, key)}
    encoder = fit(table, roles, split_indices[0])
    data = encoder.encode(table, labels=True)
    splits = Splits(*in_threads(partial(_take, data), split_indices))
    refuse_thin(table.where, splits, encoder.spec)
    origin = {
        split: _origin(table, rows)
        for split, rows in zip(Splits._fields, split_indices, strict=True)
    }
    checks = check(table, encoder, split_indices, data)
    columns = column_summaries(table, encoder, checks)
    found = checks.findings
    warnings = tuple(finding.text for finding in found if finding.is_warning)
    notes = tuple(finding.text for finding in found if not finding.is_warning)
    return Prepared(name, encoder.spec, splits, encoder, source, origin, warnings, notes, columns)


def _with_raw_rows(table: RawTable, roles: Roles, progress: Progress | None) -> RawTable:
    """The table with the pixels of its images, or with a pretrained network's features."""
    if roles.encoder is None:
        return with_images(table, roles)
    return with_features(table, roles, progress=progress)


def _origin(table: RawTable, rows: np.ndarray) -> SourceRows:
    line = None if table.lines is None else table.lines[rows]
    return SourceRows(rows, line)


def _take(data: Dataset, rows: np.ndarray) -> Dataset:
    """Some rows of a data set."""

    def take(array: np.ndarray) -> np.ndarray:
        if array.ndim > 2:
            return array[rows]
        # column by column, as they lie in memory
        return array.T.take(rows, -1, mode="clip").T

    return jax.tree.map(take, data)


def digest(path: str | Path) -> str:
    """sha256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_unchanged(path: str, sha256: str) -> None:
    """Raise DataError if a file is absent or its content has changed."""
    if not Path(path).is_file():
        raise complain(path, "no such file (0 rows read)", "Put the table back where it was.")
    if digest(path) != sha256:
        size = f"{Path(path).stat().st_size:,} bytes now"
        problem = f"the file has changed since the run ({size})"
        raise complain(path, problem, "Restore it, or start a new run.")
