"""How much all scores of a row together tell about its group, beyond each score alone: distances between joint laws.

Both distances add up squares over tasks: divide scores by one fixed deviation per task first, the same before and after a
repair, unless they share a unit. Rows of weight 0 and rows without a group do not count.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.masked import divide, keep
from fairjax.types import Array

Distance = Callable[[Array, Array, Array], Array]  # scores[N, T], groups[N, G], weight[N] -> scalar


class Beside(NamedTuple):
    """A distance beside what it would be if groups were drawn by lot."""

    value: Array
    floor: Array  # mean over draws
    p_value: Array  # share of draws, the data counted as one, that reach the value


def largest(value: Array, there: Array) -> Array:
    """The largest over the pairs that are there; 0 if there is none."""
    return jnp.max(jnp.where(there, value, 0.0), initial=0.0)


def average(value: Array, there: Array) -> Array:
    """The mean over the pairs that are there; 0 if there is none."""
    return divide(jnp.sum(jnp.where(there, value, 0.0)), jnp.sum(there))


def sliced_wasserstein(key: Array, directions: int = 128, over: Callable[[Array, Array], Array] = largest) -> Distance:
    """Mean over random directions of the squared Wasserstein distance of groups' projected scores.

    ``mean_d W_2^2(d . scores | g, d . scores | h)``, ``d`` uniform on the sphere: 0 only if the joint laws are equal. At most
    the groups' ``W_2^2``; of a shift of length ``s`` it is ``s^2 / T``.

    Args:
      key: for the directions.
      directions: how many.
      over: pairs' values and which pairs have both groups, to a scalar.

    Returns:
      ``distance(scores[N, T], groups[N, G], weight[N])``, in squared units of the scores.

    Reference:
      Rabin et al., SSVM 2011; computed by OTT (``tools.sliced``).
    """
    def distance(x, a, b):
        from ott.tools.sliced import sliced_wasserstein
        return sliced_wasserstein(x, x, a, b, n_proj=directions, rng=key)[0]
    return _between_groups(distance, over)


def sinkhorn_divergence(epsilon: float = 0.05, over: Callable[[Array, Array], Array] = largest) -> Distance:
    """Entropic transport cost between groups, less the mean of what each costs against itself.

    Args:
      epsilon: of the entropy, in squared units of the scores.
      over: as in :func:`sliced_wasserstein`.

    Returns:
      ``distance(scores[N, T], groups[N, G], weight[N])``, in squared units of the scores; near ``W_2^2`` for small
      ``epsilon``. Time and memory grow with ``N^2``: take a few thousand rows at most.

    Reference:
      Genevay et al., AISTATS 2018; Feydy et al., AISTATS 2019; computed by OTT (``tools.sinkhorn_divergence``).
    """
    def distance(x, a, b):
        from ott.tools.sinkhorn_divergence import sinkdiv
        return sinkdiv(x, x, epsilon=epsilon, a=a, b=b)[0]
    return _between_groups(distance, over)


def group_correlations(scores: Array, groups: Array, weight: Array) -> Array:
    """Correlation between tasks in each group.

    Args:
      scores: ``[N, T]``.
      groups: membership ``[N, G]``.
      weight: ``[N]``.

    Returns:
      ``[G, T, T]``; NaN for an absent group and beside a task that does not vary in it.
    """
    scores = keep(scores, weight[:, None])

    def of_group(w):
        centred = scores - divide(w @ scores, jnp.sum(w))
        cov = (w[:, None] * centred).T @ centred
        deviation = jnp.sqrt(jnp.diag(cov))
        return divide(cov, deviation[:, None] * deviation, jnp.nan)
    return jax.vmap(of_group, 1)(groups * weight[:, None])


def beside_floor(key: Array, distance: Distance, scores: Array, groups: Array, weight: Array, draws: int = 20) -> Beside:
    """A distance between groups, and the same with groups dealt out again at random: what samples of this size show anyway.

    Args:
      key: for the draws.
      distance: ``(scores, groups, weight) -> scalar``.
      scores: ``[N, T]``.
      groups: membership ``[N, G]``.
      weight: ``[N]``; weights stay with their rows.
      draws: how often groups are dealt out.

    Returns:
      :class:`Beside`: the smallest possible ``p_value`` is ``1 / (draws + 1)``.
    """
    drawn = jax.lax.map(lambda k: distance(scores, _dealt(k, groups, weight), weight), jax.random.split(key, draws))
    value = distance(scores, groups, weight)
    return Beside(value, jnp.mean(drawn), (1 + jnp.sum(drawn >= value)) / (draws + 1))


def _dealt(key: Array, groups: Array, weight: Array) -> Array:
    """Groups in another order among the rows that count; nobody else's change."""
    counts = (weight > 0) & jnp.any(groups > 0, axis=1)
    shuffled = jnp.argsort(jnp.where(counts, jax.random.uniform(key, weight.shape), 2.0))
    return jnp.where(counts[:, None], groups[shuffled[jnp.cumsum(counts) - 1]], groups)


def _between_groups(distance: Callable[[Array, Array, Array], Array], over: Callable[[Array, Array], Array]) -> Distance:
    """``distance(x[N, T], a[N], b[N])`` between masses on the same points, over all pairs of groups."""
    def between(scores: Array, groups: Array, weight: Array) -> Array:
        _need_ott()
        mass_ng = groups * weight[:, None]
        total_g = jnp.sum(mass_ng, axis=0)
        # an absent group borrows the pool's law, so that its pairs are finite; they do not count
        law_ng = jnp.where(total_g > 0, divide(mass_ng, total_g[None]), divide(weight, jnp.sum(weight))[:, None])
        first, second = jnp.array(list(itertools.combinations(range(groups.shape[1]), 2)), int).reshape(-1, 2).T
        points = keep(scores, weight[:, None])
        value = jax.lax.map(lambda p: distance(points, law_ng[:, p[0]], law_ng[:, p[1]]), (first, second))
        return over(value, (total_g[first] > 0) & (total_g[second] > 0))
    return between


def _need_ott() -> None:
    try:
        import ott  # noqa: F401
    except ImportError as error:
        raise ImportError("distances between joint laws need OTT: pip install 'fairjax[ot]'") from error
