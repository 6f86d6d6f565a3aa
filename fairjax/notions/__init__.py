"""Fairness notions: how far groups are apart, on chosen rows, for chosen tasks and attributes.

A *distance* is a pure function ``(prob[N], groups[N, G], weight[N], **options) -> scalar`` for one
attribute: zero where the groups agree, and zero with zero gradient where fewer than two groups are
present. A *condition* chooses the rows. :func:`from_distance` makes a :class:`Notion` of both; any
method takes any notion. Some distances are gaps between the groups' values of a statistic, some
compare distributions (``mmd``, ``barycenter_distance``); for an attribute that is a number they
measure dependence (``pearson``, ``hsic``). ``robust_log`` is no distance but the loss of the worst
group, and not zero where the groups agree. ``differential_fairness`` counts over minibatches and
has memory; so has ``ahfda``, which looks at the groups that are served worse than the best one
and has a ``violation`` for multipliers. :func:`smooth_maximum` makes one number of several.
"""

from __future__ import annotations

from fairjax.notions import differential, gaps, statistics
from fairjax.notions._ahfda import GroupSums, ahfda, directional_violations
from fairjax.notions._mmd import (
    adjusted_mmd,
    gaussian_kernel,
    gaussian_mmd,
    laplacian_kernel,
    mmd,
    published_mmd,
)
from fairjax.notions._robust_log import robust_log
from fairjax.notions.averages import added, jointly, macro, micro, worst
from fairjax.notions.conditions import (
    CONDITIONS,
    everyone,
    exclusive,
    known,
    negatives,
    opposite,
    positives,
)
from fairjax.notions.continuous import hsic, pearson
from fairjax.notions.correlation import correlation_ratio, published_correlation
from fairjax.notions.differential import differential_fairness
from fairjax.notions.distribution import kolmogorov_smirnov, soft_kolmogorov_smirnov, wasserstein
from fairjax.notions.gaps import difference, ratio
from fairjax.notions.maxima import hard_maximum, smooth_maximum
from fairjax.notions.notion import Notion, TaskRows, from_distance
from fairjax.notions.rates import published_rate_gap, rate_gap, sharpened_rate_gap
from fairjax.notions.registry import REGISTRY, for_kind, get, suited
from fairjax.notions.statistics import CLASSES, REGRESSIONS, Statistic, parity
from fairjax.notions.transport import (
    average,
    barycenter_distance,
    largest,
    projected,
    sinkhorn,
    sliced,
)

__all__ = [
    "CLASSES",
    "CONDITIONS",
    "GroupSums",
    "REGISTRY",
    "REGRESSIONS",
    "Notion",
    "Statistic",
    "TaskRows",
    "added",
    "adjusted_mmd",
    "ahfda",
    "average",
    "barycenter_distance",
    "correlation_ratio",
    "difference",
    "differential",
    "differential_fairness",
    "directional_violations",
    "everyone",
    "exclusive",
    "for_kind",
    "from_distance",
    "gaps",
    "gaussian_kernel",
    "gaussian_mmd",
    "get",
    "hard_maximum",
    "hsic",
    "jointly",
    "known",
    "kolmogorov_smirnov",
    "laplacian_kernel",
    "largest",
    "macro",
    "micro",
    "mmd",
    "negatives",
    "opposite",
    "parity",
    "pearson",
    "positives",
    "projected",
    "published_correlation",
    "published_mmd",
    "published_rate_gap",
    "rate_gap",
    "ratio",
    "robust_log",
    "sharpened_rate_gap",
    "sinkhorn",
    "sliced",
    "smooth_maximum",
    "soft_kolmogorov_smirnov",
    "statistics",
    "suited",
    "wasserstein",
    "worst",
]
