"""Densities of scores on a grid, for drawing: rows are counted into bins once, and the bins are smoothed.

In: values ``[N]`` with weights. Out: heights ``[M]`` in the middle of M bins, and the values that many rows share. A million
rows cost one pass; the kernel only ever sees the bins. Mass that a kernel would put beyond the grid is folded back, so that
a density of probabilities ends at 0 and 1, and one of scores that are never negative at 0.
"""

from __future__ import annotations

import numpy as np

BINS = 4096
TAIL = 0.02  # share of rows at either end that may be far out
REACH = 4  # bandwidths at which the kernel ends
ATOM = (
    0.05  # share of rows at one value from which on it counts as an atom, if they are three or more
)


def bin_edges(value: np.ndarray, bounded: bool) -> np.ndarray:
    """Edges ``[M + 1]`` with room for the kernel around the values, except the very far ones.

    They begin at 0 at the earliest if no value is negative, and end at 1 at the latest if ``bounded``.
    """
    low, high = np.quantile(value, [TAIL, 1 - TAIL])
    low, high = max(value.min(), low - (high - low) / 2), min(value.max(), high + (high - low) / 2)
    room = (high - low or max(abs(high), 1.0) / 10) / 2
    low, high = (
        low - room if value.min() < 0 else max(low - room, 0.0),
        min(high + room, 1.0) if bounded else high + room,
    )
    return np.linspace(low, high, BINS + 1)


def density(value: np.ndarray, weight: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """A kernel density at the middle of every bin; its integral is the share of the weight inside the edges.

    Gaussian kernel, ended at four bandwidths; the bandwidth is Silverman's, ``0.9 min(s, IQR / 1.349) n^(-1/5)`` with the
    effective n of the weights, but never narrower than two bins.

    Args:
      value: ``[N]``, at least one.
      weight: ``[N]``, of positive sum.
      edges: ``[M + 1]``, evenly spaced.

    Returns:
      ``[M]`` in 1 / unit of the values.

    Reference:
      Silverman: Density estimation for statistics and data analysis, 1986, section 3.4. Here the interquartile range may
      not pull the bandwidth below a third of that of the deviation, as it would where half of the rows have one value.
    """
    mass = (
        np.histogram(value, len(edges) - 1, (edges[0], edges[-1]), weights=weight)[0] / weight.sum()
    )
    width = edges[1] - edges[0]
    if not mass.any():
        return mass
    size = weight.sum() ** 2 / np.square(weight).sum()
    steps = min(max(0.9 * _spread(mass) * size**-0.2, 2.0), len(mass) / (4 * REACH))
    reach = int(np.ceil(REACH * steps))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / steps))
    smooth = np.convolve(np.pad(mass, reach, mode="symmetric"), kernel / kernel.sum(), mode="valid")
    return smooth / width


def _spread(mass: np.ndarray) -> float:
    """Of a histogram, in bins."""
    place, share = np.arange(len(mass)), mass / mass.sum()
    deviation = np.sqrt(share @ np.square(place - share @ place))
    lower, upper = np.interp([0.25, 0.75], np.cumsum(share), place)
    return max(min(deviation, (upper - lower) / 1.349), deviation / 3)


def atoms(value: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values ``[J]`` that at least three rows and a twentieth of them share, and their shares of the weight ``[J]``."""
    found, where, rows = np.unique(value, return_inverse=True, return_counts=True)
    many = rows >= max(3, ATOM * len(value))
    return found[many], np.bincount(where, weight)[many] / weight.sum()
