"""Layout of a table of runs: panels, frontiers, the reference point, notes on what is missing.

In: the table and ``info``. Out: a :class:`Layout`, from which figures, page and summary are drawn,
so that all three show the same points. Every axis is minimised. Validation metrics select the
frontier of a method, and test metrics are shown; the frontier that the test set itself selects
stands beside it.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from fairjax.core.keys import parse_key
from fairjax.core.tables import Table
from fairjax.metrics.frontier import hypervolume, knee
from fairjax.report.columns import mean_points, relative_points, task_points
from fairjax.report.names import attribute_label, task_label
from fairjax.report.notes import notes_of
from fairjax.report.panel import Panel, any_finite, front_of, limits_of, make_panel, within
from fairjax.report.references import relative_references, task_references
from fairjax.report.sample import shown_rows
from fairjax.report.text import literal, unbroken

COLUMNS = ("run", "method", "point", "seed", "diverged")  # that a table must have
ENTRIES = ("tasks", "attributes", "gap")  # that info must have
ROWS = "fraction of rows"  # the unit of an error, unless info has another
# (ARE, ARFG): a quarter more error than single-task models, a gap that is no smaller
RELATIVE_REFERENCE = (1.25, 1.0)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A table of runs laid out for figures, page and summary."""

    table: Table
    info: dict[str, Any]
    methods: tuple[str, ...]
    method_index: np.ndarray  # [N] position in ``methods``
    diverged: np.ndarray  # [N] bool
    overall: Panel
    task_panels: tuple[Panel, ...]
    relative: bool  # whether ``overall`` is measured in ARE and ARFG
    reference: tuple[float, float] | None
    notes: tuple[str, ...]

    @cached_property
    def shown(self) -> np.ndarray:
        """Rows ``[M]`` that page and figures show, see :func:`shown_rows`."""
        return shown_rows(self)

    def volume(self, rows: np.ndarray) -> float | None:
        """Hypervolume of rows on test in the overall panel; None where there is no reference."""
        if self.reference is None:
            return None
        points = self.overall.test[rows]
        if not len(points):
            return 0.0
        return float(hypervolume(points, np.array(self.reference)))

    def runs_of(self, index: int) -> np.ndarray:
        """Which runs ``[N]`` are of a method."""
        return self.method_index == index


@dataclasses.dataclass(frozen=True)
class Tradeoff:
    """Two tasks against each other on test: their errors in one plane, their gaps in another."""

    tasks: tuple[str, str]
    usable: np.ndarray  # [N] bool
    left_out: int  # runs with errors far beyond the bulk
    errors: np.ndarray  # [N, 2]
    gaps: np.ndarray  # [N, 2]
    error_front: np.ndarray  # [K] rows on the frontier of the errors
    gap_front: np.ndarray  # [M] rows on the frontier of the gaps


def lay_out(table: Table, info: dict[str, Any]) -> Layout:
    """Lay out a table of runs.

    Args:
      table: columns ``[N]`` by key; see :func:`fairjax.report.write`.
      info: at least ``tasks``, ``attributes`` and ``gap``.

    Returns:
      A :class:`Layout`. Metrics that are absent or not finite leave their panel empty and a
      sentence in ``notes``.

    Raises:
      ValueError: a needed column or entry is missing, or the key of a metric is given as text.
    """
    _check(table, info)
    runs = _runs(table)
    positions = range(len(info["tasks"]))
    task_panels = [_task_panel(table, info, position, runs) for position in positions]
    overall, relative = _overall_panel(table, info, runs)
    layout = Layout(
        table=table,
        info=info,
        methods=runs["methods"],
        method_index=runs["method_index"],
        diverged=~runs["ended"],
        overall=overall,
        task_panels=tuple(task_panels),
        relative=relative,
        reference=_reference(overall, info, relative),
        notes=(),
    )
    warnings = map(str, info.get("warnings") or ())
    notes = (*warnings, *notes_of(layout))
    return dataclasses.replace(layout, notes=notes)


