"""``report.html``: one page that works offline, where every run can be looked at and retrained.

In: a :class:`~fairjax.report.layout.Layout`. Out: HTML with plotly.js inside. Names and values come
from other people's tables, so nothing of them reaches the page as markup: the templates escape what
Python gives them, what the script reads is JSON without ``<``, ``>`` and ``&``, what the script
shows goes through ``textContent``, and what plotly shows, which has a small markup of its own, is
escaped in the script.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fairjax.core.disk import write
from fairjax.metrics import GroupTable
from fairjax.postprocess import Audit
from fairjax.report.columns import column, hparam_keys, hparam_label, task_points
from fairjax.report.groups import groups_view
from fairjax.report.layout import Layout
from fairjax.report.payload import embedded, payload, rows_of_page
from fairjax.report.repair import repair_view
from fairjax.report.summary import plain
from fairjax.report.tables import SortableRow, SortableTable
from fairjax.report.templates import asset, markup, render
from fairjax.report.text import number

# the page may load nothing from anywhere, wherever it is opened
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline';"
    " img-src data: blob:; worker-src blob:; font-src data:; base-uri 'none'; form-action 'none'"
)
FIRST_ENTRIES = ("environment", "versions", "seeds", "single_task")  # of "How it was run"
ENTRIES_ELSEWHERE = {
    "title",
    "command",
    "selection",
    "tasks",
    "attributes",
    "groups",
    "repair",
}


def write_page(
    path: Path, layout: Layout, groups: GroupTable | None = None, repair: Audit | None = None
) -> Path:
    """Write the page of a sweep.

    Args:
      path: of the HTML file.
      layout: of the sweep.
      groups: every statistic in every group of one run.
      repair: of one run's scores.

    Returns:
      ``path``.

    Raises:
      ImportError: plotly or jinja2 is missing, or for a repair matplotlib.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError("the page needs plotly: pip install 'fairjax[plot]'") from error
    info = layout.info
    rows = rows_of_page(layout)
    page = render(
        "report.html",
        policy=POLICY,
        title=_title(info),
        style=asset("page.css"),
        script=asset("page.js"),
        plotly=markup(get_plotlyjs()),
        data=markup(embedded(payload(layout, rows))),
        lead=_lead(layout),
        sentences=[*layout.notes, *_thinning(layout, rows)],
        explanation=_explanation(layout),
        methods=_methods(layout),
        selection=str(info.get("selection") or ""),
        frontiers=_frontiers(layout, rows),
        environment=list(_environment(info)),
        groups=None if groups is None else groups_view(groups, info.get("groups", {})),
        repair=None if repair is None else repair_view(repair, info.get("repair")),
    )
    return write(path, page.encode("utf-8"))


def _title(info: dict) -> str:
    """The title as given, or the names of the tasks."""
    return str(info.get("title") or "Fairness and accuracy: " + ", ".join(info["tasks"]))


def _thinning(layout: Layout, rows: np.ndarray) -> Iterator[str]:
    runs = len(layout.method_index)
    if len(rows) < runs:
        yield (
            f"To stay light, this page shows {len(rows)} of {runs} runs, every frontier among"
            " them; table.csv holds all."
        )


def _lead(layout: Layout) -> str:
    info = layout.info
    methods = len(layout.methods)
    diverged = int(layout.diverged.sum())
    parts = [
        f"{len(layout.method_index)} runs, {methods} {'method' if methods == 1 else 'methods'}",
        f"{diverged} diverged" if diverged else "none diverged",
        f"tasks: {', '.join(info['tasks']) or 'none'}",
        f"sensitive: {', '.join(info['attributes']) or 'none'}",
    ]
    return " \N{MIDDLE DOT} ".join(parts)


def _explanation(layout: Layout) -> str:
    """Five sentences for somebody who sees such a plot for the first time."""
    if layout.relative:
        axes = (
            "ARE is a run's error divided by the error of a model trained for that task alone,"
            " averaged over tasks, and ARFG is the same for the gap: 1 is as good as such"
            " single-task models, below 1 is better."
        )
    else:
        axes = (
            "The first plot shows the error and the gap averaged over tasks, for lack of"
            " single-task models to compare with."
        )
    gap = layout.info["gap"].replace("_", " ")
    reference = ""
    if layout.reference:
        reference = f" ({', '.join(number(value, digits=4) for value in layout.reference)})"
    sentences = [
        "Every point is one trained model, a run, with its own hyper-parameters and seed.",
        f"Further left means fewer errors and further down means a smaller gap ({gap}), so the"
        " lower left corner is where one would like to be.",
        axes,
        "A line is the frontier of a method: its runs were chosen on validation data, as those"
        " that no other run of the method beats in both directions at once, and are drawn at their"
        " test values, where a hollow one is beaten.",
        "The hypervolume of a method is the area between its frontier and a fixed reference"
        f" point{reference}, so larger is better.",
    ]
    return " ".join(sentences)


def _methods(layout: Layout) -> SortableTable:
    """A row per method: runs, and the size of its frontiers."""
    head = [
        "Method",
        "Runs",
        "Diverged",
        "On the frontier",
        "Hypervolume (selected on validation)",
        "Hypervolume (selected on test)",
    ]
    rows = []
    for index, method in enumerate(layout.methods):
        mine = layout.runs_of(index)
        front = layout.overall.fronts[method]
        cells = [
            method,
            int(mine.sum()),
            int((mine & layout.diverged).sum()),
            len(front.validation),
            layout.volume(front.validation),
            layout.volume(front.test),
        ]
        rows.append(SortableRow(cells))
    return SortableTable(head, rows)


def _frontiers(layout: Layout, rows: np.ndarray) -> dict[str, SortableTable]:
    """Runs on the frontiers that validation selected, and on those that the test set selected."""
    fronts = layout.overall.fronts.values()
    return {
        "validation": _frontier(layout, rows, [front.validation for front in fronts]),
        "test": _frontier(layout, rows, [front.test for front in fronts]),
    }


def _frontier(layout: Layout, rows: np.ndarray, fronts: list[np.ndarray]) -> SortableTable:
    table = layout.table
    overall = layout.overall
    runs = np.concatenate([np.zeros(0, np.int64), *fronts])
    columns = [
        ("method", [layout.methods[index] for index in layout.method_index[runs]]),
        ("run", table["run"][runs].tolist()),
        ("seed", table["seed"][runs].tolist()),
    ]
    for key in hparam_keys(table):
        columns.append((hparam_label(key), column(table, key)[runs].tolist()))
    axes = ("ARE", "ARFG") if layout.relative else ("mean error", "mean gap")
    for split, points in (("validation", overall.selection), ("test", overall.test)):
        for position, axis in enumerate(axes):
            columns.append((f"{axis} ({split})", points[runs, position].tolist()))
    for task in layout.info["tasks"]:
        points = task_points(table, layout.info, task, "test")[runs]
        columns.append((f"error, {task} (test)", points[:, 0].tolist()))
        columns.append((f"gap, {task} (test)", points[:, 1].tolist()))
    head = [label for label, _ in columns]
    cells = zip(*(values for _, values in columns), strict=True)
    positions = np.searchsorted(rows, runs).tolist()
    return SortableTable(head, [SortableRow(*row) for row in zip(cells, positions, strict=True)])


def _environment(info: dict) -> Iterator[tuple[str, str]]:
    """What was run where: names and texts."""
    others = sorted(set(info) - ENTRIES_ELSEWHERE - {*FIRST_ENTRIES})
    for name in (*FIRST_ENTRIES, *others):
        if name not in info:
            continue
        value = plain(info[name])
        text = value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
        yield name.replace("_", " "), text
