"""Settings of training: smoothing, class weights, schedules and dropout, fixed or drawn."""

from __future__ import annotations

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import fairjax, splits, tabular_spec
from scipy.special import expit, softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from fairjax import methods, models, notions, objectives, training
from fairjax.core.tables import read_csv
from fairjax.core.types import Attribute, DataError, Dataset, Range, Spec, Task
from fairjax.data import Prepared, Roles, from_table
from fairjax.losses import Supervision, balanced_class_weights, row_losses
from fairjax.methods import Context
from fairjax.study import (
    NamedStudy,
    Point,
    StudyConfig,
    from_names,
    load_results,
    make_study,
    named_study,
)
from fairjax.study.saved import train_params
from fairjax.training import member, schedule_of, sweep

BINARY, NUMBER = Task("b"), Task("r", "regression")
CLASSES, LABELS = Task("m", "multiclass", ("x", "y", "z")), Task("l", "multilabel", ("p", "q"))
KINDS = Spec((BINARY, CLASSES, LABELS, NUMBER), (Attribute("a", ("0", "1")),))
SPEC = tabular_spec()
DATA = splits(SPEC, n=40)
FPR = notions.from_distance(notions.rate_gap, (notions.negatives,))


def problem(task: Task, rows: int = 12):
    """Scores, labels and a mask of ones, float64."""
    rng = np.random.default_rng(4)
    scores = 2 * rng.normal(size=(rows, task.score_width))
    classes = len(task.levels) if task.kind == "multiclass" else 2
    labels = rng.integers(0, classes, (rows, task.label_width)).astype(float)
    if task.kind == "regression":
        labels = rng.normal(size=labels.shape)
    return scores, labels, np.ones_like(labels)


def prepared(rows: int = 90) -> Prepared:
    rng = np.random.default_rng(1)
    sex = rng.choice(["f", "m"], rows)
    skill = rng.normal(size=rows) + (sex == "m")
    columns = {
        "skill": skill,
        "sex": sex,
        "hired": (skill + rng.normal(size=rows) > 1.2).astype(int),
        "passed": (skill + rng.normal(size=rows) > 0).astype(int),
    }
    return from_table(columns, Roles(tasks=("hired", "passed"), sensitive=("sex",)))


# ------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("smoothing", (0.0, 0.1, 1.0))
def test_smoothing_of_two_classes_is_log_loss_of_both_labels_by_their_shares(smoothing):
    scores, labels, mask = problem(BINARY)
    found, _ = row_losses(BINARY, jnp.asarray(scores), jnp.asarray(labels), mask, smoothing)
    share = (1 - smoothing) * labels[:, 0] + smoothing / 2
    both = np.repeat([1, 0], len(scores))
    want = log_loss(
        both, np.tile(expit(scores[:, 0]), 2), sample_weight=np.concatenate([share, 1 - share])
    )
    np.testing.assert_allclose(np.mean(found), want, rtol=1e-5)


@pytest.mark.parametrize("smoothing", (0.0, 0.3))
def test_smoothing_of_many_classes_is_the_cross_entropy_of_soft_labels(smoothing):
    scores, labels, mask = problem(CLASSES)
    found, _ = row_losses(CLASSES, jnp.asarray(scores), jnp.asarray(labels), mask, smoothing)
    soft = (1 - smoothing) * np.eye(3)[labels[:, 0].astype(int)] + smoothing / 3
    want = -np.sum(soft * np.log(softmax(scores, axis=1)), axis=1)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    rows = np.repeat(np.arange(3), len(scores))
    prob = np.tile(softmax(scores, axis=1), (3, 1))
    np.testing.assert_allclose(
        np.mean(found), log_loss(rows, prob, sample_weight=soft.T.ravel()), rtol=1e-5
    )


def test_the_labels_of_a_row_are_smoothed_one_by_one():
    scores, labels, mask = problem(LABELS)
    found, _ = row_losses(LABELS, jnp.asarray(scores), jnp.asarray(labels), mask, 0.2)
    soft = 0.8 * labels + 0.1
    want = -soft * np.log(expit(scores)) - (1 - soft) * np.log(expit(-scores))
    np.testing.assert_allclose(found, want.sum(axis=1), rtol=1e-5)


