"""What there is to see in a table of runs: panels, frontiers, limits, and sentences about what is missing.

In: the tidy table and ``info``. Out: a :class:`Study`, from which figures, page and summary are drawn, so that all
three show the same points. Every axis is minimised. A method's frontier is chosen by its validation metrics and shown
at its test metrics; beside it stands the frontier chosen on the test set itself.
"""

from __future__ import annotations

import dataclasses
import textwrap

import numpy as np

from fairjax.metrics.frontier import hypervolume, knee, nondominated

Table = dict[str, np.ndarray]
NEEDED = ("run", "method", "point", "seed", "diverged")
RELATIVE_REFERENCE = (
    1.25,
    1.0,
)  # (ARE, ARFG): a quarter more error than single-task models, no smaller a gap
NBSP = "\N{NO-BREAK SPACE}"
SHORT = 36  # characters of a name that a label has room for


@dataclasses.dataclass(frozen=True)
class Front:
    """Frontier of one method in one panel: row indices of the table, sorted by the first axis."""

    validation: np.ndarray  # [K] non-dominated on validation
    test: np.ndarray  # [M] non-dominated on test
    line: np.ndarray  # [J] those of ``validation`` that no other of them dominates on test


@dataclasses.dataclass(frozen=True)
class Panel:
    """Two axes, where every run lies on them, and what of it to show."""

    key: str
    title: str
    labels: tuple[str, str]
    select: np.ndarray  # [N, 2] validation metrics
    show: np.ndarray  # [N, 2] test metrics
    usable: np.ndarray  # [N] bool: the run ended and both pairs are finite
    fronts: dict[str, Front]
    limits: tuple[tuple[float, float], tuple[float, float]]

    @property
    def outside(self) -> int:
        """How many usable runs lie beyond the limits."""
        return int((self.usable & ~within(self.show, self.limits)).sum())


@dataclasses.dataclass(frozen=True)
class Tradeoff:
    """Two tasks against each other, on test: their errors in one plane, their gaps in another."""

    names: tuple[str, str]
    usable: np.ndarray  # [N] bool
    left_out: int  # runs with errors far beyond the bulk
    errors: np.ndarray  # [N, 2]
    gaps: np.ndarray  # [N, 2]
    accurate: np.ndarray  # [K] rows on the frontier of the errors
    even: np.ndarray  # [M] rows on the frontier of the gaps


@dataclasses.dataclass(frozen=True)
class Study:
    """A table, what it is about, and its panels. ``relative``: whether ``overall`` is measured in ARE and ARFG."""

    table: Table
    info: dict
    methods: tuple[str, ...]
    method: np.ndarray  # [N] index into ``methods``
    diverged: np.ndarray  # [N] bool
    overall: Panel
    tasks: tuple[Panel, ...]
    relative: bool
    reference: tuple[float, float] | None
    notes: tuple[str, ...]

    def volume(self, rows: np.ndarray) -> float | None:
        """Hypervolume, on test in the overall panel, of the given rows; None where there is no reference."""
        if self.reference is None:
            return None
        points = self.overall.show[rows]
        return float(hypervolume(points, np.array(self.reference))) if len(points) else 0.0


def study(table: Table, info: dict) -> Study:
    """Lay out a table of runs for showing.

    Args:
      table: columns ``[N]``; see :func:`fairjax.report.write`.
      info: at least ``tasks``, ``attributes`` and ``gap``.
    Returns:
      A :class:`Study`. Metrics that are absent or not finite leave their panel empty and a sentence in ``notes``.
    Raises:
      ValueError: a needed column or entry is missing.
    """
    _check(table, info)
    names, method = _methods(table)
    diverged = np.asarray(table["diverged"], bool)
    relative = _any_finite(_pair(table, "test.are", "test.arfg")[~diverged])

    def panel(key, title, labels, pair):
        return _panel(
            key, title, labels, pair("validation"), pair("test"), method, names, ~diverged
        )

    tasks = tuple(
        panel(
            f"task{i}",
            name,
            _task_labels(info),
            lambda split, t=name: _task_pair(table, info, split, t),
        )
        for i, name in enumerate(info["tasks"])
    )
    overall = panel(
        "overall",
        "All tasks together",
        _overall_labels(info, relative),
        lambda split: _overall_pair(table, info, split, relative),
    )
    return Study(
        table,
        info,
        names,
        method,
        diverged,
        overall,
        tasks,
        relative,
        _reference(overall, info, relative),
        tuple(_notes(table, info, names, method, diverged, overall, tasks, relative)),
    )


