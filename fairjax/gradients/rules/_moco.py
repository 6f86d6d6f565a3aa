"""MoCo: slow weights of least norm on running rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax

from fairjax.core.types import Array, KeyPath
from fairjax.gradients._link import link
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.rules._simplex import project_on_simplex
from fairjax.gradients.rules._tracked import tracked
from fairjax.gradients.task_space import Rule


class OnSimplex(NamedTuple):
    """Memory of MoCo's weights."""

    weights: Array  # [K], of sum 1
    step: Array  # []


def moco(
    rows: int,
    *,
    beta: Array | float = 0.5,
    gamma: Array | float = 0.1,
    sigma: Array | float = 0.5,
    rho: Array | float = 0.0,
    measure: Callable[[KeyPath], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """MoCo, multi-objective gradient correction: MGDA without the bias of single batches.

    ``y_k += beta_t (g_k - y_k)`` from 0, and ``w`` descends ``w' (Y Y' + rho I) w / 2`` on the
    simplex by one projected step of size ``gamma_t``; ``u = sum_k w_k y_k``. Both ``beta_t`` and
    ``gamma_t`` fall as ``t^-sigma``. It keeps K copies of the parameters.

    Args:
      rows: K, the number of losses.
      beta: how far the running rows move in the first step, from 0 to 1.
      gamma: step size of the weights; in units of one over a squared length of a row.
      sigma: how fast both fall.
      rho: penalty of unequal weights.
      measure: from key path to bool: the leaves that the Gram matrix is made of. Default: all. See
        :func:`link`.

    Returns:
      An aggregator, first in ``optax.chain``. ``update(rows, state, params)`` takes rows
      ``[K, ...]`` and gives one update. It needs no extra argument. Its state is a
      :class:`TrackedState` with a :class:`LinkState`. The link has no rule in task space.

    Reference:
      Fernando, Shen, Liu, Chaudhury, Murugesan, Chen: Mitigating gradient bias in multi-objective
      learning: a provably convergent approach, ICLR 2023.

    Example:
      >>> import fairjax
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> params = jnp.zeros(3)
      >>> tx = fairjax.gradients.moco(2, beta=1.0, gamma=0.01)
      >>> update, state = tx.update(rows, tx.init(params), params)
      >>> print(np.asarray(update).round(3), np.asarray(state.link.weights).round(3))
      [0.5 1.  1. ] [0.55 0.45]
    """

    def init(rows: int) -> OnSimplex:
        return OnSimplex(jnp.full(rows, 1.0 / rows), jnp.zeros((), jnp.int32))

    def weights(gram, values, memory: OnSimplex, key):
        step = memory.step + 1
        slope = gram @ memory.weights + rho * memory.weights
        w = project_on_simplex(memory.weights - gamma / step**sigma * slope, present(gram))
        return w, OnSimplex(w, step), jnp.zeros(())

    inner = link(Rule(init, weights), rows, measure=measure)
    return tracked(inner, rows, lambda step: beta / step**sigma)