def kinds(rows: int = 60, missing: float = 0.3) -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.concatenate([problem(task, rows)[1] for task in KINDS.tasks], axis=1)
    labels[:, 0] = rng.random(rows) < 0.15
    labels[:, 1] = np.where(labels[:, 1] == 2, 0, labels[:, 1])  # nobody is of the last class
    mask = (rng.random(labels.shape) >= missing).astype(np.float32)
    weight = rng.integers(0, 4, rows).astype(np.float32)
    labels = np.where(mask > 0, labels, np.nan).astype(np.float32)
    return Dataset((), labels, mask, np.zeros((rows, 2), np.float32), weight)


balanced = jax.jit(balanced_class_weights, static_argnums=0)


def test_balanced_weights_are_those_of_scikit_learn_on_known_labels():
    data = kinds()
    found = balanced(KINDS, data)
    column = 0
    for task, weights in zip(KINDS.tasks, found, strict=True):
        if task.kind == "regression":
            assert weights is None
            continue
        for own in weights:
            known = data.label_mask[:, column] > 0
            label = data.labels[known, column].astype(int)
            label = np.repeat(label, data.weight[known].astype(int))  # a weight is that many rows
            present = np.unique(label)
            want = compute_class_weight("balanced", classes=present, y=label)
            np.testing.assert_allclose(own[present], want, rtol=1e-6)
            absent = np.setdiff1d(np.arange(len(own)), present)
            np.testing.assert_array_equal(own[absent], 1)
            column += 1
    assert found[1].shape == (1, 3) and found[1][0, 2] == 1


@functools.partial(jax.jit, static_argnums=(0, 3))
def trained_loss(spec, scores, rows, reduction, supervision):
    """The one accuracy term of a spec of one task."""
    predictions = objectives.predict(spec, scores)
    return objectives.accuracy_terms(spec, predictions, rows, reduction, supervision)[0]


@pytest.mark.parametrize("task", (BINARY, CLASSES))
def test_a_balanced_loss_is_log_loss_with_balanced_weights(task):
    scores, labels, mask = problem(task, 40)
    spec = Spec((task,), KINDS.attributes)
    rows = Dataset((), labels, mask, np.zeros((40, 2)), np.ones(40))
    even = Supervision(class_weights=balanced(spec, rows))
    for reduction in objectives.terms.REDUCTIONS:
        found = trained_loss(spec, jnp.asarray(scores), rows, reduction, even)
        prob = expit(scores[:, 0]) if task is BINARY else softmax(scores, axis=1)
        weight = compute_sample_weight("balanced", labels[:, 0])
        want = log_loss(labels[:, 0], prob, sample_weight=weight)
        np.testing.assert_allclose(found, want, rtol=1e-5)


def test_a_batch_of_one_class_keeps_its_factor():
    spec = Spec((BINARY,), KINDS.attributes)
    rows = Dataset((), jnp.ones((4, 1)), jnp.ones((4, 1)), jnp.zeros((4, 2)), jnp.ones(4))
    factor = Supervision(class_weights=(jnp.asarray([[1.0, 3.0]]),))
    found = trained_loss(spec, jnp.zeros((4, 1)), rows, "mean", factor)
    np.testing.assert_allclose(found, 3 * np.log(2), rtol=1e-6)


def test_missing_labels_say_nothing_and_precision_is_single():
    """NaN under a mask stays out of value and gradient; half precision is that of the scores."""
    data = kinds()
    width = sum(task.score_width for task in KINDS.tasks)
    scores = jnp.asarray(np.random.default_rng(2).normal(size=(60, width)), jnp.bfloat16)
    supervision = Supervision(0.2, balanced(KINDS, data))

    @jax.jit
    def total(scores, rows):
        predictions = objectives.predict(KINDS, scores)
        terms = objectives.accuracy_terms(KINDS, predictions, rows, "batch", supervision)
        return sum(terms)

    value, slope = jax.jit(jax.value_and_grad(total))(scores.astype(jnp.float32), data)
    filled = data._replace(labels=np.nan_to_num(data.labels, nan=1.0))
    assert np.isfinite(value) and np.isfinite(slope).all()
    np.testing.assert_array_equal(total(scores.astype(jnp.float32), filled), value)
    np.testing.assert_array_equal(total(scores, data), value)
    unknown = data.label_mask[:, 0] == 0
    np.testing.assert_array_equal(np.asarray(slope)[unknown, 0], 0)


