"""Per-row gradients: a pytree like the parameters with a leading K axis, one gradient per loss.

The mode is a choice of cost. ``"unroll"`` takes each gradient by itself: a gradient that a route
does not select is never computed, and no row goes through the head of another. Its price is the
compilation of K backward passes. ``"map"`` compiles one backward pass and runs it for ``chunk``
rows at a time: least memory. ``"vmap"`` runs it for all rows at once: K times the memory, and every
row goes through every head. ``"gram"`` forms no rows: a link asks for their Gram matrix, for which
one gradient is held at a time, and then makes one weighted backward pass.
``experiments/bench_links.py`` shows these costs. A loss that is NaN makes a row of NaN in
``"unroll"`` alone: elsewhere 0 times NaN reaches every row, and a link makes a step of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.core.types import Array, PyTree
from fairjax.gradients.implicit_rows import ImplicitRows, Jacobian

MODES = ("auto", "unroll", "vmap", "map", "gram")


def rows_mode(count: int) -> str:
    """What ``mode="auto"`` is for K rows: ``"unroll"`` up to eight, then ``"map"``.

    Up to eight backward passes compile soon.
    """
    return "unroll" if count <= 8 else "map"


def value_and_rows(
    losses: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    mode: str = "auto",
    chunk: int = 1,
    scale: Array | float = 1.0,
) -> Callable[..., tuple[Any, PyTree]]:
    """Like ``jax.value_and_grad`` for K losses at once.

    Each row is a gradient of its own. With two rows routed to two subtrees, the compiled step
    therefore costs what a single fused loss costs (``"unroll"``, the choice for few rows).

    Args:
      losses: ``losses(params, *args, **kwargs) -> values``, K scalars (a tuple, or an array
        ``[K]``); with ``has_aux``, ``(values, aux)``.
      argnums: which positional argument is differentiated, or which ones; rows of several are a
        tuple. As in ``jax.value_and_grad``.
      has_aux: whether ``losses`` returns something beside its values.
      mode: ``"unroll"``, ``"vmap"``, ``"map"``, ``"gram"``, or ``"auto"``: see :func:`rows_mode`.
        The rows of ``"gram"`` are products to come, not arrays. A link with a rule in task space,
        ``sum_rows``, ``take_row`` and ``route`` take them, in the jitted function that made them;
        what reads entries raises TypeError. With ``per=`` a link makes the Gram matrix of each
        group anew. Peak memory is little above that of one backward pass, and time up to twice that
        of rows. In half precision cosines are as exact as the network's own arithmetic.
      chunk: rows at a time in ``"map"`` and ``"gram"``.
      scale: the rows are gradients of ``scale`` times the losses, and the values are the losses
        themselves. May be traced: of half precision it is the ``scale`` of
        :func:`fairjax.gradients.dynamic_scale`.

    Returns:
      A function of the same arguments. It gives ``(values[K], rows)``, or
      ``((values[K], aux), rows)`` with ``has_aux``. Every leaf of ``rows`` is ``[K, ...]``.

    Raises:
      ValueError: for an unknown mode. At trace time: ``losses`` returns anything but K scalars.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")

    is_one = isinstance(argnums, int)
    positions = (argnums,) if is_one else tuple(argnums)

    def value_and_rows_fn(*args, **kwargs: Any):
        def values_and_aux(differentiated: PyTree) -> tuple[Any, ...]:
            full_args = list(args)
            arguments = (differentiated,) if is_one else differentiated
            for position, argument in zip(positions, arguments, strict=True):
                full_args[position] = argument
            output = losses(*full_args, **kwargs)
            values, aux = _values_and_aux(output) if has_aux else (output, None)
            _check_values(values)
            return values, aux

        params = args[argnums] if is_one else tuple(args[position] for position in positions)
        resolved_mode = mode
        if mode == "auto":
            value_shapes, _ = jax.eval_shape(values_and_aux, params)
            resolved_mode = rows_mode(len(value_shapes))
        if resolved_mode == "unroll":
            values, aux, rows = _unrolled_rows(values_and_aux, params, scale)
        elif resolved_mode == "gram":
            values, aux, rows = _implicit_rows(values_and_aux, params, chunk, scale)
        else:
            values, aux, rows = _mapped_rows(values_and_aux, params, resolved_mode, chunk, scale)
        if has_aux:
            return (values, aux), rows
        return values, rows

    return value_and_rows_fn


def _values_and_aux(output) -> tuple[Any, ...]:
    if not (isinstance(output, tuple) and len(output) == 2):
        raise ValueError(
            f"with has_aux=True, losses must return (values, aux), got {type(output).__name__}"
        )
    return output


def _check_values(values) -> None:
    """Refuse anything but K scalars, and say what it is."""
    if isinstance(values, dict):
        raise ValueError(
            f"losses returned a dict ({', '.join(map(str, values))}), which has no order: return "
            "a tuple, one scalar per loss"
        )
    if not isinstance(values, (tuple, list)):
        if jnp.ndim(values) == 1:
            return
        raise ValueError(
            f"losses returned one value of shape {jnp.shape(values)}, expected K scalars: a tuple "
            "or an array [K]. One loss alone is a tuple of one, (loss,)"
        )
    for k, value in enumerate(values):
        if isinstance(value, (tuple, list, dict)):
            raise ValueError(
                f"losses returned a {type(value).__name__} as loss {k}, expected a scalar; if "
                "losses returns (values, aux), say has_aux=True"
            )
        if jnp.ndim(value) != 0:
            raise ValueError(
                f"loss {k} has shape {jnp.shape(value)}, expected a scalar: reduce it, for "
                "example by jnp.mean"
            )


