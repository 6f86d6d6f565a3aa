"""One model for all loss weights: conditioning, drawn weights, and its frontier."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import brute_gap, brute_select, dataset, double, pad, splits, tabular_spec

from fairjax.core.types import Columns, Components, Dataset, Range, Recipe, Spec, Task
from fairjax.gradients import combiners, sum_rows
from fairjax.methods import Context, baseline, loss_weights, runs_for, scores_for, yoto
from fairjax.methods._yoto import draw_loss_weights, trained_lam_range
from fairjax.models import (
    conditioned_network,
    modulated,
    per_channel,
    scalar,
    scores,
    shared_bottom,
    with_default_condition,
)
from fairjax.notions import differential_fairness, from_distance, negatives, rate_gap
from fairjax.objectives import (
    log_uniform,
    normalised,
    per_task,
    per_task_with_drawn_weights,
    uniform,
    weighted,
    with_drawn_weights,
)
from fairjax.training import TrainConfig, grid, make_train, sweep

SPEC, B, W = tabular_spec(), 12, 4
FPR = from_distance(rate_gap, (negatives,))
FORMS = {"original": per_channel(7), "paper": scalar(5)}
LAM = np.random.default_rng(0).uniform(0.05, 4.0, (B, W)).astype(np.float32)


@functools.cache
def network(form: str, trunk=(6, 5)):
    """A conditioned network of which no parameter is zero, and rows with an unseen level."""
    model = conditioned_network(SPEC, trunk, (4,), 3, condition=W, form=FORMS[form])
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda s: rng.normal(size=s.shape).astype(np.float32),
        jax.eval_shape(model.init, jax.random.key(0)),
    )
    x = dataset(SPEC, B, 2).x
    x.codes[3] = -1
    return model, params, x


@functools.cache
def program(form: str):
    model = network(form)[0]
    return jax.jit(lambda params, x, lam: scores(with_default_condition(model, lam), params, x))


# ----------------------------------------------------------------------- the network


def brute_mlp(p, c):
    return np.maximum(c @ p["hidden"] + p["hidden_bias"], 0) @ p["output"] + p["output_bias"]


def brute_film(form: str, film, c, layer: int):
    """Scale and shift of a layer for one condition."""
    if form == "paper":
        return brute_mlp(film["scale"], c)[layer], brute_mlp(film["shift"], c)[layer]
    p, seen = film[f"layer_{layer}"], np.log(np.maximum(c, 0.01))
    return 1 + 0.1 * brute_mlp(p["scale"], seen), 0.1 * brute_mlp(p["shift"], seen)


def brute_scores(form: str, params, x: Columns, lam) -> np.ndarray:
    """Row by row in float64, with embeddings looked up."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    body, film = params["trunk"]["body"], params["trunk"]["film"]
    out = []
    for i in range(len(x.numeric)):
        code = x.codes[i, 0]
        z = np.concatenate([x.numeric[i], body["embedding"][code] if code >= 0 else np.zeros(3)])
        for layer in range(2):
            own = body if layer == 0 else body["dense_1"]
            scale, shift = brute_film(form, film, np.asarray(lam[i], np.float64), layer)
            z = z @ own["kernel"] + own["bias"]
            z = (
                np.maximum(scale * z + shift, 0)
                if form == "original"
                else scale * np.maximum(z, 0) + shift
            )
        row = []
        for head in params["heads"].values():
            h = np.maximum(z @ head["dense_0"]["kernel"] + head["dense_0"]["bias"], 0)
            row.append(h @ head["output"]["kernel"] + head["output"]["bias"])
        out.append(np.concatenate(row))
    return np.array(out)


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_are_what_numpy_says_for_one_condition_some_and_one_per_row(form):
    _, params, x = network(form)
    for lam, rows in (
        (LAM, LAM),
        (LAM[:3], np.tile(LAM[:3], (4, 1))),
        (LAM[0], np.tile(LAM[:1], (B, 1))),
        (np.zeros(W, np.float32), np.zeros((B, W))),
    ):
        np.testing.assert_allclose(
            program(form)(params, x, lam), brute_scores(form, params, x, rows), rtol=2e-4, atol=2e-4
        )


