"""How the cells of a column spell numbers: signs between digits, units, dates.

``1,250``, ``1.250,50``, ``$3``, ``70 kg``, ``12%`` and ``2024-01-31`` are numbers if every known
cell of the column is spelled in one way.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_FLAGS = re.ASCII | re.IGNORECASE
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", _FLAGS)
_DATE = re.compile(
    r"\d{4}-[01]\d-[0-3]\d([ T][0-2]\d:[0-5]\d(:[0-5]\d(\.\d+)?)?"
    r"(Z|[+-]\d\d:?\d\d)?)?",
    _FLAGS,
)
_OTHER_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([ T]\d{1,2}:\d{2}.*)?", re.ASCII)
_WITH_UNIT = re.compile(
    r"(?P<sign>[+-]?)(?P<before>[$€£¥₹]?)\s*(?P<number>[+-]?[\d.,][\d.,'\s\u00a0\u202f]*?)"
    r"\s*(?P<after>[%‰$€£¥₹°]?[a-zA-Zµ]{0,8}(/[a-zA-Z0-9]{1,8})?)"
)
_BLANKS = str.maketrans("\u00a0\u202f\u2009", "   ")
_MINUS = str.maketrans("\u2212", "-")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
DAYS = "days since 1970-01-01"


class NumberForm(NamedTuple):
    """How the cells of a column spell numbers."""

    decimal: str = "."
    grouping: str = ""  # between thousands
    unit: str = ""  # beside every number
    is_date: bool = False  # the number is days since 1970-01-01

    @property
    def note(self) -> str:
        """What was understood beyond plain numbers; empty for those."""
        if self.is_date:
            return f"dates, read as {DAYS}"
        parts = []
        if self.grouping:
            parts.append(f"{self.grouping!r} between thousands")
        if self.decimal != ".":
            parts.append(f"{self.decimal!r} before decimals")
        if self.unit:
            parts.append(f"unit {self.unit!r}")
        return f"numbers with {' and '.join(parts)}" if parts else ""


PLAIN = NumberForm()
DATE = NumberForm(is_date=True)
# the signs between thousands and before decimals that occur together
_SIGNS = (("", "."), (",", "."), ("", ","), (".", ","), (" ", "."), (" ", ","), ("'", "."))


def is_number(text: str) -> bool:
    """Whether a text is a plain number: ``1``, ``-2.5``, ``1e-3``, ``inf``. ``1_000`` is not."""
    return _PLAIN.fullmatch(text) is not None


def number(text: str, form: NumberForm = PLAIN) -> float | None:
    """The number that a text spells in a form, or None."""
    text = text if text.isascii() else text.translate(_MINUS)
    if form.is_date:
        return _days(text)
    if form.unit:
        match = _WITH_UNIT.fullmatch(text)
        if match is None or (match["before"] or match["after"]) != form.unit:
            return None
        text = match["sign"] + match["number"]
    if form.grouping or form.decimal != ".":
        if not _has_signs(text, form.grouping, form.decimal):
            return None
        text = text.translate(_BLANKS)
        text = text.replace(form.grouping, "") if form.grouping else text
        text = text.replace(form.decimal, ".")
    return float(text) if is_number(text) else None


def _days(text: str) -> float | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        moment = datetime.datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) / datetime.timedelta(days=1)


def days(moments: np.ndarray) -> np.ndarray:
    """Dates or durations of numpy as days, float64; NaT is NaN."""
    kind = moments.dtype.kind
    precise = moments.astype("datetime64[us]" if kind == "M" else "timedelta64[us]")
    number = precise.astype(np.int64) / 86_400e6
    return np.where(np.isnat(moments), np.nan, number)


def _has_signs(text: str, grouping: str, decimal: str) -> bool:
    """Whether a number is spelled with these signs, thousands in groups of three digits."""
    text = text.translate(_BLANKS)
    point = re.escape(decimal)
    plain = rf"[+-]?(\d+({point}\d*)?|{point}\d+)(e[+-]?\d+)?"
    patterns = [plain]
    if grouping:
        patterns.append(rf"[+-]?[1-9]\d{{0,2}}({re.escape(grouping)}\d{{3}})+({point}\d*)?")
    return any(re.fullmatch(pattern, text, _FLAGS) for pattern in patterns)


def find_forms(texts: Sequence[str], decimal: str = "") -> list[NumberForm]:
    """The forms in which all these texts are numbers, likeliest first; none if there is none.

    Two forms are left where a comma or a point may stand before decimals or between thousands.

    Args:
      texts: known cells, each distinct one once.
      decimal: the sign before decimals, where the texts leave it open.
    """
    texts = [text.translate(_MINUS) for text in texts]
    are_plain = all(is_number(text) for text in texts)
    if are_plain and (decimal != "," or not any("." in text for text in texts)):
        return [PLAIN]
    if all(_DATE.fullmatch(text) for text in texts):
        return [DATE] if all(_days(text) is not None for text in texts) else []
    unit = ""
    if not all(re.fullmatch(r"[\d.,'\s+\-eE\u00a0\u202f]+", text, re.ASCII) for text in texts):
        unit = _common_unit(texts)
        if not unit:
            return []
    forms = {}
    for grouping, point in _SIGNS:
        form = NumberForm(point, grouping, unit)
        numbers = [number(text, form) for text in texts]
        if None not in numbers:
            # a sign that no cell has gives the same numbers
            forms.setdefault(tuple(numbers), form)
    found = list(forms.values())
    return [form for form in found if form.decimal == decimal] or found


def _common_unit(texts: Sequence[str]) -> str:
    """The one unit beside every number; empty if there is no such unit."""
    units = set()
    for text in texts:
        match = _WITH_UNIT.fullmatch(text)
        if match is None or (match["before"] and match["after"]):
            return ""
        units.add(match["before"] or match["after"])
    return units.pop() if len(units) == 1 else ""


def looks_like_number(text: str) -> bool:
    """Whether a text is a number with any unit and signs, or a date in any order."""
    text = text if text.isascii() else text.translate(_MINUS)
    return bool(_WITH_UNIT.fullmatch(text) or _OTHER_DATE.fullmatch(text))
