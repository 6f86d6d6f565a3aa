"""The door: a raw table and its roles in, three data sets of one spec and the encoder out."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from fairjax.core.types import Attribute, DataError, Dataset, Spec, Splits
from fairjax.data.encoder import Encoder, fit
from fairjax.data.read import Table, as_table, complain, listing
from fairjax.data.roles import Roles

SPLITS = ("train", "validation", "test")
_SPELLINGS = {
    "train": 0,
    "training": 0,
    "validation": 1,
    "valid": 1,
    "val": 1,
    "dev": 1,
    "test": 2,
    "testing": 2,
}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set ready for training.

    ``source`` is a JSON-safe description from which :func:`fairjax.data.reload` makes the same arrays again; None when
    the rows came from memory.
    """

    name: str
    spec: Spec
    splits: Splits
    encoder: Encoder
    source: dict | None = None

    def describe(self) -> str:
        """Rows, known labels and label means per task, group and split, and means of sensitive numbers, as text."""
        counts = [
            f"{len(self.spec.numeric)} numeric and {len(self.spec.categorical)} categorical features"
        ]
        if self.spec.vocab_size:
            counts = [
                f"{self.encoder.roles.length} tokens, words: {', '.join(map(_counted, self.encoder.vocabularies))}"
            ]
        counts += [f"tasks: {', '.join(_says(rule) for rule in self.encoder.tasks)}"]
        head = ("", *SPLITS)
        rows = [head, ("rows", *(f"{len(split.weight):,}" for split in self.splits))]
        rows += [
            (f"{a.name} (number)", *(_mean(s, a, self.spec.group_slice(i)) for s in self.splits))
            for i, a in enumerate(self.spec.attributes)
            if a.continuous
        ]
        columns = [(a, name) for a in self.spec.attributes for name in a.columns]
        for task, words in enumerate(self.spec.tasks):
            rows.append(
                (
                    f"{words.name} ({words.kind})",
                    *(_known(s, task, None, self.spec) for s in self.splits),
                )
            )
            rows += [
                (f"  {name}", *(_known(s, task, group, self.spec) for s in self.splits))
                for group, (attribute, name) in enumerate(columns)
                if not attribute.continuous
            ]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            row[0].ljust(widths[0]) + "".join("  " + row[i].rjust(widths[i]) for i in (1, 2, 3))
            for row in rows
        ]
        return "\n".join(
            [f"{self.name}: {counts[0]}; {counts[1]}", *(line.rstrip() for line in lines)]
        )


def _counted(vocabulary) -> str:
    """A vocabulary's size, with its language if there are several."""
    return f"{vocabulary.language} {len(vocabulary.words):,}".strip()


def _says(rule) -> str:
    """A task in words: what its 1 means."""
    if rule.op:
        return f"{rule.name} (1: {rule.column} {rule.op} {rule.value})"
    return (
        f"{rule.name} (1: {rule.column} == {rule.levels[1]})"
        if rule.kind == "binary"
        else rule.name
    )


def _mean(data: Dataset, attribute: Attribute, block: slice) -> str:
    """``rows (mean)`` of a sensitive number, in the units of its column."""
    known, value = data.groups[:, block].T
    if not known.any():
        return "0"
    return f"{int(known.sum()):,} ({attribute.mean + attribute.deviation * value[known > 0].mean():.4f})"


def _known(data: Dataset, task: int, group: int | None, spec: Spec) -> str:
    """``rows (mean of the label)`` of one task, in one group or in all."""
    known = data.label_mask[:, task] > 0
    if group is not None:
        known &= data.groups[:, group] > 0
    if spec.tasks[task].kind == "multiclass" or not known.any():
        return f"{known.sum():,}"
    return f"{known.sum():,} ({spec.tasks[task].in_units(data.labels[known, task].mean()):.4f})"


def from_table(
    source, roles: Roles, *, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2), seed: int = 0
) -> Prepared:
    """A table and its roles as training, validation and test data.

    Statistics and category levels come from the training rows only, unless ``roles.standardise`` is ``"all"``.

    Args:
        source: CSV path (``.gz`` too), data frame, or dict of arrays, N rows.
        roles: what each column is for.
        fractions: of train, validation and test. With a split column that has no validation rows, the validation
            share of ``train + validation`` is carved out of its training rows. A validation fraction of 0 leaves
            training whole and takes the test data for validation too.
        seed: of the random split.

    Returns:
        Prepared, with float32 numpy arrays.

    Raises:
        DataError: a complaint about the file, a column, a rule, a label, a group or the split; says what to do.

    >>> rows = {"age": [20, 30, 40, 50, 60] * 8, "sex": ["f", "m"] * 20, "paid": [0, 0, 1, 1, 1, 0, 1, 1] * 5}
    >>> from_table(rows, Roles(tasks=("paid",), sensitive=("sex",))).spec.group_names
    ('sex=f', 'sex=m')
    """
    table = as_table(source, delimiter=roles.delimiter, encoding=roles.encoding, na=roles.na_values)
    description, name = None, "table"
    if isinstance(source, (str, Path)):
        name = Path(source).name.removesuffix(".gz").removesuffix(".csv")
        description = {
            "kind": "table",
            "path": str(Path(source).resolve()),
            "sha256": digest(source),
        }
        description |= {
            "roles": dataclasses.asdict(roles),
            "fractions": list(fractions),
            "seed": seed,
        }
    return prepare(table, roles, fractions=fractions, seed=seed, name=name, source=description)


