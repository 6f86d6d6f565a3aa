"""Around links and chains: look at rows, check the order of a chain, wrap a whole chain."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import PyTree
from fairjax.gradients._link import LinkState, link
from fairjax.gradients.rules.constant import weighted_rows


def observe(
    rows: int, *, per: str | Callable[[tuple], str] = "leaf"
) -> optax.GradientTransformationExtraArgs:
    """Hands the rows on unchanged and keeps their cosines and conflicts in a :class:`LinkState`.

    It stands before an aggregator: ``optax.chain(observe(2), pcgrad(2), optax.adam(1e-3))``.

    Args:
      rows: K.
      per: see :func:`link`.
    """
    plain_sum = link(weighted_rows.rule(weights=1.0), rows, per=per)

    def update_fn(updates: PyTree, state: LinkState, params: PyTree | None = None, **extra):
        del extra
        # Nobody uses the sum, so XLA does not compute it.
        _, state = plain_sum.update(updates, state, params)
        return updates, state

    return optax.GradientTransformationExtraArgs(plain_sum.init, update_fn)


def check_chain(
    tx: optax.GradientTransformation, state: PyTree, params: PyTree, rows: int, **extra
) -> None:
    """Refuse a chain that does not turn K rows into one update and keep the shape of its own state.

    ``optax.scale_by_adam`` before an aggregator takes K rows without complaint, and its moments
    grow a row axis. The check costs one tracing.

    Args:
      tx: the chain.
      state: what ``tx.init(params)`` gave.
      params: the parameters.
      rows: K.
      **extra: arguments that ``tx.update`` needs beside ``values``, ``value_fn`` and ``key``, which
        the check provides.

    Raises:
      ValueError: naming the part of the state that grew, or the update that did not become one.
    """
    inner = optax.with_extra_args_support(tx)
    update_args = {
        "values": jnp.zeros(rows),
        "value_fn": lambda p: jnp.zeros(rows),
        "key": jax.random.key(0),
        **extra,
    }

    def stacked_shape(leaf):
        shape = (rows, *jnp.shape(leaf))
        return jax.ShapeDtypeStruct(shape, jnp.result_type(leaf))

    def update(rows_tree, state, params):
        return inner.update(rows_tree, state, params, **update_args)

    stacked = jax.tree.map(stacked_shape, params)
    new_update, new_state = jax.eval_shape(update, stacked, state, params)
    _check_shapes("the optimizer's state", state, new_state, rows)
    _check_shapes("the update", params, new_update, rows)


def _check_shapes(subject: str, before: PyTree, after: PyTree, rows: int) -> None:
    old_leaves = jax.tree.leaves_with_path(before)
    new_leaves = jax.tree.leaves(after)
    for (path, old), new in zip(old_leaves, new_leaves, strict=True):
        old_shape = jnp.shape(old)
        if old_shape != new.shape:
            place = f"{subject}{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"{place} has shape {old_shape} "
                f"and would become {new.shape}: something stands before the aggregator that turns "
                f"{rows} rows into one update. The aggregator must come first in the chain."
            )


def validated(tx: optax.GradientTransformation, rows: int) -> optax.GradientTransformationExtraArgs:
    """``tx`` with :func:`check_chain` when it is initialised.

    :func:`fairjax.make_train` checks by itself.
    """
    inner = optax.with_extra_args_support(tx)

    def init_fn(params: PyTree) -> PyTree:
        state = inner.init(params)
        check_chain(inner, state, params, rows)
        return state

    return optax.GradientTransformationExtraArgs(init_fn, inner.update)


def wrap_chain(
    wrap: Callable, tx: optax.GradientTransformation, rows: int
) -> optax.GradientTransformationExtraArgs:
    """A wrapper of optax around a whole chain that begins with an aggregator.

    ``wrap_chain(lambda tx: optax.MultiSteps(tx, 4), chain, rows=2)`` averages rows over four steps,
    then aggregates. ``wrap_chain(lambda tx: optax.apply_if_finite(tx, 5), chain, rows=2)`` skips a
    step whose rows are not all finite. The wrapper sees K copies of the parameters and K copies of
    the update. Wrappers that need no rows (``MultiSteps`` over finished updates, say) stand after
    the aggregator and need none of this.

    Args:
      wrap: from a transformation to a wrapped one, or to ``optax.MultiSteps``.
      tx: the chain.
      rows: K.
    """
    inner = optax.with_extra_args_support(tx)

    def first_copy(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[0], tree)

    def leaf_copies(leaf):
        shape = (rows, *jnp.shape(leaf))
        return jnp.broadcast_to(leaf, shape)

    def copies(tree: PyTree) -> PyTree:
        return jax.tree.map(leaf_copies, tree)

    def init_from_copies(params: PyTree) -> PyTree:
        return inner.init(first_copy(params))

    def update_copies(updates: PyTree, state: PyTree, params: PyTree, **extra):
        inner_params = first_copy(params)
        update, state = inner.update(updates, state, inner_params, **extra)
        return copies(update), state

    outer = wrap(optax.GradientTransformationExtraArgs(init_from_copies, update_copies))

    def init_fn(params: PyTree) -> PyTree:
        return outer.init(copies(params))

    def update_fn(updates: PyTree, state: PyTree, params: PyTree, **extra):
        outer_params = copies(params)
        update, state = outer.update(updates, state, outer_params, **extra)
        return first_copy(update), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
