"""The encoder: turns rows into arrays with the statistics of the training rows.

A numeric feature and the label of a regression become ``(x - mean) / deviation``. A categorical
feature becomes the index of its level, -1 for a level that training rows do not have. A text
becomes word ids. An image is checked for its size, and its pixels stay as they are. With a
pretrained network a text or an image becomes the network's features, standardised as numbers are.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any, NamedTuple

import numpy as np

from fairjax.core.inputs import TableLike
from fairjax.core.threads import in_threads
from fairjax.core.types import (
    Attribute,
    Columns,
    DataError,
    Dataset,
    Images,
    Sentences,
    Spec,
    Task,
)
from fairjax.data.cells import (
    level_index,
    read_feature,
    read_groups,
    read_label,
    standardise,
)
from fairjax.data.complaints import collect, complain
from fairjax.data.frozen import Frozen, Progress, with_features
from fairjax.data.merging import merged
from fairjax.data.numbers import PLAIN, NumberForm
from fairjax.data.pixels import with_images
from fairjax.data.raw_table import RawTable
from fairjax.data.read import as_table
from fairjax.data.roles import Roles
from fairjax.data.rules import ColumnRule
from fairjax.data.vocabulary import Vocabulary, vocabulary_size, word_ids


class Standardiser(NamedTuple):
    """A numeric feature with the statistics of its training rows."""

    name: str
    mean: float
    deviation: float
    low: float
    high: float
    has_gaps: bool = False  # training cells are missing: a feature more says where
    form: NumberForm = PLAIN  # how the cells spell numbers
    quantiles: tuple[float, ...] = ()  # distinct ones at equal steps, from the least to the largest

    @property
    def gap_name(self) -> str:
        """Name of the feature that is 1 where this one is missing."""
        return f"{self.name} is missing"

    @property
    def knots(self) -> tuple[float, ...]:
        """The quantiles in the units of the encoded feature."""
        return tuple((value - self.mean) / self.deviation for value in self.quantiles)


class Codes(NamedTuple):
    """A categorical feature with its levels. The empty level is a missing cell."""

    name: str
    levels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Fitted rules, means and levels of a table. :meth:`encode` turns rows into a Dataset."""

    roles: Roles
    tasks: tuple[ColumnRule, ...]  # one per label column; those of one task have one name
    attributes: tuple[ColumnRule, ...]
    numeric: tuple[Standardiser, ...]
    categorical: tuple[Codes, ...]
    vocabularies: tuple[Vocabulary, ...] = ()
    image_shape: tuple[int, ...] = ()  # height and width
    frozen: tuple[Frozen, ...] = ()  # features of a pretrained network, at most of one

    @property
    def spec(self) -> Spec:
        """What the encoded columns mean."""
        return Spec(
            _tasks(self.tasks, self.roles.regression_loss),
            tuple(_attribute(rule) for rule in self.attributes),
            self._numeric_names,
            tuple((feature.name, len(feature.levels)) for feature in self.categorical),
            vocabulary_size(self.vocabularies),
            self.image_shape,
            tuple(feature.knots for feature in self.numeric),
        )

    @property
    def _numeric_names(self) -> tuple[str, ...]:
        names = [feature.name for feature in self.numeric]
        names += [feature.gap_name for feature in self.numeric if feature.has_gaps]
        for frozen in self.frozen:
            names += frozen.names(self.roles.encoder)
        return tuple(names)

    def read(
        self,
        source: TableLike | RawTable,
        images: str = "",
        *,
        encoder: str = "",
        progress: Progress | None = None,
        **reading: Any,
    ) -> RawTable:
        """A source as a table, read and its levels merged as the training table's were.

        Args:
            source: path, data frame or dict of arrays.
            images: folder or zip of its images. Default: that of the training table.
            encoder: folder of the pretrained network, if it is elsewhere than in training.
            progress: is called with the network's name, rows whose features are computed, and all.
            reading: other arguments of :func:`fairjax.data.read.as_table` than those of training.
        """
        table = merged(as_table(source, **self.roles.reading | reading), self.roles.merge)
        if not self.frozen:
            return with_images(table, self.roles, str(images))
        return with_features(
            table,
            self.roles,
            *self.frozen,
            images=str(images),
            encoder=encoder,
            progress=progress,
        )

    def encode(self, source: TableLike | RawTable, labels: bool = False) -> Dataset:
        """Rows as arrays, with the statistics of the training rows.

        Args:
            source: path, data frame or dict of arrays with N rows, see
                :func:`fairjax.data.read.as_table`; or what :meth:`read` made of it. A missing
                numeric feature is the training mean, unless ``missing`` is "error".
            labels: whether to read the task columns, which must then exist; otherwise
                ``label_mask`` is 0.

        Returns:
            Dataset with N rows. Demographics that are absent, missing or of an unseen level are a
            zero block. Weight is 1 without the weight column.

        Raises:
            DataError: a feature column is absent, is not numeric, holds infinity or numbers beyond
                1e37, or gaps with ``missing="error"``; a text's language does not occur in
                training; images have another size; or the pretrained network is another one.
        """
        roles = self.roles
        table = source if isinstance(source, RawTable) else self.read(source)
        if labels:
            label, label_mask = self._labels(table)
        else:
            label, label_mask = np.zeros((2, len(table), len(self.tasks)), np.float32)
        if self.frozen:
            x = self._columns(with_features(table, roles, *self.frozen))
        elif roles.text is not None:
            x = Sentences(word_ids(table, roles, self.vocabularies))
        elif roles.image is not None:
            x = Images(self._pixels(table))
        else:
            x = self._columns(table)
        return Dataset(x, label, label_mask, self._groups(table), self._weight(table))

    def _pixels(self, table: RawTable) -> np.ndarray:
        table = with_images(table, self.roles)
        pixels = table.pixels[table.find(self.roles.image)]
        shape = pixels.shape[1:3]
        if shape != self.image_shape:
            sizes = " but ".join(
                f"{height} x {width}" for height, width in (shape, self.image_shape)
            )
            problem = f"{len(table):,} images are {sizes} in training"
            raise complain(table.where, problem, "Scale them, or train with --image-size.")
        return pixels

    def _columns(self, table: RawTable) -> Columns:
        # column by column in memory, as they are written and read
        numeric = np.zeros((len(self._numeric_names), len(table)), np.float32).T
        codes = np.zeros((len(self.categorical), len(table)), np.int32).T

        def fill(j: int) -> np.ndarray:
            feature = self.numeric[j]
            value = read_feature(table, feature.name, self.roles.missing, feature.form)
            standardised = standardise(table, feature.name, value, feature.mean, feature.deviation)
            is_missing = np.isnan(value)
            standardised[is_missing] = 0.0
            numeric[:, j] = standardised
            return is_missing

        gaps = collect(fill, range(len(self.numeric)), in_threads=True)
        with_gaps = [j for j, feature in enumerate(self.numeric) if feature.has_gaps]
        for place, j in enumerate(with_gaps, len(self.numeric)):
            numeric[:, place] = gaps[j]
        for frozen in self.frozen:
            numeric[:, -len(frozen.mean) :] = frozen.standardised(table.features)

        def fill_codes(j: int) -> None:
            codes[:, j] = level_index(table, *self.categorical[j])

        in_threads(fill_codes, range(len(self.categorical)))
        return Columns(numeric, codes)

    def _labels(self, table: RawTable) -> tuple[np.ndarray, np.ndarray]:
        columns = [read_label(task, table) for task in self.tasks]
        label = np.stack([value for value, _ in columns], 1)
        known_nt = np.stack([is_known for _, is_known in columns], 1)
        return np.where(known_nt, label, 0.0).astype(np.float32), known_nt.astype(np.float32)

    def _groups(self, table: RawTable) -> np.ndarray:
        blocks = []
        for rule, attribute in zip(self.attributes, self.spec.attributes, strict=True):
            if rule.column in table:
                blocks.append(read_groups(rule, table))
            else:
                blocks.append(np.zeros((len(table), attribute.width), np.float32))
        return np.concatenate(blocks, 1)

    def _weight(self, table: RawTable) -> np.ndarray:
        name = self.roles.weight
        if name is None or name not in table:
            return np.ones(len(table), np.float32)
        weight = table.require_numbers(name, "Weights are numbers: correct the cells.")
        bad = ~(np.isfinite(weight) & (weight >= 0))
        if bad.any() or not weight.sum():
            count = f"{bad.sum():,} of {len(table):,} are missing, infinite or negative"
            spots = f", {table.spots(bad, name)}" if bad.any() else "; all are 0"
            cure = "Give finite weights, zero or more, not all zero."
            raise complain(table.where, f"weight column {name!r}: {count}{spots}", cure)
        return weight.astype(np.float32)

    def to_json(self) -> str:
        """The encoder as JSON text; floats come back exactly."""
        content = {"roles": dataclasses.asdict(self.roles), "image_shape": self.image_shape}
        for field in _PARTS:
            content[field] = getattr(self, field)
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> Encoder:
        """The encoder that :meth:`to_json` wrote.

        Raises:
            DataError: the text is not the JSON of an encoder.
        """
        try:
            content = json.loads(text)
            content.setdefault("frozen", [])  # older files have none
            parts = {}
            for field, kind in _PARTS.items():
                rows = [map(_tuple_of_list, row) for row in content[field]]
                parts[field] = tuple(_with_form(kind(*row)) for row in rows)
            shape = tuple(content.get("image_shape", ()))
            return cls(Roles(**content["roles"]), **parts, image_shape=shape)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"encoder: not the JSON of an encoder ({error}). Give the file that was saved."
            ) from error


