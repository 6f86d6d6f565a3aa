"""Write bytes, JSON and arrays to files. A file appears whole or not at all."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np


def write(path: Path, content: bytes) -> Path:
    """Write ``content`` to ``path`` in one step and create its folders.

    A reader sees the old file or the new file, never a part of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: dict) -> Path:
    """Write a dictionary as JSON with :func:`write`.

    Arrays become lists, and numpy's numbers become numbers.
    """
    text = json.dumps(content, indent=1, default=_plain)
    return write(path, text.encode())


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write named arrays as npz with :func:`write`."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return write(path, buffer.getbuffer())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays that :func:`write_arrays` wrote. It runs no code from the file."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
