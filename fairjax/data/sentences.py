"""Texts with any tokenizer: their tokens become a column of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fairjax.core.inputs import TableLike
from fairjax.data.arrow_text import texts_of
from fairjax.data.complaints import complain
from fairjax.data.prepared import Prepared
from fairjax.data.read import as_table
from fairjax.data.roles import Roles
from fairjax.data.table import from_table
from fairjax.pretrained.texts import as_texts


def token_column(
    texts: Iterable[Any], tokenize: Callable[..., Iterable[Any]] = str.split
) -> np.ndarray:
    """``[N]`` cells of a token column: the tokens of every text with a blank between them.

    Args:
        texts: N strings, or any inputs of the tokenizer.
        tokenize: from a text to its tokens, strings without blanks or integers. Empty tokens are
            left out.

    Raises:
        DataError: a token holds a blank, so it would be read as two tokens.

    >>> token_column(["good night", ""]).tolist()
    ['good night', '']
    """
    cells = []
    broken = []
    for row, text in enumerate(texts):
        tokens = [str(token) for token in tokenize(text)]
        tokens = [token for token in tokens if token]
        split_tokens = [token for token in tokens if token.split() != [token]]
        if split_tokens:
            broken.append((row, split_tokens[0]))
        cells.append(" ".join(tokens))
    if broken:
        row, token = broken[0]
        count = f"{len(broken):,} of {len(cells):,} texts"
        problem = f"{count} have a token that holds a blank, row {row} ({token!r})"
        cure = "Give the tokens' ids, or replace their blanks in tokenize."
        raise complain("tokens", problem, cure)
    return np.array(cells, dtype=object)


def from_sentences(
    texts: Iterable[Any],
    columns: TableLike,
    roles: Roles,
    *,
    tokenize: Callable[..., Iterable[Any]] = str.split,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> Prepared:
    """Texts and their columns as training, validation and test data; see :func:`from_table`.

    Encode new rows with ``prepared.encoder.encode({"text": token_column(texts, tokenize)})``, and
    with their language column if there is one.

    Args:
        texts: N strings, or any inputs of the tokenizer.
        columns: CSV path, data frame or dict of arrays with N rows: labels, sensitive columns,
            language.
        roles: what each column is for. ``roles.text`` names the column of tokens, ``"text"`` if it
            is None.
        tokenize: from a text to its tokens, strings or integers (ids of a subword tokenizer). The
            tokens of the training rows make the vocabulary. Not used with ``roles.encoder``.
        fractions: of train, validation and test.
        seed: of the random split.

    Raises:
        DataError: as in :func:`from_table` and :func:`token_column`; or the name of the token
            column is taken.

    >>> columns = {"sex": ["f", "m"] * 20, "rude": [0, 0, 1, 1] * 10}
    >>> roles = Roles(tasks=("rude",), sensitive=("sex",))
    >>> data = from_sentences(["go on", "go away"] * 20, columns, roles)
    >>> data.encoder.vocabularies[0].words
    ('go', 'on', 'away')
    """
    if roles.text is None:
        roles = dataclasses.replace(roles, text="text")
    table = as_table(columns, **roles.reading)
    if roles.text in table:
        problem = f"there is a column {roles.text!r} already, {len(table):,} rows"
        raise complain(table.where, problem, "Give the tokens' column another name in roles.text.")
    # a pretrained network has a tokenizer of its own
    cells = as_texts(texts) if roles.encoder else token_column(texts, tokenize)
    table = table.with_columns({roles.text: texts_of(cells)})
    return from_table(table, roles, fractions=fractions, seed=seed)
