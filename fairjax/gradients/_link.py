"""The optax link of a rule: K rows in, one update out, and a state that tells what happened."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import Array, PyTree
from fairjax.gradients.aggregators import check_rows
from fairjax.gradients.gram_matrix import combine, cosines, gram
from fairjax.gradients.task_space import Rule


class LinkState(NamedTuple):
    """What a link remembers and reports.

    Leaves are weighed in M groups (layers, or single leaves), and M leads the arrays from
    ``memory`` to ``residual``. With ``per="tree"`` there is one group, and these arrays have no
    leading M.
    """

    count: Array  # [], updates so far
    memory: PyTree  # of the rule
    weights: Array  # [K], of the last update
    cosines: Array  # [K, K], between rows
    conflicts: Array  # [], pairs of rows with a negative cosine
    residual: Array  # [], of the rule's solver; 0 without a solver
    quarantined: Array  # [], rows that were not finite, over all updates


def link(
    rule: Rule,
    rows: int,
    *,
    per: str | Callable[[tuple], str] = "tree",
    measure: Callable[[tuple], bool] | None = None,
    seed: Array | int = 0,
) -> optax.GradientTransformationExtraArgs:
    """A rule as an aggregator: rows ``[K, ...]`` in, one update out.

    It stands first in ``optax.chain``, or in ``route``.

    Args:
      rule: see :class:`Rule`.
      rows: K.
      per: which leaves share their weights. ``"tree"``: all leaves. ``"leaf"``: none, each leaf has
        its own weights. A function from key path to text: all leaves with the same text (a layer).
      measure: from key path to bool: the leaves that the Gram matrix is made of. The weights go to
        all leaves. Default: every leaf.
      seed: of a rule that draws. ``update(..., key=)`` overrides it.

    Returns:
      A transformation whose state is a :class:`LinkState`. Its ``update`` takes ``values=`` (the K
      losses, for rules that need them), ``key=`` and ``given_rows=``, and ignores all other extra
      arguments. ``given_rows=`` lists the arrays that the chain was given. A link cannot see by
      itself what stands before it in a chain; ``route``, :func:`fairjax.validated` and
      ``make_train`` tell it.

    Raises:
      ValueError: for ``rows`` below 1 or an unknown ``per``. At trace time: for updates without a
        row axis or with another K, without ``params``, without ``values`` where the rule needs
        them, or for updates that are not arrays of ``given_rows=``.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    if not callable(per) and per not in ("tree", "leaf"):
        raise ValueError(f"per must be 'tree', 'leaf' or a function of the key path, got {per!r}")

    def init_fn(params: PyTree) -> LinkState:
        return _initial_state(rule, rows, params, per)

    def update_fn(
        updates: PyTree,
        state: LinkState,
        params: PyTree | None = None,
        *,
        values=None,
        key=None,
        **extra,
    ):
        check_rows(updates, params, rows, extra.get("given_rows"))
        if rule.needs_values and values is None:
            raise ValueError(
                "this aggregator weighs losses: call "
                f"tx.update(rows, state, params, values=losses), {rows} losses in an array; "
                "nnx.Optimizer.update passes values= on, TrainState.apply_gradients does not"
            )
        if not jax.tree.leaves(updates):
            return updates, state._replace(count=state.count + 1)
        if key is None:
            key = jax.random.fold_in(jax.random.key(seed), state.count)

        groups = _groups_of_leaves(updates, per)
        grams, finite = _quarantine(_grams(updates, groups, measure))
        if values is not None:
            values = jnp.where(finite, jnp.asarray(values, grams.dtype), 0.0)

        memory = state.memory
        if per == "tree":
            memory = jax.tree.map(lambda a: a[None], memory)
        weights, memory, residual = _weigh(rule, grams, values, memory, key)
        weights = jnp.where(finite, weights, 0.0)
        angles = jax.vmap(cosines)(grams)
        conflicts = jnp.sum(jnp.triu(angles < 0, 1), axis=(1, 2)).astype(jnp.int32)
        report = (memory, weights, angles, conflicts, residual.astype(grams.dtype))
        if per == "tree":
            report = jax.tree.map(lambda a: a[0], report)
        quarantined = state.quarantined + jnp.sum(~finite).astype(jnp.int32)
        update = _combine_groups(updates, groups, weights)
        return update, LinkState(state.count + 1, *report, quarantined)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _initial_state(
    rule: Rule, rows: int, params: PyTree, per: str | Callable[[tuple], str]
) -> LinkState:
    group_count = len(_groups_of_leaves(params, per))
    groups = () if per == "tree" else (group_count,)
    dtype = _accumulator_dtype(params)

    def repeat(leaf) -> Array:
        repeated = jnp.broadcast_to(leaf, (*groups, *jnp.shape(leaf)))
        return jnp.array(repeated, jnp.result_type(leaf))

    return LinkState(
        count=jnp.zeros((), jnp.int32),
        memory=jax.tree.map(repeat, rule.init(rows)),
        weights=jnp.zeros((*groups, rows), dtype),
        cosines=jnp.zeros((*groups, rows, rows), dtype),
        conflicts=jnp.zeros(groups, jnp.int32),
        residual=jnp.zeros(groups, dtype),
        quarantined=jnp.zeros((), jnp.int32),
    )


