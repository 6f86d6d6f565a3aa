"""The form of error messages about data: where the problem is, what it is, and how to cure it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fairjax.core.types import DataError


def complain(where: str, problem: str, cure: str) -> DataError:
    """The error with the message ``where: problem. cure``; the caller raises it."""
    return DataError(f"{where}: {problem}. {cure}")


def collect(function: Callable, items: Iterable) -> list:
    """``function`` of every item.

    Raises:
        DataError: it was raised for some items; all complaints come together, each once.
    """
    results = []
    complaints: dict[str, None] = {}
    for item in items:
        try:
            results.append(function(item))
        except DataError as error:
            complaints |= dict.fromkeys(str(error).splitlines())
    if complaints:
        raise DataError("\n".join(complaints))
    return results


def listing(items: Sequence, most: int = 4) -> str:
    """The first items for a message: ``'a', 'b', ... (7 in all)``."""
    texts = [repr(item) if isinstance(item, str) else str(item) for item in items[:most]]
    beginning = ", ".join(texts)
    if len(items) <= most:
        return beginning
    return f"{beginning}, ... ({len(items):,} in all)"
