"""Variants of fairness transfer by name, BLIND, and the metrics they are judged by."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest
from cases import by_text, dataset, splits, tabular_spec

from fairjax.core.types import Attribute, Dataset, Spec, Task
from fairjax.data import Part, mask_supervision
from fairjax.methods import (
    VARIANTS,
    Context,
    blind,
    differential_penalty,
    sequential,
    settings,
    transfer,
    vanilla,
)
from fairjax.metrics import base_rates, evaluate_differential
from fairjax.models import shared_bottom
from fairjax.training import TrainConfig, make_train

A, B = 0, 1
SPEC = tabular_spec(2)
SETUP = Context.paper(SPEC, shared_bottom(SPEC, (5,), (), 2), 0.1, 16, reduction="mean")
DATA = mask_supervision(
    splits(SPEC, 60), SPEC, (Part(("task0",), ("a",)), Part(("task1",), ("a",)))
).train
PENALTIES = (differential_penalty(A, (0,)), differential_penalty(B, (0,)))
STATIC = TrainConfig(3, 16)
RATE = {"learning_rate": np.float32(0.1)}


TRANSFER = transfer(PENALTIES)(SETUP)
COMPILED = {}


def run(recipe, hparams, data=DATA, train_config=STATIC):
    which = recipe.build, train_config
    if which not in COMPILED:
        COMPILED[which] = jax.jit(make_train(train_config, recipe))
    return jax.tree.map(
        np.asarray,
        COMPILED[which](jax.random.key(0), jax.random.key(1), hparams | RATE, data).state,
    )


def hparams(variant, **how):
    return settings(variant, SPEC, PENALTIES, A, B, **how)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def apart(one, other):
    return max(
        np.abs(a - b).max()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_what_each_variant_switches_on():
    spec = Spec(SPEC.tasks, (Attribute("a", ("0", "1")), Attribute("b", ("x", "y"))))
    penalties = [
        differential_penalty(t, over) for t, over in itertools.product((A, B), ((0,), (1,), (0, 1)))
    ]
    on = {}
    for variant in VARIANTS:
        attributes = (0, 1) if variant.endswith("inter") else (0,)
        made = settings(variant, spec, penalties, B, A, lam=3.0, attributes=attributes)
        on[variant] = (
            made["weight"].tolist(),
            {
                (p.task, p.notion.attributes): float(v)
                for p, v in zip(penalties, made["lam"], strict=True)
                if v
            },
        )
    assert on == {
        "stl_base": ([0, 1], {}),
        "stl_fair": ([0, 1], {(B, (0,)): 3.0}),
        "mtl_base": ([1, 1], {}),
        "mtl_fair": ([1, 1], {(A, (0,)): 3.0}),
        "stl_inter": ([0, 1], {(B, (0, 1)): 3.0}),
        "mtl_inter": ([1, 1], {(B, (0,)): 3.0, (A, (1,)): 3.0}),
    }


def test_settings_say_what_is_missing():
    with pytest.raises(
        ValueError, match="'fair' is not one of stl_base, .*sequential and blind are methods"
    ):
        hparams("fair")
    with pytest.raises(ValueError, match="mtl_fair learns two tasks: give auxiliary="):
        settings("mtl_fair", SPEC, PENALTIES, A)
    with pytest.raises(
        ValueError, match=r"stl_fair needs a penalty on task 0 \('task0'\) over attributes \(0,\)"
    ):
        settings("stl_fair", SPEC, PENALTIES[1:], A)


def test_single_task_variants_never_look_at_the_other_task():
    recipe = TRANSFER
    flipped = DATA._replace(
        labels=np.where(DATA.label_mask[:, [B]] > 0, 1 - DATA.labels, DATA.labels)
    )
    one, other = (run(recipe, hparams("stl_fair"), data).params for data in (DATA, flipped))
    same(one, other)
    assert (
        apart(
            run(recipe, hparams("mtl_base"), DATA).params,
            run(recipe, hparams("mtl_base"), flipped).params,
        )
        > 1e-3
    )


def test_without_strength_transfer_is_multi_task_learning_bit_for_bit():
    recipe = TRANSFER
    base, fair = (
        run(recipe, hparams("mtl_base")).params,
        run(recipe, hparams("mtl_fair", lam=5.0)).params,
    )
    same(base, run(recipe, hparams("mtl_fair", lam=0.0)).params)
    balanced = vanilla()(SETUP)
    same(
        base,
        run(
            balanced._replace(
                build=lambda k: balanced.build(k)._replace(
                    sampler=recipe.build(hparams("mtl_base") | RATE).sampler
                )
            ),
            {"weight": np.ones(2, np.float32)},
        ).params,
    )
    assert apart(base["trunk"], fair["trunk"]) > 1e-3


def test_demographics_of_the_target_are_not_looked_at_by_mtl_fair():
    hidden = DATA._replace(groups=DATA.groups * DATA.label_mask[:, [B]])
    recipe = transfer(PENALTIES[1:])(SETUP)
    one = settings("mtl_fair", SPEC, PENALTIES[1:], A, B)
    same(run(recipe, one), run(recipe, one, hidden))


def test_penalties_out_of_reach_of_the_heads_leave_them_to_the_losses():
    """One step: with no reach the heads move as without a penalty, and the trunk as with one."""
    recipe, step = TRANSFER, TrainConfig(1, 60)
    none, full, out = (
        run(
            recipe,
            hparams("mtl_fair", lam=lam, head_penalty_scale=head_penalty_scale),
            train_config=step,
        ).params
        for lam, head_penalty_scale in ((0.0, 1.0), (5.0, 1.0), (5.0, 0.0))
    )
    same(out["heads"], none["heads"])
    same(out["trunk"], full["trunk"])
    assert apart(out["trunk"], none["trunk"]) > 1e-3 and apart(full["heads"], none["heads"]) > 1e-3


@pytest.mark.slow
def test_sequential_is_two_runs_one_after_the_other():
    recipe = sequential(PENALTIES[1:])(SETUP)
    given = {
        "weight": np.float32([0, 1]),
        "lam": np.float32([2.0]),
        "head_penalty_scale": np.float32(1),
        "then": np.float32([1, 0]),
        "until": np.float32(2),
    }
    whole = run(recipe, given, train_config=TrainConfig(4, 16))
    half = jax.jit(make_train(TrainConfig(2, 16), recipe))
    first = half(jax.random.key(0), jax.random.key(1), given | RATE, DATA).state
    assert bool(first.memory[0])
    same(first.opt_state, recipe.build(given | RATE).transform.init(first.params))  # begins anew
    alone = transfer(())(SETUP)
    stl = {
        "weight": np.float32([1, 0]),
        "lam": np.zeros(0, np.float32),
        "head_penalty_scale": given["head_penalty_scale"],
    }
    second = jax.jit(make_train(TrainConfig(2, 16), alone))(
        jax.random.key(0), jax.random.key(1), stl | RATE, DATA, first._replace(memory=())
    )
    same(whole.params, jax.tree.map(np.asarray, second.state.params))
    one_stage = {name: given[name] for name in ("weight", "lam", "head_penalty_scale")}
    before = run(transfer(PENALTIES[1:])(SETUP), one_stage, train_config=TrainConfig(2, 16))
    same(before.params, jax.tree.map(np.asarray, first.params))
    same(
        whole.params["heads"]["task1"], before.params["heads"]["task1"]
    )  # the second stage leaves head B alone


@pytest.mark.slow
def test_blind_without_gamma_is_single_task_learning_and_with_it_is_not():
    plain = run(TRANSFER, hparams("stl_base")).params
    off, on = (
        run(blind(5)(SETUP), {"weight": np.float32([1, 0]), "gamma": np.float32(g)}).params
        for g in (0.0, 3.0)
    )
    detector = off["heads"].pop("success")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, off)
    assert np.abs(detector["kernel"][:, A]).max() > 0 and not detector["kernel"][:, B].any()
    on["heads"].pop("success")
    assert apart(plain, on) > 1e-3
    with pytest.raises(ValueError, match="'wage' is of kind regression"):
        blind(5)(SETUP._replace(spec=Spec((Task("wage", "regression"),), SPEC.attributes)))


def test_blind_weighs_rows_by_what_is_foreseen():
    """Its loss and its gradients against numpy, with a detector that was moved from its start."""
    recipe = blind(5)(SETUP)
    parts = recipe.build({"weight": np.float32([1, 0]), "gamma": np.float32(2.0)} | RATE)
    params = parts.model.init(jax.random.key(3))
    rng = np.random.default_rng(0)
    params["heads"]["success"] = {
        "kernel": rng.normal(size=(5, 2)).astype(np.float32),
        "bias": np.float32([0.3, 0.0]),
    }
    z = np.asarray(parts.model.represent(params["trunk"], DATA.x), float)
    f = np.asarray(parts.model.predict(params["heads"], z), float)[:, A]
    s = z @ params["heads"]["success"]["kernel"][:, A] + 0.3
    y, m = DATA.labels[:, A], DATA.label_mask[:, A] * DATA.weight
    loss = np.log1p(np.exp(f)) - y * f
    right = (f >= 0) == (y > 0.5)
    q = np.where(right, 1 / (1 + np.exp(-s)), 1 / (1 + np.exp(s)))
    want = ((1 - q) ** 2 * loss - np.log(q)) @ m / m.sum()
    value, grad = jax.jit(
        jax.value_and_grad(lambda p: parts.objective.apply(p, DATA, None, ())[0][0])
    )(params)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    detector = np.where(right, q - 1, 1 - q) @ (m[:, None] * z) / m.sum()
    np.testing.assert_allclose(
        grad["heads"]["success"]["kernel"][:, A], detector, rtol=1e-4, atol=1e-6
    )


# ----------------------------------------------------------------------------------------- metrics


def brute_epsilon(decision, label, group):
    """Equalized-odds epsilon of a binary task by loops, add-one, as the paper's code evaluates."""
    total = 0.0
    for value in (1, 0):
        logs = []
        for g in set(group[group >= 0].tolist()):
            rows = (group == g) & (label == value)
            logs.append(np.log((decision[rows].sum() + 1) / (rows.sum() + 1)))
        total += max(logs) - min(logs)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_epsilons_of_decisions_are_those_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    n = 300
    spec = Spec(
        (Task("t"), Task("c", "multiclass", ("x", "y", "z")), Task("r", "regression")),
        (Attribute("a", ("0", "1")), Attribute("b", ("x", "y", "z"))),
    )
    a, b = rng.integers(0, 2, n), rng.integers(-1, 3, n)  # of some, b is unknown
    groups = np.concatenate([np.eye(2)[a], np.eye(3)[b] * (b >= 0)[:, None]], axis=1).astype(
        np.float32
    )
    labels = np.stack([rng.integers(0, 2, n), rng.integers(0, 3, n), rng.normal(size=n)], 1).astype(
        np.float32
    )
    mask = (rng.random((n, 3)) < 0.9).astype(np.float32)
    data = Dataset(
        (),
        np.where(mask > 0, labels, np.nan).astype(np.float32),
        mask,
        groups,
        np.ones(n, np.float32),
    )
    scores = rng.normal(size=(n, 5)).astype(np.float32) + a[:, None]
    rate = base_rates(spec, data)
    cross = [(0,), (0, 1)]
    got = by_text(jax.jit(lambda s: evaluate_differential(spec, s, data, rate, cross))(scores))
    known = mask[:, 0] > 0
    decision, cell = scores[:, 0] >= 0, np.where(b >= 0, a * 3 + b, -1)
    for name, group in (("a", a), ("a & b", cell)):
        want = brute_epsilon(decision[known], labels[known, 0], group[known])
        np.testing.assert_allclose(
            got[f"differential_equalized_odds@0.5[t|{name}]"], want, rtol=1e-5
        )
        rates = [
            (decision[group == g].sum() + 0.5) / ((group == g).sum() + 1)
            for g in range(group.max() + 1)
        ]
        want = max(abs(np.log(p / q)) for p, q in itertools.permutations([*rates], 2))
        want = max(
            want, max(abs(np.log((1 - p) / (1 - q))) for p, q in itertools.permutations(rates, 2))
        )
        np.testing.assert_allclose(got[f"differential_fairness@0.5[t|{name}]"], want, rtol=1e-5)
    from sklearn.metrics import f1_score

    np.testing.assert_allclose(
        got["macro_f1@0.5[t]"],
        f1_score(labels[known, 0], decision[known], average="macro"),
        rtol=1e-5,
    )
    third, choice = mask[:, 1] > 0, scores[:, 1:4].argmax(1)
    np.testing.assert_allclose(
        got["macro_f1[c]"], f1_score(labels[third, 1], choice[third], average="macro"), rtol=1e-5
    )
    worst = 0.0
    for above in (True, False):
        logs = np.full((2, 3), np.nan)
        for g, k in itertools.product(range(2), range(3)):
            rows = third & (a == g) & ((labels[:, 1] == k) == above)
            more = 1 if above else 2
            logs[g, k] = np.log(((choice[rows] == k).sum() + more) / (rows.sum() + more))
        worst += np.ptp(logs, axis=0).max()
    np.testing.assert_allclose(got["differential_equalized_odds[c|a]"], worst, rtol=1e-5)
    assert not any("[r" in name for name in got)


def test_epsilon_of_one_group_alone_is_not_known():
    data = dataset(SPEC, 20, 0)
    data = data._replace(groups=np.tile(np.float32([1, 0]), (20, 1)))
    scores = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    got = by_text(evaluate_differential(SPEC, scores, data, base_rates(SPEC, data), [(0,)]))
    assert np.isnan(got["differential_equalized_odds[task0|a]"]) and np.isfinite(
        got["macro_f1[task0]"]
    )
