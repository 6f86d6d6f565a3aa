"""GradDrop: keeps, coordinate by coordinate, the rows of one sign.

It looks at the rows, not at their Gram matrix.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from fairjax.core.masked import divide
from fairjax.core.types import Array, PyTree
from fairjax.gradients._link import LinkState, link
from fairjax.gradients.gram_matrix import add_rows
from fairjax.gradients.rules.constant import weighted_rows


def graddrop(
    rows: int, *, leak: ArrayLike = 0.0, seed: Array | int = 0
) -> optax.GradientTransformationExtraArgs:
    """GradDrop, gradient sign dropout: in each coordinate only the parts of one sign stay.

    The positive parts stay with probability ``P = (1 + sum_k g_k / sum_k |g_k|) / 2``, else the
    negative parts. One draw ``U ~ U(0, 1)`` per coordinate serves all rows: positive parts stay
    where ``P > U``, negative parts where ``P < U``. A coordinate where all rows are 0 stays 0.

    Args:
      rows: K, the number of losses.
      leak: the share of a dropped part that stays; a number, or ``[K]``.
      seed: of the draws. ``update(..., key=)`` overrides it.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`, in which ``weights`` are ones, and 0 for quarantined rows. The link has no
      rule in task space.

    Reference:
      Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov: Just pick a sign: optimizing deep
      multitask models with gradient sign dropout, NeurIPS 2020.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.graddrop(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(update)
      [6. 2. 2.]
    """
    plain_sum = link(weighted_rows.rule(weights=1.0), rows)

    def update_fn(
        updates: PyTree, state: LinkState, params: PyTree | None = None, *, key=None, **extra: Any
    ):
        del extra
        _, new_state = plain_sum.update(updates, state, params)
        finite = new_state.weights > 0  # weights of quarantined rows are 0
        if key is None:
            key = jax.random.fold_in(jax.random.key(seed), state.count)
        leaves, structure = jax.tree.flatten(updates)
        new_leaves = []
        for i, leaf in enumerate(leaves):
            finite_rows = [jnp.where(finite[k], leaf[k], 0) for k in range(rows)]
            leaf_key = jax.random.fold_in(key, i)
            new_leaves.append(_keep_one_sign(finite_rows, leaf_key, leak))
        update = jax.tree.unflatten(structure, new_leaves)
        return update, new_state

    return optax.GradientTransformationExtraArgs(plain_sum.init, update_fn)


def _keep_one_sign(leaf: list[Array], key: Array, leak: ArrayLike) -> Array:
    """One leaf, row by row, to its update ``[...]``."""
    given_dtype = leaf[0].dtype
    dtype = jnp.promote_types(given_dtype, jnp.float32)
    rows = [row.astype(dtype) for row in leaf]
    total = add_rows(rows)
    total_size = add_rows([jnp.abs(row) for row in rows])
    positive_share = 0.5 * (1.0 + divide(total, total_size))
    threshold = jax.random.uniform(key, leaf[0].shape, dtype)
    keeps_positive = positive_share > threshold
    leak = jnp.asarray(leak, dtype)
    leak = jnp.broadcast_to(leak, (len(rows),))
    leaked_rows = []
    for k, row in enumerate(rows):
        stays = keeps_positive == (row > 0)
        leaked_rows.append(jnp.where(stays, row, leak[k] * row))
    return add_rows(leaked_rows).astype(given_dtype)
