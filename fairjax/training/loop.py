"""One training run as one function: a scan over minibatches.

What fixes a shape is static; what a sweep may map is an argument. Events happen between blocks of
the scan and may change parameters, optimizer state and memory. The step knows nothing of any
method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import Array, Components, Dataset, PyTree, Recipe, Splits
from fairjax.gradients import check_chain, value_and_rows
from fairjax.training.samplers import (
    Batches,
    shuffled,
    steps_per_block,
    train_rows,
    without_unused_cells,
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The settings that fix the shapes of a run.

    ``epochs`` passes over the training rows in batches of ``batch_size``. A block is ``block``
    epochs long; after each block, events happen and values are recorded.
    """

    epochs: int
    batch_size: int
    block: int = 1

    def __post_init__(self):
        is_positive = min(self.epochs, self.batch_size, self.block) >= 1
        if not is_positive or self.epochs % self.block:
            raise ValueError(f"{self}: all must be positive and epochs a multiple of block")


class State(NamedTuple):
    """What changes during training."""

    params: PyTree
    opt_state: PyTree
    memory: PyTree
    step: Array  # []


class Trained(NamedTuple):
    """The results of a run."""

    state: State  # after the last step
    first: Array  # [K], the rows' values at the first step
    values: Array  # [blocks, K], the mean of every row's value in a block
    record: PyTree  # leaves [blocks, ...], what ``record`` returned
    watched: PyTree  # leaves [steps, ...], what ``watch`` returned
    params: PyTree  # that the run delivers: those of one block, see ``Components.rank``
    block: Array  # [], the block that delivers them, counted from the start of this run


class Best(NamedTuple):
    """The best block so far."""

    params: PyTree
    rank: Array  # [R]
    block: Array  # []


def make_train(
    train_config: TrainConfig,
    recipe: Recipe,
    record: Callable[[State], PyTree] | None = None,
    watch: Callable[[State], PyTree] | None = None,
) -> Callable[..., Trained]:
    """Build a training run.

    Args:
      train_config: the shapes of the run.
      recipe: builds model, objective, transformation and events from the hyper-parameters, inside
        the trace.
      record: what to keep of the state after every block. Default: what the recipe keeps.
      watch: what to keep of the state after every step: a link's weights and cosines, say, from
        ``link_states(state.opt_state)``.

    Returns:
      ``train(key, order_key, hparams, data, state=None) -> Trained``, pure. ``key`` belongs to the
      member. ``order_key`` fixes the order of minibatches: leave it unmapped under ``vmap``, and
      every member sees the same batches, gathered once. ``data`` is the training
      :class:`Dataset`, or :class:`Splits` for events and samplers that read validation rows: they
      get all of it. ``state``, from an earlier run with the same arguments, continues that run for
      the same number of epochs: two runs of half the length give the same bits as one.

    Raises:
      ValueError: when traced, if the chain does not begin with a transformation that turns the
        objective's rows into one update.
    """

    def train(
        key: Array,
        order_key: Array,
        hparams: PyTree,
        data: Dataset | Splits,
        state: State | None = None,
    ) -> Trained:
        parts = recipe.build(hparams)
        data = without_unused_cells(data)
        rows = train_rows(data)
        sampler = parts.sampler or shuffled
        keep = record or parts.record
        run_key, event_key, init_key = jax.random.split(key, 3)

        def step(state: State, batches: Batches) -> tuple[State, tuple[Array, PyTree]]:
            batch = _gather(rows, batches)
            state, values = _step(parts, run_key, state, batch)
            watched = watch(state) if watch else ()
            return state, (values, watched)

        def block(state: State, index: Array) -> tuple[State, tuple[Array, Array, PyTree, PyTree]]:
            batches = sampler(train_config, order_key, index, state, data)
            state, (values, watched) = jax.lax.scan(step, state, batches)
            block_key = jax.random.fold_in(event_key, index)
            for i, event in enumerate(parts.events):
                one_event_key = jax.random.fold_in(block_key, i)
                state = event(one_event_key, index, state, data)
            recorded = keep(state) if keep else ()
            mean_values = jnp.mean(values, axis=0)
            return state, (values[0], mean_values, recorded, watched)

        if state is None:
            state = start(parts, init_key, rows)
        _check(train_config, parts, state, rows)
        steps = steps_per_block(train_config, len(rows.weight))
        first_block = state.step // steps
        block_count = train_config.epochs // train_config.block
        blocks = first_block + jnp.arange(block_count)
        if parts.rank is None:
            state, found = jax.lax.scan(block, state, blocks)
            params, chosen = state.params, jnp.asarray(block_count - 1)
        else:
            state, best, found = _scan_for_best(block, state, blocks, parts.rank)
            params, chosen = best.params, best.block
        first, values, recorded, watched = found
        watched = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), watched)
        return Trained(state, first[0], values, recorded, watched, params, chosen)

    return train


