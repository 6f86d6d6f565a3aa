"""Vocabularies of a column of tokens, and the word ids of its rows.

Ids are global: 0 is padding. Then each language has one id for all its unknown words, and one id
for each known word. Languages share no id, so one embedding table holds all vocabularies.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import NamedTuple

import numpy as np

from fairjax.data.complaints import complain, listing
from fairjax.data.raw_table import RawTable
from fairjax.data.roles import Roles


class Vocabulary(NamedTuple):
    """Known words of a language, most frequent first. Without languages it is named ``""``."""

    language: str
    words: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of ids: one for unknown words, and one per known word."""
        return 1 + len(self.words)


def learn(table: RawTable, roles: Roles, rows: np.ndarray) -> tuple[Vocabulary, ...]:
    """The vocabulary of each language from some rows.

    A word that occurs there less often than ``roles.minimum`` is unknown.

    Raises:
        DataError: a column is absent, or a row has no language.
    """
    texts = _texts(table, roles)
    languages = _languages(table, roles)
    if roles.language is not None:
        cure = "Fill the cells, or leave the rows out."
        _refuse_language(table, roles, table.missing(roles.language), "no language", cure)
    vocabularies = []
    for language in sorted(set(languages[rows].tolist())):
        language_rows = rows[languages[rows] == language]
        tokens = [_tokens(cell, roles) for cell in texts[language_rows]]
        counts = Counter(chain.from_iterable(tokens))
        frequent = [word for word, count in counts.items() if count >= roles.minimum]
        frequent.sort(key=lambda word, counts=counts: (-counts[word], word))
        vocabularies.append(Vocabulary(language, tuple(frequent)))
    return tuple(vocabularies)


def word_ids(table: RawTable, roles: Roles, vocabularies: tuple[Vocabulary, ...]) -> np.ndarray:
    """``[N, roles.length]`` int32 ids of the first tokens of every row, padded at the end.

    Raises:
        DataError: a column is absent, or a row's language has no vocabulary.
    """
    texts = _texts(table, roles)
    languages = _languages(table, roles)
    names = [vocabulary.language for vocabulary in vocabularies]
    without_vocabulary = ~np.isin(languages, names)
    problem = "a language never seen in training"
    cure = f"The languages are {listing(names, 8)}: leave the others out, or train on them too."
    _refuse_language(table, roles, without_vocabulary, problem, cure)
    ids = np.zeros((len(table), roles.length), np.int32)
    unknown_id = 1
    for vocabulary in vocabularies:
        id_of = {word: unknown_id + 1 + i for i, word in enumerate(vocabulary.words)}
        rows = np.flatnonzero(languages == vocabulary.language)
        tokens = [_tokens(cell, roles) for cell in texts[rows]]
        count = np.array([len(row) for row in tokens], int)
        is_token = np.arange(roles.length) < count[:, None]
        block = np.zeros(is_token.shape, np.int32)
        block[is_token] = [id_of.get(token, unknown_id) for token in chain.from_iterable(tokens)]
        ids[rows] = block
        unknown_id += vocabulary.size
    return ids


def vocabulary_size(vocabularies: tuple[Vocabulary, ...]) -> int:
    """Number of ids with padding; 0 without a vocabulary."""
    if not vocabularies:
        return 0
    return 1 + sum(vocabulary.size for vocabulary in vocabularies)


def _tokens(cell: str, roles: Roles) -> list[str]:
    return cell.split()[: roles.length]


def _texts(table: RawTable, roles: Roles) -> np.ndarray:
    """Cells as they are written: ``NA`` and ``007`` may be texts."""
    cells = table.column(roles.text)
    return cells if cells.dtype == object else table.text(roles.text)


def _languages(table: RawTable, roles: Roles) -> np.ndarray:
    if roles.language is None:
        return np.full(len(table), "", object)
    return table.text(roles.language)


def _refuse_language(
    table: RawTable, roles: Roles, bad: np.ndarray, problem: str, cure: str
) -> None:
    if bad.any():
        count = f"{bad.sum():,} of {len(table):,} rows have {problem}"
        spots = table.spots(bad, roles.language)
        raise complain(table.where, f"column {roles.language!r}: {count}, {spots}", cure)
