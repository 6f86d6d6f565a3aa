"""How the networks of a sweep branched, and how often their gradients were in conflict.

Values are JSON-safe, for the record of a study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairjax.methods import BranchRecord
from fairjax.training import Runs

DIGITS = 4


def branching_of(runs: Mapping[str, Runs]) -> dict[str, dict[str, Any]]:
    """Per method whose networks branch, the means over its runs that did not diverge.

    ``together [D][T][T]``: the share of runs in which two tasks share a layer at the end.
    ``branches [epochs][D]``: the number of branches of every layer.
    ``angles [epochs][2]``: the angle between the gradients of two tasks in degrees, of accuracy and
    of fairness, over pairs, layers and steps of the epoch.
    ``conflicts [2][T][T]``: the share of steps and layers with a conflict, of the last training.
    ``chance [D]``: about how alike by chance the parameters are that decide about a layer; None
    where it is not their likeness that decides, or not by :func:`fairjax.methods.cka`.

    An epoch is a block of training.
    """
    found = {}
    for method, method_runs in runs.items():
        if isinstance(method_runs.record, BranchRecord):
            kept = ~method_runs.diverged
            if kept.any():
                record = BranchRecord(*(np.asarray(leaf)[kept] for leaf in method_runs.record))
                found[method] = _summary(record)
    return found


def _summary(record: BranchRecord) -> dict[str, Any]:
    """The means of records whose leaves are ``[M, blocks, ...]``."""
    labels = record.labels
    last = labels[:, -1]
    together = (last[..., :, None] == last[..., None, :]).mean(axis=0)
    # a branch is named by its smallest task
    branches = (labels == np.arange(labels.shape[-1])).sum(axis=-1).mean(axis=0)
    known = np.maximum(record.known[:, -1].sum(axis=2), 1)
    share = record.conflicts[:, -1].sum(axis=2) / known
    return {
        "runs": len(labels),
        "together": _plain(together),
        "branches": _plain(branches),
        "angles": _plain(_angles(record)),
        "conflicts": _plain(share.mean(axis=0)),
        "chance": _plain(record.chance[0, -1]),
    }


def _angles(record: BranchRecord) -> np.ndarray:
    """``[blocks, 2]`` in degrees: of every block alone, where the record has sums since a start."""
    first, second = np.triu_indices(record.angles.shape[-1], 1)
    known = record.known[..., first, second].sum(axis=(-1, -2))  # [M, blocks, 2]
    angles = record.angles[..., first, second].sum(axis=(-1, -2))
    # training that began anew counts from nothing
    begins = known < _before(known)
    known_in_block = known - np.where(begins, 0, _before(known))
    sum_in_block = angles - np.where(begins, 0.0, _before(angles))
    total = known_in_block.sum(axis=0)
    degrees = np.degrees(sum_in_block.sum(axis=0) / np.maximum(total, 1))
    return np.where(total > 0, degrees, np.nan)


def _before(sums: np.ndarray) -> np.ndarray:
    """The sums ``[M, blocks, 2]`` before every block."""
    return np.concatenate([np.zeros_like(sums[:, :1]), sums[:, :-1]], axis=1)


def _plain(array: np.ndarray) -> list[Any]:
    """Rounded numbers, None where there is none."""
    rounded = np.round(np.asarray(array, float), DIGITS)
    return np.where(np.isnan(rounded), None, rounded).tolist()
