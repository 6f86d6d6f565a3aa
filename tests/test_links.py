"""Every link against one table of demands: transformations, number formats, chains, other people's
train states, guards."""

from __future__ import annotations

import doctest
import functools
import inspect
import re
import typing
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fairjax import gradients
from fairjax.gradients import LinkState, link, link_states, value_and_rows

K = 3


class Case(NamedTuple):
    """A link, and one of its constants with values to sweep."""

    make: Callable[..., optax.GradientTransformationExtraArgs]
    constant: str | None = None
    values: tuple = ()
    needs: tuple[str, ...] = ()
    one_row: float | None = (
        1.0  # u / g for K = 1 and a row of length 1; None where the loss decides
    )


def famo(rows, **how):
    return gradients.famo(rows, optax.identity(), **how)


given = functools.partial(gradients.weighted_rows, weights=jnp.asarray([0.5, 0.3, 0.2]))
by_loss = functools.partial(gradients.mgda, normalise="loss+")
slowly = functools.partial(gradients.cr_mogm, rule=gradients.mgda.rule(normalise="loss+"))
paced = functools.partial(gradients.dwa, every=2)
CASES = {
    "sum_rows": Case(lambda rows: gradients.sum_rows()),
    "take_row": Case(lambda rows: gradients.take_row(0)),
    "mean_rows": Case(gradients.mean_rows),
    "weighted_rows": Case(given, "weights", (jnp.ones(K), jnp.arange(K) * 1.0), one_row=None),
    "random_weighting": Case(gradients.random_weighting, "seed", (3, 4)),
    "dwa": Case(paced, "temperature", (1.0, 4.0), ("values",)),
    "uncertainty": Case(gradients.uncertainty, "learning_rate", (0.01, 0.1), ("values",), None),
    "stch": Case(gradients.stch, "mu", (0.1, 2.0), ("values",)),
    "geometric_loss": Case(gradients.geometric_loss, needs=("values",)),
    "cosmos": Case(gradients.cosmos, "lam", (0.0, 2.0), ("values",)),
    "pbi": Case(gradients.pbi, "theta", (0.0, 2.0), ("values",)),
    "ldc_mtl": Case(gradients.ldc_mtl, "lam", (0.0, 0.5), ("values",)),
    "go4align": Case(gradients.go4align, "step_size", (1e-4, 1.0), ("values",)),
    "imtl_l": Case(gradients.imtl_l, "learning_rate", (0.01, 0.1), ("values",)),
    "gradnorm": Case(gradients.gradnorm, "alpha", (0.5, 2.0), ("values",)),
    "pcgrad": Case(gradients.pcgrad, "seed", (0, 1)),
    "pcgrad_ascending": Case(functools.partial(gradients.pcgrad, ascending=True)),
    "gradvac": Case(gradients.gradvac, "beta", (0.01, 0.5)),
    "mgda": Case(gradients.mgda),
    "head_aware": Case(gradients.head_aware, "gamma", (0.0, 1.0)),
    "mgda_loss": Case(by_loss, needs=("values",)),
    "cagrad": Case(gradients.cagrad, "c", (0.2, 0.9), one_row=1.2),
    "imtl_g": Case(gradients.imtl_g),
    "nash_mtl": Case(gradients.nash_mtl, "max_norm", (0.1, 2.0)),
    "fairgrad": Case(gradients.fairgrad, "alpha", (1.0, 5.0)),
    "pivrg": Case(gradients.pivrg, "temperature", (0.1, 1.0), ("values",)),
    "pcd": Case(gradients.pcd, "tau", (0.02, 0.9)),
    "cr_mogm": Case(slowly, "decay", (0.0, 0.9), ("values",)),
    "db_mtl": Case(gradients.db_mtl, "beta", (0.0, 0.9), ("values",), 0.1),
    "modo": Case(gradients.modo, "gamma", (0.01, 0.5)),
    "sdmgrad": Case(gradients.sdmgrad, "pull", (0.1, 1.0)),
    "moco": Case(gradients.moco, "gamma", (0.01, 0.5), one_row=0.5),
    "excess_mtl": Case(gradients.excess_mtl, "step_size", (0.1, 1.0)),
    "aligned_mtl": Case(gradients.aligned_mtl),
    "upgrad": Case(gradients.upgrad, "ridge", (1e-3, 1e-5)),
    "dualproj": Case(gradients.dualproj, "ridge", (1e-3, 1e-5)),
    "conflict_free": Case(gradients.conflict_free),
    "graddrop": Case(gradients.graddrop, "leak", (0.1, 0.6)),
    "famo": Case(famo, "max_norm", (0.1, 1.0), ("values", "value_fn")),
}
every = pytest.mark.parametrize("name", CASES)
# a link in another library's training: a sum, a draw, a state, and one that evaluates losses
SOME = ("mean_rows", "pcgrad", "gradnorm", "famo")
some = pytest.mark.parametrize("name", SOME)
PARAMS = {
    "trunk": {"w": jnp.asarray([[0.3, -0.2], [0.1, 0.7], [-0.4, 0.2]]), "b": jnp.zeros(2)},
    "heads": [jnp.asarray([0.5, -1.0]), jnp.asarray([1.0, 2.0]), jnp.asarray([-0.7, 0.1])],
}
X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)


