"""The ensemble of networks against loops in float64, in training and in evaluation."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import dataset, tabular_spec
from scipy.special import expit, logit, softmax

from fairjax import methods, models, notions
from fairjax.core.types import Attribute, DataError, Spec, Task
from fairjax.methods import Context
from fairjax.training import TrainConfig, make_train

KINDS = (
    Task("b"),
    Task("m", "multiclass", ("x", "y", "z")),
    Task("l", "multilabel", ("p", "q")),
    Task("r", "regression"),
)
SPEC = Spec(KINDS, (Attribute("a", ("0", "1")),), ("x0", "x1"), (("c0", 3),))
SHARED = tabular_spec(tasks=2)
PARITY = notions.from_distance(notions.rate_gap, (notions.everyone,))
K = 3


def drawn(model, seed=1):
    """Random parameters, and the same as float64."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape)), shapes)
    return params, jax.tree.map(np.float64, params)


def inputs(x) -> np.ndarray:
    """``[B, D]``: numbers and a column per level."""
    return np.concatenate([x.numeric, np.asarray(x.codes)[:, [0]] == np.arange(3)], axis=1)


def scores_of_network(params, k: int, x: np.ndarray) -> np.ndarray:
    """Scores ``[C]`` of network k for one row, layer by layer."""
    h = x
    for i in range(2):
        p = params["trunk"][f"layer_{i}"]
        h = p["outputs"][k] * (p["weight"] @ (p["inputs"][k] * h)) + p["bias"][k]
        h = np.maximum(h, 0)
    columns = []
    for task in KINDS:
        head = params["heads"][task.name]["output"]
        columns.append(head["kernel"][k].T @ h + head["bias"][k])
    return np.concatenate(columns)


def averaged(scores: np.ndarray) -> np.ndarray:
    """Scores ``[C]`` from those of the networks ``[K, C]``."""
    binary = logit(expit(scores[:, :1]).mean(axis=0))
    classes = np.log(softmax(scores[:, 1:4], axis=1).mean(axis=0))
    labels = logit(expit(scores[:, 4:6]).mean(axis=0))
    return np.concatenate([binary, classes, labels, scores[:, 6:].mean(axis=0)])


@pytest.mark.parametrize("rows", [1, 2, 7, 9])
def test_scores_are_those_of_the_mean_probabilities(rows):
    x = dataset(tabular_spec(2, 2, (3,)), rows, 0).x
    model = models.ensemble(SPEC, (6, 4), networks=K)
    params, exact = drawn(model)
    want = [
        averaged(np.stack([scores_of_network(exact, k, row) for k in range(K)]))
        for row in inputs(x)
    ]
    got = jax.jit(lambda p: models.scores(model, p, x))(params)
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 2, 7, 9])
def test_a_row_of_a_step_is_one_network_s(rows):
    x = dataset(tabular_spec(2, 2, (3,)), rows, 0).x
    model = models.ensemble(SPEC, (6, 4), networks=K)
    params, exact = drawn(model)
    want = [scores_of_network(exact, i % K, row) for i, row in enumerate(inputs(x))]
    step = jax.jit(lambda p, key: models.scores(model, p, x, key))
    np.testing.assert_allclose(step(params, jax.random.key(0)), want, rtol=2e-4, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 7])
def test_a_column_of_many_levels_has_an_embedding(rows):
    columns = (("wide", 200), ("c0", 3), ("wider", 300))
    spec = dataclasses.replace(SPEC, categorical=columns)
    x = dataset(tabular_spec(2, 2, (200, 3, 300)), rows, 0).x
    x.codes[-1] = -1
    model = models.ensemble(spec, (6, 4), networks=K)
    params, exact = drawn(model)
    tables = np.split(exact["trunk"]["embedding"], [200])
    embedded = []
    for table, codes in zip(tables, (x.codes[:, 0], x.codes[:, 2]), strict=True):
        embedded.append([table[c] if c >= 0 else 0 * table[0] for c in codes])
    of_levels = x.codes[:, [1]] == np.arange(3)
    everything = np.concatenate([x.numeric, of_levels, *embedded], axis=1)
    of_networks = np.array(
        [[scores_of_network(exact, k, row) for k in range(K)] for row in everything]
    )
    got = jax.jit(lambda p: models.scores(model, p, x))(params)
    np.testing.assert_allclose(
        got, [averaged(scores) for scores in of_networks], rtol=2e-4, atol=2e-3
    )
    step = jax.jit(lambda p, key: models.scores(model, p, x, key))
    dealt = [scores[i % K] for i, scores in enumerate(of_networks)]
    np.testing.assert_allclose(step(params, jax.random.key(0)), dealt, rtol=2e-4, atol=2e-3)


def test_scores_of_certain_networks_are_finite():
    model = models.ensemble(SPEC, (6, 4), networks=K)
    params, _ = drawn(model)
    params = jax.tree.map(lambda leaf: 100 * leaf, params)
    x = dataset(tabular_spec(2, 2, (3,)), 5, 0).x
    assert np.isfinite(models.scores(model, params, x)).all()


def test_networks_start_apart():
    model = models.ensemble(SPEC, (6, 4), networks=K)
    params = model.init(jax.random.key(0))
    params["heads"] = jax.tree.map(lambda leaf: jnp.stack([leaf[0]] * K), params["heads"])
    z = model.represent(params["trunk"], dataset(tabular_spec(2, 2, (3,)), 5, 0).x)
    assert all(not np.allclose(z[:, 0], z[:, k]) for k in range(1, K))
    signs = params["trunk"]["layer_0"]["inputs"]
    assert set(np.unique(signs)) == {-1.0, 1.0}


@pytest.mark.parametrize(("method", "dropout"), [("mta_f", 0.0), ("pcgrad", 0.2)])
def test_it_learns_under_a_method(method, dropout):
    rows = dataset(SHARED, 30, 0)
    model = models.ensemble(SHARED, (8,), (4,), networks=2, dropout=dropout)
    recipe = methods.get(method, PARITY)(Context.adamw(SHARED, model, 0.01, 8))
    hparams = {name: jnp.float32(interval.default) for name, interval in recipe.space.items()}
    train = jax.jit(make_train(TrainConfig(2, 8), recipe))
    trained = train(jax.random.key(0), jax.random.key(1), hparams, rows)
    begun = model.init(jax.random.key(0))
    for leaf, first in zip(jax.tree.leaves(trained.params), jax.tree.leaves(begun), strict=True):
        assert np.isfinite(leaf).all() and not np.array_equal(leaf, first)


def test_an_ensemble_of_no_network_is_refused():
    with pytest.raises(DataError, match="ensemble of 0 networks has none to ask"):
        models.ensemble(SPEC, networks=0)
