"""Disparities of decisions between groups, under fairlearn's names and with its arguments.

In: true labels, decisions, levels of one or several sensitive features, weights; lists, numpy, jax,
pandas. Out: a float, computed on the host in double precision. In traced code there are
:func:`fairjax.metrics.group_rates` and functions of its rates.

Numbers are fairlearn's, with these exceptions:

* A row with a missing sensitive feature (None, NaN, empty text) belongs to no group and does not
  count. fairlearn raises an error. Missing labels and decisions are refused here too.
* A group without rows that a rate is measured on (positives, for a true positive rate) has no such
  rate. It is left out, with a warning. fairlearn takes its rate for 0, and reports the difference.
* Between fewer than two groups nothing is measured: NaN. fairlearn says 0, or the ratio 1.
* Where no group has a false positive, the ratio of false positive rates is 0/0. As in fairlearn,
  :func:`equalized_odds_ratio` is then the other ratio: in that rate the groups do not differ. The
  same holds where no group has a true positive; fairlearn says NaN there, since Python's ``min``
  depends on the order.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fairjax.core.inputs import ColumnLike, ColumnsLike
from fairjax.data.complaints import complain, listing
from fairjax.data.input_columns import (
    check_length,
    column_names,
    plain_numbers,
    read_columns,
    read_weights,
)
from fairjax.data.level_codes import column_levels

BINARY = ((0, 1), (-1, 1))  # no and yes


def demographic_parity_difference(
    y_true: ColumnLike,
    y_pred: ColumnLike,
    *,
    sensitive_features: ColumnsLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Largest less smallest selection rate ``P(d = 1 | g)`` of the groups g.

    Args:
      y_true: ``[N]``; not looked at, as in fairlearn.
      y_pred: decisions ``[N]``: 0 and 1, -1 and 1, or truth values.
      sensitive_features: levels ``[N]``, text, numbers or truth values; or several columns of them,
        whose combinations are the groups. A row with a missing level is in no group.
      sample_weight: ``[N]``, not negative.

    Returns:
      A number from 0 to 1; NaN for fewer than two groups.

    Raises:
      DataError: cells that are no decisions; weights that are negative, NaN or infinite; lengths
        that differ.

    Source: Feldman et al., KDD 2015.

    >>> demographic_parity_difference([0, 1, 1], [1, 1, 0], sensitive_features=["f", "f", "m"])
    1.0
    """
    return _difference(_selection_rates(y_true, y_pred, sensitive_features, sample_weight))


