"""The registry of data sets by name.

To add a data set, write its file in ``fairjax/data/sets`` with an ``ENTRY``, and add its name here.
"""

from __future__ import annotations

import importlib

from fairjax.core.types import DataError
from fairjax.data.complaints import listing
from fairjax.data.entry import Entry

_NAMES = (
    "synthetic",
    "adult",
    "german",
    "lsac",
    "compas",
    "acs",
    "multilingual_hate",
    "hatecheck",
    "fairface_subset",
)
REGISTRY: dict[str, Entry] = {
    name: importlib.import_module(f"fairjax.data.sets.{name}").ENTRY for name in _NAMES
}


def entry_of(name: str, form: str) -> Entry:
    """The entry of a data set.

    Raises:
        DataError: there is no data set of this name, or it does not have this form.
    """
    if name not in REGISTRY:
        names = listing(list(REGISTRY), 9)
        raise DataError(
            f"{name}: no data set of that name among {len(REGISTRY)}. Give one of {names}."
        )
    entry = REGISTRY[name]
    if form not in entry.forms:
        raise DataError(f"{name}: no form {form!r}. Give one of {listing(entry.forms)}.")
    return entry
