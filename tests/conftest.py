"""What all test files share: how programs are compiled, and where the raw data sets are."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# the same programs, compiled in two thirds of the time: tests compile much and run little
OPTIMISATION = "--xla_backend_optimization_level"
if OPTIMISATION not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {OPTIMISATION}=0"

MEMORY_MAP = Path("/proc/self/maps")  # of Linux, which allows 65,530 entries
MOST_ENTRIES = 20_000


def pytest_configure(config: pytest.Config) -> None:
    """All processes of a session, workers and commands too, share the programs they compile."""
    if hasattr(config, "workerinput") or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="fairjax-programs-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ``slow.txt`` lists."""
    listed = set(Path(__file__).with_name("slow.txt").read_text().split("\n"))
    for item in items:
        name = f"{item.path.name}::{item.originalname}"
        if name in listed:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Drop the compiled programs where they fill the memory map: each has several entries."""
    import jax  # after the flags are set

    yield
    if not MEMORY_MAP.exists() or MEMORY_MAP.read_text().count("\n") > MOST_ENTRIES:
        jax.clear_caches()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of raw data files: ``$FAIRJAX_DATA``, or ``../shared/data`` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FAIRJAX_DATA") or beside)
    if not folder.is_dir():
        pytest.skip("no raw data sets: set $FAIRJAX_DATA to their folder")
    return folder