def demographic_parity_ratio(
    y_true: ColumnLike,
    y_pred: ColumnLike,
    *,
    sensitive_features: ColumnsLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Smallest over largest selection rate of the groups; NaN for 0/0.

    Arguments and errors are those of :func:`demographic_parity_difference`.
    """
    return _ratio(_selection_rates(y_true, y_pred, sensitive_features, sample_weight))


def true_positive_rate_difference(
    y_true: ColumnLike,
    y_pred: ColumnLike,
    *,
    sensitive_features: ColumnsLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Largest less smallest true positive rate ``P(d = 1 | y = 1, g)`` of the groups g.

    Args:
      y_true: true labels ``[N]``: 0 and 1, -1 and 1, or truth values.
      y_pred: decisions ``[N]``, in the same manner.
      sensitive_features: levels ``[N]``, text, numbers or truth values; or several columns of them,
        whose combinations are the groups. A row with a missing level is in no group.
      sample_weight: ``[N]``, not negative.

    Returns:
      A number from 0 to 1; NaN if fewer than two groups have positives.

    Raises:
      DataError: cells that are no labels or decisions; weights that are negative, NaN or infinite;
        lengths that differ.

    Warns of groups that have no positives, which are left out.

    Source: Hardt, Price, Srebro, NeurIPS 2016.

    >>> true_positive_rate_difference([1, 1, 1], [1, 0, 1], sensitive_features=["f", "f", "m"])
    0.5
    """
    rates = _rates_given(True, y_true, y_pred, sensitive_features, sample_weight)
    return _difference(rates)


def true_positive_rate_ratio(
    y_true: ColumnLike,
    y_pred: ColumnLike,
    *,
    sensitive_features: ColumnsLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Smallest over largest true positive rate of the groups; NaN for 0/0.

    Arguments and errors are those of :func:`true_positive_rate_difference`.
    """
    return _ratio(_rates_given(True, y_true, y_pred, sensitive_features, sample_weight))


def false_positive_rate_difference(
    y_true: ColumnLike,
    y_pred: ColumnLike,
    *,
    sensitive_features: ColumnsLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Largest less smallest false positive rate ``P(d = 1 | y = 0, g)`` of the groups g.

    Arguments and errors are those of :func:`true_positive_rate_difference`, with negatives in place
    of positives.

    Source: this is the gap of Wang et al., KDD 2021.
    """
    rates = _rates_given(False, y_true, y_pred, sensitive_features, sample_weight)
    return _difference(rates)


def false_positive_rate_ratio(
    y_true: ColumnLike,
    y_pred: ColumnLike,
    *,
    sensitive_features: ColumnsLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Smallest over largest false positive rate of the groups; NaN for 0/0.

    Arguments and errors are those of :func:`false_positive_rate_difference`.
    """
    return _ratio(_rates_given(False, y_true, y_pred, sensitive_features, sample_weight))


equal_opportunity_difference = true_positive_rate_difference
equal_opportunity_ratio = true_positive_rate_ratio


def equalized_odds_difference(
    y_true: ColumnLike,
    y_pred: ColumnLike,
    *,
    sensitive_features: ColumnsLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """The larger of the differences of true and false positive rates; NaN when either is.

    Arguments and errors are those of :func:`true_positive_rate_difference`.
    """
    data = (y_true, y_pred, sensitive_features, sample_weight)
    true_positive = _difference(_rates_given(True, *data))
    false_positive = _difference(_rates_given(False, *data))
    return float(np.maximum(true_positive, false_positive))


def equalized_odds_ratio(
    y_true: ColumnLike,
    y_pred: ColumnLike,
    *,
    sensitive_features: ColumnsLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """The smaller of the ratios of true and false positive rates.

    A rate that is 0 in every group has the ratio 0/0. The groups do not differ in it, so the other
    ratio is returned; NaN if both rates are 0 everywhere. NaN too if fewer than two groups have
    positives, or negatives.

    Arguments and errors are those of :func:`true_positive_rate_difference`.
    """
    data = (y_true, y_pred, sensitive_features, sample_weight)
    true_positive = _rates_given(True, *data)
    false_positive = _rates_given(False, *data)
    if min(len(true_positive), len(false_positive)) < 2:
        return np.nan
    return float(np.fmin(_ratio(true_positive), _ratio(false_positive)))


def _difference(rates: np.ndarray) -> float:
    if len(rates) < 2:
        return np.nan
    return float(np.max(rates) - np.min(rates))


def _ratio(rates: np.ndarray) -> float:
    if len(rates) < 2 or not np.max(rates):
        return np.nan
    return float(np.min(rates) / np.max(rates))


# ------------------------------------------------------------------------------------------- rates


class _Groups(NamedTuple):
    """Groups of rows."""

    names: list[str]  # of the G groups
    code: np.ndarray  # [N] in 0 .. G - 1, -1 where a level is missing

    def sums(self, value: np.ndarray) -> np.ndarray:
        """Sums ``[G]`` of a value ``[N]``."""
        inside = self.code >= 0
        return np.bincount(self.code[inside], value[inside], minlength=len(self.names))


def _selection_rates(y_true, y_pred, sensitive_features, sample_weight) -> np.ndarray:
    """Selection rates of the groups that have weight."""
    decision = _binary("y_pred", y_pred)
    check_length("y_true", y_true, len(decision), "decisions")
    groups = _groups(sensitive_features, len(decision))
    weight = _weights(sample_weight, len(decision))
    return _rates(decision, weight, groups)


def _rates_given(truth: bool, y_true, y_pred, sensitive_features, sample_weight) -> np.ndarray:
    """True positive rates, or false positive rates, of the groups that have such rows."""
    decision = _binary("y_pred", y_pred)
    label = _binary("y_true", y_true)
    check_length("y_true", label, len(decision), "decisions")
    groups = _groups(sensitive_features, len(decision))
    weight = _weights(sample_weight, len(decision))
    given = weight * (label == truth)
    has_none = (groups.sums(weight) > 0) & (groups.sums(given) == 0)
    if has_none.any():
        without = [groups.names[g] for g in np.flatnonzero(has_none)]
        word, rate = ("positives", "true") if truth else ("negatives", "false")
        warnings.warn(
            f"sensitive_features: {len(without)} of {len(groups.names)} groups have no {word} "
            f"({listing(without)}): they have no {rate} positive rate and are left out",
            stacklevel=3,
        )
    return _rates(decision, given, groups)


def _rates(decision: np.ndarray, weight: np.ndarray, groups: _Groups) -> np.ndarray:
    """``sum w d / sum w`` of every group that has weight."""
    mass = groups.sums(weight)
    selected = groups.sums(weight * decision)
    has_weight = mass > 0
    return selected[has_weight] / mass[has_weight]


# ------------------------------------------------------------------------------------------- input


def _binary(name: str, source) -> np.ndarray:
    """Labels or decisions ``[N]`` as truth values."""
    columns = read_columns(name, source)
    if len(columns.values) != 1:
        raise complain(name, f"{len(columns.values)} columns", "Give one.")
    array = plain_numbers(columns.values[0])
    try:
        value = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        problem = f"{len(array):,} cells are not all 0 or 1 ({error})"
        raise complain(name, problem, "Give 0 and 1, with no cell missing.") from error
    for no, yes in BINARY:
        if np.isin(value, (no, yes)).all():
            return value == yes
    bad = ~np.isin(value, (0, 1))
    problem = f"{bad.sum():,} of {len(value):,} cells are neither 0 nor 1"
    raise complain(name, problem, "Give decisions, not scores, with no cell missing.")


def _groups(sensitive_features, rows: int) -> _Groups:
    """Combinations of levels that rows have."""
    columns = read_columns("sensitive_features", sensitive_features, side_by_side=True)
    names = column_names(columns, "sensitive_features")
    read = []
    for name, column in zip(names, columns.values, strict=True):
        check_length(name, column, rows, "decisions")
        read.append(column_levels(name, column))
    positions = np.stack([position for position, _ in read], axis=1)
    is_known = np.all(positions >= 0, axis=1)
    present, known_code = np.unique(positions[is_known], axis=0, return_inverse=True)
    code = np.full(rows, -1)
    code[is_known] = known_code.ravel()
    group_names = []
    for place in present:
        levels = [str(levels[i]) for i, (_, levels) in zip(place, read, strict=True)]
        group_names.append(" & ".join(levels))
    return _Groups(group_names, code)


def _weights(sample_weight, rows: int) -> np.ndarray:
    weight = read_weights(sample_weight, rows)
    return np.ones(rows) if weight is None else weight
