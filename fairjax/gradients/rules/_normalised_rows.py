"""Rows that are divided by their norm or loss before a rule sees them."""

from __future__ import annotations

import jax.numpy as jnp

from fairjax.core.masked import divide
from fairjax.core.types import Array
from fairjax.gradients.gram_matrix import row_norms
from fairjax.gradients.task_space import Rule

NORMALISE = ("none", "l2", "loss", "loss+")


def on_normalised_rows(rule: Rule, normalise: str = "l2") -> Rule:
    """The rule on rows that are divided first: ``u = sum_k w_k g_k / d_k``.

    Any rule becomes one that does not see how long rows are, or how large losses are:
    ``link(on_normalised_rows(upgrad.rule()), rows=2)``.

    Args:
      rule: any.
      normalise: what each row is divided by: ``"none"``, ``"l2"`` (its norm), ``"loss"`` (its
        loss), ``"loss+"`` (both). A row whose divisor is not above 0 is absent.

    Raises:
      ValueError: for an unknown ``normalise``.

    Source: Sener, Koltun, Multi-task learning as multi-objective optimization, NeurIPS 2018, where
    only MGDA's weights are found so.
    """
    check_normalise(normalise)

    def weights(gram, values, memory, key):
        divisor = row_divisors(gram, values, normalise)
        w, memory, residual = rule.weights(divided(gram, divisor), values, memory, key)
        return divide(w, divisor), memory, residual

    return Rule(rule.init, weights, rule.needs_values or normalise.startswith("loss"))


def check_normalise(normalise: str) -> None:
    """Refuse an unknown divisor."""
    if normalise not in NORMALISE:
        raise ValueError(f"normalise must be one of {', '.join(NORMALISE)}, got {normalise!r}")


def row_divisors(gram: Array, values: Array | None, normalise: str) -> Array:
    """What each row is divided by, ``[K]``."""
    divisor = jnp.ones(gram.shape[0], gram.dtype)
    if normalise in ("l2", "loss+"):
        divisor = divisor * row_norms(gram)
    if normalise in ("loss", "loss+"):
        divisor = divisor * values.astype(gram.dtype)
    return divisor


def divided(gram: Array, divisor: Array) -> Array:
    """The Gram matrix of the divided rows."""
    return divide(divide(gram, divisor[:, None]), divisor[None, :])
