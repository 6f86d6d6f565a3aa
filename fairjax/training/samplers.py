"""Samplers: functions that give a block of training its minibatches, as index arrays under jit.

A sampler is ``(train_config, key, block, state, data) -> Batches``. It gets the shapes of the run,
the key and the number of the block, and the state at the start of the block. A sampler that reads
neither ``state`` nor hparams gives every member of a sweep the same batches, so these are gathered
once for all members.

``shuffled`` passes over all rows. The other samplers are for tables whose rows have labels of
different tasks (several data sets as one). Each task has a pool: the rows with a label of the task.
Rows are drawn from a pool without replacement until it is used up, then again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.types import Array, Dataset, PyTree, Spec, Splits


class Batches(NamedTuple):
    """Minibatches of a block. With N rows of data, a row index of N is padding."""

    rows: Array  # [steps, batch]
    labels: Array  # [steps, Y], 1 for the label columns that count in a step


Data = Dataset | Splits
Sampler = Callable[..., Batches]


def train_rows(data: Data) -> Dataset:
    """The training rows of a run's data."""
    return data.train if isinstance(data, Splits) else data


def steps_per_block(train_config: Any, rows: int) -> int:
    """Steps of a block: ``block`` times the number of batches that hold all rows."""
    return train_config.block * -(-rows // train_config.batch_size)


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
        epoch_key = jax.random.fold_in(key, block * train_config.block + index)
        order = jax.random.permutation(epoch_key, rows)
        return jnp.concatenate([order, padding]).reshape(steps, batch_size)

    # lax.map, not vmap: it sorts one epoch at a time
    epochs = jax.lax.map(epoch, jnp.arange(train_config.block))
    batches = epochs.reshape(-1, batch_size)
    return Batches(batches, jnp.ones((len(batches), columns)))


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
        padding. A task's rows do not depend on the other tasks. If the weight is a hparam, every
        member has its own batches.

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
        at_least = tasks or len(spec.tasks)
        if batch_size < at_least:
            raise ValueError(
                f"a batch of {batch_size} rows cannot hold one of each of {at_least} tasks"
            )
        rows, columns = train_rows(data).label_mask.shape
        pools = _pools(spec, data)
        steps = steps_per_block(train_config, rows)
        active = jnp.any(pools, axis=1)
        if weight is not None:
            active = active & (weight > 0)
        active_first = jnp.argsort(~active, stable=True)  # task numbers, active tasks first
        shares = jnp.maximum(jnp.sum(active), 1) if tasks is None else tasks
        # row i of a batch is number i // shares of task i % shares
        place = jnp.arange(batch_size)
        task = active_first[place % shares]
        number = place // shares
        per_batch = (batch_size - place % shares + shares - 1) // shares  # rows of that task
        position = jnp.arange(steps)[:, None] * per_batch + number
        task_of_place = jnp.broadcast_to(task, position.shape)
        drawn = _rows_of_pools(jax.random.fold_in(key, block), pools, task_of_place, position)
        batches = jnp.where(active[task], drawn, rows)
        return Batches(batches, jnp.ones((steps, columns)))

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
        task = (block * steps + jnp.arange(steps)) % len(pools)
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
        lag = (jnp.mean(scores, where=has_rows) - scores) / temperature
        by_lag = jax.nn.softmax(jnp.where(has_rows, lag, -jnp.inf))
        return jnp.where(state.step == 0, share, by_lag)

    return _one_task(spec, chances)


def _one_task(spec: Spec, chances: Callable[..., Array]) -> Sampler:
    """Batches of one task each.

    Args:
      spec: names the tasks.
      chances: ``chances(pools, steps, block, state, data)``, ``[T]`` or ``[steps, T]``.
    """
    widths = [task.label_width for task in spec.tasks]
    columns_of_task = np.repeat(np.eye(len(spec.tasks), dtype=np.float32), widths, axis=1)

    def sample(
        train_config: Any,
        key: Array,
        block: Array,
        state: PyTree,
        data: Data,
    ) -> Batches:
        pools = _pools(spec, data)
        batch_size = train_config.batch_size
        steps = steps_per_block(train_config, pools.shape[1])
        draw_key, pool_key = jax.random.split(jax.random.fold_in(key, block))
        share = chances(pools, steps, block, state, data)
        share = jnp.broadcast_to(share, (steps, len(pools)))
        task = jax.random.categorical(draw_key, jnp.log(share), axis=1)
        one_hot = jax.nn.one_hot(task, len(pools), dtype=jnp.int32)
        earlier_batches = jnp.cumsum(one_hot, axis=0)[jnp.arange(steps), task] - 1
        position = earlier_batches[:, None] * batch_size + jnp.arange(batch_size)
        task_of_place = jnp.broadcast_to(task[:, None], position.shape)
        rows = _rows_of_pools(pool_key, pools, task_of_place, position)
        return Batches(rows, jnp.asarray(columns_of_task)[task])

    return sample


def _pools(spec: Spec, data: Data) -> Array:
    """The pool of every task, ``[T, N]``: 1 where a row has a label of the task."""
    rows = train_rows(data)
    masks = [rows.label_mask[:, spec.label_slice(t)] for t in range(len(spec.tasks))]
    has_label = jnp.stack([jnp.max(mask, axis=1) for mask in masks])
    return (has_label * rows.weight > 0).astype(jnp.float32)


def _shares(pools: Array) -> Array:
    """The share of every task in the rows of all pools, ``[T]``."""
    size = jnp.sum(pools, axis=1)
    return size / jnp.maximum(jnp.sum(size), 1.0)


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
    rows = pools.shape[1]
    task_keys = jax.random.split(key, len(pools))
    chance = jax.vmap(lambda task_key: jax.random.uniform(task_key, (rows,)))(task_keys)
    order = jnp.argsort(chance + (pools == 0), axis=1)  # rows of the pool first
    size = jnp.sum(pools, axis=1).astype(jnp.int32)[task]
    drawn = order[task, position % jnp.maximum(size, 1)]
    return jnp.where(size > 0, drawn, rows)
