"""Per-row gradients: a pytree like the parameters with a leading K axis, one gradient per loss.

How they are made is a choice of cost. ``"unroll"`` takes each gradient by itself: what a route does not select is never
computed, and no row goes through another's head, at the price of compiling K backward passes. ``"map"`` compiles one
backward pass and runs it for ``chunk`` rows at a time: least memory. ``"vmap"`` runs it for all rows at once: K times the
memory, and every row goes through every head, which ``experiments/bench_links.py`` shows on networks with many heads.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.core.types import Array, PyTree

MODES = ("auto", "unroll", "vmap", "map")


def rows_mode(count: int) -> str:
    """What ``mode="auto"`` is for K rows: ``"unroll"`` up to eight, where it is soon compiled, then ``"map"``."""
    return "unroll" if count <= 8 else "map"


def value_and_rows(
    losses: Callable, has_aux: bool = False, *, mode: str = "auto", chunk: int = 1
) -> Callable:
    """Like ``jax.value_and_grad`` for K losses at once.

    Each row is a gradient of its own, so that with two rows routed to two subtrees the compiled step costs what a single
    fused loss costs (``"unroll"``, the choice for few rows).

    Args:
      losses: ``losses(params, *args) -> values``, K scalars (a tuple, or an array ``[K]``); with ``has_aux``,
        ``(values, aux)``.
      has_aux: whether ``losses`` returns something beside its values.
      mode: ``"unroll"``, ``"vmap"``, ``"map"``, or ``"auto"``: see :func:`rows_mode`.
      chunk: rows at a time in ``"map"``.

    Returns:
      A function of the same arguments giving ``(values[K], rows)``, or ``((values[K], aux), rows)``; every leaf of
      ``rows`` is ``[K, ...]``.

    Raises:
      ValueError: for an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")

    def value_and_rows_fn(params: PyTree, *args):
        def apart(p: PyTree) -> tuple:
            out = losses(p, *args)
            return out if has_aux else (out, None)

        how = mode
        if how == "auto":
            how = rows_mode(len(jax.eval_shape(apart, params)[0]))
        values, aux, rows = (
            _unrolled(apart, params) if how == "unroll" else _pulled(apart, params, how, chunk)
        )
        return ((values, aux) if has_aux else values), rows

    return value_and_rows_fn


def _unrolled(losses: Callable, params: PyTree) -> tuple[Array, PyTree, PyTree]:
    def row(k: int):
        def scalar(p: PyTree):
            values, aux = losses(p)
            return values[k], (values, aux)

        return jax.grad(scalar, has_aux=True)(params)

    first, (values, aux) = row(0)
    others = [row(k)[0] for k in range(1, len(values))]
    return (
        jnp.stack(list(values)),
        aux,
        jax.tree.map(lambda *leaves: jnp.stack(leaves), first, *others),
    )


def _pulled(losses: Callable, params: PyTree, how: str, chunk: int) -> tuple[Array, PyTree, PyTree]:
    def stacked(p: PyTree) -> tuple[Array, PyTree]:
        values, aux = losses(p)
        return jnp.stack(list(values)), aux

    values, pull, aux = jax.vjp(stacked, params, has_aux=True)
    every = jnp.eye(values.shape[0], dtype=values.dtype)
    pull_one = lambda e: pull(e)[0]  # noqa: E731
    rows = (
        jax.vmap(pull_one)(every)
        if how == "vmap"
        else jax.lax.map(pull_one, every, batch_size=chunk)
    )
    return values, aux, rows


def rows_through(represent: Callable, losses: Callable) -> Callable:
    """Rows by way of the representation: one pass through the trunk per row, each head's own loss through it alone.

    Args:
      represent: ``represent(trunk, *args) -> z``.
      losses: ``losses({"trunk": z, "heads": heads}, *args) -> K scalars``; what it is given as trunk is z already.

    Returns:
      A function of ``params = {"trunk": ..., "heads": ...}`` and the same arguments giving ``(values[K], rows, z_rows)``,
      ``z_rows`` being the gradients with respect to z, ``[K, ...]``.
    """

    def rows_through_fn(params: PyTree, *args):
        z, pull = jax.vjp(lambda trunk: represent(trunk, *args), params["trunk"])
        values, rows = value_and_rows(losses)({"trunk": z, "heads": params["heads"]}, *args)
        trunk = jax.vmap(lambda dz: pull(dz)[0])(rows["trunk"])
        return values, {"trunk": trunk, "heads": rows["heads"]}, rows["trunk"]

    return rows_through_fn
