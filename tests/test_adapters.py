"""Modules of other libraries as models: the same function as the module's own, and a training run
through each.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import dataset, tabular_spec
from flax import nnx

import fairjax
from fairjax.core.types import Range
from fairjax.methods import Context, linked
from fairjax.notions import from_distance, negatives, rate_gap
from fairjax.training import TrainConfig, make_train

eqx = pytest.importorskip(
    "equinox", reason="modules of equinox are checked with pip install equinox"
)
SPEC = tabular_spec(2, 2, ())
DATA = dataset(SPEC, 24, 0)
X = jnp.asarray(DATA.x.numeric)
DATA = DATA._replace(x=X)


class LinenHeads(nn.Module):
    @nn.compact
    def __call__(self, z):
        return jnp.concatenate(
            [nn.Dense(1, name=name)(nn.tanh(z)) for name in ("left", "right")], axis=-1
        )


class NnxHeads(nnx.Module):
    def __init__(self, rngs):
        self.left, self.right = nnx.Linear(5, 1, rngs=rngs), nnx.Linear(5, 1, rngs=rngs)

    def __call__(self, z):
        return jnp.concatenate([self.left(jnp.tanh(z)), self.right(jnp.tanh(z))], axis=-1)


class EqxHeads(eqx.Module):
    left: eqx.nn.Linear
    right: eqx.nn.Linear

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.left, self.right = eqx.nn.Linear(5, 1, key=one), eqx.nn.Linear(5, 1, key=two)

    def __call__(self, z):
        return jnp.concatenate([self.left(jnp.tanh(z)), self.right(jnp.tanh(z))])


MODELS = {
    "linen": lambda: fairjax.from_linen(nn.Dense(5), LinenHeads(), X[:1]),
    "nnx": lambda: fairjax.from_nnx(lambda rngs: nnx.Linear(2, 5, rngs=rngs), NnxHeads, X[:1]),
    "equinox": lambda: fairjax.from_equinox(
        lambda key: eqx.nn.Linear(2, 5, key=key), EqxHeads, X[:1]
    ),
}


def by_name(params, *words: str) -> np.ndarray:
    """The one leaf whose path has all the words."""
    found = [
        leaf
        for path, leaf in jax.tree.leaves_with_path(params)
        if all(w in jax.tree_util.keystr(path) for w in words)
    ]
    assert len(found) == 1, words
    return np.asarray(found[0], float)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_its_modules(name):
    """Against a forward pass in float64 from the leaves by name; different keys, different
    parameters.
    """
    model = MODELS[name]()
    params = jax.jit(model.init)(jax.random.key(1))
    kernel = "weight" if name == "equinox" else "kernel"

    def affine(x, *where):
        k = by_name(params, *where, kernel)
        return x @ (k.T if name == "equinox" else k) + by_name(params, *where, "bias")

    z = np.tanh(affine(np.asarray(X, float), "trunk"))
    expected = np.concatenate([affine(z, "heads", side) for side in ("left", "right")], axis=1)
    np.testing.assert_allclose(fairjax.models.scores(model, params, X), expected, atol=1e-5)
    other = model.init(jax.random.key(2))
    assert not np.array_equal(by_name(params, "trunk", kernel), by_name(other, "trunk", kernel))


METHOD = linked(from_distance(rate_gap, (negatives,)), "pcgrad", split=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_trains_and_sweeps_with_a_link(name):
    context = Context(
        SPEC,
        MODELS[name](),
        lambda k: optax.sgd(k["learning_rate"]),
        {"learning_rate": Range(0.1)},
    )
    train = make_train(TrainConfig(2, 8), METHOD(context))
    hparams = {
        "weight": np.full((3, 2), 0.5, "f4"),
        "lam": np.ones((3, 2), "f4"),
        "learning_rate": np.float32([0.0, 0.1, 0.5]),
    }
    keys = jax.vmap(jax.random.key)(np.zeros(3, np.uint32))
    out = jax.jit(jax.vmap(train, in_axes=(0, 0, 0, None)))(keys, keys, hparams, DATA)
    first, *others = (jax.tree.map(lambda a, i=i: a[i], out.state.params) for i in range(3))
    for moved in others:
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(moved), strict=True):
            assert np.isfinite(b).all() and np.max(np.abs(a - b)) > 1e-5


def test_heads_of_another_shape_are_told():
    with pytest.raises(
        ValueError,
        match=r"the heads give \(4,\) for 4 rows; a model gives scores \[rows, columns\]",
    ):
        fairjax.from_equinox(
            lambda key: eqx.nn.Linear(2, 5, key=key),
            lambda key: eqx.nn.Linear(5, "scalar", key=key),
            X[:4],
        )

    class Two(nn.Module):
        @nn.compact
        def __call__(self, z):
            return nn.Dense(1)(z), nn.Dense(1)(z)

    with pytest.raises(ValueError, match=r"the heads give \(\(4, 1\), \(4, 1\)\) for 4 rows"):
        fairjax.from_linen(nn.Dense(5), Two(), X[:4])


def test_modules_with_state_are_told():
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=False)(nn.Dense(5)(x))

    with pytest.raises(ValueError, match="the trunk module has batch_stats beside its parameters"):
        fairjax.from_linen(Normed(), LinenHeads(), X[:4])
    with pytest.raises(
        ValueError, match=r"the trunk module has .*mean.*, .*var.* beside its parameters"
    ):
        fairjax.from_nnx(lambda rngs: nnx.BatchNorm(2, rngs=rngs), NnxHeads, X[:4])


def test_a_condition_reaches_the_trunk():
    class Shifted(nn.Module):
        @nn.compact
        def __call__(self, x, shift=0.0):
            return nn.Dense(5)(x) + shift

    model = fairjax.from_linen(Shifted(), LinenHeads(), X[:1])
    params = model.init(jax.random.key(0))
    plain = model.represent(params["trunk"], X)
    np.testing.assert_allclose(
        model.represent(params["trunk"], X, jnp.asarray(2.0)), plain + 2.0, rtol=1e-6
    )


class LinenDropout(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        z = nn.Dropout(0.5, deterministic=not train)(nn.Dense(40)(x))
        return nn.Dropout(0.5, deterministic=not train)(z)


class NnxDropout(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(2, 40, rngs=rngs)
        self.first, self.second = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.second(self.first(self.layer(x)))


class EqxDropout(eqx.Module):
    layer: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        self.layer, self.dropout = eqx.nn.Linear(2, 40, key=key), eqx.nn.Dropout(0.5)

    def __call__(self, x, key=None):
        first, second = (None, None) if key is None else jax.random.split(key)
        return self.dropout(self.dropout(self.layer(x), key=first), key=second)


DROPPING = {
    "linen": lambda: fairjax.from_linen(LinenDropout(), nn.Dense(2), X),
    "nnx": lambda: fairjax.from_nnx(NnxDropout, lambda rngs: nnx.Linear(40, 2, rngs=rngs), X),
    "equinox": lambda: fairjax.from_equinox(
        EqxDropout, lambda key: eqx.nn.Linear(40, 2, key=key), X
    ),
}


@pytest.mark.parametrize("name", DROPPING)
def test_a_trunk_drops_out_under_a_key_and_not_without_one(name):
    model = DROPPING[name]()
    assert model.dropout
    params = jax.jit(model.init)(jax.random.key(0))

    @jax.jit
    def represented(key):
        z = fairjax.models.represent(model, params["trunk"], X)
        return z, fairjax.models.represent(model, params["trunk"], X, key=key)

    kernel = by_name(params, "trunk", "weight" if name == "equinox" else "kernel")
    bias = by_name(params, "trunk", "bias")
    z, masked = represented(jax.random.key(1))
    expected = np.asarray(X, float) @ (kernel.T if name == "equinox" else kernel) + bias
    np.testing.assert_allclose(z, expected, atol=1e-5)
    # two masks of one half that know nothing of each other leave a quarter, four times as large
    kept = np.asarray(masked) != 0
    assert abs(kept.mean() - 0.25) < 0.06
    np.testing.assert_allclose(masked[kept], 4.0 * z[kept], rtol=1e-5)
    np.testing.assert_array_equal(represented(jax.random.key(1))[1], masked)
    members = jax.vmap(lambda key: represented(key)[1])(jax.random.split(jax.random.key(2), 2))
    assert np.any((members[0] != 0) != (members[1] != 0))


def test_dropout_that_gets_no_key_is_told():
    message = "the heads module drops out, but only a trunk gets a key"
    with pytest.raises(ValueError, match=message):
        fairjax.from_linen(nn.Dense(2), LinenDropout(), X)
    with pytest.raises(ValueError, match=message):
        fairjax.from_nnx(lambda rngs: nnx.Linear(2, 2, rngs=rngs), NnxDropout, X)
    with pytest.raises(ValueError, match=message):
        fairjax.from_equinox(lambda key: eqx.nn.Linear(2, 2, key=key), EqxDropout, X)
    always = nn.Sequential([nn.Dense(5), nn.Dropout(0.5, deterministic=False)])
    with pytest.raises(ValueError, match="one of the flags deterministic, train, training"):
        fairjax.from_linen(always, LinenHeads(), X)