def losses(params):
    """Three losses that pull the trunk apart; the first two fight."""
    z = jnp.tanh(X @ params["trunk"]["w"] + params["trunk"]["b"])
    a, b, c = (z @ head for head in params["heads"])
    return jnp.mean((a - 1.0) ** 2), jnp.mean((b + 2.0) ** 2), 0.2 * jnp.mean((c - X[:, 0]) ** 2)


VALUES, ROWS = jax.jit(value_and_rows(losses))(PARAMS)


def step(tx, rows=ROWS, state=None, params=PARAMS, **extra):
    """``tx.update`` with all that a link may ask for, and things that none knows."""
    told = {
        "values": VALUES,
        "value_fn": lambda p: jnp.stack(losses(p)),
        "batch": X,
        "grad": 7,
        **extra,
    }
    return tx.update(rows, tx.init(params) if state is None else state, params, **told)


@functools.lru_cache
def compiled(name):
    tx = CASES[name].make(K)
    return jax.jit(lambda rows, state, params, values: step(tx, rows, state, params, values=values))


def once(name, rows=ROWS, state=None, params=PARAMS, values=VALUES):
    """One update by the link of this name, compiled once for all tests."""
    return compiled(name)(
        rows, CASES[name].make(K).init(params) if state is None else state, params, values
    )


def same(one, two, **how):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, float), np.asarray(b, float), **{"rtol": 2e-4, "atol": 1e-5, **how}
        ),
        one,
        two,
    )


def constants(tree):
    """Without keys and counts, which are compared exactly elsewhere."""
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


# ---- transformations ----


@every
def test_compiled_is_eager_and_is_compiled_once(name):
    tx = CASES[name].make(K)
    eager, state = step(tx), tx.init(PARAMS)
    update, after = once(name, state=state)
    known = compiled(name)._cache_size()
    same(update, eager[0])
    same(constants(after), constants(eager[1]))
    assert jax.tree.map(lambda u: (u.shape, u.dtype), update) == jax.tree.map(
        lambda p: (p.shape, p.dtype), PARAMS
    )
    again, _ = once(name, jax.tree.map(lambda g: 2 * g, ROWS), after, values=2 * VALUES)
    assert compiled(name)._cache_size() == known
    assert all(np.isfinite(u).all() for u in jax.tree.leaves(again))
    assert jax.tree.map(
        lambda a: (a.shape, a.dtype), jax.tree.map(jnp.asarray, after)
    ) == jax.tree.map(lambda a: (a.shape, a.dtype), jax.tree.map(jnp.asarray, state))


@every
def test_inside_a_shard_map(name):
    """Where each device has members of its own, as in a sweep spread over devices."""
    tx, members = CASES[name].make(K), jax.sharding.PartitionSpec("members")
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), ("members",))

    def one(rows, state, params):
        return tx.update(
            rows,
            state,
            params,
            values=jnp.stack(losses(params)),
            value_fn=lambda p: jnp.stack(losses(p)),
        )

    at = ROWS, tx.init(PARAMS), PARAMS
    shared = jax.shard_map(jax.vmap(one), mesh=mesh, in_specs=members, out_specs=members)
    update, state = jax.jit(shared)(*jax.tree.map(lambda a: jnp.asarray(a)[None], at))
    same(jax.tree.map(lambda u: u[0], update), once(name)[0])
    assert jax.tree.structure(state) == jax.tree.structure(at[1])


