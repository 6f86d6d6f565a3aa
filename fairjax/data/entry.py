"""The entry of a data set in the registry: its files, its columns, its roles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fairjax.data.files import RawFile, obtain
from fairjax.data.prepared import Prepared
from fairjax.data.roles import Roles

CORRECTED = ("corrected",)
CORRECTED_AND_PAPER = ("corrected", "paper")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A data set by name. It is read from files, or drawn by ``draw`` if it has no files."""

    name: str
    about: str
    terms: str
    files: tuple[RawFile, ...] = ()
    # paths of the files -> columns; of images also size=, their height and width
    read: Callable[..., dict[str, np.ndarray]] | None = None
    roles: Roles | None = None
    forms: tuple[str, ...] = CORRECTED
    # form -> roles other than ``roles``
    form_roles: Mapping[str, Roles] = dataclasses.field(default_factory=dict)
    # (rows, seed) -> [rows] of "train" and "test"; the paper form draws the split again by seed
    draw_split: Callable[[int, int], np.ndarray] | None = None
    is_raw: bool = False  # its texts or images are as they were: a pretrained network may read them
    notes: tuple[str, ...] = ()  # what a reader of its results should know
    # seed -> the data set
    draw: Callable[[int], Prepared] | None = None

    def obtain(self, data_dir: str | Path | None = None) -> list[Path]:
        """Paths of the raw files. An absent file is downloaded if its address is known.

        Raises:
            DataError: a file is absent and cannot be downloaded.
        """
        return [obtain(self.name, file, data_dir) for file in self.files]
