"""BERT's tokenizer: words and punctuation, and the longest known pieces of every word.

A text is cleaned of control characters, set in lower case without accents if the vocabulary is,
and split at blanks, at every punctuation mark and around every Chinese character. A word becomes
the longest piece of the vocabulary that it begins with, then the longest that its rest begins with,
and so on; pieces within a word begin with ``##``. A word that has no such pieces, or more than 100
characters, is one unknown token. Names of special tokens in a text are plain text.

References: Devlin, Chang, Lee, Toutanova, BERT, NAACL 2019; Wu et al., Google's neural machine
translation system, 2016 (the pieces).
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Mapping

PADDING, UNKNOWN, FIRST, LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
_MOST_IN_WORD = 100  # characters
_CONTROLS = ("Cc", "Cf", "Co", "Cs")
_CHINESE = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


class _Replacements(dict):
    """A table for ``str.translate`` that fills itself."""

    def __init__(self, replacement: Callable[[str], str]) -> None:
        self._replacement = replacement

    def __missing__(self, code: int) -> str:
        self[code] = self._replacement(chr(code))
        return self[code]


def _is_chinese(character: str) -> bool:
    return any(low <= ord(character) <= high for low, high in _CHINESE)


def _is_punctuation(character: str) -> bool:
    is_ascii_sign = character.isascii() and character.isprintable() and not character.isalnum()
    is_mark = unicodedata.category(character).startswith("P")
    return is_mark or (is_ascii_sign and character != " ")


def word_pieces(
    vocabulary: Mapping[str, int],
    *,
    lowercase: bool = True,
    strip_accents: bool = True,
    split_chinese: bool = True,
) -> Callable[[str, int], list[int]]:
    """The function from a text and a number of tokens to the ids of at most so many.

    The first token is ``[CLS]`` and the last one ``[SEP]``, of a shortened text too.

    Args:
      vocabulary: ids by piece; it has the unknown, the first and the last token.
      lowercase: whether the pieces are in lower case.
      strip_accents: whether they have no accents.
      split_chinese: whether every Chinese character is a word.
    """

    def cleaned(character: str) -> str:
        if character in "\t\n\r":
            return " "
        if character == "\ufffd" or unicodedata.category(character) in _CONTROLS:
            return ""
        if split_chinese and _is_chinese(character):
            return f" {character} "
        return character

    def folded(character: str) -> str:
        if strip_accents and unicodedata.category(character) == "Mn":
            return ""
        folding = character.lower() if lowercase else character
        return f" {folding} " if _is_punctuation(character) else folding

    cleaning = _Replacements(cleaned)
    folding = _Replacements(folded)
    longest = max(map(len, vocabulary))
    unknown = (vocabulary[UNKNOWN],)

    @functools.lru_cache(2**16)
    def pieces(word: str) -> tuple[int, ...]:
        if len(word) > _MOST_IN_WORD:
            return unknown
        ids = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            end = min(len(word), start + longest)
            while end > start and mark + word[start:end] not in vocabulary:
                end -= 1
            if end == start:
                return unknown
            ids.append(vocabulary[mark + word[start:end]])
            start = end
        return tuple(ids)

    def tokenize(text: str, most: int) -> list[int]:
        text = text.translate(cleaning)
        if strip_accents:
            text = unicodedata.normalize("NFD", text)
        ids = [vocabulary[FIRST]]
        for word in text.translate(folding).split():
            ids += pieces(word)
            if len(ids) >= most:
                break
        return [*ids[: most - 1], vocabulary[LAST]]

    return tokenize