@every
def test_a_scan_is_a_loop(name):
    tx = CASES[name].make(K)
    turns = jnp.asarray([1.0, -0.5, 2.0, 0.3])

    def turned(turn):
        return jax.tree.map(lambda g: g.at[0].multiply(turn), ROWS)

    scanned_state, scanned = jax.jit(
        lambda s: jax.lax.scan(
            lambda s, turn: step(tx, turned(turn), s, values=VALUES * (1 + turn**2))[::-1], s, turns
        )
    )(tx.init(PARAMS))
    state = tx.init(PARAMS)
    for i, turn in enumerate(turns):
        update, state = once(name, turned(turn), state, values=VALUES * (1 + turn**2))
        same(update, jax.tree.map(lambda u, i=i: u[i], scanned))
    same(
        constants(state), constants(scanned_state), atol=1e-4
    )  # a solver's residual is what rounding leaves


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.constant])
def test_mapped_over_a_constant_is_a_loop(name):
    case = CASES[name]

    def run(value):
        tx = case.make(K, **{case.constant: value})

        def go(state, count):
            return step(tx, state=state, values=VALUES * (1.0 + count * jnp.arange(K)))[::-1]

        return jax.tree.map(
            lambda u: u[-1], jax.lax.scan(go, tx.init(PARAMS), jnp.arange(6.0))[1]
        )  # some learn slowly

    values, one = jnp.stack([jnp.asarray(v) for v in case.values]), jax.jit(run)
    mapped, alone = jax.jit(jax.vmap(run))(values), [one(v) for v in values]
    same(mapped, jax.tree.map(lambda *u: jnp.stack(u), *alone))
    if name not in (
        "upgrad",
        "dualproj",
        "pcgrad",
        "gradnorm",
    ):  # a ridge this small, an order, a sign may change nothing
        gap = max(
            float(jnp.max(jnp.abs(a - b)))
            for a, b in zip(*map(jax.tree.leaves, alone), strict=True)
        )
        assert gap > 1e-6


@every
def test_rows_in_bfloat16(name):
    half = jax.tree.map(lambda g: g.astype(jnp.bfloat16), ROWS)
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    update, state = once(name, half, params=params)
    assert {u.dtype for u in jax.tree.leaves(update)} == {jnp.dtype(jnp.bfloat16)}
    for told in link_states(state):
        assert told.weights.dtype == jnp.float32 and told.cosines.dtype == jnp.float32
    full, _ = once(name, jax.tree.map(lambda g: g.astype(jnp.float32), half))
    if name != "graddrop":  # draws other numbers for another format
        same(update, full, rtol=0.02, atol=0.02)


@every
def test_states_are_told_apart_and_hold_what_they_say(name):
    _, state = once(name)
    assert all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree.leaves(state))
    for told in link_states(state):
        flat = np.concatenate(
            [np.asarray(g, float).reshape(K, -1) for g in jax.tree.leaves(ROWS)], axis=1
        )
        unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        same(told.cosines, unit @ unit.T)
        assert int(told.conflicts) == np.sum(np.triu(unit @ unit.T < 0, 1)) and int(told.count) == 1
        assert (
            told.weights.shape == (K,) and int(told.quarantined) == 0 and np.isfinite(told.residual)
        )


# ---- chains ----

REST = {
    "adam": lambda: optax.adam(1e-2),
    "adamw": lambda: optax.adamw(1e-2, weight_decay=0.1),
    "clip": lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1)),
    "ema": lambda: optax.chain(optax.ema(0.9), optax.sgd(0.1)),
    "schedule_free": lambda: optax.contrib.schedule_free(optax.sgd(0.1), 0.1),
    "inject": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=1e-2),
}


