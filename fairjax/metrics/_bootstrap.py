"""Bootstrap intervals: over rows of one test set, inside jit, and over runs, on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.core.types import Array, PyTree


class Interval(NamedTuple):
    """A value and the ends of its percentile interval."""

    estimate: PyTree
    low: PyTree
    high: PyTree


def bootstrap(
    key: Array,
    statistic: Callable[[PyTree, Array], PyTree],
    data: PyTree,
    weight: Array,
    draws: int = 200,
    level: float = 0.95,
    batch: int = 8,
) -> Interval:
    """Percentile interval of a statistic under resampling of rows.

    Every draw multiplies the weights by independent Poisson(1) counts. In the limit this is drawing
    N of N rows with replacement, but every shape stays fixed and rows of weight 0 stay out.

    Args:
      key: for the draws.
      statistic: ``(data, weight[N]) -> pytree of arrays``; must take weights that are not 0/1.
      data: first argument of the statistic.
      weight: ``[N]``.
      draws: number of resamples.
      level: coverage.
      batch: draws held in memory at once.

    Returns:
      The statistic on all rows, and the ends. Differences (largest minus smallest rate) are biased
      upwards under resampling when the true gap is near 0; their interval then does not reach 0.
      Ends are NaN if a draw is NaN.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; Poisson counts: Chamandy
    et al., 2012.
    """

    def draw(key):
        counts = jax.random.poisson(key, 1.0, weight.shape).astype(weight.dtype)
        return statistic(data, weight * counts)

    values = jax.lax.map(draw, jax.random.split(key, draws), batch_size=batch)
    tail = (1.0 - level) / 2.0
    low = jax.tree.map(lambda leaf: jnp.quantile(leaf, tail, axis=0), values)
    high = jax.tree.map(lambda leaf: jnp.quantile(leaf, 1.0 - tail, axis=0), values)
    return Interval(statistic(data, weight), low, high)


def interval_over_seeds(
    rng: np.random.Generator, values: np.ndarray, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Percentile interval of the mean over runs, from resampling the runs.

    Args:
      rng: numpy generator.
      values: ``[S, ...]``, one entry per seed.
      draws: number of resamples.
      level: coverage.

    Returns:
      Mean and ends ``[...]``; NaN where a run is NaN: the caller leaves out diverged runs.
    """
    values = np.asarray(values, float)
    # counts times values: one matmul, no [draws, S, ...] copy
    counts = rng.multinomial(len(values), np.full(len(values), 1.0 / len(values)), size=draws)
    means = np.tensordot(counts / len(values), values, axes=1)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    return Interval(values.mean(axis=0), low, high)
