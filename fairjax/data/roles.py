"""Roles: which column is a task, a sensitive attribute or a feature."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fairjax.core.types import REGRESSION_LOSSES, DataError
from fairjax.data.complaints import listing
from fairjax.data.raw_table import NA, RawTable, canonical

_TUPLES = (
    "tasks",
    "sensitive",
    "features",
    "drop",
    "numeric",
    "categorical",
    "na_values",
    "header",
)
_CHOICES = {
    "standardise": ("train", "all"),
    "missing": ("impute", "error"),
    "decimal": ("", ".", ","),
    "regression_loss": REGRESSION_LOSSES,
}
_COUNTS = ("length", "minimum")
_NETWORK_SIZE = 224  # height and width of images that a pretrained network reads
_NOT_WITH_ONE = ("features", "numeric", "categorical", "use_sensitive")
_COLUMNS = ("features", "drop", "numeric", "categorical")
_COLUMN = ("weight", "split", "split_by", "text", "language", "image")


@dataclasses.dataclass(frozen=True)
class Roles:
    """What each column of a table is for.

    All fields are texts, tuples and dicts, so ``dataclasses.asdict`` gives JSON. A task column
    (also one in a rule), ``drop``, ``weight`` and the columns of the split never become features. A
    sensitive column becomes a feature only with ``use_sensitive``.
    """

    # rules, see fairjax.data.rules
    tasks: tuple[str, ...]
    # columns, rules such as ``age > 25``, or numbers, ``age :number``; one attribute each
    sensitive: tuple[str, ...]
    # the only features, in this order; None: every column that has no other role
    features: tuple[str, ...] | None = None
    # columns that reveal a label
    drop: tuple[str, ...] = ()
    # features that must be numbers
    numeric: tuple[str, ...] = ()
    # features that are levels even if they look like numbers
    categorical: tuple[str, ...] = ()
    weight: str | None = None
    # column of train, validation, test; without validation rows they are drawn from train
    split: str | None = None
    # column whose equal cells (a patient, a household) are in one split
    split_by: str | None = None
    # a rule such as ``year < 2019``: rows for which it holds train, the others are the test rows
    split_at: str | None = None
    use_sensitive: bool = False
    # rows that give means, deviations, levels and words: "train", or "all" as in the papers
    standardise: str = "train"
    # empty cells of numeric features: "impute" gives them the training mean, and a feature more
    # says where; "error" refuses them
    missing: str = "impute"
    # a column of tokens with blanks between them; it is then the only feature
    text: str | None = None
    # with text: a column whose every level has its own vocabulary
    language: str | None = None
    # number of first tokens of a text that are used
    length: int = 40
    # a token is unknown if training rows hold it less often
    minimum: int = 2
    # a column of images, of file names or of arrays; it is then the only feature
    image: str | None = None
    # folder or zip of the image files
    images: str = ""
    # height and width to which images are cut and scaled; 0: they stay as they are
    image_size: int = 0
    # a pretrained network, by name or folder as ``fairjax.pretrained.load`` takes it: its features
    # of the text or image become numbers of a table. A text is then not split at blanks and has no
    # vocabulary; images are cut and scaled to 224 x 224, unless image_size says otherwise; and
    # ``features`` and ``use_sensitive`` put columns of the table beside them
    encoder: str | None = None
    # task name -> kind
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    # of tasks that are regressions: "squared_error", or "ccc" for one minus the concordance
    regression_loss: str = "squared_error"
    # column or rule's name -> its levels in order
    levels: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    # column -> level as written -> level that is meant
    merge: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    # spellings of a missing cell, in any case
    na_values: tuple[str, ...] = NA
    # of a CSV file; empty: found
    delimiter: str = ""
    encoding: str = "utf-8"
    # the sign before decimals, "." or ","; empty: found
    decimal: str = ""
    # gigabytes to which a packed file may unpack; 0: one, or 50 times its packed size
    unpacked: float = 0
    # column names of a CSV file that has no header
    header: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in _TUPLES:
            value = getattr(self, field)
            if value is not None:
                names = (value,) if isinstance(value, str | int) else value
                object.__setattr__(self, field, tuple(str(name) for name in names))
        levels = {
            name: tuple(canonical(str(level)) for level in given)
            for name, given in self.levels.items()
        }
        object.__setattr__(self, "levels", levels)
        for field, allowed in _CHOICES.items():
            value = getattr(self, field)
            if value not in allowed:
                raise DataError(f"roles: {field} is {value!r}. Give one of {listing(allowed)}.")
        for field in _COUNTS:
            value = getattr(self, field)
            if value < 1:
                raise DataError(f"roles: {field} is {value}. Give one token or more.")
        object.__setattr__(self, "images", str(self.images))
        if self.encoder is not None:
            object.__setattr__(self, "encoder", str(self.encoder))
        self._refuse_beside()
        splits = [f for f in ("split", "split_by", "split_at") if getattr(self, f) is not None]
        if len(splits) > 1:
            raise DataError(f"roles: {listing(splits)} all say how to split. Give one of them.")

    def _refuse_beside(self) -> None:
        """Refuse features beside a text or an image, and words about images without a column."""
        kinds = [kind for kind in ("text", "image") if getattr(self, kind) is not None]
        columns = _NOT_WITH_ONE
        cure = f"Leave them out: the {kinds[0]} is the only feature." if kinds else ""
        if self.encoder is not None:
            columns = () if self.features else ("numeric", "categorical")
            cure = "Name the columns beside it as features too (--features)."
        others = [field for field in columns if getattr(self, field)]
        if kinds[1:]:
            others = kinds[1:]
            cure = "Give one of them."
        if kinds and others:
            problem = f"roles: {listing(others)} beside {kinds[0]} {getattr(self, kinds[0])!r}"
            raise DataError(f"{problem}. {cure}")
        if self.image_size < 0:
            raise DataError(f"roles: image_size is {self.image_size}. Give one pixel or more.")
        about_images = [field for field in ("images", "image_size") if getattr(self, field)]
        if self.image is None and about_images:
            problem = f"roles: {listing(about_images)} without a column of images"
            raise DataError(f"{problem}. Name the column of file names as image.")
        if self.encoder is not None:
            self._refuse_encoder(kinds)
            if self.image is not None and not self.image_size:
                object.__setattr__(self, "image_size", _NETWORK_SIZE)

    def _refuse_encoder(self, kinds: list[str]) -> None:
        """Refuse a pretrained network that has nothing to read, and vocabularies beside it."""
        if not kinds:
            problem = f"roles: encoder {self.encoder!r} without a column of texts or images"
            raise DataError(f"{problem}. Name one as text or image (--text, --image).")
        if self.language is not None:
            problem = f"roles: language {self.language!r} beside encoder {self.encoder!r}"
            raise DataError(
                f"{problem}, which has one vocabulary for all its languages. Leave language out "
                "(--language), or the encoder."
            )

    @property
    def raw_feature(self) -> str | None:
        """The column of texts or images, beside which no column is a feature unless named."""
        return self.image if self.text is None else self.text

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments of :func:`fairjax.data.read.as_table`."""
        return {
            "delimiter": self.delimiter,
            "encoding": self.encoding,
            "na": self.na_values,
            "decimal": self.decimal,
            "header": self.header,
            "unpacked": self.unpacked,
        }

    def named_as(self, table: RawTable) -> Roles:
        """The roles with columns named as the table has them: blanks and accents as there."""

        def found(name: str) -> str:
            return table.find(name) or name

        def renamed(mapping: Mapping[str, Any]) -> dict[str, Any]:
            return {found(name): value for name, value in mapping.items()}

        changes = {}
        for field in _COLUMNS:
            names = getattr(self, field)
            changes[field] = None if names is None else tuple(map(found, names))
        for field in _COLUMN:
            name = getattr(self, field)
            changes[field] = None if name is None else found(name)
        for field in ("kinds", "levels", "merge"):
            changes[field] = renamed(getattr(self, field))
        return dataclasses.replace(self, **changes)
