"""Columns of text in Arrow's form: blanks around cells, cells that mean nothing, codes.

The first sign and the length of a cell rule most cells out; only the others are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Texts: TypeAlias = pa.ChunkedArray
_FIRST = 1_000  # cells that show most columns of text
_DIGITS = np.isin(np.arange(256), np.frombuffer(b"0123456789", np.uint8))


def texts_of(cells: Texts | pa.Array | Sequence[str | None]) -> Texts:
    """Texts, None for an empty one, as a column."""
    if not isinstance(cells, pa.Array | pa.ChunkedArray):
        cells = pa.array(cells, pa.string())
    if isinstance(cells, pa.Array):
        cells = pa.chunked_array([cells], pa.string())
    return pc.fill_null(cells, "") if cells.null_count else cells


def trimmed(texts: Texts) -> Texts:
    """Cells without blanks around them."""
    return pc.utf8_trim_whitespace(texts) if _may_have_blanks(texts) else texts


def missing_cells(texts: Texts, spellings: frozenset[str]) -> np.ndarray:
    """``[N]`` bool: the cell is one of the spellings, which are in lower case, in any case."""
    chosen = pa.array(sorted(spellings), pa.string())
    if not "".join(spellings).isascii():
        found = pc.is_in(pc.utf8_lower(texts), value_set=chosen)
        return found.to_numpy()
    longest = max(map(len, spellings), default=0)
    signs = {case[:1] for text in spellings for case in (text, text.upper())}
    begins = np.isin(np.arange(256), np.frombuffer("".join(signs).encode(), np.uint8))
    missing = np.zeros(len(texts), bool)
    for part, chunk in _parts(texts):
        cells, bounds = _buffers(chunk)
        length = np.diff(bounds)
        short = np.flatnonzero(length <= longest)
        if cells.size:
            begin = cells.take(bounds[short], mode="clip")
            short = short[begins[begin] | (length[short] == 0)]
        missing[part][short] = True
    candidates = pc.ascii_lower(texts.filter(pa.array(missing)))
    missing[missing] = pc.is_in(candidates, value_set=chosen)
    return missing


def has_leading_zeros(texts: Texts) -> bool:
    """Whether a cell is digits behind a zero, such as ``007``."""
    for chunk in texts.chunks:
        cells, bounds = _buffers(chunk)
        if not cells.size:
            continue
        is_suspect = cells.take(bounds[:-1], mode="clip") == ord("0")
        is_suspect &= _DIGITS[cells.take(bounds[:-1] + 1, mode="clip")]
        is_suspect &= np.diff(bounds) > 1
        if is_suspect.any():
            suspect = chunk.filter(pa.array(is_suspect))
            if pc.any(pc.match_substring_regex(suspect, "^0[0-9]+$")).as_py():
                return True
    return False


def numbers(texts: Texts, missing: np.ndarray) -> np.ndarray | None:
    """``[N]`` float64, NaN where a cell is missing; None if a known cell is no plain number."""
    value = np.empty(len(texts))
    try:
        # a text costs more than a number
        _numbers(texts[:_FIRST].combine_chunks(), missing[:_FIRST])
        for part, chunk in _parts(texts):
            value[part] = _numbers(chunk, missing[part])
    except pa.ArrowInvalid:
        return None
    return value


def _numbers(chunk: pa.StringArray, missing: np.ndarray) -> np.ndarray:
    if missing.any():
        chunk = pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), chunk)
    return pc.cast(chunk, pa.float64()).to_numpy(zero_copy_only=False)


def _parts(texts: Texts) -> Iterator[tuple[slice, pa.StringArray]]:
    """The rows of every chunk, and the chunk."""
    begin = 0
    for chunk in texts.chunks:
        yield slice(begin, begin + len(chunk)), chunk
        begin += len(chunk)


def _may_have_blanks(texts: Texts) -> bool:
    """Whether a cell begins or ends with a blank, or with a sign beyond ASCII."""
    for chunk in texts.chunks:
        cells, bounds = _buffers(chunk)
        if not cells.size:
            continue
        for places in (bounds[:-1], bounds[1:] - 1):
            signs = cells.take(places, mode="clip")
            if signs.min(initial=127) <= ord(" ") or signs.max(initial=0) > 127:
                return True
    return False


def _buffers(chunk: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """All bytes, and the places where the cells begin, with the end of the last one."""
    _, offsets, content = chunk.buffers()
    cells = np.frombuffer(content or b"", np.uint8)
    if offsets is None or not offsets.size:
        return cells, np.zeros(1, np.int32)
    return cells, np.frombuffer(offsets, np.int32)[chunk.offset :][: len(chunk) + 1]
