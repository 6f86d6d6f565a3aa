"""Samplers: functions that give a block of training its minibatches, as index arrays under jit.

A sampler is ``(train_config, key, block, state, data) -> Batches``. It gets the shapes of the run,
the key and the number of the block, and the state at the start of the block. A sampler that reads
neither ``state`` nor hyper-parameters gives every member of a sweep the same batches, so these are
gathered once for all members.

``shuffled`` passes over all rows. The other samplers are for tables whose rows have labels of
different tasks (several data sets as one). Each task has a pool: the rows with a label of the task.
Rows are drawn from a pool without replacement until it is used up, then again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.ordering import permutation
from fairjax.core.types import Array, Dataset, PyTree, Spec, Splits


class Batches(NamedTuple):
    """Minibatches of a block. With N rows of data, a row index of N is padding."""

    rows: Array  # [steps, batch]
    labels: Array  # [steps, Y], 1 for the label columns that count in a step


Data = Dataset | Splits
Sampler = Callable[..., Batches]


def train_rows(data: Dataset | Splits) -> Dataset:
    """The training rows of a run's data."""
    if isinstance(data, Splits):
        return data.train
    return data


@overload
def without_unused_cells(data: Dataset) -> Dataset: ...


@overload
def without_unused_cells(data: Splits) -> Splits: ...