def tradeoff(seen: Study) -> Tradeoff:
    """The first two tasks of a study against each other; all methods together.

    Runs far beyond the bulk of the errors are left out of both planes: a collapsed model decides alike for everybody,
    so that its gap near 0 would be the whole frontier of the gaps.
    """
    tasks = tuple(seen.info["tasks"][:2])
    errors, gaps = np.stack(
        [_task_pair(seen.table, seen.info, "test", t) for t in tasks], axis=-1
    ).swapaxes(0, 1)
    ended = ~seen.diverged & np.isfinite(errors).all(axis=1) & np.isfinite(gaps).all(axis=1)
    usable = ended & within(errors, limits_of(errors, seen.method, ended))
    rows = np.flatnonzero(usable)
    lost = int(ended.sum() - usable.sum())
    return Tradeoff(tasks, usable, lost, errors, gaps, front_of(errors, rows), front_of(gaps, rows))


def column(table: Table, name: str) -> np.ndarray:
    """A column ``[N]`` as float64; NaN where the table has no such column."""
    values = table.get(name)
    return np.full(len(table["run"]), np.nan) if values is None else np.asarray(values, np.float64)


def error_name(split: str, task: str) -> str:
    """Name of a task's error column."""
    return f"{split}.error[{task}]"


def gap_names(info: dict, split: str, task: str) -> list[str]:
    """Names of a task's gap columns, one per attribute."""
    return [f"{split}.{info['gap']}[{task}|{attribute}]" for attribute in info["attributes"]]


def worst_gap(table: Table, info: dict, split: str, task: str) -> np.ndarray:
    """``max_a |gap_a|`` of a task ``[N]``, over the attributes that could be measured."""
    gaps = [np.abs(column(table, name)) for name in gap_names(info, split, task)]
    return np.fmax.reduce(gaps) if gaps else np.full(len(table["run"]), np.nan)


