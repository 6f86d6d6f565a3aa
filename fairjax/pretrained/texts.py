"""Cells as texts that a tokenizer can read, and their tokens in one array."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fairjax.core.types import DataError, Sentences

MOST_CHARACTERS = 2**15  # of a text; what follows is not read


def as_texts(rows: Iterable[Any]) -> list[str]:
    """N strings that have an encoding.

    A missing cell (None, NaN, pandas' NA) is an empty text, half of a surrogate pair is U+FFFD, and
    of a text the first ``MOST_CHARACTERS`` characters stay.

    Raises:
      DataError: the rows are one string, or cells are neither texts nor missing.
    """
    if isinstance(rows, str | bytes):
        raise DataError("texts: one string where a sequence of texts belongs. Give [text].")
    texts = []
    wrong = []
    for row, cell in enumerate(rows):
        if isinstance(cell, str):
            texts.append(_well_formed(cell[:MOST_CHARACTERS]))
        elif _is_missing(cell):
            texts.append("")
        else:
            wrong.append((row, type(cell).__name__))
    if wrong:
        row, kind = wrong[0]
        count = f"{len(wrong):,} of {len(texts) + len(wrong):,} cells"
        raise DataError(
            f"texts: {count} are no texts, row {row} is of type {kind}. Give strings, and None "
            "where a text is missing."
        )
    return texts


def _is_missing(cell: object) -> bool:
    if cell is None or type(cell).__name__ == "NAType":
        return True
    return isinstance(cell, float | np.floating) and bool(np.isnan(cell))


def _well_formed(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def as_sentences(ids: Sequence[Sequence[int]]) -> Sentences:
    """Token ids of N texts, padded with zeros to the longest one, at least one."""
    length = max(map(len, ids), default=0)
    tokens = np.zeros((len(ids), max(length, 1)), np.int32)
    for row, row_ids in enumerate(ids):
        tokens[row, : len(row_ids)] = row_ids
    return Sentences(tokens)
