"""What a command shows while it works: warnings."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

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
