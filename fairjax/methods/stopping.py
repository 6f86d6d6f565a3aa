"""Which block of a run delivers its parameters: the last one, or the best one on validation rows.

With patience (:class:`fairjax.training.TrainConfig`) a run ends when no better block comes: early
stopping.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.core.types import Array, Components, Dataset, PyTree, Rank, Recipe, Splits
from fairjax.methods.context import Context, Method
from fairjax.metrics import Metric, evaluate, fixed
from fairjax.models import scores as model_scores
from fairjax.objectives import accuracy_terms, predict
from fairjax.training import State

STOPS = ("last", "objective", "loss", "error")


def delivering(method: Method, stop: str) -> Method:
    """The method whose runs deliver the block of least value on validation rows.

    A method that ranks its blocks itself (a constraint) is left as it is, and so is one that
    changes its network at events, whose last block is what it is about.

    Args:
      method: any.
      stop: ``"last"``: the method as it is. ``"objective"``: the sum of the rows that are trained,
        fairness losses among them, without the masks of dropout. ``"loss"``: ``sum_t w_t L_t``.
        ``"error"``: ``sum_t w_t e_t``, errors of decisions at one half. Weights w are those of the
        method, or 1.

    Raises:
      ValueError: there is no such stop.
    """
    if stop not in STOPS:
        raise ValueError(f"stop {stop!r} is not one of {', '.join(STOPS)}")
    if stop == "last":
        return method

    def with_rank(context: Context) -> Recipe:
        recipe = method(context)
        unmasked = method(context._replace(model=context.model._replace(dropout=False)))

        def build(hparams: PyTree) -> Components:
            parts = recipe.build(hparams)
            if parts.rank is not None or parts.events:
                return parts
            if stop == "objective":
                value = _objective(unmasked.build(hparams))
            else:
                value = _MEASURES[stop](context, parts, hparams.get("weight"))
            return parts._replace(rank=Rank(value))

        return recipe._replace(build=build)

    return with_rank


def _validation(data: Splits | Dataset) -> Dataset:
    """Validation rows, or, of a run that gets no others, training rows."""
    return data.validation if isinstance(data, Splits) else data


def _objective(parts: Components) -> Callable[[State, Splits | Dataset], Array]:
    key = jax.random.key(0)  # of objectives that draw: all blocks draw alike

    def value(state: State, data: Splits | Dataset) -> Array:
        rows = _validation(data)
        values, _ = parts.objective.apply(state.params, rows, key, state.memory)
        return jnp.sum(jnp.stack(list(values)))[None]

    return value


def _loss(context: Context, parts: Components, weight: Array | None):
    spec = context.spec
    weight = jnp.ones(len(spec.tasks)) if weight is None else weight

    def value(state: State, data: Splits | Dataset) -> Array:
        rows = _validation(data)
        scores = model_scores(parts.model, state.params, rows.x)
        losses = accuracy_terms(spec, predict(spec, scores), rows, "mean")
        return (weight @ jnp.stack(losses))[None]

    return value


def _error(context: Context, parts: Components, weight: Array | None):
    spec = context.spec
    weight = jnp.ones(len(spec.tasks)) if weight is None else weight
    half = jnp.full(len(spec.tasks), fixed(0.5))

    def value(state: State, data: Splits | Dataset) -> Array:
        rows = _validation(data)
        scores = model_scores(parts.model, state.params, rows.x)
        measured = evaluate(spec, scores, rows, half)
        errors = [measured[Metric("error", task.name)] for task in spec.tasks]
        return (weight @ jnp.stack(errors))[None]

    return value


_MEASURES = {"loss": _loss, "error": _error}
