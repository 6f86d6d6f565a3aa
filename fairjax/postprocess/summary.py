"""A repair in a few lines of text: distances between groups, and the groups' prices."""

from __future__ import annotations

import numpy as np

from fairjax.postprocess._audit import Audit
from fairjax.postprocess.estimator import Repair
from fairjax.postprocess.scales import scale_name

MOST_GROUPS = 40  # groups whose price is listed


def repair_summary(repair: Repair, audit: Audit) -> str:
    """Number of rows, a table of distances and a table of prices, as text."""
    scale = scale_name(repair.scale)
    unit = "" if scale == "identity" else f", on the scale {scale!r}"
    lines = [
        _sizes(audit),
        *_aligned(_distances(audit)),
        "",
        f"price: root mean square change{unit}",
        *_aligned(_prices(repair, audit)),
    ]
    return "\n".join(lines)


def _sizes(audit: Audit) -> str:
    rows = len(audit.cell)
    pool_rows = int(audit.mass.sum())
    groups = np.count_nonzero(audit.mass > 0)
    return f"{rows:,} rows; pool of {pool_rows:,} rows in {groups} groups"


def _distances(audit: Audit) -> list[list[str]]:
    """Distances of every task by every attribute, and by all attributes crossed."""
    groupings = list(audit.attributes)
    if len(groupings) > 1:
        groupings.append(" x ".join(audit.attributes))
    ks_path = audit.gaps["kolmogorov_smirnov"]
    w1_path = audit.gaps["wasserstein"]
    columns = [
        ks_path[0],
        audit.reached["kolmogorov_smirnov"],
        audit.floor,
        w1_path[0],
        audit.reached["wasserstein"],
    ]
    distance = np.stack(columns, axis=-1)  # [T, A + 1, 5]
    head = ["", "KS before", "after", "by chance", "W1 before", "after"]
    table = [head]
    for t, task in enumerate(audit.tasks):
        for a, grouping in enumerate(groupings):
            name = f"{task} by {grouping}"
            numbers = _short(distance[t, a])
            table.append([name, *numbers])
    return table


def _prices(repair: Repair, audit: Audit) -> list[list[str]]:
    """Root mean square change of every task in every group, and in all groups."""
    change = np.sqrt(repair.price())  # [T, G]
    cells = len(audit.cells)
    rows = np.bincount(audit.cell, minlength=cells + 1)
    unknown_rows = rows[cells]
    changes = [f"change of {task}" for task in audit.tasks]
    head = ["group", "pool", "rows", *changes]
    table = [head]
    occupied = np.flatnonzero(audit.mass + rows[:cells])
    for cell in occupied[:MOST_GROUPS]:
        sizes = _whole(audit.mass[cell], rows[cell])
        numbers = _short(change[:, cell])
        table.append([audit.cells[cell], *sizes, *numbers])
    if unknown_rows:
        blanks = [""] * len(audit.tasks)
        table.append(["(unknown)", "", f"{unknown_rows:,}", *blanks])
    pool_mass = audit.mass.sum()
    squared_change = np.nansum(np.square(change) * audit.mass, axis=1)
    mean_square = squared_change / pool_mass
    sizes = _whole(pool_mass, len(audit.cell))
    numbers = _short(np.sqrt(mean_square))
    table.append(["all", *sizes, *numbers])
    return table


def _whole(*sizes: float) -> list[str]:
    return [f"{int(size):,}" for size in sizes]


def _short(numbers: np.ndarray) -> list[str]:
    return [f"{number:.4g}" for number in numbers]


def _aligned(table: list[list[str]]) -> list[str]:
    """The lines of a table, its cells in columns, the first column flush left."""
    columns = zip(*table, strict=True)
    widths = [max(map(len, column)) for column in columns]
    return [_aligned_line(cells, widths) for cells in table]


def _aligned_line(cells: list[str], widths: list[int]) -> str:
    padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    padded[0] = cells[0].ljust(widths[0])
    return "  ".join(padded)
