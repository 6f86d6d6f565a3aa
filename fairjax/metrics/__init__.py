"""Metrics: hard decisions, rates and gaps of groups, relative metrics, intervals.

:func:`evaluate` is what a sweep calls inside its jitted pass; most others are its parts, or work on
its numbers. Functions with fairlearn's names have fairlearn's arguments, and work on the host:
:mod:`fairjax.metrics.disparities`.

A task with several classes or labels compares each with the rest. Its gaps (and so ARFG) are those
of the worst class; ``error`` of labels, ``macro_f1`` and differential fairness of labels are means.
:func:`group_table` has every class.
"""

from __future__ import annotations

from fairjax.core.decisions import decide, decisions
from fairjax.core.keys import Metric
from fairjax.metrics._bootstrap import Interval, bootstrap, interval_over_seeds
from fairjax.metrics._evaluate import by_task, evaluate, evaluate_together
from fairjax.metrics._evaluate_ahfda import evaluate_ahfda
from fairjax.metrics.differential import evaluate_differential
from fairjax.metrics.disaggregated import GroupTable, group_table
from fairjax.metrics.disparities import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equal_opportunity_difference,
    equal_opportunity_ratio,
    equalized_odds_difference,
    equalized_odds_ratio,
    false_positive_rate_difference,
    false_positive_rate_ratio,
    true_positive_rate_difference,
    true_positive_rate_ratio,
)
from fairjax.metrics.distribution import Unfairness, unfairness
from fairjax.metrics.gaps import GAPS, Gap, condition_of, gap_metric
from fairjax.metrics.group import (
    GroupRates,
    attribute_correlation,
    false_positive_gap,
    group_rates,
    odds_gap,
    of_attribute,
    parity_gap,
    rate_difference,
    rate_ratio,
    signed_gap,
    true_positive_gap,
)
from fairjax.metrics.joint import (
    PermutationTest,
    group_correlations,
    permutation_test,
    sinkhorn_divergence,
    sliced_wasserstein,
)
from fairjax.metrics.relative import (
    Denominator,
    ara,
    are,
    arfg,
    denominator,
    discrimination_gain,
    knowledge_gain,
    relative_interval,
)
from fairjax.metrics.scores import (
    auc,
    ccc,
    error,
    f1,
    macro_f1,
    mean_absolute_error,
    mean_squared_error,
    multiclass_error,
    r2,
    root_mean_squared_error,
)
from fairjax.metrics.thresholds import (
    RULES,
    base_rate_threshold,
    base_rates,
    constant_output,
    decision_thresholds,
    fixed,
    least_error_threshold,
)

__all__ = [
    "GAPS",
    "Denominator",
    "Gap",
    "GroupRates",
    "GroupTable",
    "Interval",
    "PermutationTest",
    "RULES",
    "Unfairness",
    "ara",
    "are",
    "arfg",
    "attribute_correlation",
    "auc",
    "base_rate_threshold",
    "base_rates",
    "bootstrap",
    "by_task",
    "ccc",
    "condition_of",
    "constant_output",
    "decide",
    "decisions",
    "decision_thresholds",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "denominator",
    "discrimination_gain",
    "equal_opportunity_difference",
    "equal_opportunity_ratio",
    "equalized_odds_difference",
    "equalized_odds_ratio",
    "error",
    "evaluate",
    "evaluate_ahfda",
    "evaluate_differential",
    "evaluate_together",
    "f1",
    "false_positive_gap",
    "false_positive_rate_difference",
    "false_positive_rate_ratio",
    "fixed",
    "gap_metric",
    "Metric",
    "group_correlations",
    "group_rates",
    "group_table",
    "interval_over_seeds",
    "knowledge_gain",
    "least_error_threshold",
    "macro_f1",
    "mean_absolute_error",
    "mean_squared_error",
    "multiclass_error",
    "odds_gap",
    "of_attribute",
    "parity_gap",
    "permutation_test",
    "r2",
    "rate_difference",
    "rate_ratio",
    "relative_interval",
    "root_mean_squared_error",
    "signed_gap",
    "sinkhorn_divergence",
    "sliced_wasserstein",
    "true_positive_gap",
    "true_positive_rate_difference",
    "true_positive_rate_ratio",
    "unfairness",
]