@pytest.mark.parametrize("trunk", [(6,), (6, 5)])
def test_without_the_nets_of_the_condition_it_is_the_network_without_a_condition(trunk):
    plain, model = (
        shared_bottom(SPEC, trunk, (4,), 3),
        conditioned_network(SPEC, trunk, (4,), 3, condition=W),
    )
    x = network("original")[2]

    @jax.jit
    def both(key):
        bare, params = plain.init(key), model.init(key)
        still = {
            **params,
            "trunk": {
                **params["trunk"],
                "film": jax.tree.map(jnp.zeros_like, params["trunk"]["film"]),
            },
        }
        return (
            bare,
            params,
            scores(plain, bare, x),
            [scores(with_default_condition(model, LAM), p, x) for p in (still, params)],
        )

    bare, params, want, (still, moved) = both(jax.random.key(1))
    jax.tree.map(
        np.testing.assert_array_equal,
        bare,
        {"trunk": params["trunk"]["body"], "heads": params["heads"]},
    )
    np.testing.assert_allclose(still, want, rtol=1e-6, atol=1e-6)
    assert np.max(np.abs(moved - want)) > 1e-3


def test_anybodys_representation_is_modulated():
    inner = shared_bottom(SPEC, (6,), (4,), 3)
    own = conditioned_network(SPEC, (6,), (4,), 3, condition=W, form=scalar(5))
    both = modulated(inner, 6, condition=W, form=scalar(5)), own

    @jax.jit
    def run(x):
        params = [model.init(jax.random.key(0)) for model in both]
        return params, [
            scores(with_default_condition(model, LAM), p, x)
            for model, p in zip(both, params, strict=True)
        ]

    params, found = run(network("paper")[2])
    jax.tree.map(np.testing.assert_array_equal, *params)
    np.testing.assert_allclose(
        *found, rtol=1e-5, atol=1e-6
    )  # in one layer, scaling after it is scaling the representation


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_a_conditioned_network_against_differences(form):
    model, params, x = network(form)
    probe = np.random.default_rng(3).normal(size=(B, 2))
    with double():
        leaves, tree = jax.tree.flatten(jax.tree.map(lambda a: a.astype(np.float64), params))
        x = x._replace(numeric=x.numeric.astype(np.float64))

        @jax.jit
        def value(leaves):
            z = scores(
                with_default_condition(model, LAM.astype(np.float64)),
                jax.tree.unflatten(tree, leaves),
                x,
            )
            return jnp.sum(probe * z)

        got = jax.jit(jax.grad(value))(leaves)
        rng, pairs = np.random.default_rng(4), []
        for i, leaf in enumerate(leaves):
            step = rng.normal(size=leaf.shape)
            ends = [value([*leaves[:i], leaf + h * step, *leaves[i + 1 :]]) for h in (1e-6, -1e-6)]
            pairs.append((np.sum(np.asarray(got[i]) * step), (ends[0] - ends[1]) / 2e-6))
    np.testing.assert_allclose(*np.array(pairs).T, rtol=1e-4, atol=1e-4)


def test_a_condition_of_another_shape_is_refused():
    model, params, x = network("original")
    for condition, why in (
        (None, "needs a condition"),
        (LAM[:, :2], "expected a condition"),
        (LAM[:5], "5 conditions for 12"),
    ):
        with pytest.raises(ValueError, match=why):
            model.represent(params["trunk"], x, condition)
    with pytest.raises(ValueError, match="at least one layer"):
        conditioned_network(SPEC, (), condition=W)


# ----------------------------------------------------------------------- many conditions at once


@pytest.mark.parametrize("form", FORMS)
def test_scores_over_many_conditions_are_those_of_a_loop(form):
    model, params, x = network(form)
    got = jax.jit(lambda p, x, lam: scores_for(model, p, x, lam))(params, x, LAM)
    for c, one in zip(LAM, got, strict=True):
        np.testing.assert_allclose(one, program(form)(params, x, c), rtol=1e-5, atol=1e-5)


def test_the_first_product_is_made_once_for_all_conditions():
    spec = tabular_spec(levels=(100, 100))
    model = conditioned_network(spec, (16,), (2,), 3, condition=W, form=per_channel(2))
    params, x = jax.eval_shape(model.init, jax.random.key(0)), dataset(spec, 64, 0).x

    def flops(conditions):
        lam = np.ones((conditions, W), np.float32)
        return (
            jax.jit(lambda p, x, lam: scores_for(model, p, x, lam))
            .lower(params, x, lam)
            .compile()
            .cost_analysis()["flops"]
        )

    first = 2 * 64 * 202 * 16
    assert flops(1) > first and flops(9) - flops(1) < 0.5 * 8 * first


