"""Levels that mean the same: told apart before training, and merged where a person says so."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from fairjax.data.arrow_text import Texts, texts_of
from fairjax.data.complaints import complain, listing
from fairjax.data.raw_table import RawTable, canonical
from fairjax.data.roles import Roles

# spellings of one truth value
_TRUTH = ({"yes", "y", "true", "t", "1"}, {"no", "n", "false", "f", "0"})


def merged(table: RawTable, merge: Mapping[str, Mapping[str, str]]) -> RawTable:
    """The table with levels replaced by those that they mean.

    Args:
        table: the rows.
        merge: column -> level as written -> level that is meant; new rows may lack the column.
    """
    columns = {}
    for name, meant in merge.items():
        if name in table:
            columns[table.find(name)] = _replaced(table, name, meant)
    return table.with_columns(columns) if columns else table


def _replaced(table: RawTable, name: str, meant: Mapping[str, str]) -> Texts:
    by_level = {canonical(level): target for level, target in meant.items()}
    if not table.is_text(name):
        texts = table.text(name).tolist()
        return texts_of([by_level.get(text, text) for text in texts])
    distinct = table.distinct(name)
    targets = pa.array([by_level.get(canonical(text), text) for text in distinct.texts])
    return texts_of(targets.take(pa.array(distinct.codes)))


def refuse_unknown_levels(table: RawTable, roles: Roles) -> None:
    """Refuse to merge levels that no row has.

    Raises:
        DataError: there is no such column, or no such level.
    """
    for name, meant in roles.merge.items():
        table.column(name)
        present = set(np.unique(table.text(name).astype(str)).tolist())
        absent = [level for level in meant if canonical(level) not in present]
        if absent:
            problem = f"column {name!r}: no row of {len(table):,} has {listing(absent)}"
            cure = f"It holds {listing(sorted(present))}: change what is merged (--merge)."
            raise complain(table.where, problem, cure)


def refuse_alike(table: RawTable, name: str, levels: Sequence[str]) -> None:
    """Refuse levels of a task or an attribute that are one level in two spellings.

    These differ in case, blanks, a dot at the end or the form of accents, or are two spellings of a
    truth value.

    Raises:
        DataError: there are such levels; the message says how to merge them and how to keep them.
    """
    pairs = alike(levels)
    if not pairs:
        return
    listed = ", ".join(f"{one!r} and {other!r}" for one, other in pairs[:3])
    problem = f"column {name!r} holds {listed} in {len(table):,} rows, which may mean the same"
    merges = merge_options(name, pairs)
    all_levels = shlex.quote(f"{name}: {', '.join(map(_quoted, levels))}")
    cure = (
        f"Merge them (merge, {merges}), or give its levels to keep them apart (levels, --levels "
        f"{all_levels})."
    )
    raise complain(table.where, problem, cure)


def merge_options(name: str, pairs: Sequence[tuple[str, str]]) -> str:
    """The options that merge the second level of each pair into the first."""
    rules = [f"{name}: {_quoted(other)} -> {one}" for one, other in pairs]
    return " ".join(f"--merge {shlex.quote(rule)}" for rule in rules)


def alike(levels: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of levels that may be spellings of one: the first, and another."""
    folded = [_folded(level) for level in levels]
    all_truths = set().union(*_TRUTH)
    # F and N of a column of F, M and N are no truth values
    are_truths = len(levels) > 2 and all(text in all_truths for text in folded)
    first_of: dict[str, str] = {}
    pairs = []
    for level, text in zip(levels, folded, strict=True):
        key = str(text in _TRUTH[0]) if are_truths else text
        first = first_of.setdefault(key, level)
        if first != level:
            pairs.append((first, level))
    return pairs


def _folded(level: str) -> str:
    folded = unicodedata.normalize("NFKC", level).casefold()
    return re.sub(r"\s+", " ", folded).strip().rstrip(".")


def merges_of(texts: Sequence[str], where: str = "merge") -> dict[str, dict[str, str]]:
    """Merges in text form, ``column: level, level -> level``, by column.

    Raises:
        DataError: a text has another form.
    """
    merge: dict[str, dict[str, str]] = {}
    for text in texts:
        left, arrow, target = text.rpartition("->")
        name, colon, levels = left.partition(": ")
        if not (arrow and colon and target.strip() and levels.strip()):
            problem = f"{text!r} does not say what to merge"
            raise complain(where, problem, "Write 'column: level, level -> level'.")
        meant = merge.setdefault(name.strip(), {})
        meant |= dict.fromkeys(_split_levels(levels), target.strip())
    return merge


def levels_from(texts: Sequence[str], where: str = "levels") -> dict[str, tuple[str, ...]]:
    """Levels in text form, ``column: level, level``, by column.

    Raises:
        DataError: a text has another form.
    """
    levels = {}
    for text in texts:
        name, colon, listed = text.partition(": ")
        if not colon or len(_split_levels(listed)) < 2:
            problem = f"{text!r} does not name levels"
            raise complain(where, problem, "Write 'column: lowest, ..., highest'.")
        levels[name.strip()] = _split_levels(listed)
    return levels


def _quoted(level: str) -> str:
    return f'"{level}"' if "," in level else level


def _split_levels(text: str) -> tuple[str, ...]:
    """Levels between commas; one with a comma stands between double quotes."""
    found = re.findall(r'\s*(?:"([^"]*)"|([^,"]+?))\s*(?:,|$)', text)
    return tuple(quoted or plain for quoted, plain in found if quoted or plain)
