"""Which block of a run delivers its parameters: the last one, or the best one on validation rows.

With patience (:class:`fairjax.training.TrainConfig`) a run ends when no better block comes: early
stopping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.core.types import Array, Components, Dataset, PyTree, Rank, Recipe, Spec, Splits
from fairjax.methods.context import Context, Method
from fairjax.metrics import Metric, evaluate, fixed
from fairjax.models import scores as model_scores
from fairjax.objectives import accuracy_terms, predict
from fairjax.training import State, gather
from fairjax.training.samplers import Batches

STOPS = ("last", "objective", "loss", "error")


def delivering(method: Method, stop: str) -> Method:
    """The method whose runs deliver the block of least value on validation rows.

    A method that ranks its blocks itself (a constraint) is left as it is, and so is one that
    changes its network at events, whose last block is what it is about.

    Args:
      method: any.
      stop: ``"last"``: the method as it is. ``"objective"``: the sum of the rows that are trained,
        fairness losses, smoothed labels and class weights among them, without the masks of dropout.
        ``"loss"``: ``sum_t w_t L_t`` of the labels as they are. ``"error"``: ``sum_t w_t e_t``,
        errors of decisions at one half. Weights w are those of the method, or 1.

    Raises:
      ValueError: there is no such stop.
    """
    if stop not in STOPS:
        raise ValueError(f"stop {stop!r} is not one of {', '.join(STOPS)}")
    if stop == "last":
        return method

    def with_rank(context: Context) -> Recipe:
        recipe = method(context)

        def build(hparams: PyTree) -> Components:
            parts = recipe.build(hparams)
            if parts.rank is not None or parts.events:
                return parts
            if stop == "objective":
                unmasked = context._replace(model=context.model._replace(dropout=False))
                value = _objective(method(unmasked).build(hparams), context.batch_size)
            else:
                value = _of_scores(context, parts, _MEASURES[stop], hparams.get("weight"))
            return parts._replace(rank=Rank(value))

        return recipe._replace(build=build)

    return with_rank


def _validation(data: Splits | Dataset) -> Dataset:
    """Validation rows, or, of a run that gets no others, training rows."""
    return data.validation if isinstance(data, Splits) else data


def _objective(parts: Components, batch_size: int) -> Callable[[State, Splits | Dataset], Array]:
    """The sum of the rows that are trained, on rows padded to a multiple of the batch."""
    key = jax.random.key(0)  # of objectives that draw: all blocks draw alike

    def value(state: State, data: Splits | Dataset) -> Array:
        rows = _validation(data)
        count, label_columns = rows.labels.shape
        padded = -(-count // batch_size) * batch_size
        batch = gather(rows, Batches(jnp.arange(padded), jnp.ones(label_columns)))
        values, _ = parts.objective.apply(state.params, batch, key, state.memory)
        return jnp.sum(jnp.stack(list(values)))[None]

    return value


def _of_scores(
    context: Context, parts: Components, measure: Callable[..., Any], weight: Array | None
) -> Callable[[State, Splits | Dataset], Array]:
    """``sum_t w_t m_t``, of a measure of the tasks."""
    weight = jnp.ones(len(context.spec.tasks)) if weight is None else weight

    def value(state: State, data: Splits | Dataset) -> Array:
        rows = _validation(data)
        scores = model_scores(parts.model, state.params, rows.x)
        return (weight @ jnp.stack(measure(context.spec, scores, rows)))[None]

    return value


def _losses(spec: Spec, scores: Array, rows: Dataset) -> list[Array]:
    return accuracy_terms(spec, predict(spec, scores), rows, "mean")


def _errors(spec: Spec, scores: Array, rows: Dataset) -> list[Array]:
    half = jnp.full(len(spec.tasks), fixed(0.5))
    measured = evaluate(spec, scores, rows, half)
    return [measured[Metric("error", task.name)] for task in spec.tasks]


_MEASURES = {"loss": _losses, "error": _errors}
