"""Text of the report: numbers and counts for a reader, and names that fit a label."""

from __future__ import annotations

import textwrap

import numpy as np

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
LABEL_WIDTH = 36  # characters of a name that a label has room for


def number(value: float | int | None, digits: int | None = None) -> str:
    """A number for a reader; a dash where it is unknown.

    Args:
      value: an integer keeps all its digits; None and numbers that are not finite are unknown.
      digits: significant digits. By default decimals follow the size: three below 10, one below
        1,000, else none; a positive value below 0.01 has two significant digits.
    """
    if value is None or not np.isfinite(value):
        return DASH
    if isinstance(value, int):
        text = f"{value:,}"
    elif digits is not None:
        text = f"{value:,.{digits}g}"
    elif 0 < value < 0.01:
        text = f"{value:.2g}"
    else:
        text = f"{value:,.{_decimals(value)}f}"
    # the exponent keeps its hyphen
    return MINUS + text[1:] if text.startswith("-") else text


def count(rows: float) -> str:
    """A number of rows, which is fractional where rows have weights."""
    if rows >= 100 or float(rows).is_integer():
        return f"{rows:,.0f}"
    return f"{rows:.3g}"


def rounded(values: np.ndarray, digits: int = 6) -> list[float]:
    """The numbers ``[N]`` with a few significant digits."""
    return [float(f"{value:.{digits}g}") for value in values.tolist()]


def literal(text: str, width: int = LABEL_WIDTH) -> str:
    """One line of at most ``width`` characters.

    White space is collapsed, and a box replaces each unprintable character.
    """
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "\N{WHITE SQUARE}" for letter in line)
    if len(line) <= width:
        return line
    return line[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"


def wrapped(label: str, width: int = 42) -> str:
    """A label broken into lines that fit beside an axis."""
    lines = textwrap.wrap(label, width, break_long_words=True, break_on_hyphens=False)
    return "\n".join(lines)


def unbroken(text: str) -> str:
    """The text with no-break spaces, so that no line ends inside it."""
    return text.replace(" ", NBSP)


def _decimals(value: float) -> int:
    size = abs(value)
    if size < 10:
        return 3
    if size < 1000:
        return 1
    return 0
