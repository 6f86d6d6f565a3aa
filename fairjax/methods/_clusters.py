"""Spectral clustering of a few items, with static shapes: items and clusters may be masked."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array

LLOYD_STEPS = 20


def spectral_clusters(
    key: Array, affinity: Array, exists: Array, counts: Array, starts: int
) -> Array:
    """Clusters of items for several numbers of clusters, from several starts of k-means each.

    The points are the rows of the first C eigenvectors of ``D^-1/2 A D^-1/2``, each of length 1,
    where D holds the row sums of A.

    Args:
      key: of the starts.
      affinity: A, ``[M, M]``, symmetric and not negative.
      exists: ``[M]``, which items there are.
      counts: ``[K]`` numbers of clusters, in 1 ... M.
      starts: S.

    Returns:
      ``[K, S, M]`` numbers of clusters; those of items that do not exist mean nothing.

    Source: Ng, Jordan, Weiss, On spectral clustering, NeurIPS 2001; starts as in Arthur,
    Vassilvitskii, k-means++, SODA 2007.
    """
    is_pair = exists[:, None] & exists[None, :]
    affinity = jnp.where(is_pair, affinity, 0.0)
    scale = divide(1.0, jnp.sqrt(jnp.sum(affinity, axis=1)))
    # eigenvalues of items that exist are at least -1, so that the others come last
    absent = jnp.diag(jnp.where(exists, 0.0, -2.0))
    _, ascending = jnp.linalg.eigh(scale[:, None] * affinity * scale[None, :] + absent)
    vectors = ascending[:, ::-1]

    def of_count(key: Array, count: Array) -> Array:
        is_used = jnp.arange(len(exists)) < count
        rows = jnp.where(is_used, vectors, 0.0)
        length = jnp.linalg.norm(rows, axis=1, keepdims=True)
        points = divide(rows, length)
        keys = jax.random.split(key, starts)
        return jax.vmap(lambda start: _k_means(start, points, exists, count))(keys)

    return jax.vmap(of_count)(jax.random.split(key, len(counts)), counts)


def _k_means(key: Array, points: Array, exists: Array, count: Array) -> Array:
    """The cluster ``[M]`` of every point ``[M, E]`` after Lloyd's steps."""
    index = jnp.arange(len(points))

    def nearest(centres: Array) -> Array:
        distance = jnp.where(index < count, _squared_distances(points, centres), jnp.inf)
        return jnp.argmin(distance, axis=1)

    def step(_: int, centres: Array) -> Array:
        member = jax.nn.one_hot(nearest(centres), len(points)) * exists[:, None]
        size = jnp.sum(member, axis=0)[:, None]
        mean = divide(jnp.matmul(member.T, points, precision="highest"), size)
        return jnp.where(size > 0, mean, centres)

    first = points[_far_apart(key, points, exists)]
    return nearest(jax.lax.fori_loop(0, LLOYD_STEPS, step, first))


def _far_apart(key: Array, points: Array, exists: Array) -> Array:
    """Points ``[M]`` in the order in which they become centres.

    Each is drawn with a chance in proportion to its squared distance from the nearest one before.
    """
    index = jnp.arange(len(points))
    between = _squared_distances(points, points)

    def choose(c: int, chosen: Array) -> Array:
        is_chosen = index < c
        gap = jnp.min(jnp.where(is_chosen, between[:, chosen], jnp.inf), axis=1)
        chance = jnp.where(exists, jnp.where(c == 0, 1.0, gap), 0.0)
        point = jax.random.categorical(jax.random.fold_in(key, c), jnp.log(chance))
        return chosen.at[c].set(point.astype(chosen.dtype))

    return jax.lax.fori_loop(0, len(points), choose, jnp.zeros_like(index))


def _squared_distances(points: Array, centres: Array) -> Array:
    return jnp.sum(jnp.square(points[:, None] - centres[None, :]), axis=-1)
