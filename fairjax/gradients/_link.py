"""The optax link of a rule: K rows in, one update out, and a state that tells what happened."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax.core.types import Array, KeyPath, PyTree
from fairjax.gradients.aggregators import check_rows
from fairjax.gradients.gram_matrix import combine_leaves, cosines, gram, squared_norms
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
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
    metric: Callable[[KeyPath], Array | float] | None = None,
    seed: Array | int = 0,
    diagnostics: bool = True,
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
      metric: from key path to the weight beta of a leaf, 0 or more, which may be traced. Lengths
        and steps are of one geometry: the Gram matrix is ``sum_leaf beta <g_i, g_j>_leaf``, and the
        update of a leaf is beta times the weighted sum of its rows. A leaf of weight 0 is not
        measured and does not move. Default: 1 for every leaf.
      seed: of a rule that draws. ``update(..., key=)`` overrides it.
      diagnostics: whether cosines and conflicts are kept. Without them they stay 0, and a rule that
        reads lengths alone costs one pass over the rows and no Gram matrix.

    Returns:
      A transformation whose state is a :class:`LinkState`. Its ``update`` takes ``values=`` (the K
      losses, for rules that need them), ``key=`` and ``given_rows=``, and ignores all other extra
      arguments. ``given_rows=`` lists the arrays that the chain was given. A link cannot see by
      itself what stands before it in a chain; ``route``, :func:`fairjax.validated` and
      ``make_train`` tell it.

    Raises:
      ValueError: for ``rows`` below 1, an unknown ``per``, or ``measure`` and ``metric`` at once.
        When initialised: for a weight of a leaf that is no scalar or is below 0. At trace time: for
        updates without a row axis or with another K, without ``params``, without ``values`` where
        the rule needs them, or for updates that are not arrays of ``given_rows=``.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    if not callable(per) and per not in ("tree", "leaf"):
        raise ValueError(f"per must be 'tree', 'leaf' or a function of the key path, got {per!r}")
    if measure is not None and metric is not None:
        raise ValueError(
            "measure and metric both say which leaves the Gram matrix is made of: leave out "
            "measure; a leaf whose metric is 0 is not measured, and does not move"
        )

    def init_fn(params: PyTree) -> LinkState:
        scales_of_leaves(params, metric)
        return _initial_state(rule, rows, params, per)

    def update_fn(
        updates: PyTree,
        state: LinkState,
        params: PyTree | None = None,
        *,
        values=None,
        key=None,
        **extra: Any,
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
        scales = scales_of_leaves(updates, metric)
        products = diagnostics or rule.needs_products
        grams, finite = _quarantine(_grams(updates, groups, measure, scales, products))
        if values is not None:
            values = jnp.where(finite, jnp.asarray(values, grams.dtype), 0.0)

        memory = state.memory
        if per == "tree":
            memory = jax.tree.map(lambda a: a[None], memory)
        weights, memory, residual = _weigh(rule, grams, values, memory, key)
        weights = jnp.where(finite, weights, 0.0)
        angles = jax.vmap(cosines)(grams) if diagnostics else jnp.zeros_like(grams)
        conflicts = jnp.sum(jnp.triu(angles < 0, 1), axis=(1, 2)).astype(jnp.int32)
        report = (memory, weights, angles, conflicts, residual.astype(grams.dtype))
        if per == "tree":
            report = jax.tree.map(lambda a: a[0], report)
        quarantined = state.quarantined + jnp.sum(~finite).astype(jnp.int32)
        update = _combine_groups(updates, groups, weights, finite, scales)
        return update, LinkState(state.count + 1, *report, quarantined)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _initial_state(
    rule: Rule, rows: int, params: PyTree, per: str | Callable[[KeyPath], str]
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


def _groups_of_leaves(tree: PyTree, per: str | Callable[[KeyPath], str]) -> list[list[int]]:
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


def scales_of_leaves(
    tree: PyTree, metric: Callable[[KeyPath], Array | float] | None
) -> list[Array | float] | None:
    """The weight of each leaf in a metric, or None without a metric.

    Raises:
      ValueError: a weight is no scalar, or is known and below 0.
    """
    if metric is None:
        return None
    scales = []
    for path, _ in jax.tree.leaves_with_path(tree):
        scale = metric(path)
        is_known = not isinstance(scale, jax.core.Tracer)
        if jnp.ndim(scale) != 0 or (is_known and np.asarray(scale) < 0):
            raise ValueError(
                f"metric gives {jax.tree_util.keystr(path)} the weight {scale}, expected one "
                "number from 0 on: a weight is a factor in squared lengths"
            )
        scales.append(scale)
    return scales


def _grams(
    rows: PyTree,
    groups: list[list[int]],
    measure: Callable[[KeyPath], bool] | None,
    scales: list[Array | float] | None,
    products: bool,
) -> Array:
    """The Gram matrix of each group, ``[M, K, K]``; without products, its diagonal alone."""
    entries = jax.tree.leaves_with_path(rows)
    grams = []
    for group in groups:
        measured = [i for i in group if measure is None or measure(entries[i][0])]
        leaves = [entries[i][1] for i in measured]
        if not leaves:
            raise ValueError(
                "measure leaves out every leaf of a group: there is nothing to take the Gram "
                "matrix of; let it keep at least one leaf"
            )
        group_scales = None if scales is None else [scales[i] for i in measured]
        if products:
            grams.append(gram(leaves, group_scales))
        else:
            grams.append(jnp.diag(squared_norms(leaves, group_scales)))
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


def _combine_groups(
    rows: PyTree,
    groups: list[list[int]],
    weights: Array,
    finite: Array,
    scales: list[Array | float] | None,
) -> PyTree:
    """``beta sum_k w_k g_k`` with the weights ``[M, K]`` of each leaf's group."""
    leaves, structure = jax.tree.flatten(rows)
    updates = list(leaves)
    for group_weights, group in zip(weights, groups, strict=True):
        group_leaves = [leaves[i] for i in group]
        group_scales = None if scales is None else [scales[i] for i in group]
        combined = combine_leaves(group_weights, group_leaves, finite, group_scales)
        for i, update in zip(group, combined, strict=True):
            updates[i] = update
    return jax.tree.unflatten(structure, updates)


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