# ----------------------------------------------------------------------- losses under drawn weights


def batch_of(seed=0, **how) -> Dataset:
    return dataset(SPEC, B, seed, **how)


def brute_loss(logits, batch, t, rows) -> float:
    """Cross-entropy of a task, added up over the given rows."""
    total = 0.0
    for i in rows:
        if batch.label_mask[i, t] and batch.weight[i]:
            f = logits[i, t] * (1 if batch.labels[i, t] == 1 else -1)
            total += batch.weight[i] * np.log1p(np.exp(-f))
    return total


@pytest.mark.parametrize("padded", [0, 5])
def test_a_draw_per_row_is_a_loop_over_rows(padded):
    model, params, _ = network("original")
    batch = pad(dataset(SPEC, B - padded, 5, missing=0.3, weighted=True), padded)
    draw = log_uniform([0.1, 0.2, 1.0, 1.0], [3.0, 2.0, 1.0, 1.0])
    objective = per_task_with_drawn_weights(model, SPEC, draw, B)
    before = objective.init(None, batch)
    values, memory = jax.jit(lambda p, b, k: objective.apply(p, b, k, before))(
        params, batch, jax.random.key(7)
    )
    lam = np.asarray(draw(jax.random.key(7), B))
    logits = brute_scores("original", params, batch.x, lam)
    want = [
        sum(lam[i, t] * brute_loss(logits, batch, t, [i]) for i in range(B)) / B for t in range(2)
    ]
    np.testing.assert_allclose(values, want, rtol=1e-4)
    assert objective.rows == ("task0", "task1")
    assert memory == ()


