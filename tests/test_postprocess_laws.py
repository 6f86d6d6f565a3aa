"""Laws of every post-processor in the registry: on a model's scores, under jit, and mapped over
models and amounts."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fairjax import postprocess
from fairjax.core.types import Attribute, DataError, Post, Spec, Task
from fairjax.losses import probabilities
from fairjax.notions import positives
from fairjax.postprocess import REGISTRY

SPEC = Spec(
    (Task("hired"), Task("pay", "regression", mean=5.0, deviation=2.0)),
    (Attribute("age", (), continuous=True), Attribute("sex", ("f", "m", "x"))),
)
CLASSES = Spec((Task("job", "multiclass", ("a", "b", "c")),), SPEC.attributes)
CROSSED = Spec(SPEC.tasks, (*SPEC.attributes, Attribute("race", ("a", "b"))))
OPTIONS = {"free_support": {"size": 60, "epsilon": 0.05, "rounds": 10}}
POOL = 450
NEW = 600
every = pytest.mark.parametrize("name", sorted(REGISTRY))
LABELLED = {name for name in REGISTRY if REGISTRY[name](SPEC, **OPTIONS.get(name, {})).labelled}
of_any_task = pytest.mark.parametrize("name", sorted(set(REGISTRY) - LABELLED))


def fit_of(post: Post):
    """The fit, of a labelled repair with labels that agree with signs of scores of five in six."""
    if not post.labelled:
        return post.fit

    def fit(scores, groups, weight):
        flipped = (jnp.arange(len(scores)) % 6 == 0)[:, None]
        labels = jnp.float32((scores > 0) ^ flipped)
        return post.fit(scores, groups, weight, labels, jnp.ones_like(labels))

    return fit


@functools.cache
def compiled(name: str, spec: Spec = SPEC):
    post = REGISTRY[name](spec, **OPTIONS.get(name, {}))

    def apply(state, scores, groups, amount):
        return post.apply(state, scores, groups, amount=amount)

    return jax.jit(fit_of(post)), jax.jit(apply)


def people(rows: int, seed: int, width: int = 2):
    """Scores of a model that differ between groups, and groups with columns of a number before
    them."""
    rng = np.random.default_rng(seed)
    level = rng.integers(0, 3, rows)
    scores = rng.normal(size=(rows, width)) * (1 + 0.2 * level[:, None])
    scores[:, 0] += 0.7 * level
    groups = np.concatenate([np.ones((rows, 2)), np.eye(3)[level]], axis=1)
    return np.float32(scores), np.float32(groups)


@functools.cache
def fitted(name: str):
    fit, _ = compiled(name)
    return fit(*people(POOL, 0), np.ones(POOL, np.float32))


def kolmogorov(score: np.ndarray, groups: np.ndarray) -> float:
    level = groups[:, 2:].argmax(axis=1)
    pairs = itertools.combinations(range(3), 2)
    return max(
        scipy.stats.ks_2samp(score[level == a], score[level == b]).statistic for a, b in pairs
    )


@every
def test_amount_0_leaves_scores_as_they_are(name):
    scores, groups = people(NEW, 1)
    _, apply = compiled(name)
    after = apply(fitted(name), scores, groups, 0.0)
    np.testing.assert_allclose(after, scores, atol=2e-5)


@of_any_task
def test_amount_0_leaves_probabilities_of_classes_as_they_are(name):
    scores, groups = people(POOL, 2, width=3)
    fit, apply = compiled(name, CLASSES)
    after = apply(fit(scores, groups, np.ones(POOL, np.float32)), scores, groups, 0.0)
    (before_prob,) = probabilities(CLASSES, scores)
    (after_prob,) = probabilities(CLASSES, after)
    np.testing.assert_allclose(after_prob, before_prob, atol=1e-5)


@every
@pytest.mark.parametrize("amount", [0.4, 1.0])
def test_shape_type_and_finite_numbers(name, amount):
    scores, groups = people(NEW, 1)
    groups[:50, 2:] = 0  # unknown
    _, apply = compiled(name)
    after = apply(fitted(name), scores, groups, amount)
    assert after.shape == scores.shape
    assert after.dtype == scores.dtype
    assert np.isfinite(after).all()


@every
def test_the_order_of_rows_does_not_matter(name):
    scores, groups = people(NEW, 1)
    order = np.random.default_rng(0).permutation(NEW)
    _, apply = compiled(name)
    after = np.asarray(apply(fitted(name), scores, groups, 1.0))
    permuted = apply(fitted(name), scores[order], groups[order], 1.0)
    np.testing.assert_allclose(permuted, after[order], atol=1e-5)


@every
def test_a_group_that_the_pool_lacks_is_allowed(name):
    pool_scores, pool_groups = people(POOL, 0)
    scores, groups = people(NEW, 1)
    fit, apply = compiled(name)
    lacking = fit(pool_scores, pool_groups, 1 - pool_groups[:, 4])
    after = np.asarray(apply(lacking, scores, groups, 1.0))
    unknown = np.asarray(apply(lacking, scores, groups * [1, 1, 1, 1, 0], 1.0))
    assert np.isfinite(after).all()
    # documented: its rows are treated as rows of an unknown group
    np.testing.assert_allclose(after, unknown, atol=1e-5)


@every
def test_rows_of_weight_0_may_hold_anything(name):
    scores, groups = people(POOL, 0)
    weight = np.ones(POOL, np.float32)
    weight[::5] = 0
    poisoned = np.where(weight[:, None] > 0, scores, np.nan)
    fit, _ = compiled(name)
    clean_state = fit(scores, groups, weight)
    state = fit(poisoned, groups, weight)
    for leaf, clean in zip(jax.tree.leaves(state), jax.tree.leaves(clean_state), strict=True):
        np.testing.assert_array_equal(leaf, clean)


@every
def test_mapped_over_models_and_amounts(name):
    scores, groups = people(POOL, 0)
    models = np.stack([scores, scores[:, ::-1]])
    amounts = jnp.array([0.5, 1.0])
    post = REGISTRY[name](SPEC, **OPTIONS.get(name, {}))

    def repaired(model):
        state = fit_of(post)(model, groups, jnp.ones(POOL))
        return jax.vmap(lambda amount: post.apply(state, model, groups, amount=amount))(amounts)

    mapped = np.asarray(jax.jit(jax.vmap(repaired))(models))
    assert mapped.shape == (2, 2, POOL, 2)
    _, apply = compiled(name)
    alone = apply(fitted(name), scores, groups, 0.5)
    np.testing.assert_allclose(mapped[0, 0], alone, atol=2e-2)
    np.testing.assert_allclose(np.median(np.abs(mapped[0, 0] - alone)), 0, atol=1e-3)


# a labelled repair makes decisions alike, not scores
@of_any_task
def test_groups_are_closer_on_new_rows(name):
    scores, groups = people(NEW, 1)
    _, apply = compiled(name)
    after = np.asarray(apply(fitted(name), scores, groups, 1.0))
    before = kolmogorov(scores[:, 0], groups)
    assert before > 0.35
    assert kolmogorov(after[:, 0], groups) < 0.5 * before


@every
def test_a_state_is_arrays_that_a_file_can_hold(name, tmp_path):
    leaves, structure = jax.tree.flatten(fitted(name))
    np.savez(tmp_path / "state.npz", *leaves)
    with np.load(tmp_path / "state.npz") as file:
        state = jax.tree.unflatten(structure, [file[field] for field in file.files])
    scores, groups = people(NEW, 1)
    _, apply = compiled(name)
    np.testing.assert_array_equal(
        apply(state, scores, groups, 1.0), apply(fitted(name), scores, groups, 1.0)
    )


@pytest.mark.parametrize("name", ["barycenter", "gaussian", "published_barycenter"])
def test_several_attributes_are_crossed(name):
    scores, groups = people(NEW, 3)
    race = np.random.default_rng(4).integers(0, 2, NEW)
    scores[:, 0] += race * (groups[:, 2] - groups[:, 3])
    both = np.concatenate([groups, np.eye(2, dtype=np.float32)[race]], axis=1)
    fit, apply = compiled(name, CROSSED)
    after = np.asarray(apply(fit(scores, both, np.ones(NEW, np.float32)), scores, both, 1.0))
    for r in (0, 1):
        before = kolmogorov(scores[race == r, 0], groups[race == r])
        assert kolmogorov(after[race == r, 0], groups[race == r]) < 0.5 * before


@every
def test_a_number_has_no_groups(name):
    spec = Spec(SPEC.tasks, SPEC.attributes[:1])
    with pytest.raises(DataError, match="levels"):
        REGISTRY[name](spec)


DIRECT = {
    "barycenter": postprocess.barycenter(),
    "gaussian": postprocess.gaussian(),
    "free_support": postprocess.free_support(jax.random.key(0), **OPTIONS["free_support"]),
    "published_barycenter": postprocess.published_barycenter(),
    **dict.fromkeys(LABELLED, postprocess.group_thresholds([positives])),
}


@every
@pytest.mark.parametrize("on_model", [True, False])
def test_codes_of_groups_are_refused(name, on_model):
    spec = Spec(SPEC.tasks, SPEC.attributes[1:])
    post = REGISTRY[name](spec, **OPTIONS.get(name, {})) if on_model else DIRECT[name]
    scores, groups = people(POOL, 0)
    membership = groups[:, 2:]
    codes = membership.argmax(axis=1)
    weight = np.ones(POOL, np.float32)
    with pytest.raises(ValueError, match=r"expected membership \[N, G\]"):
        fit_of(post)(scores, codes, weight)
    state = jax.eval_shape(fit_of(post), scores, membership, weight)
    with pytest.raises(ValueError, match=r"expected membership \[N, G\]"):
        jax.eval_shape(post.apply, state, scores, codes)
