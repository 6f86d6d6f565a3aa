"""Aggregators that stand first in an optax chain: rows in, one update out.

``optax.chain(aggregator, optax.adam(1e-3))`` takes rows, a pytree whose leaves have a leading axis K, and yields ordinary
updates. An aggregator after ``adam`` or clipping would be silently wrong, so each one compares its input with
``params``. ``optax.MultiSteps`` and ``optax.apply_if_finite`` go after an aggregator, not around the chain.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import Array, PyTree
from fairjax.gradients.gram_matrix import add_rows


def check_rows(rows: PyTree, params: PyTree | None, expected: int | None = None) -> int:
    """The number of rows K, or an error that says what is wrong with their shape.

    Raises:
      ValueError: without ``params``, when a leaf is not ``[K, *shape of its parameter]``, or when K is not ``expected``.
    """
    if params is None:
        raise ValueError("an aggregator needs params: call tx.update(rows, state, params)")
    count = expected
    for (path, row), param in zip(
        jax.tree.leaves_with_path(rows), jax.tree.leaves(params), strict=True
    ):
        if row.shape[1:] != jnp.shape(param) or row.ndim != jnp.ndim(param) + 1:
            raise ValueError(
                f"rows{jax.tree_util.keystr(path)} has shape {row.shape}, expected (K, *{jnp.shape(param)}): one gradient "
                "per loss along a leading axis, as value_and_rows gives. Updates of the parameters' own shape mean that "
                "the rows were summed, or that another transformation stands before the aggregator; it must come first."
            )
        if count is not None and row.shape[0] != count:
            other = (
                f"the aggregator was made for {count}"
                if count == expected
                else f"other leaves have {count}"
            )
            raise ValueError(f"rows{jax.tree_util.keystr(path)} has {row.shape[0]} rows, {other}")
        count = row.shape[0]
    return count or 0


def aggregator(reduce: Callable[[PyTree, int], PyTree]) -> optax.GradientTransformationExtraArgs:
    """A stateless aggregator from ``reduce(rows, K) -> update``; extra args are accepted and ignored."""

    def init_fn(params: PyTree) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update_fn(
        updates: PyTree, state: optax.EmptyState, params: PyTree | None = None, **extra_args
    ):
        del extra_args
        return reduce(updates, check_rows(updates, params)), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def sum_rows() -> optax.GradientTransformationExtraArgs:
    """Aggregator: the sum of all rows, ``sum_k g_k``."""
    return aggregator(
        lambda rows, count: jax.tree.map(lambda g: add_rows([g[k] for k in range(count)]), rows)
    )


def take_row(index: int) -> optax.GradientTransformationExtraArgs:
    """Aggregator: the row ``index`` and nothing of the others (which XLA then never computes).

    Raises:
      ValueError: at trace time when there is no such row.
    """

    def reduce(rows: PyTree, count: int) -> PyTree:
        if not jax.tree.leaves(rows):
            return rows
        if not 0 <= index < count:
            raise ValueError(f"take_row({index}): there are {count} rows")
        return jax.tree.map(lambda g: g[index], rows)

    return aggregator(reduce)


def route(
    to: dict[str, optax.GradientTransformation | int], label: Callable[[tuple], str] | None = None
) -> optax.GradientTransformationExtraArgs:
    """Aggregator per subtree: ``route({"trunk": 0, "heads": 1})`` gives row 0 to the trunk and row 1 to the heads.

    Args:
      to: per subtree label, a row index (that row alone) or any aggregator.
      label: from a parameter's key path (as ``jax.tree_util`` gives it) to a label; default the top-level key.

    Returns:
      An ``optax.partition`` with one aggregator per label; put it first in the chain. An aggregator in it sees its own
      subtree alone, and asks ``value_fn`` about that subtree; the other parameters stay where they are.
    """

    def top(path: tuple) -> str:
        entry = path[0]
        return str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", entry))))

    def labels(params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda path, _: (label or top)(path), params)

    parts = {name: take_row(how) if isinstance(how, int) else how for name, how in to.items()}
    partition = optax.partition(parts, labels)

    def update_fn(updates: PyTree, state: PyTree, params: PyTree | None = None, **extra_args):
        if "value_fn" in extra_args:
            extra_args["value_fn"] = _completed(extra_args["value_fn"], params)
        return partition.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(partition.init, update_fn)


def _completed(value_fn: Callable, params: PyTree) -> Callable:
    """``value_fn`` of a subtree as ``optax.partition`` shows it: what is masked is taken from ``params``."""

    def masked(leaf) -> bool:
        return isinstance(leaf, optax.MaskedNode)

    return lambda part: value_fn(
        jax.tree.map(lambda a, full: full if masked(a) else a, part, params, is_leaf=masked)
    )


def summed_adagrad(
    learning_rate: Array | float, batch_size: int = 1
) -> optax.GradientTransformation:
    """Adagrad as in the MTA-F code: accumulator starts at ``0.1 / batch_size^2``, no epsilon.

    The published code sums losses over the batch and starts the accumulator at 0.1 (TensorFlow 1). Here losses are
    divided by the batch size B; dividing the start by B^2 gives the same steps.
    """
    return optax.chain(
        optax.scale_by_rss(initial_accumulator_value=0.1 / batch_size**2, eps=0.0),
        optax.scale_by_learning_rate(learning_rate),
    )