def tradeoff(layout: Layout) -> Tradeoff:
    """The first two tasks against each other, over the runs of all methods.

    Runs far beyond the bulk of the errors are left out of both planes: a collapsed model decides
    alike for everybody, so its gap is near 0, and it alone would be the whole frontier of the gaps.
    """
    tasks = tuple(layout.info["tasks"][:2])
    points = [task_points(layout.table, layout.info, task, "test") for task in tasks]
    errors = np.stack([point[:, 0] for point in points], axis=1)
    gaps = np.stack([point[:, 1] for point in points], axis=1)
    finite = np.isfinite(errors).all(axis=1) & np.isfinite(gaps).all(axis=1)
    ended = ~layout.diverged & finite
    bulk = limits_of(errors, layout.method_index, ended)
    usable = ended & within(errors, bulk)
    rows = np.flatnonzero(usable)
    return Tradeoff(
        tasks=tasks,
        usable=usable,
        left_out=int(ended.sum() - usable.sum()),
        errors=errors,
        gaps=gaps,
        error_front=front_of(errors, rows),
        gap_front=front_of(gaps, rows),
    )


def counts_errors(info: dict[str, Any], task: str) -> bool:
    """Whether the error of a task is a share of rows, by its unit and its constant predictors."""
    unit = (info.get("units") or {}).get("error", ROWS)
    constants = (info.get("constants") or {}).get("test", {})
    return unit == ROWS and "mean" not in constants.get(task, {})


def knee_run(table: Table, info: dict[str, Any]) -> int | None:
    """The run that stands for a study: the knee of all methods' frontier on validation.

    Rows of the methods in ``info["reference_methods"]`` are no candidates: a reference is one
    network per task.

    Returns:
      The run's number; None where no candidate ended with finite metrics, or where there are no
      validation metrics.
    """
    points = _candidate_points(table, info)
    if points is None:
        return None
    return int(table["run"][knee(points)])


def candidate_runs(table: Table, info: dict[str, Any]) -> list[int]:
    """Runs to choose from, on all methods' frontier on validation.

    They are the run of least error, the knee and the run of the smallest gap, each once; none where
    :func:`knee_run` finds none.
    """
    points = _candidate_points(table, info)
    if points is None:
        return []
    error, gap = np.where(np.isnan(points), np.inf, points).T
    least_error = np.lexsort((gap, error))[0]
    smallest_gap = np.lexsort((error, gap))[0]
    rows = dict.fromkeys([int(least_error), int(knee(points)), int(smallest_gap)])
    return [int(table["run"][row]) for row in rows]


def _candidate_points(table: Table, info: dict[str, Any]) -> np.ndarray | None:
    """Points ``[N, 2]`` that select, NaN for runs that are no candidates; None without any."""
    _check(table, info)
    overall, _ = _overall_panel(table, info, _runs(table))
    references = info.get("reference_methods", [])
    methods = np.asarray(table["method"], str)
    is_reference = np.isin(methods, references)
    is_candidate = overall.usable & ~is_reference
    if overall.selected_on_test or not is_candidate.any():
        return None
    return np.where(is_candidate[:, None], overall.selection, np.nan)


def _check(table: Table, info: dict[str, Any]) -> None:
    absent = [name for name in COLUMNS if name not in table]
    if absent:
        columns = [str(key) for key in table][:8]
        raise ValueError(f"the table of runs lacks the columns {absent}; it has {columns} ...")
    texts = [key for key in table if isinstance(key, str) and parse_key(key) != key]
    if texts:
        raise ValueError(
            f"the table of runs has {len(texts)} columns of metrics or hyper-parameters whose keys"
            f" are text, {texts[0]!r} among them; make keys of them with"
            " fairjax.core.keys.parse_key"
        )
    absent = [name for name in ENTRIES if name not in info]
    if absent:
        raise ValueError(f"info lacks {absent}; it has {sorted(info)}")


def _runs(table: Table) -> dict[str, Any]:
    """What panels are told of the runs.

    Names of the methods in the order of the table, the position ``[N]`` of each run's among them,
    and whether it ended, ``[N]`` bool.
    """
    labels = [str(label) for label in table["method"]]
    methods = tuple(dict.fromkeys(labels))
    position = {method: index for index, method in enumerate(methods)}
    return {
        "methods": methods,
        "method_index": np.array([position[label] for label in labels], np.int64),
        "ended": ~np.asarray(table["diverged"], bool),
    }


