"""Laws of every model: those of ``models.REGISTRY``, conditioned ones, and the adapters'."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import dataset, tabular_spec, tiny_bert
from flax import nnx

from fairjax import models, pretrained
from fairjax.core.types import Attribute, Images, Model, Sentences, Spec, Task

ROWS = 6
KINDS = (
    Task("b"),
    Task("m", "multiclass", ("x", "y", "z")),
    Task("l", "multilabel", ("p", "q")),
    Task("r", "regression"),
)
ATTRIBUTES = (Attribute("a", ("0", "1")),)
TABLE = Spec(KINDS, ATTRIBUTES, ("x0", "x1"), (("c0", 3),))
TEXT = Spec(KINDS, ATTRIBUTES, vocab_size=11)
IMAGE = Spec(KINDS, ATTRIBUTES, image_shape=(6, 5))
COLUMNS = 7  # scores of all tasks


def rows_of(spec: Spec):
    if spec.vocab_size:
        tokens = np.random.default_rng(0).integers(0, 11, (ROWS, 5))
        return Sentences(jnp.asarray(tokens, jnp.int32))
    if spec.image_shape:
        pixels = np.random.default_rng(0).integers(0, 256, (ROWS, *spec.image_shape, 3))
        return Images(jnp.asarray(pixels, jnp.uint8))
    x = dataset(tabular_spec(2, 2, (3,)), ROWS, 1).x
    return jax.tree.map(jnp.asarray, x)


def numeric(x):
    return x.numeric


class LinenTrunk(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(5)(numeric(x)))


class NnxTrunk(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(2, 5, rngs=rngs)

    def __call__(self, x):
        return jnp.tanh(self.layer(numeric(x)))


def equinox_model() -> Model:
    eqx = pytest.importorskip("equinox")

    class Trunk(eqx.Module):
        layer: eqx.nn.Linear

        def __call__(self, x):
            return jnp.tanh(self.layer(numeric(x)))

    return models.from_equinox(
        lambda key: Trunk(eqx.nn.Linear(2, 5, key=key)),
        lambda key: eqx.nn.Linear(5, COLUMNS, key=key),
        rows_of(TABLE),
    )


def fine_tuned(**options) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        network = pretrained.bert(tiny_bert(Path(folder)))
    return models.fine_tuned(TEXT, network, head=(3,), **options)


def conditioned(model: Model) -> Model:
    return models.with_default_condition(model, jnp.ones(2))


class Case(NamedTuple):
    """A model under test: its spec and how it is made."""

    spec: Spec
    make: Callable[[], Model]


REGISTERED = {  # one row per name of the registry
    "cross_stitch": (TABLE, {"trunk": (5, 4), "head": (3,), "embedding": 2}),
    "ensemble": (TABLE, {"trunk": (5, 4), "head": (3,), "networks": 3}),
    "image_encoder": (IMAGE, {"widths": (4,), "head": (3,)}),
    "mmoe": (TABLE, {"trunk": (5, 4), "head": (3,), "embedding": 2, "experts": 3}),
    "network": (TABLE, {"trunk": (5,), "head": (3,), "embedding": 2}),
    "ple": (TABLE, {"trunk": (5, 4, 3), "head": (3,), "embedding": 2, "own": 2}),
    "residual": (TABLE, {"trunk": (5, 4), "head": (3,), "embedding": 2}),
    "shared_bottom": (TABLE, {"trunk": (5, 4), "head": (), "embedding": 2}),
    "text_encoder": (TEXT, {"width": 5, "head": (3,), "embedding": 2}),
}
CASES = {
    **{
        name: Case(spec, lambda name=name, spec=spec, o=options: models.REGISTRY[name](spec, **o))
        for name, (spec, options) in REGISTERED.items()
    },
    "network of texts": Case(TEXT, lambda: models.network(TEXT, (4, 4), (3,), 2)),
    "conditioned_network": Case(
        TABLE,
        lambda: conditioned(models.conditioned_network(TABLE, (5,), (3,), 2, condition=2)),
    ),
    "modulated": Case(
        TEXT,
        lambda: conditioned(models.modulated(models.text_encoder(TEXT, width=5), 5, condition=2)),
    ),
    "fine_tuned": Case(TEXT, fine_tuned),
    "fine_tuned in part": Case(TEXT, lambda: fine_tuned(trained=("layer_1",), remat=True)),
    "linen": Case(
        TABLE, lambda: models.from_linen(LinenTrunk(), nn.Dense(COLUMNS), rows_of(TABLE))
    ),
    "nnx": Case(
        TABLE,
        lambda: models.from_nnx(
            NnxTrunk, lambda rngs: nnx.Linear(5, COLUMNS, rngs=rngs), rows_of(TABLE)
        ),
    ),
    "equinox": Case(TABLE, equinox_model),
}
every_model = pytest.mark.parametrize("name", CASES)


def setting(name: str):
    """Model, random parameters, rows and compiled scores."""
    case = CASES[name]
    model = case.make()
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape)), shapes)
    x = rows_of(case.spec)
    return model, params, x, jax.jit(lambda params, x: models.scores(model, params, x))


def test_every_name_of_the_registry_is_tested():
    assert set(REGISTERED) == set(models.REGISTRY)


@every_model
def test_scores_have_a_row_per_row_and_the_columns_of_the_spec(name):
    model, params, x, scores = setting(name)
    drawn = jax.jit(model.init)(jax.random.key(0))
    assert set(drawn) == {"trunk", "heads"}
    assert jax.tree.structure(drawn) == jax.tree.structure(params)
    columns = CASES[name].spec.score_slice(len(KINDS) - 1).stop
    assert columns == COLUMNS and scores(drawn, x).shape == (ROWS, columns)
    z = jax.jit(model.represent)(drawn["trunk"], x)
    assert {len(leaf) for leaf in jax.tree.leaves(z)} == {ROWS}
    np.testing.assert_allclose(
        jax.jit(model.predict)(drawn["heads"], z), scores(drawn, x), rtol=1e-5, atol=1e-6
    )


@every_model
def test_jit_changes_nothing(name):
    model, params, x, scores = setting(name)
    np.testing.assert_allclose(
        scores(params, x), models.scores(model, params, x), rtol=1e-4, atol=1e-5
    )


@every_model
def test_rows_do_not_know_their_neighbours(name):
    _, params, x, scores = setting(name)
    whole = scores(params, x)
    order = np.random.default_rng(2).permutation(ROWS)
    permuted = scores(params, jax.tree.map(lambda leaf: leaf[order], x))
    np.testing.assert_allclose(permuted, whole[order], rtol=1e-4, atol=1e-5)
    one = scores(params, jax.tree.map(lambda leaf: leaf[2:3], x))
    np.testing.assert_allclose(one, whole[2:3], rtol=1e-4, atol=1e-5)


@every_model
def test_members_under_vmap_are_a_loop(name):
    _, params, x, scores = setting(name)
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf, 0.5 * leaf]), params)
    together = jax.vmap(scores, (0, None))(members, x)
    for i in range(3):
        member = jax.tree.map(lambda leaf, i=i: leaf[i], members)
        np.testing.assert_allclose(together[i], scores(member, x), rtol=1e-4, atol=1e-5)


@every_model
def test_gradients_are_finite_and_reach_trunk_and_heads(name):
    _, params, x, scores = setting(name)
    gradients = jax.grad(lambda params: jnp.sum(jnp.sin(scores(params, x))))(params)
    for part in ("trunk", "heads"):
        leaves = jax.tree.leaves(gradients[part])
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert any(np.any(leaf) for leaf in leaves)


@every_model
def test_a_key_fixes_the_parameters(name):
    model, *_ = setting(name)
    init = jax.jit(model.init)
    first, same, other = (jax.tree.leaves(init(jax.random.key(seed))) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))
