"""Panels: two axes, the runs on them, the frontier of each method, and limits.

In: points ``[N, 2]`` of validation and test. Out: a :class:`Panel`. Both axes are minimised.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from fairjax.metrics.frontier import nondominated
from fairjax.report.references import Reference

Limits = tuple[tuple[float, float], tuple[float, float]]  # (left, right), (bottom, top)
PADDING = 0.06  # of the span, at either end of an axis
REACH = 0.5  # of the span: a reference that is no further outside is brought into view


@dataclasses.dataclass(frozen=True)
class Front:
    """Frontier of one method in one panel: rows of the table, sorted by the first axis.

    Of runs that agree on validation and on test in both axes, the first one stands for all.
    """

    validation: np.ndarray  # [K] rows that no other dominates on validation
    test: np.ndarray  # [M] rows that no other dominates on test
    line: np.ndarray  # [J] rows of ``validation`` that none of the others in it dominates on test

    @property
    def beaten(self) -> np.ndarray:
        """Rows of ``validation`` that another of them dominates on test."""
        return np.setdiff1d(self.validation, self.line)


@dataclasses.dataclass(frozen=True)
class Panel:
    """Two axes, the place of every run on them, and which part of the plane is shown."""

    key: str
    title: str
    labels: tuple[str, str]
    selection: np.ndarray  # [N, 2] metrics that select: of validation, or of test where it has none
    test: np.ndarray  # [N, 2] metrics that are shown
    usable: np.ndarray  # [N] bool: the run ended and both points are finite
    fronts: dict[str, Front]
    limits: Limits
    references: tuple[Reference, ...] = ()  # points beside the runs

    @property
    def selected_on_test(self) -> bool:
        """Whether there are no validation metrics, so that the test metrics select."""
        return self.selection is self.test

    @property
    def runs(self) -> int:
        """Number of usable runs."""
        return int(self.usable.sum())

    @property
    def outside(self) -> int:
        """Number of usable runs beyond the limits."""
        is_inside = within(self.test, self.limits)
        is_outside = self.usable & ~is_inside
        return int(is_outside.sum())


def make_panel(
    key: str,
    title: str,
    labels: tuple[str, str],
    validation: np.ndarray,
    test: np.ndarray,
    methods: Sequence[str],
    method_index: np.ndarray,
    ended: np.ndarray,
    references: Sequence[Reference] = (),
) -> Panel:
    """A panel with the frontier of every method.

    Args:
      key: name of the panel for the page.
      title: heading.
      labels: of the two axes.
      validation: ``[N, 2]``; where no run that ended has a finite point, the test metrics select.
      test: ``[N, 2]``.
      methods: names.
      method_index: ``[N]`` position in ``methods``.
      ended: ``[N]`` bool, whether the run did not diverge.
      references: points beside the runs; the limits show those that are near.
    """
    selection = validation if any_finite(validation[ended]) else test
    selectable = np.isfinite(selection).all(axis=1)
    visible = np.isfinite(test).all(axis=1)
    usable = ended & selectable & visible
    fronts = {}
    for index, method in enumerate(methods):
        is_candidate = usable & (method_index == index)
        rows = np.flatnonzero(is_candidate)
        fronts[method] = _front(selection, test, rows)
    return Panel(
        key=key,
        title=title,
        labels=labels,
        selection=selection,
        test=test,
        usable=usable,
        fronts=fronts,
        limits=_with_references(limits_of(test, method_index, usable), references),
        references=tuple(references),
    )


def any_finite(points: np.ndarray) -> bool:
    """Whether one of ``points[N, 2]`` is finite."""
    is_finite = np.isfinite(points).all(axis=1)
    return bool(is_finite.any())


def front_of(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows ``[K]`` that no other of ``points[rows]`` dominates, sorted by the first axis."""
    is_front = nondominated(points[rows])
    front = rows[np.asarray(is_front, bool)]
    x, y = points[front].T
    order = np.lexsort((front, y, x))
    return front[order]


def distinct(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows, in their order, without those whose points repeat an earlier one's."""
    _, first = np.unique(points[rows], axis=0, return_index=True)
    return rows[np.sort(first)]


def within(points: np.ndarray, limits: Limits) -> np.ndarray:
    """Which of ``points[N, 2]`` lie within the limits; NaN does not."""
    low, high = np.array(limits).T
    inside = (points >= low) & (points <= high)
    return inside.all(axis=1)


def limits_of(points: np.ndarray, method_index: np.ndarray, usable: np.ndarray) -> Limits:
    """Limits around the bulk of every method; far-out runs of a method may lie beyond."""
    methods = np.unique(method_index[usable])
    if not len(methods):
        return (0.0, 1.0), (0.0, 1.0)
    horizontal = []
    vertical = []
    for index in methods:
        mine = usable & (method_index == index)
        x, y = points[mine].T
        horizontal.append(_fence(x))
        vertical.append(_fence(y))
    return _padded(horizontal), _padded(vertical)


def _with_references(limits: Limits, references: Sequence[Reference]) -> Limits:
    """Limits that show the references which are near."""
    low, high = np.array(limits).T
    reach = REACH * (high - low)
    padding = PADDING * (high - low)
    wide_low = low
    wide_high = high
    for reference in references:
        place = np.array([reference.error, reference.gap])
        if ((low - reach <= place) & (place <= high + reach)).all():
            wide_low = np.minimum(wide_low, place - padding)
            wide_high = np.maximum(wide_high, place + padding)
    left, bottom = wide_low.tolist()
    right, top = wide_high.tolist()
    return (left, right), (bottom, top)


def _front(selection: np.ndarray, test: np.ndarray, rows: np.ndarray) -> Front:
    points = np.concatenate([selection, test], axis=1)
    selected = distinct(points, front_of(selection, rows))
    x, y = test[selected].T
    order = np.lexsort((y, x))
    selected = selected[order]
    return Front(
        validation=selected,
        test=distinct(points, front_of(test, rows)),
        line=front_of(test, selected),
    )


def _fence(values: np.ndarray) -> tuple[float, float]:
    """The least value, and the greatest one within 1.5 interquartile ranges of the upper quartile.

    The fence has one side, because axes are minimised: an unusually small value is news, an
    unusually large one is a collapsed run.
    """
    lower, upper = np.quantile(values, [0.25, 0.75])
    fence = upper + 1.5 * (upper - lower)
    bulk = values[values <= fence]
    return float(values.min()), float(bulk.max())


def _padded(spans: list[tuple[float, float]]) -> tuple[float, float]:
    """One span around all of them, with room at either end."""
    lows, highs = zip(*spans, strict=True)
    low = min(lows)
    high = max(highs)
    padding = PADDING * (high - low)
    if not padding:
        padding = max(abs(high), 1.0) * 0.05
    return low - padding, high + padding
