"""Repair of a model's own scores, and on the rows that the repair was fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fairjax.core.types import Array, DataError, Post, Spec
from fairjax.losses import probabilities
from fairjax.postprocess._barycenter import barycenter
from fairjax.postprocess.scales import SMALLEST, logit


def of_attributes(spec: Spec, attributes: Sequence[int] | None = None) -> list[int]:
    """Attributes that a repair is for: those given, or all with levels.

    Raises:
      DataError: there is none with levels.
    """
    chosen = (
        [i for i, a in enumerate(spec.attributes) if not a.continuous]
        if attributes is None
        else list(attributes)
    )
    if not chosen or any(spec.attributes[a].continuous for a in chosen):
        names = ", ".join(a.name for a in spec.attributes if a.continuous) or "none"
        raise DataError(
            f"a repair is between groups, but an attribute that is a number has none ({names}). Make levels of it "
            "with a rule such as 'age > 25', or train with a penalty on its correlation."
        )
    return chosen


def on_scores(post: Post, spec: Spec, attributes: Sequence[int] | None = None) -> Post:
    """A repair of probabilities and predictions as one of a model's scores ``[N, C]``, with ``groups`` of its data set.

    Probabilities are repaired and turned back to log-odds, predictions are repaired in the units of their column. Of several
    classes each one's probability is repaired against the rest and softmax makes them add up to 1 again, so that for
    those parity is no longer exact.

    Args:
      post: sees columns ``[N, C]`` and the blocks of the attributes side by side.
      spec: of the model.
      attributes: positions of the attributes; all with levels by default.
    """
    blocks = [spec.group_slice(a) for a in of_attributes(spec, attributes)]

    def values(scores: Array) -> Array:
        found = probabilities(spec, scores)
        return jnp.concatenate(
            [t.in_units(p) for t, p in zip(spec.tasks, found, strict=True)], axis=1
        )

    def back(value: Array) -> Array:
        columns = []
        for i, task in enumerate(spec.tasks):
            column = value[:, spec.score_slice(i)]
            if task.kind == "regression":
                columns.append((column - task.mean) / task.deviation)
            else:
                columns.append(
                    jnp.log(jnp.maximum(column, SMALLEST))
                    if task.kind == "multiclass"
                    else logit.forward(column)
                )
        return jnp.concatenate(columns, axis=1)

    def chosen(groups: Array) -> Array:
        return jnp.concatenate([groups[:, b] for b in blocks], axis=1)

    def fit(scores: Array, groups: Array, weight: Array):
        return post.fit(values(scores), chosen(groups), weight)

    def apply(state, scores: Array, groups: Array, **how) -> Array:
        return back(post.apply(state, values(scores), chosen(groups), **how))

    return Post(fit, apply)


def model_barycenter(spec: Spec, attributes: Sequence[int] | None = None, **options) -> Post:
    """:func:`fairjax.postprocess._barycenter` of a model's scores: attributes crossed, ``options`` as there."""
    sizes = [spec.attributes[a].width for a in of_attributes(spec, attributes)]
    return on_scores(barycenter(sizes, **options), spec, attributes)


def cross_fitted(
    post: Post, scores: Array, groups: Array, weight: Array, fold: Array, folds: int, **how
) -> Array:
    """The pool's own rows ``[N, C]`` repaired, each by a fit on the rows of all folds but its own.

    After a repair that was fitted on the same rows the groups' distributions agree by construction, which says nothing: the
    Kolmogorov-Smirnov distance of Gaussian scores is .017 in a pool of 200 rows and .146 on new ones.

    Args:
      post: the repair.
      scores: ``[N, C]``.
      groups: ``[N, G]``.
      weight: ``[N]``.
      fold: ``[N]`` in ``0 .. folds - 1``.
      folds: at least 2.
      how: key and amount, for ``apply``.
    """

    def without(k: Array) -> Array:
        return post.apply(post.fit(scores, groups, weight * (fold != k)), scores, groups, **how)

    return jnp.take_along_axis(jax.vmap(without)(jnp.arange(folds)), fold[None, :, None], axis=0)[0]
