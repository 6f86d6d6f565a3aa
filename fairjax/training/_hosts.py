"""Processes of ``jax.distributed`` that train the same runs: each has some of the rows."""

from __future__ import annotations

import jax
import numpy as np
from jax.experimental import multihost_utils


def on_host(leaf: jax.Array | np.ndarray) -> np.ndarray:
    """The whole array, also where devices of other processes hold parts of it."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.ascontiguousarray(leaf)


def every_process(is_true: bool) -> bool:
    """Whether it holds for every process; all of them must ask."""
    return bool(np.all(multihost_utils.process_allgather(np.array(is_true))))
