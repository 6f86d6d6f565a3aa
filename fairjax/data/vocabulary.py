"""Vocabularies of a column of tokens, and the word ids of its rows.

Ids are global: 0 is padding. Then each language has one id for all its unknown words, and one id
for each known word. Languages share no id, so one embedding table holds all vocabularies.
"""

from __future__ import annotations

from collections import Counter
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
    texts = table.written(roles.text)
    languages = _languages(table, roles)
    if roles.language is not None:
        is_missing = table.missing(roles.language)
        cure = "Fill the cells, or leave the rows out."
        _refuse_language(table, roles, is_missing, "no language", cure)
    vocabularies = []
    for language in sorted(set(languages[rows].tolist())):
        is_spoken = languages[rows] == language
        language_texts = texts[rows[is_spoken]]
        words = _frequent_words(language_texts, roles)
        vocabularies.append(Vocabulary(language, words))
    return tuple(vocabularies)


def _frequent_words(texts: np.ndarray, roles: Roles) -> tuple[str, ...]:
    """Words that occur often enough, most frequent first, then in the order of the alphabet."""
    counts = Counter()
    for cell in texts:
        counts.update(_tokens(cell, roles))
    frequent = [word for word, count in counts.items() if count >= roles.minimum]
    frequent.sort(key=lambda word: (-counts[word], word))
    return tuple(frequent)


def word_ids(table: RawTable, roles: Roles, vocabularies: tuple[Vocabulary, ...]) -> np.ndarray:
    """``[N, roles.length]`` int32 ids of the first tokens of every row, padded at the end.

    Raises:
        DataError: a column is absent, or a row's language has no vocabulary.
    """
    texts = table.written(roles.text)
    languages = _languages(table, roles)
    names = [vocabulary.language for vocabulary in vocabularies]
    has_vocabulary = np.isin(languages, names)
    problem = "a language never seen in training"
    cure = f"The languages are {listing(names, 8)}: leave the others out, or train on them too."
    _refuse_language(table, roles, ~has_vocabulary, problem, cure)
    ids = np.zeros((len(table), roles.length), np.int32)
    unknown_id = 1
    for vocabulary in vocabularies:
        rows = np.flatnonzero(languages == vocabulary.language)
        ids[rows] = _ids_of_texts(texts[rows], roles, vocabulary, unknown_id)
        unknown_id += vocabulary.size
    return ids


def _ids_of_texts(
    texts: np.ndarray, roles: Roles, vocabulary: Vocabulary, unknown_id: int
) -> np.ndarray:
    """``[n, roles.length]`` ids of texts in one language. Known words follow the unknown id."""
    id_of = {word: i for i, word in enumerate(vocabulary.words, start=unknown_id + 1)}
    token_ids = []
    counts = []
    for cell in texts:
        tokens = _tokens(cell, roles)
        token_ids += [id_of.get(token, unknown_id) for token in tokens]
        counts.append(len(tokens))
    count = np.array(counts, int)[:, None]
    is_token = np.arange(roles.length) < count
    ids = np.zeros(is_token.shape, np.int32)
    ids[is_token] = token_ids
    return ids


def vocabulary_size(vocabularies: tuple[Vocabulary, ...]) -> int:
    """Number of ids with padding; 0 without a vocabulary."""
    if not vocabularies:
        return 0
    words = sum(vocabulary.size for vocabulary in vocabularies)
    return 1 + words


def _tokens(cell: str, roles: Roles) -> list[str]:
    tokens = cell.split()
    return tokens[: roles.length]


def _languages(table: RawTable, roles: Roles) -> np.ndarray:
    if roles.language is None:
        return np.full(len(table), "", object)
    return table.text(roles.language)


def _refuse_language(
    table: RawTable, roles: Roles, bad: np.ndarray, problem: str, cure: str
) -> None:
    if not bad.any():
        return
    column = roles.language
    count = f"{bad.sum():,} of {len(table):,} rows have {problem}"
    spots = table.spots(bad, column)
    raise complain(table.where, f"column {column!r}: {count}, {spots}", cure)
