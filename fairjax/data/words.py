"""Words: vocabularies of a column of tokens, and the ids that its rows become.

Ids are global: 0 is padding; then, language by language, one id for its unknown words and one for each word it knows.
Languages share no id, so that one table of embeddings holds a vocabulary of its own for each.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import NamedTuple

import numpy as np

from fairjax.data.read import Table, complain, listing
from fairjax.data.roles import Roles


class Vocabulary(NamedTuple):
    """Known words of a language, the most frequent first; the empty language is that of all rows."""

    language: str
    words: tuple[str, ...]


def learn(table: Table, roles: Roles, rows: np.ndarray) -> tuple[Vocabulary, ...]:
    """A vocabulary per language from some rows; words seen there less often than ``roles.minimum`` are unknown.

    Raises:
        DataError: a column is absent, or a row has no language.
    """
    texts, languages = _texts(table, roles), _languages(table, roles)
    if roles.language is not None:
        _refuse(
            table,
            roles,
            table.missing(roles.language),
            "no language",
            "Fill the cells, or leave the rows out.",
        )
    found = []
    for language in sorted(set(languages[rows].tolist())):
        counts = Counter(
            chain.from_iterable(
                cell.split()[: roles.length] for cell in texts[rows[languages[rows] == language]]
            )
        )
        known = [word for word, count in counts.items() if count >= roles.minimum]
        found.append(
            Vocabulary(language, tuple(sorted(known, key=lambda word: (-counts[word], word))))
        )
    return tuple(found)


def word_ids(table: Table, roles: Roles, vocabularies: tuple[Vocabulary, ...]) -> np.ndarray:
    """``[N, roles.length]`` int32 ids of the first tokens of every row, padded at the end.

    Raises:
        DataError: a column is absent, or rows are of a language without vocabulary.
    """
    texts, languages = _texts(table, roles), _languages(table, roles)
    names = [vocabulary.language for vocabulary in vocabularies]
    cure = f"The languages are {listing(names, 8)}: leave the others out, or train on rows of them too."
    _refuse(table, roles, ~np.isin(languages, names), "a language never seen in training", cure)
    ids = np.zeros((len(table), roles.length), np.int32)
    unknown = 1
    for language, words in vocabularies:
        place = dict(zip(words, range(unknown + 1, unknown + 1 + len(words)), strict=True))
        rows = np.flatnonzero(languages == language)
        tokens = [cell.split()[: roles.length] for cell in texts[rows]]
        taken = np.arange(roles.length) < np.array([len(row) for row in tokens], int)[:, None]
        block = np.zeros(taken.shape, np.int32)
        block[taken] = [place.get(token, unknown) for token in chain.from_iterable(tokens)]
        ids[rows] = block
        unknown += 1 + len(words)
    return ids


def size(vocabularies: tuple[Vocabulary, ...]) -> int:
    """How many ids there are, padding among them; 0 without a vocabulary."""
    return sum(1 + len(words) for _, words in vocabularies) + bool(vocabularies)


def _texts(table: Table, roles: Roles) -> np.ndarray:
    """Cells as they are written: a text may well be ``NA`` or ``007``."""
    cells = table.column(roles.text)
    return cells if cells.dtype == object else table.text(roles.text)


def _languages(table: Table, roles: Roles) -> np.ndarray:
    return np.full(len(table), "", object) if roles.language is None else table.text(roles.language)


def _refuse(table: Table, roles: Roles, bad: np.ndarray, what: str, cure: str) -> None:
    if bad.any():
        where = f"column {roles.language!r}: {bad.sum():,} of {len(table):,} rows have {what}"
        raise complain(table.where, f"{where}, {table.spots(bad, roles.language)}", cure)
