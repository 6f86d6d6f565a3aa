"""One training run as one function: a scan over minibatches.

What fixes a shape is static; what a sweep may map is an argument. Events happen between blocks of
the scan and may change parameters, optimizer state and memory. The step knows nothing of any
method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import Array, Components, Dataset, PyTree, Rank, Recipe, Splits
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
    epochs long; after each block, events happen and values are recorded. A run whose blocks are
    ranked ends after ``patience`` blocks without a better one; 0: never.
    """

    epochs: int
    batch_size: int
    block: int = 1
    patience: int = 0

    def __post_init__(self) -> None:
        is_positive = min(self.epochs, self.batch_size, self.block) >= 1
        if not is_positive or self.epochs % self.block or self.patience < 0:
            raise ValueError(
                f"{self}: all must be positive, epochs a multiple of block, and patience 0 or more"
            )

    @property
    def blocks(self) -> int:
        """The most blocks of a run."""
        return self.epochs // self.block


class State(NamedTuple):
    """What changes during training."""

    params: PyTree
    opt_state: PyTree
    memory: PyTree
    step: Array  # []


class Trained(NamedTuple):
    """The results of a run. A run that ended early repeats what its last block gave."""

    state: State  # after the last step
    first: Array  # [K], the rows' values at the first step
    values: Array  # [blocks, K], the mean of every row's value in a block
    record: PyTree  # leaves [blocks, ...], what ``record`` returned
    watched: PyTree  # leaves [steps, ...], what ``watch`` returned
    params: PyTree  # that the run delivers: those of one block, see ``Components.rank``
    block: Array  # [], the block that delivers them, counted from the start of this run
    last: Array  # [], the last block, counted likewise


class Ranked(NamedTuple):
    """The best block so far, and the end of the run."""

    params: PyTree
    rank: Array  # [R]
    block: Array  # []
    last: Array  # [], the block that the run came to
    has_ended: Array  # []


def make_train(
    train_config: TrainConfig,
    recipe: Recipe,
    record: Callable[[State], PyTree] | None = None,
    watch: Callable[[State], PyTree] | None = None,
    place: Callable[[Dataset], Dataset] | None = None,
) -> Callable[..., Trained]:
    """Build a training run.

    Args:
      train_config: the shapes of the run.
      recipe: builds model, objective, transformation and events from the hyper-parameters, inside
        the trace.
      record: what to keep of the state after every block. Default: what the recipe keeps.
      watch: what to keep of the state after every step: a link's weights and cosines, say, from
        ``link_states(state.opt_state)``.
      place: what places a minibatch on devices, ``jax.lax.with_sharding_constraint`` say. Default:
        it stays where the data are.

    Returns:
      ``train(key, order_key, hparams, data, state=None, params=None) -> Trained``, pure. ``key``
      belongs to the member. ``order_key`` fixes the order of minibatches: leave it unmapped under
      ``vmap``, and every member sees the same batches, gathered once. ``data`` is the training
      :class:`Dataset`, or :class:`Splits` for events and samplers that read validation rows: they
      get all of it. ``state``, from an earlier run with the same arguments, continues that run for
      the same number of epochs: two runs of half the length give the same bits as one. Without it
      a run begins with ``params``, by default those that the model draws by :func:`first_key`.

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
        params: PyTree | None = None,
    ) -> Trained:
        parts = recipe.build(hparams)
        data = without_unused_cells(data)
        rows = train_rows(data)
        sampler = parts.sampler or shuffled
        keep = record or parts.record
        run_key, event_key, init_key = _keys_of(key)

        def step(state: State, batches: Batches) -> tuple[State, tuple[Array, PyTree]]:
            batch = gather(rows, batches)
            if place:
                batch = place(batch)
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
            state = start(parts, init_key, rows, params)
        _check(train_config, parts, state, rows)
        steps = steps_per_block(train_config, len(rows.weight))
        first_block = state.step // steps
        blocks = first_block + jnp.arange(train_config.blocks)
        if parts.rank is None:
            state, found = jax.lax.scan(block, state, blocks)
            last = jnp.asarray(train_config.blocks - 1)
            params, chosen = state.params, last
        else:
            state, best, found = _ranked_blocks(
                train_config, block, state, blocks, parts.rank, data
            )
            params, chosen, last = best.params, best.block, best.last
        first, values, recorded, watched = found
        watched = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), watched)
        return Trained(state, first[0], values, recorded, watched, params, chosen, last)

    return train


def first_key(key: Array) -> Array:
    """The key of a member's first parameters, from its own."""
    _, _, init_key = _keys_of(key)
    return init_key


def _keys_of(key: Array) -> Array:
    """Keys of the steps, of events and of the start."""
    return jax.random.split(key, 3)


