"""Dependence of scores on a sensitive attribute that is a number: zero when the scores know nothing
of it.

The block of such an attribute has two columns, ``(known, value * known)``; see
:class:`fairjax.core.types.Attribute`. A notion of
these distances says so: ``from_distance(pearson, (positives,), continuous=True)`` is equal
  opportunity over ages. Of a number
with two values they are what groups have: :func:`pearson` is the correlation ratio, and
  :func:`hsic` the squared MMD times a constant.
"""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.core.masked import divide, keep
from fairjax.core.types import Array
from fairjax.notions import statistics
from fairjax.notions._mmd import gaussian_kernel


def pearson(prob: Array, groups: Array, weight: Array) -> Array:
    """``|cov(p, a)| / (std(p) std(a))``, the absolute Pearson correlation of scores with the
    attribute.

    Zero for all that is not linear dependence: a U-shaped one escapes it, and not :func:`hsic`.

    Args:
      prob: ``[N]``.
      groups: ``[N, 2]``, whether the attribute is known and its value there.
      weight: ``[N]``.

    Returns:
      A scalar in [0, 1]; 0 with gradient 0 when fewer than two rows are known, or where either does
      not vary.

    Raises:
      ValueError: for a block of another width, that of an attribute with levels.
    """
    prob, known, value = _of_number("pearson", prob, groups)
    return jnp.abs(statistics.correlation.of(prob, value, known[:, None], weight)[0][0])


def hsic(bandwidth: Array | float = 0.1, bandwidth_value: Array | float = 1.0):
    """Hilbert-Schmidt independence criterion of scores and attribute, Gaussian kernels, over all
    pairs of rows.

    ``HSIC = sum_ij s_i s_j K'_ij L'_ij``, K' and L' the kernels of scores and values, centred, and
    s the rows' shares of the weight; for equal weights ``tr(K H L H) / n^2``, the biased estimator,
    not normalised. Over a population it is 0 exactly where scores and attribute are independent. Of
    a number with two values ``2 (1 - l) (q (1 - q))^2 MMD^2``, l their kernel
    and q the share of one: at most an eighth of the squared MMD.

    Args:
      bandwidth: of the scores' kernel ``exp(-d^2 / bandwidth^2)``, as of
        :func:`fairjax.notions.gaussian_mmd`.
      bandwidth_value: of the values', which are standardised at the door. Either may be traced.

    Returns:
      ``distance(prob[N], groups[N, 2], weight[N]) -> scalar``, not negative; 0 with gradient 0 when
      fewer than two rows are known.

    Reference:
      Gretton, Bousquet, Smola, Schoelkopf: Measuring statistical dependence with Hilbert-Schmidt
        norms, ALT 2005.
    """

    def distance(prob: Array, groups: Array, weight: Array) -> Array:
        prob, known, value = _of_number("hsic", prob, groups)
        mass = weight * known
        share = divide(mass, jnp.sum(mass))
        both = [
            _centred(gaussian_kernel(width), keep(v, mass), share)
            for width, v in ((bandwidth, prob), (bandwidth_value, value))
        ]
        return share @ (both[0] * both[1]) @ share

    return distance


def _of_number(name: str, prob: Array, groups: Array) -> tuple[Array, Array, Array]:
    """Scores, known and values, in single precision at least: moments of halves are lost."""
    if groups.shape[1] != 2:
        raise ValueError(
            f"{name} is of an attribute that is a number, a block of 2 columns, known and value; "
            "got "
            f"{groups.shape[1]}"
        )
    known, value = groups.astype(jnp.promote_types(groups.dtype, jnp.float32)).T
    return prob.astype(jnp.promote_types(prob.dtype, jnp.float32)), known, value


def _centred(kernel, value: Array, share: Array) -> Array:
    """Kernel matrix ``[N, N]`` less its weighted means over rows and over columns."""
    matrix = kernel(value[:, None] - value[None])
    mean = matrix @ share
    return matrix - mean[:, None] - mean[None] + share @ mean
