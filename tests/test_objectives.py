"""Named rows: values against loops over rows, and the identities that define MTA-F."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import (
    brute_exclusive,
    brute_gap,
    brute_gaussian,
    brute_mmd,
    brute_select,
    dataset,
    pad,
    slope,
    tabular_spec,
    terms_of,
)

from fairjax import notions, objectives
from fairjax.core.types import Attribute, Columns, Dataset, Objective, Spec, Task
from fairjax.gradients import route, value_and_rows
from fairjax.methods import Context, mta_f
from fairjax.models import scores, shared_bottom
from fairjax.notions import Notion, everyone, from_distance, negatives, positives

B = 16
FPR = from_distance(notions.rate_gap, (negatives,))
TPR = from_distance(notions.rate_gap, (positives,))
ODDS = from_distance(notions.rate_gap, (negatives, positives))
PARITY = from_distance(notions.rate_gap, (everyone,))
MMD = from_distance(notions.gaussian_mmd, (negatives,))
WEIGHT, LAM, R = (
    np.array(v, np.float32) for v in ([0.3, 0.7, 0.4], [1.5, 0.8, 2.0], [0.6, 1.7, 0.3])
)


@functools.cache
def network(tasks: int):
    """A small shared-bottom network, its spec and parameters."""
    spec = tabular_spec(tasks)
    model = shared_bottom(spec, (5,), (4,), 3)
    return spec, model, jax.jit(model.init)(jax.random.key(tasks))


METHODS = ("trunk", "heads", "baseline", "vanilla")


def program(tasks: int = 2, notion: Notion = FPR, scale_trunk: bool = True):
    """``(params, batch, weight, lam, r) -> values[4], rows`` of all methods at once."""
    spec, model, _ = network(tasks)

    def run(params, batch, weight, lam, r):
        both = objectives.mta_f(
            model, spec, notion=notion, weight=weight, lam=lam, r=r, scale_trunk=scale_trunk
        )
        baseline = objectives.weighted(
            objectives.per_task(model, spec, notion=notion, lam=lam), weight
        )
        vanilla = objectives.weighted(objectives.per_task(model, spec), weight)

        def losses(p):
            values = ()
            for objective in (both, baseline, vanilla):
                values += objective.apply(p, batch, None, objective.init(None, batch))[0]
            return values

        return value_and_rows(losses)(params)

    return run


@functools.cache
def compiled(*how, **also):
    """A program, compiled once for the file."""
    return jax.jit(program(*how, **also))


def run(batch, weight=WEIGHT, lam=LAM, r=R, tasks=2, **how):
    """Every method's value and gradient by name: ``{"trunk": (value, gradient), ...}``."""
    values, rows = compiled(tasks=tasks, **how)(
        network(tasks)[2], batch, *(np.float32(v)[:tasks] for v in (weight, lam, r))
    )
    return {
        name: (values[k], jax.tree.map(lambda a, k=k: a[k], rows)) for k, name in enumerate(METHODS)
    }


def agree(one, two, rtol=1e-5, atol=1e-6):
    """Equal values and gradients, leaf by leaf."""
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(path))


def differ(one, two, by=1e-3):
    assert (
        max(
            np.max(np.abs(a - b))
            for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
        )
        > by
    )


def combine(*terms):
    """``sum_i factor_i tree_i`` over (factor, tree)."""
    return jax.tree.map(
        lambda *leaves: sum(f * a for (f, _), a in zip(terms, leaves, strict=True)),
        *(t for _, t in terms),
    )


def batch_of(seed=0, tasks=2, **how) -> Dataset:
    return dataset(network(tasks)[0], B, seed, **how)


# ------------------------------------------------------------------ values against loops over rows


def brute_terms(
    prob, batch: Dataset, conditions, distance, task: int, exclusively=False, reduction="batch"
) -> float:
    """A task's fairness loss by loops in float64."""
    total = 0.0
    for condition in conditions:
        select = (
            brute_exclusive(condition, batch.labels, batch.label_mask, task)
            if exclusively
            else brute_select(condition, batch.labels[:, task], batch.label_mask[:, task])
        )
        weight = batch.weight * select * (batch.groups.sum(1) > 0)
        n = weight.sum() / len(weight) if reduction == "batch" else 1.0
        total += n * distance(prob[:, task], batch.groups, weight)
    return total


