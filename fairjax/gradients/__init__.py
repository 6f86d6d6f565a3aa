"""From losses to one update: per-row gradients, and links of an optax chain that turn rows into updates."""

from fairjax.gradients.links import (
    aggregator,
    check_rows,
    route,
    sum_rows,
    summed_adagrad,
    take_row,
)
from fairjax.gradients.representation import at_representation
from fairjax.gradients.rows import rows_mode, rows_through, value_and_rows
from fairjax.gradients.rules import *  # noqa: F403 - the family, by the names of its own list
from fairjax.gradients.rules import __all__ as _rules
from fairjax.gradients.rules.registry import REGISTRY
from fairjax.gradients.task_space import LinkState, Rule, link, link_states
from fairjax.gradients.wrappers import check_chain, observe, validated, wrap_chain

__all__ = [
    "REGISTRY",
    "LinkState",
    "Rule",
    "aggregator",
    "wrap_chain",
    "at_representation",
    "check_chain",
    "check_rows",
    "validated",
    "link",
    "link_states",
    "observe",
    "route",
    "rows_mode",
    "rows_through",
    "sum_rows",
    "summed_adagrad",
    "take_row",
    "value_and_rows",
    *_rules,
]
