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
    finite_before = np.isfinite(audit.before).all(axis=1)
    finite_after = np.isfinite(audit.after).all(axis=1)
    return (audit.weight > 0) & finite_before & finite_after


def groups_of(audit: Audit) -> list[Group]:
    """Groups with reported rows, in the order of the cells.

    Of more than eight groups the seven largest have a colour of their own.
    """
    counted = usable(audit)
    rows = {}
    for cell in range(len(audit.cells)):
        cell_rows = np.flatnonzero(counted & (audit.cell == cell))
        if len(cell_rows):
            rows[cell] = cell_rows
    colours = len(HUES)
    if len(rows) > colours:
        colours -= 1
    by_size = sorted(rows, key=lambda cell: -len(rows[cell]))
    coloured = sorted(by_size[:colours])
    colour = dict(zip(coloured, HUES, strict=False))
    groups = []
    for cell in rows:
        group_colour = colour.get(cell, REST_COLOUR)
        groups.append(Group(cell, audit.cells[cell], rows[cell], group_colour))
    return groups


def rows_of(groups: list[Group]) -> np.ndarray:
    """Positions of the rows of all groups."""
    return np.concatenate([group.rows for group in groups])


def change_after(audit: Audit) -> np.ndarray:
    """Root mean squared change ``[T]`` from ``before`` to ``after``."""
    counted = usable(audit)
    weight = audit.weight[counted]
    share = weight / max(weight.sum(), 1e-30)
    change = audit.after[counted].astype(float) - audit.before[counted]
    return np.sqrt(share @ np.square(change))


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
    return bool(np.isfinite(audit.risk[:, task]).any())


def cost(audit: Audit, task: int) -> tuple[np.ndarray, str]:
    """Cost of the repair over its amount ``[P]``, and its name.

    The cost is the risk, or without labels the change of the scores.
    """
    if has_risk(audit, task):
        return audit.risk[:, task], audit.risk_name[task]
    return audit.change[:, task], f"root mean squared change of a score ({_unit(audit, task)})"


def score_label(audit: Audit, task: int) -> str:
    """Label of an axis of scores."""
    return f"score ({_unit(audit, task)})"


def _unit(audit: Audit, task: int) -> str:
    return audit.units[task] or "its own units"