def brute_accuracy(logits, batch: Dataset, task: int, reduction="batch") -> float:
    """A task's cross-entropy by a loop over rows."""
    total = mass = 0.0
    for i in range(len(logits)):
        if batch.label_mask[i, task]:
            f, y = float(logits[i, task]), float(batch.labels[i, task])
            total += batch.weight[i] * -np.log(1 / (1 + np.exp(-f if y == 1 else f)))
            mass += batch.weight[i]
    return total / (len(logits) if reduction == "batch" else mass)


def brute_rows(logits, batch, conditions, distance, weight, lam, r, reduction="batch"):
    """The trunk's and the heads' objective from the table of the paper's code."""
    prob = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    trunk = heads = 0.0
    for t in range(prob.shape[1]):
        loss = brute_accuracy(logits, batch, t, reduction)
        a, e = (
            brute_terms(prob, batch, conditions, distance, t, which, reduction)
            for which in (False, True)
        )
        trunk += weight[t] * (loss + lam[t] * (a - r[t] * e))
        heads += weight[t] * (loss + lam[t] * r[t] * e)
    return trunk, heads


NOTIONS = {
    "fpr": (FPR, ("negatives",)),
    "tpr": (TPR, ("positives",)),
    "odds": (ODDS, ("negatives", "positives")),
    "parity": (PARITY, ("everyone",)),
}


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_both_rows_are_a_loop_over_rows_and_tasks(tasks):
    spec, model, params = network(tasks)
    batch = batch_of(3, tasks, missing=0.2, unknown=0.3, weighted=True)
    logits = np.asarray(scores(model, params, batch.x)) * 3

    @jax.jit
    def ours(logits):
        def rows(notion, reduction):
            terms = terms_of(spec, logits, batch, notion, reduction)
            return objectives.mta_f_rows(*terms, WEIGHT, LAM, R)

        return {
            (name, how): rows(notion, how)
            for name, (notion, _) in NOTIONS.items()
            for how in ("batch", "mean")
        }

    for (name, reduction), got in ours(logits).items():
        want = brute_rows(logits, batch, NOTIONS[name][1], brute_gap, WEIGHT, LAM, R, reduction)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6, err_msg=f"{name} {reduction}")


def test_a_single_task_is_exclusive_to_itself():
    got = run(batch_of(tasks=1), tasks=1, r=np.ones(3))
    agree(got["heads"], got["baseline"])
    agree(got["trunk"], got["vanilla"])


def test_a_single_task_of_classes_is_exclusive_to_itself_on_the_notions_rows():
    spec = Spec((Task("m", "multiclass", ("x", "y", "z")),), (Attribute("a", ("0", "1")),))
    rng = np.random.default_rng(0)
    label, member = (
        rng.integers(0, 3, B),
        np.eye(2, dtype=np.float32)[rng.permutation(np.arange(B) % 2)],
    )
    ones, logits = np.ones((B, 1), np.float32), rng.normal(size=(B, 3)).astype(np.float32)
    batch = Dataset((), label[:, None].astype(np.float32), ones, member, ones[:, 0])
    terms = terms_of(spec, logits, batch, FPR, "mean")
    soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    want = sum(brute_gap(soft[:, c], member, label != c) for c in range(3))
    np.testing.assert_allclose([terms.fairness[0], terms.exclusive[0]], [want, want], rtol=1e-5)


