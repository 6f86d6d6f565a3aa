"""Which of several trained models to take, by what validation rows tell about them."""

from __future__ import annotations

import numpy as np

from fairjax.metrics.frontier import knee


def select(
    rule: str,
    error: np.ndarray,
    *,
    auxiliary: np.ndarray | None = None,
    target: np.ndarray | None = None,
) -> int:
    """Position of the model that a rule selects among L models.

    ``"utility"`` takes the lowest error of the target task; it needs only this task's labels.
    ``"pareto_aux"`` takes the :func:`fairjax.metrics.frontier.knee` of error against the unfairness
    of the auxiliary task, ``"pareto_target"`` the knee against the unfairness of the target task.
    Each needs the demographics of that task's validation rows.

    Args:
      rule: one of the three.
      error: ``[L]`` of the target task.
      auxiliary: ``[L]`` unfairness of the auxiliary task.
      target: ``[L]`` unfairness of the target task.

    Returns:
      Index in ``0 .. L - 1``; the first one in a tie.

    Raises:
      ValueError: the rule has another name, or the unfairness that it needs is missing.

    Reference:
      Aguirre, Dredze: Transferring fairness using multi-task learning with limited demographic
      information, 2023.
    """
    unfairness = {
        "utility": np.zeros(len(error)),
        "pareto_aux": auxiliary,
        "pareto_target": target,
    }
    if rule not in unfairness:
        raise ValueError(f"rule {rule!r} is not one of {', '.join(unfairness)}")
    if unfairness[rule] is None:
        task = "auxiliary" if rule == "pareto_aux" else "target"
        raise ValueError(
            f"{rule} needs the unfairness of the {task} task on validation rows: give {task}="
        )
    return knee(np.stack([error, unfairness[rule]], axis=1))
