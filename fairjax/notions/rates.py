"""Gaps between group rates, soft on probabilities and hard on decisions: one definition for both.

The rate of a group is the mean of the values in it. On negatives this is the false positive rate,
on positives the true positive rate, on everyone the selection rate.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fairjax.core.masked import check_probabilities, check_rows, group_mean, keep
from fairjax.core.types import Array
from fairjax.notions.gaps import difference


def rate_gap(prob: Array, groups: Array, weight: Array) -> Array:
    """Largest difference of group means, ``max_g m_g - min_g m_g``: the soft rate gap.

    Args:
      prob: ``[N]`` probabilities (or 0/1 decisions, then it is the hard gap).
      groups: membership ``[N, G]`` of one attribute.
      weight: ``[N]``, 0 outside the conditioning set.

    Returns:
      A scalar in [0, 1].

    Raises:
      ValueError: values are no probabilities, where they can be looked at: see
        :func:`fairjax.core.masked.check_probabilities`.
    """
    check_rows(prob, weight)
    check_probabilities(prob, weight)
    rate_g, mass_g = group_mean(prob, groups, weight)
    return difference(rate_g, mass_g)


def sharpened_rate_gap(
    prob: Array,
    groups: Array,
    weight: Array,
    *,
    threshold: Array | float = 0.5,
    temperature: Array | float = 0.1,
) -> Array:
    """Rate gap of ``sigmoid((p - threshold) / temperature)``.

    It is nearer to the hard gap, and low confidence makes it small less easily. It refuses what
    :func:`rate_gap` refuses.
    """
    check_rows(prob, weight)
    check_probabilities(prob, weight)
    excess = keep(prob, weight) - threshold
    return rate_gap(jax.nn.sigmoid(excess / temperature), groups, weight)


def published_rate_gap(
    prob: Array, groups: Array, weight: Array, *, threshold: Array | float
) -> Array:
    """The rate gap as coded by Wang et al. (2021) for German Credit: counts of thresholded scores.

    ``threshold`` is the training base rate there. A group without rows counts as rate 0, so a batch
    with one group gives that group's rate. It is here for comparison only: its gradient is zero
    everywhere, so it cannot train anything.
    """
    check_rows(prob, weight)
    check_probabilities(prob, weight)
    decision = jax.lax.stop_gradient(prob > threshold).astype(jnp.float32)
    rate_g, mass_g = group_mean(decision, groups, weight)
    any_rows = jnp.sum(mass_g) > 0
    return difference(rate_g, jnp.where(any_rows, 1.0, mass_g))
