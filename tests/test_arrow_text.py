"""Columns of text in chunks, against one cell at a time."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest

from fairjax.data import arrow_text
from fairjax.data.numbers import number
from fairjax.data.raw_table import NA, RawTable, missing_texts

CELLS = ["", "NA", "na", "n/a", "None", "-", "--", "-nan", ".", "?", "-1", "0", "007", "0.5", "00"]
CELLS += ["1e3", "inf", "no", "nah", "NULLS", "Ärger", "ÄRGER", "-999", "-999.0", "0x7", "1,5"]
BLANK = [" a", "a ", "\u00a0a", "a\t", "é "]


def in_chunks(cells: list[str], rng: np.random.Generator) -> pa.ChunkedArray:
    """Cells in chunks of any length, some empty, and some parts of longer ones."""
    ends = np.sort(rng.integers(0, len(cells) + 1, 5)).tolist()
    chunks = []
    for begin, end in zip([0, *ends], [*ends, len(cells)], strict=True):
        longer = pa.array(["before", *cells[begin:end], "after"], pa.string())
        chunks.append(longer.slice(1, end - begin))
    return pa.chunked_array(chunks, pa.string())


def drawn(cells: list[str], seed: int) -> tuple[list[str], pa.ChunkedArray]:
    rng = np.random.default_rng(seed)
    texts = rng.choice(np.array(cells, object), rng.integers(0, 60)).tolist()
    return texts, in_chunks(texts, rng)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("na", [NA, ("-999",), ("Ärger", "NULLS"), ()])
def test_missing_cells(seed, na):
    texts, column = drawn(CELLS, seed)
    spellings = missing_texts(na)
    expected = [text.lower() in spellings for text in texts]
    assert arrow_text.missing_cells(column, spellings).tolist() == expected


@pytest.mark.parametrize("seed", range(30))
def test_leading_zeros(seed):
    texts, column = drawn(CELLS, seed)
    expected = any(re.fullmatch("0[0-9]+", text) for text in texts)
    assert arrow_text.has_leading_zeros(column) == expected


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("cells", [CELLS, ["1", "-2.5", "NA", "1e3", "", "0.1"]])
def test_numbers(seed, cells):
    texts, column = drawn(cells, seed)
    spellings = missing_texts(NA)
    missing = np.array([text.lower() in spellings for text in texts], bool)
    known = [None if text.lower() in spellings else number(text) for text in texts]
    value = arrow_text.numbers(column, missing)
    if any(one is None for one in np.array(known, object)[~missing]):
        assert value is None
    else:
        np.testing.assert_array_equal(value, np.array(known, float))


@pytest.mark.parametrize("seed", range(30))
def test_blanks_are_trimmed(seed):
    texts, column = drawn([*BLANK, "a", ""], seed)
    assert arrow_text.trimmed(column).to_pylist() == [text.strip() for text in texts]


@pytest.mark.parametrize("seed", range(30))
def test_distinct_texts_of_all_chunks(seed):
    texts, column = drawn(CELLS, seed)
    table = RawTable("cells", {"c": column})
    distinct = table.distinct("c")
    assert distinct.texts == list(dict.fromkeys(texts))
    assert [distinct.texts[code] for code in distinct.codes] == texts
    known = [text for text in texts if text.lower() not in missing_texts(NA)]
    assert table.known_texts("c") == {text: known.count(text) for text in known}
