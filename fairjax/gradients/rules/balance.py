"""Rules that weigh losses by their size or pace: DWA, uncertainty weighting, IMTL-L, GradNorm."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import divide
from fairjax.core.types import Array, PyTree
from fairjax.gradients.gram_matrix import present
from fairjax.gradients.task_space import Rule, linked


class Pace(NamedTuple):
    """Losses over periods of steps."""

    total: Array  # [K] of this period
    seen: Array  # [K] steps of this period with the row present
    last: Array  # [K] mean of the last period
    before: Array  # [K] mean of the period before it
    step: Array  # []


@linked
def dwa(*, every, temperature=2.0) -> Rule:
    """Dynamic weight average: ``w = K softmax(r / temperature)``, ``r_k`` the ratio of the last two periods' losses.

    Weights are 1 in the first two periods.

    Args:
      every: steps of a period; the paper's is an epoch.
      temperature: of the softmax.

    Reference:
      Liu, Johns, Davison: End-to-end multi-task learning with attention, CVPR 2019.
    """

    def init(rows: int) -> Pace:
        return Pace(*(jnp.zeros(rows) for _ in range(4)), jnp.zeros((), jnp.int32))

    def weights(gram, values, memory: Pace, key):
        ready = memory.step >= 2 * every
        ratio = jnp.where(ready & (memory.before > 0), divide(memory.last, memory.before), 1.0)
        w = jnp.where(ready, gram.shape[0] * jax.nn.softmax(ratio / temperature), 1.0)
        here = present(gram)
        total, seen = memory.total + jnp.where(here, values, 0.0), memory.seen + here
        step = memory.step + 1
        over = step % every == 0
        last = jnp.where(over, jnp.where(seen > 0, divide(total, seen), memory.last), memory.last)
        now = Pace(
            jnp.where(over, 0.0, total),
            jnp.where(over, 0.0, seen),
            last,
            jnp.where(over, memory.last, memory.before),
            step,
        )
        return w.astype(gram.dtype), now, jnp.zeros(())

    return Rule(init, weights, needs_values=True)


class Learned(NamedTuple):
    """One number per row that learns with an optimizer of its own."""

    number: Array  # [K]
    optimizer: PyTree


def learned(start: float, learning_rate, decay=0.0) -> tuple:
    """``init`` and ``learn(gradient, memory)`` of numbers that descend by Adam, with an L2 penalty ``decay``."""
    adam = optax.chain(optax.add_decayed_weights(decay), optax.adam(learning_rate))

    def init(rows: int) -> Learned:
        number = jnp.full(rows, start)
        return Learned(number, adam.init(number))

    def learn(gradient: Array, memory: Learned) -> Learned:
        updates, state = adam.update(gradient, memory.optimizer, memory.number)
        return Learned(memory.number + updates, state)

    return init, learn


@linked
def uncertainty(*, learning_rate=0.025, start=-0.5) -> Rule:
    """Uncertainty weighting: descends ``sum_k L_k / (2 e^{s_k}) + s_k / 2`` in parameters and in s; ``w = 1 / (2 e^s)``.

    Args:
      learning_rate: of s, by Adam.
      start: of s.

    Reference:
      Kendall, Gal, Cipolla: Multi-task learning using uncertainty to weigh losses, CVPR 2018.
    """
    init, learn = learned(start, learning_rate)

    def weights(gram, values, memory: Learned, key):
        w = 0.5 * jnp.exp(-memory.number)
        gradient = jnp.where(present(gram), 0.5 - values * w, 0.0)
        return w.astype(gram.dtype), learn(gradient, memory), jnp.zeros(())

    return Rule(init, weights, needs_values=True)


@linked
def imtl_l(*, learning_rate=0.025) -> Rule:
    """IMTL-L, impartial losses: descends ``sum_k e^{s_k} L_k - s_k`` in parameters and in s; ``w = e^s``.

    Args:
      learning_rate: of s, by Adam; s starts at 0.

    Reference:
      Liu et al.: Towards impartial multi-task learning, ICLR 2021.
    """
    init, learn = learned(0.0, learning_rate)

    def weights(gram, values, memory: Learned, key):
        w = jnp.exp(memory.number)
        gradient = jnp.where(present(gram), w * values - 1.0, 0.0)
        return w.astype(gram.dtype), learn(gradient, memory), jnp.zeros(())

    return Rule(init, weights, needs_values=True)


class Norms(NamedTuple):
    """Memory of GradNorm: weights with their optimizer, and each loss when it was first seen."""

    weights: Learned
    first: Array  # [K], 0 until seen


@linked
def gradnorm(*, alpha=1.5, learning_rate=0.025) -> Rule:
    """GradNorm: weights such that weighted gradient norms follow ``mean_j(w_j n_j) r_k^alpha``.

    ``n_k = ||g_k||``, ``r_k = (L_k / L_k(0)) / mean_j(L_j / L_j(0))``. The target is a constant, the gradient on ``w_k``
    is ``sign(w_k n_k - target_k) n_k``, taken by Adam; weights stay above 0.001 and add up to K. The paper takes norms on
    the last shared layer: pass ``measure``.

    Args:
      alpha: pull towards equal training pace.
      learning_rate: of the weights.

    Reference:
      Chen, Badrinarayanan, Lee, Rabinovich: GradNorm, ICML 2018.
    """
    init_weights, learn = learned(1.0, learning_rate)

    def init(rows: int) -> Norms:
        return Norms(init_weights(rows), jnp.zeros(rows))

    def weights(gram, values, memory: Norms, key):
        here, w = present(gram), memory.weights.number
        first = jnp.where((memory.first == 0) & here, values, memory.first)
        gradient = gradnorm_gradient(gram, values, w, first, alpha)
        after = learn(gradient, memory.weights)
        number = jnp.maximum(after.number, 1e-3)
        after = after._replace(number=number * number.shape[0] / jnp.sum(number))
        return w.astype(gram.dtype), Norms(after, first), jnp.zeros(())

    return Rule(init, weights, needs_values=True)


def gradnorm_gradient(gram: Array, values: Array, weights: Array, first: Array, alpha) -> Array:
    """``d/dw_k`` of ``sum_k |w_k n_k - target_k|``, target constant, ``[K]``; 0 for absent rows."""
    here, norm = present(gram), jnp.sqrt(jnp.diagonal(gram))
    count = jnp.maximum(jnp.sum(here), 1)
    pace = jnp.where(here, divide(values, first), 0.0)
    rate = divide(pace, jnp.sum(pace) / count)
    target = jnp.sum(weights * norm) / count * jnp.maximum(rate, 0.0) ** alpha
    return jnp.where(here, jnp.sign(weights * norm - target) * norm, 0.0)