@pytest.mark.slow
@every
def test_first_in_a_chain(name):
    """Two steps of a chain are two steps of the link, each handed to the rest."""
    tx = CASES[name].make(K)
    chains = {kind: optax.chain(tx, rest()) for kind, rest in REST.items()}
    chains["partition"] = optax.chain(
        optax.partition({"all": tx}, jax.tree.map(lambda p: "all", PARAMS)), optax.adam(1e-2)
    )
    rests = {kind: optax.with_extra_args_support(rest()) for kind, rest in REST.items()}

    @jax.jit
    def both(chained, state, hand):
        update, state = step(tx, state=state)
        got, want = {}, {}
        for kind, chain in chains.items():
            got[kind], chained[kind] = step(chain, state=chained[kind])
        for kind, rest in rests.items():
            want[kind], hand[kind] = rest.update(update, hand[kind], PARAMS)
        return (got, want), (chained, state, hand)

    held = (
        {kind: chain.init(PARAMS) for kind, chain in chains.items()},
        tx.init(PARAMS),
        {kind: rest.init(PARAMS) for kind, rest in rests.items()},
    )
    for _ in range(2):
        (got, want), held = both(*held)
    for kind, update in got.items():
        same(update, want["adam" if kind == "partition" else kind])
        assert max(np.max(np.abs(u)) for u in jax.tree.leaves(update)) > 0


@every
def test_routed_by_subtree(name):
    """In ``route`` a link sees its own subtree alone; heads get the sum."""
    tx = gradients.route({"trunk": CASES[name].make(K), "heads": gradients.sum_rows()})
    update, _ = jax.jit(lambda: step(tx))()
    same(update["heads"], jax.tree.map(lambda g: jnp.sum(g, axis=0), ROWS["heads"]))
    alone = CASES[name].make(K)

    def of_trunk(part):
        return jnp.stack(losses({**PARAMS, "trunk": part["trunk"]}))

    own, _ = jax.jit(
        lambda: step(
            alone, {"trunk": ROWS["trunk"]}, None, {"trunk": PARAMS["trunk"]}, value_fn=of_trunk
        )
    )()
    if name != "graddrop":  # its draws go by the number of a leaf
        same(update["trunk"], own["trunk"])


def nnx_state():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self):
            self.body, self.head = (
                nnx.Linear(3, 2, rngs=nnx.Rngs(0)),
                nnx.Linear(2, 1, rngs=nnx.Rngs(1)),
            )

    return nnx.state(Net(), nnx.Param)


def equinox_module():
    eqx = pytest.importorskip(
        "equinox", reason="modules of equinox are checked with pip install equinox"
    )

    class Net(eqx.Module):
        body: eqx.nn.Linear
        head: eqx.nn.Linear

    one, two = jax.random.split(jax.random.key(0))
    return eqx.filter(
        Net(eqx.nn.Linear(3, 2, key=one), eqx.nn.Linear(2, 1, key=two)), eqx.is_inexact_array
    )


def linen_params():
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1, name="head")(nn.Dense(2, name="body")(x))

    return Net().init(jax.random.key(0), X)["params"]


def plain_params():
    return {"body": [jnp.ones(2)], "head": jnp.ones(3)}


@pytest.mark.parametrize("make", [nnx_state, equinox_module, linen_params, plain_params])
@pytest.mark.parametrize(
    "label", [None, lambda path: "body" if "body" in jax.tree_util.keystr(path) else "head"]
)
def test_routes_by_the_path_on_any_tree(make, label):
    params = make()
    rows = jax.tree.map(lambda p: jnp.stack([jnp.full(p.shape, k) for k in (1.0, 10.0)]), params)
    tx = optax.chain(
        gradients.route({"body": 1, "head": gradients.sum_rows()}, label), optax.scale(2.0)
    )
    update, _ = jax.jit(tx.update)(rows, tx.init(params), params)
    found = jax.tree.leaves_with_path(update)
    assert len(found) >= 2 and jax.tree.structure(update) == jax.tree.structure(params)
    for path, leaf in found:
        np.testing.assert_array_equal(leaf, 20.0 if "body" in jax.tree_util.keystr(path) else 22.0)


def after_sgd(name):
    return jax.tree.map(lambda p, u: p - 0.1 * u, PARAMS, once(name)[0])


