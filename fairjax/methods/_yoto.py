"""You Only Train Once: one network for every point of Baseline's frontier.

One call gives its answers at many points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fairjax.core.types import Array, Components, Model, PyTree, Range, Recipe, Spec, Splits
from fairjax.gradients import sum_rows
from fairjax.methods.context import Context, Method, SweptNotions, notion_at, weight_range
from fairjax.models import scores as model_scores
from fairjax.models import with_default_condition
from fairjax.objectives import per_task_with_drawn_weights, weighted
from fairjax.objectives.drawn_weights import Combine, Draw
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


def trained_lam_range(spec: Spec) -> Range:
    """Where fairness weights are drawn from in training: log-uniform in [0.05, 5]."""
    return Range(np.ones(len(spec.tasks)), 0.05, 5.0, log=True)


def draw_loss_weights(weight: Range, lam: Range) -> Draw:
    """Loss weights of Baseline from ranges of ``w`` and ``lam``, ``(key, D) -> [D, 2T]``."""

    def draw(key: Array, count: int) -> Array:
        weight_key, lam_key = jax.random.split(key)
        weights = draw_with_key(weight, weight_key, count)
        lams = draw_with_key(lam, lam_key, count)
        return loss_weights(weights, lams)

    return draw


def yoto(
    notion: SweptNotions,
    *,
    model: Model | None = None,
    weight: Range | None = None,
    lam: Range | None = None,
    blocks: int = 4,
    combine: Combine | None = None,
) -> Method:
    """One network for all weights of ``sum_t w_t (L_t + lam_t F_t)``.

    In every step w and lam are drawn, and the network gets them as its condition. The
    hyper-parameters ``weight`` and ``lam`` play no part in training: they are the weights for which
    the trained network answers without a condition. A study trains one network per seed and asks it
    for all points; :func:`scores_for` asks for any others.

    Args:
      notion: of the fairness losses.
      model: a network that takes a condition of width 2T, the :func:`loss_weights`. Default: that
        of the context.
      weight: the range of task weights in training. Default: uniform on the simplex, as in a sweep
        of Baseline.
      lam: the range of fairness weights in training. Default: :func:`trained_lam_range`.
      blocks: the number of blocks of a batch, each with weights of its own; see
        :mod:`fairjax.objectives.drawn_weights`. On Adult blocks of 256 rows did about as well as
        one of 1024, and blocks of 64 did worse.
      combine: of the losses and their weights, in place of the weighted sum: with
        ``partial(fairjax.gradients.combiners.cosmos_loss, lam=1.0)`` this is COSMOS, with
        ``boundary_intersection`` PBI.

    Source: Dosovitskiy and Djolonga, You Only Train Once, ICLR 2020. Here blocks stand in place of
    rows, because a distance between groups needs many rows. For fair multi-task learning: Hu, Ratz
    and Charpentier, ECML-PKDD 2023, without fairness losses.
    """

    def method(context: Context) -> Recipe:
        spec = context.spec
        weights = weight or weight_range(spec)
        lams = lam or trained_lam_range(spec)
        network = model or context.conditioned_model(2 * len(spec.tasks))

        def build(hparams: PyTree) -> Components:
            rows = per_task_with_drawn_weights(
                network,
                spec,
                draw_loss_weights(weights, lams),
                blocks,
                notion=notion_at(notion, hparams),
                reduction=context.reduction,
                batch_size=context.batch_size,
                supervision=context.supervision,
                combine=combine,
            )
            # the weights are in the rows already
            objective = weighted(rows, jnp.ones(len(rows.rows)))
            condition = loss_weights(hparams["weight"], hparams["lam"])
            optimizer = context.optimizer(hparams)
            return Components(
                with_default_condition(network, condition),
                objective,
                optax.chain(sum_rows(), optimizer),
            )

        space = {"weight": weights, "lam": lams, **context.hparams}
        return Recipe("yoto", build, space, notion=notion, told=("weight", "lam"))

    return method


def scores_for(model: Model, params: PyTree, x: PyTree, lam: Array) -> Array:
    """Scores of the same rows under many conditions.

    The first product does not depend on the condition, so it is computed once.

    Args:
      model: takes a condition.
      params: its parameters.
      x: inputs of N rows.
      lam: conditions ``[L, W]``.

    Returns:
      ``[L, N, C]``.
    """

    def scores_under(condition: Array) -> Array:
        conditioned = with_default_condition(model, condition)
        return model_scores(conditioned, params, x)

    return jax.vmap(scores_under)(lam)


def runs_for(
    recipe: Recipe,
    trained: Runs,
    hparams: dict[str, np.ndarray],
    splits: Splits,
    evaluate: Callable[..., Any],
    *,
    chunk: int = 16,
) -> Runs:
    """The runs of trained networks at many points.

    Only the hyper-parameters in ``recipe.told`` differ between the points.

    Args:
      recipe: of a method whose networks get hyper-parameters after training, such as :func:`yoto`.
      trained: a sweep of the recipe at one point, one member per seed, with ``keep=("params",)``.
      hparams: points ``[L, ...]``.
      splits: the data.
      evaluate: see :func:`fairjax.training.member`.
      chunk: points evaluated together.

    Returns:
      :class:`fairjax.training.Runs` of L points and the seeds, points slowest.

    Raises:
      ValueError: a seed was trained more than once, or parameters were not kept.
    """
    networks = len(trained.seed)
    seeds = len(set(trained.seed.tolist()))
    if seeds != networks:
        raise ValueError(f"{networks} networks of {seeds} seeds; give one network per seed")
    if trained.params is None:
        raise ValueError("the sweep kept no parameters; sweep with keep=('params',)")
    first_column = next(iter(hparams.values()))
    points = len(first_column)

    @jax.jit
    def program(params: PyTree, chunk_hparams: dict[str, Array], splits: Splits) -> PyTree:
        def at_point(hparams: dict[str, Array]) -> PyTree:
            model = recipe.build(hparams).model
            scores = {
                "validation": model_scores(model, params, splits.validation.x),
                "test": model_scores(model, params, splits.test.x),
            }
            return evaluate(scores, splits)

        return jax.vmap(at_point)(chunk_hparams)

    chunks = []
    for member in range(seeds):
        params = jax.tree.map(lambda leaf, m=member: jnp.asarray(leaf[m]), trained.params)
        for first in range(0, points, chunk):
            # the last chunk repeats its last point
            index = np.arange(first, first + chunk)
            index = np.minimum(index, points - 1)
            chunk_hparams = {name: jnp.asarray(array[index]) for name, array in hparams.items()}
            real = min(chunk, points - first)
            results = program(params, chunk_hparams, splits)
            chunks.append(jax.tree.map(lambda leaf, n=real: np.asarray(leaf)[:n], results))

    def points_first(*leaves: np.ndarray) -> np.ndarray:
        joined = np.concatenate(leaves)
        by_seed = joined.reshape(seeds, points, *joined.shape[1:])
        return by_seed.swapaxes(0, 1).reshape(joined.shape)

    compilations: int = program._cache_size()  # pyright: ignore[reportAttributeAccessIssue]
    return Runs(
        point=np.repeat(np.arange(points), seeds),
        seed=np.tile(trained.seed, points),
        hparams={name: np.repeat(array, seeds, axis=0) for name, array in hparams.items()},
        metrics=jax.tree.map(points_first, *chunks),
        diverged=np.tile(trained.diverged, points),
        values=None,
        scores={},
        params=None,
        record=(),
        block=np.tile(trained.block, points),
        compilations=trained.compilations + compilations,
        chunk=chunk,
    )
