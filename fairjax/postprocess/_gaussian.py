"""Joint repair in closed form: affine maps between Gaussians."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fairjax.core.masked import check_membership, divide
from fairjax.core.types import Array, Post
from fairjax.postprocess._joint import map_index, members_of, standard_of, standardise


class Affine(NamedTuple):
    """State of :func:`gaussian`: ``x -> target + turn_g (x - mean_g)``; the pool's map is last."""

    present: Array  # [G]
    mean: Array  # [G + 1, T]
    turn: Array  # [G + 1, T, T]
    target: Array  # [T]


class Moments(NamedTuple):
    """Moments of the groups; those of the pool are last."""

    mean: Array  # [G + 1, T]
    cov: Array  # [G + 1, T, T]


def gaussian(
    cost: Array | None = None,
    share: Array | None = None,
    prior: float = 1.0,
    ridge: float = 1e-5,
    steps: int = 64,
) -> Post:
    """The affine maps that are optimal between Gaussians of the groups' means and covariances.

    ``x -> m + A_g (x - m_g)``, ``m = sum_g pi_g m_g``,
    ``A_g = S_g^-1/2 (S_g^1/2 S S_g^1/2)^1/2 S_g^-1/2``; the barycenter's covariance solves
    ``S = sum_g pi_g (S^1/2 S_g S^1/2)^1/2``. Makes means and covariances equal, whatever the laws;
    makes the laws equal if they are Gaussian.

    Args:
      cost: ``[T]`` positive weights of the tasks in the cost of a move; equal if not given.
      share: ``[G]`` weights of the groups in the barycenter; their shares of the pool's weight if
        not given.
      prior: how much a group's covariance leans on the mean covariance within groups, in rows per
        task. With 0 a group of no more rows than tasks has a singular covariance, and a wild map.
      ridge: added to every variance, in squared deviations of the pool.
      steps: of the fixed point.

    Returns:
      Post whose state is an :class:`Affine`; mapped and compiled like any jax function.

    Reference:
      Agueh, Carlier, SIAM J. Math. Anal. 2011 (barycenter of Gaussians); Alvarez-Esteban et al., J.
      Math. Anal. Appl. 2016 (fixed point). OTT has the same iteration (``Bures.barycenter``); with
      square roots by eigenvectors it needs no extra, and is more exact where tasks nearly repeat
      each other.
    """

    def fit(scores: Array, groups: Array, weight: Array) -> Affine:
        standard = standard_of(scores, weight, cost)
        members = members_of(groups, weight, share)
        standardised = standardise(scores, weight, standard)
        moments = _moments(standardised, members.weight, members.present, prior)
        mean = moments.mean
        cov = moments.cov + ridge * jnp.eye(scores.shape[1])
        middle = bures_barycenter(cov[:-1], members.share, steps)
        turn = jax.vmap(optimal_map, (0, None))(cov, middle)
        centre, scale = standard
        return Affine(
            present=members.present,
            mean=centre + scale * mean,
            turn=scale[:, None] * turn / scale,
            target=centre + scale * (members.share @ mean[:-1]),
        )

    def apply(
        state: Affine,
        scores: Array,
        groups: Array,
        key: Array | None = None,
        amount: Array | float = 1.0,
    ) -> Array:
        del key
        check_membership(groups, scores)
        index = map_index(groups, state.present)
        turn = state.turn[index]
        deviation = scores - state.mean[index]
        moved = state.target + jnp.einsum("nij,nj->ni", turn, deviation)
        return scores + amount * (moved - scores)

    return Post(fit, apply)


def _moments(
    standardised: Array,
    member: Array,
    present: Array,
    prior: float,
) -> Moments:
    """Moments of standardised scores; covariances lean on the mean covariance within groups."""
    mass = jnp.sum(member, axis=0)
    total = member.T @ standardised
    mean = divide(total, mass[:, None])

    def covariance(weight_and_mean: tuple[Array, Array]) -> Array:
        weight, centre = weight_and_mean
        deviation = standardised - centre
        weighted = weight[:, None] * deviation
        scatter = weighted.T @ deviation
        return divide(scatter, jnp.sum(weight))

    cov = jax.lax.map(covariance, (member.T, mean))
    # the effective number of rows: as many rows of equal weight say as much
    square = jnp.sum(member**2, axis=0)
    effective = divide(mass**2, square)[:, None, None]
    in_group = jnp.append(present, False)[:, None, None]
    scatter = jnp.sum(in_group * effective * cov, axis=0)
    freedom = effective - 1
    within = divide(scatter, jnp.sum(in_group * freedom))
    borrowed = prior * standardised.shape[1]
    leaning = divide(effective * cov + borrowed * within, freedom + borrowed)
    return Moments(mean, jnp.where(in_group, leaning, cov))


def _power(cov: Array, exponent: float) -> Array:
    """Power of a positive definite matrix."""
    value, vector = jnp.linalg.eigh(cov)
    precision = jnp.finfo(cov.dtype).eps
    smallest = precision * jnp.max(value)
    # rounding leaves small eigenvalues below 0
    positive = jnp.maximum(value, smallest)
    scaled_vector = vector * positive**exponent
    return scaled_vector @ vector.T


def bures_barycenter(cov: Array, share: Array, steps: int) -> Array:
    """Covariance ``[T, T]`` of the barycenter of Gaussians with covariances ``[G, T, T]``."""

    def step(_, middle: Array) -> Array:
        root = _power(middle, 0.5)
        inverse = _power(middle, -0.5)

        def root_seen_from_middle(cov_of_group: Array) -> Array:
            return _power(root @ cov_of_group @ root, 0.5)

        roots = jax.vmap(root_seen_from_middle)(cov)
        mixed = jnp.einsum("g,gij->ij", share, roots)
        middle = inverse @ mixed @ mixed @ inverse
        return (middle + middle.T) / 2

    start = jnp.einsum("g,gij->ij", share, cov)
    return jax.lax.fori_loop(0, steps, step, start)


def optimal_map(cov: Array, target: Array) -> Array:
    """The optimal linear map ``[T, T]`` of ``N(0, cov)`` to ``N(0, target)``."""
    root = _power(cov, 0.5)
    inverse = _power(cov, -0.5)
    middle = _power(root @ target @ root, 0.5)
    return inverse @ middle @ inverse
