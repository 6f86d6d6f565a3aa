"""Metrics relative to single-task models: ratios and gains, and how far denominators are known.

In: numpy arrays of runs with tasks last. Gaps may be signed: the absolute value is taken per run,
before any mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def are(errors: np.ndarray, single_task_errors: np.ndarray) -> np.ndarray:
    """Average relative error, ``(1/T) sum_t error_t / single_task_error_t``.

    Args:
      errors: ``[..., T]``.
      single_task_errors: ``[T]``, mean over many runs of the same architecture without the other
        heads.

    Returns:
      ``[...]``. 1 is as good as single-task models, smaller is better. Infinite or NaN where a
      denominator is 0.

    Source: Wang et al., KDD 2021, equation 5.
    """
    errors = np.asarray(errors, float)
    single_task_errors = np.asarray(single_task_errors, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = errors / single_task_errors
        return np.mean(ratios, axis=-1)


def arfg(gaps: np.ndarray, single_task_gaps: np.ndarray) -> np.ndarray:
    """Average relative fairness gap, ``(1/T) sum_t |gap_t| / |single_task_gap_t|``.

    Arguments and result are those of :func:`are`. The gap of a task with several classes or labels
    is that of the worst one.
    """
    return are(np.abs(gaps), np.abs(single_task_gaps))


def ara(errors: np.ndarray, single_task_errors: np.ndarray) -> np.ndarray:
    """Average relative accuracy, ``(1/T) sum_t (1 - error_t) / (1 - single_task_error_t)``.

    Arguments and result are those of :func:`are`, of shares of wrong decisions. Larger is better.

    Source: the ablation of Roy et al., IJCNN 2024. Their ARF is :func:`arfg` of violations.
    """
    return are(1.0 - np.asarray(errors, float), 1.0 - np.asarray(single_task_errors, float))


def knowledge_gain(errors: np.ndarray, single_task_errors: np.ndarray) -> np.ndarray:
    """Accuracy gained over single-task models, ``(1/T) sum_t (single_task_error_t - error_t)``.

    Args:
      errors: shares of wrong decisions ``[..., T]``.
      single_task_errors: ``[T]``, mean over runs.

    Returns:
      ``[...]``. 0 is as good as single-task models, below 0 is negative transfer.

    Source: Roy et al., FairBranch, IJCNN 2024.
    """
    return np.mean(np.asarray(single_task_errors, float) - np.asarray(errors, float), axis=-1)


def discrimination_gain(violations: np.ndarray, single_task_violations: np.ndarray) -> np.ndarray:
    """Violation gained over single-task models, ``(1/T) sum_t (v_t - single_task_v_t)``.

    Args:
      violations: ``[..., T]``, not negative: of equal opportunity ``|TPR_g - TPR_h|``, of equalized
        odds the sum ``|TPR_g - TPR_h| + |FPR_g - FPR_h|``. (fairlearn has the larger of the two.)
      single_task_violations: ``[T]``, mean over runs.

    Returns:
      ``[...]``. 0 is as fair as single-task models, above 0 is bias transfer.

    Source: Roy et al., FairBranch, IJCNN 2024. The released code takes rates over other rows.
    """
    return np.mean(np.asarray(violations, float) - np.asarray(single_task_violations, float), -1)


class Denominator(NamedTuple):
    """What single-task runs say about a denominator of ARE or ARFG."""

    mean: np.ndarray  # [T] of absolute values
    deviation: np.ndarray  # [T] standard deviation over runs
    relative_error: np.ndarray  # [T] standard error of the mean over the mean
    runs: int

    @property
    def noisy(self) -> np.ndarray:
        """``[T]``, true where the relative error is above a tenth: such ratios need intervals."""
        # in this form NaN (one run only, or a diverged run) counts as noisy
        return ~(self.relative_error <= 0.1)


def denominator(runs: np.ndarray) -> Denominator:
    """Mean and spread of single-task errors or gaps ``[S, T]`` over seeds (absolute values first).

    ``relative_error = deviation / (sqrt(S) mean)``. To first order this is the relative error of
    the task's ratio.
    """
    values = np.abs(np.asarray(runs, float))
    count = len(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = values.mean(axis=0)
        deviation = np.full(values.shape[1:], np.nan)
        if count > 1:
            deviation = values.std(axis=0, ddof=1)
        relative_error = deviation / np.sqrt(count) / mean
    return Denominator(mean, deviation, relative_error, count)


def relative_interval(
    rng: np.random.Generator,
    values: np.ndarray,
    runs: np.ndarray,
    draws: int = 2000,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of ARE or ARFG of fixed values, from resampling the single-task runs.

    Args:
      rng: numpy generator.
      values: ``[..., T]`` errors or gaps.
      runs: ``[S, T]`` the same quantity of S single-task runs.
      draws: number of resamples.
      level: coverage.

    Returns:
      ``low[...]``, ``high[...]``: the part of the uncertainty that comes from the denominators
      alone.
    """
    values = np.abs(values)
    runs = np.abs(np.asarray(runs, float))
    count = len(runs)
    index = rng.integers(count, size=(draws, count))
    denominators = runs[index].mean(axis=1)
    ratios = np.stack([are(values, single_task) for single_task in denominators])
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail], axis=0)
    return low, high
