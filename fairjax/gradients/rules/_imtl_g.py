"""IMTL-G: equal projections on all rows."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import cosines, normalised, row_norms
from fairjax.gradients.solve import pseudo_inverse
from fairjax.gradients.task_space import Rule, no_memory, with_rule


def imtl_g_rule() -> Rule:
    """The rule of :func:`imtl_g`."""

    def weights(gram, values, memory, key):
        # In unit rows, G = D C D, so that norms of 1 and of 1e10 are equally well solved.
        unit, _ = normalised(gram)
        norm = row_norms(unit)
        inverse, _ = pseudo_inverse(cosines(gram))
        ones = (norm > 0).astype(gram.dtype)
        w = divide(inverse @ ones, norm)
        total = jnp.sum(w)
        has_total = jnp.abs(total) > 1e-12
        safe_total = jnp.where(total == 0, 1.0, total)
        w = jnp.where(has_total, w / safe_total, 0.0)
        return w, memory, jnp.zeros(())

    return Rule(no_memory, weights)


@with_rule(imtl_g_rule)
def imtl_g(
    rows: int,
    *,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """IMTL-G, impartial gradients: the update has equal projections on all rows of length 1.

    ``w = G^+ d / sum(G^+ d)`` with ``d_k = ||g_k||``. Weights add up to 1 and may be negative.
    In float32 the weights lose half their digits where rows are nearly dependent, because G squares
    the rows.

    Args:
      rows: K, the number of losses.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`LinkState`.

    Reference:
      Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang: Towards impartial multi-task learning, ICLR
      2021.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.imtl_g(2)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.077 1.    1.   ] [0.592 0.408]
    """
    return link(imtl_g_rule(), rows, per=per, measure=measure)
