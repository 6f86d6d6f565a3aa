"""The TFDS road: adult, german and lsac from array_record files, as the same arrays that the direct road gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairjax.core.types import DataError
from fairjax.data.named import entry_of, from_columns
from fairjax.data.read import listing
from fairjax.data.sets import german
from fairjax.data.table import Prepared


def load_tfds(
    name: str,
    *,
    tfds_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    form: str = "corrected",
    seed: int = 0,
    validation: float = 0.2,
) -> Prepared:
    """A named data set by way of TFDS; prepares it on first use, and gives the arrays of :func:`fairjax.data.load`.

    Args:
        name: adult, german or lsac.
        tfds_dir: where TFDS keeps its data sets; None is its own default.
        data_dir: manual directory of raw files; then the usual folders, then one attempt at the network.
        form: ``"corrected"`` or ``"paper"``.
        seed: of the validation split.
        validation: share of the training rows.

    Raises:
        ImportError: TFDS is not installed; names the extra.
        DataError: unknown name, or no raw file and no network; says what to put where.
    """
    entry = entry_of(name, form)
    columns = _columns(prepared_builder(name, tfds_dir, data_dir))
    if (name, form) == ("german", "paper"):
        columns["split"] = german.draw_split(len(columns["split"]), seed)
    return from_columns(entry, columns, data_dir, form, seed, validation)


def prepared_builder(
    name: str, tfds_dir: str | Path | None = None, data_dir: str | Path | None = None
):
    """The TFDS builder of a data set, with its array_record files written; raw files are looked for beforehand.

    Args:
        name: adult, german or lsac.
        tfds_dir: where TFDS keeps its data sets.
        data_dir: manual directory of raw files.

    Raises:
        ImportError: TFDS is not installed.
        DataError: no such builder, or a raw file is nowhere.
    """
    from fairjax.data import builders

    if name not in builders.BUILDERS:
        raise DataError(
            f"{name}: no TFDS builder among {len(builders.BUILDERS)}. Give {listing([*builders.BUILDERS])}."
        )
    builder = builders.BUILDERS[name](
        data_dir=tfds_dir and str(tfds_dir), file_format="array_record"
    )
    if not builder.data_path.exists():
        manual = data_dir and Path(data_dir)
        builders.raw_paths(name, manual)  # complain before TFDS makes folders
        config = builders.tfds.download.DownloadConfig(manual_dir=manual and str(manual))
        builder.download_and_prepare(download_config=config)
    return builder


def _columns(builder) -> dict[str, np.ndarray]:
    """Every stored column, train rows and test rows put back into the order of the raw table."""
    sources = builder.as_data_source()
    parts = {
        split: sources[split].__getitems__(range(len(sources[split])))
        for split in ("train", "test")
    }
    rows = [example | {"split": split} for split, examples in parts.items() for example in examples]
    rows.sort(key=lambda example: int(example["row"]))
    return {
        name: np.array([_word(row[name]) for row in rows], dtype=object)
        for name in rows[0]
        if name != "row"
    }


def _word(cell: bytes | str) -> str:
    return cell.decode() if isinstance(cell, bytes) else cell
