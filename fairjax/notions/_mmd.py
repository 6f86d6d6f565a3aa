"""Squared maximum mean discrepancy (MMD) between the score distributions of groups.

``MMD^2(g, h) = E_gg k + E_hh k - 2 E_gh k`` is the biased (V-) statistic with its diagonal and
without a square root. Of more than two groups it is the mean over pairs of present groups. There
are two ways to the same number:

* over all pairs of rows, for any kernel: ``O(B^2)``;
* by a Fourier series, for the Gaussian kernel on probabilities: ``O(B F)``.

The series is exact to float precision, no random approximation. A Gaussian of bandwidth ``l``
repeated with period ``P`` equals ``sum_m c_m cos(2 pi m d / P)`` with
``c_m = (l sqrt(pi) / P) exp(-(pi m l / P)^2)``. Distances of probabilities lie in [-1, 1]. So with
``P = 1 + 4.3 l`` the nearest copy adds less than ``exp(-4.3^2) = 1e-8``. Terms beyond
``m = 1.37 P / l`` are below 1e-8 too: twenty frequencies are enough for l = 0.1. In this form
``MMD^2 = sum_m c_m |phi_g(m) - phi_h(m)|^2``, a sum of squares that loses no digits near zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import check_membership, check_probabilities, divide, keep, members
from fairjax.core.types import Array
from fairjax.notions.gaps import pairs

_REACH = 4.3  # exp(-4.3^2) = 9e-9: below float32 resolution of a kernel whose largest value is 1


Kernel = Callable[[Array], Array]  # of the difference of two scores


def gaussian_kernel(bandwidth: Array | float) -> Kernel:
    """Kernel ``exp(-d^2 / bandwidth^2)`` of a difference d (no factor 2, as in MinDiff)."""
    return lambda d: jnp.exp(-jnp.square(d / bandwidth))


def laplacian_kernel(bandwidth: Array | float) -> Kernel:
    """Kernel ``exp(-|d| / bandwidth)``; gradient 0 at d = 0."""
    return lambda d: jnp.exp(-jnp.abs(d) / bandwidth)


def mmd(prob: Array, groups: Array, weight: Array, *, kernel: Kernel) -> Array:
    """Squared MMD over all pairs of rows.

    Args:
      prob: ``[N]``.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``.
      kernel: of the difference of two scores: ``gaussian_kernel(0.1)``, ``laplacian_kernel(0.1)``
        or one's own.

    Returns:
      A scalar; 0 with gradient 0 when fewer than two groups are present. The published code returns
      the mean self-kernel there, which pushes scores apart: see :func:`published_mmd`.
    """
    mean_gh, present = _kernel_means(kernel, prob, groups, weight)
    return _mean_over_pairs(mean_gh, present)


def gaussian_mmd(
    prob: Array,
    groups: Array,
    weight: Array,
    *,
    bandwidth: Array | float = 0.1,
    smallest: float | None = None,
) -> Array:
    """Squared MMD with the Gaussian kernel on probabilities, by Fourier series: a fast ``mmd``.

    Args:
      prob: probabilities ``[N]``.
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``.
      bandwidth: ``l`` of ``exp(-d^2 / l^2)``; may be traced (a hyper-parameter).
      smallest: static lower bound of a traced bandwidth. It fixes the number of frequencies: 20 at
        0.1, growing as ``1/smallest``. A bandwidth below it gives NaN rather than a wrong number.

    Returns:
      A scalar, differentiable in the three arrays and in the bandwidth; NaN for a traced score
      outside [0, 1], where the series does not hold.

    Raises:
      ValueError: ``smallest`` is missing and the bandwidth is not a plain number; scores are no
        probabilities, where they can be looked at (see
        :func:`fairjax.core.masked.check_probabilities`).
    """
    if smallest is None:
        if not isinstance(bandwidth, (int, float)):
            raise ValueError(
                "gaussian_mmd: a traced bandwidth needs smallest=..., its static lower bound"
            )
        smallest = float(bandwidth)
    terms = math.ceil(_REACH / math.pi * (1.0 + _REACH * smallest) / smallest)
    check_membership(groups, weight)
    check_probabilities(prob, weight)
    width = jnp.asarray(bandwidth, jnp.float32)
    value = _fourier_mmd(terms, prob.astype(jnp.float32), groups, weight, width)
    too_small = jnp.asarray(bandwidth) < smallest * (1 - 1e-6)
    return jnp.where(too_small, jnp.nan, value)


class _Slopes(NamedTuple):
    """Gradients of the squared MMD."""

    prob: Array  # [N]
    groups: Array  # [N, G]
    weight: Array  # [N]
    bandwidth: Array  # []


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fourier_mmd(terms: int, prob: Array, groups: Array, weight: Array, bandwidth: Array) -> Array:
    value, _ = _fourier_value_and_slopes(terms, prob, groups, weight, bandwidth)
    return value


@partial(_fourier_mmd.defjvp, symbolic_zeros=True)
def _fourier_jvp(
    terms: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Array, Array]:
    # Value and gradient come from the same harmonics, so the gradient is computed with the value.
    value, slopes = _fourier_value_and_slopes(terms, *primals)
    tangent = jnp.zeros_like(value)
    for slope, direction in zip(slopes, tangents, strict=True):
        if not isinstance(direction, jax.custom_derivatives.SymbolicZero):
            tangent = tangent + jnp.sum(slope * direction)
    return value, tangent


def _series(terms: int, bandwidth: Array) -> tuple[Array, Array]:
    """Coefficients ``[F]`` of the Fourier series, and the angle of a difference of 1."""
    period = 1.0 + _REACH * bandwidth
    frequency = jnp.arange(1, terms + 1, dtype=bandwidth.dtype)
    decay = jnp.exp(-jnp.square(math.pi * frequency * bandwidth / period))
    coefficient = 2.0 * bandwidth * math.sqrt(math.pi) / period * decay
    return coefficient, 2.0 * math.pi / period


def _fourier_value_and_slopes(
    terms: int, prob: Array, groups: Array, weight: Array, bandwidth: Array
) -> tuple[Array, _Slopes]:
    # Scores of weight 0 stay in, so that several conditions share one set of harmonics.
    in_range = (prob > -1e-3) & (prob < 1.0 + 1e-3)  # false for NaN
    poison = jnp.where(jnp.any(~in_range & (weight > 0)), jnp.nan, 0.0)
    prob = jnp.where(in_range, prob, 0.0)
    coefficient, step = _series(terms, bandwidth)
    wave = _harmonics(step * prob, terms)

    # phi are the characteristic functions of the groups, [2 F, G]: cosines, then sines
    member = members(groups, weight)
    mass = jnp.sum(member, axis=0)
    phi = divide(wave @ member, mass[None])
    difference = phi[:, :, None] - phi[:, None, :]
    pair = pairs(mass > 0)
    pair_share = divide(pair, jnp.sum(pair))
    coefficients = jnp.concatenate([coefficient, coefficient])
    weighted = coefficients[:, None, None] * difference * pair_share
    value = jnp.sum(weighted * difference)

    # The derivative of a cosine is minus its sine, that of a sine its cosine.
    slope_phi = 4.0 * jnp.sum(weighted, axis=2)
    turned = jnp.concatenate([slope_phi[terms:], -slope_phi[:terms]])
    frequency = jnp.arange(1, terms + 1, dtype=prob.dtype)
    frequencies = jnp.concatenate([frequency, frequency])
    slope_wave = frequencies[:, None] * turned
    share = divide(member, mass[None])
    slope_angle = jnp.sum(share.T * (slope_wave.T @ wave), axis=0)

    # A row of more weight draws its group's mean towards itself.
    centred = wave.T @ slope_phi - jnp.sum(slope_phi * phi, axis=0)[None]
    slope_member = divide(centred, mass[None])
    square = jnp.sum(jnp.square(difference) * pair_share, axis=(1, 2))
    unit = jnp.ones_like(bandwidth)
    _, (slope_coefficient, slope_step) = jax.jvp(partial(_series, terms), (bandwidth,), (unit,))
    by_coefficient = (square[:terms] + square[terms:]) @ slope_coefficient
    slopes = _Slopes(
        prob=step * slope_angle,
        groups=weight[:, None] * slope_member,
        weight=jnp.sum(groups * slope_member, axis=1),
        bandwidth=by_coefficient + slope_step * (slope_angle @ prob),
    )
    poisoned = jax.tree.map(lambda slope: slope + poison, slopes)
    return value + poison, poisoned


def _harmonics(angle: Array, terms: int) -> Array:
    """``cos(m angle)``, then ``sin(m angle)``, for m = 1 .. terms: ``[2 terms, N]``.

    One cosine and one sine are computed; products double them to all the others.
    """
    # Without barriers XLA computes every sine again for every harmonic: 14 times slower.
    first = (jnp.cos(angle)[None], jnp.sin(angle)[None])
    cos, sin = jax.lax.optimization_barrier(first)
    while cos.shape[0] < terms:
        last_cos = cos[-1:]
        last_sin = sin[-1:]
        more_cos = cos * last_cos - sin * last_sin
        more_sin = sin * last_cos + cos * last_sin
        doubled = (jnp.concatenate([cos, more_cos]), jnp.concatenate([sin, more_sin]))
        cos, sin = jax.lax.optimization_barrier(doubled)
    return jnp.concatenate([cos[:terms], sin[:terms]])


def published_mmd(prob: Array, groups: Array, weight: Array, *, kernel: Kernel) -> Array:
    """The MMD as coded by Wang et al. (2021), for two groups.

    Where one group is missing it is the mean self-kernel of the other.
    """
    check_membership(groups, weight)
    if groups.shape[1] != 2:
        raise ValueError(
            f"published_mmd is for two groups, got {groups.shape[1]}; use mmd or gaussian_mmd"
        )
    mean_gh, _ = _kernel_means(kernel, prob, groups, weight)
    return mean_gh[0, 0] + mean_gh[1, 1] - 2.0 * mean_gh[0, 1]


def adjusted_mmd(prob: Array, groups: Array, weight: Array, *, kernel: Kernel) -> Array:
    """MinDiff's adjusted MMD: ``MMD^2 / (V_1 + V_0 + 0.01)``, no gradient through the denominator.

    ``V_g = (1 - E_gg k) * mean(w^2) / (n_g mean(w)^2)`` within group g (model-remediation 0.1.6 and
    later). Of more than two groups, the mean over pairs is divided by the sum of all ``V_g``.
    """

    def centred(distance: Array) -> Array:
        # a constant changes no MMD, but its rounding would be divided by 0.01
        return kernel(distance) - kernel(jnp.zeros((), distance.dtype))

    mean_gh, present = _kernel_means(centred, prob, groups, weight)
    member = members(groups, weight)
    squares_g = jnp.sum(jnp.square(member), axis=0)
    share_g = divide(squares_g, jnp.square(jnp.sum(member, axis=0)))
    spread_g = -jnp.diagonal(mean_gh)
    variance = jnp.sum(jnp.where(present, spread_g, 0.0) * share_g)
    square = _mean_over_pairs(mean_gh, present)
    return square / (jax.lax.stop_gradient(variance) + 0.01)


def _kernel_means(kernel: Kernel, prob: Array, groups: Array, weight: Array) -> tuple[Array, Array]:
    """Mean kernel between groups ``[G, G]``, and which groups are present ``[G]``."""
    prob = keep(prob, weight)
    member = members(groups, weight)
    mass = jnp.sum(member, axis=0)
    share = divide(member, mass[None])
    kernel_nn = kernel(prob[:, None] - prob[None, :])
    return share.T @ kernel_nn @ share, mass > 0


def _mean_over_pairs(mean_gh: Array, present: Array) -> Array:
    """Squared MMD from mean kernels ``[G, G]``, mean over pairs of different present groups."""
    self_kernel = jnp.diagonal(mean_gh)
    square = self_kernel[:, None] + self_kernel[None] - 2.0 * mean_gh
    pair = pairs(present)
    return divide(jnp.sum(jnp.where(pair > 0, square, 0.0)), jnp.sum(pair))
