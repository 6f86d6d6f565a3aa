"""What several test files share: where the raw data sets are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of raw data files: ``$FAIRJAX_DATA``, or ``../shared/data`` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FAIRJAX_DATA") or beside)
    if not folder.is_dir():
        pytest.skip("no raw data sets: set $FAIRJAX_DATA to their folder")
    return folder
