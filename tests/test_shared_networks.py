"""Networks of experts and residual ones against loops in float64, and methods that take them."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from cases import dataset, tabular_spec

from fairjax import methods, models, notions
from fairjax.core.types import DataError
from fairjax.methods import Context
from fairjax.training import TrainConfig, make_train

SPEC = tabular_spec(tasks=3)
ROWS = dataset(SPEC, 5, 0)
T = 3
PARITY = notions.from_distance(notions.rate_gap, (notions.everyone,))


def drawn(model):
    """Random parameters, as float64 for the loops."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape)), shapes)
    return params, jax.tree.map(np.float64, params)


def inputs(trunk) -> np.ndarray:
    """``[B, D]``: numbers and embeddings."""
    return np.concatenate([ROWS.x.numeric, trunk["embedding"][ROWS.x.codes[:, 0]]], axis=1)


def relu(z):
    return np.maximum(z, 0)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def scores_of(heads, z: list) -> np.ndarray:
    """Of heads with one hidden layer, from one representation per task."""
    columns = []
    for t, name in enumerate(task.name for task in SPEC.tasks):
        p = heads[name]
        h = relu(z[t] @ p["dense_0"]["kernel"] + p["dense_0"]["bias"])
        columns.append(h @ p["output"]["kernel"] + p["output"]["bias"])
    return np.concatenate(columns)


def dense(p, network: int, h):
    return h @ p["kernel"][network] + p["bias"][network]


def agree(model, loop) -> None:
    params, exact = drawn(model)
    got = jax.jit(lambda p: models.scores(model, p, ROWS.x))(params)
    want = [scores_of(exact["heads"], loop(exact["trunk"], x)) for x in inputs(exact["trunk"])]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_mmoe_is_a_loop_over_tasks_and_experts():
    experts = 4

    def loop(p, x):
        first = x @ p["kernel"] + p["bias"]
        h = relu(first[: experts * 6].reshape(experts, 6))
        h = [relu(dense(p["dense_1"], e, h[e])) for e in range(experts)]
        gates = first[experts * 6 :].reshape(T, experts)
        return [sum(g * h_e for g, h_e in zip(softmax(gate), h, strict=True)) for gate in gates]

    agree(models.mmoe(SPEC, (6, 4), (3,), 2, experts=experts), loop)


def test_a_residual_network_is_a_loop_over_blocks():
    def normed(p, h):
        return p["scale"] * (h - h.mean()) / np.sqrt(h.var() + 1e-5) + p["shift"]

    def loop(p, x):
        h = x @ p["kernel"] + p["bias"]
        for block in (p["block_1"], p["block_2"]):
            inside = relu(normed(block["norm"], h) @ block["kernel"] + block["bias"])
            h = h + inside @ block["out_kernel"] + block["out_bias"]
        return [relu(normed(p["norm"], h))] * T

    agree(models.residual(SPEC, (6, 4, 5), (3,), 2), loop)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_ple_is_a_loop_over_levels(levels):
    own, shared, widths = 2, 1, (6, 5, 4)[:levels]
    count, mixed = T * own + shared, own + shared

    def loop(p, x):
        first = x @ p["kernel"] + p["bias"]
        f = relu(first[: count * 6].reshape(count, 6))
        gates = first[count * 6 : count * 6 + T * mixed].reshape(T, mixed)
        for_all = first[count * 6 + T * mixed :]
        for i in range(levels):
            of_task = [[*f[t * own : (t + 1) * own], *f[T * own :]] for t in range(T)]
            h = [softmax(gates[t]) @ np.array(of_task[t]) for t in range(T)]
            if i == levels - 1:
                return h
            h_all = softmax(for_all) @ np.array(f)
            below = [h[t] for t in range(T) for _ in range(own)] + [h_all] * shared
            level = p[f"experts_{i + 1}"]
            f = np.array([relu(dense(level, e, below[e])) for e in range(count)])
            gates = np.array([dense(p[f"gates_{i + 1}"], t, h[t]) for t in range(T)])
            if i + 1 < levels - 1:
                for_all = dense(p[f"shared_gate_{i + 1}"], 0, h_all)
        return None

    agree(models.ple(SPEC, widths, (3,), 2, own=own, shared=shared), loop)


def test_a_cross_stitch_network_is_a_loop_over_layers():
    def loop(p, x):
        h = relu((x @ p["kernel"] + p["bias"]).reshape(T, 6))
        h = [sum(p["stitch_0"][t, s] * h[s] for s in range(T)) for t in range(T)]
        h = [relu(dense(p["dense_1"], t, h[t])) for t in range(T)]
        return [sum(p["stitch_1"][t, s] * h[s] for s in range(T)) for t in range(T)]

    agree(models.cross_stitch(SPEC, (6, 4), (3,), 2), loop)


