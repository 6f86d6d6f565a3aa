"""The audit of one repair, measured on rows; a report shows it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from fairjax.core.disk import read_arrays, write_arrays
from fairjax.metrics import auc
from fairjax.metrics.distribution import unfairness_on_host
from fairjax.postprocess._barycenter import sequential_amounts


class Audit(NamedTuple):
    """One repair: scores before and after; unfairness and cost over the repair amount."""

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
    # "kolmogorov_smirnov", "wasserstein": [P, T, A + 1], crossed cells last; [P, T, A] of one
    # attribute
    gaps: dict[str, np.ndarray]
    floor: np.ndarray  # [T, A + 1] or [T, A] two-sample floor of the KS
    change: np.ndarray  # [P, T] root mean squared change of a score
    risk: np.ndarray | None  # [P, T] with labels: squared error (regression) or 1 - AUC (binary)
    risk_name: tuple[str, ...]  # T, e.g. "1 - AUC" or "mean squared error"
    orders: tuple[tuple[int, ...], ...]  # orders of attributes that were looked at
    steps: np.ndarray  # [O, A + 1, T, A] KS of each attribute after 0..A steps of each order
    mass: np.ndarray  # [G] rows of the pool per cell
    # [T, A + 1] the gaps of ``after``, by the repair's own amount
    reached: dict[str, np.ndarray] | None = None


AMOUNTS = np.linspace(0, 1, 11)
MOST_ORDERS = 6
DICTIONARIES = ("gaps", "reached")


class Grouping(NamedTuple):
    """Groups between which scores are compared: an attribute, or the crossed cells."""

    codes: np.ndarray  # [N], -1 where unknown
    size: int


class Risk(NamedTuple):
    """How well scores predict a label."""

    name: str
    measure: Callable[[np.ndarray], float]  # of scores [N]


# ------------------------------------------------------------------------------------------ on disk


def save_audit(path: Path, audit: Audit) -> Path:
    """Write an audit as npz, its names as JSON inside; see :func:`load_audit`."""
    arrays = {}
    names = {}
    for field, value in audit._asdict().items():
        if field in DICTIONARIES:
            arrays |= {f"{field}.{kind}": array for kind, array in (value or {}).items()}
        elif isinstance(value, np.ndarray):
            arrays[field] = value
        else:
            names[field] = value
    return write_arrays(path, arrays | {"words": np.array(json.dumps(names))})


def load_audit(path: Path) -> Audit:
    """Read what :func:`save_audit` wrote; executes nothing."""
    arrays = read_arrays(path)
    names = json.loads(str(arrays.pop("words")))
    fields = {field: _as_tuples(value) for field, value in names.items()}
    for name, array in arrays.items():
        field, _, kind = name.partition(".")
        if kind:
            fields.setdefault(field, {})[kind] = array
        else:
            fields[field] = array
    return Audit(**fields)


def _as_tuples(value):
    """Lists of JSON as the tuples that they were."""
    return tuple(_as_tuples(entry) for entry in value) if isinstance(value, list) else value


# ---------------------------------------------------------------------------------------- measuring


def audit_repair(
    repair,
    rows,
    weight: np.ndarray,
    repaired: Callable[..., np.ndarray],
    labels: np.ndarray | None,
) -> Audit:
    """Measure a repair on rows.

    Args:
      repair: a fitted :class:`fairjax.Repair`.
      rows: as the repair read them.
      weight: ``[N]``.
      repaired: ``(amount) -> [N, T]``; the repair's own amount for None.
      labels: ``[N, T]`` or None.
    """
    sizes = [len(levels) for levels in repair.levels_]
    attributes = [Grouping(codes, size) for codes, size in zip(rows.codes, sizes, strict=True)]
    groupings = attributes + _crossing(rows.cell, len(repair.cells_), len(sizes))
    before = rows.score.astype(np.float64)
    repaired_scores = repaired(None).astype(np.float64)
    path = [before]
    path += [repaired(amount).astype(np.float64) for amount in AMOUNTS[1:]]
    gaps = np.stack([_gaps(score, groupings, weight) for score in path])  # [P, T, A + 1, 3]
    orders = tuple(itertools.islice(itertools.permutations(range(len(sizes))), MOST_ORDERS))
    risks = [] if labels is None else [_risk(column, weight) for column in labels.T]
    return Audit(
        tasks=repair.tasks_,
        attributes=repair.attributes_,
        cells=tuple(" & ".join(map(str, cell)) for cell in repair.cells_),
        units=tuple(_unit(column) for column in rows.score.T),
        level=np.stack(np.unravel_index(np.arange(len(repair.cells_)), sizes)),
        levels=tuple(tuple(map(str, levels)) for levels in repair.levels_),
        before=before,
        after=repaired_scores,
        cell=rows.cell,
        weight=weight,
        amounts=AMOUNTS,
        floor=gaps[0, ..., 1],
        gaps=_by_name(gaps),
        reached=_by_name(_gaps(repaired_scores, groupings, weight)),
        change=np.stack([_mean_change(score, before, weight) for score in path]),
        risk=_risks_along(path, risks) if risks else None,
        risk_name=tuple(risk.name for risk in risks),
        orders=orders,
        steps=_steps(orders, repaired, attributes, weight),
        mass=repair.rows_,
    )


def _crossing(cell: np.ndarray, count: int, attributes: int) -> list[Grouping]:
    """The crossed cells as one more grouping, where there are several attributes."""
    if attributes < 2:
        return []
    return [Grouping(np.where(cell < count, cell, -1), count)]


def _unit(score: np.ndarray) -> str:
    return "probability" if 0 <= score.min() and score.max() <= 1 else ""


def _mean_change(score: np.ndarray, before: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Root mean squared change ``[T]``."""
    return np.sqrt(np.average(np.square(score - before), axis=0, weights=weight))


