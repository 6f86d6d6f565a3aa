"""Which rows make which batch: functions that give a block of training its minibatches, as index arrays under jit.

A sampler is ``(static, key, block, state, data) -> Batches``: the shapes of the run, the key and the number of the block, and
what training knows at its start. One that looks at neither ``state`` nor hparams gives every member of a sweep the same batches,
which are then gathered once for all.

``shuffled`` passes over the rows. The others belong to tables in which rows know one task or another (several data sets as
one): each task has a pool, the rows with a label of it, drawn from without replacement until it is used up, then again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.types import Array, Dataset, PyTree, Spec, Splits


class Batches(NamedTuple):
    """Minibatches of a block; a row index of N is padding."""

    rows: Array  # [steps, batch]
    labels: Array  # [steps, Y], 1 for the label columns that count in a step


Sampler = Callable[..., Batches]


def train_rows(data: Dataset | Splits) -> Dataset:
    """The training rows of what a run was given."""
    return data.train if isinstance(data, Splits) else data


def steps_per_block(train_config: Any, rows: int) -> int:
    """Steps of a block: ``block`` times as many batches as hold all rows."""
    return train_config.block * -(-rows // train_config.batch_size)


def shuffled(
    train_config: Any, key: Array, block: Array, state: PyTree, data: Dataset | Splits
) -> Batches:
    """All rows in random order, every epoch anew; the last batch of an epoch is filled up with padding."""
    del state
    known = train_rows(data).label_mask
    n = known.shape[0]
    steps = steps_per_block(train_config, n) // train_config.block
    padding = jnp.full(steps * train_config.batch_size - n, n)

    def epoch(i: Array) -> Array:
        order = jax.random.permutation(jax.random.fold_in(key, block * train_config.block + i), n)
        return jnp.concatenate([order, padding]).reshape(steps, train_config.batch_size)

    # lax.map, not vmap: a sort of one epoch at a time
    rows = jax.lax.map(epoch, jnp.arange(train_config.block)).reshape(-1, train_config.batch_size)
    return Batches(rows, jnp.ones((len(rows), known.shape[1])))


def balanced(spec: Spec, weight: Array | None = None, tasks: int | None = None) -> Sampler:
    """Every batch holds as many rows of each task as of any other (one more of some, where the batch cannot be divided).

    Args:
      spec: names the tasks.
      weight: ``[T]``, with ``tasks``: only rows of tasks of positive weight are drawn.
      tasks: how many such tasks there are at most; places of tasks that are lacking stay empty. A task's rows are the
        same whichever tasks stand beside it, and if the weight is a hparam every member has its own batches.

    Raises:
      ValueError: when traced, for batches with fewer rows than tasks.
    """

    def sample(
        train_config: Any, key: Array, block: Array, state: PyTree, data: Dataset | Splits
    ) -> Batches:
        del state
        if train_config.batch_size < (tasks or len(spec.tasks)):
            raise ValueError(
                f"a batch of {train_config.batch_size} rows cannot hold one of each of {tasks or len(spec.tasks)} tasks"
            )
        known = train_rows(data).label_mask
        pools = _pools(spec, data)
        steps, size = steps_per_block(train_config, known.shape[0]), train_config.batch_size
        there = jnp.sum(pools, axis=1) > 0
        there = there if weight is None else there & (weight > 0)
        first = jnp.argsort(
            ~there, stable=True
        )  # tasks that are drawn from before those that are not
        some = jnp.maximum(jnp.sum(there), 1) if tasks is None else tasks
        slot = jnp.arange(size)
        task, turn = (
            first[slot % some],
            slot // some,
        )  # whose row stands at this place, and as its how manyeth
        per = (size - slot % some + some - 1) // some  # rows of that task in a batch
        drawn = jnp.arange(steps)[:, None] * per + turn
        rows = _drawn(
            jax.random.fold_in(key, block), pools, jnp.broadcast_to(task, drawn.shape), drawn
        )
        return Batches(
            jnp.where(there[task], rows, known.shape[0]), jnp.ones((steps, known.shape[1]))
        )

    return sample


def proportional(spec: Spec) -> Sampler:
    """One task a step, drawn with a chance in proportion to its rows; no other task's labels count in that step."""
    return _one_task(spec, lambda pools, steps, block, state, data: _shares(pools))