def test_tasks_of_every_kind_have_notions_of_their_own():
    tasks = (Task("b"), Task("m", "multiclass", ("x", "y", "z")), Task("r", "regression"))
    spec = Spec(tasks, (Attribute("a", ("0", "1")), Attribute("c", ("0", "1"))), ("x0",))
    rng = np.random.default_rng(0)
    labels = np.stack([rng.integers(0, 2, B), rng.integers(0, 3, B), rng.normal(size=B)], 1).astype(
        np.float32
    )
    groups = np.concatenate(
        [np.eye(2)[rng.permutation(np.arange(B) % 2)] for _ in range(2)], 1
    ).astype(np.float32)
    batch = Dataset((), labels, np.ones_like(labels), groups, np.ones(B, np.float32))
    logits = rng.normal(size=(B, 5)).astype(np.float32)
    terms = jax.jit(lambda f: terms_of(spec, f, batch, (FPR, PARITY, PARITY)))(logits)
    fairness = terms.fairness
    soft = np.exp(logits[:, 1:4]) / np.exp(logits[:, 1:4]).sum(1, keepdims=True)
    ones = np.ones(B)
    blocks = groups[:, :2], groups[:, 2:]
    np.testing.assert_allclose(
        fairness[1],
        sum(brute_gap(soft[:, c], g, ones) for g in blocks for c in range(3)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        fairness[2], sum(brute_gap(logits[:, 4], g, ones) for g in blocks), rtol=1e-5
    )
    n = labels[:, 0] == 0
    prob = 1 / (1 + np.exp(-logits[:, 0]))
    np.testing.assert_allclose(
        fairness[0], sum(brute_gap(prob, g, n) for g in blocks) * n.mean(), rtol=1e-5
    )
    assert terms.exclusive[1] == 0 and terms.exclusive[2] == 0
    worst_class = from_distance(
        notions.rate_gap, (negatives,), attributes=(1,), average=notions.worst
    )
    none, second, _ = jax.jit(
        lambda f: terms_of(spec, f, batch, (None, worst_class, PARITY), "mean")
    )(logits).fairness
    assert none == 0  # of several classes each against the rest
    np.testing.assert_allclose(
        second,
        max(brute_gap(soft[:, c], blocks[1], labels[:, 1] != c) for c in range(3)),
        rtol=1e-5,
    )
    with pytest.raises(
        ValueError,
        match=r"'r' is of kind regression, but has a notion on negatives.*mean_residual",
    ):
        objectives.fairness_terms(spec, FPR)
    with pytest.raises(
        ValueError,
        match=r"'b' is of kind binary, .* for regression tasks.*equal_opportunity.*auc_parity",
    ):
        objectives.fairness_terms(spec, notions.get("mean_residual_parity"))
    with pytest.raises(ValueError, match="2 notions for 3 tasks"):
        objectives.fairness_terms(spec, (FPR, None))


def test_weighted_adds_named_rows_up():
    def apply(params, batch, key, memory):
        return (params, 2 * params), memory + 1

    inner = Objective(("a", "b"), lambda key, data: data, apply)
    total = objectives.weighted(inner, jnp.array([0.5, 3.0]))
    assert total.rows == ("total",) and total.init(None, 5) == 5
    (value,), memory = total.apply(2.0, None, None, 1)
    assert value == 0.5 * 2 + 3 * 4 and memory == 2


def test_two_batches_are_the_halves_of_one():
    """Their rows are halved losses of every second row, and the memory passes from half to half."""

    def values(params, batch, key, memory):
        return (jnp.mean(batch.labels) * params, jnp.sum(batch.weight)), memory + 1

    one = Objective(("a", "b"), lambda key, data: jnp.zeros(()), values)
    two = objectives.on_two_batches(one)
    batch = Dataset(
        (), jnp.arange(6.0)[:, None], jnp.ones((6, 1)), jnp.ones((6, 2)), jnp.arange(6.0)
    )
    got, memory = two.apply(2.0, batch, jax.random.key(0), two.init(None, batch))
    assert two.rows == ("a", "b", "a, second batch", "b, second batch") and memory == 2.0
    np.testing.assert_allclose(got, [2.0, 3.0, 3.0, 4.5])
    with pytest.raises(ValueError, match="a batch of 5 rows has no halves"):
        short = jax.tree.map(lambda leaf: leaf[:5], batch)
        two.apply(2.0, short, jax.random.key(0), jnp.zeros(()))


def test_rows_have_names():
    spec, model, _ = network(2)
    assert objectives.per_task(model, spec).rows == ("task0", "task1")
    ones = np.ones(2)
    assert objectives.mta_f(model, spec, notion=FPR, weight=ones, lam=ones, r=ones).rows == (
        "trunk",
        "heads",
    )


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="'batch' or 'mean', got 'sum'"):
        objectives.fairness_terms(network(2)[0], FPR, reduction="sum")


