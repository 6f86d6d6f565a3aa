"""Laws of every method, methods with any notion, and the cost of a step in tasks."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import dataset, tabular_spec

from fairjax import methods, notions, objectives
from fairjax.core.types import Range
from fairjax.gradients import value_and_rows
from fairjax.losses import probabilities
from fairjax.models import shared_bottom
from fairjax.training import TrainConfig, make_train, start
from fairjax.training.loop import first_key

SPEC = tabular_spec(2, groups=3)
BATCH = 16
KEY = jax.random.key(0)
ORDER_KEY = jax.random.key(1)
FPR = notions.from_distance(notions.rate_gap, (notions.negatives,))


def training_rows():
    """Forty rows with missing labels (NaN) and unknown demographics; the third group is empty."""
    data = dataset(SPEC, 40, 0, missing=0.3, unknown=0.2, weighted=True)
    data = data._replace(groups=data.groups * np.float32([1, 1, 0]))
    assert np.isnan(data.labels).any()
    assert (data.groups.sum(axis=1) == 0).any()
    return data


DATA = training_rows()


@functools.cache
def context() -> methods.Context:
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), DATA.x)
    model = shared_bottom(SPEC, (4, 3), (3,), 2)
    return methods.Context.paper(SPEC, model, 0.05, BATCH, inputs=shapes)


def defaults(recipe, **values):
    """Hyper-parameters at their defaults, or as given."""
    space = {name: jnp.asarray(r.default, jnp.float32) for name, r in recipe.space.items()}
    return space | {name: jnp.asarray(v, jnp.float32) for name, v in values.items()}


def all_finite(tree) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def largest_difference(one, other) -> float:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in pairs)


# ------------------------------------------------------------------- every method of the registry

REPRESENTATIVES = ("baseline", "mta_f", "differential", "transfer", "yoto", "pcgrad")
METHODS = [
    pytest.param(name, marks=() if name in REPRESENTATIVES else pytest.mark.slow)
    for name in methods.REGISTRY
]
# a link with rows apart is the same link with more rows
NOT_APART = [case for case in METHODS if not case.values[0].endswith("_split")]


INIT_KEY = first_key(KEY)


@functools.cache
def params_of_context():
    return jax.jit(context().model.init)(INIT_KEY)


def start_of(recipe, hparams):
    """The first state of a run; a method that keeps the network begins with one compiled before."""
    is_own = recipe.build(hparams).model.init is not context().model.init
    params = None if is_own else params_of_context()
    return jax.jit(lambda h: start(recipe.build(h), INIT_KEY, DATA, params))(hparams)


@pytest.mark.parametrize("name", NOT_APART)
def test_a_run_is_finite_moves_and_repeats(name):
    recipe = methods.get(name, FPR)(context())
    assert recipe.name == name
    hparams = defaults(recipe)
    train = jax.jit(make_train(TrainConfig(2, BATCH), recipe))
    begin = start_of(recipe, hparams)
    trained = train(KEY, ORDER_KEY, hparams, DATA, begin)
    assert all_finite(trained.state.params)
    assert all_finite(trained.values)
    for part in ("trunk", "heads"):
        moved = largest_difference(begin.params[part], trained.state.params[part])
        assert moved > 1e-4, part
    again = train(KEY, ORDER_KEY, hparams, DATA, begin)
    jax.tree.map(np.testing.assert_array_equal, again.state, trained.state)


@pytest.mark.slow
@pytest.mark.parametrize("name", (*REPRESENTATIVES, "constrained", "fairbranch", "l2t_fmt", "tag"))
def test_two_epochs_are_twice_one(name):
    recipe = methods.get(name, FPR)(context())
    hparams = defaults(recipe)
    two_epochs = jax.jit(make_train(TrainConfig(2, BATCH), recipe))
    one_epoch = jax.jit(make_train(TrainConfig(1, BATCH), recipe))
    begin = start_of(recipe, hparams)
    whole = two_epochs(KEY, ORDER_KEY, hparams, DATA, begin)
    first = one_epoch(KEY, ORDER_KEY, hparams, DATA, begin)
    second = one_epoch(KEY, ORDER_KEY, hparams, DATA, first.state)
    jax.tree.map(np.testing.assert_array_equal, second.state, whole.state)
    values = np.concatenate([first.values, second.values])
    np.testing.assert_array_equal(values, whole.values)


@pytest.mark.parametrize("name", NOT_APART)
def test_a_step_of_training_is_under_the_masks_of_its_key(name):
    batch = jax.tree.map(lambda leaf: leaf[:BATCH], DATA)

    @jax.jit
    def rows_at(key, rate):
        model = shared_bottom(SPEC, (4, 3), (3,), 2, dropout=rate)
        recipe = methods.get(name, FPR)(context()._replace(model=model))
        parts = recipe.build(defaults(recipe))
        memory = parts.objective.init(KEY, DATA)

        def values(params):
            return jnp.stack(list(parts.objective.apply(params, batch, key, memory)[0]))

        params = parts.model.init(KEY)
        direction = jax.tree.map(jnp.ones_like, params)
        return jnp.stack(jax.jvp(values, (params,), (direction,)))

    whole, masked, again = (rows_at(KEY, rate) for rate in (0.0, 0.5, 0.5))
    assert np.isfinite(masked).all()
    # the gap of a task without two groups is 0 under any mask
    is_asked = np.any(whole != 0, axis=0)
    # a gap of decisions may keep its value under a mask; its slope moves
    assert np.any(is_asked) and np.all(np.any(whole != masked, axis=0)[is_asked])
    np.testing.assert_array_equal(masked, again)
    assert np.all(np.any(rows_at(ORDER_KEY, 0.5) != masked, axis=0)[is_asked])


def test_a_method_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="'fairest' is not one of vanilla, baseline, mta_f"):
        methods.get("fairest", FPR)


# ------------------------------------------------------------------------ methods and notions


def means_apart(prob, groups, weight):
    """Squared distance between the means of two groups' points ``[N, U]``."""
    member = groups[:, :2] * weight[:, None]
    mean_gu = (member.T @ prob) / jnp.maximum(jnp.sum(member, axis=0), 1e-6)[:, None]
    return jnp.sum(jnp.square(mean_gu[0] - mean_gu[1]))


