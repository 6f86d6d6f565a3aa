"""Rules in task space, and the optax link that each of them becomes.

A rule sees K gradients through their Gram matrix alone: ``weights(gram[K, K], values[K], memory, key)`` gives the
weights of ``u = sum_k w_k g_k``. A row that is zero in the Gram matrix is absent: a task without labels, or a row that
was quarantined because it is not finite.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import Array, PyTree
from fairjax.gradients.gram_matrix import combine, cosines, gram
from fairjax.gradients.links import check_rows


class Rule(NamedTuple):
    """How K gradients become weights.

    ``init(K) -> memory``, any pytree (``()`` for none). ``weights(gram, values, memory, key) -> (weights[K], memory,
    residual)``; ``values`` is None unless ``needs_values``; the residual of a solver is 0 where nothing is solved.
    """

    init: Callable[[int], PyTree]
    weights: Callable[..., tuple[Array, PyTree, Array]]
    needs_values: bool = False


class LinkState(NamedTuple):
    """What a link remembers and tells. M groups (layers, leaves) lead each array; not there for ``per="tree"``."""

    count: Array  # [], updates so far
    memory: PyTree  # of the rule
    weights: Array  # [K], of the last update
    cosines: Array  # [K, K] between rows
    conflicts: Array  # [], pairs of rows with a negative cosine
    residual: Array  # [] of the rule's solver, 0 without one
    quarantined: Array  # [], rows that were not finite, over all updates


def link(
    rule: Rule,
    rows: int,
    *,
    per: str | Callable[[tuple], str] = "tree",
    measure: Callable[[tuple], bool] | None = None,
    seed: Array | int = 0,
) -> optax.GradientTransformationExtraArgs:
    """A rule as an aggregator: rows ``[K, ...]`` in, one update out. First in ``optax.chain``, or inside ``route``.

    Args:
      rule: see :class:`Rule`.
      rows: K.
      per: ``"tree"`` weighs whole gradients, ``"leaf"`` every leaf by itself, a function from key path to text every
        group of leaves with the same text (a layer).
      measure: which leaves (by key path) the Gram matrix is made of; the weights go to all. Default: all.
      seed: of rules that draw; ``update(..., key=)`` overrides it.

    Returns:
      A transformation with a :class:`LinkState`. ``update`` takes ``values=`` (the K losses, for rules that need them)
      and ``key=``, and ignores what else it is given.

    Raises:
      ValueError: at trace time, for updates without a row axis or with another K, without ``params``, or without
        ``values`` where the rule needs them.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    if not callable(per) and per not in ("tree", "leaf"):
        raise ValueError(f"per must be 'tree', 'leaf' or a function of the key path, got {per!r}")

    def groups_of(tree: PyTree) -> list[list[int]]:
        """Indices of leaves, group by group."""
        found: dict[str, list[int]] = {}
        for i, (path, _) in enumerate(jax.tree.leaves_with_path(tree)):
            name = (
                "" if per == "tree" else jax.tree_util.keystr(path) if per == "leaf" else per(path)
            )
            found.setdefault(name, []).append(i)
        return list(found.values()) or [[]]

    def shown(group_axis: PyTree) -> PyTree:
        return jax.tree.map(lambda a: a[0], group_axis) if per == "tree" else group_axis

    def init_fn(params: PyTree) -> LinkState:
        groups, kind = len(groups_of(params)), _precision(params)
        memory = jax.tree.map(
            lambda a: jnp.array(jnp.broadcast_to(a, (groups, *jnp.shape(a))), jnp.result_type(a)),
            rule.init(rows),
        )
        return LinkState(
            jnp.zeros((), jnp.int32),
            shown(memory),
            *shown(
                (
                    jnp.zeros((groups, rows), kind),
                    jnp.zeros((groups, rows, rows), kind),
                    jnp.zeros(groups, jnp.int32),
                    jnp.zeros(groups, kind),
                )
            ),
            jnp.zeros((), jnp.int32),
        )

    def update_fn(
        updates: PyTree,
        state: LinkState,
        params: PyTree | None = None,
        *,
        values=None,
        key=None,
        **extra,
    ):
        del extra
        check_rows(updates, params, rows)
        if rule.needs_values and values is None:
            raise ValueError(
                f"this aggregator weighs losses: call tx.update(rows, state, params, values=losses), {rows} "
                "losses in an array; nnx.Optimizer.update passes values= on, TrainState.apply_gradients does not"
            )
        (paths, leaves), groups = _with_paths(updates), groups_of(updates)
        if not leaves:
            return updates, state._replace(count=state.count + 1)
        kind = _precision(updates)
        raw = jnp.stack(
            [
                _gram_of([leaves[i] for i in group if measure is None or measure(paths[i])], rows)
                for group in groups
            ]
        ).astype(kind)
        # a NaN, or an infinity, anywhere in a row is one in its squared norm
        fine = jnp.all(jnp.isfinite(jnp.diagonal(raw, axis1=1, axis2=2)), axis=0)
        grams = jnp.where(fine[:, None] & fine[None, :], raw, 0.0)
        if values is not None:
            values = jnp.where(fine, jnp.asarray(values, kind), 0.0)
        key = jax.random.fold_in(jax.random.key(seed), state.count) if key is None else key
        memory = jax.tree.map(lambda a: a[None], state.memory) if per == "tree" else state.memory
        weights, new, residual = jax.vmap(lambda g, m, k: rule.weights(g, values, m, k))(
            grams, memory, jax.random.split(key, len(groups))
        )
        memory = jax.tree.map(
            lambda a, old: a.astype(old.dtype), new, memory
        )  # a scan needs the types it began with
        weights = jnp.where(fine, weights, 0.0)
        angles = jax.vmap(cosines)(grams)
        out = list(leaves)
        for w, group in zip(weights, groups, strict=True):
            for i in group:
                out[i] = combine(w, leaves[i])
        conflicts = jnp.sum(jnp.triu(angles < 0, 1), axis=(1, 2)).astype(jnp.int32)
        told = shown((memory, weights, angles, conflicts, residual.astype(kind)))
        bad = state.quarantined + jnp.sum(~fine).astype(jnp.int32)
        return jax.tree.unflatten(jax.tree.structure(updates), out), LinkState(
            state.count + 1, *told, bad
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _with_paths(tree: PyTree) -> tuple[list[tuple], list[Array]]:
    found = jax.tree.leaves_with_path(tree)
    return [path for path, _ in found], [leaf for _, leaf in found]


def _gram_of(leaves: list[Array], rows: int) -> Array:
    if not leaves:
        raise ValueError(
            "measure leaves out every leaf of a group: there is nothing to take the Gram matrix of"
        )
    return gram(leaves)


def _precision(tree: PyTree) -> jnp.dtype:
    """Float32, or float64 where any leaf is."""
    return functools.reduce(
        jnp.promote_types, [jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)], jnp.float32
    )


def linked(factory: Callable[..., Rule]) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """The link of a rule: ``name(rows, *, per, measure, seed, **constants of the rule)``; ``name.rule`` is the rule."""
    own = inspect.signature(factory).parameters
    common = inspect.signature(link).parameters

    @functools.wraps(factory)
    def make(rows: int, **how) -> optax.GradientTransformationExtraArgs:
        placed = {name: how.pop(name) for name in ("per", "measure", "seed") if name in how}
        return link(factory(**how), rows, **placed)

    make.rule = factory
    make.__signature__ = inspect.Signature(
        [common["rows"], *own.values(), *(common[name] for name in ("per", "measure", "seed"))],
        return_annotation=optax.GradientTransformationExtraArgs,
    )
    return make


def link_states(opt_state: PyTree) -> list[LinkState]:
    """Every :class:`LinkState` inside an optimizer's state, in order: weights, cosines and conflicts of the last update."""
    found = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, LinkState))
    return [node for node in found if isinstance(node, LinkState)]
