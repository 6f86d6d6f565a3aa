"""The methods that are one weighted sum of losses: single task, vanilla multi-task, per-task fairness (Baseline)."""

from __future__ import annotations

import optax

from fairjax.gradients import sum_rows
from fairjax.objectives import per_task, weighted
from fairjax.recipes.setup import Setup, lam_range, weight_range
from fairjax.types import Parts, PyTree, Recipe


def vanilla(setup: Setup) -> Recipe:
    """Multi-task learning without fairness: ``sum_t w_t L_t``."""
    def build(knobs: PyTree) -> Parts:
        rows = per_task(setup.model, setup.spec, reduction=setup.reduction)
        return Parts(setup.model, weighted(rows, knobs["weight"]), optax.chain(sum_rows(), setup.optimizer(knobs)))
    return Recipe("vanilla", build, {"weight": weight_range(setup.spec), **setup.knobs})


def single_task(setup: Setup) -> Recipe:
    """Each task alone: vanilla at the corners of the simplex, where the other heads touch nothing.

    A sweep over this recipe has one point per task, and shares its program with vanilla.
    """
    return vanilla(setup)._replace(name="single_task")


def baseline(setup: Setup) -> Recipe:
    """Per-task fairness: ``sum_t w_t (L_t + lam_t F_t)``, all gradients to all parameters.

    Reference:
      Wang et al., KDD 2021, Eq. 9 (called Baseline there).
    """
    def build(knobs: PyTree) -> Parts:
        rows = per_task(setup.model, setup.spec, notion=setup.notion(knobs), lam=knobs["lam"], reduction=setup.reduction)
        return Parts(setup.model, weighted(rows, knobs["weight"]), optax.chain(sum_rows(), setup.optimizer(knobs)))
    return Recipe("baseline", build, {"weight": weight_range(setup.spec), "lam": lam_range(setup.spec), **setup.knobs})
