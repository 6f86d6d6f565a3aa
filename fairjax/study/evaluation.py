"""Metrics of one run: of its scores as they are, and after every repair.

The functions are pure, so a sweep can map and jit them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax import metrics
from fairjax.core.types import Array, Dataset, Post, Spec, Splits
from fairjax.postprocess import assign_folds, cross_fitted
from fairjax.training import Measure

if TYPE_CHECKING:
    from fairjax.study.config import StudyConfig

SPLITS = ("validation", "test")
DECISIONS = (*metrics.RULES, "transductive")
FOLDS = 5  # of the validation rows, which are the pool of a repair

Scores = dict[str, Array]  # per split [N, C]


def validates_on_test(splits: Splits) -> bool:
    """Whether the validation rows are the test rows, on which nothing may be chosen."""
    leaves = zip(jax.tree.leaves(splits.validation), jax.tree.leaves(splits.test), strict=True)
    return all(np.array_equal(*pair, equal_nan=True) for pair in leaves)


def evaluator(
    spec: Spec,
    config: StudyConfig,
    repairs: Sequence[Post] = (),
    amounts: Sequence[float] = (),
) -> Measure:
    """Metrics of the validation and test rows, of decisions as ``config.decision`` says.

    Returns:
      ``(scores, splits) -> {"plain": {Metric: value}, NAME: {Metric: [A]}, ...}``. ``"plain"`` has
      the metrics of the scores as they are, the name of a repair those at all its amounts.
    """

    @jax.jit  # traced once for splits of as many rows
    def of_rows(score: Array, rows: Dataset, thresholds: Array) -> metrics.Metrics:
        return metrics.evaluate_together(spec, score, rows, thresholds, config.smallest_group)

    def measure(scores: Scores, splits: Splits) -> dict[metrics.Metric, Array]:
        thresholds = thresholds_of(spec, config.decision, scores, splits)
        values = {}
        for split in SPLITS:
            rows = getattr(splits, split)._replace(x=())
            split_values = of_rows(scores[split], rows, thresholds[split])
            for key, value in split_values.items():
                split_key = key._replace(split=split)
                values[split_key] = value
        return values

    def program(scores: Scores, splits: Splits) -> dict[str, Any]:
        if not repairs:
            return {"plain": measure(scores, splits)}
        # one mapped evaluation for the plain scores and all repaired ones
        plain = jax.tree.map(lambda score: score[None], scores)
        variants = [plain]
        amount_array = jnp.asarray(amounts, jnp.float32)
        for post in repairs:
            repair = jax.vmap(lambda amount, p=post: repair_scores(p, scores, splits, amount))
            variants.append(repair(amount_array))
        stacked = jax.tree.map(lambda *parts: jnp.concatenate(parts), *variants)
        values = jax.vmap(lambda scores: measure(scores, splits))(stacked)
        results = {"plain": {key: value[0] for key, value in values.items()}}
        first = 1
        for post in repairs:
            last = first + len(amounts)
            results[post.name] = {key: value[first:last] for key, value in values.items()}
            first = last
        return results

    def finish(results: dict[str, Any]) -> dict[str, Any]:
        return {name: metrics.by_task(spec, values) for name, values in results.items()}

    return Measure(program, finish)


def thresholds_of(
    spec: Spec,
    decision: str,
    scores: Scores,
    splits: Splits,
) -> dict[str, Array]:
    """The thresholds ``[T]`` on the scores, by split.

    They are found on validation rows and are the same for all splits. Only ``"transductive"``, the
    protocol of published tables, finds them on the rows of each split itself: each split then
    selects the base rate of the training labels, which no model can do for a single new row.
    """
    rates = metrics.base_rates(spec, splits.train)

    def found_on(split: str, rule: str) -> Array:
        rows = getattr(splits, split)
        return metrics.decision_thresholds(rule, spec, scores[split], rows, rates)

    if decision == "transductive":
        return {split: found_on(split, "base_rate") for split in SPLITS}
    thresholds = found_on("validation", decision)
    return {split: thresholds for split in SPLITS}


def repair_scores(
    post: Post, scores: Scores, splits: Splits, amount: Array | float
) -> dict[str, Array]:
    """Scores of the validation and test rows after a repair whose pool are the validation rows.

    The validation rows are repaired fold by fold, each by a fit on the other folds: on its own rows
    a repair looks better than it is.
    """
    pool = splits.validation
    rows = post.pool(scores["validation"], pool)
    score, groups, weight, *labels = rows
    # the same folds in every run
    draw = jax.random.uniform(jax.random.key(0), pool.weight.shape)
    rank = jnp.argsort(draw)
    cell = jnp.zeros_like(rank)  # all rows in one cell: folds ignore the groups
    fold = assign_folds(cell, rank, FOLDS)
    fitted = post.fit(*rows)
    test = post.apply(fitted, scores["test"], splits.test.groups, amount=amount)
    validation = cross_fitted(post, score, groups, weight, fold, FOLDS, labels, amount=amount)
    return {"validation": validation, "test": test}