def _gaps(scores: np.ndarray, groupings: Sequence[Grouping], weight: np.ndarray) -> np.ndarray:
    """Fields of :class:`fairjax.metrics.Unfairness` of scores ``[N, T]``, ``[T, groupings, 3]``."""
    gaps = []
    for score in scores.T:
        order = np.argsort(score)
        ascending = score[order]
        for codes, size in groupings:
            gaps.append(unfairness_on_host(ascending, codes[order], size, weight[order]))
    return np.array(gaps).reshape(scores.shape[1], len(groupings), 3)


def _by_name(gaps: np.ndarray) -> dict[str, np.ndarray]:
    return {"kolmogorov_smirnov": gaps[..., 0], "wasserstein": gaps[..., 2]}


def _steps(
    orders: Sequence[Sequence[int]],
    repaired: Callable[..., np.ndarray],
    attributes: Sequence[Grouping],
    weight: np.ndarray,
) -> np.ndarray:
    """Kolmogorov-Smirnov ``[O, A + 1, T, A]`` of each attribute after each step of each order."""
    steps = []
    for order in orders:
        scores = [repaired(amount) for amount in sequential_amounts(order)]
        steps.append([_gaps(score, attributes, weight)[..., 0] for score in scores])
    return np.array(steps)


_auc = jax.jit(auc)


def _risk(label: np.ndarray, weight: np.ndarray) -> Risk:
    """1 - AUC for labels 0 and 1, else the mean squared error; on rows with a label."""
    labelled = np.isfinite(label) & (weight > 0)

    def ranking_risk(score: np.ndarray) -> float:
        return 1 - float(_auc(score[labelled], label[labelled], weight[labelled]))

    def squared_risk(score: np.ndarray) -> float:
        return float(np.average(np.square(score - label)[labelled], weights=weight[labelled]))

    if np.isin(label[labelled], (0, 1)).all():
        return Risk("1 - AUC", ranking_risk)
    return Risk("mean squared error", squared_risk)


def _risks_along(path: Sequence[np.ndarray], risks: Sequence[Risk]) -> np.ndarray:
    """Risks ``[P, T]`` of scores ``[N, T]`` along the path."""
    along = []
    for scores in path:
        columns = zip(scores.T, risks, strict=True)
        along.append([risk.measure(score) for score, risk in columns])
    return np.array(along)
