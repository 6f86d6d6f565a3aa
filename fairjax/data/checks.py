"""Checks of a table before training: leaks, identifiers, and what a person should look at."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fairjax.core.threads import in_threads
from fairjax.core.types import Dataset, Images, Task
from fairjax.data.alone import LEAST, Alone, Feature, alone, number_feature
from fairjax.data.complaints import listing
from fairjax.data.encoder import Encoder
from fairjax.data.merging import alike, merge_options
from fairjax.data.numbers import PLAIN
from fairjax.data.raw_table import RawTable

MOST_ROWS = 20_000  # that are looked at for leaks
_LEAK = 0.99  # an AUC or a rank correlation above it is a leak
_STRONG = 0.95  # above it a person should look
_LEAST_DISTINCT = 50  # known rows of an identifier
_DISTINCT = 0.95  # share of different cells of an identifier
_FEW = 10  # most values of a number that may be a code
_MOST_LEVELS = 200  # whose spellings are compared
_BLOCK = 1 << 14  # rows whose codes fit a cache
_MOST_LISTED = 5  # columns, or levels that are alike, in one note


class Finding(NamedTuple):
    """What was found in some columns."""

    text: str
    columns: tuple[str, ...] = ()
    word: str = ""  # beside these columns in a table
    is_warning: bool = False


class Sample(NamedTuple):
    """At most 20,000 training and validation rows, n of them."""

    rows: np.ndarray  # [n] indices in the table
    is_train: np.ndarray  # [n] bool
    features: tuple[Feature, ...]
    value: dict[str, np.ndarray]  # [n] of numeric features, NaN where missing


class Checks(NamedTuple):
    """Findings, and by feature the task that it alone predicts best."""

    findings: tuple[Finding, ...]
    best: dict[str, Alone]
    whole: frozenset[str]  # features that are whole numbers


def check(
    table: RawTable, encoder: Encoder, split_indices: tuple[np.ndarray, ...], data: Dataset
) -> Checks:
    """Look for leaks, identifiers and other oddities of a table.

    Args:
        table: N rows.
        encoder: fitted to it.
        split_indices: of training, validation and test rows.
        data: the N rows, encoded.
    """
    sample = _draw(table, encoder, data, *split_indices[:2])
    leaks, best = _leaks(encoder, data, sample)
    whole = frozenset(name for name, value in sample.value.items() if _is_whole(value))
    findings = (
        *leaks,
        *_identifiers(table, encoder, sample, whole),
        *(Finding(note) for note in table.notes),
        *_strong(best, leaks),
        *_forms(encoder),
        *_constants(encoder),
        *_repeated_columns(encoder, data, sample),
        *_possible_codes(encoder, sample, whole),
        *_alike_levels(encoder),
        *_repeated_rows(data, *split_indices),
    )
    return Checks(findings, best, whole)


def _dropped(*names: str) -> str:
    """The option that leaves out columns."""
    return _option("--drop", *names)


def _option(flag: str, *names: str) -> str:
    return f"{flag} {shlex.quote(','.join(names))}"


def _first(texts: Iterable[str]) -> str:
    """The first texts, and how many there are."""
    items = list(texts)
    listed = ", ".join(items[:_MOST_LISTED])
    return listed if len(items) <= _MOST_LISTED else f"{listed}, ... ({len(items):,} in all)"


def _draw(
    table: RawTable, encoder: Encoder, data: Dataset, train: np.ndarray, validation: np.ndarray
) -> Sample:
    rows = np.concatenate([train, validation])
    is_train = np.arange(len(rows)) < len(train)
    if len(rows) > MOST_ROWS:
        drawn = np.random.RandomState(0).permutation(len(rows))[:MOST_ROWS]
        rows, is_train = rows[drawn], is_train[drawn]
    if not encoder.spec.is_table:
        return Sample(rows, is_train, (), {})
    value = {f.name: table.numbers(f.name, f.form)[0][rows] for f in encoder.numeric}
    features = [number_feature(name, numbers) for name, numbers in value.items()]
    for feature, code in zip(encoder.categorical, data.x.codes[rows].T, strict=True):
        is_missing = np.zeros(len(rows), bool)
        if "" in feature.levels:
            is_missing = code == feature.levels.index("")
        # -1 is a level that training rows do not have
        features.append(Feature(feature.name, code + 1, is_missing, False))
    return Sample(rows, is_train, tuple(features), value)


def _is_whole(value: np.ndarray) -> bool:
    known = value[~np.isnan(value)]
    return bool(len(known) and (known == np.round(known)).all())


# ------------------------------------------------------------------------------------------ leaks


def _leaks(
    encoder: Encoder, data: Dataset, sample: Sample
) -> tuple[list[Finding], dict[str, Alone]]:
    best: dict[str, Alone] = {}
    findings = []
    for t, task in enumerate(encoder.spec.label_tasks):
        label = data.labels[sample.rows, t].astype(np.float64)
        is_known = data.label_mask[sample.rows, t] > 0
        for feature in sample.features:
            found = alone(feature, task, label, is_known, sample.is_train)
            gaps = Alone()
            if feature.is_ordered and feature.is_missing.any():
                gaps = alone(_gaps(feature), task, label, is_known, sample.is_train)
            best[feature.name] = max(
                best.get(feature.name, Alone()), found, gaps, key=lambda one: one.strength
            )
            texts = (_leak(found), _leak_of_gaps(gaps), _known_together(feature, task, is_known))
            text = next(filter(None, texts), "")
            if text:
                text = f"column {feature.name!r} {text} Leave it out with {_dropped(feature.name)}"
                findings.append(Finding(text, (feature.name,), "leak?", True))
    return findings, {name: found for name, found in best.items() if found.rows}


def _gaps(feature: Feature) -> Feature:
    """Where a number is missing, as a feature."""
    return Feature(
        feature.name, feature.is_missing.astype(int), np.zeros(len(feature.place), bool), True
    )


def _leak(found: Alone) -> str:
    if found.is_copy:
        return f"is a copy of task {found.task!r} ({found.rows:,} rows)."
    if found.score <= _LEAK:
        return ""
    return f"alone predicts task {found.task!r} ({_measured(found)}): a leak?"


def _leak_of_gaps(found: Alone) -> str:
    if found.score <= _LEAK:
        return ""
    return f"predicts task {found.task!r} by being missing ({_measured(found)}): a leak?"


def _measured(found: Alone) -> str:
    return f"{found.measure} {found.score:.3f} on {found.rows:,} rows"


def _strong(best: dict[str, Alone], leaks: list[Finding]) -> Iterator[Finding]:
    """Features that predict a task too well to be passed over, and not as well as a leak."""
    leaking = {name for finding in leaks for name in finding.columns}
    scores = {name: found.score for name, found in best.items() if found.score > _STRONG}
    names = [name for name in scores if name not in leaking]
    if names:
        listed = _first(f"{name!r} ({scores[name]:.3f})" for name in names)
        text = (
            f"features that alone predict a task well: {listed}; if they are not known before the "
            f"label: {_dropped(*names)}"
        )
        yield Finding(text, tuple(names), "strong")


def _known_together(feature: Feature, task: Task, is_known: np.ndarray) -> str:
    """A column that is known only where the label is known, or only where it is not."""
    if min(is_known.sum(), (~is_known).sum()) < LEAST:
        return ""
    known_with = 1 - feature.is_missing[is_known].mean()
    known_without = 1 - feature.is_missing[~is_known].mean()
    if max(known_with, known_without) < 0.5 or min(known_with, known_without) > 0.01:
        return ""
    where = "known" if known_with > known_without else "missing"
    return f"is known only where task {task.name!r} is {where}: a leak?"


# ------------------------------------------------------------------------------------ identifiers


def _identifiers(
    table: RawTable, encoder: Encoder, sample: Sample, whole: frozenset[str]
) -> Iterator[Finding]:
    plain = {feature.name for feature in encoder.numeric if feature.form == PLAIN}
    numbers = (plain & whole) - set(encoder.roles.numeric) - table.dates
    for feature in sample.features:
        name = feature.name
        if feature.is_ordered and name not in numbers:
            continue
        # a sample has fewer equal cells than the table; levels are those of training rows
        known = feature.place[sample.is_train & ~feature.is_missing]
        if len(np.unique(known)) <= _DISTINCT * len(known):
            continue
        known_rows = len(table) - int(table.missing(name).sum())
        if feature.is_ordered:
            value, _ = table.numbers(name)
            distinct = len(np.unique(value[~np.isnan(value)]))
        else:
            distinct = len(table.known_texts(name))
        if known_rows > _LEAST_DISTINCT and distinct > _DISTINCT * known_rows:
            count = f"{distinct:,} different values in {known_rows:,} rows"
            text = f"column {name!r} has {count}: an identifier? Leave it out with {_dropped(name)}"
            if feature.is_ordered:
                text = f"{text}, or call it a number with {_option('--numeric', name)}"
            yield Finding(text, (name,), "identifier?", True)


# ------------------------------------------------------------------------------------------ notes


def _forms(encoder: Encoder) -> Iterator[Finding]:
    """How numbers are spelled, where they are no plain numbers."""
    columns_of: dict[str, list[str]] = {}
    for name, form in _named_forms(encoder):
        if form.note and name not in columns_of.setdefault(form.note, []):
            columns_of[form.note].append(name)
    for note, names in columns_of.items():
        yield Finding(f"{_columns(names)}: {note}", tuple(names))


def _named_forms(encoder: Encoder) -> Iterator[tuple[Any, ...]]:
    for rule in (*encoder.tasks, *encoder.attributes):
        yield rule.column, rule.form
    for feature in encoder.numeric:
        yield feature.name, feature.form


def _columns(names: list[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {listing(names, 8)}"


def _constants(encoder: Encoder) -> Iterator[Finding]:
    names = constant_names(encoder)
    if names:
        text = (
            f"{_columns(names)}: one value in all training rows; to leave out: {_dropped(*names)}"
        )
        yield Finding(text, tuple(names), "constant")


def constant_names(encoder: Encoder) -> list[str]:
    """Features with one value, known or missing, in all training rows."""
    numeric = [f.name for f in encoder.numeric if f.low == f.high and not f.has_gaps]
    return numeric + [feature.name for feature in encoder.categorical if len(feature.levels) == 1]


def _repeated_columns(encoder: Encoder, data: Dataset, sample: Sample) -> Iterator[Finding]:
    """Features that are equal to an earlier one in every row, but for scale or names of levels."""
    if not encoder.spec.is_table:
        return
    first_of: dict[str, str] = {}
    parts = ((encoder.numeric, data.x.numeric), (encoder.categorical, data.x.codes))
    for features, columns in parts:
        seen: dict[bytes, int] = {}
        for j, feature in enumerate(features):
            part = columns[sample.rows, j]
            first = seen.setdefault(part.tobytes(), j)
            is_constant = part.min() == part.max()
            if first != j and not is_constant and np.array_equal(columns[:, first], columns[:, j]):
                first_of[feature.name] = features[first].name
    if first_of:
        listed = _first(f"{name!r} (as {first!r})" for name, first in first_of.items())
        text = f"equal to another column in every row: {listed}; to leave out: "
        yield Finding(text + _dropped(*first_of), tuple(first_of), "repeated")


def _possible_codes(encoder: Encoder, sample: Sample, whole: frozenset[str]) -> Iterator[Finding]:
    names = []
    for feature in encoder.numeric:
        value = sample.value[feature.name]
        is_declared = feature.name in encoder.roles.numeric
        if feature.name not in whole or is_declared or feature.form != PLAIN:
            continue
        if 2 < len(np.unique(value[~np.isnan(value)])) <= _FEW:
            names.append(feature.name)
    if names:
        count = f"{len(names)} feature{'s' if len(names) > 1 else ''} of few whole numbers"
        cure = _option("--categorical", *names)
        text = f"{count}, read as numbers; if they are codes: {cure}"
        yield Finding(text, tuple(names), "codes?")


def _alike_levels(encoder: Encoder) -> Iterator[Finding]:
    for feature in encoder.categorical:
        if len(feature.levels) > _MOST_LEVELS:
            continue
        pairs = alike([level for level in feature.levels if level])
        if not pairs:
            continue
        listed = _first(f"{one!r} and {other!r}" for one, other in pairs)
        cure = merge_options(feature.name, pairs[:_MOST_LISTED])
        text = f"column {feature.name!r} holds {listed}; if they mean the same: {cure}"
        yield Finding(text, (feature.name,), "alike")


def _repeated_rows(
    data: Dataset, train: np.ndarray, validation: np.ndarray, test: np.ndarray
) -> Iterator[Finding]:
    """Test and validation rows that are equal to a training row, or show the same image."""
    is_image = isinstance(data.x, Images)
    if is_image:
        code = _image_codes(data.x.pixels)
    else:
        code = _row_codes([*data.x, data.labels, data.label_mask])
    trained = np.sort(code[train])
    parts = {"test": test, "validation": validation}
    if validation is test:
        del parts["validation"]
    counts = []
    for split, rows in parts.items():
        # sorted codes are found one after another
        found = np.sort(code[rows])
        place = np.searchsorted(trained, found)
        repeated = int((trained.take(place, mode="clip") == found).sum())
        if repeated:
            counts.append(f"{repeated:,} of {len(rows):,} {split} rows")
    if counts:
        what = "show an image of the training rows, pixel for pixel"
        if not is_image:
            what = "equal a training row in all features and labels"
        yield Finding(f"{' and '.join(counts)} {what}")


def _image_codes(pixels: np.ndarray) -> np.ndarray:
    """A number ``[N]`` for every image that is the same for equal images."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in pixels]
    return np.frombuffer(b"".join(digests), np.uint64)


def _row_codes(arrays: list[np.ndarray]) -> np.ndarray:
    """A number ``[N]`` for every row that is the same for equal rows, of arrays with 4 bytes."""
    rows = len(arrays[0])
    codes = np.zeros(rows, np.uint64)

    def fill(begin: int) -> None:
        code = codes[begin : begin + _BLOCK]
        for array in arrays:
            for column in array[begin : begin + _BLOCK].T:
                # minus zero is zero
                code ^= (column + array.dtype.type(0)).view(np.uint32)
                code *= np.uint64(0x9E3779B97F4A7C15)
                code ^= code >> np.uint64(29)

    in_threads(fill, range(0, rows, _BLOCK))
    return codes