def test_stitches_begin_near_networks_apart():
    params = models.cross_stitch(SPEC, (6,), keep=0.8).init(jax.random.key(0))
    stitch = params["trunk"]["stitch_0"]
    np.testing.assert_allclose(stitch, 0.1 + 0.7 * np.eye(T), rtol=1e-6)
    one = models.cross_stitch(tabular_spec(tasks=1), (6,)).init(jax.random.key(0))
    assert one["trunk"]["stitch_0"].shape == (1, 1)


def test_one_expert_is_a_shared_bottom():
    mixture = models.mmoe(SPEC, (6,), (3,), 2, experts=1)
    bottom = models.shared_bottom(SPEC, (6,), (3,), 2)
    params, _ = drawn(mixture)
    trunk = params["trunk"] | {"kernel": params["trunk"]["kernel"][:, :6]}
    plain = {**params, "trunk": trunk | {"bias": params["trunk"]["bias"][:6]}}
    got = models.scores(mixture, params, ROWS.x)
    np.testing.assert_allclose(got, models.scores(bottom, plain, ROWS.x), rtol=1e-5, atol=1e-5)


def test_networks_of_a_stack_begin_in_the_range_of_one():
    model = models.mmoe(SPEC, (50,), (), 2, experts=8)
    kernel = model.init(jax.random.key(0))["trunk"]["kernel"]
    limit = np.sqrt(6 / (kernel.shape[0] + 50))
    assert 0.95 * limit < np.abs(kernel).max() <= limit


NETWORKS = {name: getattr(models, name) for name in ("mmoe", "ple", "cross_stitch")}


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_leaves_out_units_and_no_gates(name):
    model = NETWORKS[name](SPEC, (200,), (), 2, dropout=0.5)
    params, _ = drawn(model)
    plain = model.represent(params["trunk"], ROWS.x)
    masked = model.represent(params["trunk"], ROWS.x, key=jax.random.key(0))
    again = model.represent(params["trunk"], ROWS.x, key=jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, masked, again)
    many = jax.vmap(lambda key: model.represent(params["trunk"], ROWS.x, key=key)[0])(
        jax.random.split(jax.random.key(1), 2000)
    )
    scale = np.abs(plain[0]).mean()
    np.testing.assert_allclose(many.mean(0), plain[0], rtol=0.15, atol=0.3 * scale)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ["mta_f", "pcgrad", "mgda_ub"])
def test_methods_train_them(name, method):
    model = NETWORKS[name](SPEC, (6,), (3,), 2)
    data = dataset(SPEC, 32, 2, missing=0.3, unknown=0.3)
    context = Context.adamw(SPEC, model, 0.01, 8, inputs=ROWS.x)
    recipe = methods.get(method, PARITY)(context)
    hparams = {key: np.float32(space.default) for key, space in recipe.space.items()}
    train = make_train(TrainConfig(2, 8), recipe)
    trained = jax.jit(train)(jax.random.key(0), jax.random.key(1), hparams, data)
    before = model.init(jax.random.key(0))
    assert jax.tree.structure(before) == jax.tree.structure(trained.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.params))


@pytest.mark.parametrize("method", ["blind", "yoto"])
@pytest.mark.parametrize("network", [models.mmoe, models.ensemble])
def test_a_method_of_one_representation_refuses_them(method, network):
    context = Context.adamw(SPEC, network(SPEC, (6,)), 0.01, 8, inputs=ROWS.x)
    with pytest.raises(DataError, match="but the network has one per task, or one per"):
        methods.get(method, PARITY)(context).build({})


TEXT = dataclasses.replace(SPEC, numeric=(), categorical=(), vocab_size=9)
IMAGE = dataclasses.replace(SPEC, numeric=(), categorical=(), image_shape=(6, 6))
READS = {"tables": SPEC, "texts": TEXT, "images": IMAGE}


@pytest.mark.parametrize("name", models.REGISTRY)
def test_a_network_for_other_features_is_refused(name):
    built, refused = [], []
    for features, spec in READS.items():
        try:
            models.build(name, spec)
            built.append(features)
        except DataError as error:
            refused.append(features)
            assert f"but the features are {features}. Take --model network" in str(error)
    assert len(built) == (3 if name == "network" else 1) and len(built + refused) == 3
