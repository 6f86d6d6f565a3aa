"""What a command shows while it works: warnings, and rows that are done."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import click


@contextlib.contextmanager
def echoed_warnings() -> Iterator[None]:
    """Print warnings as messages, each once, whatever the filters are; also before an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for message in dict.fromkeys(str(warning.message) for warning in caught):
                click.echo(f"Warning: {message}.", err=True)


@contextlib.contextmanager
def echoed_rows() -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows how many rows are done, on one line: ``use: 3,200 of 18,669 rows``."""
    is_shown = False

    def show(name: str, finished: int, total: int) -> None:
        nonlocal is_shown
        is_shown = True
        click.echo(f"\r{name}: {finished:,} of {total:,} rows", err=True, nl=False)

    try:
        yield show
    finally:
        if is_shown:
            click.echo(err=True)