def test_rows_of_fairness_need_a_notion():
    spec, model, _ = network(2)
    with pytest.raises(ValueError, match="split=True needs a notion"):
        objectives.per_task(model, spec, split=True)


# ----------------------------------------------------------------------------- identities of MTA-F


@pytest.mark.parametrize(
    "notion, tasks",
    [(FPR, 2), (ODDS, 2), (MMD, 2), (ODDS, 3)],
    ids=["fpr", "odds", "mmd", "three tasks"],
)
def test_1_head_and_shared_fairness_add_up_to_the_baselines(notion, tasks):
    batch = batch_of(1, tasks, missing=0.1, unknown=0.1)
    for r in (R, np.zeros(3), np.full(3, 2.5)):
        got = run(batch, r=r, tasks=tasks, notion=notion)
        agree(combine((1, got["trunk"]), (1, got["heads"]), (-1, got["vanilla"])), got["baseline"])


def test_2_with_identical_labels_heads_are_accuracy_only():
    batch = batch_of(2)
    got = run(batch._replace(labels=np.repeat(batch.labels[:, :1], 2, axis=1)))
    agree(got["heads"], got["vanilla"])
    agree(got["trunk"], got["baseline"])
    differ(got["trunk"], got["heads"])


def disjoint(batch: Dataset) -> Dataset:
    """No row negative on both tasks; some positive on both."""
    first = batch.labels[:, 0]
    return batch._replace(labels=np.stack([first, np.where(first == 0, 1, batch.labels[:, 1])], 1))


def test_3_with_disjoint_negatives_and_r_1_the_trunk_gets_no_fairness():
    got = run(disjoint(batch_of(4)), r=np.ones(3))
    agree(got["trunk"], got["vanilla"])
    agree(got["heads"], got["baseline"])
    differ(got["trunk"], got["heads"])


@pytest.mark.parametrize(
    "notion, tasks", [(FPR, 2), (ODDS, 2), (ODDS, 3)], ids=["fpr", "odds", "three tasks"]
)
def test_4_with_r_0_fairness_is_in_the_trunk_alone(notion, tasks):
    got = run(batch_of(5, tasks), r=np.zeros(3), tasks=tasks, notion=notion)
    agree(got["heads"], got["vanilla"])
    agree(got["trunk"], got["baseline"])
    differ(got["trunk"], got["heads"])


def test_5_without_lambda_all_methods_coincide():
    got = run(batch_of(6), lam=np.zeros(3))
    for name in METHODS[:3]:
        agree(got[name], got["vanilla"])


def test_5_one_task_with_all_the_weight_is_single_task_learning():
    batch = batch_of(6)
    value, gradient = run(batch, weight=[1, 0])["vanilla"]
    spec, _, params = network(2)
    alone = Spec(spec.tasks[:1], spec.attributes, spec.numeric, spec.categorical)
    single = objectives.per_task(shared_bottom(alone, (5,), (4,), 3), alone)
    only = batch._replace(labels=batch.labels[:, :1], label_mask=batch.label_mask[:, :1])
    params = {"trunk": params["trunk"], "heads": {"task0": params["heads"]["task0"]}}
    want, wanted = jax.jit(jax.value_and_grad(lambda p: single.apply(p, only, None, ())[0][0]))(
        params
    )
    np.testing.assert_allclose(value, want, rtol=1e-6)
    agree({"trunk": gradient["trunk"], "heads": {"task0": gradient["heads"]["task0"]}}, wanted)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["heads"]["task1"]))


def test_6_what_task_1_wants_does_not_move_head_2():
    batch = batch_of(1)
    before = run(batch)["heads"][1]["heads"]
    after = run(batch, weight=[0.9, 0.7], lam=[4, 0.8], r=[3, 1.7])["heads"][1]["heads"]
    agree(after["task1"], before["task1"])
    differ(after["task0"], before["task0"])


