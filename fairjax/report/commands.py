"""Commands as a page shows them: paths are relative to the folder of the page."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

SLOT = "{run}"  # where the number of a run stands


def relative_command(command: str, folder: Path) -> str:
    """The command with paths relative to a folder; the folder itself is a dot.

    Absolute paths change, and values of options that name the folder. A text that no shell could
    read stays as it is.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    home = folder.resolve()
    relative = []
    last = ""
    for word in words:
        relative.append(_relative(word, home, is_value=last.startswith("--")))
        last = word
    return " ".join(word if word == SLOT else shlex.quote(word) for word in relative)


def _relative(word: str, home: Path, is_value: bool) -> str:
    option, equals, value = word.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={_relative(value, home, is_value=True)}"
    if os.path.isabs(word):
        return os.path.relpath(word, home)
    if is_value and os.path.abspath(word) == str(home):
        return "."
    return word
