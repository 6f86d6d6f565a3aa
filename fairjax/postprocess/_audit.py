"""What a report of one repair shows, measured on rows: numpy arrays in :class:`Audit`."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from fairjax.core.disk import read_arrays, write_arrays
from fairjax.metrics import auc
from fairjax.metrics.distribution import CHANCE
from fairjax.postprocess._barycenter import sequential_amounts


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
    gaps: dict[
        str, np.ndarray
    ]  # "kolmogorov_smirnov", "wasserstein": [P, T, A + 1], crossed cells last; [P, T, A] of one
    floor: np.ndarray  # [T, A + 1] or [T, A] two-sample floor of the KS
    change: np.ndarray  # [P, T] root mean squared change of a score
    risk: np.ndarray | None  # [P, T] with labels: squared error (regression) or 1 - AUC (binary)
    risk_name: tuple[str, ...]  # T, e.g. "1 - AUC" or "mean squared error"
    orders: tuple[tuple[int, ...], ...]  # orders of attributes that were looked at
    steps: np.ndarray  # [O, A + 1, T, A] KS of each attribute after 0..A steps of each order
    mass: np.ndarray  # [G] rows of the pool per cell
    reached: dict[str, np.ndarray] | None = (
        None  # [T, A + 1] the gaps of ``after``, by the repair's own amount
    )


AMOUNTS = np.linspace(0, 1, 11)
_DICTS = ("gaps", "reached")


def save_audit(path: Path, held: Audit) -> Path:
    """Write an audit as npz, its names as JSON inside; see :func:`load_audit`."""
    arrays, words = {}, {}
    for name, value in held._asdict().items():
        if name in _DICTS:
            arrays |= {f"{name}.{kind}": array for kind, array in (value or {}).items()}
        elif isinstance(value, np.ndarray):
            arrays[name] = value
        else:
            words[name] = value
    return write_arrays(path, arrays | {"words": np.array(json.dumps(words))})


def load_audit(path: Path) -> Audit:
    """Read what :func:`save_audit` wrote; executes nothing."""
    arrays = read_arrays(path)
    words = json.loads(str(arrays.pop("words")))
    fields = {
        name: tuple(tuple(v) if isinstance(v, list) else v for v in value)
        if isinstance(value, list)
        else value
        for name, value in words.items()
    }
    for name, array in arrays.items():
        whole, _, kind = name.partition(".")
        if kind:
            fields.setdefault(whole, {})[kind] = array
        else:
            fields[name] = array
    return Audit(**fields)


def audit(
    repair, rows, weight: np.ndarray, repaired: Callable[..., np.ndarray], labels: np.ndarray | None
) -> Audit:
    """Measure a repair on rows.

    Args:
      repair: a fitted :class:`fairjax.Repair`.
      rows: as it read them.
      weight: ``[N]``.
      repaired: ``(amount) -> [N, T]``.
      labels: ``[N, T]`` or None.
    """
    sizes = [len(held) for held in repair.levels_]
    blocks = list(zip(rows.codes, sizes, strict=True))
    crossing = (
        [(np.where(rows.cell < len(repair.cells_), rows.cell, -1), len(repair.cells_))]
        if len(sizes) > 1
        else []
    )
    path = [
        rows.score.astype(np.float64),
        *(repaired(amount).astype(np.float64) for amount in AMOUNTS[1:]),
    ]
    gaps = np.stack([_gaps(score, blocks + crossing, weight) for score in path])  # [P, T, A + 1, 3]
    orders = tuple(itertools.islice(itertools.permutations(range(len(sizes))), 6))
    steps = np.stack(
        [
            np.stack(
                [
                    _gaps(repaired(amount), blocks, weight)[..., 0]
                    for amount in sequential_amounts(order)
                ]
            )
            for order in orders
        ]
    )
    after = repaired(None).astype(np.float64)
    reached = _gaps(after, blocks + crossing, weight)
    risks = None if labels is None else [_risk(column, weight) for column in labels.T]
    return Audit(
        tasks=repair.tasks_,
        attributes=repair.attributes_,
        cells=tuple(" & ".join(map(str, cell)) for cell in repair.cells_),
        units=tuple(
            "probability" if 0 <= column.min() and column.max() <= 1 else ""
            for column in rows.score.T
        ),
        level=np.stack(np.unravel_index(np.arange(len(repair.cells_)), sizes)),
        levels=tuple(tuple(map(str, held)) for held in repair.levels_),
        before=path[0],
        after=after,
        cell=rows.cell,
        weight=weight,
        amounts=AMOUNTS,
        floor=gaps[0, ..., 1],
        gaps={"kolmogorov_smirnov": gaps[..., 0], "wasserstein": gaps[..., 2]},
        reached={"kolmogorov_smirnov": reached[..., 0], "wasserstein": reached[..., 2]},
        change=np.sqrt(
            [np.average(np.square(score - path[0]), axis=0, weights=weight) for score in path]
        ),
        risk=None
        if risks is None
        else np.array([[of(score[:, t]) for t, (_, of) in enumerate(risks)] for score in path]),
        risk_name=() if risks is None else tuple(name for name, _ in risks),
        orders=orders,
        steps=steps,
        mass=repair.rows_,
    )


def _gaps(
    scores: np.ndarray, blocks: Sequence[tuple[np.ndarray, int]], weight: np.ndarray
) -> np.ndarray:
    """``[T, blocks, 3]`` of scores ``[N, T]``, see :func:`distances`; a block is positions of levels and how many."""
    orders = np.argsort(scores, axis=0)
    return np.stack(
        [
            np.stack([distances(score[by], codes[by], size, weight[by]) for codes, size in blocks])
            for score, by in zip(scores.T, orders.T, strict=True)
        ]
    )


def distances(score: np.ndarray, codes: np.ndarray, size: int, weight: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov between groups, its floor by chance and Wasserstein, ``[3]``, of rows in ascending order.

    :func:`fairjax.metrics.unfairness` in double precision on the host, where a sort is twenty times as fast.

    Args:
      score: ``[N]``, ascending.
      codes: ``[N]`` in ``0 .. size - 1``, -1 where unknown.
      size: of the attribute.
      weight: ``[N]``.
    """
    known = np.flatnonzero((codes >= 0) & (weight > 0))
    score, codes, weight = score[known], codes[known], weight[known]
    mass, square = (np.bincount(codes, w, size) for w in (weight, weight**2))
    there = np.flatnonzero(mass > 0)
    if len(there) < 2:
        return np.full(3, np.nan)
    member_ng = np.zeros((len(codes), size))
    member_ng[np.arange(len(codes)), codes] = weight
    ends = np.append(score[1:] > score[:-1], True)  # within equal scores nothing can be told apart
    reached_ng = np.cumsum(member_ng, axis=0, out=member_ng)[ends][:, there] / mass[there]
    reached_ng.sort(axis=1)
    # of G functions in order the k-th is above k others and below the rest, so that pairs need not be looked at
    above = (2 * np.arange(len(there)) - len(there) + 1) / math.comb(len(there), 2)
    rarity = np.sort(square[there] / mass[there] ** 2)[-2:]
    return np.array(
        [
            np.max(reached_ng[:, -1] - reached_ng[:, 0]),
            CHANCE * math.sqrt(rarity.sum()),
            np.diff(score[ends]) @ (reached_ng[:-1] @ above),
        ]
    )


_auc = jax.jit(auc)


def _risk(label: np.ndarray, weight: np.ndarray) -> tuple[str, Callable[[np.ndarray], float]]:
    """Name and function of the risk of scores ``[N]``: that of ranking for labels 0 and 1, else of squared differences."""
    known = np.isfinite(label) & (weight > 0)
    if np.isin(label[known], (0, 1)).all():
        return "1 - AUC", lambda score: 1 - float(_auc(score[known], label[known], weight[known]))
    return "mean squared error", lambda score: float(
        np.average(np.square(score - label)[known], weights=weight[known])
    )