def test_6_the_trunk_row_never_reaches_the_heads_nor_the_heads_row_the_trunk():
    params = network(2)[2]
    rows = jax.tree.map(
        lambda a: a[:2], compiled(tasks=2)(params, batch_of(7), WEIGHT[:2], LAM[:2], R[:2])[1]
    )
    link = route({"trunk": 0, "heads": 1})
    want, _ = link.update(rows, link.init(params), params)
    poisoned = {
        "trunk": jax.tree.map(lambda a: a.at[1].set(jnp.nan), rows["trunk"]),
        "heads": jax.tree.map(lambda a: a.at[0].set(jnp.nan), rows["heads"]),
    }
    agree(link.update(poisoned, link.init(params), params)[0], want, rtol=0, atol=0)


def test_7_the_shared_part_is_not_the_loss_on_the_common_negatives():
    spec, model, params = network(2)
    batch = batch_of(8)
    logits = scores(model, params, batch.x) * 3
    prob = 1 / (1 + np.exp(-np.asarray(logits)))
    terms = terms_of(spec, logits, batch, FPR)
    common = np.all(batch.labels == 0, axis=1)
    inside = brute_gap(prob[:, 0], batch.groups, common) * common.mean()
    assert abs(float(terms.fairness[0] - terms.exclusive[0]) - inside) > 1e-2


def test_8_a_large_r_makes_the_trunk_less_fair_on_exclusive_rows():
    got = run(disjoint(batch_of(4)), r=np.full(3, 3.0))
    assert got["trunk"][0] < got["vanilla"][0]
    # F = E here, so (1 - r) F is left for the trunk: the baseline's gradient, reversed and doubled
    agree(
        combine((1, got["trunk"]), (-1, got["vanilla"])),
        combine((-2, got["baseline"]), (2, got["vanilla"])),
    )


# ------------------------------------------------------------------------------ readings and cases


def test_with_r_in_the_heads_alone_the_trunk_does_not_know_r():
    batch = batch_of(1)
    one, two = (run(batch, r=r, scale_trunk=False) for r in (R, 2 * R))
    agree(one["trunk"], two["trunk"], rtol=0, atol=0)
    differ(one["heads"], two["heads"])
    both = run(batch)
    agree(one["heads"], both["heads"])
    differ(one["trunk"], both["trunk"])
    agree(one["trunk"], run(batch, r=np.ones(3))["trunk"])


def test_equalized_odds_adds_the_pair_of_terms_of_both_conditions():
    fpr, tpr, odds = (run(batch_of(10), notion=n) for n in (FPR, TPR, ODDS))
    for row in ("trunk", "heads", "baseline"):
        agree(odds[row], combine((1, fpr[row]), (1, tpr[row]), (-1, odds["vanilla"])))


def test_rows_without_demographics_count_for_accuracy_alone():
    batch = batch_of(11)
    known = np.arange(B) < 11
    partial = run(batch._replace(groups=batch.groups * known[:, None]))
    fewer = run(batch._replace(weight=batch.weight * known))
    for row in ("trunk", "heads", "baseline"):
        agree(
            combine((1, partial[row]), (-1, partial["vanilla"])),
            combine((1, fewer[row]), (-1, fewer["vanilla"])),
        )
    agree(partial["vanilla"], run(batch)["vanilla"])
    differ(partial["vanilla"], fewer["vanilla"])


def test_without_any_demographics_everything_is_vanilla():
    batch = batch_of(11)
    got = run(batch._replace(groups=0 * batch.groups), notion=MMD)
    for name in METHODS[:3]:
        agree(got[name], got["vanilla"])


def test_padding_is_exact():
    batch = batch_of(12, missing=0.2, unknown=0.2, weighted=True)
    small = jax.tree.map(lambda a: a[:12], batch)
    padded, want = run(pad(small, 4)), run(small)
    agree(padded, jax.tree.map(lambda a: a * 12 / 16, want), rtol=2e-5)


def test_nan_labels_under_the_mask_change_nothing():
    batch = batch_of(13, missing=0.4)
    assert np.isnan(batch.labels).any()
    agree(
        run(batch), run(batch._replace(labels=np.nan_to_num(batch.labels, nan=1.0))), rtol=0, atol=0
    )


def test_an_empty_batch_is_zero_with_zero_gradient():
    batch = batch_of(14)
    nothing = run(batch._replace(weight=0 * batch.weight), notion=MMD)
    agree(nothing, jax.tree.map(jnp.zeros_like, nothing), rtol=0, atol=0)


