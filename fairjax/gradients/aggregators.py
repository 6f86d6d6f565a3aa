"""Aggregators that stand first in an optax chain: rows in, one update out.

``optax.chain(aggregator, optax.adam(1e-3))`` takes rows, a pytree whose leaves have a leading axis
K, and yields ordinary updates. An aggregator after ``adam`` or after clipping would be silently
wrong. Therefore each aggregator compares its input with ``params``, and with the rows that the
chain was given where it is told them (``given_rows=``). ``optax.MultiSteps`` and
``optax.apply_if_finite`` stand after an aggregator, not around the chain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fairjax.core.types import Array, KeyPath, PyTree
from fairjax.gradients.gram_matrix import one_row, sum_of_rows


def check_rows(
    rows: PyTree,
    params: PyTree | None,
    expected: int | None = None,
    given: list[Array] | None = None,
) -> int:
    """The number of rows K, or an error that says what is wrong with them.

    Args:
      rows: what the aggregator sees.
      params: the parameters.
      expected: K, where it is known.
      given: the arrays that the chain was given, where they are known.

    Raises:
      ValueError: without ``params``, when a leaf is not ``[K, *shape of its parameter]``, when K is
        not ``expected``, or when a leaf is none of the arrays that were given.
    """
    if params is None:
        raise ValueError("an aggregator needs params: call tx.update(rows, state, params)")
    count = expected
    row_leaves = jax.tree.leaves_with_path(rows)
    for (path, row), param in zip(row_leaves, jax.tree.leaves(params), strict=True):
        name = f"rows{jax.tree_util.keystr(path)}"
        if row.ndim != jnp.ndim(param) + 1 or row.shape[1:] != jnp.shape(param):
            raise ValueError(
                f"{name} has shape {row.shape}, expected (K, *{jnp.shape(param)}): one gradient "
                "per loss along a leading axis, as value_and_rows gives. Updates of the "
                "parameters' own shape mean that the rows were summed, or that another "
                "transformation stands before the aggregator; it must come first."
            )
        if count is None:
            count = row.shape[0]
        if row.shape[0] != count:
            reason = f"other leaves have {count}"
            if count == expected:
                reason = f"the aggregator was made for {count}"
            raise ValueError(f"{name} has {row.shape[0]} rows, {reason}")
    if given is not None:
        _check_untouched(row_leaves, given)
    return count or 0


def _check_untouched(row_leaves: list[tuple[Any, ...]], given: list[Array]) -> None:
    """Refuse rows that something changed on their way to the aggregator."""
    identities = {id(leaf) for leaf in given}
    for path, row in row_leaves:
        if id(row) not in identities:
            raise ValueError(
                f"rows{jax.tree_util.keystr(path)} was changed before the aggregator: a "
                f"transformation that stands before it took {row.shape[0]} rows for one gradient "
                "(a norm over all rows, a decay or a moment in each of them). The aggregator must "
                "come first in the chain: put the other transformation after it. One that is meant "
                "for rows says so by fairjax.gradients.for_rows."
            )


def aggregator(reduce: Callable[[PyTree, int], PyTree]) -> optax.GradientTransformationExtraArgs:
    """A stateless aggregator from ``reduce(rows, K) -> update``.

    Of the extra arguments it reads ``given_rows=`` alone, see :func:`route`.
    """

    def init_fn(params: PyTree) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update_fn(
        updates: PyTree, state: optax.EmptyState, params: PyTree | None = None, **extra_args: Any
    ):
        count = check_rows(updates, params, given=extra_args.get("given_rows"))
        return reduce(updates, count), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def sum_rows() -> optax.GradientTransformationExtraArgs:
    """The sum of all rows, ``sum_k g_k``: the gradient of the sum of the losses.

    Returns:
      An aggregator for any number of rows. ``update(rows, state, params)`` takes rows ``[K, ...]``
      and gives one update. It accepts and ignores extra arguments. It keeps no :class:`LinkState`,
      and a row that is not finite makes the update not finite: a run that diverges shows it.

    Reference:
      Kurin, De Palma, Kostrikov, Whiteson, Kumar: In defense of the unitary scalarization for deep
      multi-task learning, NeurIPS 2022.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.sum_rows()
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(update)
      [2. 2. 2.]
    """

    def reduce(rows: PyTree, count: int) -> PyTree:
        del count
        leaves, structure = jax.tree.flatten(rows)
        return jax.tree.unflatten(structure, sum_of_rows(leaves))

    return aggregator(reduce)


def take_row(index: int) -> optax.GradientTransformationExtraArgs:
    """Aggregator: the row ``index`` alone. XLA never computes the other rows.

    Raises:
      ValueError: at trace time when there is no such row.
    """

    def reduce(rows: PyTree, count: int) -> PyTree:
        leaves, structure = jax.tree.flatten(rows)
        if not leaves:
            return rows
        if not 0 <= index < count:
            raise ValueError(f"take_row({index}): there are {count} rows")
        return jax.tree.unflatten(structure, one_row(leaves, index))

    return aggregator(reduce)


def frozen() -> optax.GradientTransformationExtraArgs:
    """Aggregator: an update of zeros. XLA computes no row."""

    def zeros(leaf: Array) -> Array:
        return jnp.zeros(leaf.shape[1:], leaf.dtype)

    return aggregator(lambda rows, count: jax.tree.map(zeros, rows))


def route(
    to: dict[str, optax.GradientTransformation | int | None],
    label: Callable[[KeyPath], str] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """One aggregator per subtree.

    ``route({"trunk": 0, "heads": 1})`` gives row 0 to the trunk and row 1 to the heads.

    Args:
      to: per label of a subtree, the index of a row (that row alone), any aggregator, or None: the
        subtree is frozen, its update is zero.
      label: from a parameter's key path (as ``jax.tree_util`` gives it) to a label. Default: the
        top-level key.

    Returns:
      An ``optax.partition`` with one aggregator per label. It stands first in the chain. An
      aggregator in it sees its own subtree alone, and asks ``value_fn`` about that subtree; the
      other parameters stay where they are. Each part is told the rows (``given_rows=``), so that an
      aggregator sees whether something in the part changed them.

    Raises:
      ValueError: at trace time when a part keeps the rows, as ``optax.set_to_zero()`` does, or when
        something changes them before the part's aggregator, as clipping does.
    """
    label_of = label or _top_level_key
    aggregators = {name: _as_aggregator(choice) for name, choice in to.items()}

    def labels(params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda path, _: label_of(path), params)

    partition = optax.partition(aggregators, labels)

    def update_fn(updates: PyTree, state: PyTree, params: PyTree | None = None, **extra_args: Any):
        if "value_fn" in extra_args:
            extra_args["value_fn"] = _of_subtree(extra_args["value_fn"], params)
        extra_args.setdefault("given_rows", jax.tree.leaves(updates))
        update, state = partition.update(updates, state, params, **extra_args)
        _check_update(update, params, label_of)
        return update, state

    return optax.GradientTransformationExtraArgs(partition.init, update_fn)


def _as_aggregator(
    choice: optax.GradientTransformation | int | None,
) -> optax.GradientTransformation:
    if choice is None:
        return frozen()
    if isinstance(choice, int):
        return take_row(choice)
    return choice


def _check_update(update: PyTree, params: PyTree, label_of: Callable[[KeyPath], str]) -> None:
    """Refuse an update in which a part is not of its parameters' shape."""
    update_leaves = jax.tree.leaves_with_path(update)
    for (path, leaf), param in zip(update_leaves, jax.tree.leaves(params), strict=True):
        if jnp.shape(leaf) != jnp.shape(param):
            raise ValueError(
                f"route: the part {label_of(path)!r} does not make one update of its rows: "
                f"{jax.tree_util.keystr(path)} has shape {jnp.shape(param)}, its update "
                f"{jnp.shape(leaf)}. An aggregator must come first in the part, as in "
                "optax.chain(fairjax.sum_rows(), ...). To freeze it, route it to None."
            )


def _top_level_key(path: tuple[Any, ...]) -> str:
    entry = path[0]
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def _of_subtree(value_fn: Callable[..., Any], params: PyTree) -> Callable[..., Any]:
    """``value_fn`` of a subtree of ``optax.partition``: masked leaves come from ``params``."""

    def is_masked(leaf) -> bool:
        return isinstance(leaf, optax.MaskedNode)

    def fill(leaf, full):
        return full if is_masked(leaf) else leaf

    def subtree_value_fn(subtree: PyTree):
        return value_fn(jax.tree.map(fill, subtree, params, is_leaf=is_masked))

    return subtree_value_fn


def summed_adagrad(
    learning_rate: optax.ScalarOrSchedule, batch_size: int = 1
) -> optax.GradientTransformation:
    """Adagrad as in the MTA-F code: the accumulator starts at ``0.1 / batch_size^2``, no epsilon.

    The published code sums losses over the batch and starts the accumulator at 0.1 (TensorFlow 1).
    Here losses are divided by the batch size B. Dividing the start by B^2 gives the same steps.
    """
    return optax.chain(
        optax.scale_by_rss(initial_accumulator_value=0.1 / batch_size**2, eps=0.0),
        optax.scale_by_learning_rate(learning_rate),
    )
