"""From losses to one update: per-row gradients, and links that turn rows into updates."""

from fairjax.gradients._consistent_heads import consistent_heads
from fairjax.gradients._dynamic_scale import ScaleState, dynamic_scale
from fairjax.gradients._link import LinkState, link, link_states
from fairjax.gradients._multiplier import MultiplierState, multiplier
from fairjax.gradients._on_branches import Branches, BranchState, gate_fairness, on_branches
from fairjax.gradients.aggregators import aggregator, check_rows, route, summed_adagrad, take_row
from fairjax.gradients.representation import at_representation
from fairjax.gradients.rows import rows_mode, rows_through, value_and_rows
from fairjax.gradients.rules import *  # noqa: F403 - the family, by the names of the registry
from fairjax.gradients.rules import __all__ as _family
from fairjax.gradients.task_space import Rule
from fairjax.gradients.wrappers import check_chain, for_rows, observe, validated, wrap_chain

__all__ = [
    "BranchState",
    "Branches",
    "LinkState",
    "MultiplierState",
    "Rule",
    "ScaleState",
    "aggregator",
    "at_representation",
    "check_chain",
    "check_rows",
    "consistent_heads",
    "dynamic_scale",
    "for_rows",
    "gate_fairness",
    "link",
    "link_states",
    "multiplier",
    "observe",
    "on_branches",
    "route",
    "rows_mode",
    "rows_through",
    "summed_adagrad",
    "take_row",
    "validated",
    "value_and_rows",
    "wrap_chain",
    *_family,
]
