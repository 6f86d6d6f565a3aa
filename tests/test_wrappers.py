"""Rows by every road, links that are more than a rule, wrappers, and the recipes made of them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import dataset, tabular_spec

import fairjax
from fairjax import gradients
from fairjax.core.types import Range
from fairjax.gradients import check_chain, link_states, rows_mode, value_and_rows
from fairjax.methods import REGISTRY, Context, aggregated
from fairjax.models import represent as represent_in_step
from fairjax.models import shared_bottom
from fairjax.notions import from_distance, negatives, rate_gap
from fairjax.objectives import per_task
from fairjax.training import TrainConfig, make_train

PARAMS = {
    "trunk": jnp.asarray([[0.3, -0.2], [0.1, 0.7]]),
    "heads": {"a": jnp.asarray([0.5, -1.0]), "b": jnp.asarray([1.0, 2.0])},
}
X = jnp.asarray(np.random.default_rng(0).normal(size=(7, 2)))


def represent(trunk, x):
    return jnp.tanh(x @ trunk)


def at_z(params, x):
    z = params["trunk"]
    return jnp.mean((z @ params["heads"]["a"] - 1.0) ** 2), jnp.mean(
        (z @ params["heads"]["b"] - x[:, 0]) ** 2
    )


def losses(params, x):
    return at_z({"trunk": represent(params["trunk"], x), "heads": params["heads"]}, x)


def same(one, two, **how):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-6, **how}),
        one,
        two,
    )


# ---- rows ----


@pytest.mark.parametrize("mode", ["unroll", "vmap", "map"])
def test_every_mode_gives_the_gradients_one_by_one(mode):
    expected = [jax.grad(lambda p, k=k: losses(p, X)[k])(PARAMS) for k in range(2)]
    (values, aux), rows = jax.jit(
        value_and_rows(lambda p, x: (losses(p, x), 7), has_aux=True, mode=mode)
    )(PARAMS, X)
    same(values, jnp.stack(losses(PARAMS, X)))
    same(rows, jax.tree.map(lambda *g: jnp.stack(g), *expected))
    assert aux == 7


@pytest.mark.parametrize("count, mode", [(2, "unroll"), (8, "unroll"), (9, "map")])
def test_the_mode_follows_from_the_number_of_rows(count, mode):
    assert rows_mode(count) == mode
    text = str(
        jax.make_jaxpr(value_and_rows(lambda p: [jnp.sum(jnp.sin(k * p)) for k in range(count)]))(
            jnp.ones(3)
        )
    )
    unrolled = str(
        jax.make_jaxpr(
            value_and_rows(lambda p: [jnp.sum(jnp.sin(k * p)) for k in range(count)], mode=mode)
        )(jnp.ones(3))
    )
    assert text == unrolled


def test_an_unknown_mode_is_refused():
    modes = "auto, unroll, vmap, map, gram"
    with pytest.raises(ValueError, match=f"mode must be one of {modes}, got 'fast'"):
        value_and_rows(losses, mode="fast")


def test_rows_in_chunks_need_less_memory_than_all_at_once():
    def many(p):
        hidden = jnp.tanh(jnp.tanh(jnp.ones((2000, 16)) @ p[0]) @ p[1])
        return jnp.mean(hidden @ p[2], axis=0)

    def bytes_of(**how):
        params = [jnp.ones((16, 32)), jnp.ones((32, 32)), jnp.ones((32, 40))]
        return (
            jax.jit(value_and_rows(many, **how))
            .lower(params)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
        )

    assert bytes_of(mode="map", chunk=4) < 0.5 * bytes_of(mode="vmap")


def test_rows_through_the_representation_are_the_rows():
    values, rows, z_rows = jax.jit(gradients.rows_through(represent, at_z))(PARAMS, X)
    plain_values, plain = value_and_rows(losses)(PARAMS, X)
    same(values, plain_values)
    same(rows, plain)
    z = represent(PARAMS["trunk"], X)
    same(z_rows[1], jax.grad(lambda z: at_z({**PARAMS, "trunk": z}, X)[1])(z))


# ---- MGDA-UB ----


@pytest.mark.slow
@pytest.mark.parametrize("dropout", (0.0, 0.5))
def test_weights_at_the_representation_are_those_of_its_gradients(dropout):
    spec, data = tabular_spec(), dataset(tabular_spec(), 40, 0)
    model = shared_bottom(spec, (4,), (3,), dropout=dropout)
    params = model.init(jax.random.key(1))
    rule = gradients.mgda.rule()
    weighed = gradients.at_representation(model, lambda m: per_task(m, spec), rule)
    memory = weighed.init(jax.random.key(0), data)
    key = jax.random.key(2)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda p: weighed.apply(p, data, key, memory)[0][0])
    )(params)

    z = represent_in_step(model, params["trunk"], data.x, key=key)
    at = per_task(model._replace(represent=lambda z, x: z, dropout=False), spec)
    each = [
        jax.grad(
            lambda z, t=t: at.apply({"trunk": z, "heads": params["heads"]}, data, key, ())[0][t]
        )(z)
        for t in range(2)
    ]
    flat = np.stack([np.ravel(g) for g in each]).astype(float)
    a, b, c = flat[0] @ flat[0], flat[0] @ flat[1], flat[1] @ flat[1]
    w = np.clip((c - b) / (a + c - 2 * b), 0.0, 1.0)  # the closed form for two
    full = per_task(model, spec, weight=jnp.asarray([w, 1 - w]))
    expected = jax.value_and_grad(lambda p: sum(full.apply(p, data, key, ())[0]))(params)
    same((value, gradient), expected, rtol=1e-3, atol=1e-5)


# ---- GradDrop, FAMO ----


def test_graddrop_keeps_one_sign_with_its_probability():
    """Columns 2 and 3 agree; column 1 is 6 with probability 0.6, else -4."""
    rows, params = jnp.asarray([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]]), jnp.zeros(3)
    tx = gradients.graddrop(2)
    drawn = jax.vmap(lambda k: tx.update(rows, tx.init(params), params, key=k)[0])(
        jax.random.split(jax.random.key(0), 4000)
    )
    np.testing.assert_array_equal(drawn[:, 1:], 2.0)
    assert set(np.unique(drawn[:, 0])) == {-4.0, 6.0}
    assert np.mean(drawn[:, 0] == 6.0) == pytest.approx(0.6, abs=0.03)
    everything = gradients.graddrop(2, leak=1.0)
    np.testing.assert_array_equal(
        everything.update(rows, everything.init(params), params)[0], [2.0, 2.0, 2.0]
    )


def test_graddrop_is_finite_at_zero_and_quarantines():
    params = jnp.zeros(3)
    tx = gradients.graddrop(2)
    update, state = tx.update(
        jnp.asarray([[0.0, 0.0, 1.0], [np.nan, 1.0, 1.0]]), tx.init(params), params
    )
    np.testing.assert_array_equal(update, [0.0, 0.0, 1.0])
    assert int(state.quarantined) == 1
    twice = [
        tx.update(jnp.ones((2, 3)), s, params)[0]
        for s in (state, state._replace(count=state.count + 1))
    ]
    np.testing.assert_array_equal(*twice)  # all of one sign: no draw can drop anything


def test_famo_weights_and_what_it_learns():
    tx = gradients.famo(3, optax.sgd(0.0), max_norm=np.inf, learning_rate=1.0, decay=0.0)
    params, rows = jnp.zeros(3), jnp.eye(3)
    state = tx.init(params)
    seen = {}

    def after(p):
        seen["params"] = p
        return jnp.asarray([0.9, 2.1, 0.4])

    _, state = tx.update(rows, state, params, values=jnp.asarray([1.0, 2.0, 0.5]), value_fn=after)
    np.testing.assert_allclose(state.link.weights, [2 / 7, 1 / 7, 4 / 7], rtol=1e-5)
    # Adam's first moment is a tenth of the gradient of x
    moment = optax.tree.get(state.link.memory.optimizer, "mu")
    np.testing.assert_allclose(10 * moment, [0.004041, -0.047343, 0.043302], atol=1e-5)
    np.testing.assert_array_equal(np.sign(state.link.memory.number), [-1, 1, -1])
    np.testing.assert_array_equal(seen["params"], params)


def test_famo_looks_after_the_whole_step_and_cuts_it():
    looked = []
    tx = gradients.famo(2, optax.sgd(1.0), max_norm=0.5)
    params = jnp.zeros(2)
    update, _ = tx.update(
        10.0 * jnp.eye(2),
        tx.init(params),
        params,
        values=jnp.ones(2),
        value_fn=lambda p: looked.append(p) or jnp.ones(2),
    )
    np.testing.assert_allclose(jnp.linalg.norm(update), 0.5, rtol=1e-5)
    np.testing.assert_allclose(looked[0], update)
    with pytest.raises(ValueError, match="famo needs value_fn="):
        tx.update(jnp.eye(2), tx.init(params), params, values=jnp.ones(2))


# ---- wrappers ----


def test_observe_hands_rows_on_and_tells_their_angles():
    rows = value_and_rows(losses)(PARAMS, X)[1]
    tx = gradients.observe(2)
    out, state = jax.jit(tx.update)(rows, tx.init(PARAMS), PARAMS)
    same(out, rows, rtol=0, atol=0)
    for m, leaf in enumerate(jax.tree.leaves(rows)):
        flat = np.asarray(leaf, float).reshape(2, -1)
        norm = np.linalg.norm(flat, axis=1)
        expected = flat[0] @ flat[1] / (norm[0] * norm[1]) if norm.all() else 0.0
        np.testing.assert_allclose(state.cosines[m, 0, 1], expected, atol=1e-5)


@pytest.mark.slow
def test_multisteps_around_a_chain_averages_rows_before_they_are_aggregated():
    chain = optax.chain(gradients.mgda(2), optax.sgd(0.1))
    tx = gradients.wrap_chain(lambda inner: optax.MultiSteps(inner, 2), chain, rows=2)
    first, second = value_and_rows(losses)(PARAMS, X)[1], value_and_rows(losses)(PARAMS, -X)[1]
    update = jax.jit(tx.update)
    state = tx.init(PARAMS)
    nothing, state = update(first, state, PARAMS)
    same(nothing, jax.tree.map(jnp.zeros_like, PARAMS), rtol=0, atol=0)
    step, _ = update(second, state, PARAMS)
    mean = jax.tree.map(lambda a, b: 0.5 * (a + b), first, second)
    same(step, chain.update(mean, chain.init(PARAMS), PARAMS)[0])


def test_apply_if_finite_around_a_chain_skips_a_step():
    chain = optax.chain(gradients.pcgrad(2), optax.adam(0.1))
    tx = gradients.wrap_chain(lambda inner: optax.apply_if_finite(inner, 5), chain, rows=2)
    rows = value_and_rows(losses)(PARAMS, X)[1]
    broken = jax.tree.map(lambda a: a.at[0].set(jnp.nan), rows)
    update = jax.jit(tx.update)
    step, state = update(broken, tx.init(PARAMS), PARAMS)
    same(step, jax.tree.map(jnp.zeros_like, PARAMS), rtol=0, atol=0)
    step, state = update(rows, state, PARAMS)
    same(step, chain.update(rows, chain.init(PARAMS), PARAMS)[0])


BEFORE = {
    "adam": optax.scale_by_adam(),
    "clip_by_global_norm": optax.clip_by_global_norm(1.0),
    "add_decayed_weights": optax.add_decayed_weights(0.1),
    "trace": optax.trace(0.9),
    "clip": optax.clip(1.0),
    "scheduled": optax.inject_hyperparams(optax.clip_by_global_norm)(max_norm=1.0),
}
FIRST = {
    "pcgrad": gradients.pcgrad(2),
    "sum": gradients.sum_rows(),
    "famo": gradients.famo(2, optax.sgd(0.1)),
    "route": gradients.route({"trunk": gradients.mgda(2), "heads": 1}),
    "route of parts": gradients.route(
        {"trunk": optax.chain(gradients.observe(2), gradients.mgda(2)), "heads": None}
    ),
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("first", FIRST)
def test_what_changes_rows_before_the_aggregator_is_told(before, first):
    wrong = optax.chain(BEFORE[before], FIRST[first])
    with pytest.raises(ValueError, match="changed before the aggregator.*must come first in the"):
        gradients.validated(wrong, rows=2).init(PARAMS)
    right = optax.chain(FIRST[first], BEFORE[before])
    gradients.validated(right, rows=2).init(PARAMS)


def test_what_hands_rows_on_may_stand_before_the_aggregator():
    before = optax.chain(optax.identity(), gradients.observe(2))
    tx = optax.chain(before, gradients.pcgrad(2), optax.adam(1e-3))
    state = gradients.validated(tx, rows=2).init(PARAMS)
    assert len(link_states(state)) == 2


def test_what_changes_rows_inside_a_route_is_told_at_the_first_step():
    part = optax.chain(optax.clip_by_global_norm(1.0), gradients.pcgrad(2))
    tx = gradients.route({"trunk": part, "heads": gradients.sum_rows()})
    rows = value_and_rows(losses)(PARAMS, X)[1]
    with pytest.raises(ValueError, match=r"rows\['trunk'\] was changed before the aggregator"):
        jax.jit(tx.update)(rows, tx.init(PARAMS), PARAMS)


def test_a_wrapper_for_rows_may_change_them():
    chain = optax.chain(gradients.pcgrad(2), optax.adam(0.1))
    tx = gradients.wrap_chain(
        lambda inner: optax.chain(optax.clip_by_global_norm(1e-3), inner), chain, rows=2
    )
    gradients.validated(tx, rows=2).init(PARAMS)
    with pytest.raises(ValueError, match="changed before the aggregator"):
        inside = optax.chain(optax.clip(1.0), chain)
        wrapped = gradients.wrap_chain(lambda inner: optax.MultiSteps(inner, 2), inside, rows=2)
        gradients.validated(wrapped, rows=2).init(PARAMS)


def test_what_is_meant_for_rows_may_stand_before_the_aggregator():
    halve = gradients.for_rows(optax.scale(0.5))
    tx = optax.chain(halve, gradients.pcgrad(2), optax.sgd(0.1))
    gradients.validated(tx, rows=2).init(PARAMS)
    for wrong in (optax.chain(optax.clip(1.0), tx), optax.chain(halve, optax.clip(1.0), tx)):
        with pytest.raises(ValueError, match="changed before the aggregator"):
            gradients.validated(wrong, rows=2).init(PARAMS)


def test_a_row_axis_that_grows_is_told_of_any_aggregator():
    first_row = optax.stateless(lambda rows, params: jax.tree.map(lambda leaf: leaf[0], rows))
    with pytest.raises(
        ValueError, match=r"state\[0\].mu.* would become \(2, .*The aggregator must come first"
    ):
        gradients.validated(optax.chain(optax.scale_by_adam(), first_row), rows=2).init(PARAMS)
    with pytest.raises(
        ValueError, match=r"the update.* would become \(2, .*aggregator must come first"
    ):
        gradients.validated(gradients.observe(2), rows=2).init(PARAMS)


# ---- in training ----


FPR = from_distance(rate_gap, (negatives,))


def setup_of(**how) -> Context:
    spec = tabular_spec()
    return Context(
        spec,
        shared_bottom(spec, (4,), (3,)),
        lambda k: optax.sgd(k["learning_rate"]),
        {"learning_rate": Range(0.1)},
        **how,
    )


KNOBS = {
    "weight": np.float32([0.7, 0.3]),
    "lam": np.float32([1.0, 2.0]),
    "learning_rate": np.float32(0.1),
}


@functools.lru_cache
def trained(recipe_name: str, watched: bool = False):
    context = setup_of()
    if recipe_name.endswith(" first"):
        made = aggregated(
            FPR,
            recipe_name,
            lambda rows, inner: optax.chain(inner, gradients.pcgrad(rows)),
            split=False,
        )
        before = BEFORE[recipe_name.removesuffix(" first")]
        context = context._replace(optimizer=lambda k: before)
    else:
        made = REGISTRY[recipe_name](FPR)
    watch = (lambda state: link_states(state.opt_state)[0]) if watched else None
    run = jax.jit(make_train(TrainConfig(2, 8), made(context), watch=watch))
    key = jax.random.key(0)
    return jax.device_get(run(key, key, KNOBS, dataset(tabular_spec(), 32, 0)))


@pytest.mark.parametrize("before", ["adam", "clip_by_global_norm", "add_decayed_weights"])
def test_a_chain_in_the_wrong_order_is_told_before_training(before):
    with pytest.raises(ValueError, match="The aggregator must come first"):
        trained(f"{before} first")


@pytest.mark.parametrize("split", [False, True])
def test_rows_summed_are_the_baseline(split):
    plain = aggregated(
        FPR, "sum", lambda rows, inner: optax.chain(gradients.sum_rows(), inner), split=split
    )
    run = jax.jit(make_train(TrainConfig(2, 8), plain(setup_of())))
    key = jax.random.key(0)
    same(
        run(key, key, KNOBS, dataset(tabular_spec(), 32, 0)).state.params,
        trained("baseline").state.params,
        atol=1e-5,
    )


@pytest.mark.slow
def test_links_are_methods_of_their_own():
    """Links of different kinds end at different parameters, and none at Baseline's."""
    ends = {
        name: np.concatenate([np.ravel(a) for a in jax.tree.leaves(trained(name).state.params)])
        for name in (
            "baseline",
            "mgda",
            "mgda_ub",
            "nash_mtl",
            "famo",
            "pcgrad_split",
            "fairness_surgery",
            "pcd_accuracy_first",
            "pcd_fairness_first",
        )
    }
    assert all(np.isfinite(end).all() for end in ends.values())
    names = list(ends)
    for i, one in enumerate(names):
        for two in names[:i]:
            assert np.max(np.abs(ends[one] - ends[two])) > 1e-6, (one, two)