def without_unused_cells(data: Data) -> Data:
    """The data with 0 for features that are no finite numbers in rows that nothing uses.

    Nothing uses a row of weight 0, or one without any label and any group. Its loss is 0, but 0
    times NaN is NaN in a gradient.
    """
    if isinstance(data, Splits):
        return Splits(*(without_unused_cells(rows) for rows in data))
    has_labels = jnp.any(data.label_mask > 0, axis=1)
    has_groups = jnp.any(data.groups != 0, axis=1)
    is_used = (data.weight > 0) & (has_labels | has_groups)

    def cleaned(leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        rows = is_used.reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(rows | jnp.isfinite(leaf), leaf, 0)

    return data._replace(x=jax.tree.map(cleaned, data.x))


def steps_per_block(train_config: Any, rows: int) -> int:
    """Steps of a block: ``block`` times the number of batches that hold all rows."""
    steps_per_epoch = -(-rows // train_config.batch_size)
    return train_config.block * steps_per_epoch


def shuffled(
    train_config: Any,
    key: Array,
    block: Array,
    state: PyTree,
    data: Data,
) -> Batches:
    """All rows in random order, a new order in every epoch; padding fills an epoch's last batch."""
    del state
    rows, columns = train_rows(data).label_mask.shape
    batch_size = train_config.batch_size
    steps = steps_per_block(train_config, rows) // train_config.block
    padding = jnp.full(steps * batch_size - rows, rows)

    def epoch(index: Array) -> Array:
        epoch_number = block * train_config.block + index
        epoch_key = jax.random.fold_in(key, epoch_number)
        order = permutation(epoch_key, rows)
        padded_order = jnp.concatenate([order, padding])
        return padded_order.reshape(steps, batch_size)

    # lax.map, not vmap: it sorts one epoch at a time
    epochs = jax.lax.map(epoch, jnp.arange(train_config.block))
    batches = epochs.reshape(-1, batch_size)
    labels = jnp.ones((len(batches), columns))
    return Batches(batches, labels)


def balanced(
    spec: Spec,
    weight: Array | None = None,
    tasks: int | None = None,
) -> Sampler:
    """Every batch holds the same number of rows of each task.

    If the number of tasks does not divide the batch, the first tasks get one row more.

    Args:
      spec: names the tasks.
      weight: ``[T]``, with ``tasks``: only tasks of positive weight are drawn from.
      tasks: the largest number of such tasks. If there are fewer, their share of the batch is
        padding. A task's rows do not depend on the other tasks. If the weight is a hyper-parameter,
        every member has its own batches.

    Raises:
      ValueError: when traced, for batches with fewer rows than tasks.
    """

    def sample(
        train_config: Any,
        key: Array,
        block: Array,
        state: PyTree,
        data: Data,
    ) -> Batches:
        del state
        batch_size = train_config.batch_size
        least_size = tasks or len(spec.tasks)
        if batch_size < least_size:
            raise ValueError(
                f"a batch of {batch_size} rows cannot hold one of each of {least_size} tasks"
            )
        rows, columns = train_rows(data).label_mask.shape
        pools = _pools(spec, data)
        steps = steps_per_block(train_config, rows)
        active = jnp.any(pools, axis=1)
        if weight is not None:
            active = active & (weight > 0)
        active_first = jnp.argsort(~active, stable=True)  # task numbers, active tasks first
        if tasks is None:
            shares = jnp.maximum(jnp.sum(active), 1)
        else:
            shares = tasks
        # row i of a batch is number i // shares of task i % shares
        place = jnp.arange(batch_size)
        share = place % shares
        task = active_first[share]
        number = place // shares
        per_batch = (batch_size - share + shares - 1) // shares  # rows of that task
        step = jnp.arange(steps)
        position = step[:, None] * per_batch + number
        task_of_place = jnp.broadcast_to(task, position.shape)
        block_key = jax.random.fold_in(key, block)
        drawn = _rows_of_pools(block_key, pools, task_of_place, position)
        batches = jnp.where(active[task], drawn, rows)
        labels = jnp.ones((steps, columns))
        return Batches(batches, labels)

    return sample


def proportional(spec: Spec) -> Sampler:
    """One task a step, drawn with a chance in proportion to its rows.

    Only this task's labels count in the step.
    """
    return _one_task(spec, lambda pools, steps, block, state, data: _shares(pools))


def alternating(spec: Spec) -> Sampler:
    """One task a step, all tasks in turn. Only this task's labels count in the step."""

    def turns(
        pools: Array,
        steps: int,
        block: Array,
        state: PyTree,
        data: Data,
    ) -> Array:
        step = block * steps + jnp.arange(steps)
        task = step % len(pools)
        return jax.nn.one_hot(task, len(pools))

    return _one_task(spec, turns)


def dynamic(
    spec: Spec,
    score: Callable[[PyTree, Dataset], Array],
    temperature: Array | float = 1.0,
) -> Sampler:
    """One task a step, drawn more often if its score is lower.

    The chances are ``softmax((mean score - score_t) / tau)``. Scores are computed before every
    block. In the first block the chances are proportional to the rows.

    Args:
      spec: names the tasks.
      score: ``(params, validation) -> [T]``, higher is better; training needs
        :class:`fairjax.core.types.Splits`.
      temperature: tau, in units of the score.

    Source: the task sampler of the code released with Aguirre, Dredze, 2023.
    """

    def chances(
        pools: Array,
        steps: int,
        block: Array,
        state: PyTree,
        data: Data,
    ) -> Array:
        if not isinstance(data, Splits):
            raise ValueError(
                "the dynamic sampler looks at validation rows: give train all Splits, not the "
                "training rows alone"
            )
        scores = score(state.params, data.validation)
        share = _shares(pools)
        has_rows = share > 0
        # a task without rows is left out, also if its score is NaN
        mean_score = jnp.mean(scores, where=has_rows)
        lag = (mean_score - scores) / temperature
        lag = jnp.where(has_rows, lag, -jnp.inf)
        by_lag = jax.nn.softmax(lag)
        return jnp.where(state.step == 0, share, by_lag)

    return _one_task(spec, chances)


def _one_task(spec: Spec, chances: Callable[..., Array]) -> Sampler:
    """Batches of one task each.

    Args:
      spec: names the tasks.
      chances: ``chances(pools, steps, block, state, data)``, ``[T]`` or ``[steps, T]``.
    """
    widths = [task.label_width for task in spec.tasks]
    identity = np.eye(len(spec.tasks), dtype=np.float32)
    columns_of_task = np.repeat(identity, widths, axis=1)

    def sample(
        train_config: Any,
        key: Array,
        block: Array,
        state: PyTree,
        data: Data,
    ) -> Batches:
        pools = _pools(spec, data)
        batch_size = train_config.batch_size
        tasks, row_count = pools.shape
        steps = steps_per_block(train_config, row_count)
        block_key = jax.random.fold_in(key, block)
        draw_key, pool_key = jax.random.split(block_key)
        chance = chances(pools, steps, block, state, data)
        chance = jnp.broadcast_to(chance, (steps, tasks))
        task = jax.random.categorical(draw_key, jnp.log(chance), axis=1)
        one_hot = jax.nn.one_hot(task, tasks, dtype=jnp.int32)
        batches_of_tasks = jnp.cumsum(one_hot, axis=0)
        earlier_batches = batches_of_tasks[jnp.arange(steps), task] - 1
        first_position = earlier_batches * batch_size
        position = first_position[:, None] + jnp.arange(batch_size)
        task_of_place = jnp.broadcast_to(task[:, None], position.shape)
        rows = _rows_of_pools(pool_key, pools, task_of_place, position)
        labels = jnp.asarray(columns_of_task)[task]
        return Batches(rows, labels)

    return sample


def _pools(spec: Spec, data: Data) -> Array:
    """The pool of every task, ``[T, N]``: 1 where a row has a label of the task."""
    rows = train_rows(data)
    has_label = []
    for t in range(len(spec.tasks)):
        mask = rows.label_mask[:, spec.label_slice(t)]
        has_label.append(jnp.max(mask, axis=1))
    weight = jnp.stack(has_label) * rows.weight
    return (weight > 0).astype(jnp.float32)


def _shares(pools: Array) -> Array:
    """The share of every task in the rows of all pools, ``[T]``."""
    size = jnp.sum(pools, axis=1)
    total = jnp.sum(size)
    return size / jnp.maximum(total, 1.0)


def _rows_of_pools(
    key: Array,
    pools: Array,
    task: Array,
    position: Array,
) -> Array:
    """Row indices from pools in random order.

    Args:
      key: of the order.
      pools: ``[T, N]``.
      task: the pool to draw from, any shape.
      position: the position in that pool, same shape; beyond its end the pool begins again.

    Returns:
      Row indices in the shape of ``task``; N where a pool is empty.
    """
    tasks, rows = pools.shape
    task_keys = jax.random.split(key, tasks)
    draw = jax.vmap(lambda task_key: jax.random.uniform(task_key, (rows,)))
    rank = draw(task_keys) + (pools == 0)  # rows of the pool first
    order = jnp.argsort(rank, axis=1)
    pool_size = jnp.sum(pools, axis=1).astype(jnp.int32)
    size = pool_size[task]
    place = position % jnp.maximum(size, 1)
    drawn = order[task, place]
    return jnp.where(size > 0, drawn, rows)
