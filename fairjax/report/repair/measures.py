"""What the pictures and sentences of a repair read from an :class:`~fairjax.postprocess.Audit`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fairjax.postprocess import Audit
from fairjax.report.drawing import COLOURS

# lines on white: a black and a brown replace the palest two of the palette
HUES = (*COLOURS[:6], "#000000", "#7A5230")
REST_COLOUR = "0.62"  # of groups without a colour of their own


class Group(NamedTuple):
    """One group in the pictures."""

    cell: int
    name: str
    rows: np.ndarray  # positions of its reported rows
    colour: str

    @property
    def named(self) -> bool:
        """Whether the group has a colour of its own."""
        return self.colour != REST_COLOUR


def usable(audit: Audit) -> np.ndarray:
    """Rows ``[N]`` that count: of some weight, all scores finite."""
    is_finite_before = np.isfinite(audit.before).all(axis=1)
    is_finite_after = np.isfinite(audit.after).all(axis=1)
    has_weight = audit.weight > 0
    return has_weight & is_finite_before & is_finite_after


def groups_of(audit: Audit) -> list[Group]:
    """Groups with reported rows, in the order of the cells.

    Of more than eight groups the seven largest have a colour of their own.
    """
    is_usable = usable(audit)
    rows_of_cell = {}
    for cell in range(len(audit.cells)):
        is_of_cell = is_usable & (audit.cell == cell)
        if is_of_cell.any():
            rows_of_cell[cell] = np.flatnonzero(is_of_cell)
    colours = len(HUES)
    if len(rows_of_cell) > colours:
        colours -= 1
    by_size = sorted(rows_of_cell, key=lambda cell: -len(rows_of_cell[cell]))
    coloured = sorted(by_size[:colours])
    colour_of_cell = dict(zip(coloured, HUES, strict=False))
    groups = []
    for cell, rows in rows_of_cell.items():
        group = Group(
            cell=cell,
            name=audit.cells[cell],
            rows=rows,
            colour=colour_of_cell.get(cell, REST_COLOUR),
        )
        groups.append(group)
    return groups


def rows_of(groups: list[Group]) -> np.ndarray:
    """Positions of the rows of all groups."""
    return np.concatenate([group.rows for group in groups])


def change_after(audit: Audit) -> np.ndarray:
    """Root mean squared change ``[T]`` from ``before`` to ``after``."""
    is_usable = usable(audit)
    weight = audit.weight[is_usable]
    share = weight / max(weight.sum(), 1e-30)
    before = audit.before[is_usable]
    after = audit.after[is_usable].astype(float)
    mean_square = share @ np.square(after - before)
    return np.sqrt(mean_square)


def nearest_step(audit: Audit) -> int:
    """The step of the path that changes scores about as much as ``after``; of equals the last."""
    difference = np.abs(audit.change - change_after(audit))
    distance = difference.sum(axis=1)
    from_the_end = int(np.argmin(distance[::-1]))
    return len(distance) - 1 - from_the_end


def gaps_after(audit: Audit) -> dict[str, np.ndarray]:
    """Distances ``[T, A + 1]`` of the scores ``after``: as measured, or of the nearest step."""
    if audit.reached:
        return audit.reached
    step = nearest_step(audit)
    return {name: path[step] for name, path in audit.gaps.items()}


def comparisons(audit: Audit) -> list[str]:
    """Names along the last axis of ``gaps`` and ``floor``: the attributes, and all crossed."""
    names = [*audit.attributes, "all attributes crossed"]
    return names[: audit.floor.shape[1]]


def has_risk(audit: Audit, task: int) -> bool:
    """Whether the risk of a task is known."""
    if audit.risk is None:
        return False
    risk = audit.risk[:, task]
    return bool(np.isfinite(risk).any())


def cost(audit: Audit, task: int) -> tuple[np.ndarray, str]:
    """Cost of the repair over its amount ``[P]``, and its name.

    The cost is the risk, or without labels the change of the scores.
    """
    if has_risk(audit, task):
        return audit.risk[:, task], audit.risk_name[task]
    unit = _unit(audit, task)
    return audit.change[:, task], f"root mean squared change of a score ({unit})"


def score_label(audit: Audit, task: int) -> str:
    """Label of an axis of scores."""
    unit = _unit(audit, task)
    return f"score ({unit})"


def _unit(audit: Audit, task: int) -> str:
    return audit.units[task] or "its own units"