def start(
    parts: Components,
    key: Array,
    data: Dataset,
) -> State:
    """The state before the first step on training data."""
    params = parts.model.init(key)
    memory_key = jax.random.fold_in(key, 1)
    memory = parts.objective.init(memory_key, data)
    opt_state = parts.transform.init(params)
    step = jnp.zeros((), jnp.int32)
    return State(params, opt_state, memory, step)


def last_half(blocks: int) -> int:
    """The first block of the last half, from which a rank chooses."""
    return blocks // 2


def _scan_for_best(
    block: Callable, state: State, blocks: Array, rank: Callable[[State], Array]
) -> tuple[State, Best, PyTree]:
    """Scan over blocks, and keep the best one of their last half."""
    count = len(blocks)
    half = last_half(count)

    def ranked(carry: tuple[State, Best], place: tuple[Array, Array]):
        state, best = carry
        i, index = place
        state, found = block(state, index)
        this = Best(state.params, rank(state), i)
        is_better = (i == half) | ((i > half) & _is_less(this.rank, best.rank))
        best = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), this, best)
        return (state, best), found

    i = jnp.arange(count)
    best = Best(state.params, rank(state), i[0])
    (state, best), found = jax.lax.scan(ranked, (state, best), (i, blocks))
    return state, best, found


def _is_less(one: Array, other: Array) -> Array:
    """Whether ``one`` is less in the first entry in which both differ."""
    differs = one != other
    first = jnp.argmax(differs)
    return differs[first] & (one[first] < other[first])


def _check(
    train_config: TrainConfig,
    parts: Components,
    state: State,
    rows: Dataset,
) -> None:
    """Check the chain of transformations on a batch of the run's shape."""
    label_columns = rows.labels.shape[1]
    example = Batches(
        rows=jnp.zeros(train_config.batch_size, int),
        labels=jnp.ones(label_columns),
    )
    batch = _gather(rows, example)
    check_chain(
        parts.transform,
        state.opt_state,
        state.params,
        len(parts.objective.rows),
        memory=state.memory,
        batch=batch,
    )


def _gather(data: Dataset, batches: Batches) -> Dataset:
    """Gather a batch. Padding repeats the last row with weight 0, without groups and labels."""
    batch = jax.tree.map(lambda leaf: jnp.take(leaf, batches.rows, axis=0, mode="clip"), data)
    rows = data.weight.shape[0]
    is_real = batches.rows < rows
    real = is_real.astype(batch.weight.dtype)
    return batch._replace(
        weight=batch.weight * real,
        groups=batch.groups * real[:, None],
        label_mask=batch.label_mask * real[:, None] * batches.labels,
    )


def _step(
    parts: Components,
    key: Array,
    state: State,
    batch: Dataset,
) -> tuple[State, Array]:
    step_key = jax.random.fold_in(key, state.step)
    objective_key, link_key = jax.random.split(step_key)

    def losses(params: PyTree):
        return parts.objective.apply(params, batch, objective_key, state.memory)

    def value_fn(params: PyTree) -> Array:
        values, _ = losses(params)
        return jnp.stack(list(values))

    losses_and_rows = value_and_rows(losses, has_aux=True)
    (values, memory), rows = losses_and_rows(state.params)
    transform = optax.with_extra_args_support(parts.transform)
    updates, opt_state = transform.update(
        rows,
        state.opt_state,
        state.params,
        values=values,
        key=link_key,
        memory=memory,
        batch=batch,
        value_fn=value_fn,
    )
    params = optax.apply_updates(state.params, updates)
    return State(params, opt_state, memory, state.step + 1), values
