"""Losses whose weights are drawn anew in every step, for a network that is told them: You Only
Train Once.

Weights ``lambda`` of K losses are drawn for each of D blocks of the batch, D dividing B; row i
belongs to block ``i mod D``, which spreads the padding of a last batch over the blocks. Every row
is scored under its block's weights, and

    value_k = mean_d lambda_dk v_k(block d)

D = B is the original form, a draw for every row. It is for losses that are means over rows. A
fairness loss is a statistic of
many rows, so that its weight cannot differ between them: a block is a small batch with one weight.
Weighing rows by their own ``lambda`` inside one gap is something else: the gap of rows under many
weights mixed may be zero while under every single one it is not.

How many blocks: more of them are more weights per step, but a distance between groups is further
from zero the fewer rows it looks at (by about ``1/n_0 + 1/n_1`` for a squared MMD, the root of that
for a gap), and a network that descends many small blocks also descends that excess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array, Dataset, Model, Objective, PyTree, Spec
from fairjax.objectives.terms import Notions, accuracy_terms, fairness_terms, predict

Draw = Callable[[Array, int], Array]  # key, D -> lambda [D, K]


def log_uniform(low: Sequence[float], high: Sequence[float]) -> Draw:
    """Weights ``low (high / low)^u`` with u uniform: each order of magnitude is as likely as the
    next.

    Args:
      low: ``[K]``, above 0.
      high: ``[K]``.
    """

    def draw(key: Array, count: int) -> Array:
        smallest, largest = (jnp.asarray(v, jnp.float32) for v in (low, high))
        return smallest * (largest / smallest) ** jax.random.uniform(key, (count, len(smallest)))

    return draw


def uniform(low: Sequence[float], high: Sequence[float]) -> Draw:
    """Weights uniform between ``low [K]`` and ``high [K]``, as in the fair multi-task paper."""

    def draw(key: Array, count: int) -> Array:
        smallest, largest = (jnp.asarray(v, jnp.float32) for v in (low, high))
        return smallest + (largest - smallest) * jax.random.uniform(key, (count, len(smallest)))

    return draw


def normalised(draw: Draw) -> Draw:
    """Weights over their geometric mean, so that what is drawn is their proportions; all must be
    above 0.
    """

    def drawn(key: Array, count: int) -> Array:
        lam_dk = draw(key, count)
        return lam_dk / jnp.exp(jnp.mean(jnp.log(lam_dk), axis=1, keepdims=True))

    return drawn


Values = Callable[[Array, Dataset, PyTree], tuple[Sequence[Array], PyTree]]


def with_drawn_weights(
    model: Model,
    rows: Sequence[str],
    values: Values,
    draw: Draw,
    blocks: int,
    *,
    init: Callable[[Dataset], PyTree] = lambda data: (),
    reduction: str = "batch",
) -> Objective:
    """Losses under drawn weights, ``value_k = mean_d lambda_dk v_k(block d)``; see the head of this
    file.

    Args:
      model: takes a condition of width K: the weights.
      rows: names of the K losses.
      values: ``(scores [B/D, C], block, memory) -> (K scalars, memory)``.
      draw: ``(key, D) -> lambda [D, K]``: :func:`log_uniform`, :func:`uniform`, :func:`normalised`
        or a function of yours.
      blocks: D; the batch size B for a draw per row.
      init: ``training data -> memory``; every block has its own copy.
      reduction: what ``values`` does: ``"batch"``, divide by the block's nominal rows, or
        ``"mean"``, by the rows that count; the mean over blocks does the same.

    Returns:
      An objective with K rows.

    Raises:
      ValueError: when traced, for a batch that D does not divide.

    Source: Dosovitskiy and Djolonga, ICLR 2020; there with D = B or 1.
    """

    def start(key: Array, data: Dataset) -> PyTree:
        del key
        copies = (blocks,)
        return jax.tree.map(lambda a: jnp.broadcast_to(a, copies + jnp.shape(a)), init(data))

    def apply(
        params: PyTree, batch: Dataset, key: Array, memory: PyTree
    ) -> tuple[tuple[Array, ...], PyTree]:
        lam_dk = draw(key, blocks)
        z = model.represent(params["trunk"], batch.x, lam_dk)
        scores = model.predict(params["heads"], z)
        scores, rows_of_blocks = _cut((scores, batch._replace(x=())), blocks)

        def of_block(scores: Array, block: Dataset, memory: PyTree) -> tuple[tuple, PyTree]:
            losses, memory = values(scores, block, memory)
            return tuple(losses), memory

        values_kd, memory = jax.vmap(of_block, (1, 1, 0))(scores, rows_of_blocks, memory)
        share_d = _shares(batch.weight, blocks, reduction)
        totals = [jnp.sum(share_d * lam_dk[:, k] * v_d) for k, v_d in enumerate(values_kd)]
        return tuple(totals), memory

    return Objective(tuple(rows), start, apply)


def _cut(tree: PyTree, blocks: int) -> PyTree:
    """Leaves ``[B, ...] -> [B/D, D, ...]``."""
    rows = jax.tree.leaves(tree)[0].shape[0]
    if rows % blocks:
        raise ValueError(
            f"{blocks} blocks of a batch of {rows} rows; take a number of blocks that divides it"
        )
    return jax.tree.map(lambda a: a.reshape(rows // blocks, blocks, *a.shape[1:]), tree)


def _shares(weight: Array, blocks: int, reduction: str) -> Array:
    if reduction == "batch":
        return jnp.full(blocks, 1.0 / blocks)
    mass_d = jnp.sum(_cut(weight, blocks), axis=0)
    return divide(mass_d, jnp.sum(mass_d))


def per_task_with_drawn_weights(
    model: Model,
    spec: Spec,
    draw: Draw,
    blocks: int,
    *,
    notion: Notions | None = None,
    reduction: str = "batch",
    batch_size: int = 512,
) -> Objective:
    """The terms of :func:`fairjax.objectives.per_task` under drawn weights: ``L_t`` of all tasks,
    then ``F_t``.

    Args:
      model: takes a condition of width K = T, or 2T with a notion.
      spec: names tasks and attributes.
      draw: of weights ``[D, K]``, of the accuracy losses and then of the fairness losses.
      blocks: D.
      notion: the fairness notion, one per task where they differ; None leaves fairness out.
      reduction: see :mod:`fairjax.objectives.terms`.
      batch_size: rows of a full batch, for notions that count over minibatches.
    """
    tasks = range(len(spec.tasks))
    names = [task.name for task in spec.tasks]
    penalties = () if notion is None else notion
    per_block = max(batch_size // blocks, 1)
    fairness = fairness_terms(spec, penalties, reduction=reduction, batch_size=per_block)

    def values(scores: Array, block: Dataset, memory: PyTree) -> tuple[list[Array], PyTree]:
        predictions = predict(spec, scores)
        losses = accuracy_terms(spec, predictions, block, reduction)
        if notion is None:
            return losses, memory
        gaps, memory = fairness.apply(predictions, block, memory)
        return losses + [fairness.of_task(gaps, t) for t in tasks], memory

    fairness_names = [] if notion is None else [f"fairness of {name}" for name in names]
    rows = names + fairness_names
    return with_drawn_weights(
        model, rows, values, draw, blocks, init=fairness.init, reduction=reduction
    )
