"""What a report of one repair needs, as numpy arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Audit(NamedTuple):
    """One repair: scores before and after, and over the repair amount how unfair they are and what that costs."""

    tasks: tuple[str, ...]  # T names of the score columns
    units: tuple[str, ...]  # T: "probability" where all scores lie in [0, 1], else ""
    attributes: tuple[str, ...]  # A names
    cells: tuple[str, ...]  # G names of crossed groups; of one attribute its levels
    level: np.ndarray  # [A, G] which level of each attribute a cell is
    levels: tuple[tuple[str, ...], ...]  # per attribute its level names
    before: np.ndarray  # [N, T] scores of the rows that are reported
    after: np.ndarray  # [N, T]
    cell: np.ndarray  # [N] in 0..G; G where a group is unknown
    weight: np.ndarray  # [N]
    amounts: np.ndarray  # [P] repair amounts of the path, 0 .. 1
    gaps: dict[str, np.ndarray]  # "kolmogorov_smirnov", "wasserstein": [P, T, A + 1], crossed cells last; [P, T, A] of one
    floor: np.ndarray  # [T, A + 1] or [T, A] two-sample floor of the KS
    change: np.ndarray  # [P, T] root mean squared change of a score
    risk: np.ndarray | None  # [P, T] with labels: squared error (regression) or 1 - AUC (binary)
    risk_name: tuple[str, ...]  # T, e.g. "1 - AUC" or "mean squared error"
    orders: tuple[tuple[int, ...], ...]  # orders of attributes that were looked at
    steps: np.ndarray  # [O, A + 1, T, A] KS of each attribute after 0..A steps of each order
    mass: np.ndarray  # [G] rows of the pool per cell
    reached: dict[str, np.ndarray] | None = None  # [T, A + 1] the gaps of ``after``, by the repair's own amount
