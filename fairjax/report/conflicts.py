"""How often rows of gradients conflict during training: the share of steps in conflict.

In: cosines between K rows at every step, for whole gradients ``[steps, K, K]`` or layer by layer
``[steps, M, K, K]``, as ``LinkState.cosines`` of a link tells them. Out: shares as an array.
"""

from __future__ import annotations

import numpy as np

from fairjax.core.types import Array


def conflict_shares(cosines: Array | np.ndarray) -> np.ndarray:
    """How often two rows are in conflict, over steps s.

    ``share_ij = #{s: cos_ij(s) < 0} / #{s: cos_ij(s) known}``.

    A cosine is known unless it is NaN or exactly 0, as a link reports it for a row that was absent.

    Args:
      cosines: ``[steps, ..., K, K]``.

    Returns:
      ``[..., K, K]`` in [0, 1]; NaN for a pair whose cosine is known at no step.

    Raises:
      ValueError: for any other shape.
    """
    cosine = np.asarray(cosines, float)
    shape = cosine.shape
    if len(shape) < 3 or shape[-1] != shape[-2]:
        raise ValueError(f"cosines have shape {shape}, expected [steps, ..., K, K]")
    is_known = known_cosines(cosine)
    is_conflict = is_known & (cosine < 0)
    known_steps = is_known.sum(axis=0)
    conflict_steps = is_conflict.sum(axis=0)
    share = conflict_steps / np.maximum(known_steps, 1)
    return np.where(known_steps > 0, share, np.nan)


def known_cosines(cosines: np.ndarray) -> np.ndarray:
    """Which cosines are known: those that are finite and not exactly 0."""
    is_finite = np.isfinite(cosines)
    is_present = cosines != 0
    return is_finite & is_present
