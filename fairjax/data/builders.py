"""TFDS builders of adult, german and lsac: from raw files to array_record, without TensorFlow.

Import this module to register ``fairjax_adult``, ``fairjax_german`` and ``fairjax_lsac`` with TFDS.
Raw files come from the manual directory, the folders of :mod:`fairjax.data.files`, or one download.
The only format is array_record: the parquet writer of TFDS 4.9 loses rows. Examples keep the order
of the raw files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.files import find_file, obtain
from fairjax.data.registry import REGISTRY

try:
    import importlib_resources  # noqa: F401 (TFDS 4.9 needs it and does not declare it)
    import tensorflow_datasets as tfds
except ImportError as error:
    raise ImportError(f"TFDS is not complete ({error}): pip install 'fairjax[data]'") from error


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set as TFDS examples.

    Every cell is text: TFDS stores float64 in single precision, and text keeps all digits.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put the raw files of the data set there; the homepage has them."
    DATASET = ""

    def _info(self) -> tfds.core.DatasetInfo:
        entry = REGISTRY[self.DATASET]
        features = {name: tfds.features.Text() for name in _stored_columns(self.DATASET)}
        features["row"] = np.int64
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{entry.about} ({entry.terms})",
            features=tfds.features.FeaturesDict(features),
            homepage=entry.files[0].page,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator[Any]]:
        paths = raw_paths(self.DATASET, _manual_dir(dl_manager))
        columns = REGISTRY[self.DATASET].read(paths)
        return {split: self._generate_examples(columns, split) for split in ("train", "test")}

    def _generate_examples(
        self, columns: dict[str, np.ndarray], split: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """``(row, example)`` of a split.

        The key is the row in the raw table, so that the order can be restored.
        """
        names = _stored_columns(self.DATASET)
        for row in np.flatnonzero(columns["split"] == split).tolist():
            example = {name: columns[name][row] for name in names}
            yield row, example | {"row": row}


def _stored_columns(dataset: str) -> tuple[str, ...]:
    """Stored columns: features, sensitive columns, and the columns of the label rules."""
    roles = REGISTRY[dataset].roles
    names = [*roles.features, *roles.sensitive]
    for text in roles.tasks:
        # the registered rules have the form "name: column op value"
        _, rule = text.split(": ")
        names.append(rule.split()[0])
    return tuple(dict.fromkeys(names))


def _manual_dir(dl_manager) -> Path | None:
    """The manual directory. TFDS raises if it is absent."""
    try:
        return Path(dl_manager.manual_dir)
    except (AssertionError, OSError):
        return None


def raw_paths(dataset: str, manual_dir: str | Path | None) -> list[Path]:
    """Paths of the raw files: in the manual directory, in the usual folders, or downloaded.

    Raises:
        DataError: a file is absent and cannot be downloaded.
    """
    paths = []
    for file in REGISTRY[dataset].files:
        try:
            path = find_file(dataset, file, manual_dir)
        except DataError:
            path = obtain(dataset, file)
        paths.append(path)
    return paths


class FairjaxAdult(_Builder):
    """UCI Adult, the two original files."""

    DATASET = "adult"


class FairjaxGerman(_Builder):
    """UCI Statlog German Credit, the fixed 800/200 split."""

    DATASET = "german"


class FairjaxLsac(_Builder):
    """LSAC bar passage, the 70/30 split."""

    DATASET = "lsac"


BUILDERS = {builder.DATASET: builder for builder in (FairjaxAdult, FairjaxGerman, FairjaxLsac)}