def start(
    parts: Components,
    key: Array,
    data: Dataset,
    params: PyTree | None = None,
) -> State:
    """The state before the first step on training data; ``params`` default to the model's own."""
    first = parts.model.init(key) if params is None else params
    memory_key = jax.random.fold_in(key, 1)
    memory = parts.objective.init(memory_key, data)
    opt_state = _of_member(parts.transform.init(first), first)
    step = jnp.zeros((), jnp.int32)
    return State(first, opt_state, memory, step)


def _of_member(opt_state: PyTree, params: PyTree) -> PyTree:
    """The state of an optimizer, marked as the member's own; its numbers stay.

    After a step it is. Were it one for all members before the first step, ``vmap`` would go through
    the step twice, which is a tenth of the time to trace a program. Counts stay as they are.
    """
    leaves = [leaf for leaf in jax.tree.leaves(params) if jnp.size(leaf)]
    if not leaves:
        return opt_state
    mark = jnp.ravel(leaves[0])[0] == 0

    def own(leaf: Any) -> Any:
        is_number = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.where(mark, leaf, leaf) if is_number else leaf

    return jax.tree.map(own, opt_state)


def first_choice(blocks: int, passed_over: float) -> int:
    """The first block that may deliver its parameters, see :class:`fairjax.core.types.Rank`."""
    return int(blocks * passed_over)


def _ranked_blocks(
    train_config: TrainConfig,
    block: Callable[..., Any],
    state: State,
    blocks: Array,
    rank: Rank,
    data: Dataset | Splits,
) -> tuple[State, Ranked, PyTree]:
    """Run the blocks, and keep the best one; with patience, until no better one comes.

    All members of a sweep take part until the last one has ended, so that they share batches; what
    one would do after its end changes nothing.
    """
    count = len(blocks)
    first = first_choice(count, rank.passed_over)
    patience = train_config.patience or count

    def ranked(state: State, best: Ranked, i: Array) -> tuple[State, Ranked, PyTree]:
        state, found = block(state, blocks[i])
        value = rank.value(state, data)
        is_better = (i == first) | ((i > first) & _is_less(value, best.rank))
        this = (state.params, value, i)
        so_far = (best.params, best.rank, best.block)
        takes = is_better & ~best.has_ended
        params, value, chosen = jax.tree.map(
            lambda new, old: jnp.where(takes, new, old), this, so_far
        )
        last = jnp.where(best.has_ended, best.last, i)
        has_ended = best.has_ended | (i - jnp.maximum(chosen, first) >= patience)
        return state, Ranked(params, value, chosen, last, has_ended), found

    zero = jnp.zeros((), jnp.int32)
    shape = jax.eval_shape(rank.value, state, data)
    worst = jnp.full(shape.shape, jnp.inf, shape.dtype)
    best = Ranked(state.params, worst, block=zero, last=zero, has_ended=jnp.asarray(False))
    if not train_config.patience:

        def scanned(carry: tuple[State, Ranked], i: Array):
            state, best, found = ranked(*carry, i)
            return (state, best), found

        (state, best), found = jax.lax.scan(scanned, (state, best), jnp.arange(count))
        return state, best, found

    def is_going(carry: tuple[Any, ...]) -> Array:
        i, _, best, _ = carry
        return (i < count) & _any_member(~best.has_ended)

    def go_on(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        i, state, best, all_found = carry
        state, best, found = ranked(state, best, i)
        all_found = jax.tree.map(lambda every, one: every.at[i].set(one), all_found, found)
        return i + 1, state, best, all_found

    _, _, shapes = jax.eval_shape(ranked, state, best, zero)
    empty = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), shapes)
    _, state, best, found = jax.lax.while_loop(is_going, go_on, (zero, state, best, empty))
    kept = jnp.minimum(jnp.arange(count), best.last)
    return state, best, jax.tree.map(lambda leaf: leaf[kept], found)


@jax.custom_batching.custom_vmap
def _any_member(is_true: Array) -> Array:
    """Whether something holds for any member of a sweep; the answer is one for all of them."""
    return is_true


@_any_member.def_vmap
def _any_of_mapped(axis_size: int, is_mapped: list[bool], is_true: Array) -> tuple[Array, bool]:
    del axis_size, is_mapped
    return _any_member(jnp.any(is_true)), False


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
    batch = gather(rows, example)
    check_chain(
        parts.transform,
        state.opt_state,
        state.params,
        len(parts.objective.rows),
        memory=state.memory,
        batch=batch,
    )


def gather(data: Dataset, batches: Batches) -> Dataset:
    """The rows of a batch. Padding repeats the last row: weight 0, no groups, no labels."""
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