def test_half_precision_parameters_are_finite():
    params, hparams = network(2)[2], (WEIGHT[:2], LAM[:2], R[:2])
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    values, rows = compiled(tasks=2)(half, batch_of(), *hparams)
    np.testing.assert_allclose(
        values, compiled(tasks=2)(params, batch_of(), *hparams)[0], atol=0.05
    )
    assert all(np.all(np.isfinite(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(rows))


def test_vmap_over_knobs_is_a_loop():
    lams, batch, params = (
        np.array([[0.0, 1], [2, 3], [5, 0]], np.float32),
        batch_of(15),
        network(2)[2],
    )
    together = jax.jit(jax.vmap(program(notion=FPR), (None, None, None, 0, None)))(
        params, batch, WEIGHT[:2], lams, R[:2]
    )
    for i, lam in enumerate(lams):
        agree(
            jax.tree.map(lambda a, i=i: a[i], together),
            compiled(tasks=2)(params, batch, WEIGHT[:2], lam, R[:2]),
        )


# -------------------------------------------------------- one step of the paper's code, in float64


def brute_forward(flat: np.ndarray, shapes, x: np.ndarray) -> np.ndarray:
    """Logits of a trunk of one ReLU layer and linear heads."""
    parts, at = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        parts.append(flat[at : at + size].reshape(shape))
        at += size
    w, b, *heads = parts
    z = np.maximum(x @ w + b, 0)
    return np.stack([z @ v + c for v, c in zip(heads[::2], heads[1::2], strict=True)], 1)


@pytest.mark.parametrize(
    "name, notion, distance",
    [("gap", FPR, brute_gap), ("mmd", MMD, brute_mmd(brute_gaussian(0.1)))],
    ids=["gap", "mmd"],
)
def test_one_step_is_the_papers_update(name, notion, distance):
    """Sums over the batch, both gradients at one point by finite differences, Adagrad from 0.1."""
    spec = tabular_spec(2, 2, ())
    model, rate, hparams = (
        shared_bottom(spec, (4,), ()),
        0.05,
        {"weight": WEIGHT[:2], "lam": LAM[:2], "r": R[:2]},
    )
    batch = dataset(spec, B, 21, unknown=0.2)
    rng = np.random.default_rng(4)
    shapes = [(2, 4), (4,), (4,), (), (4,), ()]
    flat = rng.normal(size=sum(int(np.prod(s)) for s in shapes))

    def objective(theta, which):
        logits = brute_forward(theta, shapes, batch.x.numeric.astype(np.float64))
        return B * brute_rows(logits, batch, ("negatives",), distance, *hparams.values())[which]

    trunk = np.arange(flat.size) < 12
    gradient = np.where(trunk, *(slope(lambda th, k=k: objective(th, k), flat) for k in (0, 1)))
    want = flat - rate * gradient / np.sqrt(0.1 + gradient**2)

    def tree(v):
        head = {
            f"task{t}": {
                "output": {
                    "kernel": v[12 + 5 * t : 16 + 5 * t, None],
                    "bias": v[16 + 5 * t : 17 + 5 * t],
                }
            }
            for t in range(2)
        }
        return jax.tree.map(
            jnp.float32,
            {
                "trunk": {
                    "embedding": np.zeros((0, 10)),
                    "kernel": v[:8].reshape(2, 4),
                    "bias": v[8:12],
                },
                "heads": head,
            },
        )

    recipe = mta_f(notion)(Context.paper(spec, model, rate, B))
    parts = recipe.build({**hparams, "learning_rate": rate})

    @jax.jit
    def step(params):
        memory = parts.objective.init(None, batch)
        _, rows = value_and_rows(lambda p: parts.objective.apply(p, batch, None, memory)[0])(params)
        updates, _ = parts.transform.update(rows, parts.transform.init(params), params)
        return optax.apply_updates(params, updates)

    agree(step(tree(flat)), tree(want), rtol=1e-4, atol=2e-5)
    assert isinstance(batch.x, Columns) and np.max(np.abs(want - flat)) > 0.02