ON_NEGATIVES = notions.CONDITIONS["fpr"]
NOTIONS = {
    "rate_gap": notions.get("rate_gap", ON_NEGATIVES),
    "correlation": notions.get("correlation", ON_NEGATIVES),
    "mmd": notions.get("mmd", ON_NEGATIVES),
    "barycenter": notions.get("barycenter", ON_NEGATIVES),
    "differential_fairness": notions.get("differential_fairness"),
    "ahfda": notions.get("ahfda"),
    "accuracy_parity": notions.get("accuracy_parity"),
    "auc_parity": notions.get("auc_parity"),
    "joint": notions.from_distance(
        means_apart, (notions.everyone,), joint=True, average=notions.jointly
    ),
}
TAKES_NOTIONS = ("mta_f", "transfer", "yoto")


def method_of(name: str, notion, lam) -> methods.Method:
    """The method; ``yoto`` draws its fairness weights, here always the same."""
    options = {"lam": Range(lam)} if name == "yoto" else {}
    return methods.get(name, notion, **options)


def one_step(name: str, notion, lam):
    """Values of the rows, gradients of the rows, and parameters after one step."""
    recipe = method_of(name, notion, lam)(context()._replace(hparams={}, optimizer=_descent))
    ranges = {key: r for key, r in recipe.space.items() if key != "lam"}
    hparams = defaults(recipe._replace(space=ranges)) | {"lam": lam}
    parts = recipe.build(hparams)
    batch = jax.tree.map(lambda a: jnp.asarray(a[:32]), DATA)
    state = start(parts, KEY, batch)

    def losses(params):
        return parts.objective.apply(params, batch, KEY, state.memory)[0]

    values, rows = value_and_rows(losses)(state.params)
    updates, _ = optax.with_extra_args_support(parts.transform).update(
        rows, state.opt_state, state.params, values=values, key=KEY
    )
    return values, rows, optax.apply_updates(state.params, updates)


