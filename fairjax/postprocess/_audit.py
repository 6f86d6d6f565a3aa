"""The audit of one repair, measured on rows; a report shows it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    # "kolmogorov_smirnov", "wasserstein": [P, T, A + 1], crossed cells last; of one attribute
    # [P, T, 1]
    gaps: dict[str, np.ndarray]
    floor: np.ndarray  # [T, A + 1], of one attribute [T, 1]: two-sample floor of the KS
    change: np.ndarray  # [P, T] root mean squared change of a score
    risk: np.ndarray | None  # [P, T] with labels: squared error (regression) or 1 - AUC (binary)
    risk_name: tuple[str, ...]  # T, e.g. "1 - AUC" or "mean squared error"
    orders: tuple[tuple[int, ...], ...]  # orders of attributes that were looked at
    steps: np.ndarray  # [O, A + 1, T, A] KS of each attribute after 0..A steps of each order
    mass: np.ndarray  # [G] rows of the pool per cell
    # the gaps of ``after``, which has the repair's own amount: [T, A + 1], of one attribute [T, 1]
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
            gaps = value or {}
            for kind, array in gaps.items():
                arrays[f"{field}.{kind}"] = array
        elif isinstance(value, np.ndarray):
            arrays[field] = value
        else:
            names[field] = value
    arrays["words"] = np.array(json.dumps(names))
    return write_arrays(path, arrays)


def load_audit(path: Path) -> Audit:
    """Read what :func:`save_audit` wrote; executes nothing."""
    arrays = read_arrays(path)
    text = str(arrays.pop("words"))
    names = json.loads(text)
    fields = {field: _as_tuples(value) for field, value in names.items()}
    for name, array in arrays.items():
        field, _, kind = name.partition(".")
        if kind:
            gaps = fields.setdefault(field, {})
            gaps[kind] = array
        else:
            fields[field] = array
    return Audit(**fields)


def _as_tuples(value):
    """Lists of JSON as the tuples that they were."""
    if isinstance(value, list):
        return tuple(map(_as_tuples, value))
    return value


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
    levels = tuple(tuple(map(str, level_list)) for level_list in repair.levels_)
    sizes = [len(level_list) for level_list in levels]
    cells = len(repair.cells_)
    attributes = list(map(Grouping, rows.codes, sizes))
    groupings = attributes + _crossing(rows.cell, cells, len(attributes))
    before = rows.score.astype(np.float64)
    after = repaired(None).astype(np.float64)
    path = [before]
    for amount in AMOUNTS[1:]:
        path.append(repaired(amount).astype(np.float64))
    gaps = np.stack([_gaps(scores, groupings, weight) for scores in path])  # [P, T, A + 1, 3]
    orders = _orders(len(attributes))
    risks = [] if labels is None else [_risk(label, weight) for label in labels.T]
    return Audit(
        tasks=repair.tasks_,
        attributes=repair.attributes_,
        cells=tuple(map(_cell_name, repair.cells_)),
        units=tuple(map(_unit, rows.score.T)),
        level=np.stack(np.unravel_index(np.arange(cells), sizes)),
        levels=levels,
        before=before,
        after=after,
        cell=rows.cell,
        weight=weight,
        amounts=AMOUNTS,
        floor=gaps[0, ..., 1],
        gaps=_by_name(gaps),
        reached=_by_name(_gaps(after, groupings, weight)),
        change=np.stack([_mean_change(scores, before, weight) for scores in path]),
        risk=_risks_along(path, risks) if risks else None,
        risk_name=tuple(risk.name for risk in risks),
        orders=orders,
        steps=_steps(orders, repaired, attributes, weight),
        mass=repair.rows_,
    )


def _crossing(cell: np.ndarray, cells: int, attributes: int) -> list[Grouping]:
    """The crossed cells as one more grouping, where there are several attributes."""
    if attributes < 2:
        return []
    codes = np.where(cell < cells, cell, -1)
    return [Grouping(codes, cells)]


def _orders(attributes: int) -> tuple[tuple[int, ...], ...]:
    """The first orders in which attributes may be repaired."""
    permutations = itertools.permutations(range(attributes))
    return tuple(itertools.islice(permutations, MOST_ORDERS))


def _cell_name(cell: tuple[Any, ...]) -> str:
    return " & ".join(map(str, cell))


def _unit(score: np.ndarray) -> str:
    in_unit_interval = score.min() >= 0 and score.max() <= 1
    return "probability" if in_unit_interval else ""


def _mean_change(score: np.ndarray, before: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Root mean squared change ``[T]``."""
    squared_change = np.square(score - before)
    mean_square = np.average(squared_change, axis=0, weights=weight)
    return np.sqrt(mean_square)


def _gaps(scores: np.ndarray, groupings: Sequence[Grouping], weight: np.ndarray) -> np.ndarray:
    """Fields of :class:`fairjax.metrics.Unfairness` of scores ``[N, T]``, ``[T, groupings, 3]``."""
    gaps = []
    for score in scores.T:
        order = np.argsort(score)
        ascending = score[order]
        ordered_weight = weight[order]
        for codes, size in groupings:
            ordered_codes = codes[order]
            gap = unfairness_on_host(ascending, ordered_codes, size, ordered_weight)
            gaps.append(gap)
    tasks = scores.shape[1]
    return np.array(gaps).reshape(tasks, len(groupings), 3)


def _by_name(gaps: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "kolmogorov_smirnov": gaps[..., 0],
        "wasserstein": gaps[..., 2],
    }


def _steps(
    orders: Sequence[Sequence[int]],
    repaired: Callable[..., np.ndarray],
    attributes: Sequence[Grouping],
    weight: np.ndarray,
) -> np.ndarray:
    """Kolmogorov-Smirnov ``[O, A + 1, T, A]`` of each attribute after each step of each order."""
    steps_of_orders = []
    for order in orders:
        steps = []
        for amounts in sequential_amounts(order):
            gaps = _gaps(repaired(amounts), attributes, weight)
            steps.append(gaps[..., 0])
        steps_of_orders.append(steps)
    return np.array(steps_of_orders)


_auc = jax.jit(auc)


def _risk(label: np.ndarray, weight: np.ndarray) -> Risk:
    """1 - AUC for labels 0 and 1, else the mean squared error; on rows with a label."""
    is_labelled = np.isfinite(label) & (weight > 0)
    known_label = label[is_labelled]
    known_weight = weight[is_labelled]

    def ranking_risk(score: np.ndarray) -> float:
        area = _auc(score[is_labelled], known_label, known_weight)
        return 1 - float(area)

    def squared_risk(score: np.ndarray) -> float:
        error = score[is_labelled] - known_label
        return float(np.average(np.square(error), weights=known_weight))

    is_binary = np.isin(known_label, (0, 1)).all()
    if is_binary:
        return Risk("1 - AUC", ranking_risk)
    return Risk("mean squared error", squared_risk)


def _risks_along(path: Sequence[np.ndarray], risks: Sequence[Risk]) -> np.ndarray:
    """Risks ``[P, T]`` of scores ``[N, T]`` along the path."""
    measured = []
    for scores in path:
        for score, risk in zip(scores.T, risks, strict=True):
            measured.append(risk.measure(score))
    return np.reshape(measured, (len(path), len(risks)))
