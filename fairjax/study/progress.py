"""A progress bar per method while a study trains."""

from __future__ import annotations


class ProgressBars:
    """A progress bar per method, with rate and time left, in a terminal and in a notebook.

    Before the first chunk of runs is done, the bar says that the program is being compiled.

    Raises:
      ImportError: tqdm is missing.
    """

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError(
                "the progress bar needs tqdm; install it with: pip install 'fairjax[cli]'"
            ) from error
        self._make_bar = tqdm
        self._bar = None
        self._method = None

    def advance(self, method: str, finished: int, total: int, unit: str = "run") -> None:
        """Show that ``finished`` of ``total`` runs of a method are done."""
        if method != self._method:
            self.close()
            self._method = method
            self._bar = self._make_bar(total=total, desc=method, unit=unit)
        self._bar.set_postfix_str("" if finished else "compiling, 10 to 60 s")
        self._bar.update(finished - self._bar.n)

    def close(self) -> None:
        """Leave the current bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._method = None