@some
def test_in_a_linen_train_state(name):
    from flax.training.train_state import TrainState

    case = CASES[name]
    tx = optax.chain(case.make(K), optax.sgd(0.1))
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    if case.needs:
        with pytest.raises(ValueError, match="values=|value_fn="):
            state.apply_gradients(grads=ROWS)
        return
    after = jax.jit(lambda s: s.apply_gradients(grads=ROWS))(state)
    assert int(after.step) == 1
    same(after.params, after_sgd(name))


@some
def test_in_an_nnx_optimizer(name):
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self):
            self.w, self.b = nnx.Param(PARAMS["trunk"]["w"]), nnx.Param(PARAMS["trunk"]["b"])
            self.one, self.two, self.three = (nnx.Param(head) for head in PARAMS["heads"])

        def __call__(self):
            return losses(
                {
                    "trunk": {"w": self.w[...], "b": self.b[...]},
                    "heads": [self.one[...], self.two[...], self.three[...]],
                }
            )

    net = Net()
    optimizer = nnx.Optimizer(net, optax.chain(CASES[name].make(K), optax.sgd(0.1)), wrt=nnx.Param)

    @nnx.jit
    def train(net, optimizer):
        graph, params, rest = nnx.split(net, nnx.Param, ...)
        values, rows = value_and_rows(lambda p: nnx.merge(graph, p, rest)())(params)
        optimizer.update(
            net,
            rows,
            values=values,
            value_fn=lambda p: jnp.stack(nnx.merge(graph, nnx.state(p), rest)()),
        )
        return values

    same(train(net, optimizer), VALUES)
    want = after_sgd(name)
    if name != "graddrop":
        same(
            [net.b[...], net.w[...], net.one[...]],
            [want["trunk"]["b"], want["trunk"]["w"], want["heads"][0]],
            atol=1e-4,
        )


@some
def test_on_an_equinox_module(name):
    eqx = pytest.importorskip(
        "equinox", reason="modules of equinox are checked with pip install equinox"
    )

    class Net(eqx.Module):
        trunk: dict
        heads: list
        title: str = "not an array"

    net = Net(PARAMS["trunk"], PARAMS["heads"])
    params, train_config = eqx.partition(net, eqx.is_inexact_array)
    tx = optax.chain(CASES[name].make(K), optax.sgd(0.1))

    def of(p):
        whole = eqx.combine(p, train_config)
        return losses({"trunk": whole.trunk, "heads": whole.heads})

    @eqx.filter_jit
    def train(params):
        values, rows = value_and_rows(of)(params)
        updates, _ = tx.update(
            rows, tx.init(params), params, values=values, value_fn=lambda p: jnp.stack(of(p))
        )
        return eqx.apply_updates(params, updates)

    after = train(params)
    want = after_sgd(name)
    assert eqx.combine(after, train_config).title == "not an array"
    if name != "graddrop":
        same([after.trunk, after.heads], [want["trunk"], want["heads"]], atol=1e-4)


# ---- guards ----


def test_rows_whose_squares_leave_float32_are_absent_or_not_finite():
    """The limit that docs/links.md names: a largest entry of 1e-19, and of 1e19."""
    params = {"a": jnp.ones(3)}
    rows = jnp.array([[1.0, 2.0, 3.0], [-1.0, 1.0, 0.5]])
    link = gradients.imtl_g(2)

    def after(scale):
        return link.update({"a": scale * rows}, link.init(params), params)[1]

    usual = after(1.0).weights
    for scale in (1e-17, 1e17):
        np.testing.assert_allclose(after(scale).weights, usual, rtol=1e-4)
    np.testing.assert_array_equal(after(1e-21).weights, 0.0)
    assert int(after(1e21).quarantined) == 2


@every
def test_a_row_that_is_not_finite_is_left_out_and_counted(name):
    """As if it were zero: the other rows go on; a row taken or summed by name is what it is."""
    if name in ("sum_rows", "take_row"):
        return
    where = {"trunk": {"w": (1, 0, 1), "b": (1, 0)}}
    for bad in (jnp.nan, jnp.inf):
        broken = {
            **ROWS,
            "trunk": {
                "w": ROWS["trunk"]["w"].at[where["trunk"]["w"]].set(bad),
                "b": ROWS["trunk"]["b"],
            },
        }
        update, state = once(name, broken, values=VALUES.at[1].set(jnp.nan))
        assert all(np.isfinite(u).all() for u in jax.tree.leaves(update))
        (told,) = link_states(state)
        assert int(told.quarantined) == 1 and float(told.weights[1]) == 0
        assert all(np.isfinite(leaf).all() for leaf in constants(told))
        if name in ("graddrop", "famo", "random_weighting"):
            continue
        zero, _ = once(
            name, jax.tree.map(lambda g: g.at[1].set(0), ROWS), values=VALUES.at[1].set(0)
        )
        same(update, zero)


