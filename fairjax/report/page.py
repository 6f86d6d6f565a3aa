"""``report.html``: one page that works offline, where every run can be looked at and retrained.

In: a :class:`~fairjax.report.view.Study`. Out: HTML with plotly.js inside. Names and values come from other people's
tables, so nothing of them reaches the page as markup: what Python writes is HTML-escaped, what the script reads is JSON
without ``<``, ``>`` and ``&``, what the script shows goes through ``textContent``, and what plotly shows, which has a
small markup of its own, is escaped in the script.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import numpy as np

from fairjax.core.disk import write
from fairjax.metrics import GroupTable
from fairjax.postprocess import Audit
from fairjax.report.figures import COLOURS, SIZES, look
from fairjax.report.groups import groups_section
from fairjax.report.repair import repair_section
from fairjax.report.summary import plain
from fairjax.report.template import asset, filled, notes
from fairjax.report.view import (
    Panel,
    Study,
    column,
    error_name,
    gap_names,
    literal,
    worst_gap,
    wrapped,
)

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "pentagon")
GLYPHS = (
    "\u25cf",
    "\u25a0",
    "\u25c6",
    "\u25b2",
    "\u25bc",
    "\u271a",
    "\u2716",
    "\u2b1f",
)  # the same shapes as text
MANY = 2000  # points beyond which a browser needs WebGL
MOST = 20_000  # points beyond which the page grows too heavy for a browser

# the page may load nothing from anywhere, wherever it is opened
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; worker-src blob:; font-src data:; base-uri 'none'; form-action 'none'"
)


def write_page(
    path: Path, study: Study, groups: GroupTable | None = None, repair: Audit | None = None
) -> Path:
    """Write the page of a study, with the groups and the repair of one of its runs where given.

    Raises:
      ImportError: plotly is missing.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError("the page needs plotly: pip install 'fairjax[plot]'") from error
    rows = shown_rows(study)
    slots = {
        "policy": POLICY,
        "title": escape(title(study)),
        "style": asset("page.css"),
        "script": asset("page.js"),
        "plotly": get_plotlyjs(),
        "data": embedded(payload(study, rows)),
        "lead": _lead(study),
        "notes": notes([*study.notes, *_thinned(study, rows)]),
        "explanation": _explanation(study),
        "methods": _methods(study),
        "frontiers": _frontiers(study, rows),
        "environment": _environment(study.info),
        "groups": groups_section(groups, study.info.get("groups", {})),
        "repair": "" if repair is None else repair_section(repair, study.info.get("repair")),
    }
    return write(path, filled("page.html", slots).encode("utf-8"))


def title(study: Study) -> str:
    """The given title, or the names of the tasks."""
    return str(
        study.info.get("title") or "Fairness and accuracy: " + ", ".join(study.info["tasks"])
    )


def shown_rows(study: Study) -> np.ndarray:
    """Rows of the table that the page holds: all, or every frontier and an even choice of the others."""
    runs = len(study.method)
    if runs <= MOST:
        return np.arange(runs)
    fronts = [
        rows
        for p in (study.overall, *study.tasks)
        for f in p.fronts.values()
        for rows in (f.validation, f.test)
    ]
    return np.unique(np.concatenate([*fronts, np.linspace(0, runs - 1, MOST).astype(np.int64)]))


