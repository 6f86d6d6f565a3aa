"""What every recipe is given: the model, the notion and the optimizer, free of any method."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import optax

from fairjax.core.types import Model, PyTree, Range, Spec
from fairjax.gradients import summed_adagrad
from fairjax.objectives.rows import Notions


class Context(NamedTuple):
    """The slots that do not depend on the method.

    ``notion`` and ``optimizer`` are functions of the hparams, so that a bandwidth or a learning rate can be swept.
    """

    spec: Spec
    model: Model
    notion: Callable[[PyTree], Notions]  # for all tasks, or per task
    optimizer: Callable[[PyTree], optax.GradientTransformation]
    hparams: dict[str, Range]  # hparams read by notion and optimizer
    reduction: str = "batch"
    batch_size: int = 512  # at whose scale running counts start

    @staticmethod
    def paper(
        spec: Spec, model: Model, notion: Notions, learning_rate: float, batch_size: int
    ) -> Context:
        """The setup of the MTA-F code: Adagrad on losses summed over the batch, learning rate as the only shared hparam."""
        return Context(
            spec,
            model,
            lambda hparams: notion,
            lambda hparams: summed_adagrad(hparams["learning_rate"], batch_size),
            {"learning_rate": Range(learning_rate)},
            batch_size=batch_size,
        )


def weight_range(spec: Spec) -> Range:
    """Task weights: a point of the simplex, equal weights by default."""
    tasks = len(spec.tasks)
    return Range(np.full(tasks, 1.0 / tasks), 0.0, 1.0, simplex=True)


def lam_range(spec: Spec) -> Range:
    """Fairness weights per task: [0, 5] as in the MTA-F paper, 1 by default."""
    return Range(np.ones(len(spec.tasks)), 0.0, 5.0)