def front_of(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Indices ``[K]`` of the non-dominated of ``points[rows]`` (minimising), sorted by the first axis."""
    kept = rows[np.asarray(nondominated(points[rows]), bool)]
    return kept[np.lexsort((kept, points[kept, 1], points[kept, 0]))]


def literal(text: str, width: int = SHORT) -> str:
    """One line of at most ``width`` characters: white space collapsed, unprintable characters shown as a box."""
    line = "".join(
        c if c.isprintable() else "\N{WHITE SQUARE}" for c in " ".join(str(text).split())
    )
    return line if len(line) <= width else line[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"


def knee_run(table: Table, info: dict) -> int | None:
    """The run that stands for a study: the knee of the frontier of all its methods, selected on validation.

    Single-task runs, repaired or not, are not asked: they are a network per task. None where no other run ended with finite
    metrics.
    """
    seen = study(table, info)
    asked = seen.overall.usable & np.array(
        [not str(m).startswith("single_task") for m in table["method"]], bool
    )
    if seen.overall.select is seen.overall.show or not asked.any():
        return None
    return int(table["run"][knee(np.where(asked[:, None], seen.overall.select, np.nan))])


def _check(table: Table, info: dict) -> None:
    absent = [n for n in NEEDED if n not in table]
    if absent:
        raise ValueError(
            f"the table of runs lacks the columns {absent}; it has {list(table)[:8]} ..."
        )
    absent = [n for n in ("tasks", "attributes", "gap") if n not in info]
    if absent:
        raise ValueError(f"info lacks {absent}; it has {sorted(info)}")


def _methods(table: Table) -> tuple[tuple[str, ...], np.ndarray]:
    labels = [str(m) for m in table["method"]]
    names = tuple(dict.fromkeys(labels))  # in order of appearance
    index = {name: i for i, name in enumerate(names)}
    return names, np.array([index[m] for m in labels], np.int64)


def _pair(table: Table, x: str, y: str) -> np.ndarray:
    return np.stack([column(table, x), column(table, y)], axis=1)


def _task_pair(table: Table, info: dict, split: str, task: str) -> np.ndarray:
    return np.stack(
        [column(table, error_name(split, task)), worst_gap(table, info, split, task)], axis=1
    )


def _overall_pair(table: Table, info: dict, split: str, relative: bool) -> np.ndarray:
    if relative:
        return _pair(table, f"{split}.are", f"{split}.arfg")
    pairs = [_task_pair(table, info, split, task) for task in info["tasks"]]
    return np.mean(pairs, axis=0) if pairs else np.full((len(table["run"]), 2), np.nan)


def unit(info: dict, metric: str) -> str:
    """Unit of a metric for an axis label, in brackets, or nothing where none is known."""
    bounded = info["gap"].endswith("_difference") or info["gap"].startswith("correlation")
    known = {"error": "fraction of rows", info["gap"]: "0 to 1" if bounded else ""}
    text = info.get("units", {}).get(metric, known.get(metric, ""))
    return (
        f" ({text})".replace(" ", NBSP).replace(NBSP, " ", 1) if text else ""
    )  # a line never ends inside a unit


def _task_labels(info: dict) -> tuple[str, str]:
    groups = [literal(a, 20) for a in info["attributes"]]
    named = ", ".join(groups) if len(groups) < 4 else f"{len(groups)} attributes"
    between = f", {'worst of ' if len(groups) > 1 else ''}{named}" if groups else ""
    gap = f"{info['gap'].replace('_', ' ')}{between}{unit(info, info['gap'])}"
    return f"Test error{unit(info, 'error')}", f"Test {gap}"


def _overall_labels(info: dict, relative: bool) -> tuple[str, str]:
    if relative:
        scale = "(1 = single-task models)".replace(" ", NBSP)
        return (
            f"Average relative error on test, ARE {scale}",
            f"Average relative fairness gap on test, ARFG {scale}",
        )
    return f"Mean test error over tasks{unit(info, 'error')}", (
        f"Mean test {info['gap'].replace('_', ' ')} over tasks{unit(info, info['gap'])}"
    )


def wrapped(label: str, width: int = 42) -> str:
    """A label broken into lines that fit beside an axis."""
    return "\n".join(textwrap.wrap(label, width, break_long_words=True, break_on_hyphens=False))


def _any_finite(points: np.ndarray) -> bool:
    return bool(np.isfinite(points).all(axis=1).any())


def _panel(key, title, labels, select, show, method, names, ended) -> Panel:
    if not _any_finite(select[ended]):
        select = show  # nothing to select on: _notes says so
    usable = ended & np.isfinite(select).all(axis=1) & np.isfinite(show).all(axis=1)
    fronts = {}
    for i, name in enumerate(names):
        rows = np.flatnonzero(usable & (method == i))
        chosen = front_of(select, rows)
        chosen = chosen[np.lexsort((show[chosen, 1], show[chosen, 0]))]
        fronts[name] = Front(chosen, front_of(show, rows), front_of(show, chosen))
    return Panel(key, title, labels, select, show, usable, fronts, limits_of(show, method, usable))


def within(points: np.ndarray, limits) -> np.ndarray:
    """Which of ``points[N, 2]`` lie within ``((left, right), (bottom, top))``; NaN does not."""
    low, high = np.array(limits).T
    return ((points >= low) & (points <= high)).all(axis=1)


def limits_of(points: np.ndarray, method: np.ndarray, usable: np.ndarray):
    """Limits ``((left, right), (bottom, top))`` around every method's bulk; a method's far-out runs may lie beyond."""
    bulks = [points[usable & (method == i)] for i in np.unique(method[usable])]
    if not bulks:
        return (0.0, 1.0), (0.0, 1.0)
    spans = [[_fence(bulk[:, axis]) for bulk in bulks] for axis in (0, 1)]
    return tuple(_padded(min(s[0] for s in span), max(s[1] for s in span)) for span in spans)


def _fence(values: np.ndarray) -> tuple[float, float]:
    """Least value, and the greatest one within 1.5 interquartile ranges of the upper quartile.

    One-sided, because axes are minimised: an unusually small value is news, an unusually large one a collapsed run.
    """
    lower, upper = np.quantile(values, [0.25, 0.75])
    inside = values[values <= upper + 1.5 * (upper - lower)]
    return float(values.min()), float(inside.max())


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.06 * (high - low) or max(abs(high), 1.0) * 0.05
    return low - pad, high + pad


def _reference(panel: Panel, info: dict, relative: bool) -> tuple[float, float] | None:
    """The reference point: given, or ``RELATIVE_REFERENCE``, or just beyond the worst of all frontiers."""
    if info.get("reference") is not None:
        return tuple(float(v) for v in info["reference"])
    points = panel.show[panel.usable]
    if not len(points):
        return None
    if relative and (points < np.array(RELATIVE_REFERENCE)).all(axis=1).any():
        return RELATIVE_REFERENCE
    fronts = np.concatenate(
        [panel.show[rows] for f in panel.fronts.values() for rows in (f.validation, f.test)]
    )
    low, high = fronts.min(axis=0), fronts.max(axis=0)
    return tuple(
        float(v)
        for v in high + 0.1 * np.where(high > low, high - low, np.maximum(np.abs(high), 1e-3))
    )


def _notes(table, info, names, method, diverged, overall, tasks, relative):
    """Sentences about what is missing from the table or from the figures."""
    if not len(method):
        yield "The table holds no runs."
    elif diverged.all():
        yield f"All {len(method)} runs diverged, so there is no frontier to draw."
    if not relative:
        yield (
            "There is no finite ARE or ARFG, for which single-task baselines are needed: the overall panel shows the"
            " plain means over tasks instead."
        )
    if len(info["tasks"]) < 2:
        yield "There are fewer than two tasks, so the trade-off between tasks (tradeoff.png) is not drawn."
    if not info["attributes"]:
        yield "There is no sensitive attribute, so no gap could be measured."
    yield from _method_notes(names, method, diverged)
    for panel in (overall, *tasks):
        yield from _panel_notes(panel, diverged)
    yield from _gap_notes(table, info, diverged)


def _method_notes(names, method, diverged):
    for i, name in enumerate(names):
        runs = int((method == i).sum())
        if runs == 1:
            yield f"Method {name} has a single run: a point, not a frontier."
        if runs and diverged[method == i].all() and not diverged.all():
            yield f"All {runs} runs of method {name} diverged."


def _panel_notes(panel: Panel, diverged: np.ndarray):
    ended = int((~diverged).sum())
    if not ended:
        return
    where = f"in the panel '{panel.title}'" if panel.key == "overall" else f"for task {panel.title}"
    lost = ended - int(panel.usable.sum())
    if lost == ended:
        yield f"No run has a finite error and gap {where}: the panel is empty."
        return
    if lost:
        yield f"{lost} of {ended} runs that ended have no finite error or gap {where} and are not shown there."
    if panel.select is panel.show:
        yield f"There are no validation metrics {where}: its frontier is selected on the test set, which flatters it."


def _gap_notes(table, info, diverged):
    for task in info["tasks"]:
        names = gap_names(info, "test", task)
        for attribute, name in zip(info["attributes"], names, strict=True):
            lost = int(np.isnan(column(table, name)[~diverged]).sum())
            if lost and len(names) > 1:
                yield (
                    f"The gap of task {task} over {attribute} could not be measured in {lost} runs; the worst gap"
                    " there is over the other attributes."
                )