def embedded(value) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(plain(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def payload(study: Study, rows: np.ndarray) -> dict:
    """What the page's script draws: columns of the shown runs, panels, looks of the methods.

    Args:
      rows: ``[M]`` rows of the table; everything below counts in positions within it.
    """
    table = study.table
    hparams = [n for n in table if n.startswith("hparam.")]
    return {
        "methods": [_look(study, i) for i in range(len(study.methods))],
        "runs": {name: table[name][rows] for name in ("run", "point", "seed")}
        | {"method": study.method[rows]},
        "hparams": [
            (name.removeprefix("hparam."), _short(column(table, name)[rows])) for name in hparams
        ],
        "metrics": [(label, _short(column(table, name)[rows])) for label, name in _metrics(study)],
        "panels": [_panel(p, rows, study) for p in (study.overall, *study.tasks)],
        "command": str(study.info.get("command") or ""),
        "many": MANY,
    }


def _metrics(study: Study) -> list[tuple[str, str]]:
    """What a run's facts are called on the page, and the columns that hold them; table.csv has the others."""
    info = study.info
    names = [
        (f"{m.upper()} ({split})", f"{split}.{m}")
        for split in ("test", "validation")
        for m in ("are", "arfg")
    ]
    for task in info["tasks"]:
        names.append((f"error, {task} (test)", error_name("test", task)))
        gaps = zip(info["attributes"], gap_names(info, "test", task), strict=True)
        names += [(f"gap, {task}, {attribute} (test)", name) for attribute, name in gaps]
    return [(label, name) for label, name in names if name in study.table]


def _look(study: Study, index: int) -> dict:
    colour, marker = look(index)
    name = study.methods[index]
    return {
        "name": name,
        "label": literal(name),
        "colour": COLOURS[colour],
        "symbol": SYMBOLS[marker],
        "size": SIZES[marker],
        "glyph": GLYPHS[marker],
        "volume": study.volume(study.overall.fronts[name].validation),
    }


def _panel(panel: Panel, rows: np.ndarray, study: Study) -> dict:
    shown = np.where(panel.usable[:, None], panel.show, np.nan)[rows]
    return {
        "key": panel.key,
        "title": literal(panel.title, 60),
        "labels": [wrapped(text, 46).split("\n") for text in panel.labels],
        "x": _short(shown[:, 0]),
        "y": _short(shown[:, 1]),
        "limits": panel.limits,
        "levels": panel.key == "overall" and study.relative,
        "runs": panel.usable.sum(),
        "outside": panel.outside,
        "fronts": [
            {"chosen": np.searchsorted(rows, f.validation), "line": np.searchsorted(rows, f.line)}
            for f in panel.fronts.values()
        ],
    }


def _short(values: np.ndarray) -> list:
    return [float(f"{v:.6g}") for v in values.tolist()]


def _thinned(study: Study, rows: np.ndarray) -> list[str]:
    if len(rows) == len(study.method):
        return []
    return [
        f"To stay light, this page shows {len(rows)} of {len(study.method)} runs, every frontier among them;"
        " table.csv holds all."
    ]


def _lead(study: Study) -> str:
    info, lost = study.info, int(study.diverged.sum())
    count = "1 method" if len(study.methods) == 1 else f"{len(study.methods)} methods"
    parts = [
        f"{len(study.method)} runs, {count}",
        f"{lost} diverged" if lost else "none diverged",
        f"tasks: {', '.join(info['tasks']) or 'none'}",
        f"sensitive: {', '.join(info['attributes']) or 'none'}",
    ]
    return escape(" \N{MIDDLE DOT} ".join(parts))


def _explanation(study: Study) -> str:
    """Five sentences for somebody who sees such a plot for the first time."""
    relative = (
        "ARE is a run's error divided by the error of a model trained for that task alone, averaged over tasks,"
        " and ARFG is the same for the gap: 1 is as good as such single-task models, below 1 is better."
    )
    plainly = (
        "The first plot shows the error and the gap averaged over tasks, for lack of single-task models to"
        " compare with."
    )
    gap = study.info["gap"].replace("_", " ")
    sentences = [
        "Every point is one trained model, a run, with its own hparams and seed.",
        f"Further left means fewer errors and further down means a smaller gap ({gap}), so the lower"
        " left corner is where one would like to be.",
        relative if study.relative else plainly,
        "A line is the frontier of a method: its runs were chosen on validation data, as those that no other run of the"
        " method beats in both directions at once, and are drawn at their test values, where a hollow one is beaten.",
        "The hypervolume of a method is the area between its frontier and a fixed reference point"
        f"{_point(study.reference)}, so larger is better.",
    ]
    return escape(" ".join(sentences))


def _point(reference) -> str:
    return f" ({', '.join(_number(v) for v in reference)})" if reference else ""


def _methods(study: Study) -> str:
    head = [
        "Method",
        "Runs",
        "Diverged",
        "On the frontier",
        "Hypervolume (selected on validation)",
        "Hypervolume (selected on test)",
    ]
    lines = []
    for i, name in enumerate(study.methods):
        mine, front = study.method == i, study.overall.fronts[name]
        lines.append(
            [
                name,
                int(mine.sum()),
                int((mine & study.diverged).sum()),
                len(front.validation),
                study.volume(front.validation),
                study.volume(front.test),
            ]
        )
    return _html_table(head, lines)


def _frontiers(study: Study, rows: np.ndarray) -> str:
    """Frontier runs selected on validation, and beside them, folded, those selected on the test set."""
    parts = [
        _frontier(study, rows, [f.validation for f in study.overall.fronts.values()]),
        "<details><summary>The same, selected on the test set (as often published; it flatters)</summary>",
        _frontier(study, rows, [f.test for f in study.overall.fronts.values()]),
        "</details>",
    ]
    chosen = study.info.get("selection")
    return (f"<p>{escape(str(chosen))}</p>" if chosen else "") + "".join(parts)


def _frontier(study: Study, rows: np.ndarray, fronts: list[np.ndarray]) -> str:
    table, info, overall = study.table, study.info, study.overall
    picked = np.concatenate([np.zeros(0, np.int64), *fronts])
    if not len(picked):
        return "<p>No run is on a frontier.</p>"
    names = ("ARE", "ARFG") if study.relative else ("mean error", "mean gap")
    columns = {"method": [study.methods[i] for i in study.method[picked]]}
    columns |= {name: table[name][picked].tolist() for name in ("run", "seed")}
    columns |= {
        n.removeprefix("hparam."): column(table, n)[picked].tolist()
        for n in table
        if n.startswith("hparam.")
    }
    columns |= {
        f"{n} (validation)": overall.select[picked, i].tolist() for i, n in enumerate(names)
    }
    columns |= {f"{n} (test)": overall.show[picked, i].tolist() for i, n in enumerate(names)}
    for task in info["tasks"]:
        columns[f"error, {task} (test)"] = column(table, error_name("test", task))[picked].tolist()
        columns[f"gap, {task} (test)"] = worst_gap(table, info, "test", task)[picked].tolist()
    return _html_table(
        list(columns), list(zip(*columns.values(), strict=True)), np.searchsorted(rows, picked)
    )


def _html_table(head: list[str], lines: list, positions=None) -> str:
    """A table whose rows carry, where given, the position of the run that a click on them selects."""
    marks = (
        [""] * len(lines)
        if positions is None
        else [f' data-position="{int(p)}" tabindex="0"' for p in positions]
    )
    header = "".join(_head_cell(name) for name in head)
    body = "".join(
        f"<tr{mark}>" + "".join(_cell(value) for value in line) + "</tr>"
        for mark, line in zip(marks, lines, strict=True)
    )
    return f'<div class="wide"><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'


def _head_cell(name: str) -> str:
    longest = max(map(len, name.split()), default=0)
    width = min(longest, 18) + 3  # room for a common name; a longer one breaks
    return f'<th scope="col" style="min-width:{width}ch"><button type="button">{escape(name)}</button></th>'


def _cell(value) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    return f'<td class="number">{_number(value)}</td>'


def _number(value) -> str:
    if value is None or not np.isfinite(value):
        return "\N{EN DASH}"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _environment(info: dict) -> str:
    """What was run where, as a definition list."""
    known = ["environment", "versions", "seeds", "single_task"]
    rest = sorted(
        set(info)
        - {*known, "title", "command", "selection", "tasks", "attributes", "groups", "repair"}
    )
    items = []
    for name in [n for n in (*known, *rest) if n in info]:
        value = plain(info[name])
        text = value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
        items.append(f"<dt>{escape(name.replace('_', ' '))}</dt><dd><pre>{escape(text)}</pre></dd>")
    return f"<dl>{''.join(items)}</dl>"
