"""TAG: tasks are grouped by how much a step for one lowers the loss of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax.core.masked import divide
from fairjax.core.types import (
    Array,
    Components,
    Dataset,
    Model,
    Objective,
    PyTree,
    Range,
    Recipe,
    Spec,
    Splits,
)
from fairjax.gradients import Branches, on_branches, value_and_rows
from fairjax.losses import AS_LABELLED, Supervision
from fairjax.methods._branching import (
    record_branches,
    refuse_unbranchable,
    rows_at,
    smallest_tasks,
)
from fairjax.methods.context import (
    Context,
    Method,
    SweptNotions,
    lam_range,
    weight_range,
)
from fairjax.models import branched
from fairjax.models import scores as model_scores
from fairjax.objectives import accuracy_terms, predict
from fairjax.training.loop import State
from fairjax.training.samplers import train_rows

ALONE = -1e6  # the score of a task by itself, as published
EXACT_TASKS = 10
BEAM_WIDTH = 256


def tag(notion: SweptNotions, *, groups: int = 3, batches: int = 8) -> Method:
    """One network for each group of tasks, grouped by what tasks do to each other's losses.

    In the first blocks all tasks share the trunk, and the transfer of every task to every other is
    measured, see :func:`transfers`. Then the groups of most transfer are chosen, and one network
    per group is trained from the beginning, with a fresh optimizer and equal initial numbers.

    Hyper-parameters: ``weight``, ``lam``, and ``until``, the number of blocks of the search. Give
    half of the run's blocks: the networks of groups have only the blocks after it, and without any
    they stay untrained. The published form has no fairness loss: that is ``lam = 0``. Otherwise
    fairness moves the step that is looked ahead; the losses that are read are those of accuracy.

    Args:
      notion: of the fairness losses.
      groups: the largest number of groups.
      batches: on which the transfer is measured after every block of the search.

    Source: Fifty, Amid, Zhao, Yu, Anil, Finn, Efficiently identifying task groupings for multi-task
    learning, NeurIPS 2021. There the transfer is measured on batches of training, every ten steps;
    here after every block, on batches of ``batch_size`` rows drawn with replacement, with the
    parameters of that moment. There a task may be in several groups, and in the best one counts;
    here groups are disjoint, because a task has one copy of the trunk. A task by itself scores -1e6
    there and here; as all tasks may be one group, that never has to be, so two or three tasks stay
    together.
    """

    def method(context: Context) -> Recipe:
        spec = context.spec
        model = branched(context.model, spec)
        refuse_unbranchable(spec, model.layers, 0)
        names = [task.name for task in spec.tasks]
        choose = grouping(len(spec.tasks), groups)

        def build(hparams: PyTree) -> Components:
            rows = rows_at(context, model, notion, hparams)
            objective = with_transfer(rows, len(spec.tasks))
            link = on_branches(names, model.layers, gate=False, surgery=False)
            chain = optax.chain(link, context.optimizer(hparams))

            def measure(key: Array, state: State, data: Dataset) -> tuple[Array, Array]:
                batch_key, objective_key = jax.random.split(key)
                batch = _drawn(batch_key, data, context.batch_size)
                return transfers(
                    context.model,
                    spec,
                    objective,
                    chain,
                    state,
                    batch,
                    objective_key,
                    context.reduction,
                    context.supervision,
                )

            def event(key: Array, block: Array, state: State, data: Splits | Dataset) -> State:
                data = train_rows(data)
                is_search = block < hparams["until"]
                # a bound of 0 skips the work once no member of a sweep is searching
                rounds = jnp.where(is_search, batches, 0)
                transfer = _measured(measure, key, rounds, state, data)
                memory = {**state.memory, "transfer": transfer}
                state = state._replace(memory=memory)
                labels = choose(mean_transfer(transfer))
                init_key = jax.random.fold_in(key, batches)
                anew = _begun(init_key, model, objective, chain, labels, state, data)
                begins = is_search & (block + 1 >= hparams["until"])
                return jax.tree.map(lambda new, old: jnp.where(begins, new, old), anew, state)

            return Components(model, objective, chain, (event,), record_branches)

        space = {
            "weight": weight_range(spec),
            "lam": lam_range(spec),
            "until": Range(5.0),
            **context.hparams,
        }
        return Recipe("tag", build, space, notion=notion)

    return method


# ------------------------------------------------------------------------------------- the transfer


class Transfer(NamedTuple):
    """Sums over measurements."""

    total: Array  # [T, T], from the first task to the second
    count: Array  # [T], measurements with a loss of the second task


def mean_transfer(transfer: Transfer) -> Array:
    """``[T, T]``; 0 onto a task that was never measured."""
    return divide(transfer.total, transfer.count)


def transfers(
    model: Model,
    spec: Spec,
    objective: Objective,
    transform: optax.GradientTransformation,
    state: State,
    batch: Dataset,
    key: Array,
    reduction: str = "batch",
    supervision: Supervision = AS_LABELLED,
) -> tuple[Array, Array]:
    """How much a step of the trunk for task i alone lowers the loss of task j on the same batch.

    ``Z_ij = 1 - L_j(trunk after the step, heads) / L_j(trunk, heads)``. The step is that of the
    optimizer in its present state.

    Args:
      model: the network itself, with one trunk.
      spec: names the tasks.
      objective: of two rows on the branched network.
      transform: the chain that trains the branched network.
      state: of a branched network whose copies are all equal.
      batch: of training rows.
      key: of the objective.
      reduction: see :mod:`fairjax.objectives.terms`.
      supervision: of the losses.

    Returns:
      ``Z [T, T]`` and whether each ``L_j`` was positive ``[T]``; otherwise ``Z_ij`` is 0.
    """
    params = state.params
    names = [task.name for task in spec.tasks]

    def losses(trunk: PyTree) -> Array:
        shared = jax.tree.map(lambda leaf: leaf[0], trunk)
        scores = model_scores(model, {**params, "trunk": shared}, batch.x)
        predictions = predict(spec, scores)
        return jnp.stack(accuracy_terms(spec, predictions, batch, reduction, supervision))

    def values(params: PyTree) -> tuple[Array, ...]:
        return objective.apply(params, batch, key, state.memory)[0]

    _, rows = value_and_rows(values)(params)
    before = losses(params["trunk"])

    def after(task: Array) -> Array:
        # copy i and head i of the sum's gradient are the gradient of task i
        updates, _ = optax.with_extra_args_support(transform).update(
            _of_task(rows, names, task), state.opt_state, params, memory=state.memory
        )
        return losses(optax.apply_updates(params["trunk"], updates["trunk"]))

    lowered = before - jax.lax.map(after, jnp.arange(len(names)))
    return divide(lowered, before), before > 0


def _of_task(rows: PyTree, names: list[str], task: Array) -> PyTree:
    """The rows ``[2, T, ...]`` of a branched network, with zeros for all tasks but one."""

    def of_copy(leaf: Array) -> Array:
        is_copy = jnp.arange(leaf.shape[1]) == task
        return jnp.where(is_copy.reshape(-1, *[1] * (leaf.ndim - 2)), leaf, 0.0)

    heads = {}
    for t, name in enumerate(names):
        head = rows["heads"][name]
        heads[name] = jax.tree.map(lambda leaf, t=t: jnp.where(task == t, leaf, 0.0), head)
    return {"trunk": jax.tree.map(of_copy, rows["trunk"]), "heads": heads}


def with_transfer(inner: Objective, tasks: int) -> Objective:
    """The objective, whose memory also has the :class:`Transfer`."""

    def init(key: Array, data: Dataset) -> PyTree:
        transfer = Transfer(jnp.zeros((tasks, tasks)), jnp.zeros(tasks))
        return {**inner.init(key, data), "transfer": transfer}

    return inner._replace(init=init)


def _drawn(key: Array, data: Dataset, size: int) -> Dataset:
    rows = jax.random.randint(key, (size,), 0, len(data.weight))
    return jax.tree.map(lambda leaf: jnp.take(leaf, rows, axis=0), data)


def _measured(
    measure: Callable[[Array, State, Dataset], tuple[Array, Array]],
    key: Array,
    rounds: Array,
    state: State,
    data: Dataset,
) -> Transfer:
    """The transfer after so many measurements more."""

    def once(i: Array, transfer: Transfer) -> Transfer:
        z, is_measured = measure(jax.random.fold_in(key, i), state, data)
        return Transfer(transfer.total + z, transfer.count + is_measured)

    return jax.lax.fori_loop(0, rounds, once, state.memory["transfer"])


def _begun(
    key: Array,
    model: Model,
    objective: Objective,
    transform: optax.GradientTransformation,
    labels: Array,
    state: State,
    data: Dataset,
) -> State:
    """The state at the beginning of the networks of groups: all anew but the step and transfer."""
    params_key, memory_key = jax.random.split(key)
    params = model.init(params_key)
    depth = len(model.layers)
    of_layers = jnp.broadcast_to(labels, (depth, len(labels)))
    branches = Branches(of_layers, jnp.asarray(-1, jnp.int32))
    memory = objective.init(memory_key, data)
    memory = {**memory, "branches": branches, "transfer": state.memory["transfer"]}
    return State(params, transform.init(params), memory, state.step)


# --------------------------------------------------------------------------------------- the groups


def grouping(tasks: int, groups: int) -> Callable[[Array], Array]:
    """The choice of the disjoint groups of most transfer.

    Args:
      tasks: T. Up to ten, all partitions are compared; beyond, a beam search gives one that may
        have less transfer than the best.
      groups: the largest number of groups.

    Returns:
      ``transfer [T, T] -> labels [T]``, the smallest task of each group.
    """
    if tasks > EXACT_TASKS:
        return lambda transfer: best_by_beam(transfer, groups, BEAM_WIDTH)
    table = partitions(tasks, groups)
    return lambda transfer: best_of(transfer, table)


def partition_score(transfer: Array, group: Array, alone: float = ALONE) -> Array:
    """``sum_t mean_s Z_st`` over the other members s of the group of t.

    Args:
      transfer: Z, ``[T, T]``.
      group: ``[T]`` numbers of groups; tasks with a negative one do not count.
      alone: what a task counts that has no other member.
    """
    is_mate = (group[:, None] == group[None, :]) & ~jnp.eye(len(group), dtype=bool)
    mates = jnp.sum(is_mate, axis=0)
    mean = divide(jnp.sum(jnp.where(is_mate, transfer, 0.0), axis=0), mates)
    score = jnp.where(mates > 0, mean, alone)
    return jnp.sum(jnp.where(group >= 0, score, 0.0))


def partitions(tasks: int, groups: int) -> np.ndarray:
    """All partitions ``[P, T]`` of T tasks into at most so many groups, all in one group first.

    Groups are numbered in the order of their smallest tasks.
    """
    rows = [(0,)]
    for _ in range(1, tasks):
        rows = [(*row, g) for row in rows for g in range(min(max(row) + 2, groups))]
    return np.array(rows, np.int8)


def best_of(transfer: Array, table: np.ndarray) -> Array:
    """The labels ``[T]`` of the partition of most transfer; of equal ones the first.

    Args:
      transfer: ``[T, T]``.
      table: of partitions, ``[P, T]``.
    """
    rows = jnp.asarray(table)
    score = jax.lax.map(lambda row: partition_score(transfer, row), rows, batch_size=1024)
    return smallest_tasks(rows[jnp.argmax(score)])


def best_by_beam(transfer: Array, groups: int, width: int) -> Array:
    """The labels ``[T]`` of the best partition that a beam search finds.

    Tasks join a group one after another. Of the partitions of the tasks so far, so many of most
    transfer are kept; meanwhile a task by itself counts 0. All tasks in one group is always
    compared too.

    Args:
      transfer: ``[T, T]``.
      groups: the largest number of groups.
      width: partitions that are kept.
    """
    tasks = len(transfer)
    choices = jnp.arange(groups)
    together = jnp.zeros(tasks, jnp.int32)
    kept = jnp.full((width, tasks), -1, jnp.int32).at[:, 0].set(0)
    score = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)  # at first there is one

    def join(t: int, beam: tuple[Array, Array]) -> tuple[Array, Array]:
        kept, score = beam
        wider = jnp.broadcast_to(kept[:, None], (width, groups, tasks))
        wider = wider.at[:, :, t].set(choices)
        # one number for every partition: a new group takes the next one
        is_next = choices <= jnp.max(kept, axis=1, keepdims=True) + 1
        is_open = (is_next & (score > -jnp.inf)[:, None]).ravel()
        wider = wider.reshape(-1, tasks)
        values = jax.vmap(lambda group: partition_score(transfer, group, 0.0))(wider)
        score, place = jax.lax.top_k(jnp.where(is_open, values, -jnp.inf), width)
        return wider[place], score

    kept, score = jax.lax.fori_loop(1, tasks, join, (kept, score))
    ends = jax.vmap(lambda group: partition_score(transfer, group))(kept)
    ends = jnp.where(score > -jnp.inf, ends, -jnp.inf)
    best = jnp.argmax(ends)
    is_better = ends[best] > partition_score(transfer, together)
    return smallest_tasks(jnp.where(is_better, kept[best], together))