def test_fairness_rows_give_way_and_accuracy_rows_do_not():
    against = gradients.accuracy_first(2)
    rng = np.random.default_rng(3)
    j = rng.normal(size=(4, 6))
    j[2] = -j[0] + 0.1 * j[2]
    rule = gradients.pcgrad.rule(against=against, ascending=True)
    w, _, _ = rule.weights(jnp.asarray(j @ j.T, jnp.float32), None, (), None)
    expected = j[0] + j[1]
    for i in (2, 3):
        row = j[i].copy()
        for k in range(4):
            if k != i and row @ j[k] < 0:
                row -= row @ j[k] / (j[k] @ j[k]) * j[k]
        expected = expected + row
    np.testing.assert_allclose(np.asarray(w) @ j, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"against must be \[2, 2\] for 2 rows"):
        gradients.pcgrad.rule(against=against).weights(jnp.eye(2), None, (), jax.random.key(0))


def test_watched_states_are_told_for_every_step():
    out = trained("pcgrad_split", watched=True)
    assert out.watched.cosines.shape == (8, 4, 4) and out.watched.weights.shape == (8, 4)
    np.testing.assert_array_equal(out.watched.count, np.arange(1, 9))
    same(trained("pcgrad_split").state.params, out.state.params, rtol=0, atol=0)


def test_check_chain_lets_extra_arguments_pass():
    spec, data = tabular_spec(), dataset(tabular_spec(), 8, 0)

    def update(updates, state, params=None, *, batch, memory, **extra):
        return jax.tree.map(lambda g: g[0] * jnp.mean(batch.weight) + memory, updates), state

    tx = optax.GradientTransformationExtraArgs(lambda p: (), update)
    check_chain(tx, (), PARAMS, 2, batch=data, memory=jnp.zeros(()))
    assert spec and "validated" in fairjax.__all__
