r"""Squared maximum mean discrepancy between the score distributions of groups.

``MMD^2(g, h) = E_gg k + E_hh k - 2 E_gh k``, the biased (V-) statistic with its diagonal, no square
root; more than two
groups: the mean over pairs of present groups. Two ways to the same number:

* over all pairs of rows, any kernel: ``O(B^2)``;
* for the Gaussian kernel on probabilities, by its Fourier series: ``O(B F)``.

The second is exact to float precision, not a random approximation. A Gaussian of bandwidth ``l``
repeated with period ``P`` equals ``sum_m c_m cos(2 pi m d / P)`` with ``c_m = (l sqrt(pi) / P)
exp(-(pi m l / P)^2)``. Distances of probabilities never leave [-1, 1], so with ``P = 1 + 4.3 l``
the nearest copy adds less than ``exp(-4.3^2) = 1e-8``, and terms beyond ``m = 1.37 P / l`` are
below 1e-8 too: twenty frequencies for l = 0.1. In this form ``MMD^2 = sum_m c_m |phi_g(m) -
phi_h(m)|^2``, a sum of squares: no cancellation near zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array

_REACH = 4.3  # exp(-4.3^2) = 9e-9: below float32 resolution of a kernel whose largest value is 1


def gaussian_kernel(bandwidth: Array | float) -> Callable[[Array], Array]:
    """Kernel ``exp(-d^2 / bandwidth^2)`` of a difference d (no factor 2, as in MinDiff)."""
    return lambda d: jnp.exp(-jnp.square(d / bandwidth))


def laplacian_kernel(bandwidth: Array | float) -> Callable[[Array], Array]:
    """Kernel ``exp(-|d| / bandwidth)``; gradient 0 at d = 0."""
    return lambda d: jnp.exp(-jnp.abs(d) / bandwidth)


def mmd(kernel: Callable[[Array], Array]):
    """Squared MMD over all pairs of rows.

    Args:
      kernel: of the difference of two scores, ``gaussian_kernel(0.1)`` or ``laplacian_kernel(0.1)``
        or one's own.

    Returns:
      ``distance(prob[N], groups[N, G], weight[N]) -> scalar``, 0 with gradient 0 when fewer than
      two groups are present (the published code returns the mean self-kernel there, a repulsion:
      :func:`published_mmd`).
    """

    def distance(prob: Array, groups: Array, weight: Array) -> Array:
        mean_gh, present = _kernel_means(kernel, prob, groups, weight)
        own = jnp.diagonal(mean_gh)
        return _mean_over_pairs(own[:, None] + own[None] - 2.0 * mean_gh, present)

    return distance


def gaussian_mmd(bandwidth: Array | float, smallest: float | None = None):
    """Squared MMD with the Gaussian kernel on probabilities in [0, 1], by Fourier series: the fast
    form of ``mmd``.

    Args:
      bandwidth: ``l`` of ``exp(-d^2 / l^2)``; may be traced (a hyper-parameter).
      smallest: static lower bound of a traced bandwidth; it fixes the number of frequencies, 20 at
        0.1 and growing as ``1/smallest``. A bandwidth below it gives NaN rather than a wrong
        number.

    Returns:
      ``distance(prob[N], groups[N, G], weight[N]) -> scalar``, differentiable in ``prob`` alone;
      NaN for a score outside [0, 1], where the series does not hold.

    Raises:
      ValueError: when ``smallest`` is missing and the bandwidth is not a plain number.
    """
    if smallest is None:
        if not isinstance(bandwidth, (int, float)):
            raise ValueError(
                "gaussian_mmd: a traced bandwidth needs smallest=..., its static lower bound"
            )
        smallest = float(bandwidth)
    terms = math.ceil(_REACH / math.pi * (1.0 + _REACH * smallest) / smallest)

    def distance(prob: Array, groups: Array, weight: Array) -> Array:
        value = _fourier_mmd(
            terms, prob.astype(jnp.float32), groups, weight, jnp.asarray(bandwidth, jnp.float32)
        )
        return jnp.where(jnp.asarray(bandwidth) < smallest * (1 - 1e-6), jnp.nan, value)

    return distance


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fourier_mmd(terms: int, prob: Array, groups: Array, weight: Array, bandwidth: Array) -> Array:
    return _fourier_value_and_slope(terms, prob, groups, weight, bandwidth)[0]


@_fourier_mmd.defjvp
def _fourier_jvp(terms: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # differentiable in the scores alone. The gradient is found once, beside the value, from the
    # same harmonics; every row that contains this term then scales it
    value, slope = _fourier_value_and_slope(terms, *primals)
    return value, slope @ tangents[0]


def _fourier_value_and_slope(
    terms: int, prob: Array, groups: Array, weight: Array, bandwidth: Array
) -> tuple[Array, Array]:
    """The squared MMD and its gradient in ``prob``, ``[N]``."""
    # rows of another condition stay in, under weight 0: tasks' conditions then share one set of
    # harmonics
    void = ~((prob > -1e-3) & (prob < 1.0 + 1e-3))  # NaN too
    poison = jnp.where(jnp.any(void & (weight > 0)), jnp.nan, 0.0)
    period = 1.0 + _REACH * bandwidth
    m = jnp.arange(1, terms + 1, dtype=prob.dtype)
    c = (
        2.0
        * bandwidth
        * math.sqrt(math.pi)
        / period
        * jnp.exp(-jnp.square(math.pi * m * bandwidth / period))
    )
    step = 2.0 * math.pi / period
    waves = _harmonics(step * jnp.where(void, 0.0, prob), terms)
    member = groups * weight[:, None]
    mass = jnp.sum(member, axis=0)
    phi = divide(waves @ member, mass[None])  # [2 F, G], the groups' characteristic functions
    pair = _pairs(mass > 0)
    gap = (
        jnp.concatenate([c, c])[:, None, None]
        * (phi[:, :, None] - phi[:, None, :])
        * divide(pair, jnp.sum(pair))
    )
    value = jnp.sum(gap * (phi[:, :, None] - phi[:, None, :]))
    pull = 4.0 * jnp.sum(gap, axis=2)  # d value / d phi
    turn = step * jnp.concatenate([m, m])[:, None] * jnp.concatenate([pull[terms:], -pull[:terms]])
    return value + poison, jnp.sum(divide(member, mass[None]).T * (turn.T @ waves), axis=0) + poison


def _harmonics(angle: Array, terms: int) -> Array:
    """``cos(m angle)`` then ``sin(m angle)`` for m = 1 .. terms, ``[2 terms, N]``: one sine, then
    doubling by products.
    """
    # without the barriers XLA fuses the chain and computes every sine again for every harmonic, 14
    # times slower
    cos, sin = jax.lax.optimization_barrier((jnp.cos(angle)[None], jnp.sin(angle)[None]))
    while cos.shape[0] < terms:
        c, s = cos[-1:], sin[-1:]
        cos, sin = jax.lax.optimization_barrier(
            (jnp.concatenate([cos, cos * c - sin * s]), jnp.concatenate([sin, sin * c + cos * s]))
        )
    return jnp.concatenate([cos[:terms], sin[:terms]])


def published_mmd(kernel: Callable[[Array], Array]):
    """The MMD as coded by Wang et al. (2021): two groups, and the self-kernel when one of them is
    missing.
    """

    def distance(prob: Array, groups: Array, weight: Array) -> Array:
        if groups.shape[1] != 2:
            raise ValueError(
                f"published_mmd is defined for two groups, got {groups.shape[1]}; use mmd or "
                "gaussian_mmd"
            )
        mean_gh, _ = _kernel_means(kernel, prob, groups, weight)
        return mean_gh[0, 0] + mean_gh[1, 1] - 2.0 * mean_gh[0, 1]

    return distance


def adjusted_mmd(kernel: Callable[[Array], Array]):
    """MinDiff's adjusted MMD: ``MMD^2 / (V_1 + V_0 + 0.01)``, no gradient through the denominator.

    For two groups; with more, the mean over pairs is divided by the sum of all ``V_g``. ``V_g = (1
    - E_gg k) * mean(w^2) / (n_g mean(w)^2)`` within group g (model-remediation 0.1.6 and later).
    """

    def distance(prob: Array, groups: Array, weight: Array) -> Array:
        mean_gh, present = _kernel_means(kernel, prob, groups, weight)
        own = jnp.diagonal(mean_gh)
        w = groups * weight[:, None]
        share = divide(jnp.sum(jnp.square(w), axis=0), jnp.square(jnp.sum(w, axis=0)))
        variance = jnp.sum(jnp.where(present, kernel(jnp.zeros(())) - own, 0.0) * share)
        square = _mean_over_pairs(own[:, None] + own[None] - 2.0 * mean_gh, present)
        return square / (jax.lax.stop_gradient(variance) + 0.01)

    return distance


def _kernel_means(kernel, prob: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
    """Mean kernel between groups ``[G, G]`` and which groups are present ``[G]``."""
    inside = jnp.where(weight > 0, prob, 0.0)
    member = groups * weight[:, None]
    mass = jnp.sum(member, axis=0)
    share = divide(member, mass[None])
    return share.T @ kernel(inside[:, None] - inside[None, :]) @ share, mass > 0


def _mean_over_pairs(square: Array, present: Array) -> Array:
    """Mean of ``square[G, G]`` over pairs of different present groups."""
    pair = _pairs(present)
    return divide(jnp.sum(jnp.where(pair > 0, square, 0.0)), jnp.sum(pair))


def _pairs(present: Array) -> Array:
    """1 for pairs of different present groups, ``[G, G]``."""
    return (present[:, None] & present[None] & ~jnp.eye(present.shape[0], dtype=bool)).astype(
        jnp.float32
    )