def test_regressions_are_learned_as_they_are():
    scores, labels, mask = problem(NUMBER)
    plain, _ = row_losses(NUMBER, jnp.asarray(scores), jnp.asarray(labels), mask)
    other, _ = row_losses(NUMBER, jnp.asarray(scores), jnp.asarray(labels), mask, 0.5)
    np.testing.assert_array_equal(plain, other)


FAMILIES = (  # a method of every objective
    "vanilla",
    "baseline",
    "mta_f",
    "constrained",
    "fairmt",
    "transfer",
    "sequential",
    "blind",
    "yoto",
    "greedy_fmt",
    "l2t_fmt",
    "fairbranch",
    "recon",
    "fafs",
    "tag",
    "pcgrad",
    "mgda_ub",
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_learns_the_smoothed_labels(name):
    """The slope of what is trained in the smoothing is nowhere zero."""
    model = models.shared_bottom(SPEC, (6, 6), (4,), 2)
    one_row = jax.tree.map(lambda leaf: leaf[:1], DATA.train.x)
    context = Context.paper(SPEC, model, 0.05, 40, inputs=one_row)

    def at(context, hparams):
        return context._replace(supervision=Supervision(hparams["smoothing"]))

    method = methods.with_space(
        methods.at_hparams(methods.get(name, FPR), at), smoothing=Range(0.1)
    )
    recipe = method(context)
    hparams = {key: jnp.asarray(r.default, jnp.float32) for key, r in recipe.space.items()}

    @jax.jit
    def slope(smoothing):
        def total(smoothing):
            parts = recipe.build(hparams | {"smoothing": smoothing})
            params = parts.model.init(jax.random.key(0))
            memory = parts.objective.init(jax.random.key(1), DATA.train)
            values, _ = parts.objective.apply(params, DATA.train, jax.random.key(2), memory)
            return sum(values)

        return jax.grad(total)(smoothing)

    assert abs(slope(jnp.float32(0.1))) > 1e-6


# --------------------------------------------------------------------------------------- schedules


def of_optax(name: str, peak: float, steps: int, rising: int):
    """The schedules of optax, with the peak inside."""
    if name == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, peak, rising, steps)
    rise = optax.linear_schedule(0.0, peak, rising)
    after = optax.linear_schedule(peak, 0.0, steps - rising) if name == "linear" else None
    return optax.join_schedules([rise, after or optax.constant_schedule(peak)], [rising])


@pytest.mark.parametrize("name", training.SCHEDULES)
@pytest.mark.parametrize("optimizer", ("adagrad", "adamw"))
def test_a_schedule_is_that_of_optax_with_the_rate_as_its_peak(name, optimizer):
    config = StudyConfig(
        epochs=5,
        batch_size=8,
        optimizer=optimizer,
        learning_rate=0.02,
        weight_decay=0.1 * (optimizer == "adamw"),
        schedule=name,
        warm_up=0.2,
    )
    context = config.context(SPEC, None, rows=30)  # 4 batches: 20 steps, of which 4 rise
    hparams = {"learning_rate": jnp.float32(0.3), "weight_decay": jnp.float32(0.1)}
    link = context.optimizer(hparams)
    rate = of_optax(name, 0.3, 20, 4)
    if optimizer == "adamw":
        by_hand = optax.adamw(rate, weight_decay=0.1)
    else:
        root = optax.scale_by_rss(0.1 / 8**2, eps=0.0)
        by_hand = optax.chain(root, optax.scale_by_learning_rate(rate))
    params = jnp.asarray([1.0, -2.0])
    state, other = link.init(params), by_hand.init(params)
    for step in range(20):
        gradient = jnp.asarray([np.sin(step), 1.0])
        update, state = link.update(gradient, state, params)
        want, other = by_hand.update(gradient, other, params)
        np.testing.assert_allclose(update, want, rtol=1e-5, atol=1e-9)
        params = params + want


def test_a_schedule_ends_at_its_horizon():
    for name, warm_up in (("cosine", 0.0), ("linear", 0.0), ("cosine", 0.5), ("linear", 0.5)):
        factor = schedule_of(name, 10, warm_up)
        np.testing.assert_allclose(factor(10), 0, atol=1e-7)
        np.testing.assert_allclose(factor(round(10 * warm_up)), 1)
        assert factor(9) > 0
    assert schedule_of("constant", 10)(10) == 1


# ------------------------------------------------------------------------------------------ sweeps

