"""Files that appear whole or not at all: bytes, JSON, arrays."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np


def write(path: Path, content: bytes) -> Path:
    """Put ``content`` at ``path`` in one step, folders and all: a reader sees the old file or the new one, never a part."""
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
    """:func:`write` a dictionary as JSON."""
    return write(path, json.dumps(content, indent=1).encode())


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """:func:`write` arrays by name as npz."""
    held = io.BytesIO()
    np.savez(held, **arrays)
    return write(path, held.getbuffer())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What :func:`write_arrays` wrote; executes nothing."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
