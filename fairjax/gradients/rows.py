"""Per-row gradients: a pytree like the parameters with a leading K axis, one gradient per loss."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.types import PyTree


def value_and_rows(losses: Callable, has_aux: bool = False) -> Callable:
    """Like ``jax.value_and_grad`` for K losses at once.

    Each row is a gradient of its own, so that what a route does not select is never computed: with two rows routed to
    two subtrees the compiled step costs what a single fused loss costs.

    Args:
      losses: ``losses(params, *args) -> values``, K scalars (a tuple, or an array ``[K]``); with ``has_aux``,
        ``(values, aux)``.
      has_aux: whether ``losses`` returns something beside its values.

    Returns:
      A function of the same arguments giving ``(values[K], rows)``, or ``((values[K], aux), rows)``; every leaf of
      ``rows`` is ``[K, ...]``.
    """
    def value_and_rows_fn(params: PyTree, *args):
        def row(k: int):
            def scalar(p: PyTree):
                out = losses(p, *args)
                values = out[0] if has_aux else out
                return values[k], out
            return jax.grad(scalar, has_aux=True)(params)

        first, out = row(0)
        values, aux = out if has_aux else (out, None)
        others = [row(k)[0] for k in range(1, len(values))]
        rows = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, *others)
        values = jnp.stack(list(values))
        return ((values, aux) if has_aux else values), rows

    return value_and_rows_fn
