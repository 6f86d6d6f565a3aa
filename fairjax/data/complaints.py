"""The form of error messages about data: where the problem is, what it is, and how to cure it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fairjax.core import threads
from fairjax.core.types import DataError


def complain(where: str, problem: str, cure: str) -> DataError:
    """The error with the message ``where: problem. cure``; the caller raises it."""
    return DataError(f"{where}: {problem}. {cure}")


def collect(
    function: Callable[..., Any], items: Iterable[Any], in_threads: bool = False
) -> list[Any]:
    """``function`` of every item, one after another or in threads.

    Raises:
        DataError: it was raised for some items; all complaints come together, each once.
    """

    def tried(item) -> tuple[object, DataError | None]:
        try:
            return function(item), None
        except DataError as error:
            return None, error

    outcomes = threads.in_threads(tried, items) if in_threads else list(map(tried, items))
    complaints: dict[str, None] = {}
    for _, error in outcomes:
        if error is not None:
            complaints |= dict.fromkeys(str(error).splitlines())
    if complaints:
        raise DataError("\n".join(complaints))
    return [result for result, _ in outcomes]


def listing(items: Sequence[Any], most: int = 4) -> str:
    """The first items for a message: ``'a', 'b', ... (7 in all)``."""
    texts = [repr(item) if isinstance(item, str) else str(item) for item in items[:most]]
    beginning = ", ".join(texts)
    if len(items) <= most:
        return beginning
    return f"{beginning}, ... ({len(items):,} in all)"
