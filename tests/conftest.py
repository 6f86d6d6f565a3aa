"""What all test files share: how programs are compiled, and where the raw data sets are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# the same programs, compiled in two thirds of the time: tests compile much and run little
OPTIMISATION = "--xla_backend_optimization_level"
if OPTIMISATION not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {OPTIMISATION}=0"


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Drop the compiled programs of a file after it: thousands fill memory and the map table."""
    import jax  # after the flags are set

    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of raw data files: ``$FAIRJAX_DATA``, or ``../shared/data`` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FAIRJAX_DATA") or beside)
    if not folder.is_dir():
        pytest.skip("no raw data sets: set $FAIRJAX_DATA to their folder")
    return folder
