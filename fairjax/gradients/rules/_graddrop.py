"""GradDrop: keeps, coordinate by coordinate, the rows of one sign. It looks at the rows, not at their Gram matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import Array, PyTree
from fairjax.gradients.gram_matrix import add_rows
from fairjax.gradients.rules.constant import weighted_rows
from fairjax.gradients.task_space import LinkState, link


def graddrop(
    rows: int, *, leak=0.0, seed: Array | int = 0
) -> optax.GradientTransformationExtraArgs:
    """GradDrop: ``P = (1 + sum_k g_k / sum_k |g_k|) / 2`` per coordinate; with probability P the positive parts stay.

    One draw ``U ~ U(0, 1)`` per coordinate serves all rows: positive parts where ``P > U``, negative where ``P < U``,
    added up. A coordinate where all rows are 0 stays 0. ``LinkState.weights`` are ones, 0 for quarantined rows.

    Args:
      rows: K.
      leak: share of what is dropped that stays all the same; a number, or ``[K]``.
      seed: of the draws; ``update(..., key=)`` overrides it.

    Reference:
      Chen et al.: Just pick a sign, NeurIPS 2020.
    """
    plain = link(weighted_rows.rule(weights=1.0), rows)

    def update_fn(
        updates: PyTree, state: LinkState, params: PyTree | None = None, *, key=None, **extra
    ):
        _, told = plain.update(updates, state, params)
        fine = told.weights > 0  # weights of quarantined rows are 0
        key = jax.random.fold_in(jax.random.key(seed), state.count) if key is None else key
        leaves, structure = jax.tree.flatten(updates)
        kept = [
            _drop(
                jnp.where(fine.reshape(-1, *([1] * (g.ndim - 1))), g, 0),
                jax.random.fold_in(key, i),
                leak,
            )
            for i, g in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, kept), told

    return optax.GradientTransformationExtraArgs(plain.init, update_fn)


def _drop(g: Array, key: Array, leak) -> Array:
    kind = jnp.promote_types(g.dtype, jnp.float32)
    rows = [row.astype(kind) for row in g]
    purity = 0.5 * (1.0 + divide(add_rows(rows), add_rows([jnp.abs(row) for row in rows])))
    positive = purity > jax.random.uniform(key, g.shape[1:], kind)
    leak = jnp.broadcast_to(jnp.asarray(leak, kind), (len(rows),))
    return add_rows(
        [jnp.where(positive == (row > 0), row, leak[k] * row) for k, row in enumerate(rows)]
    ).astype(g.dtype)
