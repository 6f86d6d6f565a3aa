"""A data set ready for training."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import Any

import numpy as np

from fairjax.core.types import Spec, Splits
from fairjax.data.column_summary import ColumnSummary
from fairjax.data.encoder import Encoder
from fairjax.data.summary import column_table, findings, listed_columns, summary


@dataclasses.dataclass(frozen=True)
class SourceRows:
    """Where the rows of a split stand in their source."""

    row: np.ndarray  # [N] position in the source, from 0
    line: np.ndarray | None = None  # [N] line of the file; None for rows from memory


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set ready for training.

    ``source`` is a JSON-safe description, from which :func:`fairjax.data.reload` makes the same
    arrays. It is None if the rows came from memory. ``origin`` says by split which rows of the
    source the rows are. ``warnings`` are probable errors, such as a feature that reveals a label;
    ``notes`` are what was understood, and what a person may want to look at.
    """

    name: str
    spec: Spec
    splits: Splits
    encoder: Encoder
    source: dict[str, Any] | None = None
    origin: dict[str, SourceRows] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    columns: tuple[ColumnSummary, ...] = ()

    def describe(self) -> str:
        """Rows, known labels and means as text, per task, group and split; columns; findings.

        The mean is that of the label, or of the value for a sensitive number.
        """
        parts = (
            summary(self.name, self.splits, self.encoder),
            column_table(self.columns),
            findings(self.warnings, self.notes),
        )
        return "\n\n".join(part for part in parts if part)

    def details(self) -> dict[str, Any]:
        """Rows, columns and findings as JSON has them; for a report."""
        listed, left = listed_columns(self.columns)
        named_splits = zip(Splits._fields, self.splits, strict=True)
        own = sum(column.role == "feature" for column in self.columns)
        of_network = sum(len(frozen.mean) for frozen in self.encoder.frozen)
        return {
            "rows": {name: len(split.weight) for name, split in named_splits},
            "features": own + of_network,
            "columns": [column._asdict() for column in listed],
            "left": left,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        """The description, for a notebook."""
        return f"<pre>{escape(self.describe())}</pre>"