def _unrolled_rows(
    losses: Callable[..., Any], params: PyTree, scale: Array | float
) -> tuple[Array, PyTree, PyTree]:
    """One backward pass per row."""

    def row(k: int):
        def one_loss(p: PyTree):
            values, aux = losses(p)
            return values[k] * jnp.asarray(scale, values[k].dtype), (values, aux)

        return jax.grad(one_loss, has_aux=True)(params)

    first_gradient, (values, aux) = row(0)
    gradients = [first_gradient]
    for k in range(1, len(values)):
        gradient, _ = row(k)
        gradients.append(gradient)
    rows = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)
    stacked_values = jnp.stack(list(values))
    return stacked_values, aux, rows


def _mapped_rows(
    losses: Callable[..., Any], params: PyTree, mode: str, chunk: int, scale: Array | float
) -> tuple[Array, PyTree, PyTree]:
    """One backward pass for all rows, by ``vmap`` or by ``map``."""
    values, aux, pull_back = _pulled_back(losses, params)
    row_count = values.shape[0]
    basis = jnp.eye(row_count, dtype=values.dtype) * jnp.asarray(scale, values.dtype)

    def row(cotangent: Array) -> PyTree:
        (gradient,) = pull_back(cotangent)
        return gradient

    if mode == "vmap":
        rows = jax.vmap(row)(basis)
    else:
        rows = _rows_in_chunks(row, basis, params, chunk)
    return values, aux, rows


def _pulled_back(
    losses: Callable[..., Any], params: PyTree
) -> tuple[Array, PyTree, Callable[..., Any]]:
    """Values ``[K]``, aux, and the backward pass: from a cotangent ``[K]`` to ``(gradient,)``."""

    def stacked(p: PyTree) -> tuple[Array, PyTree]:
        values, aux = losses(p)
        return jnp.stack(list(values)), aux

    values, pull_back, aux = jax.vjp(stacked, params, has_aux=True)
    return values, aux, pull_back


def _implicit_rows(
    losses: Callable[..., Any], params: PyTree, chunk: int, scale: Array | float
) -> tuple[Array, PyTree, PyTree]:
    """Rows that are never formed, see :class:`ImplicitRows`."""
    values, aux, pull_back = _pulled_back(losses, params)

    def gradient_leaves(cotangent: Array) -> list[Array]:
        return jax.tree.leaves(pull_back(cotangent))

    jacobian = Jacobian(gradient_leaves, values, jnp.asarray(scale), chunk)
    leaves, structure = jax.tree.flatten(params)
    rows = []
    for i, leaf in enumerate(leaves):
        shape = (len(values), *jnp.shape(leaf))
        rows.append(ImplicitRows(jacobian, i, shape, jnp.result_type(leaf)))
    return values, aux, jax.tree.unflatten(structure, rows)


def _rows_in_chunks(row: Callable[..., Any], basis: Array, params: PyTree, chunk: int) -> PyTree:
    """``row`` of every row of the basis, ``chunk`` of them at a time."""

    def filled(cotangent: Array) -> PyTree:
        return jax.tree.map(lambda leaf: leaf if leaf.size else None, row(cotangent))

    # jax.lax.map joins no chunks of a leaf without entries, as a table of no levels is
    rows = jax.lax.map(filled, basis, batch_size=chunk)

    def with_empty(param: Array, leaf: Array | None) -> Array:
        return jnp.zeros((len(basis), *param.shape), param.dtype) if leaf is None else leaf

    return jax.tree.map(with_empty, params, rows)


def rows_through(represent: Callable[..., Any], losses: Callable[..., Any]) -> Callable[..., Any]:
    """Rows by way of the representation.

    Each row takes one pass through the trunk, and goes through its own head alone.

    Args:
      represent: ``represent(trunk, *args) -> z``.
      losses: ``losses({"trunk": z, "heads": heads}, *args) -> K scalars``. Its trunk is z already.

    Returns:
      A function of ``params = {"trunk": ..., "heads": ...}`` and the same arguments. It gives
      ``(values[K], rows, z_rows)``; ``z_rows`` are the gradients with respect to z, ``[K, ...]``.
    """

    def rows_through_fn(params: PyTree, *args):
        z, pull_back = jax.vjp(lambda trunk: represent(trunk, *args), params["trunk"])
        params_at_z = {"trunk": z, "heads": params["heads"]}
        values, rows_at_z = value_and_rows(losses)(params_at_z, *args)
        z_rows = rows_at_z["trunk"]
        (trunk_rows,) = jax.vmap(pull_back)(z_rows)
        rows = {"trunk": trunk_rows, "heads": rows_at_z["heads"]}
        return values, rows, z_rows

    return rows_through_fn
