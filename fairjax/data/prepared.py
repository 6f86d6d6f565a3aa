"""A data set ready for training."""

from __future__ import annotations

import dataclasses
from html import escape

import numpy as np

from fairjax.core.types import Spec, Splits
from fairjax.data.encoder import Encoder
from fairjax.data.summary import summary


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
    source the rows are.
    """

    name: str
    spec: Spec
    splits: Splits
    encoder: Encoder
    source: dict | None = None
    origin: dict[str, SourceRows] = dataclasses.field(default_factory=dict)

    def describe(self) -> str:
        """Rows, known labels and means as text, per task, group and split.

        The mean is that of the label, or of the value for a sensitive number.
        """
        return summary(self.name, self.splits, self.encoder)

    def _repr_html_(self) -> str:
        """The description, for a notebook."""
        return f"<pre>{escape(self.describe())}</pre>"