@every
def test_rows_of_zeros(name):
    update, state = once(name, jax.tree.map(jnp.zeros_like, ROWS), values=jnp.zeros(K))
    same(update, jax.tree.map(jnp.zeros_like, PARAMS), rtol=0, atol=0)
    assert all(np.isfinite(leaf).all() for leaf in constants(state))


@every
def test_one_row(name):
    if name in ("weighted_rows",):  # three weights are given
        return
    row = {"w": jnp.asarray([[0.6, -0.8]])}
    params = {"w": jnp.zeros(2)}
    update, _ = step(
        CASES[name].make(1), row, None, params, values=jnp.ones(1), value_fn=lambda p: jnp.ones(1)
    )
    want = CASES[name].one_row
    if name == "uncertainty":
        want = 0.5 * np.exp(0.5)
    same(update["w"], want * row["w"][0])


def wrong_rows(rows):
    return [
        (
            jax.tree.map(lambda g: g[0], rows),
            r"\['heads'\]\[0\] has shape \(2,\), expected \(K, \*\(2,\)\).*must come first",
        ),
        (jax.tree.map(lambda g: g[:2], rows), "has 2 rows, the aggregator was made for 3"),
        (
            {**rows, "heads": [rows["heads"][0], rows["heads"][1][:2], rows["heads"][2]]},
            "has 2 rows",
        ),
    ]


@every
def test_rows_of_another_shape_are_told(name):
    tx = CASES[name].make(K)
    for i, (rows, says) in enumerate(wrong_rows(ROWS)):
        if i == 1 and name in ("sum_rows", "take_row"):
            continue  # made for any number
        with pytest.raises(ValueError, match=says):
            step(tx, rows)
    with pytest.raises(ValueError, match="an aggregator needs params: call tx.update"):
        tx.update(ROWS, tx.init(PARAMS), values=VALUES, value_fn=lambda p: VALUES)


@every
def test_adam_before_the_link_is_told_when_asked(name):
    wrong = optax.chain(optax.scale_by_adam(), CASES[name].make(K))
    with pytest.raises(ValueError, match="The aggregator must come first"):
        gradients.validated(wrong, rows=K).init(PARAMS)
    right = gradients.validated(optax.chain(CASES[name].make(K), optax.scale_by_adam()), rows=K)
    assert jax.tree.structure(right.init(PARAMS)) is not None


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.needs])
def test_links_that_need_losses_say_so(name):
    tx = CASES[name].make(K)
    with pytest.raises(
        ValueError, match=r"values=losses\), 3 losses in an array|famo needs value_fn="
    ):
        tx.update(ROWS, tx.init(PARAMS), PARAMS)


# ---- granularity ----


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pcgrad_ascending", "mgda", "upgrad", "dwa", "gradnorm"])
def test_leaf_by_leaf_is_each_leaf_alone(name):
    tx, alone = CASES[name].make(K, per="leaf"), CASES[name].make(K)
    update, state = jax.jit(lambda: step(tx))()
    assert state.cosines.shape == (5, K, K) and state.conflicts.shape == (5,)
    for i, (leaf, param, got) in enumerate(
        zip(*map(jax.tree.leaves, (ROWS, PARAMS, update)), strict=True)
    ):
        want, told = jax.jit(lambda leaf=leaf, param=param: step(alone, [leaf], None, [param]))()
        same(got, want[0])
        same(state.weights[i], told.weights)


@pytest.mark.slow
def test_groups_of_leaves_by_a_function_of_the_path():
    def layer(path):
        return "trunk" if path[0].key == "trunk" else "heads"

    update, state = step(gradients.mgda(K, per=layer))
    assert state.weights.shape == (2, K)
    for part in ("trunk", "heads"):
        same(update[part], step(gradients.mgda(K), ROWS[part], None, PARAMS[part])[0])


