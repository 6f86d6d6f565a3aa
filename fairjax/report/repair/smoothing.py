"""Densities of scores on a grid, for drawing: rows are counted into bins, bins are smoothed.

In: values ``[N]`` with weights. Out: heights ``[M]`` in the middle of M bins, and the values that
many rows share. A million rows cost one pass; the kernel only ever sees the bins. Mass that a
kernel would put beyond the grid is folded back, so that a density of probabilities ends at 0 and 1,
and one of scores that are never negative at 0.
"""

from __future__ import annotations

import numpy as np

BINS = 4096
TAIL = 0.02  # share of rows at either end that may be far out
REACH = 4  # bandwidths at which the kernel ends
# an atom is a value of at least this share of the rows, and of at least three
ATOM_SHARE = 0.05
ATOM_ROWS = 3


def bin_edges(value: np.ndarray, bounded: bool) -> np.ndarray:
    """Edges ``[M + 1]`` with room for the kernel around the values, except the very far ones.

    They begin at 0 at the earliest if no value is negative, and end at 1 at the latest if
    ``bounded``.
    """
    least = value.min()
    greatest = value.max()
    tails = [TAIL, 1 - TAIL]
    low, high = np.quantile(value, tails)
    margin = (high - low) / 2
    low = max(least, low - margin)
    high = min(greatest, high + margin)
    span = high - low
    if not span:
        span = max(abs(high), 1.0) / 10
    start = low - span / 2
    stop = high + span / 2
    if least >= 0:
        start = max(start, 0.0)
    if bounded:
        stop = min(stop, 1.0)
    return np.linspace(start, stop, BINS + 1)


def density(value: np.ndarray, weight: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """A kernel density at the middle of every bin.

    Its integral is the share of the weight inside the edges. The kernel is Gaussian and ends at
    four bandwidths. The bandwidth is Silverman's, ``0.9 min(s, IQR / 1.349) n^(-1/5)`` with the
    effective n of the weights, but never narrower than two bins.

    Args:
      value: ``[N]``, at least one.
      weight: ``[N]``, of positive sum.
      edges: ``[M + 1]``, evenly spaced.

    Returns:
      ``[M]`` in 1 / unit of the values.

    Reference:
      Silverman: Density estimation for statistics and data analysis, 1986, section 3.4. Here the
      interquartile range may not pull the bandwidth below a third of that of the deviation, as it
      would where half of the rows have one value.
    """
    from scipy.ndimage import gaussian_filter1d  # here, because this import is slow

    bins = len(edges) - 1
    view = (edges[0], edges[-1])
    counts, _ = np.histogram(value, bins, view, weights=weight)
    total = weight.sum()
    mass = counts / total
    if not mass.any():
        return mass
    effective_rows = total**2 / np.square(weight).sum()
    bandwidth = 0.9 * _spread(mass) * effective_rows**-0.2  # in bins
    bandwidth = max(bandwidth, 2.0)
    bandwidth = min(bandwidth, bins / (4 * REACH))
    radius = int(np.ceil(REACH * bandwidth))
    smooth = gaussian_filter1d(mass, bandwidth, mode="reflect", radius=radius)
    bin_width = edges[1] - edges[0]
    return smooth / bin_width


def atoms(value: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values that many rows share, ``[J]``, and their shares of the weight ``[J]``.

    Many are at least three rows, and at least a twentieth of all.
    """
    distinct, position, rows = np.unique(
        value,
        return_inverse=True,
        return_counts=True,
    )
    least_rows = max(ATOM_ROWS, ATOM_SHARE * len(value))
    is_atom = rows >= least_rows
    mass = np.bincount(position, weight)
    share = mass / weight.sum()
    return distinct[is_atom], share[is_atom]


def _spread(mass: np.ndarray) -> float:
    """The spread of a histogram, in bins: its deviation, or less with far-out rows."""
    position = np.arange(len(mass))
    share = mass / mass.sum()
    mean = share @ position
    variance = share @ np.square(position - mean)
    deviation = np.sqrt(variance)
    level = np.cumsum(share)
    lower, upper = np.interp([0.25, 0.75], level, position)
    robust = (upper - lower) / 1.349
    spread = min(deviation, robust)
    return max(spread, deviation / 3)
