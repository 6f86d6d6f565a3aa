"""From losses to one update: per-row gradients, and links of an optax chain that turn rows into updates."""

from fairjax.gradients.links import aggregator, check_rows, route, sum_rows, summed_adagrad, take_row
from fairjax.gradients.rows import value_and_rows

__all__ = ["aggregator", "check_rows", "summed_adagrad", "route", "sum_rows", "take_row", "value_and_rows"]
