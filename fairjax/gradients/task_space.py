"""Rules in task space: from the Gram matrix of K gradients to the weights of their sum.

A rule sees K gradients through their Gram matrix alone.
``weights(gram[K, K], values[K], memory, key)`` gives the weights of the update
``u = sum_k w_k g_k``. A row that is zero in the Gram matrix is absent: its task has no labels in
the batch, or the row was quarantined because it is not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, Protocol

import optax

from fairjax.core.types import Array, PyTree

LinkArgs = ParamSpec("LinkArgs")
RuleArgs = ParamSpec("RuleArgs")


class Rule(NamedTuple):
    """How K gradients become weights.

    ``init(K) -> memory`` is any pytree, ``()`` for a rule without memory.
    ``weights(gram, values, memory, key) -> (weights[K], memory, residual)`` runs at every update.
    ``values`` is None unless ``needs_values``. ``residual`` is the error that a solver is left
    with, and 0 where the rule solves nothing. A rule that reads lengths alone, the diagonal of the
    Gram matrix, says ``needs_products=False``.
    """

    init: Callable[[int], PyTree]
    weights: Callable[..., tuple[Array, PyTree, Array]]
    needs_values: bool = False
    needs_products: bool = True


class LinkFactory(Protocol[LinkArgs, RuleArgs]):
    """A function that makes a link, and beside it the function that makes the link's rule."""

    rule: Callable[RuleArgs, Rule]

    def __call__(
        self, *args: LinkArgs.args, **kwargs: LinkArgs.kwargs
    ) -> optax.GradientTransformationExtraArgs: ...


def with_rule(
    rule: Callable[RuleArgs, Rule],
) -> Callable[
    [Callable[LinkArgs, optax.GradientTransformationExtraArgs]], LinkFactory[LinkArgs, RuleArgs]
]:
    """Decorate a link's function with its rule.

    ``pcgrad(2)`` is then the link and ``pcgrad.rule()`` its rule in task space.
    """

    def attach(factory):
        factory.rule = rule
        return factory

    return attach


def no_memory(rows: int) -> tuple[Any, ...]:
    """``Rule.init`` of a rule that remembers nothing."""
    del rows
    return ()
