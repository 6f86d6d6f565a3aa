"""Post-processors of a model's scores by name:
``REGISTRY[name](spec, attributes=None, **options) -> Post``.

``fit(scores[N, C], groups[N, G], weight[N]) -> state`` and
``apply(state, scores, groups, key=None, amount=1.0) -> scores``, with the scores and groups of a
model's data set; ``fit`` of a labelled one takes labels and their mask ``[N, Y]`` too. Both work
under jit and vmap, over models and over amounts; a state is a pytree of arrays. ``amount`` 0 leaves
the probabilities and predictions as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

from fairjax.core.groups import level_attributes
from fairjax.core.types import Array, Post, Spec
from fairjax.notions import CONDITIONS
from fairjax.postprocess._barycenter import barycenter
from fairjax.postprocess._free_support import free_support
from fairjax.postprocess._gaussian import gaussian
from fairjax.postprocess._group_thresholds import group_thresholds
from fairjax.postprocess._on_decisions import on_decisions
from fairjax.postprocess._on_scores import on_scores
from fairjax.postprocess._published_barycenter import published_barycenter


def model_barycenter(spec: Spec, attributes: Sequence[int] | None = None, **options: Any) -> Post:
    """:func:`barycenter` of a model's scores: attributes crossed, ``options`` as there."""
    sizes = [spec.attributes[a].width for a in level_attributes(spec, attributes)]
    post = on_scores(barycenter(sizes, **options), spec, attributes)
    return post._replace(name="barycenter")


def model_published_barycenter(spec: Spec, attributes: Sequence[int] | None = None) -> Post:
    """:func:`published_barycenter` of a model's scores: attributes crossed."""
    post = on_scores(published_barycenter(), spec, attributes, cross=True)
    return post._replace(name="published_barycenter")


def model_gaussian(spec: Spec, attributes: Sequence[int] | None = None, **options: Any) -> Post:
    """:func:`gaussian` of a model's scores: attributes crossed, ``options`` as there."""
    post = on_scores(gaussian(**options), spec, attributes, cross=True)
    return post._replace(name="gaussian")


def model_free_support(
    spec: Spec, attributes: Sequence[int] | None = None, key: Array | None = None, **options: Any
) -> Post:
    """:func:`free_support` of a model's probabilities and predictions: attributes crossed,
    ``options`` as there.

    ``key`` None draws with ``jax.random.key(0)``.
    """
    key = jax.random.key(0) if key is None else key
    post = on_scores(free_support(key, **options), spec, attributes, cross=True)
    return post._replace(name="free_support")


def model_group_thresholds(
    spec: Spec,
    attributes: Sequence[int] | None = None,
    *,
    condition: str | None = None,
    **options: Any,
) -> Post:
    """:func:`group_thresholds` of a model's binary tasks and labels: attributes crossed,
    ``options`` as there.

    ``condition`` is a key of ``notions.CONDITIONS``; None asks for least error in each group.
    """
    conditions = CONDITIONS[condition] if condition else ()
    name = f"{condition or 'least_error'}_thresholds"
    post = group_thresholds(conditions, **options)._replace(name=name)
    return on_decisions(post, spec, attributes)


REGISTRY: dict[str, Callable[..., Post]] = {
    "barycenter": model_barycenter,
    "gaussian": model_gaussian,
    "free_support": model_free_support,
    "published_barycenter": model_published_barycenter,
    "parity_thresholds": partial(model_group_thresholds, condition="parity"),
    "tpr_thresholds": partial(model_group_thresholds, condition="tpr"),
    "fpr_thresholds": partial(model_group_thresholds, condition="fpr"),
    "odds_thresholds": partial(model_group_thresholds, condition="odds"),
    "least_error_thresholds": model_group_thresholds,
}
