"""One training run as one function: ``train(key, order_key, hparams, data)``, a scan over minibatches.

What fixes a shape is static, what a sweep may map is an argument. Between blocks of the scan stand events, which may
change parameters, optimizer state and memory; the step itself knows nothing of any method.
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
from fairjax.training.samplers import Batches, shuffled, steps_per_block, train_rows


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What fixes the shape of a run.

    ``epochs`` passes over the training rows in batches of ``batch_size``; a block, after which events happen and values
    are recorded, is ``block`` epochs long.
    """

    epochs: int
    batch_size: int
    block: int = 1

    def __post_init__(self):
        if self.epochs < 1 or self.batch_size < 1 or self.block < 1 or self.epochs % self.block:
            raise ValueError(f"{self}: all must be positive and epochs a multiple of block")


class State(NamedTuple):
    """What changes during training."""

    params: PyTree
    opt_state: PyTree
    memory: PyTree
    step: Array  # []


class Trained(NamedTuple):
    """What a run gives: its last state, and per block the mean of every row's value and what ``record`` returned; per step,
    what ``watch`` did."""

    state: State
    first: Array  # [K], values at the first step
    values: Array  # [blocks, K]
    record: PyTree  # leaves [blocks, ...]
    watched: PyTree  # leaves [steps, ...]


def make_train(
    train_config: TrainConfig,
    recipe: Recipe,
    record: Callable[[State], PyTree] | None = None,
    watch: Callable[[State], PyTree] | None = None,
) -> Callable[..., Trained]:
    """Build a training run.

    Args:
      static: shapes.
      recipe: builds model, objective, transformation and events from the hparams, inside the trace.
      record: what to keep of the state after every block.
      watch: what to keep of the state after every step: a link's weights and cosines, say, of
        ``link_states(state.opt_state)``.

    Returns:
      ``train(key, order_key, hparams, data, state=None) -> Trained``, pure. ``key`` is the member's own; ``order_key`` fixes the
      order of minibatches: leave it unmapped under ``vmap`` and every member sees the same batches, gathered once. ``data``
      is the training :class:`Dataset`, or :class:`Splits` for events and samplers that look at validation rows: they get it
      as it is. ``state``, of an earlier run with the same arguments, is gone on from for as many epochs again: two runs of
      half the length then give what one gives, bit for bit.

    Raises:
      ValueError: when traced, for a chain that does not begin with what turns the objective's rows into one update.
    """

    def train(
        key: Array,
        order_key: Array,
        hparams: PyTree,
        data: Dataset | Splits,
        state: State | None = None,
    ) -> Trained:
        parts, rows = recipe.build(hparams), train_rows(data)
        sampler = parts.sampler or shuffled
        run_key, event_key, init_key = jax.random.split(key, 3)

        def step(state: State, now: Batches) -> tuple[State, tuple[Array, PyTree]]:
            state, values = _step(parts, run_key, state, _take(rows, now))
            return state, (values, watch(state) if watch else ())

        def block(state: State, index: Array) -> tuple[State, tuple[Array, Array, PyTree, PyTree]]:
            batches = sampler(train_config, order_key, index, state, data)
            state, (values, watched) = jax.lax.scan(step, state, batches)
            for i, event in enumerate(parts.events):
                state = event(
                    jax.random.fold_in(jax.random.fold_in(event_key, index), i), index, state, data
                )
            return state, (
                values[0],
                jnp.mean(values, axis=0),
                record(state) if record else (),
                watched,
            )

        state = start(parts, init_key, rows) if state is None else state
        blocks = state.step // steps_per_block(train_config, len(rows.weight)) + jnp.arange(
            train_config.epochs // train_config.block
        )
        first = Batches(jnp.zeros(train_config.batch_size, int), jnp.ones(rows.labels.shape[1]))
        check_chain(
            parts.transform,
            state.opt_state,
            state.params,
            len(parts.objective.rows),
            memory=state.memory,
            batch=_take(rows, first),
        )
        state, (first, values, recorded, watched) = jax.lax.scan(block, state, blocks)
        watched = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), watched)
        return Trained(state, first[0], values, recorded, watched)

    return train


def start(parts: Components, key: Array, data: Dataset) -> State:
    """The state before the first step on training data."""
    params = parts.model.init(key)
    memory = parts.objective.init(jax.random.fold_in(key, 1), data)
    return State(params, parts.transform.init(params), memory, jnp.zeros((), jnp.int32))


def _take(data: Dataset, now: Batches) -> Dataset:
    """A batch; a padded row repeats the last one with weight 0, no demographics and no labels."""
    batch = jax.tree.map(lambda a: jnp.take(a, now.rows, axis=0, mode="clip"), data)
    real = (now.rows < data.weight.shape[0]).astype(batch.weight.dtype)
    return batch._replace(
        weight=batch.weight * real,
        groups=batch.groups * real[:, None],
        label_mask=batch.label_mask * real[:, None] * now.labels,
    )


def _step(parts: Components, key: Array, state: State, batch: Dataset) -> tuple[State, Array]:
    objective_key, link_key = jax.random.split(jax.random.fold_in(key, state.step))

    def losses(params: PyTree):
        return parts.objective.apply(params, batch, objective_key, state.memory)

    (values, memory), rows = value_and_rows(losses, has_aux=True)(state.params)
    updates, opt_state = optax.with_extra_args_support(parts.transform).update(
        rows,
        state.opt_state,
        state.params,
        values=values,
        key=link_key,
        memory=memory,
        batch=batch,
        value_fn=lambda params: jnp.stack(list(losses(params)[0])),
    )
    return State(
        optax.apply_updates(state.params, updates), opt_state, memory, state.step + 1
    ), values
