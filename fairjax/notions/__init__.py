"""Fairness notions: a distance between groups, on chosen rows.

A *distance* is ``(prob[N], groups[N, G], weight[N]) -> scalar`` for one attribute: zero when the groups agree, zero with
zero gradient when fewer than two groups are present. A *condition* chooses the rows. A :class:`Notion` is both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fairjax.notions.conditions import everyone, exclusive, negatives, nobody, positives
from fairjax.notions.correlation import correlation_ratio, published_correlation
from fairjax.notions.mmd import adjusted_mmd, gaussian, gaussian_mmd, laplacian, mmd, published_mmd
from fairjax.notions.rates import difference, published_rate_gap, rate_gap, ratio, sharpened_rate_gap
from fairjax.types import Array


class Notion(NamedTuple):
    """A distance between groups, added up over conditioning sets.

    ``Notion(rate_gap, (negatives,))`` is equal opportunity by false positive rates (MTA-F's notion),
    ``(positives,)`` by true positive rates, ``(negatives, positives)`` equalized odds, ``(everyone,)`` demographic parity.
    Conditions on the label ask for binary tasks; on other kinds of task a notion looks at everyone.
    """

    distance: Callable[[Array, Array, Array], Array]
    conditions: tuple[Callable[[Array, Array], Array], ...]


__all__ = ["Notion", "adjusted_mmd", "correlation_ratio", "difference", "everyone", "exclusive", "gaussian",
           "gaussian_mmd", "laplacian", "mmd", "negatives", "nobody", "positives", "published_correlation",
           "published_mmd", "published_rate_gap", "rate_gap", "ratio", "sharpened_rate_gap"]