def alternating(spec: Spec) -> Sampler:
    """One task a step, all tasks in turn."""

    def turns(
        pools: Array, steps: int, block: Array, state: PyTree, data: Dataset | Splits
    ) -> Array:
        return jax.nn.one_hot((block * steps + jnp.arange(steps)) % len(pools), len(pools))

    return _one_task(spec, turns)


def dynamic(
    spec: Spec, score: Callable[[PyTree, Dataset], Array], temperature: Array | float = 1.0
) -> Sampler:
    """One task a step, drawn more often the worse it does: chances are ``softmax((mean score - score_t) / tau)``.

    Scores are taken anew before every block; in the first, chances are proportional to the rows.

    Args:
      spec: names the tasks.
      score: ``(params, validation) -> [T]``, more is better; training must be given :class:`fairjax.core.types.Splits`.
      temperature: tau, in units of the score.

    Source: the task sampler of the code released with Aguirre, Dredze, 2023.
    """

    def chances(
        pools: Array, steps: int, block: Array, state: PyTree, data: Dataset | Splits
    ) -> Array:
        if not isinstance(data, Splits):
            raise ValueError(
                "the dynamic sampler looks at validation rows: give train all Splits, not the training rows alone"
            )
        now, share = score(state.params, data.validation), _shares(pools)
        # a task without rows has no say, though its score be NaN
        lag = (jnp.mean(now, where=share > 0) - now) / temperature
        behind = jax.nn.softmax(jnp.where(share > 0, lag, -jnp.inf))
        return jnp.where(state.step == 0, share, behind)

    return _one_task(spec, chances)


def _one_task(spec: Spec, chances: Callable[..., Array]) -> Sampler:
    """From ``chances(pools, steps, block, state, data)``, ``[T]`` or ``[steps, T]``, to batches of one task each."""
    columns = np.repeat(
        np.eye(len(spec.tasks), dtype=np.float32), [t.label_width for t in spec.tasks], axis=1
    )

    def sample(
        train_config: Any, key: Array, block: Array, state: PyTree, data: Dataset | Splits
    ) -> Batches:
        pools = _pools(spec, data)
        steps = steps_per_block(train_config, pools.shape[1])
        draw_key, pool_key = jax.random.split(jax.random.fold_in(key, block))
        share = jnp.broadcast_to(chances(pools, steps, block, state, data), (steps, len(pools)))
        task = jax.random.categorical(draw_key, jnp.log(share), axis=1)
        before = (
            jnp.cumsum(jax.nn.one_hot(task, len(pools), dtype=jnp.int32), axis=0)[
                jnp.arange(steps), task
            ]
            - 1
        )
        drawn = before[:, None] * train_config.batch_size + jnp.arange(train_config.batch_size)
        rows = _drawn(pool_key, pools, jnp.broadcast_to(task[:, None], drawn.shape), drawn)
        return Batches(rows, jnp.asarray(columns)[task])

    return sample


def _pools(spec: Spec, data: Dataset | Splits) -> Array:
    """1 where a row has a label of a task, ``[T, N]``."""
    rows = train_rows(data)
    pools = jnp.stack(
        [jnp.max(rows.label_mask[:, spec.label_slice(t)], axis=1) for t in range(len(spec.tasks))]
    )
    return (pools * rows.weight > 0).astype(jnp.float32)


def _shares(pools: Array) -> Array:
    size = jnp.sum(pools, axis=1)
    return size / jnp.maximum(jnp.sum(size), 1.0)


def _drawn(key: Array, pools: Array, task: Array, place: Array) -> Array:
    """Row number ``place`` of the randomly ordered pool of ``task``, pools repeated; N where a pool is empty."""
    n = pools.shape[1]
    chance = jax.vmap(lambda k: jax.random.uniform(k, (n,)))(jax.random.split(key, len(pools)))
    order = jnp.argsort(chance + (pools == 0), axis=1)  # the pool's rows first
    size = jnp.sum(pools, axis=1).astype(jnp.int32)[task]
    return jnp.where(size > 0, order[task, place % jnp.maximum(size, 1)], n)
