"""TFDS builders of adult, german and lsac: raw files in, array_record out, without TensorFlow.

Import this module to register ``fairjax_adult``, ``fairjax_german`` and ``fairjax_lsac`` with TFDS. Raw files come from
the manual directory, the folders of :mod:`fairjax.data.files`, or one attempt at the network. Only array_record is
offered: the parquet writer of TFDS 4.9 loses rows. Examples keep the order of the raw files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.files import find_file, obtain
from fairjax.data.named import NAMED

try:
    import importlib_resources  # noqa: F401 (TFDS 4.9 needs it and does not declare it)
    import tensorflow_datasets as tfds
except ImportError as error:
    raise ImportError(f"TFDS is not complete ({error}): pip install 'fairjax[data]'") from error


class _Table(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A named data set as TFDS examples. Every cell is text: TFDS keeps float64 in single precision, text keeps all."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put the raw files of the data set there; the homepage has them."
    DATASET = ""

    def _info(self) -> tfds.core.DatasetInfo:
        entry = NAMED[self.DATASET]
        features = {name: tfds.features.Text() for name in _columns(self.DATASET)} | {
            "row": np.int64
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{entry.about} ({entry.terms})",
            features=tfds.features.FeaturesDict(features),
            homepage=entry.files[0].page,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        columns = NAMED[self.DATASET].read(raw_paths(self.DATASET, _manual(dl_manager)))
        return {split: self._generate_examples(columns, split) for split in ("train", "test")}

    def _generate_examples(
        self, columns: dict[str, np.ndarray], split: str
    ) -> Iterator[tuple[int, dict]]:
        """``(row, example)`` of a split; the row in the whole table is the key, so that its order can be restored."""
        for row in np.flatnonzero(columns["split"] == split).tolist():
            yield row, {name: columns[name][row] for name in _columns(self.DATASET)} | {"row": row}


def _columns(dataset: str) -> tuple[str, ...]:
    """Stored columns: features, sensitive columns, and the columns of the label rules."""
    roles = NAMED[dataset].roles
    rules = (text.split(": ")[1].split()[0] for text in roles.tasks)
    return tuple(dict.fromkeys((*roles.features, *roles.sensitive, *rules)))


def _manual(dl_manager) -> Path | None:
    """The manual directory, where there is one; TFDS raises when it is absent."""
    try:
        return Path(dl_manager.manual_dir)
    except (AssertionError, OSError):
        return None


def raw_paths(dataset: str, manual_dir: Path | None) -> list[Path]:
    """Paths of the raw files: manual directory, usual folders, or fetched; raises DataError at once otherwise."""
    paths = []
    for file in NAMED[dataset].files:
        try:
            paths.append(find_file(dataset, file, manual_dir))
        except DataError:
            paths.append(obtain(dataset, file))
    return paths


class FairjaxAdult(_Table):
    """UCI Adult, the two original files."""

    DATASET = "adult"


class FairjaxGerman(_Table):
    """UCI Statlog German Credit, the fixed 800/200 split."""

    DATASET = "german"


class FairjaxLsac(_Table):
    """LSAC bar passage, the 70/30 split."""

    DATASET = "lsac"


BUILDERS = {builder.DATASET: builder for builder in (FairjaxAdult, FairjaxGerman, FairjaxLsac)}