def prepare(
    table: Table, roles: Roles, *, fractions, seed: int, name: str, source: dict | None
) -> Prepared:
    """The same for a table already read; see :func:`from_table`."""
    rows = split_rows(table, roles, fractions, seed)
    encoder = fit(table, roles, rows[0])
    data = encoder.encode(table, labels=True)
    parts = [_take(data, index) for index in rows]
    for split, part in zip(SPLITS, parts, strict=True):
        _refuse_thin(table.where, split, part, encoder.spec)
    return Prepared(name, encoder.spec, Splits(*parts), encoder, source)


def _take(data: Dataset, rows: np.ndarray) -> Dataset:
    x = type(data.x)(*(column[rows] for column in data.x))
    return Dataset(x, *(column[rows] for column in data[1:]))


def digest(path: str | Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def split_rows(
    table: Table, roles: Roles, fractions, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of training, validation and test rows, each in the order of the table.

    Raises:
        DataError: fractions that are no fractions, a split column with one value, or a split without rows.
    """
    train, validation, test = _fractions(table.where, fractions)
    if roles.split is not None:
        parts = _split_column(table, roles.split)
        if not len(parts[1]) and validation:
            carved = _permuted(len(parts[0]), (train, validation), seed, table.where)
            parts = [parts[0][carved[0]], parts[0][carved[1]], parts[2]]
    else:
        if not test:
            raise complain(
                table.where,
                f"fractions {fractions} leave 0 of {len(table):,} rows to test",
                "Give some.",
            )
        parts = _permuted(len(table), (train, validation, test), seed, table.where)
    train, validation, test = parts
    return train, validation if len(validation) else test, test


def _fractions(where: str, fractions) -> tuple[float, ...]:
    values = tuple(float(f) for f in fractions)
    if len(values) != 3 or min(values) < 0 or values[0] <= 0 or abs(sum(values) - 1) > 1e-6:
        raise complain(
            where,
            f"fractions {fractions} of the rows",
            "Give three that sum to 1, such as 0.6, 0.2, 0.2.",
        )
    return values


def _permuted(n: int, shares: tuple[float, ...], seed: int, where: str) -> list[np.ndarray]:
    """Random parts of ``range(n)``, sorted; the first part takes what rounding leaves."""
    sizes = [round(n * share / sum(shares)) for share in shares[1:]]
    if (
        any(share and not size for share, size in zip(shares[1:], sizes, strict=True))
        or sum(sizes) >= n
    ):
        raise complain(
            where,
            f"{n:,} rows are too few for shares {shares}",
            "Give more rows, or other fractions.",
        )
    # RandomState, because numpy promises that its stream never changes.
    order = np.random.RandomState(seed).permutation(n)
    cuts = np.cumsum([n - sum(sizes), *sizes])[:-1]
    return [np.sort(part) for part in np.split(order, cuts)]


def _split_column(table: Table, name: str) -> list[np.ndarray]:
    words = table.text(name)
    seen = sorted(set(words.tolist()))
    if len(seen) < 2:
        what = f"split column {name!r} has one value, {seen[0]!r}, in {len(table):,} rows"
        raise complain(
            table.where,
            what,
            "Give train, validation and test rows, or leave the split to fractions.",
        )
    strange = [word for word in seen if word.lower() not in _SPELLINGS]
    if strange:
        what = f"split column {name!r} holds {listing(strange)} among {len(table):,} rows"
        raise complain(table.where, what, "Use the values train, validation and test.")
    which = np.array([_SPELLINGS[word.lower()] for word in words.tolist()])
    parts = [np.flatnonzero(which == i) for i in range(3)]
    for i in (0, 2):
        if not len(parts[i]):
            what = f"split column {name!r} has 0 {SPLITS[i]} rows among {len(table):,}"
            raise complain(table.where, what, f"Mark some rows {SPLITS[i]!r}.")
    return parts


def _refuse_thin(where: str, split: str, data: Dataset, spec: Spec) -> None:
    """Every task has labels, every training label varies, every group has rows, every sensitive number is known somewhere."""
    n = len(data.weight)
    for i, task in enumerate(spec.tasks):
        label = data.labels[data.label_mask[:, i] > 0, i]
        if not len(label):
            what = f"task {task.name!r} has 0 labels in the {n:,} {split} rows"
            raise complain(where, what, "Give labels there, or split otherwise.")
        if split == "train" and label.min() == label.max():
            what = f"task {task.name!r}: its label is constant ({label[0]:g}) in the {len(label):,} labelled train rows"
            raise complain(where, what, "Split otherwise, or change the rule.")
    for i, attribute in enumerate(spec.attributes):
        members = data.groups[:, spec.group_slice(i)].sum(0)
        if attribute.continuous and not members[0]:
            what = f"sensitive number {attribute.name!r} is known in 0 of the {n:,} {split} rows"
            raise complain(where, what, "Split otherwise (another seed or larger fractions).")
        for name in [] if attribute.continuous else np.array(attribute.columns)[members == 0]:
            what = f"group {str(name)!r} has 0 of the {n:,} {split} rows"
            raise complain(
                where,
                what,
                "Split otherwise (another seed or larger fractions), or merge the group.",
            )


def check_unchanged(path: str, sha256: str) -> None:
    """Raises DataError when a file is absent or is no longer the one it was."""
    if not Path(path).is_file():
        raise complain(path, "no such file (0 rows read)", "Put the table back where it was.")
    if digest(path) != sha256:
        what = f"the file has changed since the run ({Path(path).stat().st_size:,} bytes now)"
        raise DataError(f"{path}: {what}. Restore it, or start a new run.")
