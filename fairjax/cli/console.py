"""What a command shows while it works: progress bars and warnings."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import click


class ProgressBars:
    """A progress bar per method, with rate and time left.

    Raises:
      ImportError: tqdm is missing.
    """

    def __init__(self):
        try:
            from tqdm import tqdm
        except ImportError as error:
            raise ImportError(
                "the progress bar needs tqdm; install it with: pip install 'fairjax[cli]'"
            ) from error
        self._make_bar = tqdm
        self._bar = None
        self._method = None

    def advance(self, method: str, finished: int, total: int) -> None:
        """Show that ``finished`` of ``total`` runs of a method are done."""
        if method != self._method:
            self.close()
            self._method = method
            self._bar = self._make_bar(total=total, desc=method, unit="run")
        self._bar.update(finished - self._bar.n)

    def close(self) -> None:
        """Leave the current bar as it is."""
        if self._bar is not None:
            self._bar.close()


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