def _task_panel(table: Table, info: dict[str, Any], position: int, runs: dict[str, Any]) -> Panel:
    task = info["tasks"][position]
    return make_panel(
        key=f"task{position}",
        title=task_label(info, task),
        labels=_task_labels(info),
        validation=task_points(table, info, task, "validation"),
        test=task_points(table, info, task, "test"),
        references=task_references(info, task),
        **runs,
    )


def _overall_panel(table: Table, info: dict[str, Any], runs: dict[str, Any]) -> tuple[Panel, bool]:
    """The panel of all tasks, and whether it is measured in ARE and ARFG."""
    relative = any_finite(relative_points(table, "test")[runs["ended"]])
    if relative:
        validation = relative_points(table, "validation")
        test = relative_points(table, "test")
    else:
        validation = mean_points(table, info, "validation")
        test = mean_points(table, info, "test")
    panel = make_panel(
        key="overall",
        title="All tasks together",
        labels=_overall_labels(info, relative),
        validation=validation,
        test=test,
        references=relative_references(info) if relative else (),
        **runs,
    )
    return panel, relative


def _reference(panel: Panel, info: dict[str, Any], relative: bool) -> tuple[float, float] | None:
    """As ``info`` says, or ``RELATIVE_REFERENCE``, or just beyond the worst of all frontiers."""
    if info.get("reference") is not None:
        error, gap = info["reference"]
        return float(error), float(gap)
    points = panel.test[panel.usable]
    if not len(points):
        return None
    is_better = (points < np.array(RELATIVE_REFERENCE)).all(axis=1)
    if relative and is_better.any():
        return RELATIVE_REFERENCE
    rows = []
    for front in panel.fronts.values():
        rows.append(front.validation)
        rows.append(front.test)
    frontier = panel.test[np.concatenate(rows)]
    low = frontier.min(axis=0)
    high = frontier.max(axis=0)
    size = np.maximum(np.abs(high), 1e-3)
    span = np.where(high > low, high - low, size)
    error, gap = high + 0.1 * span
    return float(error), float(gap)


def _unit(info: dict[str, Any], metric: str) -> str:
    """The unit of a metric for an axis label, in brackets; empty where it is unknown."""
    gap = info["gap"]
    is_bounded = gap.endswith("_difference") or gap.startswith("correlation")
    defaults = {
        "error": ROWS,
        gap: "0 to 1" if is_bounded else "",
    }
    units = defaults | info.get("units", {})
    unit = units.get(metric, "")
    if not unit:
        return ""
    return " " + unbroken(f"({unit})")


def _task_labels(info: dict[str, Any]) -> tuple[str, str]:
    error_unit = _unit(info, "error")
    gap_unit = _unit(info, info["gap"])
    gap = info["gap"].replace("_", " ")
    between = _between([attribute_label(info, name) for name in info["attributes"]])
    return (
        f"Test error{error_unit}",
        f"Test {gap}{between}{gap_unit}",
    )


def _between(attributes: list[str]) -> str:
    """The part of a gap's label that says between whose groups it is measured."""
    names = [unbroken(literal(name, 20)) for name in attributes]
    if not names:
        return ""
    if len(names) == 1:
        return f", {names[0]}"
    listed = ", ".join(names) if len(names) < 4 else f"{len(names)} attributes"
    return f", worst of {listed}"


def _overall_labels(info: dict[str, Any], relative: bool) -> tuple[str, str]:
    if relative:
        scale = unbroken("(1 = single-task models)")
        return (
            f"Average relative error on test, ARE {scale}",
            f"Average relative fairness gap on test, ARFG {scale}",
        )
    error_unit = _unit(info, "error")
    gap_unit = _unit(info, info["gap"])
    gap = info["gap"].replace("_", " ")
    return (
        f"Mean test error over tasks{error_unit}",
        f"Mean test {gap} over tasks{gap_unit}",
    )
