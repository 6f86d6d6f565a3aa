"""``report.html``: one page that works offline and answers which run to take, and at what cost.

In: a :class:`~fairjax.report.layout.Layout`. Out: HTML with its own small script inside. Names and
values come from other people's tables, so nothing of them reaches the page as markup: the templates
escape what Python gives them, what the script reads is JSON without ``<``, ``>`` and ``&``, and
what the script shows goes through ``textContent``. The browser runs no script but this one, whose
digest stands in the policy.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairjax.core.disk import write
from fairjax.core.tables import table_file
from fairjax.metrics import GroupTable
from fairjax.postprocess import Audit
from fairjax.report.branches_figure import branches_view
from fairjax.report.candidates import candidates_of, seeds_sentence
from fairjax.report.columns import gain_keys
from fairjax.report.commands import relative_command
from fairjax.report.constraints_figure import constraints_view
from fairjax.report.data_view import data_view
from fairjax.report.groups import groups_view
from fairjax.report.layout import Layout
from fairjax.report.names import attribute_label, group_label, task_label
from fairjax.report.payload import embedded, payload
from fairjax.report.references import references_table
from fairjax.report.repair import repair_view
from fairjax.report.seeds import volume_text
from fairjax.report.summary import plain
from fairjax.report.tables import SortableRow, SortableTable
from fairjax.report.templates import asset, markup, render
from fairjax.report.terms import decision_text, terms_of
from fairjax.report.text import count
from fairjax.report.words import words_of

# the page may load nothing from anywhere, wherever it is opened
POLICY = (
    "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:;"
    " base-uri 'none'; form-action 'none'"
)
SCRIPTS = ("scatter.js", "answer.js", "page.js")


def write_page(
    path: Path, layout: Layout, groups: GroupTable | None = None, repair: Audit | None = None
) -> Path:
    """Write the page of a sweep.

    Args:
      path: of the HTML file. Paths in commands are shown relative to its folder.
      layout: of the sweep.
      groups: every statistic in every group of one run.
      repair: of one run's scores.

    Returns:
      ``path``.

    Raises:
      ImportError: jinja2 is missing, or for a repair, branches or constraints matplotlib.
    """
    path = Path(path)
    info = layout.info
    rows = layout.shown
    command = relative_command(str(info.get("command") or ""), path.parent)
    data = payload(layout, rows, command)
    script = _script()
    page = render(
        "report.html",
        policy=_policy(script),
        title=_title(info),
        style=asset("page.css"),
        script=markup(script),
        data=markup(embedded(data)),
        lead=_lead(layout),
        warnings=[str(warning) for warning in info.get("warnings") or ()],
        table=data_view(info),
        candidates=candidates_of(layout, rows),
        seeds=seeds_sentence(info),
        tasks=data["tasks"],
        attributes=data["attributes"],
        notes=[*_notes(layout), *_thinning(layout)],
        explanation=_explanation(layout),
        looks=data["methods"],
        panels=[_figure(layout, panel) for panel in (layout.overall, *layout.task_panels)],
        references=references_table(info),
        methods=_methods(layout),
        selection=str(info.get("selection") or ""),
        left_out=_left_out(info),
        minimum=info.get("minimum"),
        terms=list(terms_of(info)),
        table_file=table_file(layout.table.rows),
        record=json.dumps(plain(info), indent=1, ensure_ascii=False),
        groups=None if groups is None else groups_view(groups, info),
        repair=None if repair is None else repair_view(repair, info.get("repair")),
        pictures=[*branches_view(info), *constraints_view(info)],
    )
    return write(path, page.encode("utf-8"))


def _script() -> str:
    """The script of the page."""
    return "\n".join(asset(name) for name in SCRIPTS)


def _policy(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return POLICY.format(digest=base64.b64encode(digest).decode())


def _title(info: dict[str, Any]) -> str:
    """The title as given, or the names of the tasks."""
    return str(info.get("title") or "Fairness and accuracy: " + ", ".join(info["tasks"]))


def _notes(layout: Layout) -> tuple[str, ...]:
    """The notes that are no warnings."""
    warnings = len(layout.info.get("warnings") or ())
    return layout.notes[warnings:]


def _thinning(layout: Layout) -> Iterator[str]:
    runs = len(layout.method_index)
    if len(layout.shown) < runs:
        yield (
            f"To stay light, this page shows {len(layout.shown):,} of {runs:,} runs: every"
            f" frontier, every cheapest run, and a sample. {table_file(runs)} holds all."
        )


def _lead(layout: Layout) -> str:
    info = layout.info
    methods = len(layout.methods)
    diverged = int(layout.diverged.sum())
    tasks = [task_label(info, task) for task in info["tasks"]]
    attributes = [attribute_label(info, name) for name in info["attributes"]]
    parts = [
        f"{len(layout.method_index):,} runs, {methods} {'method' if methods == 1 else 'methods'}",
        f"{diverged:,} diverged" if diverged else "none diverged",
        f"tasks: {', '.join(tasks) or 'none'}",
        f"sensitive: {', '.join(attributes) or 'none'}",
    ]
    return " \N{MIDDLE DOT} ".join(parts)


def _explanation(layout: Layout) -> str:
    """A few sentences for somebody who sees such a plot for the first time."""
    info = layout.info
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
    gap = info["gap"].replace("_", " ")
    sentences = [
        "Every point is one trained model, a run, with its own hyper-parameters and seed.",
        f"Further left means fewer errors and further down means a smaller gap ({gap}), so the"
        " lower left corner is where one would like to be.",
        axes,
        "A line is the frontier of a method: its runs were chosen on validation data, as those"
        " that no other run of the method beats in both directions at once, and are drawn at their"
        " test values, where a hollow one is beaten.",
        _gains_text(layout),
    ]
    if info.get("notion"):
        sentences.append(f"The notion that was trained: {info['notion']}.")
    sentences.append(decision_text(info))
    return " ".join(sentence for sentence in sentences if sentence)


def _gains_text(layout: Layout) -> str:
    """What the gains in the table of runs mean; empty where it has none."""
    if not any(key in layout.table for key in gain_keys("test")):
        return ""
    return (
        "In the table of runs, knowledge gain is the accuracy less that of the single-task models,"
        " and discrimination gain is the violation less theirs (of equalized odds the sum of the"
        " differences of both rates): below 0 is fairer."
    )


def _figure(layout: Layout, panel) -> dict[str, Any]:
    """A plot, as the template draws its frame."""
    x, y = panel.labels
    return {
        "key": panel.key,
        "title": panel.title,
        "x": x,
        "y": y,
        "outside": panel.outside,
        "runs": panel.runs,
        "words": words_of(layout, panel),
    }


def _methods(layout: Layout) -> SortableTable:
    """A row per method: runs, the size of its frontier, with several seeds its hypervolume."""
    head = ["Method", "Runs", "Diverged", "On the frontier"]
    volumes = [volume_text(layout, index) for index in range(len(layout.methods))]
    references = layout.info.get("reference_methods", [])
    known = [name for name, text in zip(layout.methods, volumes, strict=True) if text]
    has_volumes = not set(known) <= set(references)
    if has_volumes:
        head.append("Hypervolume on test, mean over seeds [95 % interval]")
    rows = []
    for index, method in enumerate(layout.methods):
        mine = layout.runs_of(index)
        front = layout.overall.fronts[method]
        cells = [
            method,
            int(mine.sum()),
            int((mine & layout.diverged).sum()),
            len(front.validation),
        ]
        if has_volumes:
            cells.append(volumes[index] or None)
        rows.append(SortableRow(cells))
    return SortableTable(head, rows)


def _left_out(info: dict[str, Any]) -> SortableTable | None:
    """Groups of the test rows that are too small for gaps; None where there are none."""
    entries = (info.get("left_out") or {}).get("test") or ()
    rows = []
    for entry in entries:
        attribute = entry["attribute"]
        cells = [
            attribute_label(info, attribute),
            group_label(info, attribute, entry["group"]),
            task_label(info, entry["task"]),
            count(entry["rows"]),
            count(entry["rows_that_count"]),
        ]
        rows.append(SortableRow(cells))
    if not rows:
        return None
    return SortableTable(["Attribute", "Group", "Task", "Rows", "Rows that count"], rows)
