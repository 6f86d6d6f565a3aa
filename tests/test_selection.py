"""Rules that select one of several models."""

from __future__ import annotations

import numpy as np
import pytest

from fairjax.methods import select


def test_models_are_selected_by_what_is_known():
    error = np.array([0.20, 0.21, 0.30, 0.19])
    auxiliary, target = np.array([1.0, 0.2, 0.1, 1.2]), np.array([1.0, 1.4, 0.3, 1.2])
    assert select("utility", error) == 3
    assert select("pareto_aux", error, auxiliary=auxiliary) == 1
    assert select("pareto_target", error, target=target, auxiliary=auxiliary) == 0
    with pytest.raises(
        ValueError,
        match="needs the unfairness of the auxiliary task on validation rows: give auxiliary=",
    ):
        select("pareto_aux", error, target=target)
    with pytest.raises(ValueError, match="'best' is not one of utility, pareto_aux, pareto_target"):
        select("best", error)
