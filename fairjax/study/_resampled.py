"""Errors and gaps of one model, with intervals from resampled rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from fairjax.core.keys import Metric
from fairjax.core.types import Array, Dataset
from fairjax.metrics import Interval, bootstrap, evaluate
from fairjax.study.table import gap_of

if TYPE_CHECKING:
    from fairjax.study.run import Study

DRAWS = 200
RARE = 1e-6  # weight of a row that a resample does not draw: it still counts as a row


def headline(study: Study) -> Iterator[tuple[str, Metric, list[Metric]]]:
    """Every task with the keys of its error and of its gaps."""
    for task in study.spec.tasks:
        gaps = []
        for attribute in study.spec.attributes:
            gap = gap_of(study, task, attribute)
            gaps.append(Metric(gap, task.name, attribute=attribute.name))
        yield task.name, Metric("error", task.name), gaps


def resampler(study: Study) -> Callable[[Array, Array, Dataset], Interval]:
    """From scores ``[N, C]``, thresholds ``[T]`` and their rows to the headline with intervals."""
    keys = [key for _, error, gaps in headline(study) for key in (error, *gaps)]
    smallest = study.config.smallest_group

    def resampled(scores: Array, thresholds: Array, rows: Dataset) -> Interval:
        def statistic(rows: Dataset, weight: Array) -> dict[Metric, Array]:
            weight = jnp.maximum(weight, RARE * rows.weight)
            values = evaluate(
                study.spec,
                scores,
                rows._replace(weight=weight),
                thresholds,
                smallest,
            )
            return {key: values[key] for key in keys}

        return bootstrap(jax.random.key(0), statistic, rows, rows.weight, draws=DRAWS)

    return resampled