def _groups_of_leaves(tree: PyTree, per: str | Callable[[tuple], str]) -> list[list[int]]:
    """Indices of the leaves, group by group; one empty group for a tree without leaves."""
    groups: dict[str, list[int]] = {}
    for i, (path, _) in enumerate(jax.tree.leaves_with_path(tree)):
        if per == "tree":
            name = ""
        elif per == "leaf":
            name = jax.tree_util.keystr(path)
        else:
            name = per(path)
        groups.setdefault(name, []).append(i)
    return list(groups.values()) or [[]]


def _grams(rows: PyTree, groups: list[list[int]], measure: Callable[[tuple], bool] | None) -> Array:
    """The Gram matrix of each group, ``[M, K, K]``."""
    entries = jax.tree.leaves_with_path(rows)
    grams = []
    for group in groups:
        leaves = []
        for i in group:
            path, leaf = entries[i]
            if measure is None or measure(path):
                leaves.append(leaf)
        if not leaves:
            raise ValueError(
                "measure leaves out every leaf of a group: there is nothing to take the Gram "
                "matrix of; let it keep at least one leaf"
            )
        grams.append(gram(leaves))
    return jnp.stack(grams).astype(_accumulator_dtype(rows))


def _quarantine(grams: Array) -> tuple[Array, Array]:
    """The Gram matrices without rows that are not finite, and which rows are finite, ``[K]``."""
    # A NaN or an infinity anywhere in a row is one in the row's squared norm.
    squared_norms = jnp.diagonal(grams, axis1=1, axis2=2)
    finite = jnp.all(jnp.isfinite(squared_norms), axis=0)
    return jnp.where(finite[:, None] & finite[None, :], grams, 0.0), finite


def _weigh(
    rule: Rule, grams: Array, values: Array | None, memory: PyTree, key: Array
) -> tuple[Array, PyTree, Array]:
    """Weights ``[M, K]``, memory and residuals ``[M]``; each group has its own key."""

    def weigh_group(gram, memory, key):
        return rule.weights(gram, values, memory, key)

    keys = jax.random.split(key, len(grams))
    weights, new_memory, residual = jax.vmap(weigh_group)(grams, memory, keys)
    # A scan needs the types it began with.
    new_memory = jax.tree.map(lambda new, old: new.astype(old.dtype), new_memory, memory)
    return weights, new_memory, residual


def _combine_groups(rows: PyTree, groups: list[list[int]], weights: Array) -> PyTree:
    """``sum_k w_k g_k`` with the weights ``[M, K]`` of each leaf's group."""
    leaves, structure = jax.tree.flatten(rows)
    for group_weights, group in zip(weights, groups, strict=True):
        for i in group:
            leaves[i] = combine(group_weights, leaves[i])
    return jax.tree.unflatten(structure, leaves)


def _accumulator_dtype(tree: PyTree) -> jnp.dtype:
    """Float32, or float64 where any leaf is."""
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.promote_types, dtypes, jnp.float32)


def link_states(opt_state: PyTree) -> list[LinkState]:
    """Every :class:`LinkState` inside an optimizer's state, in order.

    They tell weights, cosines and conflicts of the last update.
    """

    def is_link_state(node) -> bool:
        return isinstance(node, LinkState)

    nodes = jax.tree.leaves(opt_state, is_leaf=is_link_state)
    return [node for node in nodes if is_link_state(node)]
