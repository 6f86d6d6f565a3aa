"""FairMT, as we read it: one constraint on the worst group, and head-aware least norm."""

from __future__ import annotations

from typing import Any

import optax

from fairjax.core.types import PyTree, Range
from fairjax.gradients import head_aware
from fairjax.methods._constrained import under_constraints
from fairjax.methods.context import Method, SweptNotions
from fairjax.notions import ahfda, best_group_risk

MEASURED = ("decisions", "running")

CAP = 20.0  # running sums hand on a tenth of a gradient, see ahfda's rho


def fairmt(
    notion: SweptNotions | None = None,
    *,
    together: str = "one",
    kind: str = "bounded",
    measured: str = "decisions",
    protect_best: bool = False,
) -> Method:
    """The Lagrangians ``L_t + lambda C`` of all tasks, descended along their least norm.

    ``C`` is the asymmetric constraint of :func:`fairjax.notions.ahfda` over all tasks: it lifts
    groups whose risk lies above the best group's, and pushes no group down. Its multiplier rises
    while the hard violation is above ``tolerance``, see :func:`fairjax.gradients.multiplier`. The
    step is that of :func:`fairjax.gradients.head_aware`, in which ``lambda C`` stays outside the
    simplex.

    Hyper-parameters: ``tolerance``, in units of risk; ``cap`` and ``rate`` of the multiplier;
    ``beta``, the weight of the heads in lengths and steps.

    Args:
      notion: another one for the constraint; by default ``ahfda()``.
      together: one constraint on the worst task, or one on ``"each"`` task.
      kind: of the multiplier.
      measured: ``"decisions"``: the violation is that of decisions at one half on all
        validation rows, once per block, over groups of ten rows and more
        (:func:`fairjax.metrics.evaluate_ahfda`). ``"running"``: it is that of the running risks of
        probabilities, in every step; gaps of probabilities are smaller than those of decisions.
      protect_best: the risk of each task's best groups is one more loss in the simplex, so that, to
        first order, no step raises it.

    Raises:
      ValueError: another ``measured``.

    Reference:
      Our reading of Hu, Lian, Yan, Kollias, Yang, Celiktutan, Song, Fu: FairMT: fairness for
      heterogeneous multi-task learning, arXiv 2512.00469, 2025, whose equations were not public
      when this was written. The guarantee is of first order, for the step ``-eta B d``: an adaptive
      optimizer after the link changes the direction.
    """

    if measured not in MEASURED:
        raise ValueError(f"fairmt: measured {measured!r} is not one of {', '.join(MEASURED)}")

    def combine(rows: int, constraints: int, hparams: PyTree) -> optax.GradientTransformation:
        def metric(path: tuple[Any, ...]):
            return 1.0 if path[0].key == "trunk" else hparams["beta"]

        return head_aware(rows, constraints=constraints, metric=metric)

    return under_constraints(
        ahfda() if notion is None else notion,
        "fairmt",
        combine,
        together=together,
        kind=kind,
        cap=CAP,
        running=measured == "running",
        protected=best_group_risk() if protect_best else None,
        ranges={"beta": Range(1.0)},
    )
