"""The layers of a trunk whose leaves hold one copy per task, and the sum over a branch."""

from __future__ import annotations

import jax

from fairjax.core.types import Array, PyTree

Layers = tuple[tuple[str, ...], ...]  # keys of the trunk's parameters, from the input on


def by_layer(trunk: PyTree, layers: Layers) -> list[PyTree]:
    """The parts of a trunk, layer by layer."""
    return [{key: trunk[key] for key in keys} for keys in layers]


def tie(gradients: PyTree, labels: Array, layers: Layers) -> PyTree:
    """Each copy's gradient as the sum over its branch.

    Args:
      gradients: of the trunk, leaves ``[T, ...]``.
      labels: ``[D, T]``.
      layers: see :func:`trunk_layers`.
    """
    tied = {}
    for part, label in zip(by_layer(gradients, layers), labels, strict=True):
        tied |= jax.tree.map(lambda leaf, label=label: _branch_sums(leaf, label)[label], part)
    return tied


def _branch_sums(leaf: Array, label: Array) -> Array:
    # the sum once per branch, so that its copies get equal bits
    return jax.ops.segment_sum(leaf, label, num_segments=leaf.shape[0])
