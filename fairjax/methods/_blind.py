"""BLIND: less bias without any demographics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from fairjax.core.masked import weighted_mean
from fairjax.core.types import (
    Array,
    Components,
    Dataset,
    Model,
    Objective,
    PyTree,
    Range,
    Recipe,
    Spec,
)
from fairjax.gradients import sum_rows
from fairjax.losses import Supervision, row_losses, sigmoid_cross_entropy
from fairjax.methods.context import Context, Method, weight_range
from fairjax.models import represent
from fairjax.objectives import predict
from fairjax.training import samplers


def blind(width: int | None = None, tasks: int | None = None) -> Method:
    """BLIND: rows whose success or failure an auxiliary model predicts count less.

    It needs no demographics. The loss is ``sum_t w_t mean_i stop(1 - q_ti)^gamma l_ti``. Either the
    network decides task t right on row i, or it does not; ``q_ti`` is the probability that a linear
    model of the representation gives to the case that happens. This auxiliary model learns beside
    the network, by cross-entropy, and moves only itself. For binary tasks.

    Hyper-parameters: ``weight [T]``, and ``gamma``, which has no effect at 0.

    Args:
      width: of the model's representation ``[B, width]``; by default found from the context.
      tasks: see :func:`fairjax.methods.transfer`.

    Raises:
      ValueError: a task that is not binary.

    Reference:
      Orgad, Belinkov: BLIND, bias removal with no demographics, ACL 2023. Its weights are those of
        the debiased focal loss of Karimi Mahabadi, Belinkov, Henderson, ACL 2020.
    """

    def method(context: Context) -> Recipe:
        spec = context.spec
        _refuse_other_kinds(spec)
        if width is None:
            columns = context.representation_width()
        else:
            columns = width
        model = _with_detector(context.model, columns, len(spec.tasks))

        def build(hparams: PyTree) -> Components:
            def apply(
                params: PyTree, batch: Dataset, key: Array, memory: tuple[Any, ...]
            ) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
                loss = _loss(spec, model, context.supervision, hparams, params, batch, key)
                return (loss,), memory

            weight = None if tasks is None else hparams["weight"]
            optimizer = context.optimizer(hparams)
            return Components(
                model,
                Objective(("total",), lambda key, data: (), apply),
                optax.chain(sum_rows(), optimizer),
                sampler=samplers.balanced(spec, weight, tasks),
            )

        space = {
            "weight": weight_range(spec),
            "gamma": Range(2.0, 0.0, 4.0),
            **context.hparams,
        }
        return Recipe("blind", build, space)

    return method


def _loss(
    spec: Spec,
    model: Model,
    supervision: Supervision,
    hparams: PyTree,
    params: PyTree,
    batch: Dataset,
    key: Array,
) -> Array:
    z = represent(model, params["trunk"], batch.x, key=key)
    scores = model.predict(params["heads"], z)
    predictions = predict(spec, scores)
    log_odds = _success_log_odds(params["heads"]["success"], z)
    total = jnp.zeros(())
    for t, task in enumerate(spec.tasks):
        columns = spec.label_slice(t)
        label = batch.labels[:, columns]
        label_mask = batch.label_mask[:, columns]
        score = predictions.scores[t]
        loss, has_label = row_losses(task, score, label, label_mask, *supervision.of_task(t))
        weight = has_label * batch.weight
        decision = score[:, 0] >= 0
        is_right = decision == (label[:, 0] > 0.5)
        is_right = jax.lax.stop_gradient(is_right).astype(jnp.float32)
        detector_loss = sigmoid_cross_entropy(log_odds[:, t], is_right)
        surprise = 1.0 - jnp.exp(-detector_loss)
        row_weight = jax.lax.stop_gradient(surprise) ** hparams["gamma"]
        mean_loss = weighted_mean(row_weight * loss, weight)
        mean_detector_loss = weighted_mean(detector_loss, weight)
        task_loss = mean_loss + mean_detector_loss
        total = total + hparams["weight"][t] * task_loss
    return total


def _success_log_odds(detector: PyTree, z: Array) -> Array:
    """Log-odds that each task's decision is right, ``[B, T]``.

    No gradient flows back into the representation.
    """
    constant_z = jax.lax.stop_gradient(z)
    return constant_z @ detector["kernel"] + detector["bias"]


def _with_detector(model: Model, width: int, tasks: int) -> Model:
    """The model with a linear auxiliary model of its representation ``[B, D]`` beside the heads."""

    def init(key: Array) -> PyTree:
        params = model.init(key)
        # at zero every success is a toss-up, and all rows count alike
        success = {
            "kernel": jnp.zeros((width, tasks)),
            "bias": jnp.zeros(tasks),
        }
        heads = params["heads"] | {"success": success}
        return params | {"heads": heads}

    return model._replace(init=init)


def _refuse_other_kinds(spec: Spec) -> None:
    for task in spec.tasks:
        if task.kind != "binary":
            raise ValueError(
                f"blind predicts right and wrong decisions of binary tasks; {task.name!r} is of "
                f"kind {task.kind}"
            )
