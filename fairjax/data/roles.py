"""Roles: which column is a task, a sensitive attribute or a feature."""

from __future__ import annotations

import dataclasses

from fairjax.core.types import DataError
from fairjax.data.complaints import listing
from fairjax.data.raw_table import NA

_TUPLES = ("tasks", "sensitive", "features", "drop", "numeric", "categorical", "na_values")
_CHOICES = {"standardise": ("train", "all"), "missing": ("error", "impute")}
_COUNTS = ("length", "minimum")
_NOT_WITH_TEXT = ("features", "numeric", "categorical", "use_sensitive")


@dataclasses.dataclass(frozen=True)
class Roles:
    """What each column of a table is for.

    All fields are texts, tuples and dicts, so ``dataclasses.asdict`` gives JSON. A task column
    (also one in a rule), ``drop``, ``weight`` and ``split`` never become features. A sensitive
    column becomes a feature only with ``use_sensitive``.
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
    use_sensitive: bool = False
    # rows that give means, deviations, levels and words: "train", or "all" as in the papers
    standardise: str = "train"
    # "error", or "impute": NaN, infinite and empty numeric features become the training mean
    missing: str = "error"
    # a column of tokens with blanks between them; it is then the only feature
    text: str | None = None
    # with text: a column whose every level has its own vocabulary
    language: str | None = None
    # number of first tokens of a text that are used
    length: int = 40
    # a token is unknown if training rows hold it less often
    minimum: int = 2
    # task name -> kind
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    # name -> its levels in order
    levels: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    na_values: tuple[str, ...] = NA
    delimiter: str = ","
    encoding: str = "utf-8"

    def __post_init__(self):
        for field in _TUPLES:
            value = getattr(self, field)
            if value is not None:
                names = (value,) if isinstance(value, str) else tuple(value)
                object.__setattr__(self, field, names)
        levels = {name: tuple(names) for name, names in self.levels.items()}
        object.__setattr__(self, "levels", levels)
        for field, allowed in _CHOICES.items():
            value = getattr(self, field)
            if value not in allowed:
                raise DataError(f"roles: {field} is {value!r}. Give one of {listing(allowed)}.")
        for field in _COUNTS:
            value = getattr(self, field)
            if value < 1:
                raise DataError(f"roles: {field} is {value}. Give one token or more.")
        others = [field for field in _NOT_WITH_TEXT if getattr(self, field)]
        if self.text is not None and others:
            problem = f"roles: {listing(others)} beside text {self.text!r}"
            raise DataError(f"{problem}. Leave them out: the text is the only feature.")
