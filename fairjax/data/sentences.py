"""The door for texts with a tokenizer of one's own: its tokens become a column, and the column goes the way of tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from fairjax.data.read import as_table, complain
from fairjax.data.roles import Roles
from fairjax.data.table import Prepared, from_table


def token_column(texts: Iterable, tokenize: Callable[..., Iterable] = str.split) -> np.ndarray:
    """``[N]`` texts as cells of a column of tokens: every text's tokens with a blank between them.

    Args:
        texts: N strings, or whatever the tokenizer takes.
        tokenize: from a text to its tokens, strings without blanks or integers. Empty tokens are left out.

    Raises:
        DataError: a token holds a blank: it would be read as two.

    >>> token_column(["good night", ""]).tolist()
    ['good night', '']
    """
    found = [[str(token) for token in tokenize(text)] for text in texts]
    cells = [" ".join(filter(None, tokens)) for tokens in found]
    broken = [
        i for i, cell in enumerate(cells) if cell.split() != [token for token in found[i] if token]
    ]
    if broken:
        token = next(token for token in found[broken[0]] if token.split() != [token] and token)
        what = f"{len(broken):,} of {len(cells):,} texts have a token that holds a blank, row {broken[0]} ({token!r})"
        raise complain("tokens", what, "Give the tokens' ids, or replace their blanks in tokenize.")
    return np.array(cells, dtype=object)


def from_sentences(
    texts: Iterable,
    columns,
    roles: Roles,
    *,
    tokenize: Callable[..., Iterable] = str.split,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> Prepared:
    """Texts and what is known of them as training, validation and test data; see :func:`from_table`.

    New rows go through ``prepared.encoder.encode({"text": token_column(texts, tokenize)})``, with their language if there
    is one.

    Args:
        texts: N strings, or whatever the tokenizer takes.
        columns: CSV path, data frame or dict of arrays: labels, sensitive columns, language, N rows.
        roles: what each column is for. ``roles.text`` names the column of tokens, ``"text"`` if it is None.
        tokenize: from a text to its tokens, strings or integers (ids of a subword tokenizer). Those that training rows
            hold make up the vocabulary.
        fractions: of train, validation and test.
        seed: of the random split.

    Raises:
        DataError: as :func:`from_table` and :func:`token_column` do; there is a column of that name already.

    >>> columns = {"sex": ["f", "m"] * 20, "rude": [0, 0, 1, 1] * 10}
    >>> data = from_sentences(["go on", "go away"] * 20, columns, Roles(tasks=("rude",), sensitive=("sex",)))
    >>> data.encoder.vocabularies[0].words
    ('go', 'on', 'away')
    """
    roles = roles if roles.text is not None else dataclasses.replace(roles, text="text")
    table = as_table(
        columns, delimiter=roles.delimiter, encoding=roles.encoding, na=roles.na_values
    )
    if roles.text in table:
        what = f"there is a column {roles.text!r} already, {len(table):,} rows"
        raise complain(table.where, what, "Name the tokens' column otherwise, with roles.text.")
    return from_table(
        {**table.columns, roles.text: token_column(texts, tokenize)},
        roles,
        fractions=fractions,
        seed=seed,
    )