def blocks_by_hand(batch, lam, params, reduction):
    """Rows with a gap in each of three blocks; block d holds rows d, d + 3, ..."""
    logits, D = (
        brute_scores("original", params, batch.x, np.tile(lam, (B // len(lam), 1))),
        len(lam),
    )
    prob, want, mass = 1 / (1 + np.exp(-logits)), np.zeros(4), batch.weight.sum()
    for d in range(D):
        rows = range(d, B, D)
        own = Dataset(None, *(a[list(rows)] for a in batch[1:]))
        share = 1 / D if reduction == "batch" else own.weight.sum() / mass
        for t in range(2):
            known = own.weight @ own.label_mask[:, t]
            select = own.weight * brute_select("negatives", own.labels[:, t], own.label_mask[:, t])
            gap = brute_gap(prob[list(rows), t], own.groups, select)
            over, seen = (B // D, select.sum() * D / B) if reduction == "batch" else (known, 1.0)
            want[t] += share * lam[d, t] * brute_loss(logits, batch, t, rows) / over
            want[2 + t] += share * lam[d, 2 + t] * gap * seen
    return want


@pytest.mark.parametrize("reduction", ["batch", "mean"])
def test_fairness_is_measured_in_every_block_under_its_own_weights(reduction):
    model, params, _ = network("original")
    batch, draw = (
        pad(batch_of(6)._replace(weight=np.ones(B, np.float32)), 0),
        uniform([0.1] * W, [2.0] * W),
    )
    batch.weight[-2:] = 0.0
    objective = per_task_with_drawn_weights(model, SPEC, draw, 3, notion=FPR, reduction=reduction)
    memory = objective.init(None, batch)
    values, _ = jax.jit(lambda p, b, k: objective.apply(p, b, k, memory))(
        params, batch, jax.random.key(3)
    )
    want = blocks_by_hand(batch, np.asarray(draw(jax.random.key(3), 3)), params, reduction)
    np.testing.assert_allclose(values, want, rtol=1e-4, atol=1e-6)
    assert np.all(want > 0) and objective.rows[2:] == ("fairness of task0", "fairness of task1")


@pytest.mark.parametrize(
    "combine",
    [
        functools.partial(combiners.cosmos_loss, lam=0.7),
        functools.partial(combiners.boundary_intersection, theta=2.0),
    ],
    ids=["cosmos", "pbi"],
)
def test_losses_of_a_block_are_combined_with_its_weights(combine):
    """COSMOS and PBI are the mean over blocks of the combiner; a block is one batch by itself."""
    model, params, _ = network("original")
    batch, draw = batch_of(6), uniform([0.1] * W, [2.0] * W)
    objective = per_task_with_drawn_weights(model, SPEC, draw, 3, notion=FPR, combine=combine)
    assert objective.rows == ("combined",)
    key = jax.random.key(3)

    @jax.jit
    def total(params):
        return objective.apply(params, batch, key, objective.init(None, batch))[0][0]

    lam = draw(key, 3)
    want = []
    for d in range(3):
        part = jax.tree.map(lambda a, d=d: a[d::3], batch)
        asked = with_default_condition(model, lam[d])
        one = per_task(asked, SPEC, notion=FPR, lam=np.ones(2), split=True)
        values, _ = one.apply(params, part, key, one.init(None, part))
        want.append(combine(jnp.stack(values), lam[d]))
    np.testing.assert_allclose(total(params), np.mean(want), rtol=1e-5)
    slopes = jax.jit(jax.grad(total))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_one_block_of_fixed_weights_is_baseline():
    model, params, _ = network("original")
    w, lam, batch = (
        np.float32([0.3, 0.7]),
        np.float32([1.5, 0.4]),
        batch_of(8, missing=0.2, unknown=0.2),
    )
    draw = draw_loss_weights(Range(w), Range(lam))
    one = weighted(per_task_with_drawn_weights(model, SPEC, draw, 1, notion=FPR), jnp.ones(4))
    asked = with_default_condition(model, loss_weights(w, lam))
    other = weighted(per_task(asked, SPEC, notion=FPR, lam=lam), w)

    @jax.jit
    def both(params):
        return [
            jax.value_and_grad(
                lambda p, o=o: o.apply(p, batch, jax.random.key(0), o.init(None, batch))[0][0]
            )(params)
            for o in (one, other)
        ]

    (a, ga), (b, gb) = both(params)
    np.testing.assert_allclose(a, b, rtol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), ga, gb)


def test_batches_without_a_group_a_label_or_any_row_have_finite_gradients():
    model, params, _ = network("original")
    draw = draw_loss_weights(Range(np.full(2, 0.5)), trained_lam_range(SPEC))
    objective = per_task_with_drawn_weights(model, SPEC, draw, 4, notion=FPR, reduction="mean")
    full = batch_of(9)
    lone = full._replace(groups=full.groups * np.float32([1, 0]))
    unlabelled = full._replace(
        labels=np.full_like(full.labels, np.nan), label_mask=np.zeros_like(full.label_mask)
    )
    empty = full._replace(weight=np.zeros(B, np.float32))
    batches = jax.tree.map(lambda *a: np.stack(a), lone, unlabelled, empty)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def mapped(params, batch, key):
        memory = objective.init(None, batch)
        return jax.value_and_grad(lambda p: sum(objective.apply(p, batch, key, memory)[0]))(params)

    values, grads = mapped(params, batches, jax.random.split(jax.random.key(0), 3))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert values[0] > 0 and np.all(values[1:] == 0)


def test_a_number_of_blocks_that_does_not_divide_the_batch_is_refused():
    model, params, _ = network("original")
    objective = with_drawn_weights(
        model, ["a"], lambda s, b, memory: ([jnp.mean(s)], memory), uniform([1.0] * W, [2.0] * W), 5
    )
    with pytest.raises(ValueError, match="5 conditions for 12 rows"):
        objective.apply(params, batch_of(), jax.random.key(0), ())


def test_weights_are_drawn_as_they_say():
    key, count = jax.random.key(1), 4000
    low, high = np.array([0.1, 1.0]), np.array([10.0, 2.0])
    log = np.log(log_uniform(low, high)(key, count)) - np.log(low)
    np.testing.assert_allclose(
        np.quantile(log / np.log(high / low), [0.25, 0.5, 0.75], axis=0).T,
        [[0.25, 0.5, 0.75]] * 2,
        atol=0.04,
    )
    flat = (np.asarray(uniform(low, high)(key, count)) - low) / (high - low)
    np.testing.assert_allclose(
        np.quantile(flat, [0.25, 0.5, 0.75], axis=0).T, [[0.25, 0.5, 0.75]] * 2, atol=0.04
    )
    np.testing.assert_allclose(
        np.prod(normalised(log_uniform(low, high))(key, 50), axis=1), 1.0, rtol=1e-5
    )
    spec = tabular_spec(3)
    lam = np.asarray(
        draw_loss_weights(
            Range(np.full(3, 1 / 3), 0.0, 1.0, simplex=True), trained_lam_range(spec)
        )(key, count)
    )
    np.testing.assert_allclose(lam[:, :3].sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(
        lam[:, :3].var(axis=0), 1 / 18, atol=0.005
    )  # of a flat Dirichlet of three
    inner = lam[:, 3:] / lam[:, :3]
    assert (
        inner.min() >= 0.05 * 0.999
        and inner.max() <= 5.0 * 1.001
        and abs(np.median(inner) - 0.5) < 0.05
    )
    fixed = draw_loss_weights(Range(np.array([0.2, 0.8])), Range(np.array([1.0, 2.0])))(key, 2)
    np.testing.assert_allclose(fixed, [[0.2, 0.8, 0.2, 1.6]] * 2, rtol=1e-6)


# ----------------------------------------------------------------------- recipe, sweep, report


def evaluate(scores, data):
    """The metrics that a table needs, without the rest."""
    out = {}
    for split, s in scores.items():
        own = getattr(data, split)
        for t, task in enumerate(SPEC.tasks):
            out[f"{split}.error[{task.name}]"] = jnp.mean((s[:, t] > 0) != (own.labels[:, t] > 0.5))
            out[f"{split}.false_positive_rate_difference[{task.name}|a]"] = rate_gap(
                jax.nn.sigmoid(s[:, t]), own.groups, own.weight
            )
    return out


@pytest.mark.slow
def test_one_network_stands_in_for_a_sweep_of_baseline():
    data = splits(SPEC, 40)
    train_config = TrainConfig(2, 20)
    own = conditioned_network(SPEC, (4,), (3,), 2, condition=W, form=per_channel(3))
    context = Context.paper(SPEC, shared_bottom(SPEC, (4,), (3,), 2), 0.05, 20)
    recipe = yoto(FPR, model=own, blocks=2)(context)
    plain = baseline(FPR)(context)
    hparams = grid(
        plain.space,
        {"weight": [[0.2, 0.8], [0.5, 0.5]], "lam": [[0.0, 0.0], [1.0, 1.0], [2.0, 0.5]]},
    )
    seeds = [0, 1]
    trained = sweep(
        recipe, train_config, grid(recipe.space, {}), seeds, data, evaluate, keep=("params",)
    )
    runs = runs_for(recipe, trained, hparams, data, evaluate, chunk=4)
    apart = sweep(plain, train_config, hparams, seeds, data, evaluate)
    assert set(apart.metrics) == set(runs.metrics)
    for got, want in (
        (runs.point, apart.point),
        (runs.seed, apart.seed),
        (runs.hparams["lam"], apart.hparams["lam"]),
    ):
        np.testing.assert_array_equal(got, want)
    # the point that the network answers for unasked is point 4: equal weights, lam 1
    for name in runs.metrics:
        np.testing.assert_allclose(
            runs.metrics[name][8:10], trained.metrics[name], rtol=1e-4, atol=1e-5, err_msg=name
        )
    with pytest.raises(ValueError, match="one network per seed"):
        runs_for(recipe, trained._replace(seed=np.zeros(2, int)), hparams, data, evaluate)
    with pytest.raises(ValueError, match="kept no parameters"):
        runs_for(recipe, apart._replace(seed=np.arange(12)), hparams, data, evaluate)


def test_a_notion_that_counts_has_counts_of_its_own_in_every_block():
    model, params, _ = network("original")
    batch = batch_of(10)
    draw = uniform([0.5] * W, [2.0] * W)
    notion = differential_fairness(rho=0.5)
    objective = per_task_with_drawn_weights(model, SPEC, draw, 3, notion=notion, batch_size=B)
    memory = objective.init(None, batch)
    values, after = jax.jit(lambda m: objective.apply(params, batch, jax.random.key(0), m))(memory)
    ((before,), _), ((counts,), _) = memory, after
    assert counts.joint.shape == (3, 1, 2, 2, 2)
    np.testing.assert_array_equal(before.joint[0], before.joint[1])
    assert np.max(np.abs(counts.joint[0] - counts.joint[1])) > 1e-3
    np.testing.assert_array_equal(counts.steps, [1, 1, 1])
    assert np.isfinite(values).all()


# ----------------------------------------------------------------------- a frontier in closed form


def constant_rows(n: int) -> tuple[Spec, Dataset]:
    """Two regressions with conflicting targets and one constant feature."""
    spec = Spec((Task("up", "regression"), Task("down", "regression")), (), ("x",))
    return spec, Dataset(
        Columns(np.ones((n, 1), np.float32), np.zeros((n, 0), np.int32)),
        np.tile(np.float32([1.0, -1.0]), (n, 1)),
        np.ones((n, 2), np.float32),
        np.zeros((n, 0), np.float32),
        np.ones(n, np.float32),
    )


@pytest.mark.slow
def test_one_network_follows_the_frontier_of_networks_trained_apart():
    """Of one score s, ``a (s - 1)^2 + b (s + 1)^2`` is least at ``(a - b) / (a + b)``."""
    spec, data = constant_rows(16)
    setting = {"trunk": (12,), "head": (), "embedding": 1}
    asked = np.float32([[4.0, 0.25], [2.0, 1.0], [1.0, 1.0], [0.5, 2.0], [0.3, 3.0]])
    want = (asked[:, 0] - asked[:, 1]) / asked.sum(axis=1)

    def values(s, batch, memory=()):
        return [jnp.mean(batch.weight * (s[:, 0] - y) ** 2) for y in (1.0, -1.0)], memory

    def build(model, draw, blocks):
        rows = weighted(
            with_drawn_weights(model, ("up", "down"), values, draw, blocks), jnp.ones(2)
        )
        return Recipe(
            "toy",
            lambda hparams: Components(
                with_default_condition(model, jnp.ones(2)),
                rows,
                optax.chain(sum_rows(), optax.adam(optax.cosine_decay_schedule(0.02, 800))),
            ),
            {},
        )

    model = conditioned_network(spec, **setting, condition=2, form=per_channel(16))
    train = jax.jit(
        make_train(TrainConfig(800, 16, 100), build(model, log_uniform([0.2, 0.2], [5.0, 5.0]), 16))
    )
    state = train(jax.random.key(0), jax.random.key(1), {}, data).state
    one = np.asarray(scores_for(model, state.params, data.x, asked))[:, 0, 0]

    plain = shared_bottom(spec, **setting)

    @jax.jit
    @jax.vmap
    def apart(weight):
        rows = weighted(
            per_task(plain, spec), weight
        )  # the head of task down is given the first score too
        objective = rows._replace(
            apply=lambda p, b, k, m: (
                (
                    sum(
                        w * v
                        for w, v in zip(weight, values(scores(plain, p, b.x), b)[0], strict=True)
                    ),
                ),
                m,
            )
        )
        recipe = Recipe(
            "apart",
            lambda hparams: Components(plain, objective, optax.chain(sum_rows(), optax.adam(0.02))),
            {},
        )
        trained = make_train(TrainConfig(300, 16, 100), recipe)(
            jax.random.key(0), jax.random.key(1), {}, data
        )
        return scores(plain, trained.state.params, data.x)[0, 0]

    np.testing.assert_allclose(apart(asked), want, atol=1e-3)
    np.testing.assert_allclose(one, want, atol=0.05)


def test_a_gap_of_rows_weighed_apart_may_be_zero_where_no_gap_is():
    """Under weight 1 the groups differ by d, under weight 2 by -d/2."""
    groups, lam = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]], np.float32([1, 1, 2, 2])
    prob = np.float32([0.8, 0.4, 0.4, 0.6])
    mixed = jax.jit(rate_gap)(lam * prob, groups, np.ones(4, np.float32))
    apart = [rate_gap(prob[i : i + 2], groups[i : i + 2], np.ones(2, np.float32)) for i in (0, 2)]
    assert mixed == pytest.approx(0.0, abs=1e-6) and min(map(float, apart)) > 0.19


# ----------------------------------------------------------------------- the experiment


@pytest.mark.slow
def test_a_quick_run_of_the_experiment_leaves_tables_and_a_figure(data_dir, tmp_path):
    script = Path(__file__).resolve().parents[1] / "experiments" / "yoto.py"
    command = [sys.executable, script, "--quick", "--out", tmp_path]
    environment = os.environ | {"FAIRJAX_DATA": str(data_dir)}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    assert "one conditioned network" in process.stdout
    numbers = json.loads((tmp_path / "yoto.json").read_text())
    final = numbers["final"]["2"]
    assert final["ratio"] == 4
    assert final["share"][0] > 0
    assert set(numbers["grids"]) == {"1", "2", "4", "8"}
    assert numbers["grids"]["8"][0] == 1.0
    for name in ("tables.md", "yoto.png"):
        assert (tmp_path / name).stat().st_size > 500
