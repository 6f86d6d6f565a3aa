"""The rows of two independent batches a step: the halves of one batch that is twice as large."""

from __future__ import annotations

import jax

from fairjax.core.types import Array, Dataset, Objective, PyTree


def on_two_batches(objective: Objective) -> Objective:
    """``L_k / 2`` on every second row of the batch, then ``L_k / 2`` on the other rows.

    A batch of a permutation has two halves that share no row, so the sampler draws both, and a
    batch size of 2B gives two batches of B. The two rows of a loss add up to its mean.

    Args:
      objective: of K rows. Its memory goes from the first half to the second.

    Returns:
      An objective of 2K rows, for :func:`fairjax.gradients.on_two_batches`.

    Raises:
      ValueError: when traced, for a batch of an odd number of rows.
    """

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array, ...], PyTree]:
        rows = batch.weight.shape[0]
        if rows % 2:
            raise ValueError(f"a batch of {rows} rows has no halves; take an even batch size")
        values = []
        for half, half_key in enumerate(jax.random.split(key)):
            part = jax.tree.map(lambda leaf, half=half: leaf[half::2], batch)
            losses, memory = objective.apply(params, part, half_key, memory)
            values += [0.5 * loss for loss in losses]
        return tuple(values), memory

    again = tuple(f"{row}, second batch" for row in objective.rows)
    return Objective((*objective.rows, *again), objective.init, apply)