DRAW = {
    "learning_rate": (3e-3, 3e-2, "log"),
    "weight_decay": (0.1, 0.5),
    "dropout": (0.1, 0.5),
    "label_smoothing": (0.1, 0.4),
    "class_balance": (0.3, 1.0),
}
SMALL = {
    "methods": ("vanilla",),
    "runs": 3,
    "reference_seeds": 1,
    "epochs": 3,
    "batch_size": 32,
    "trunk": (8,),
    "head": (4,),
    "embedding": 2,
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warm_up": 0.1,
    "stop": "objective",
}


def nothing(scores, rows):
    return {"score": jnp.mean(scores["test"], axis=0)}


def swept(study, points):
    """The runs of these points in one program."""
    recipe = study.recipes["vanilla"]
    devices = jax.local_devices()[:1]
    return sweep(
        recipe,
        study.config.train_config,
        points,
        [0],
        PEOPLE().splits,
        nothing,
        keep=("params",),
        chunk=len(next(iter(points.values()))),
        devices=devices,
    )


PEOPLE = functools.cache(prepared)


@functools.cache
def drawn_runs():
    study = from_names(PEOPLE(), named_study(**SMALL, draw=DRAW))
    points, _ = study.points("vanilla")
    # every setting alone at its other bound, beside the first draw
    for name, (low, *_) in DRAW.items():
        alone = {key: values[:1] for key, values in points.items()} | {name: np.float32([low])}
        points = {key: np.concatenate([points[key], alone[key]]) for key in points}
    return study, points, swept(study, points)


def test_one_compilation_draws_all_settings_and_each_of_them_matters():
    _, points, runs = drawn_runs()
    assert runs.compilations == 1
    for name, (low, high, *_) in DRAW.items():
        drawn = points[name][:3]
        assert np.all((low <= drawn) & (drawn <= high)) and len(set(drawn.tolist())) == 3
    first, *others = [np.asarray(score) for score in runs.metrics["score"]]
    for name, other in zip(DRAW, others[2:], strict=True):
        assert np.max(np.abs(other - first)) > 1e-6, name


def test_a_member_is_the_run_that_is_trained_alone_with_its_values():
    study, points, runs = drawn_runs()
    hparams = {name: values[1] for name, values in points.items()}
    alone = train_params(PEOPLE(), study, Point("vanilla", hparams, 0, None))
    of_sweep = jax.tree.map(lambda leaf: leaf[1], runs.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), alone, of_sweep
    )


def test_a_drawn_value_is_that_value_as_a_setting():
    """The same numbers as fixed settings: dropout is then the network's own, and not traced."""
    _, points, runs = drawn_runs()
    values = {name: float(points[name][2]) for name in DRAW}
    study = from_names(PEOPLE(), named_study(**SMALL | values))
    assert "dropout" not in study.recipes["vanilla"].space
    hparams = {name: np.float32(r.default) for name, r in study.recipes["vanilla"].space.items()}
    hparams["weight"] = points["weight"][2]
    alone = train_params(PEOPLE(), study, Point("vanilla", hparams, 0, None))
    of_sweep = jax.tree.map(lambda leaf: leaf[2], runs.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), alone, of_sweep
    )


def program_of(study) -> str:
    """The text of a run's program."""
    recipe = study.recipes["vanilla"]
    run = member(recipe, study.config.train_config, nothing, ())
    hparams = {name: np.float32(r.default) for name, r in recipe.space.items()}
    keys = jax.random.key(0), jax.random.key(1)
    return jax.jit(run).lower(*keys, hparams, PEOPLE().splits).as_text()


def test_neutral_settings_are_the_same_program_and_neutral_values_the_same_numbers():
    plain = {**SMALL, "schedule": "constant", "warm_up": 0.0}
    neutral = {"label_smoothing": 0.0, "class_balance": 0.0, "draw": {}}
    without = from_names(PEOPLE(), named_study(**plain))
    explicit = from_names(PEOPLE(), named_study(**plain, **neutral))
    assert set(without.recipes["vanilla"].space) == {"weight", "learning_rate", "weight_decay"}
    assert program_of(without) == program_of(explicit)
    named = {name: DRAW[name] for name in ("dropout", "label_smoothing", "class_balance")}
    traced = from_names(PEOPLE(), named_study(**plain, draw=named))
    assert program_of(traced) != program_of(without)
    space = traced.recipes["vanilla"].space
    hparams = {name: np.float32(interval.default) for name, interval in space.items()}
    assert all(hparams[name] == 0 for name in named)
    same = train_params(PEOPLE(), traced, Point("vanilla", hparams, 0, None))
    own = {name: value for name, value in hparams.items() if name not in named}
    want = train_params(PEOPLE(), without, Point("vanilla", own, 0, None))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), same, want)


