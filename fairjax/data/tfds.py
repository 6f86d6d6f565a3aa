"""Load adult, german and lsac through TFDS: array_record files give the arrays of ``load``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.complaints import listing
from fairjax.data.loading import from_columns
from fairjax.data.prepared import Prepared
from fairjax.data.registry import entry_of


def load_tfds(
    name: str,
    *,
    tfds_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    form: str = "corrected",
    seed: int = 0,
    validation: float = 0.2,
) -> Prepared:
    """A data set through TFDS, with the arrays of :func:`fairjax.data.load`.

    The first use writes the array_record files.

    Args:
        name: adult, german or lsac.
        tfds_dir: folder of TFDS; None is the default of TFDS.
        data_dir: manual directory of raw files. After it the usual folders are searched, and then
            there is one attempt to download.
        form: ``"corrected"`` or ``"paper"``.
        seed: of the validation split, and of the German split in the paper form.
        validation: share of the training rows.

    Raises:
        ImportError: TFDS is not installed; the message names the extra.
        DataError: unknown name, or no raw file and no network; the message says where to put it.
    """
    entry = entry_of(name, form)
    columns = _columns(prepared_builder(name, tfds_dir, data_dir))
    return from_columns(entry, columns, data_dir, form, seed, validation)


def prepared_builder(
    name: str, tfds_dir: str | Path | None = None, data_dir: str | Path | None = None
) -> Any:
    """The TFDS builder of a data set, with its array_record files written.

    Args:
        name: adult, german or lsac.
        tfds_dir: folder of TFDS.
        data_dir: manual directory of raw files.

    Raises:
        ImportError: TFDS is not installed.
        DataError: there is no such builder, or a raw file is absent.
    """
    from fairjax.data import builders

    if name not in builders.BUILDERS:
        names = listing(list(builders.BUILDERS))
        raise DataError(f"{name}: no TFDS builder among {len(builders.BUILDERS)}. Give {names}.")
    tfds_folder = None if tfds_dir is None else str(tfds_dir)
    builder = builders.BUILDERS[name](data_dir=tfds_folder, file_format="array_record")
    if not builder.data_path.exists():
        manual_dir = None if data_dir is None else str(data_dir)
        # find the raw files before TFDS makes folders
        builders.raw_paths(name, data_dir)
        config = builders.tfds.download.DownloadConfig(manual_dir=manual_dir)
        builder.download_and_prepare(download_config=config)
    return builder


def _columns(builder) -> dict[str, np.ndarray]:
    """Every stored column, with all rows in the order of the raw table."""
    sources = builder.as_data_source()
    examples = []
    for split in ("train", "test"):
        source = sources[split]
        for example in source.__getitems__(range(len(source))):
            examples.append(example | {"split": split})
    examples.sort(key=lambda example: int(example["row"]))
    columns = {}
    for name in examples[0]:
        if name != "row":
            cells = [_text(example[name]) for example in examples]
            columns[name] = np.array(cells, dtype=object)
    return columns


def _text(cell: bytes | str) -> str:
    return cell.decode() if isinstance(cell, bytes) else cell