def _descent(hparams):
    del hparams
    return optax.sgd(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("notion", NOTIONS)
def test_methods_take_any_notion(notion):
    @jax.jit
    def steps(lam):
        return {name: one_step(name, NOTIONS[notion], lam) for name in TAKES_NOTIONS}

    fair = steps(jnp.full(2, 3.0))
    unfair = steps(jnp.zeros(2))
    for name in TAKES_NOTIONS:
        values, rows, params = fair[name]
        assert all_finite((values, rows, params)), name
        # with and without the notion the same losses: the difference is the part of fairness
        assert largest_difference(rows, unfair[name][1]) > 1e-5, name
        assert largest_difference(params, unfair[name][2]) > 1e-6, name


# ------------------------------------------------------------------------------------ cost in tasks


def program(tasks: int):
    """The lowered gradient of both rows of MTA-F for so many tasks."""
    spec = tabular_spec(tasks)
    model = shared_bottom(spec, (4,), (4,), 2)
    batch = dataset(spec, 64, 0)
    ones = np.ones(tasks, np.float32)
    rows = objectives.mta_f(model, spec, notion=FPR, weight=ones, lam=ones, r=ones)

    def gradient(params, batch):
        memory = rows.init(KEY, batch)
        return value_and_rows(lambda p: rows.apply(p, batch, KEY, memory)[0])(params)

    params = jax.eval_shape(model.init, KEY)
    return jax.jit(gradient).lower(params, batch)


def test_the_cost_of_a_step_is_linear_in_tasks():
    lowered = {tasks: program(tasks) for tasks in (2, 4, 8)}
    flops = {tasks: low.cost_analysis()["flops"] for tasks, low in lowered.items()}
    assert flops[8] <= 5 * flops[2]
    assert flops[4] <= 2.5 * flops[2]
    # a slice per term would give a padded matrix per term
    pads = {tasks: low.as_text().count("stablehlo.pad") for tasks, low in lowered.items()}
    assert pads[8] <= 4 * pads[2] + 8, pads


def test_terms_are_those_of_one_slice_per_term():
    spec = tabular_spec(4)
    batch = dataset(spec, 40, 1, missing=0.2, unknown=0.2, weighted=True)
    scores = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    memory = objectives.fairness_terms(spec, FPR).init(batch)

    def total(predictions, t):
        """``L_t + F_t + 2 E_t``."""
        value = objectives.accuracy_terms(spec, predictions, batch)[t]
        for on_exclusive, factor in ((False, 1.0), (True, 2.0)):
            terms = objectives.fairness_terms(spec, FPR, on_exclusive=on_exclusive)
            values, _ = terms.apply(predictions, batch, memory)
            value = value + factor * terms.of_task(values, t)
        return value

    def split_once(scores):
        predictions = objectives.predict(spec, scores)
        return [total(predictions, t) for t in range(4)]

    def slice_per_term(scores):
        values = []
        for t in range(4):
            columns = tuple(scores[:, spec.score_slice(i)] for i in range(4))
            chances = tuple(probabilities(spec, columns))
            values.append(total(objectives.Predictions(columns, chances), t))
        return values

    @jax.jit
    def both(scores):
        return [
            (jnp.stack(f(scores)), jax.jacrev(lambda s, f=f: jnp.stack(f(s)))(scores))
            for f in (split_once, slice_per_term)
        ]

    one, other = both(scores)
    np.testing.assert_allclose(one[0], other[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(one[1], other[1], rtol=0, atol=1e-6)
    assert np.all(np.max(np.abs(one[1]), axis=(1, 2)) > 1e-4)
