"""Rows of gradients against jax.jacrev, the links that turn them into updates, and the mistakes
they refuse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import dataset, tabular_spec

from fairjax import notions
from fairjax.gradients import (
    aggregator,
    check_rows,
    route,
    sum_rows,
    summed_adagrad,
    take_row,
    value_and_rows,
)
from fairjax.models import shared_bottom
from fairjax.objectives import mta_f

PARAMS = {
    "trunk": {"w": jnp.arange(6.0).reshape(2, 3) / 7},
    "heads": {"a": jnp.array([0.5, -1.0, 2.0]), "b": jnp.array(0.3)},
}


def losses(params, x):
    z = jnp.tanh(x @ params["trunk"]["w"])
    first = jnp.mean(jnp.square(z @ params["heads"]["a"]))
    return first, jnp.sum(z) * params["heads"]["b"], first * params["heads"]["b"] ** 2


X = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
ROWS = jax.tree.map(lambda p: jnp.stack([p + 1, 10 * p + 2, 100 * p + 3]), PARAMS)


def close(got, want, **tolerance):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-6, **tolerance}),
        got,
        want,
    )


# ---- rows ----


@pytest.mark.parametrize("as_array", [False, True])
def test_rows_are_the_jacobian(as_array):
    def stacked(params, x):
        return jnp.stack(losses(params, x))

    values, rows = jax.jit(value_and_rows(stacked if as_array else losses))(PARAMS, X)
    np.testing.assert_allclose(values, stacked(PARAMS, X), rtol=1e-6)
    close(rows, jax.jit(jax.jacrev(stacked))(PARAMS, X))


def test_rows_carry_aux():
    (values, aux), rows = value_and_rows(
        lambda p, x: (losses(p, x), {"n": jnp.sum(x)}), has_aux=True
    )(PARAMS, X)
    assert values.shape == (3,) and aux["n"] == pytest.approx(X.sum())
    close(rows, value_and_rows(losses)(PARAMS, X)[1])


def test_rows_keep_the_dtype_of_their_parameters():
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    _, rows = value_and_rows(losses)(half, X)
    assert {leaf.dtype for leaf in jax.tree.leaves(rows)} == {jnp.dtype(jnp.bfloat16)}
    close(
        jax.tree.map(lambda a: a.astype(jnp.float32), rows),
        value_and_rows(losses)(PARAMS, X)[1],
        rtol=0.1,
        atol=0.1,
    )


# ---- links ----


def update(transform, rows=ROWS, params=PARAMS, **extra):
    return transform.update(rows, transform.init(params), params, **extra)[0]


def test_sum_take_and_route_select_what_they_say():
    close(update(sum_rows()), jax.tree.map(lambda p: 111 * p + 6, PARAMS))
    close(update(take_row(1)), jax.tree.map(lambda p: 10 * p + 2, PARAMS))
    routed = update(route({"trunk": 2, "heads": sum_rows()}))
    close(routed["trunk"], jax.tree.map(lambda p: 100 * p + 3, PARAMS["trunk"]))
    close(routed["heads"], jax.tree.map(lambda p: 111 * p + 6, PARAMS["heads"]))


def test_route_by_own_labels_and_over_other_containers():
    routed = update(route({"x": 0, "y": 1}, lambda path: "y" if path[-1].key == "b" else "x"))
    assert routed["heads"]["b"] == ROWS["heads"]["b"][1]
    np.testing.assert_array_equal(routed["heads"]["a"], ROWS["heads"]["a"][0])
    pair = (PARAMS["trunk"], PARAMS["heads"])  # a tuple: its labels are "0" and "1"
    close(
        update(route({"0": 0, "1": 1}), (ROWS["trunk"], ROWS["heads"]), pair)[1],
        jax.tree.map(lambda r: r[1], ROWS["heads"]),
    )


def test_an_aggregator_of_ones_own():
    worst = aggregator(lambda rows, k: jax.tree.map(lambda g: g[k - 1], rows))
    close(update(worst), jax.tree.map(lambda p: 100 * p + 3, PARAMS))


@pytest.mark.parametrize(
    "transform",
    [sum_rows(), take_row(0), route({"trunk": 0, "heads": 1})],
    ids=["sum_rows", "take_row", "route"],
)
def test_extra_args_are_accepted(transform):
    extra = {
        "values": jnp.ones(3),
        "key": jax.random.key(0),
        "memory": (),
        "value_fn": lambda p: p,
        "other": 1,
    }
    close(update(transform, **extra), update(transform))
    chained = optax.chain(transform, optax.adam(1e-2))
    close(
        chained.update(ROWS, chained.init(PARAMS), PARAMS, **extra)[0],
        chained.update(ROWS, chained.init(PARAMS), PARAMS)[0],
    )


@pytest.mark.parametrize(
    "after",
    [
        optax.adam(1e-2),
        optax.adamw(1e-2, weight_decay=0.1),
        optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1)),
    ],
    ids=["adam", "adamw", "clip"],
)
def test_what_comes_after_sees_one_update(after):
    transform = optax.chain(route({"trunk": 0, "heads": 1}), after)
    one = {
        "trunk": jax.tree.map(lambda r: r[0], ROWS["trunk"]),
        "heads": jax.tree.map(lambda r: r[1], ROWS["heads"]),
    }
    state, plain, params, other = transform.init(PARAMS), after.init(PARAMS), PARAMS, PARAMS
    for _ in range(2):
        updates, state = transform.update(ROWS, state, params)
        wanted, plain = after.update(one, plain, other)
        params, other = optax.apply_updates(params, updates), optax.apply_updates(other, wanted)
    close(params, other)


def test_a_chain_runs_under_jit_and_scan_and_half_precision():
    transform = optax.chain(route({"trunk": 0, "heads": sum_rows()}), optax.adam(1e-2))
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)

    def descend(params):
        def step(carry, _):
            params, state = carry
            values, rows = value_and_rows(losses)(params, X)
            updates, state = transform.update(rows, state, params, values=values)
            return (optax.apply_updates(params, updates), state), values

        return jax.lax.scan(step, (params, transform.init(params)), None, length=30)

    (params, _), values = jax.jit(descend)(PARAMS)
    assert values[-1, 0] < values[0, 0]
    (small, _), _ = jax.jit(descend)(half)
    close(jax.tree.map(lambda a: a.astype(jnp.float32), small), params, rtol=0.1, atol=0.1)


# ---- refusals ----


def test_updates_shaped_like_params_are_refused():
    for transform in (sum_rows(), take_row(0), route({"trunk": 0, "heads": 1})):
        with pytest.raises(ValueError, match=r"expected \(K, .*it must come first"):
            update(transform, rows=PARAMS)


def test_an_ordinary_link_before_the_aggregator_is_refused():
    with pytest.raises(ValueError, match="it must come first"):
        update(optax.chain(sum_rows(), sum_rows()))


def test_adam_before_the_aggregator_cannot_be_carried_through_a_scan():
    wrong = optax.chain(optax.scale_by_adam(), sum_rows())
    with pytest.raises(TypeError, match="carry"):
        jax.lax.scan(
            lambda s, _: (wrong.update(ROWS, s, PARAMS)[1], ()), wrong.init(PARAMS), None, length=2
        )


def test_rows_without_params_are_refused():
    with pytest.raises(ValueError, match="needs params"):
        sum_rows().update(ROWS, optax.EmptyState())


def test_a_wrong_shape_names_its_leaf():
    wrong = {**ROWS, "heads": {**ROWS["heads"], "a": jnp.ones((3, 4))}}
    with pytest.raises(
        ValueError, match=r"rows\['heads'\]\['a'\] has shape \(3, 4\), expected \(K, \*\(3,\)\)"
    ):
        update(sum_rows(), wrong)


def test_leaves_with_different_numbers_of_rows_are_refused():
    wrong = {**ROWS, "trunk": jax.tree.map(lambda r: r[:2], ROWS["trunk"])}
    with pytest.raises(ValueError, match="2 rows, other leaves have 3"):
        check_rows(wrong, PARAMS)


def test_a_row_that_is_not_there_is_refused():
    for index in (3, -1):
        with pytest.raises(ValueError, match=rf"take_row\({index}\): there are 3 rows"):
            update(take_row(index))
    with pytest.raises(ValueError, match=r"take_row\(5\): there are 3 rows"):
        update(route({"trunk": 0, "heads": 5}))


def test_a_subtree_without_a_route_is_refused():
    with pytest.raises(ValueError, match="heads"):
        route({"trunk": 0}).init(PARAMS)


def test_rows_are_counted():
    assert check_rows(ROWS, PARAMS) == 3


# ---- Adagrad ----


def test_summed_adagrad_on_means_is_the_papers_adagrad_on_sums():
    rng = np.random.default_rng(1)
    batch, rate = 32, 0.05
    summed = rng.normal(size=(4, 5)) * 10
    theta, accumulator = np.ones(5), np.full(5, 0.1)
    ours, params = summed_adagrad(rate, batch), jnp.ones(5)
    state = ours.init(params)
    for g in summed:
        accumulator = accumulator + g**2
        theta = theta - rate * g / np.sqrt(accumulator)
        updates, state = ours.update(jnp.asarray(g / batch), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, theta, rtol=1e-5)


def test_summed_adagrad_leaves_what_has_no_gradient():
    ours = summed_adagrad(0.1, 512)
    updates, _ = ours.update(jnp.zeros(3), ours.init(jnp.ones(3)), jnp.ones(3))
    np.testing.assert_array_equal(updates, 0.0)


# ---- rows cost nothing ----


def test_a_routed_step_costs_what_the_fused_loss_costs():
    spec = tabular_spec(2, 4, (9, 16, 7, 15, 5, 42))
    model, batch = shared_bottom(spec, (64,), (32,), 40), dataset(spec, 512, 0)
    ones = np.ones(2, np.float32)
    objective = mta_f(
        model,
        spec,
        notion=notions.from_distance(notions.rate_gap, (notions.negatives,)),
        weight=ones / 2,
        lam=ones,
        r=ones,
    )
    adagrad = summed_adagrad(0.02, 512)
    routed = optax.chain(route({"trunk": 0, "heads": 1}), adagrad)

    def values(params, batch):
        return objective.apply(params, batch, None, objective.init(None, batch))[0]

    def step(params, state, batch):
        return routed.update(value_and_rows(values)(params, batch)[1], state, params)[0]

    def fused(params, state, batch):
        def loss(p):
            stop = jax.lax.stop_gradient(p)
            return (
                values({**p, "heads": stop["heads"]}, batch)[0]
                + values({**p, "trunk": stop["trunk"]}, batch)[1]
            )

        return adagrad.update(jax.grad(loss)(params), state, params)[0]

    params = jax.jit(model.init)(jax.random.key(0))
    ours = jax.jit(step).lower(params, routed.init(params), batch).compile()
    theirs = jax.jit(fused).lower(params, adagrad.init(params), batch).compile()
    assert ours.cost_analysis()["flops"] <= 1.05 * theirs.cost_analysis()["flops"]
    close(
        ours(params, routed.init(params), batch),
        theirs(params, adagrad.init(params), batch),
        rtol=1e-3,
        atol=1e-5,
    )


# ---- what is no row, and what makes no update ----


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (lambda p: {"a": p.sum(), "b": p.prod()}, r"a dict \(a, b\)"),
        (lambda p: p.sum(), r"one value of shape \(\).*\(loss,\)"),
        (lambda p: (p, p.sum()), r"loss 0 has shape \(3,\).*jnp.mean"),
        (lambda p: ((p.sum(), p.prod()), {}), "a tuple as loss 0.*has_aux=True"),
    ],
    ids=["dict", "scalar", "vectors", "aux"],
)
@pytest.mark.parametrize("mode", ["auto", "unroll", "vmap", "map", "gram"])
def test_what_is_not_k_scalars_is_refused_in_words(output, says, mode):
    with pytest.raises(ValueError, match=says):
        value_and_rows(output, mode=mode)(jnp.ones(3))


def test_aux_alone_is_refused_in_words():
    with pytest.raises(ValueError, match=r"must return \(values, aux\), got list"):
        value_and_rows(lambda p: [p.sum()], has_aux=True)(jnp.ones(3))


def test_arguments_are_those_of_value_and_grad():
    def two_losses(a, b, *, factor):
        return factor * jnp.sum(a * b), jnp.sum(b**2)

    a = jnp.arange(3.0)
    b = jnp.arange(3.0) + 4.0
    _, rows = value_and_rows(two_losses, argnums=(1, 0))(a, b, factor=2.0)
    close(rows, (jnp.stack([2.0 * a, 2.0 * b]), jnp.stack([2.0 * b, jnp.zeros(3)])))
    _, rows = value_and_rows(two_losses, argnums=1)(a, b, factor=2.0)
    close(rows, jnp.stack([2.0 * a, 2.0 * b]))


@pytest.mark.parametrize("mode", ["unroll", "vmap", "map"])
@pytest.mark.parametrize("chunk", [1, 2])
def test_rows_of_parameters_without_entries(mode, chunk):
    params = {"table": jnp.zeros((0, 4)), "kernel": jnp.arange(3.0)}

    def three_losses(p):
        return [jnp.sum(p["kernel"] ** k) + jnp.sum(p["table"]) for k in range(3)]

    _, rows = value_and_rows(three_losses, mode=mode, chunk=chunk)(params)
    assert rows["table"].shape == (3, 0, 4)
    close(rows["kernel"], jnp.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 2.0, 4.0]]))


@pytest.mark.parametrize(
    "part", [optax.set_to_zero(), optax.identity(), optax.adam(0.1)], ids=["zero", "same", "adam"]
)
def test_a_part_of_a_route_that_keeps_its_rows_is_refused(part):
    tx = optax.chain(route({"trunk": part, "heads": sum_rows()}), optax.sgd(0.1))
    with pytest.raises(ValueError, match="the part 'trunk' does not make one update.*to None"):
        tx.update(ROWS, tx.init(PARAMS), PARAMS)


def test_a_part_routed_to_none_is_frozen():
    tx = optax.chain(route({"trunk": None, "heads": sum_rows()}), optax.sgd(0.1))
    update, _ = jax.jit(tx.update)(ROWS, tx.init(PARAMS), PARAMS)
    close(update["trunk"], jax.tree.map(jnp.zeros_like, PARAMS["trunk"]))
    assert all(jnp.all(leaf != 0) for leaf in jax.tree.leaves(update["heads"]))
