"""Around links and chains: look at rows, check the order of a chain, wrap a whole chain."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import KeyPath, PyTree
from fairjax.gradients._link import LinkState, link
from fairjax.gradients.aggregators import check_rows
from fairjax.gradients.rules.constant import weighted_rows


def observe(
    rows: int, *, per: str | Callable[[KeyPath], str] = "leaf"
) -> optax.GradientTransformationExtraArgs:
    """Hands the rows on unchanged and keeps their cosines and conflicts in a :class:`LinkState`.

    It stands before an aggregator: ``optax.chain(observe(2), pcgrad(2), optax.adam(1e-3))``.

    Args:
      rows: K.
      per: see :func:`link`.
    """
    plain_sum = link(weighted_rows.rule(weights=1.0), rows, per=per)

    def update_fn(updates: PyTree, state: LinkState, params: PyTree | None = None, **extra: Any):
        del extra
        # Nobody uses the sum, so XLA does not compute it.
        _, state = plain_sum.update(updates, state, params)
        return updates, state

    return optax.GradientTransformationExtraArgs(plain_sum.init, update_fn)


def for_rows(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """A transformation of K rows that may stand before an aggregator, because it is meant for rows.

    ``optax.chain(for_rows(tx), pcgrad(2), optax.adam(1e-3))`` passes :func:`check_chain`. ``tx``
    takes rows ``[K, ...]`` and the parameters, and gives rows of the same shape. Whether it treats
    them as rows is its own affair.

    Raises:
      ValueError: at trace time, when ``tx`` does not get or does not give rows.
    """
    inner = optax.with_extra_args_support(tx)

    def update_fn(updates: PyTree, state: PyTree, params: PyTree | None = None, **extra: Any):
        given = extra.get("given_rows")
        count = check_rows(updates, params, given=given)
        changed, state = inner.update(updates, state, params, **extra)
        check_rows(changed, params, count)
        if given is not None:
            given.extend(jax.tree.leaves(changed))
        return changed, state

    return optax.GradientTransformationExtraArgs(inner.init, update_fn)


def check_chain(
    tx: optax.GradientTransformation, state: PyTree, params: PyTree, rows: int, **extra: Any
) -> None:
    """Refuse a chain that changes rows before its aggregator, or does not make one update of them.

    Most transformations take K rows without complaint. The moments of ``optax.scale_by_adam`` grow
    a row axis. ``optax.clip_by_global_norm`` takes one norm of all rows, and
    ``optax.add_decayed_weights`` adds the decay K times. So the chain is traced once and told its
    rows (``given_rows=``), and each aggregator of fairjax refuses other arrays than these. What
    hands rows on unchanged may stand before it (``observe``), and what is meant for rows, see
    :func:`for_rows`.

    The check does not see what stands before an aggregator of one's own that ignores
    ``given_rows=``, unless a shape grows; what stands inside a wrapper that keeps extra arguments
    to itself; and what is done to rows outside the chain, such as a mean over devices, which is
    right.

    Args:
      tx: the chain.
      state: what ``tx.init(params)`` gave.
      params: the parameters.
      rows: K.
      **extra: arguments that ``tx.update`` needs beside ``values``, ``value_fn``, ``key`` and
        ``given_rows``, which the check provides.

    Raises:
      ValueError: naming the rows that were changed, the part of the state that grew, or the update
        that did not become one.
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
        told = dict(update_args)
        if _takes(inner.update, "given_rows"):
            told["given_rows"] = jax.tree.leaves(rows_tree)
        return inner.update(rows_tree, state, params, **told)

    stacked = jax.tree.map(stacked_shape, params)
    new_update, new_state = jax.eval_shape(update, stacked, state, params)
    _check_shapes("the optimizer's state", state, new_state, rows)
    _check_shapes("the update", params, new_update, rows)


def _takes(function: Callable[..., Any], keyword: str) -> bool:
    """Whether a function takes a keyword argument."""
    parameters = inspect.signature(function).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    return keyword in parameters or inspect.Parameter.VAR_KEYWORD in kinds


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
    wrap: Callable[..., Any], tx: optax.GradientTransformation, rows: int
) -> optax.GradientTransformationExtraArgs:
    """A wrapper of optax around a whole chain that begins with an aggregator.

    ``wrap_chain(lambda tx: optax.MultiSteps(tx, 4), chain, rows=2)`` averages rows over four steps,
    then aggregates. ``wrap_chain(lambda tx: optax.apply_if_finite(tx, 5), chain, rows=2)`` skips a
    step whose rows are not all finite. The wrapper sees K copies of the parameters and K copies of
    the update, and it may change the rows. Wrappers that need no rows (``MultiSteps`` over finished
    updates, say) stand after the aggregator and need none of this.

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

    def update_copies(updates: PyTree, state: PyTree, params: PyTree, **extra: Any):
        inner_params = first_copy(params)
        # The wrapper may change the rows; nothing behind it may.
        if "given_rows" in extra:
            extra["given_rows"] = jax.tree.leaves(updates)
        update, state = inner.update(updates, state, inner_params, **extra)
        return copies(update), state

    outer = wrap(optax.GradientTransformationExtraArgs(init_from_copies, update_copies))

    def init_fn(params: PyTree) -> PyTree:
        return outer.init(copies(params))

    def update_fn(updates: PyTree, state: PyTree, params: PyTree, **extra: Any):
        outer_params = copies(params)
        update, state = outer.update(updates, state, outer_params, **extra)
        return first_copy(update), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
