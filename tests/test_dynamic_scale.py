"""Loss scaling of rows: half precision, skipped steps, growth, and the flax ImageNet pattern."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState
from jax.sharding import Mesh, PartitionSpec

from fairjax import gradients
from fairjax.gradients import dynamic_scale, link_states, value_and_rows

PARAMS = {"body": jnp.float32([[0.3, -0.2], [0.1, 0.7]]), "head": jnp.float32([0.5, -1.0])}
X = jnp.asarray(np.random.default_rng(0).normal(size=(7, 2)), jnp.float32)


def losses(params, x):
    z = jnp.tanh(x @ params["body"]) @ params["head"]
    return jnp.mean((z - 1.0) ** 2), jnp.mean((z + 2.0) ** 2)


def small_losses(params):
    """Losses whose gradients are too small for float16."""
    half = params.astype(jnp.float16)
    sum_of_half = jnp.sum(half.astype(jnp.float32) * jnp.float32([1e-9, 2e-9]))
    return sum_of_half, 2 * sum_of_half


def same(one, two):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, two)


@pytest.mark.parametrize("mode", ["unroll", "vmap", "map"])
def test_rows_are_those_of_scaled_losses_and_values_are_not_scaled(mode):
    plain_values, plain_rows = value_and_rows(losses)(PARAMS, X)
    values, rows = jax.jit(lambda scale: value_and_rows(losses, mode=mode, scale=scale)(PARAMS, X))(
        jnp.float32(8.0)
    )
    same(values, plain_values)
    same(rows, jax.tree.map(lambda leaf: 8.0 * leaf, plain_rows))


def test_small_gradients_survive_half_precision():
    params = jnp.ones(2)
    tx = dynamic_scale(optax.chain(gradients.sum_rows(), optax.sgd(1.0)))
    state = tx.init(params)
    lost = value_and_rows(small_losses)(params)[1]
    assert not np.any(lost)
    rows = value_and_rows(small_losses, scale=state.scale)(params)[1]
    update, _ = tx.update(rows, state, params)
    np.testing.assert_allclose(update, [-3e-9, -6e-9], rtol=2e-3)


def test_a_finite_step_is_the_step_of_the_chain():
    chain = optax.chain(gradients.pcgrad(2), optax.adam(0.1))
    tx = dynamic_scale(chain)
    state = gradients.validated(tx, rows=2).init(PARAMS)
    rows = value_and_rows(losses, scale=state.scale)(PARAMS, X)[1]
    update, state = jax.jit(tx.update)(rows, state, PARAMS)
    plain = value_and_rows(losses)(PARAMS, X)[1]
    expected, inner = chain.update(plain, chain.init(PARAMS), PARAMS)
    same(update, expected)
    same(state.inner, inner)
    assert state.finite and state.count == 1


def test_a_skipped_step_changes_the_scale_alone():
    tx = dynamic_scale(optax.chain(gradients.gradvac(2), optax.adam(0.1)), minimum_scale=2.0**15)
    rows = value_and_rows(losses)(PARAMS, X)[1]
    _, before = tx.update(rows, tx.init(PARAMS), PARAMS)
    broken = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.inf), rows)
    update, after = jax.jit(tx.update)(broken, before, PARAMS)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(update))
    jax.tree.map(np.testing.assert_array_equal, after.inner, before.inner)
    assert not after.finite and after.count == 0 and after.scale == 2.0**15
    assert tx.update(broken, after, PARAMS)[1].scale == 2.0**15


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(2.0, [4.0, 8.0, 8.0, 16.0]), (1e38, [4.0, 4.0, 4.0, 4.0])],  # 4e38 is no float32
)
def test_the_scale_grows_after_finite_steps_and_stays_finite(factor, expected):
    tx = dynamic_scale(gradients.sum_rows(), scale=4.0, growth_factor=factor, growth_interval=2)
    rows = value_and_rows(losses)(PARAMS, X)[1]
    state = tx.init(PARAMS)
    scales = []
    for _ in range(4):
        _, state = tx.update(rows, state, PARAMS)
        scales.append(float(state.scale))
    assert scales == expected


def test_what_changes_rows_around_the_scale_is_told():
    chain = optax.chain(gradients.pcgrad(2), optax.adam(0.1))
    for wrong in (
        optax.chain(optax.clip(1.0), dynamic_scale(chain)),
        dynamic_scale(optax.chain(optax.clip(1.0), chain)),
    ):
        with pytest.raises(ValueError, match="changed before the aggregator"):
            gradients.validated(wrong, rows=2).init(PARAMS)


class State(TrainState):
    """A train state with running statistics."""

    batch_stats: dict


class TwoHeads(nn.Module):
    """A trunk with batch normalisation and two heads, in half precision."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        z = nn.Dense(8, dtype=self.dtype)(x)
        z = nn.BatchNorm(use_running_average=False, dtype=self.dtype)(z)
        z = nn.relu(z)
        scores = [nn.Dense(1, dtype=self.dtype)(z) for _ in range(2)]
        return jnp.concatenate(scores, axis=1).astype(jnp.float32)