def test_conflicts_may_be_measured_on_some_leaves():
    def on_trunk(path):
        return path[0].key == "trunk"

    update, state = step(gradients.mgda(K, measure=on_trunk))
    _, told = step(gradients.mgda(K), ROWS["trunk"], None, PARAMS["trunk"])
    same(state.weights, told.weights)
    same(update["heads"][1], told.weights[1] * ROWS["heads"][1][1])
    with pytest.raises(ValueError, match="measure leaves out every leaf of a group"):
        step(gradients.mgda(K, per="leaf", measure=on_trunk))


@pytest.mark.parametrize("name", ["mean_rows", "weighted_rows", "random_weighting"])
def test_without_diagnostics_there_are_no_products_of_rows(name):
    """The same update and quarantine; the program has no product of two rows."""
    broken = {**ROWS, "heads": [ROWS["heads"][0].at[1].set(jnp.nan), *ROWS["heads"][1:]]}
    plain = CASES[name].make(K, diagnostics=False)
    for rows in (ROWS, broken):
        update, state = jax.jit(lambda rows: step(plain, rows))(rows)
        want, told = once(name, rows)
        same(update, want)
        same(state.weights, told.weights)
        assert int(state.quarantined) == int(told.quarantined)
        np.testing.assert_array_equal(state.cosines, 0.0)
    for diagnostics in (False, True):
        tx = CASES[name].make(K, diagnostics=diagnostics)
        program = str(jax.make_jaxpr(lambda rows, tx=tx: step(tx, rows))(ROWS))
        assert ("dot_general" in program) == diagnostics


def test_a_rule_that_reads_products_gets_them_without_diagnostics():
    tx = link(gradients.mgda.rule(), K, diagnostics=False)
    update, state = jax.jit(lambda: step(tx))()
    same(update, once("mgda")[0])
    np.testing.assert_array_equal(state.conflicts, 0)


@pytest.mark.parametrize("name", ["mean_rows", "upgrad", "fairgrad", "pcd", "stch", "moco"])
def test_losses_of_some_batches_only(name):
    """A loss without labels in a batch is a row of zeros: it moves nothing, and comes back."""
    state = start = CASES[name].make(K).init(PARAMS)
    without = jax.tree.map(lambda g: g.at[1].set(0), ROWS)
    for rows, is_there in ((without, False), (ROWS, True), (without, False)):
        update, state = once(name, rows, state)
        assert all(np.isfinite(leaf).all() for leaf in constants((update, state)))
        (told,) = link_states(state)
        if not is_there and name not in ("mean_rows", "moco"):  # MoCo goes on by its average
            assert float(told.weights[1]) == 0
        if is_there and name not in ("pcd", "moco"):  # where a weight of 0 may be right
            assert float(told.weights[1]) != 0
    assert jax.tree.structure(start) == jax.tree.structure(state)


@pytest.mark.parametrize("name", ["mean_rows", "pcgrad", "pcd", "stch", "moco"])
def test_a_frozen_part_is_not_measured_and_stays(name):
    """A route to None: the link sees the rest as if the part were not there."""
    tx = gradients.route({"trunk": CASES[name].make(K), "heads": None})
    update, _ = jax.jit(lambda: step(tx))()
    other = jax.tree.map(lambda g: 100.0 * g, ROWS["heads"])
    again, _ = jax.jit(lambda: step(tx, {**ROWS, "heads": other}))()
    same(update["heads"], jax.tree.map(jnp.zeros_like, PARAMS["heads"]), rtol=0, atol=0)
    same(again["trunk"], update["trunk"], rtol=0, atol=0)
    assert max(np.max(np.abs(u)) for u in jax.tree.leaves(update["trunk"])) > 0


