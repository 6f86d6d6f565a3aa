"""You Only Train Once: one network for every point of Baseline's frontier, and its answers at many points in one call."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax.core.types import Array, Components, Model, PyTree, Range, Recipe, Spec, Splits
from fairjax.gradients import sum_rows
from fairjax.methods.context import Context, weight_range
from fairjax.models import scores as model_scores
from fairjax.models import with_default_condition
from fairjax.objectives import conditioned_per_task, weighted
from fairjax.objectives._conditioned import Draw
from fairjax.training import Runs, draw_with_key


def loss_weights(weight: Array, lam: Array) -> Array:
    """The condition: Baseline's weight of every loss, ``(w_1 .. w_T, w_1 lam_1 .. w_T lam_T)``.

    Args:
      weight: task weights ``[..., T]``.
      lam: fairness weights ``[..., T]``.

    Returns:
      ``[..., 2T]``.
    """
    return jnp.concatenate([weight, weight * lam], axis=-1)


def lam_drawn(spec: Spec) -> Range:
    """Where fairness weights are drawn from in training: log-uniform in [0.05, 5]."""
    return Range(np.ones(len(spec.tasks)), 0.05, 5.0, log=True)


def drawn(weight: Range, lam: Range) -> Draw:
    """Loss weights of Baseline from ranges of ``w`` and ``lam``, ``(key, D) -> [D, 2T]``."""

    def draw(key: Array, count: int) -> Array:
        weight_key, lam_key = jax.random.split(key)
        weights = draw_with_key(weight, weight_key, count)
        return loss_weights(weights, draw_with_key(lam, lam_key, count))

    return draw


def yoto(
    context: Context, *, weight: Range | None = None, lam: Range | None = None, blocks: int = 4
) -> Recipe:
    """One network for all weights: ``sum_t w_t (L_t + lam_t F_t)``, w and lam drawn in every step and told to the network.

    Knobs are the optimizer's and the notion's: no weight is chosen before training. Asked for scores without a condition, the
    network answers for equal task weights and ``lam`` 1; :func:`scores_for` asks for any others.

    Args:
      setup: its model is one of :func:`fairjax.models.conditioned_network` with ``condition = 2T``: the :func:`loss_weights`.
      weight: where task weights are drawn from; default uniform on the simplex, as a sweep of Baseline does.
      lam: where fairness weights are drawn from; default :func:`lam_drawn`.
      blocks: in how many blocks, each with weights of its own, a batch is cut; see :mod:`fairjax.objectives._conditioned`. On
        Adult blocks of 256 rows did about as well as one of 1024, and those of 64 worse.

    Source: Dosovitskiy and Djolonga, You Only Train Once, ICLR 2020, with blocks in place of rows, which a distance between
    groups needs; for fair multi-task learning Hu, Ratz and Charpentier, ECML-PKDD 2023, without fairness losses there.
    """
    weight, lam = weight or weight_range(context.spec), lam or lam_drawn(context.spec)
    usual = loss_weights(*(np.asarray(r.default, np.float32) for r in (weight, lam)))

    def build(hparams: PyTree) -> Components:
        rows = conditioned_per_task(
            context.model,
            context.spec,
            drawn(weight, lam),
            blocks,
            notion=context.notion(hparams),
            reduction=context.reduction,
        )
        objective = weighted(rows, jnp.ones(len(rows.rows)))  # the weights are in the rows
        return Components(
            with_default_condition(context.model, usual),
            objective,
            optax.chain(sum_rows(), context.optimizer(hparams)),
        )

    return Recipe("yoto", build, dict(context.hparams))


def scores_for(model: Model, params: PyTree, x: PyTree, lam: Array) -> Array:
    """Scores of the same rows under many conditions; what does not depend on them, the first product, is computed once.

    Args:
      model: takes a condition.
      params: its parameters.
      x: inputs of N rows.
      lam: conditions ``[L, W]``.

    Returns:
      ``[L, N, C]``.
    """
    return jax.vmap(
        lambda condition: model_scores(with_default_condition(model, condition), params, x)
    )(lam)


def runs_for(
    model: Model,
    trained: Runs,
    hparams: dict[str, np.ndarray],
    splits: Splits,
    evaluate: Callable,
    *,
    chunk: int = 16,
) -> Runs:
    """What a sweep of Baseline over the same points would give, from conditioned networks that were trained once per seed.

    Args:
      model: the conditioned network.
      trained: a sweep of :func:`yoto` at one point, one member per seed, with ``keep=("params",)``.
      hparams: points of Baseline, ``weight [L, T]`` and ``lam [L, T]`` among them.
      splits: the data.
      evaluate: as of :func:`fairjax.training.member`.
      chunk: points evaluated together.

    Returns:
      :class:`fairjax.training.Runs` of L points and the seeds, points slowest: ``assemble``, frontiers and reports take it.

    Raises:
      ValueError: when a seed was trained more than once, or parameters were not kept.
    """
    if len(set(trained.seed.tolist())) != len(trained.seed):
        raise ValueError(
            f"{len(trained.seed)} networks of {len(set(trained.seed.tolist()))} seeds; give one network per seed"
        )
    if trained.params is None:
        raise ValueError("the sweep kept no parameters; sweep with keep=('params',)")
    points, seeds = len(hparams["lam"]), len(trained.seed)
    lam = np.asarray(loss_weights(hparams["weight"], hparams["lam"]))

    @jax.jit
    def program(params: PyTree, lam: Array, splits: Splits) -> dict[str, Array]:
        scores = {
            name: scores_for(model, params, getattr(splits, name).x, lam)
            for name in ("validation", "test")
        }
        return jax.vmap(evaluate, (0, None))(scores, splits)

    found = []
    for member in range(seeds):
        params = jax.tree.map(lambda leaf, m=member: jnp.asarray(leaf[m]), trained.params)
        for first in range(0, points, chunk):
            index = np.minimum(
                np.arange(first, first + chunk), points - 1
            )  # the last chunk repeats its last point
            found.append(
                jax.tree.map(
                    lambda v, n=points - first: np.asarray(v)[:n],
                    program(params, lam[index], splits),
                )
            )
    joined = {name: np.concatenate([f[name] for f in found]) for name in found[0]}
    metrics = {
        name: v.reshape(seeds, points, *v.shape[1:]).swapaxes(0, 1).reshape(v.shape)
        for name, v in joined.items()
    }
    return Runs(
        point=np.repeat(np.arange(points), seeds),
        seed=np.tile(trained.seed, points),
        hparams={name: np.repeat(v, seeds, axis=0) for name, v in hparams.items()},
        metrics=metrics,
        diverged=np.tile(trained.diverged, points),
        values=None,
        scores={},
        params=None,
        record=(),
        compilations=program._cache_size(),
        chunk=chunk,
    )
