"""Raw files of the named data sets: where they are looked for, which page has them, and how they are fetched."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from fairjax.core.disk import write
from fairjax.core.types import DataError


class RawFile(NamedTuple):
    """A file of a data set. ``url`` and ``sha256`` are empty where a person should fetch it by hand."""

    name: str
    page: str  # public page that a person can open
    url: str = ""
    sha256: str = ""  # of the uncompressed content


def cache_dir() -> Path:
    """The user's cache of raw files, ``$XDG_CACHE_HOME/fairjax`` or ``~/.cache/fairjax``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairjax"


def roots(data_dir: str | Path | None = None) -> list[Path]:
    """Folders that are searched, in order: ``data_dir``, ``$FAIRJAX_DATA``, the user's cache."""
    given = [data_dir, os.environ.get("FAIRJAX_DATA")]
    return [Path(root) for root in given if root] + [cache_dir()]


def find_file(dataset: str, file: RawFile, data_dir: str | Path | None = None) -> Path:
    """Path of a raw file, as ``<root>/<dataset>/<file>`` or ``<root>/<file>``, plain or ``.gz``.

    Args:
        dataset: its name, and its folder's.
        file: the file.
        data_dir: searched first.

    Raises:
        DataError: it is nowhere; says which file, from which page, goes where.
    """
    for root in roots(data_dir):
        for folder in (root / dataset, root):
            for path in (folder / file.name, folder / f"{file.name}.gz"):
                if path.is_file():
                    return path
    raise DataError(_absent(dataset, file, data_dir))


def _absent(dataset: str, file: RawFile, data_dir) -> str:
    looked = ", ".join(str(root) for root in roots(data_dir))
    place = roots(data_dir)[0] / dataset / file.name
    return (
        f"{dataset}: no file {file.name!r} (0 rows read; looked in {looked}). "
        f"Get {file.name} from {file.page} and put it at {place}, or name its folder with --data-dir or $FAIRJAX_DATA."
    )


def obtain(
    dataset: str, file: RawFile, data_dir: str | Path | None = None, timeout: float = 20.0
) -> Path:
    """The file, fetched into the first of the searched folders when it is nowhere.

    One attempt: without a network it fails at once with the place to put the file.

    Args:
        dataset: its name.
        file: the file.
        data_dir: searched first, and where it is written; without it ``$FAIRJAX_DATA`` or the user's cache.
        timeout: seconds for the attempt to connect.

    Raises:
        DataError: no address is known, the network fails, or the content is not the pinned one.
    """
    try:
        return find_file(dataset, file, data_dir)
    except DataError:
        if not file.url:
            raise
    content = _fetched(dataset, file, data_dir, timeout)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        what = f"{dataset}: {file.url} gave {len(content):,} bytes that are not the known {file.name!r}"
        raise DataError(f"{what}. {_absent(dataset, file, data_dir)}")
    return write(roots(data_dir)[0] / dataset / file.name, content)


def _fetched(dataset: str, file: RawFile, data_dir, timeout: float) -> bytes:
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(file.url, timeout=timeout) as answer:
            return answer.read()
    except (OSError, HTTPException) as error:
        raise DataError(
            f"{dataset}: {file.url} cannot be read ({error}). {_absent(dataset, file, data_dir)}"
        ) from error