def test_a_rule_of_ones_own():
    """Weights by inverse length, in three lines."""

    def weights(gram, values, memory, key):
        return 1.0 / jnp.sqrt(jnp.diagonal(gram)), memory + 1, jnp.zeros(())

    tx = link(gradients.Rule(lambda rows: jnp.zeros(()), weights), K)
    update, state = jax.jit(lambda: step(tx))()
    flat = np.concatenate(
        [np.asarray(g, float).reshape(K, -1) for g in jax.tree.leaves(ROWS)], axis=1
    )
    unit = (flat / np.linalg.norm(flat, axis=1, keepdims=True)).sum(axis=0)
    same(np.concatenate([np.ravel(u) for u in jax.tree.leaves(update)]), unit)
    assert isinstance(state, LinkState) and float(state.memory) == 1.0


def test_a_key_given_overrides_the_seed():
    tx = gradients.random_weighting(K)
    one, two = (step(tx, key=jax.random.key(i))[1].weights for i in (0, 1))
    assert np.max(np.abs(one - two)) > 1e-3
    same(one, step(tx, key=jax.random.key(0))[1].weights, rtol=0, atol=0)
    _, first = step(tx)
    assert (
        np.max(np.abs(first.weights - step(tx, state=first)[1].weights)) > 1e-3
    )  # another draw at every update


def test_every_link_of_the_family_is_in_the_table():
    assert set(gradients.REGISTRY) <= set(CASES)


# ---- documentation ----


family = pytest.mark.parametrize("name", gradients.REGISTRY)


@family
def test_a_signature_names_every_argument(name):
    """As ``help``, editors and type checkers see it: no ``**kwargs``, all annotated, all
    explained."""
    factory = gradients.REGISTRY[name].factory
    parameters = inspect.signature(factory).parameters
    doc = inspect.getdoc(factory)
    for parameter in parameters.values():
        assert parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        assert parameter.annotation is not parameter.empty
        assert f"\n  {parameter.name}: " in doc
    hints = typing.get_type_hints(factory)
    assert hints["return"] is optax.GradientTransformationExtraArgs
    assert set(hints) == {*parameters, "return"}
    assert factory.__name__ == name
    assert getattr(gradients, name) is getattr(gradients, name) is factory


@family
def test_a_docstring_has_all_its_parts(name):
    factory = gradients.REGISTRY[name].factory
    doc = inspect.getdoc(factory)
    parts = ["Returns:", "Reference:", "Example:"]
    if inspect.signature(factory).parameters:
        parts.insert(0, "Args:")
    places = [doc.index(f"\n{part}\n") for part in parts]
    assert places == sorted(places)
    reference = doc[doc.index("\nReference:\n") : doc.index("\nExample:\n")]
    assert re.search(r"\w: .*(19|20)\d\d\.", reference, re.S)
    returns = doc[doc.index("\nReturns:\n") : doc.index("\nReference:\n")]
    assert "update(rows, state, params" in returns
    if name in CASES:
        for argument in CASES[name].needs:
            assert f"{argument}=" in returns


@family
def test_the_example_runs_and_prints_what_it_says(name):
    doc = inspect.getdoc(gradients.REGISTRY[name].factory)
    example = doctest.DocTestParser().get_doctest(doc, {}, name, None, 0)
    assert any(line.want for line in example.examples)
    doctest.DebugRunner().run(example)


@pytest.mark.parametrize(
    "name", [n for n, entry in gradients.REGISTRY.items() if hasattr(entry.factory, "rule")]
)
def test_a_link_and_its_rule_have_the_same_constants(name):
    """``pcgrad(2, mean=True)`` is ``link(pcgrad.rule(mean=True), 2)``, defaults included."""
    factory = gradients.REGISTRY[name].factory
    parameters = dict(inspect.signature(factory).parameters)
    common = inspect.signature(link).parameters
    assert parameters.pop("rows").annotation == common["rows"].annotation
    for argument in ("per", "measure", "metric", "seed", "diagnostics"):
        if argument in parameters:
            assert parameters.pop(argument) == common[argument]
    assert parameters == dict(inspect.signature(factory.rule).parameters)


def test_the_registry_knows_what_methods_need():
    for name, entry in gradients.REGISTRY.items():
        assert entry.weighs in ("gradients", "all", "losses", "nothing")
        if entry.weighs == "nothing":
            continue
        arguments = dict(entry.constants)
        if entry.owns_optimizer:
            arguments["optimizer"] = optax.sgd(0.1)
        tx = entry.factory(K, **arguments)
        assert len(link_states(tx.init(PARAMS))) == 1, name
