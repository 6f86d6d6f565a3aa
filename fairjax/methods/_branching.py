"""What the methods that branch share: two rows on a branched network, and the event that branches.

Every task has its own copy of every trunk layer; see :func:`fairjax.models.branched`. Between
blocks of training the next layer may divide, from the top of the trunk downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax.core.types import Array, DataError, Dataset, Model, Objective, PyTree, Spec, Splits
from fairjax.gradients import Branches
from fairjax.losses import AS_LABELLED, Supervision
from fairjax.methods._likeness import Likeness, chance_level, merged_groups
from fairjax.methods.context import Context, SweptNotions, notion_at
from fairjax.models import Layers, by_layer, shared_labels
from fairjax.objectives import Notions, per_task
from fairjax.training.loop import State


class BranchRecord(NamedTuple):
    """What a sweep keeps of a run that branches, after every block."""

    labels: Array  # [D, T]
    known: Array  # [2, D, T, T] updates with an angle since training began, or began anew
    conflicts: Array  # [2, D, T, T] updates with a conflict, of accuracy and of fairness
    angles: Array  # [2, D, T, T] sums of angles in radians
    chance: Array  # [D] likeness by chance of what decides about a layer; NaN: no such likeness


def record_branches(state: State, chance: np.ndarray | None = None) -> BranchRecord:
    """The record of a run whose chain begins with :func:`fairjax.gradients.on_branches`.

    Args:
      state: after a block.
      chance: see :func:`chance_above`; None for a method that divides by something else.
    """
    link = state.opt_state[0]
    labels = state.memory["branches"].labels
    if chance is None:
        chance = np.full(len(labels), np.nan)
    return BranchRecord(labels, link.known, link.conflicts, link.angles, jnp.float32(chance))


def rows_on_branches(
    model: Model,
    spec: Spec,
    *,
    notion: Notions,
    lam: Array,
    weight: Array,
    reduction: str = "batch",
    batch_size: int = 512,
    supervision: Supervision = AS_LABELLED,
) -> Objective:
    """Two rows, ``sum_t w_t L_t`` and ``sum_t w_t lam_t F_t``, whose memory has the branches.

    Args:
      model: a branched model.
      spec: names tasks and attributes.
      notion: of F_t.
      lam: ``[T]``.
      weight: ``[T]``.
      reduction: see :mod:`fairjax.objectives.terms`.
      batch_size: see :func:`fairjax.objectives.per_task`.
      supervision: of L_t.
    """
    tasks = len(spec.tasks)
    inner = per_task(
        model,
        spec,
        notion=notion,
        lam=lam,
        weight=weight,
        split=True,
        reduction=reduction,
        batch_size=batch_size,
        supervision=supervision,
    )

    def init(key: Array, data: Dataset) -> PyTree:
        labels = shared_labels(model.layers, tasks)
        top = jnp.asarray(len(model.layers) - 1, jnp.int32)
        return {"branches": Branches(labels, top), "notion": inner.init(key, data)}

    def apply(params: PyTree, batch: Dataset, key: Array, memory: PyTree) -> tuple[Any, ...]:
        values, counts = inner.apply(params, batch, key, memory["notion"])
        rows = (sum(values[:tasks]), sum(values[tasks:]))
        return rows, {**memory, "notion": counts}

    return Objective(("accuracy", "fairness"), init, apply)


def rows_at(context: Context, model: Model, notion: SweptNotions, hparams: PyTree) -> Objective:
    """:func:`rows_on_branches` of a context, with the hyper-parameters ``lam`` and ``weight``."""
    return rows_on_branches(
        model,
        context.spec,
        notion=notion_at(notion, hparams),
        lam=hparams["lam"],
        weight=hparams["weight"],
        reduction=context.reduction,
        batch_size=context.batch_size,
        supervision=context.supervision,
    )


def refuse_unbranchable(spec: Spec, layers: Layers, first: int) -> None:
    """Refuse what cannot branch: one task, or a trunk without a layer above the shared ones.

    Raises:
      DataError: it is so.
    """
    if len(spec.tasks) < 2:
        names = [task.name for task in spec.tasks]
        raise DataError(
            f"a network branches between tasks, but there is 1 ({names[0]!r}). Give two "
            "or more (--task), or leave this method out (--methods)."
        )
    if len(layers) <= first:
        raise DataError(
            f"a network with {len(layers)} shared layer has none to branch: the first {first} stay "
            f"shared. Give {first + 1} or more (--trunk 64,64), or leave this method out "
            "(--methods)."
        )


def branch(
    spec: Spec,
    layers: Layers,
    likeness: Likeness,
    tau: Array,
    *,
    every: int,
    warmup: int = 0,
    first: int = 1,
    fresh: optax.GradientTransformation | None = None,
) -> Callable[[Array, Array, State, Splits | Dataset], State]:
    """The event that divides the next layer into groups of tasks.

    The groups of the layer above (each task by itself above the trunk) are merged in pairs where
    that layer's parameters are alike: see :func:`merged_groups`. With two groups or more left, the
    layer divides into them, and the layer below is next; with one it is asked again later.

    Args:
      spec: names the tasks.
      layers: of the trunk.
      likeness: of the kernels of a layer.
      tau: least likeness of groups that are merged.
      every: blocks between two branchings. Copies are equal right after they were made, so a layer
        needs time before its likeness says something.
      warmup: blocks before the first branching.
      first: the lowest layer that may branch. The paper leaves the first one shared, its code
        branches it too.
      fresh: the whole transformation, to begin its state anew at a branching, as the released code
        does. None: every copy inherits its moments.
    """
    tasks = [task.name for task in spec.tasks]

    def event(key: Array, block: Array, state: State, data: Splits | Dataset) -> State:
        del key, data
        branches = state.memory["branches"]
        layer = branches.next_layer
        above = groups_above(branches)
        alike = _alike_above(state.params, tasks, layers, likeness)[layer]
        groups = merged_groups(alike, above, tau).astype(jnp.int32)
        is_due = ((block + 1) % every == 0) & (block + 1 > warmup) & (layer >= first)
        divides = is_due & (jnp.max(groups) > 0)
        branches = divided(branches, groups, divides)
        opt_state = state.opt_state
        if fresh is not None:
            anew = fresh.init(state.params)
            opt_state = jax.tree.map(lambda new, old: jnp.where(divides, new, old), anew, opt_state)
        memory = {**state.memory, "branches": branches}
        return state._replace(opt_state=opt_state, memory=memory)

    return event


def groups_above(branches: Branches) -> Array:
    """``[T]``: the branches of the layer above the next one; above the trunk, each task."""
    alone = jnp.arange(branches.labels.shape[1], dtype=jnp.int32)
    return jnp.concatenate([branches.labels, alone[None]])[branches.next_layer + 1]


def divided(branches: Branches, groups: Array, divides: Array) -> Branches:
    """The branches after the next layer has divided into groups, where it does.

    Args:
      branches: before.
      groups: ``[T]`` labels.
      divides: ``[]``, whether it does.
    """
    is_layer = jnp.arange(len(branches.labels)) == branches.next_layer
    labels = jnp.where((divides & is_layer)[:, None], groups, branches.labels)
    return Branches(labels, branches.next_layer - divides)


def smallest_tasks(group: Array) -> Array:
    """Labels ``[T]`` of groups that have any numbers: the smallest task of each."""
    return jnp.argmax(group[:, None] == group[None, :], axis=1).astype(jnp.int32)


def chance_above(model: Model, tasks: Sequence[str]) -> np.ndarray:
    """``[D]``: about the :func:`cka` of independent kernels of the layer above each layer.

    A tau below it merges branches that have nothing in common.

    Args:
      model: a branched model.
      tasks: names of the tasks.
    """

    def kernels(key: Array) -> list[Array]:
        return _kernels_above(model.init(key), tasks, model.layers)

    shapes = [kernel.shape for kernel in jax.eval_shape(kernels, jax.random.key(0))]
    return np.array([chance_level(inputs, outputs) for _, inputs, outputs in shapes])


def _alike_above(params: PyTree, tasks: Sequence[str], layers: Layers, likeness: Likeness) -> Array:
    """``[D, T, T]``: how alike the kernels of the layer above each layer are."""
    return jnp.stack([likeness(kernels) for kernels in _kernels_above(params, tasks, layers)])


def _kernels_above(params: PyTree, tasks: Sequence[str], layers: Layers) -> list[Array]:
    """Kernels ``[T, inputs, outputs]`` of the layer above each layer, of the heads last."""
    kernels = [_kernels(part) for part in by_layer(params["trunk"], layers)[1:]]
    return [*kernels, stacked_heads([_kernel(params["heads"][task]) for task in tasks])]


def _kernel(head: PyTree) -> Array:
    """The kernel of a head that reads the representation, ``[D, outputs]``."""
    return next(leaf for leaf in jax.tree.leaves(head) if jnp.ndim(leaf) == 2)


def _kernels(part: PyTree) -> Array:
    """All kernels of a layer side by side, ``[T, inputs, outputs]``; a filter's window counts as
    inputs."""
    leaves = [leaf for leaf in jax.tree.leaves(part) if leaf.ndim >= 3]
    flat = [leaf.reshape(leaf.shape[0], -1, leaf.shape[-1]) for leaf in leaves]
    return max(flat, key=jnp.size)


def stacked_heads(heads: list[Array]) -> Array:
    """``[T, inputs, outputs]`` of kernels that may have other outputs: missing ones are zeros.

    Columns of zeros change neither :func:`cka` nor :func:`cosine`.
    """
    widest = max(head.shape[1] for head in heads)
    return jnp.stack([jnp.pad(head, ((0, 0), (0, widest - head.shape[1]))) for head in heads])