_PARTS = {
    "tasks": ColumnRule,
    "attributes": ColumnRule,
    "numeric": Standardiser,
    "categorical": Codes,
    "vocabularies": Vocabulary,
    "frozen": Frozen,
}


def _with_form(part):
    """A rule or feature whose form was read as a plain tuple."""
    return part._replace(form=NumberForm(*part.form)) if hasattr(part, "form") else part


def _tuple_of_list(value):
    """A list of JSON as a tuple; other values unchanged."""
    return tuple(value) if isinstance(value, list) else value


def _tasks(rules: tuple[ColumnRule, ...], regression_loss: str) -> tuple[Task, ...]:
    """A task per name; a name of several columns is a task of several labels or outputs."""
    by_name = itertools.groupby(rules, key=lambda rule: rule.name)
    return tuple(_task(list(columns), regression_loss) for _, columns in by_name)


def _task(columns: list[ColumnRule], regression_loss: str) -> Task:
    rule = columns[0]
    names = tuple(column.column for column in columns)
    if rule.kind == "multilabel":
        return Task(rule.name, rule.kind, names)
    if rule.kind == "regression":
        moments = (rule.mean, rule.deviation)
        levels = ()
        if len(columns) > 1:
            means = tuple(column.mean for column in columns)
            moments = (means, tuple(column.deviation for column in columns))
            levels = names
        return Task(rule.name, rule.kind, levels, *moments, regression_loss)
    levels = rule.levels
    if rule.op:
        levels = (f"not {rule.text}", rule.text)
    return Task(rule.name, rule.kind, levels, rule.mean, rule.deviation)


def _attribute(rule: ColumnRule) -> Attribute:
    is_number = rule.kind == "number"
    return Attribute(rule.name, rule.levels, is_number, rule.mean, rule.deviation)
