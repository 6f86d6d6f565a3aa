"""Named arrays in the format safetensors, read without running anything.

A file is eight bytes with the header's length, the header in JSON, and the arrays' bytes one after
another without gaps. Every length is checked before an array is made.

Reference: https://github.com/huggingface/safetensors, section Format.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fairjax.core.disk import read_safely

_MOST_HEADER = 2**24  # bytes
_DTYPES = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "BOOL": np.dtype(bool),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name; they are views of the file's content and cannot be written.

    Raises:
      DataError: the file is absent or damaged: its header is longer than 16 MB or than the file,
        names an array twice or in an unknown type, or its arrays overlap, leave gaps, or do not
        fill the file.
    """
    return read_safely(path, lambda: _parsed(path.read_bytes()))


def _parsed(content: bytes) -> dict[str, np.ndarray]:
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(_MOST_HEADER, len(content) - 8):
        raise ValueError(f"a header of {size:,} bytes in a file of {len(content):,}")
    header = json.loads(content[8 : 8 + size].decode(), object_pairs_hook=_without_repetition)
    header.pop("__metadata__", None)
    arrays = {}
    start = 8 + size
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        arrays[name] = _view(name, entry, content, 8 + size, start)
        start += arrays[name].nbytes
    if start != len(content):
        raise ValueError(f"its arrays take {start:,} bytes of {len(content):,}")
    return arrays


def _without_repetition(pairs: list[tuple[Any, ...]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("its header gives a name twice")
    return names


def _view(name: str, entry: dict[str, Any], content: bytes, origin: int, start: int) -> np.ndarray:
    """The array of an entry, which must begin at a byte of the content."""
    dtype, shape, offsets = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, *offsets)):
        raise ValueError(f"{name!r} has the shape {shape} at {offsets}")
    count = math.prod(shape)
    expected = [start - origin, start - origin + count * dtype.itemsize]
    if offsets != expected or origin + expected[1] > len(content):
        raise ValueError(f"{name!r} lies at {offsets}, where {expected} belongs")
    return np.frombuffer(content, dtype, count, start).reshape(shape)
