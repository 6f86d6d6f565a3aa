"""Losses under weights drawn anew in every step, for a network that reads these weights.

This is the loss of You Only Train Once. Weights ``lambda`` of K losses are drawn for each of D
blocks of the batch, where D divides B. Row i belongs to block ``i mod D``, which spreads the
padding of a last batch over the blocks. Every row is scored under its block's weights, and

    value_k = mean_d lambda_dk v_k(block d)

D = B is the original form, a draw for every row. It is for losses that are means over rows. A
fairness loss is a statistic of many rows, so that its weight cannot differ between them: a block is
a small batch with one weight. Weighing rows by their own ``lambda`` inside one gap is something
else: the gap of rows under many mixed weights may be zero while it is not zero under any single
weight.

How many blocks: more blocks give more weights per step, but a distance between groups is further
from zero the fewer rows it looks at (by about ``1/n_0 + 1/n_1`` for a squared MMD, the root of that
for a gap). A network that descends many small blocks also descends that excess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array, Dataset, Model, Objective, PyTree, Spec
from fairjax.losses import AS_LABELLED, Supervision
from fairjax.models import represent
from fairjax.objectives.terms import Notions, accuracy_terms, fairness_terms, predict

Draw = Callable[[Array, int], Array]  # key, D -> lambda [D, K]


def log_uniform(low: Sequence[float], high: Sequence[float]) -> Draw:
    """Weights ``low (high / low)^u`` with u uniform: all orders of magnitude are equally likely.

    Args:
      low: ``[K]``, above 0.
      high: ``[K]``.
    """

    def draw(key: Array, count: int) -> Array:
        low_k = jnp.asarray(low, jnp.float32)
        high_k = jnp.asarray(high, jnp.float32)
        ratio_k = high_k / low_k
        u_dk = jax.random.uniform(key, (count, len(low_k)))
        return low_k * ratio_k**u_dk

    return draw


def uniform(low: Sequence[float], high: Sequence[float]) -> Draw:
    """Weights uniform between ``low [K]`` and ``high [K]``, as in the fair multi-task paper."""

    def draw(key: Array, count: int) -> Array:
        low_k = jnp.asarray(low, jnp.float32)
        high_k = jnp.asarray(high, jnp.float32)
        span_k = high_k - low_k
        u_dk = jax.random.uniform(key, (count, len(low_k)))
        return low_k + span_k * u_dk

    return draw


def normalised(draw: Draw) -> Draw:
    """Weights divided by their geometric mean: only their proportions vary. All must be above 0."""

    def draw_proportions(key: Array, count: int) -> Array:
        lam_dk = draw(key, count)
        mean_log_d = jnp.mean(jnp.log(lam_dk), axis=1, keepdims=True)
        return lam_dk / jnp.exp(mean_log_d)

    return draw_proportions


Combine = Callable[[Array, Array], Array]  # losses [K] and their weights [K] -> scalar
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
    combine: Combine | None = None,
) -> Objective:
    """Losses under drawn weights, ``value_k = mean_d lambda_dk v_k(block d)``.

    The head of this file explains the blocks.

    Args:
      model: takes a condition of width K: the weights.
      rows: names of the K losses.
      values: ``(scores [B/D, C], block, memory) -> (K scalars, memory)``.
      draw: ``(key, D) -> lambda [D, K]``: :func:`log_uniform`, :func:`uniform`, :func:`normalised`
        or a function of yours.
      blocks: D; the batch size B for a draw per row.
      init: ``training data -> memory``. Every block has its own copy.
      reduction: what ``values`` divides by: ``"batch"``, the block's nominal rows, or ``"mean"``,
        the rows that count. The mean over blocks does the same.
      combine: of the losses of a block and its weights, in place of their products, such as
        ``partial(fairjax.gradients.combiners.cosmos_loss, lam=1.0)``.

    Returns:
      An objective with K rows; with ``combine`` one row ``"combined"``, its mean over blocks.

    Raises:
      ValueError: when traced, for a batch that D does not divide.

    Source: Dosovitskiy and Djolonga, ICLR 2020; there with D = B or 1.
    """

    def start(key: Array, data: Dataset) -> PyTree:
        del key

        def copied(leaf: Array) -> Array:
            shape = (blocks, *jnp.shape(leaf))
            return jnp.broadcast_to(leaf, shape)

        return jax.tree.map(copied, init(data))

    def apply(
        params: PyTree,
        batch: Dataset,
        key: Array,
        memory: PyTree,
    ) -> tuple[tuple[Array, ...], PyTree]:
        lam_dk = draw(key, blocks)
        z = represent(model, params["trunk"], batch.x, lam_dk, key=key)
        scores = model.predict(params["heads"], z)
        columns = (scores, batch._replace(x=()))
        block_scores, block_data = _cut(columns, blocks)

        def of_block(
            scores: Array, block: Dataset, memory: PyTree
        ) -> tuple[tuple[Any, ...], PyTree]:
            losses, memory = values(scores, block, memory)
            return tuple(losses), memory

        of_blocks = jax.vmap(of_block, (1, 1, 0))
        values_kd, memory = of_blocks(block_scores, block_data, memory)
        share_d = _shares(batch.weight, blocks, reduction)
        if combine is not None:
            combined_d = jax.vmap(combine)(jnp.stack(values_kd, axis=1), lam_dk)
            return (jnp.sum(share_d * combined_d),), memory
        totals = []
        for k, value_d in enumerate(values_kd):
            weighted_d = share_d * lam_dk[:, k] * value_d
            totals.append(jnp.sum(weighted_d))
        return tuple(totals), memory

    names = tuple(rows) if combine is None else ("combined",)
    return Objective(names, start, apply)


def _cut(tree: PyTree, blocks: int) -> PyTree:
    """Leaves ``[B, ...] -> [B/D, D, ...]``."""
    first = jax.tree.leaves(tree)[0]
    rows = first.shape[0]
    if rows % blocks:
        raise ValueError(
            f"{blocks} blocks of a batch of {rows} rows; take a number of blocks that divides it"
        )
    shape = (rows // blocks, blocks)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), tree)


def _shares(weight: Array, blocks: int, reduction: str) -> Array:
    """Weight ``[D]`` of every block in the mean over blocks."""
    if reduction == "batch":
        return jnp.full(blocks, 1.0 / blocks)
    block_weight = _cut(weight, blocks)
    mass_d = jnp.sum(block_weight, axis=0)
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
    supervision: Supervision = AS_LABELLED,
    combine: Combine | None = None,
) -> Objective:
    """The terms of :func:`fairjax.objectives.per_task` under drawn weights.

    The rows are ``L_t`` of all tasks, then ``F_t`` of all tasks.

    Args:
      model: takes a condition of width K = T, or 2T with a notion.
      spec: names tasks and attributes.
      draw: of weights ``[D, K]``, of the accuracy losses and then of the fairness losses.
      blocks: D.
      notion: the fairness notion, one per task where they differ; None leaves fairness out.
      reduction: see :mod:`fairjax.objectives.terms`.
      batch_size: rows of a full batch, for notions that count over minibatches.
      supervision: smoothing and class weights of ``L_t``.
      combine: see :func:`with_drawn_weights`.
    """
    tasks = range(len(spec.tasks))
    names = [task.name for task in spec.tasks]
    penalties = () if notion is None else notion
    per_block = max(batch_size // blocks, 1)
    fairness = fairness_terms(spec, penalties, reduction=reduction, batch_size=per_block)

    def values(scores: Array, block: Dataset, memory: PyTree) -> tuple[list[Array], PyTree]:
        predictions = predict(spec, scores)
        losses = accuracy_terms(spec, predictions, block, reduction, supervision)
        if notion is None:
            return losses, memory
        penalty_values, memory = fairness.apply(predictions, block, memory)
        gaps = [fairness.of_task(penalty_values, t) for t in tasks]
        return losses + gaps, memory

    rows = names
    if notion is not None:
        rows = names + [f"fairness of {name}" for name in names]
    return with_drawn_weights(
        model,
        rows,
        values,
        draw,
        blocks,
        init=fairness.init,
        reduction=reduction,
        combine=combine,
    )