def test_epochs_are_ranked_without_the_masks_of_a_drawn_dropout():
    study = from_names(PEOPLE(), named_study(**SMALL, draw={"dropout": (0.0, 0.9)}))
    recipe = study.recipes["vanilla"]
    at = {name: np.float32(r.default) for name, r in recipe.space.items()}
    params = recipe.build(at).model.init(jax.random.key(0))
    state = training.State(params, (), (), 0)
    values = [
        recipe.build(at | {"dropout": np.float32(rate)}).rank.value(state, PEOPLE().splits)
        for rate in (0.0, 0.8)
    ]
    np.testing.assert_array_equal(*values)


def test_a_network_for_all_weights_is_trained_once_and_draws_nothing_else():
    names = named_study(
        methods=("yoto", "vanilla"), draw={"learning_rate": (0.01, 0.1), "lam": (0.5, 2.0)}
    )
    space = from_names(SPEC, names).recipes["yoto"].space
    assert space["learning_rate"].low is None and space["lam"].high == 2.0


def test_single_task_runs_have_the_setting_itself():
    study = from_names(PEOPLE(), named_study(**SMALL | {"dropout": 0.2}, draw=DRAW))
    points, _ = study.points("single_task")
    assert {name: set(points[name].tolist()) for name in ("dropout", "label_smoothing")} == {
        "dropout": {np.float32(0.2)},
        "label_smoothing": {0.0},
    }


def test_objects_draw_dropout_through_a_function_of_the_network():
    config = StudyConfig(draw={"dropout": (0.0, 0.5)})
    study = make_study(SPEC, [methods.vanilla()], model=models.shared_bottom, config=config)
    space = study.recipes["vanilla"].space
    assert space["dropout"] == Range(0.0, 0.0, 0.5)
    built = jax.eval_shape(
        lambda rate: (
            study.recipes["vanilla"]
            .build({"weight": jnp.ones(2), "learning_rate": 0.1, "dropout": rate})
            .model.init(jax.random.key(0))
        ),
        0.1,
    )
    assert set(built) == {"trunk", "heads"}


# ---------------------------------------------------------------------------------- saved studies


def test_a_study_comes_back_from_json_and_one_from_before_loads():
    names = named_study(**SMALL, label_smoothing=0.1, class_balance=0.5, draw=DRAW)
    assert NamedStudy.from_json(json.loads(json.dumps(names.to_json()))) == names
    old = named_study().to_json()
    for field in ("schedule", "warm_up", "label_smoothing", "class_balance", "draw"):
        del old["config"][field]
    assert NamedStudy.from_json(json.loads(json.dumps(old))) == named_study()


