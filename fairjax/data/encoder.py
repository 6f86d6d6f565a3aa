"""The encoder: what was learned from training rows, kept so that new rows become arrays in the same way.

Numeric feature and label of a regression: ``(x - mean) / deviation``; categorical feature: index of its level, -1 for
a level never seen. A text: ids of its words.
"""

from __future__ import annotations

import dataclasses
import json
from typing import NamedTuple

import numpy as np

from fairjax.core.types import Attribute, Columns, DataError, Dataset, Sentences, Spec, Task
from fairjax.data.read import Table, as_table, complain, listing
from fairjax.data.roles import Roles, Rule, holds, levels_of, parse_rules
from fairjax.data.words import Vocabulary, learn, size, word_ids

_MOST_GROUPS = 20  # levels of a sensitive column beyond which a cut is meant
_MOST_CLASSES = 20  # distinct numbers beyond which a label is a regression


class Scale(NamedTuple):
    """A numeric feature."""

    name: str
    mean: float
    deviation: float


class Codes(NamedTuple):
    """A categorical feature; the empty level is a missing cell."""

    name: str
    levels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Rules, scales and levels of a table; :meth:`encode` turns rows into a Dataset of :attr:`spec`."""

    roles: Roles
    tasks: tuple[Rule, ...]
    attributes: tuple[Rule, ...]
    numeric: tuple[Scale, ...]
    categorical: tuple[Codes, ...]
    vocabularies: tuple[Vocabulary, ...] = ()

    @property
    def spec(self) -> Spec:
        """What the encoded columns mean."""
        return Spec(
            tuple(
                Task(
                    t.name, t.kind, t.levels if t.kind == "multiclass" else (), t.mean, t.deviation
                )
                for t in self.tasks
            ),
            tuple(
                Attribute(a.name, a.levels, a.kind == "number", a.mean, a.deviation)
                for a in self.attributes
            ),
            tuple(scale.name for scale in self.numeric),
            tuple((codes.name, len(codes.levels)) for codes in self.categorical),
            size(self.vocabularies),
        )

    def encode(self, source, labels: bool = False) -> Dataset:
        """Rows as arrays, with the statistics of the training rows.

        Args:
            source: CSV path, data frame or dict of arrays with N rows.
            labels: whether the task columns are read (they must then be there); otherwise ``label_mask`` is 0.

        Returns:
            Dataset with N rows. Demographics that are absent, missing or of an unseen level are a zero block;
            weight is 1 without the weight column.

        Raises:
            DataError: a feature column is absent, is not numeric, or is NaN or infinite without ``impute``; a text's
                language was never seen in training.
        """
        roles = self.roles
        table = as_table(
            source, delimiter=roles.delimiter, encoding=roles.encoding, na=roles.na_values
        )
        label, mask = (
            self._labels(table)
            if labels
            else np.zeros((2, len(table), len(self.tasks)), np.float32)
        )
        x = (
            self._columns(table)
            if roles.text is None
            else Sentences(word_ids(table, roles, self.vocabularies))
        )
        return Dataset(x, label, mask, self._groups(table), self._weight(table))

    def _columns(self, table: Table) -> Columns:
        numeric = np.zeros((len(table), len(self.numeric)), np.float32)
        codes = np.zeros((len(table), len(self.categorical)), np.int32)
        for j, scale in enumerate(self.numeric):
            value = numbers(table, scale.name, self.roles.missing)
            standard = (value - scale.mean) / scale.deviation
            numeric[:, j] = np.where(np.isfinite(value), standard, 0.0)
        for j, (name, levels) in enumerate(self.categorical):
            codes[:, j] = _index(table.text(name), levels)
        return Columns(numeric, codes)

    def _labels(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        label, known = zip(*(read_label(task, table) for task in self.tasks), strict=True)
        mask = np.stack(known, 1).astype(np.float32)
        return np.where(mask > 0, np.stack(label, 1), 0.0).astype(np.float32), mask

    def _groups(self, table: Table) -> np.ndarray:
        blocks = [
            read_groups(rule, table)
            if rule.column in table
            else np.zeros((len(table), attribute.width), np.float32)
            for rule, attribute in zip(self.attributes, self.spec.attributes, strict=True)
        ]
        return np.concatenate(blocks, 1)

    def _weight(self, table: Table) -> np.ndarray:
        name = self.roles.weight
        if name is None or name not in table:
            return np.ones(len(table), np.float32)
        weight = table.require_numbers(name, "Weights are numbers: correct the cells.")
        bad = ~(np.isfinite(weight) & (weight >= 0))
        if bad.any() or not weight.sum():
            what = f"weight column {name!r}: {bad.sum():,} of {len(table):,} are missing, infinite or negative"
            cure = "Give finite weights, zero or more, not all zero."
            raise complain(
                table.where,
                what + (f", {table.spots(bad, name)}" if bad.any() else "; all are 0"),
                cure,
            )
        return weight.astype(np.float32)

    def to_json(self) -> str:
        """The encoder as JSON text; floats come back exactly."""
        return json.dumps(
            {"roles": dataclasses.asdict(self.roles), **{f: getattr(self, f) for f in _PARTS}}
        )

    @classmethod
    def from_json(cls, text: str) -> Encoder:
        """The encoder that :meth:`to_json` wrote; raises DataError when the text is not one."""
        try:
            raw = json.loads(text)
            parts = {
                field: tuple(kind(*map(_tupled, row)) for row in raw[field])
                for field, kind in _PARTS.items()
            }
            return cls(Roles(**raw["roles"]), **parts)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"encoder: not the JSON of an encoder ({error}). Give the file that was saved."
            ) from error


_PARTS = {
    "tasks": Rule,
    "attributes": Rule,
    "numeric": Scale,
    "categorical": Codes,
    "vocabularies": Vocabulary,
}


def _tupled(value):
    return tuple(value) if isinstance(value, list) else value


def _index(words: np.ndarray, levels: tuple[str, ...]) -> np.ndarray:
    """Position of every word among the levels, -1 for others."""
    place = {level: i for i, level in enumerate(levels)}
    return np.array([place.get(word, -1) for word in words.tolist()], np.int32)


def numbers(table: Table, name: str, missing: str) -> np.ndarray:
    """``[N]`` float64 of a numeric feature; raises DataError at text, and at NaN or infinity unless ``impute``."""
    cure = f"Correct the cells, name them in na_values, or declare {name!r} categorical."
    value = table.require_numbers(name, cure)
    bad = ~np.isfinite(value)
    if missing == "error" and bad.any():
        what = f"column {name!r}: {bad.sum():,} of {len(table):,} cells are empty, NaN or infinite, {table.spots(bad)}"
        raise complain(
            table.where,
            what,
            "Fill them, drop the column, or set missing to 'impute' (training mean).",
        )
    return value


def read_label(rule: Rule, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """``(label [N] float64, known [N] bool)`` of a fitted task rule."""
    if rule.op:
        return holds(rule, table)
    known = ~table.missing(rule.column)
    if rule.kind == "regression":
        value = table.require_numbers(
            rule.column, f"Task {rule.name!r} is a regression: correct the cells."
        )
        _refuse_labels(rule, table, known & ~np.isfinite(value))
        return (value - rule.mean) / rule.deviation, known
    index = _index(table.text(rule.column), rule.levels)
    _refuse_labels(rule, table, known & (index < 0))
    return index.astype(np.float64), known


def _refuse_labels(rule: Rule, table: Table, bad: np.ndarray) -> None:
    if bad.any():
        wanted = listing(rule.levels) if rule.levels else "finite numbers"
        what = f"column {rule.column!r}: {bad.sum():,} of {len(table):,} labels are not {wanted}, "
        raise complain(
            table.where,
            what + table.spots(bad, rule.column),
            "Correct them, or name them in na_values.",
        )


def read_groups(rule: Rule, table: Table) -> np.ndarray:
    """``[N, levels]`` membership of a fitted sensitive rule, of a number ``[N, 2]``; a zero row where it is unknown."""
    if rule.kind == "number":
        value, known = _sensitive_number(rule, table)
        return np.stack(
            [known, np.where(known, (value - rule.mean) / rule.deviation, 0.0)], 1
        ).astype(np.float32)
    if rule.op:
        truth, known = holds(rule, table)
        return (np.stack([~truth, truth], 1) & known[:, None]).astype(np.float32)
    index = _index(table.text(rule.column), rule.levels)
    return (index[:, None] == np.arange(len(rule.levels))).astype(np.float32)


def fit(table: Table, roles: Roles, train: np.ndarray) -> Encoder:
    """The encoder of a table: kinds and groups from all rows, statistics and levels from the training rows.

    Args:
        table: N rows.
        roles: what the columns are for; ``standardise="all"`` takes statistics and levels from all rows.
        train: indices of the training rows.

    Raises:
        DataError: see :func:`fairjax.data.from_table`.
    """
    tasks = parse_rules(roles.tasks, table, "task")
    attributes = parse_rules(roles.sensitive, table, "sensitive")
    for rule in attributes:
        if rule.column in {task.column for task in tasks}:
            what = f"column {rule.column!r} is sensitive and also a task ({len(table):,} rows)"
            raise complain(
                table.where, what, "Predict it or protect it: remove it from one of the two."
            )
    if roles.language is not None and roles.text is None:
        what = f"language {roles.language!r} without a text ({len(table):,} rows)"
        raise complain(table.where, what, "Name the column of tokens as text.")
    rows = np.arange(len(table)) if roles.standardise == "all" else train
    numeric, categorical = _features(table, roles, tasks, attributes)
    return Encoder(
        roles,
        tuple(_fit_task(rule, table, roles, rows) for rule in tasks),
        tuple(_fit_attribute(rule, table, roles, rows) for rule in attributes),
        tuple(_fit_scale(name, table, roles, rows) for name in numeric),
        tuple(_fit_codes(name, table, roles, rows) for name in categorical),
        () if roles.text is None else learn(table, roles, rows),
    )


def _fit_task(rule: Rule, table: Table, roles: Roles, rows: np.ndarray) -> Rule:
    known = ~table.missing(rule.column)
    if not known.any():
        what = f"task {rule.name!r}: column {rule.column!r} has 0 labels in {len(table):,} rows"
        raise complain(table.where, what, "Give labels, or remove the task.")
    kind = roles.kinds.get(rule.name, roles.kinds.get(rule.column, rule.kind))
    if rule.op:
        truth = holds(rule, table)[0][known]
        if truth.all() or not truth.any():
            which = "every one" if truth.all() else "none"
            seen = listing(levels_of(rule, table))
            what = f"rule '{rule.column} {rule.op} {rule.value}' matches {which} of {known.sum():,} known rows"
            raise complain(
                table.where, what, f"Column {rule.column!r} holds {seen}: change the rule."
            )
        return rule._replace(kind=_checked(rule, table, kind or "binary", ("binary",)))
    levels = roles.levels.get(rule.name, levels_of(rule, table))
    if len(levels) < 2:
        what = f"task {rule.name!r}: column {rule.column!r} is constant ({levels[0]!r} in {known.sum():,} rows)"
        raise complain(
            table.where, what, "A constant cannot be learned: remove the task, or cut it by a rule."
        )
    kind = kind or _kind(rule, table, levels)
    kind = _checked(rule, table, kind, ("binary", "multiclass", "regression"))
    if kind == "binary" and len(levels) != 2:
        what = (
            f"task {rule.name!r} is binary, but column {rule.column!r} holds {len(levels):,} values"
        )
        raise complain(
            table.where, f"{what} in {len(table):,} rows", f"Cut it by a rule: {rule.column} > 0."
        )
    if kind != "regression":
        return rule._replace(kind=kind, levels=levels)
    value, seen = read_label(rule._replace(kind=kind), table)
    value = value[rows][seen[rows]]  # none at all is refused when the splits are checked
    return rule._replace(kind=kind, **(_moments(value) if len(value) else {}))


def _checked(rule: Rule, table: Table, kind: str, allowed: tuple[str, ...]) -> str:
    if kind not in allowed:
        what = f"task {rule.name!r} on {len(table):,} rows: kind {kind!r} is not possible here"
        raise complain(table.where, what, f"Give {listing(allowed)}.")
    return kind


def _kind(rule: Rule, table: Table, levels: tuple[str, ...]) -> str:
    """Two values: binary. Text: multi-class. Numbers: regression."""
    if len(levels) == 2:
        return "binary"
    text = table.numbers(rule.column)[1].any()
    if text and len(levels) > _MOST_CLASSES:
        what = f"task {rule.name!r}: column {rule.column!r} holds {len(levels):,} different texts"
        cure = "Cut it by a rule, or ask for ':multiclass' if every one is a class."
        raise complain(table.where, f"{what} in {len(table):,} rows", cure)
    return "multiclass" if text else "regression"


def _fit_attribute(rule: Rule, table: Table, roles: Roles, rows: np.ndarray) -> Rule:
    if rule.kind == "number":
        return _fit_number(rule, table, rows)
    if rule.op:
        truth, known = holds(rule, table)
        levels = tuple(
            level for level, there in (("no", ~truth & known), ("yes", truth)) if there.any()
        )
    else:
        levels = roles.levels.get(rule.name, roles.levels.get(rule.column, levels_of(rule, table)))
    if len(levels) < 2:
        what = f"sensitive column {rule.column!r} has {len(levels)} group in {len(table):,} rows"
        raise complain(
            table.where,
            what,
            "Give a column, or a rule such as 'age > 25', that makes two groups or more.",
        )
    if len(levels) > _MOST_GROUPS:
        what = f"sensitive column {rule.column!r} has {len(levels):,} different values in {len(table):,} rows"
        cure = f"Cut it into groups by a rule: '{rule.column} > 25', merge its levels, or keep a number whole: "
        raise complain(table.where, what, f"{cure}'{rule.column} :number'.")
    return rule._replace(kind="group", levels=levels)


def _fit_number(rule: Rule, table: Table, rows: np.ndarray) -> Rule:
    if rule.op:
        what = f"sensitive rule '{rule.column} {rule.op} {rule.value} :number' on {len(table):,} rows makes groups, no number"
        raise complain(
            table.where, what, f"Give '{rule.column} :number', or the rule without ':number'."
        )
    value, known = _sensitive_number(rule, table)
    value = value[rows][known[rows]]
    if not len(value) or value.min() == value.max():
        what = f"sensitive column {rule.column!r} has {min(len(value), 1)} value in {len(value):,} known training rows"
        raise complain(
            table.where,
            what,
            "Nothing can depend on a constant: give a column with two values or more.",
        )
    return rule._replace(**_moments(value))


def _sensitive_number(rule: Rule, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """``(value [N] float64, known [N] bool)`` of a sensitive number; raises DataError at text and at infinity."""
    cure = "Correct them, name them in na_values, or leave out ':number' if they are groups."
    value, known = table.require_numbers(rule.column, cure), ~table.missing(rule.column)
    if (bad := known & ~np.isfinite(value)).any():
        what = f"column {rule.column!r}: {bad.sum():,} of {len(table):,} cells are not finite, {table.spots(bad, rule.column)}"
        raise complain(table.where, what, cure)
    return value, known


def _features(table: Table, roles: Roles, tasks, attributes) -> tuple[list[str], list[str]]:
    """Names of numeric and categorical features, in the order of ``features`` or of the table."""
    features = roles.features or ()
    given = (
        *features,
        *roles.numeric,
        *roles.categorical,
        *([roles.text] if roles.text is not None else ()),
    )
    for name in (*roles.drop, *given):
        table.column(name)
    never = {t.column for t in tasks} | set(roles.drop) | ({roles.weight, roles.split} - {None})
    sensitive = [a.column for a in attributes]
    if not roles.use_sensitive:
        never |= set(sensitive)
    for name in given:
        if name in never and (name not in roles.drop or name == roles.text):
            what = f"column {name!r} cannot be a feature of {len(table):,} rows: it is a task, sensitive, weight or split"
            raise complain(
                table.where,
                what + (", or dropped" if name in roles.drop else ""),
                "Remove it from the features (use_sensitive allows sensitive ones).",
            )
    if roles.text is not None:
        return [], []
    extra = sensitive if roles.use_sensitive else []
    names = table.columns if roles.features is None else dict.fromkeys((*roles.features, *extra))
    names = [name for name in names if name not in never]
    if not names:
        raise complain(
            table.where,
            f"0 features are left in {len(table):,} rows",
            "Give columns beside the tasks.",
        )
    numeric = [name for name in names if _is_numeric(name, table, roles)]
    return numeric, [name for name in names if name not in numeric]


def _is_numeric(name: str, table: Table, roles: Roles) -> bool:
    """Declared, or every known cell is a number. Nearly all numbers is a typing error, not a category."""
    if name in roles.categorical:
        if name in roles.numeric:
            what = f"column {name!r} is declared numeric and categorical ({len(table):,} rows)"
            raise complain(table.where, what, "Declare one.")
        return False
    value, bad = table.numbers(name)
    if name in roles.numeric or (bad.any() and bad.sum() < 0.1 * (bad | ~np.isnan(value)).sum()):
        numbers(table, name, "impute")
    return not bad.any()


def _fit_scale(name: str, table: Table, roles: Roles, rows: np.ndarray) -> Scale:
    value = numbers(table, name, roles.missing)[rows]
    value = value[np.isfinite(value)]
    if not len(value):
        what = f"column {name!r}: 0 numbers in {len(rows):,} training rows"
        raise complain(table.where, what, "Drop the column.")
    return Scale(name, **_moments(value))


def _moments(value: np.ndarray) -> dict[str, float]:
    """Mean and deviation; a constant column has no deviation, though rounding would give it one."""
    deviation = float(value.std(ddof=1)) if value.max() > value.min() else 1.0
    return {"mean": float(value.mean()), "deviation": deviation}


def _fit_codes(name: str, table: Table, roles: Roles, rows: np.ndarray) -> Codes:
    levels = roles.levels.get(name, tuple(dict.fromkeys(table.text(name)[rows].tolist())))
    if len(levels) > max(100, len(rows) // 2) and name not in roles.categorical:
        what = f"column {name!r} has {len(levels):,} levels in {len(rows):,} training rows: it looks like an identifier"
        raise complain(table.where, what, "Drop it, or declare it categorical to keep it.")
    return Codes(name, levels)
