"""Where the packages lie that hold weights. Their code does not run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fairjax.core.types import DataError


def folder_of(module: str, package: str, network: str, cure: str) -> Path:
    """The folder of an installed package.

    Args:
      module: as Python calls it.
      package: as the index calls it.
      network: whose weights it holds, for the message.
      cure: the command that installs it.

    Raises:
      DataError: it is not installed.
    """
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise DataError(
            f"{network}: the package {package}, which holds its weights, is missing. {cure}"
        )
    return Path(found.submodule_search_locations[0])
