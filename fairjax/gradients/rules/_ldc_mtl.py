"""LDC-MTL: learned weights that keep weighted losses near to one another."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.rules._learned import Learned, learned
from fairjax.gradients.task_space import Rule, with_rule


def ldc_mtl_rule(*, lam: Array | float = 0.1, learning_rate: Array | float = 1e-3) -> Rule:
    """The rule of :func:`ldc_mtl`; its memory is theta and the state of its Adam."""
    init, learn = learned(1.0, learning_rate)

    def weights(gram, values, memory: Learned, key):
        is_present = present(gram)
        share = jnp.where(is_present, jax.nn.sigmoid(memory.number), 0.0)
        # of |s_k L_k - s_(k+1) L_(k+1)|, by each weighted loss
        both = is_present[:-1] & is_present[1:]
        weighted = share * values
        sign = jnp.where(both, jnp.sign(weighted[:-1] - weighted[1:]), 0.0)
        pull = lam * (jnp.pad(sign, (0, 1)) - jnp.pad(sign, (1, 0)))

        slope = divide(jnp.ones_like(share), jnp.sum(share)) + pull
        gradient = jnp.where(is_present, slope * values * share * (1.0 - share), 0.0)
        return (share * slope).astype(gram.dtype), learn(gradient, memory), jnp.zeros(())

    return Rule(init, weights, needs_values=True, needs_products=False)


@with_rule(ldc_mtl_rule)
def ldc_mtl(
    rows: int,
    *,
    lam: Array | float = 0.1,
    learning_rate: Array | float = 1e-3,
    per: str | Callable[[KeyPath], str] = "tree",
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """LDC-MTL, loss discrepancy control: weighted losses with a price for their differences.

    Parameters and theta descend, with ``s = sigmoid(theta)`` and the sum of s held constant::

        sum_k s_k L_k / sum_k s_k + lam sum_k |s_k L_k - s_(k+1) L_(k+1)|

    The weight of a loss above its neighbours grows by ``2 lam s_k``, and one below them may become
    negative. Which losses are neighbours is the order of the rows. A pair with an absent row has no
    price. Losses should be of one scale.

    Args:
      rows: K, the number of losses.
      lam: the price; the authors take .1 for two tasks and .01 for forty.
      learning_rate: of theta, by Adam; theta starts at 1. The authors take that of the parameters.
      per: which leaves share their weights: ``"tree"`` (all), ``"leaf"`` (none), or a function from
        key path to the text of a group. See :func:`link`.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params, values=losses)`` takes
      rows ``[K, ...]`` and the K losses, and gives one update. Its state is a :class:`LinkState`;
      ``memory.number`` is theta.

    Reference:
      Xiao, Dong, Zou, Ji: LDC-MTL: balancing multi-task learning through scalable loss discrepancy
      control, arXiv:2502.08585, 2025. The formula is that of the released code.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.ldc_mtl(2)
      >>> update, state = tx.update(rows, tx.init(params), params, values=jnp.array([2.0, 1.0]))
      >>> print(np.asarray(update).round(3), np.asarray(state.weights).round(3))
      [0.269 1.    1.   ] [0.573 0.427]
    """
    rule = ldc_mtl_rule(lam=lam, learning_rate=learning_rate)
    return link(rule, rows, per=per, measure=measure)
