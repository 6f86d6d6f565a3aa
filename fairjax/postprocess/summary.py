"""A repair in a few lines of text: distances between groups, and the groups' prices."""

from __future__ import annotations

import numpy as np

from fairjax.postprocess._audit import Audit
from fairjax.postprocess.estimator import Repair
from fairjax.postprocess.scales import scale_name

MOST_GROUPS = 40  # that the price is listed for


def repair_summary(repair: Repair, audit: Audit) -> str:
    """Number of rows, a table of distances and a table of prices, as text."""
    present = int((audit.mass > 0).sum())
    rows = f"{len(audit.cell):,} rows; pool of {int(audit.mass.sum()):,} rows in {present} groups"
    name = scale_name(repair.scale)
    unit = "" if name == "identity" else f", on the scale {name!r}"
    return (
        f"{rows}\n{_aligned(_distances(audit))}\n\n"
        f"price: root mean square change{unit}\n{_aligned(_prices(repair, audit))}"
    )


def _distances(audit: Audit) -> list[list[str]]:
    """Distances of every task by every attribute, and by all attributes crossed."""
    names = list(audit.attributes)
    if len(names) > 1:
        names.append(" x ".join(audit.attributes))
    columns = [
        audit.gaps["kolmogorov_smirnov"][0],
        audit.reached["kolmogorov_smirnov"],
        audit.floor,
        audit.gaps["wasserstein"][0],
        audit.reached["wasserstein"],
    ]
    lines = [["", "KS before", "after", "by chance", "W1 before", "after"]]
    for t, task in enumerate(audit.tasks):
        for a, name in enumerate(names):
            distances = [numbers[t, a] for numbers in columns]
            lines.append([f"{task} by {name}", *_short(distances)])
    return lines


def _prices(repair: Repair, audit: Audit) -> list[list[str]]:
    """Root mean square change of every task in every group, and in all groups."""
    price = np.sqrt(repair.price())
    count = len(audit.cells)
    rows = np.bincount(audit.cell, minlength=count + 1)
    lines = [["group", "pool", "rows", *(f"change of {task}" for task in audit.tasks)]]
    for g in np.flatnonzero(audit.mass + rows[:count])[:MOST_GROUPS]:
        counts = [f"{int(audit.mass[g]):,}", f"{rows[g]:,}"]
        lines.append([audit.cells[g], *counts, *_short(price[:, g])])
    if rows[count]:
        lines.append(["(unknown)", "", f"{rows[count]:,}", *[""] * len(audit.tasks)])
    mean = np.sqrt(np.nansum(np.square(price) * audit.mass, axis=1) / audit.mass.sum())
    totals = [f"{int(audit.mass.sum()):,}", f"{len(audit.cell):,}"]
    lines.append(["all", *totals, *_short(mean)])
    return lines


def _short(numbers) -> list[str]:
    return [f"{number:.4g}" for number in numbers]


def _aligned(lines: list[list[str]]) -> str:
    """Cells in columns, the first column flush left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_aligned_line(line, widths) for line in lines)


def _aligned_line(line: list[str], widths: list[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
    cells[0] = line[0].ljust(widths[0])
    return "  ".join(cells)
