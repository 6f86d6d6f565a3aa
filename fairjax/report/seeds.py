"""The hypervolume of a method over its seeds, with an interval from resampling them."""

from __future__ import annotations

import numpy as np

from fairjax.metrics.frontier import hypervolume_interval
from fairjax.report.layout import Layout
from fairjax.report.panel import front_of
from fairjax.report.text import number

LEAST_SEEDS = 3  # below which there is no interval
MOST_SEEDS = 50  # beyond which seeds are draws rather than repetitions


def volume_text(layout: Layout, index: int) -> str:
    """Mean and interval of a method; empty where its runs have too few seeds.

    The frontier of a seed is selected on validation among the runs of this seed.
    """
    if layout.reference is None:
        return ""
    panel = layout.overall
    is_mine = panel.usable & layout.runs_of(index)
    seed = np.asarray(layout.table["seed"])
    seeds = np.unique(seed[is_mine])
    if not LEAST_SEEDS <= len(seeds) <= MOST_SEEDS:
        return ""
    sets = []
    for one in seeds:
        rows = np.flatnonzero(is_mine & (seed == one))
        front = front_of(panel.selection, rows)
        sets.append(panel.test[front])
    generator = np.random.default_rng(0)
    interval = hypervolume_interval(generator, sets, np.array(layout.reference))
    mean, low, high = [number(float(value), digits=4) for value in interval[:3]]
    return f"{mean} [{low}, {high}]"
