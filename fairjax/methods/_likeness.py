"""How alike the parameters of two tasks are, and groups of tasks that are alike.

A kernel ``W [inputs, outputs]`` is compared by what it does with its inputs; both kernels must have
the same inputs, and may have other outputs. Biases do not count.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array

# kernels [T, inputs, outputs] -> [T, T]
Likeness = Callable[[Array], Array]


def cka(kernels: Array) -> Array:
    """Linear centred kernel alignment of every pair of kernels.

    ``||A'B||^2 / (||A'A|| ||B'B||)`` in Frobenius norms, with the mean over inputs taken off A and
    B. It is 1 for ``B = c A Q + constant rows`` with Q orthogonal and any sign of c, and about
    ``outputs / (inputs + outputs)`` for kernels of independent numbers; see :func:`chance_level`.

    Args:
      kernels: ``[T, inputs, outputs]``.

    Returns:
      ``[T, T]`` in [0, 1]; 0 where a kernel is constant over its inputs.

    Source: Kornblith, Norouzi, Lee, Hinton, Similarity of neural network representations revisited,
    ICML 2019.
    """
    return _normalised(_cross_norms(_centred(kernels)))


def debiased_cka(kernels: Array) -> Array:
    """As :func:`cka`, with the unbiased estimator of HSIC: about 0 for independent kernels.

    With ``K = A A'`` and ``L = B B'`` without their diagonals, of n inputs::

        HSIC = (tr(K L) + 1'K1 1'L1 / ((n - 1)(n - 2)) - 2 1'K L 1 / (n - 2)) / (n (n - 3))

    Args:
      kernels: ``[T, inputs, outputs]`` with at least 4 inputs.

    Source: Song, Smola, Gretton, Bedo, Borgwardt, Feature selection via dependence maximization,
    JMLR 2012; for CKA: Nguyen, Raghu, Kornblith, ICLR 2021.
    """
    inputs = kernels.shape[1]
    gram = jnp.einsum("tio,tjo->tij", kernels, kernels, precision="highest")
    gram = gram * (1.0 - jnp.eye(inputs))
    flat = gram.reshape(len(gram), -1)
    row_sum = jnp.sum(gram, axis=2)
    total = jnp.sum(row_sum, axis=1)
    traces = jnp.matmul(flat, flat.T, precision="highest")
    sums = jnp.matmul(row_sum, row_sum.T, precision="highest")
    hsic = traces + jnp.outer(total, total) / ((inputs - 1) * (inputs - 2))
    return _normalised(hsic - 2.0 * sums / (inputs - 2))


def cosine(kernels: Array) -> Array:
    """The cosine between kernels as vectors; unlike :func:`cka` it sees signs.

    Args:
      kernels: ``[T, inputs, outputs]``.
    """
    flat = kernels.reshape(len(kernels), -1)
    return _normalised(jnp.matmul(flat, flat.T, precision="highest"))


def chance_level(inputs: int, outputs: int) -> float:
    """About the :func:`cka` of two kernels of independent normal numbers."""
    return outputs / (inputs + outputs)


def _centred(kernels: Array) -> Array:
    return kernels - jnp.mean(kernels, axis=1, keepdims=True)


def _cross_norms(kernels: Array) -> Array:
    """``||A'B||^2`` of every pair, one row at a time: all products would fill the memory."""

    def row(kernel: Array) -> Array:
        products = jnp.einsum("io,tip->top", kernel, kernels, precision="highest")
        return jnp.sum(products**2, axis=(1, 2))

    return jax.lax.map(row, kernels)


def _normalised(products: Array) -> Array:
    norm = jnp.sqrt(jnp.maximum(jnp.diagonal(products), 0.0))
    return divide(products, jnp.outer(norm, norm))


def merged_groups(likeness: Array, group: Array, threshold: Array | float) -> Array:
    """Groups of tasks after the likest pairs of groups were merged.

    The likest pair that reaches the threshold is merged, and neither is merged again; then the
    next, as long as there is one. Of equal pairs the first one counts. So groups at most halve.

    Args:
      likeness: ``[T, T]``, symmetric; that of two groups is the entry of their labels.
      group: ``[T]``, the label of every task's group: its smallest task.
      threshold: at least this alike.

    Returns:
      ``[T]`` labels.
    """
    tasks = likeness.shape[0]
    index = jnp.arange(tasks, dtype=group.dtype)
    is_label = group == index
    is_pair = is_label[:, None] & is_label[None, :] & (index[:, None] < index[None, :])
    open_pairs = jnp.where(is_pair & (likeness >= threshold), likeness, -jnp.inf)

    def merge(_: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        group, pairs = carry
        first, second = jnp.divmod(jnp.argmax(pairs).astype(group.dtype), tasks)
        found = pairs[first, second] > -jnp.inf
        group = jnp.where(found & (group == second), first, group)
        touched = (index == first) | (index == second)
        closed = found & (touched[:, None] | touched[None, :])
        return group, jnp.where(closed, -jnp.inf, pairs)

    merged, _ = jax.lax.fori_loop(0, tasks // 2, merge, (group, open_pairs))
    return merged
