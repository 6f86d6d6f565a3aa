"""Dependence of scores on a sensitive attribute that is a number: zero where they are independent.

The block of such an attribute has two columns, ``(known, value * known)``; see
:class:`fairjax.core.types.Attribute`. A notion of these distances says so:
``from_distance(pearson, (positives,), continuous=True)`` is equal opportunity over ages. Of a
number with two values they agree with the distances of groups: :func:`pearson` is the correlation
ratio, and :func:`hsic` is the squared MMD times a constant.
"""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.core.masked import check_membership, divide, keep
from fairjax.core.types import Array
from fairjax.notions import statistics
from fairjax.notions._mmd import gaussian_kernel


def pearson(prob: Array, groups: Array, weight: Array) -> Array:
    """Absolute Pearson correlation of scores and attribute, ``|cov(p, a)| / (std(p) std(a))``.

    It sees linear dependence only. :func:`hsic` sees a U-shaped one too.

    Args:
      prob: ``[N]``.
      groups: ``[N, 2]``, whether the attribute is known and its value where it is.
      weight: ``[N]``.

    Returns:
      A scalar in [0, 1]; 0 with gradient 0 when fewer than two rows are known, or where scores or
      values do not vary.

    Raises:
      ValueError: the block has another width, that of an attribute with levels.
    """
    prob, known, value = _columns("pearson", prob, groups)
    correlation, _ = statistics.correlation.of(prob, value, known[:, None], weight)
    return jnp.abs(correlation[0])


def hsic(
    prob: Array,
    groups: Array,
    weight: Array,
    *,
    bandwidth: Array | float = 0.1,
    bandwidth_value: Array | float = 1.0,
) -> Array:
    """Hilbert-Schmidt independence criterion of scores and attribute, over all pairs of rows.

    ``HSIC = sum_ij s_i s_j K'_ij L'_ij``, with the centred Gaussian kernels K' of scores and L' of
    values, and the rows' shares s of the weight. With equal weights it is ``tr(K H L H) / n^2``,
    the biased estimator, not normalised. Over a population it is 0 exactly where scores and
    attribute are independent. Of a number with two values it is ``2 (1 - l) (q (1 - q))^2 MMD^2``
    with their kernel l and the share q of one of them: at most an eighth of the squared MMD.

    Args:
      prob: as of :func:`pearson`.
      groups: as of :func:`pearson`.
      weight: as of :func:`pearson`.
      bandwidth: of the scores' kernel ``exp(-d^2 / bandwidth^2)``, as of
        :func:`fairjax.notions.gaussian_mmd`; may be traced.
      bandwidth_value: of the values' kernel; values are standardised when data are read. May be
        traced.

    Returns:
      A scalar that is not negative; 0 with gradient 0 when fewer than two rows are known.

    Reference:
      Gretton, Bousquet, Smola, Schoelkopf: Measuring statistical dependence with Hilbert-Schmidt
      norms, ALT 2005.
    """
    prob, known, value = _columns("hsic", prob, groups)
    mass = weight * known
    share = divide(mass, jnp.sum(mass))
    kernel_prob = _centred(gaussian_kernel(bandwidth), keep(prob, mass), share)
    kernel_value = _centred(gaussian_kernel(bandwidth_value), keep(value, mass), share)
    return share @ (kernel_prob * kernel_value) @ share


def _columns(name: str, prob: Array, groups: Array) -> tuple[Array, Array, Array]:
    """Scores, known and values, in single precision at least: moments lose the digits of halves."""
    check_membership(groups, prob)
    if groups.shape[1] != 2:
        raise ValueError(
            f"{name} is for an attribute that is a number, whose block has 2 columns, known and "
            f"value; got {groups.shape[1]} columns"
        )
    known, value = groups.astype(jnp.promote_types(groups.dtype, jnp.float32)).T
    return prob.astype(jnp.promote_types(prob.dtype, jnp.float32)), known, value


def _centred(kernel, value: Array, share: Array) -> Array:
    """Kernel matrix ``[N, N]`` less its weighted means over rows and over columns."""
    matrix = kernel(value[:, None] - value[None])
    mean = matrix @ share
    return matrix - mean[:, None] - mean[None] + share @ mean
