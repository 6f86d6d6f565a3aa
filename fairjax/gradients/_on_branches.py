"""The link of a network that branches: rows of accuracy and of fairness in, tied updates out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.layers import Layers, by_layer, tie
from fairjax.core.types import Array, PyTree
from fairjax.gradients.aggregators import check_rows
from fairjax.gradients.gram_matrix import cosines, gram, normalised
from fairjax.gradients.rules._projections import pairs_to_project, project
from fairjax.gradients.wrappers import for_rows


class Branches(NamedTuple):
    """Who shares what; an objective of a branched network carries it in its memory."""

    labels: Array  # [D, T] the branch of every task at every layer, its smallest task
    next_layer: Array  # [] the layer that branches next; layers above it have branched


class BranchState(NamedTuple):
    """What happened to the gradients, over all updates; sums of angles are in radians."""

    count: Array  # [], updates so far
    gate: Array  # [T], of the last update
    known: Array  # [2, D, T, T] updates with an angle: of accuracy, of fairness
    conflicts: Array  # [2, D, T, T] updates with a conflict
    angles: Array  # [2, D, T, T] sums of angles


def on_branches(
    tasks: Sequence[str],
    layers: Layers,
    *,
    gate: bool = True,
    surgery: bool = True,
    conflict_cosine: Array | float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """FairBranch's update of a branched network from two rows, ``sum_t L_t`` and ``sum_t F_t``.

    1. The gate: the fairness gradient of task t counts unless it conflicts with its accuracy on the
       head of t, ``<gL_t, gF_t> < 0``.
    2. The surgery: in every layer that has branched, the fairness gradients of two tasks of one
       branch that conflict are projected off each other, as PCGrad does, in ascending order against
       the gradients as they were.
    3. The tie: a branch gets the sum of its tasks' accuracy and fairness gradients.

    Args:
      tasks: names of the tasks; the heads have one subtree for each.
      layers: of the trunk, see :func:`fairjax.models.trunk_layers`.
      gate: whether step 1 is done; otherwise every gradient counts.
      surgery: whether step 2 is done.
      conflict_cosine: a pair of gradients below it is counted as a conflict in the state.

    Returns:
      An aggregator of two rows, first in ``optax.chain``. ``update(rows, state, params, memory=)``
      finds a :class:`Branches` under ``memory["branches"]``. Its state is a :class:`BranchState`.

    Source: Roy, Koutlis, Papadopoulos, Ntoutsi, FairBranch, IJCNN 2024, Eq. 6 and Sec. IV. There
    the angle of a branch of three or more tasks is left open; the released code projects other
    gradients than the paper says.
    """
    depth, count = len(layers), len(tasks)

    def init_fn(params: PyTree) -> BranchState:
        _check_heads(params["heads"], tasks)
        pairs = (2, depth, count, count)
        return BranchState(
            jnp.zeros((), jnp.int32),
            jnp.ones(count, jnp.float32),
            jnp.zeros(pairs, jnp.int32),
            jnp.zeros(pairs, jnp.int32),
            jnp.zeros(pairs, jnp.float32),
        )

    def update_fn(
        updates: PyTree,
        state: BranchState,
        params: PyTree | None = None,
        *,
        memory: PyTree,
        **extra: Any,
    ) -> tuple[PyTree, BranchState]:
        check_rows(updates, params, 2, extra.get("given_rows"))
        branches = memory["branches"]
        accuracy, fairness = (jax.tree.map(lambda leaf, k=k: leaf[k], updates) for k in range(2))
        is_open = jnp.ones(count, jnp.float32)
        if gate:
            is_open = _gate(accuracy["heads"], fairness["heads"], tasks)
        fairness = _gated(fairness, is_open, tasks)
        grams = jnp.stack(
            [
                jnp.stack([gram(jax.tree.leaves(part)) for part in by_layer(row["trunk"], layers)])
                for row in (accuracy, fairness)
            ]
        )
        trunk = fairness["trunk"]
        if surgery:
            trunk = _without_conflicts(trunk, grams[1], branches, layers)
        trunk = tie(jax.tree.map(jnp.add, accuracy["trunk"], trunk), branches.labels, layers)
        heads = jax.tree.map(jnp.add, accuracy["heads"], fairness["heads"])
        cosine = jax.vmap(jax.vmap(cosines))(grams)
        # a gradient of zero has no angle
        is_known = cosine != 0
        angle = jnp.where(is_known, jnp.arccos(jnp.clip(cosine, -1.0, 1.0)), 0.0)
        return {"trunk": trunk, "heads": heads}, BranchState(
            state.count + 1,
            is_open,
            state.known + is_known,
            state.conflicts + (is_known & (cosine < conflict_cosine)),
            state.angles + angle.astype(jnp.float32),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def gate_fairness(tasks: Sequence[str]) -> optax.GradientTransformationExtraArgs:
    """FairBranch's gate on rows ``L_1..L_T, F_1..F_T`` of any network with a head per task.

    Row F_t becomes zero where it conflicts with row L_t on the head of t. It stands before an
    aggregator: ``optax.chain(gate_fairness(tasks), route(...), optimizer)``; with
    ``pcgrad(2 * T, ascending=True, against=among_fairness(T))`` on the trunk this is FairBranch
    without branches.

    Args:
      tasks: names of the tasks; the heads have one subtree for each.
    """
    count = len(tasks)

    def init_fn(params: PyTree) -> optax.EmptyState:
        _check_heads(params["heads"], tasks)
        return optax.EmptyState()

    def update_fn(
        updates: PyTree, state: optax.EmptyState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, optax.EmptyState]:
        del extra
        check_rows(updates, params, 2 * count)
        accuracy, fairness = {}, {}
        for t, task in enumerate(tasks):
            head = updates["heads"][task]
            accuracy[task] = jax.tree.map(lambda leaf, t=t: leaf[t], head)
            fairness[task] = jax.tree.map(lambda leaf, t=t: leaf[count + t], head)
        is_open = _gate(accuracy, fairness, tasks)
        keep = jnp.concatenate([jnp.ones(count, bool), is_open > 0])

        def of_rows(leaf: Array) -> Array:
            return jnp.where(keep.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0.0)

        return jax.tree.map(of_rows, updates), state

    return for_rows(optax.GradientTransformationExtraArgs(init_fn, update_fn))


def _check_heads(heads: PyTree, tasks: Sequence[str]) -> None:
    names = list(heads) if isinstance(heads, dict) else []
    if sorted(names) != sorted(tasks):
        raise ValueError(
            f"the heads of a network that branches are a dict with the {len(tasks)} tasks "
            f"{', '.join(tasks)}, got {', '.join(map(str, names)) or type(heads).__name__}"
        )


def _gate(accuracy: PyTree, fairness: PyTree, tasks: Sequence[str]) -> Array:
    """``[T]``: 0 where both gradients of a head conflict, else 1."""
    products = []
    for task in tasks:
        pairs = zip(jax.tree.leaves(accuracy[task]), jax.tree.leaves(fairness[task]), strict=True)
        parts = [jnp.vdot(one, other, preferred_element_type=jnp.float32) for one, other in pairs]
        products.append(sum(parts))
    return (jnp.stack(products) >= 0).astype(jnp.float32)


def _gated(fairness: PyTree, is_open: Array, tasks: Sequence[str]) -> PyTree:
    """The fairness gradients of tasks whose gate is open, else zeros."""

    def of_copies(leaf: Array) -> Array:
        per_copy = is_open.reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(per_copy > 0, leaf, 0.0)

    heads = {}
    for task, is_task_open in zip(tasks, is_open, strict=True):
        keep = partial(jnp.where, is_task_open > 0)
        heads[task] = jax.tree.map(lambda leaf, keep=keep: keep(leaf, 0.0), fairness["heads"][task])
    return {"trunk": jax.tree.map(of_copies, fairness["trunk"]), "heads": heads}


def _without_conflicts(trunk: PyTree, grams: Array, branches: Branches, layers: Layers) -> PyTree:
    """Fairness gradients of the copies after the surgery, leaves ``[T, ...]``."""
    count = branches.labels.shape[1]
    order = jnp.broadcast_to(jnp.arange(count), (count, count))
    pairs = pairs_to_project(count, None)

    def coordinates(products: Array, label: Array, has_branched: Array) -> Array:
        is_shared = (label[:, None] == label[None, :]) & has_branched
        # strangers have product 0, which is no conflict
        products = jnp.where(is_shared | jnp.eye(count, dtype=bool), products, 0.0)
        unit, _ = normalised(products)
        return project(unit, order, pairs)

    has_branched = jnp.arange(len(layers)) > branches.next_layer
    coordinates_of = jax.vmap(coordinates)(grams, branches.labels, has_branched)
    projected = {}
    for part, weights in zip(by_layer(trunk, layers), coordinates_of, strict=True):
        projected |= jax.tree.map(partial(_combined, weights), part)
    return projected


def _combined(weights: Array, leaf: Array) -> Array:
    """``sum_s weights[t, s] leaf[s]`` for every t."""
    return jnp.tensordot(weights, leaf, 1, precision="highest").astype(leaf.dtype)
