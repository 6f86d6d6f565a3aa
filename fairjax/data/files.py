"""Raw files of the data sets: where to look for them, where to get them, how to download them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from fairjax.core.disk import cache_dir, write
from fairjax.core.types import DataError
from fairjax.data.complaints import complain, listing


class RawFile(NamedTuple):
    """A file of a data set. Without ``url`` and ``sha256`` a person must download it."""

    name: str
    page: str  # public page that a person can open
    url: str = ""
    sha256: str = ""  # of the uncompressed content
    patterns: tuple[str, ...] = ()  # other names of the file, such as "psam_p*.csv"


def roots(data_dir: str | Path | None = None) -> list[Path]:
    """Folders to search, in order: ``data_dir``, ``$FAIRJAX_DATA``, the user's cache."""
    folders = [data_dir, os.environ.get("FAIRJAX_DATA"), cache_dir()]
    return [Path(folder) for folder in folders if folder]


def find_file(dataset: str, file: RawFile, data_dir: str | Path | None = None) -> Path:
    """Path of a raw file, ``<root>/<dataset>/<file>`` or ``<root>/<file>``, plain or ``.gz``.

    The first folder that holds the file, under its name or under one of its patterns, is taken.

    Args:
        dataset: its name, and the name of its folder.
        file: the file.
        data_dir: the first folder to search.

    Raises:
        DataError: the file is absent, and the message says where to get it and where to put it; or
            a folder holds several files that it may be.
    """
    for root in roots(data_dir):
        for folder in (root / dataset, root):
            found = _files_in(folder, file)
            if len(found) > 1:
                names = listing(sorted(found))
                raise complain(
                    dataset,
                    f"{len(found)} files in {folder} may be the data ({names}; 0 rows read)",
                    "Give --data-dir a folder that holds one of them.",
                )
            if found:
                return next(iter(found.values()))
    raise DataError(_absent(dataset, file, data_dir))


def _files_in(folder: Path, file: RawFile) -> dict[str, Path]:
    """Paths by name without ``.gz``; of a name the plain file."""
    found = {}
    for pattern in (file.name, *file.patterns):
        for path in (*folder.glob(pattern), *folder.glob(f"{pattern}.gz")):
            if path.is_file():
                found.setdefault(path.name.removesuffix(".gz"), path)
    return found


def _absent(dataset: str, file: RawFile, data_dir: str | Path | None) -> str:
    searched = roots(data_dir)
    folders = ", ".join(str(root) for root in searched)
    destination = searched[0] / dataset / file.name
    others = f" nor {listing(file.patterns)}" if file.patterns else ""
    return (
        f"{dataset}: no file {file.name!r}{others} (0 rows read; looked in {folders}). "
        f"Get {file.name} from {file.page} and put it at {destination}, "
        "or name its folder with --data-dir or $FAIRJAX_DATA."
    )


def obtain(
    dataset: str, file: RawFile, data_dir: str | Path | None = None, timeout: float = 20.0
) -> Path:
    """The file; if it is absent, it is downloaded into the first folder of :func:`roots`.

    There is one attempt. Without a network it fails at once, and the message says where to put the
    file.

    Args:
        dataset: its name.
        file: the file.
        data_dir: the first folder to search, and the folder for the download. Without it the
            download goes to ``$FAIRJAX_DATA`` or to the user's cache.
        timeout: seconds to connect.

    Raises:
        DataError: no address is known, the network fails, or the content has another sha256.
    """
    try:
        return find_file(dataset, file, data_dir)
    except DataError:
        if not file.url:
            raise
    content = _download(dataset, file, data_dir, timeout)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        size = f"{len(content):,} bytes"
        problem = f"{dataset}: {file.url} gave {size} that are not the known {file.name!r}"
        raise DataError(f"{problem}. {_absent(dataset, file, data_dir)}")
    return write(roots(data_dir)[0] / dataset / file.name, content)


def _download(dataset: str, file: RawFile, data_dir: str | Path | None, timeout: float) -> bytes:
    # imported here, because few runs download
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(file.url, timeout=timeout) as response:
            return response.read()
    except (OSError, HTTPException) as error:
        problem = f"{dataset}: {file.url} cannot be read ({error})"
        raise DataError(f"{problem}. {_absent(dataset, file, data_dir)}") from error
