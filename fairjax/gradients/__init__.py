"""From losses to one update: per-row gradients, and links of an optax chain that turn rows into updates."""

from fairjax.gradients.links import aggregator, check_rows, route, sum_rows, summed_adagrad, take_row
from fairjax.gradients.representation import at_representation
from fairjax.gradients.rows import rows_mode, rows_through, value_and_rows
from fairjax.gradients.rules import *  # noqa: F403 - the family, by the names of its own list
from fairjax.gradients.rules import __all__ as _rules
from fairjax.gradients.task_space import LinkState, Rule, link, link_states
from fairjax.gradients.wrappers import around, check_chain, checked, observe

__all__ = ["LinkState", "Rule", "aggregator", "around", "at_representation", "check_chain", "check_rows", "checked", "link",
           "link_states", "observe", "route", "rows_mode", "rows_through", "sum_rows", "summed_adagrad", "take_row",
           "value_and_rows", *_rules]