def test_the_command_line_draws_keeps_and_makes_a_run_again(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["skill,sex,hired,passed"]
    for _ in range(160):
        sex = rng.choice(["f", "m"])
        skill = rng.normal() + (sex == "m")
        hired, passed = skill + rng.normal(size=2) > (1, 0)
        lines.append(f"{skill:.3f},{sex},{int(hired)},{int(passed)}")
    (tmp_path / "people.csv").write_text("\n".join(lines), encoding="utf-8")
    roles = ["--task", "hired", "--task", "passed", "--sensitive", "sex"]
    small = ["--epochs", "2", "--batch-size", "32", "--trunk", "4", "--head", "3", "--devices", "1"]
    done = fairjax(
        *("frontier", "--data", "people.csv", *roles, *small, "--out", "out"),
        *("--methods", "vanilla", "--runs", "3", "--keep", "metrics", "--optimizer", "adamw"),
        *("--draw", "learning-rate=1e-3:1e-1:log", "--draw", "dropout=0:0.3"),
        *("--draw", "weight_decay=0:0.1", "--label-smoothing", "0.1", "--class-balance", "1"),
        *("--schedule", "linear", "--warm-up", "0.2"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    table = read_csv(tmp_path / "out" / "table.csv")
    own = np.asarray(table["method"]) == "vanilla"
    for name, low, high in (("learning_rate", 1e-3, 0.1), ("dropout", 0, 0.3)):
        values = np.asarray(table[f"hparam.{name}"], float)[own]
        assert len(set(values.tolist())) == 3 and np.all((low <= values) & (values <= high))
    np.testing.assert_allclose(np.asarray(table["hparam.label_smoothing"], float)[own], 0.1)
    _, results = load_results(tmp_path / "out")
    assert results.study.config.schedule == "linear"
    run = int(np.flatnonzero(own)[1])
    again = fairjax("train", "--like", "out", "--run", run, "--out", "model", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"metrics are those of run {run}" in again.stdout
    scored = fairjax("predict", "model", "people.csv", "--out", "scores.csv", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr


# ---------------------------------------------------------------------------------------- refusals

BAD = {
    "bounds that fall": ({"draw": {"lam": (2.0, 1.0)}}, "rising numbers"),
    "one bound": ({"draw": {"lam": (2.0,)}}, "rising numbers"),
    "no numbers": ({"draw": {"lam": ("a", "b")}}, "rising numbers"),
    "another scale": ({"draw": {"lam": (1.0, 2.0, "square")}}, "rising numbers"),
    "infinite": ({"draw": {"lam": (1.0, float("inf"))}}, "--draw lam: bound inf"),
    "logarithm of nothing": ({"draw": {"lam": (0.0, 1.0, "log")}}, "above 0"),
    "a dropout of all": (
        {"draw": {"dropout": (0.0, 1.0)}},
        "--draw dropout: bound 1: it has to be from 0 on",
    ),
    "a rate of nothing": ({"draw": {"learning_rate": (0.0, 1.0)}}, "above 0"),
    "weight decay of Adagrad": ({"draw": {"weight_decay": (0.0, 1.0)}}, "--optimizer adamw"),
    "much smoothing": ({"label_smoothing": 1.5}, "--label-smoothing 1.5"),
    "smoothing of nothing": ({"label_smoothing": float("nan")}, "from 0 to 1"),
    "a negative balance": ({"class_balance": -1.0}, "--class-balance -1"),
    "warm-up to the end": ({"warm_up": 1.0}, "--warm-up 1"),
}


@pytest.mark.parametrize("settings, message", BAD.values(), ids=BAD)
def test_a_setting_that_cannot_be_is_refused(settings, message):
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        named_study(**settings)


def test_what_no_method_can_draw_is_refused():
    words = "lam, learning_rate, trunk_rate, dropout"
    with pytest.raises(DataError, match=f"none of 1 methods can draw .*{words}"):
        from_names(SPEC, named_study(methods=("baseline",), draw={"tau": (0.1, 0.2)}))
    with pytest.raises(DataError, match="simplex"):
        from_names(SPEC, named_study(methods=("baseline",), draw={"weight": (0.1, 0.2)}))
    with pytest.raises(DataError, match="drawn .--draw. and fixed .--r."):
        named_study(fixed={"r": 1.0}, draw={"r": (0.1, 0.2)})
    config = StudyConfig(draw={"dropout": (0.0, 0.5)})
    model = models.shared_bottom(SPEC)
    for network in (model, lambda spec: model):
        with pytest.raises(DataError, match="fairjax.shared_bottom"):
            make_study(SPEC, [methods.vanilla()], model=network, config=config)


def test_settings_of_classes_need_a_task_with_classes():
    spec = Spec((NUMBER,), KINDS.attributes, ("x",))
    with pytest.raises(DataError, match="--label-smoothing and --class-balance: all 1 tasks"):
        from_names(spec, named_study(methods=(), label_smoothing=0.1, class_balance=1.0))


def test_what_follows_from_the_rows_is_not_made_from_a_spec_alone():
    for settings in ({"schedule": "cosine"}, {"warm_up": 0.1}, {"class_balance": 0.5}):
        with pytest.raises(ValueError, match="training rows"):
            from_names(SPEC, named_study(methods=(), **settings))


@pytest.mark.parametrize("text", ("learning_rate", "lam=1", "lam=a:b", "=1:2"))
def test_a_draw_on_the_command_line_is_a_name_and_two_bounds(text):
    click = pytest.importorskip("click")
    from fairjax.cli.lists import DRAW as DRAW_TYPE

    assert DRAW_TYPE.convert("class-balance=0:1", None, None) == ("class_balance", (0.0, 1.0))
    assert DRAW_TYPE.convert("lam=1:2:log", None, None) == ("lam", (1.0, 2.0, "log"))
    with pytest.raises(click.BadParameter):
        DRAW_TYPE.convert(text, None, None)