def step(state, batch):
    """One step of the flax ImageNet example, with rows."""
    x, y = batch

    def head_losses(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        scores, changed = state.apply_fn(variables, x, mutable=["batch_stats"])
        value = jnp.mean(optax.sigmoid_binary_cross_entropy(scores, y), axis=0)
        return (value[0], value[1]), changed["batch_stats"]

    rows_of = value_and_rows(head_losses, has_aux=True, scale=state.opt_state.scale)
    (values, batch_stats), rows = rows_of(state.params)
    rows = jax.lax.pmean(rows, "batch")
    batch_stats = jax.lax.pmean(batch_stats, "batch")
    state = state.apply_gradients(grads=rows, batch_stats=batch_stats)
    return state, jax.lax.pmean(values, "batch")


@pytest.mark.parametrize("over", ["pmap", "shard_map"])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_the_imagenet_pattern_trains_in_half_precision(dtype, over):
    rng = np.random.default_rng(1)
    devices = jax.devices()
    x = rng.normal(size=(len(devices), 64, 3)).astype(np.float32)
    y = (x @ rng.normal(size=(3, 2)) > 0).astype(np.float32)
    model = TwoHeads(dtype)
    variables = model.init(jax.random.key(0), x[0])
    chain = optax.chain(gradients.pcgrad(2), optax.adam(3e-2))
    scale = 2.0**40 if dtype == jnp.float16 else 1.0  # the first steps overflow in float16
    state = State.create(
        apply_fn=model.apply,
        params=variables["params"],
        tx=dynamic_scale(chain, scale=scale, backoff_factor=2.0**-4),
        batch_stats=variables["batch_stats"],
    )
    if over == "pmap":
        state = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * len(devices)), state)
        run = jax.pmap(step, axis_name="batch")
        batch = (x, y)
    else:
        mesh = Mesh(np.array(devices), ("batch",))
        whole, parts = PartitionSpec(), PartitionSpec("batch")
        mapped = jax.shard_map(
            step, mesh=mesh, in_specs=(whole, parts), out_specs=(whole, whole), check_vma=False
        )
        run = jax.jit(mapped)
        batch = (x.reshape(-1, 3), y.reshape(-1, 2))
    start = state
    first = None
    skipped = 0
    for _ in range(40):
        before = state
        state, values = run(state, batch)
        if not np.all(state.opt_state.finite):
            skipped += 1
            jax.tree.map(np.testing.assert_array_equal, state.params, before.params)
            jax.tree.map(
                np.testing.assert_array_equal, state.opt_state.inner, before.opt_state.inner
            )
        first = np.mean(values) if first is None else first
    assert np.mean(values) < 0.5 * first
    assert (skipped > 0) == (dtype == jnp.float16)
    assert np.all(link_states(state.opt_state)[0].quarantined == 0)
    old = jax.tree.leaves(start.batch_stats)
    assert any(np.any(a != b) for a, b in zip(old, jax.tree.leaves(state.batch_stats), strict=True))
