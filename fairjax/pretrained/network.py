"""A network that somebody else trained, and the features that it gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fairjax.core.layers import Layers
from fairjax.core.types import Array, Images, PyTree, Sentences

Progress = Callable[[str, int, int], object]  # network, rows that are done, all rows


class Pretrained(NamedTuple):
    """A network with given weights: raw rows -> inputs -> features.

    ``read`` works on the host and makes the arrays that a :class:`fairjax.core.types.Dataset`
    holds as its ``x``. ``apply`` is a pure function of the weights and works under jit, vmap and
    grad, so the weights may be trained further, see :func:`fairjax.models.fine_tuned`. One that
    takes ``remat=True`` keeps the outputs of its layers alone for the backward pass, and computes
    what is inside them again.
    """

    name: str
    fingerprint: str  # sha256 of the weights and of what reads raw rows
    width: int  # D, of the features
    params: PyTree  # the given weights, numpy arrays in single precision
    read: Callable[[np.ndarray], Sentences | Images]  # raw rows, texts [N] or pixels [N, H, W, 3]
    apply: Callable[..., Array]  # params, x -> [B, D], in the precision of the weights
    reads: str = "texts"  # or "images"
    batch: int = 64  # rows that are computed at a time
    layers: Layers = ()  # keys of the weights, from the input on; (): not said
