"""Methods in miniature: each is composed of public parts, none needs a special case.

Every miniature runs twice: its points one by one through ``make_train`` (where the state can be
recorded) and all together through ``sweep``; both must end at the same parameters.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import terms_of

from fairjax.core.masked import divide
from fairjax.core.types import (
    Attribute,
    Columns,
    Components,
    Dataset,
    Model,
    Objective,
    Range,
    Recipe,
    Spec,
    Splits,
    Task,
)
from fairjax.gradients import aggregator, check_rows, for_rows, route, sum_rows, value_and_rows
from fairjax.methods import Context, vanilla
from fairjax.models import scores as model_scores
from fairjax.models import shared_bottom
from fairjax.notions import everyone, from_distance, rate_gap
from fairjax.notions.gaps import difference
from fairjax.objectives import accuracy_terms, objective, per_task, predict, weighted
from fairjax.training import TrainConfig, grid, keys, make_train, sweep

N, FEATURES, SEED = 64, 4, 3
ATTRIBUTE = Attribute("group", ("a", "b"))


def spec_of(tasks, attributes=(ATTRIBUTE,)):
    return Spec(
        tuple(Task(f"t{i}") for i in range(tasks)),
        attributes,
        tuple(f"x{i}" for i in range(FEATURES)),
    )


def rows_of(directions, seed=0, n=N):
    """Labels follow ``directions[T, FEATURES]``; groups (3 to 1) differ in the first feature."""
    rng = np.random.default_rng(seed)
    member = np.arange(n) % 4 == 0
    x = rng.normal(size=(n, FEATURES))
    x[:, 0] += np.where(member, 1.0, -1.0)
    labels = x @ np.asarray(directions, float).T + 0.3 * rng.normal(size=(n, len(directions))) > 0
    columns, groups = (
        Columns(x.astype(np.float32), np.zeros((n, 0), np.int32)),
        np.stack([~member, member], axis=1),
    )
    return Dataset(columns, *map(np.float32, (labels, np.ones(labels.shape), groups, np.ones(n))))


def losses_of(spec, scores, batch):
    """Losses of all tasks."""
    return accuracy_terms(spec, predict(spec, scores), batch)


def rate_gaps(scores, splits):
    """Gap of mean probabilities per score column, on the test rows."""
    rate = (
        jax.nn.sigmoid(scores["test"]).T @ splits.test.groups / jnp.sum(splits.test.groups, axis=0)
    )
    return {"gap": jnp.max(rate, axis=1) - jnp.min(rate, axis=1)}


def alone(recipe, train_config, record=None):
    """One run by itself, ``run(hparams, data)``, with the keys that the sweep gives its members."""
    train, (key, order_key) = (
        jax.jit(make_train(train_config, recipe, record)),
        keys(0, np.array([SEED])),
    )
    return lambda hparams, data: jax.device_get(
        train(key[0], order_key, hparams, Splits(data, data, data))
    )


def both(recipe, train_config, values, data, record=None):
    """All points in one sweep and each alone, with the same parameters; the results of both."""
    points = grid(recipe.space, values)
    size = len(next(iter(points.values())))
    swept = sweep(
        recipe,
        train_config,
        points,
        [SEED],
        Splits(data, data, data),
        rate_gaps,
        chunk=size,
        devices=jax.local_devices()[:1],
        keep=("scores", "params"),
    )
    run = alone(recipe, train_config, record)
    runs = [run({name: v[i] for name, v in points.items()}, data) for i in range(size)]
    for i, trained in enumerate(runs):
        member = jax.tree.map(lambda leaf, i=i: leaf[i], swept.params)
        jax.tree.map(
            lambda got, want: np.testing.assert_allclose(got, want, atol=2e-4),
            member,
            trained.state.params,
        )
    assert not swept.diverged.any()
    assert np.max(np.abs(swept.scores["test"][0] - swept.scores["test"][-1])) > 1e-2
    return swept, runs, run


# -------------------------------------------------------------------- (a) running counts in memory


def soft_counts(model, spec, rho, lam):
    """Loss, and the gap of rates of running counts: ``c <- rho c + sum_i m_ig (p_i, 1)``."""

    def apply(params, batch, key, memory):
        scores = model_scores(model, params, batch.x)
        member = batch.weight[:, None] * batch.groups
        counts = rho * memory + jnp.stack(
            [jax.nn.sigmoid(scores[:, 0]) @ member, jnp.sum(member, axis=0)]
        )
        gap = difference(divide(counts[0], counts[1]), counts[1])
        (loss,) = losses_of(spec, scores, batch)
        return (loss, lam * gap / (1.0 - rho)), counts

    return Objective(("loss", "gap"), lambda key, data: jnp.zeros((2, 2)), apply)


def test_running_counts_see_both_groups_where_a_batch_holds_one_row():
    spec, data = spec_of(1), rows_of([[1, 1, 0, 0]])
    model = shared_bottom(spec, (4,), ())
    recipe = Recipe(
        "counts",
        lambda k: Components(
            model, soft_counts(model, spec, k["rho"], 3.0), optax.chain(sum_rows(), optax.sgd(0.05))
        ),
        {"rho": Range(0.9)},
    )
    swept, *_ = both(recipe, TrainConfig(6, 1), {"rho": [0.0, 0.9]}, data)
    assert (
        swept.metrics["gap"][1, 0] < 0.5 * swept.metrics["gap"][0, 0]
    )  # without memory one row is one group, and no gap is seen

    params, memory = alone(recipe, TrainConfig(5, N), lambda state: (state.params, state.memory))(
        {"rho": 0.9}, data
    ).record
    probability = jax.nn.sigmoid(
        jax.jit(jax.vmap(lambda p: model_scores(model, p, data.x)))(params)
    )[:, :, 0]
    counts = memory[0]
    for before, after in zip(np.asarray(probability), memory[1:], strict=False):
        counts = 0.9 * counts + np.stack([before @ data.groups, data.groups.sum(axis=0)])
        np.testing.assert_allclose(after, counts, rtol=1e-5)
    np.testing.assert_allclose(counts[1], data.groups.sum(axis=0) * (1 - 0.9**5) / 0.1, rtol=1e-5)


# ------------------------------------------------------------------ (b) an aggregator on the trunk


class Surgery(NamedTuple):
    order: jax.Array


def pcgrad(rows, strength):
    """Project each row off those it conflicts with, in a drawn order; in Gram form."""

    def update_fn(updates, state, params=None, *, key, **extra):
        count = check_rows(updates, params)
        order = jax.vmap(lambda k: jax.random.permutation(k, count))(jax.random.split(key, count))
        gram = sum(
            jnp.tensordot(g, g, (tuple(range(1, g.ndim)),) * 2) for g in jax.tree.leaves(updates)
        )

        def project(own, order):
            c = jnp.zeros(count).at[own].set(1.0)
            for j in order:
                c = c.at[j].add(
                    jnp.where(j == own, 0.0, -strength * jnp.minimum(c @ gram[j], 0.0) / gram[j, j])
                )
            return c

        weight = jnp.sum(jax.vmap(project)(jnp.arange(count), order), axis=0)
        return jax.tree.map(lambda g: jnp.tensordot(weight, g, 1), updates), Surgery(order)

    return optax.GradientTransformationExtraArgs(
        lambda p: Surgery(jnp.zeros((rows, rows), jnp.int32)), update_fn
    )


def projected(rows, order):
    """PCGrad as printed: on vectors, one after the other."""
    total = np.zeros_like(rows[0])
    for k, g in enumerate(rows.copy()):
        for j in order[k]:
            if j != k and (dot := g @ rows[j]) < 0:
                g = g - dot / (rows[j] @ rows[j]) * rows[j]
        total += g
    return total


def test_pcgrad_on_the_trunk_is_its_vector_form_and_heads_take_the_sum():
    spec, data = spec_of(3), rows_of([[1, 1, 0, 0], [-1, 0, 1, 0], [-1, -1, -1, 0]])
    model = shared_bottom(spec, (4,), ())
    losses = per_task(model, spec)

    def build(k):
        return Components(
            model,
            losses,
            optax.chain(
                route({"trunk": pcgrad(3, k["strength"]), "heads": sum_rows()}), optax.sgd(1.0)
            ),
        )

    def flat(tree, lead):
        leaves = [
            np.asarray(leaf).reshape(*leaf.shape[:lead], -1) for leaf in jax.tree.leaves(tree)
        ]
        return np.concatenate(leaves, axis=-1)

    recipe = Recipe("pcgrad", build, {"strength": Range(1.0)})
    _, runs, _ = both(
        recipe,
        TrainConfig(12, N),
        {"strength": [0.0, 1.0]},
        data,
        lambda state: (state.params, optax.tree_utils.tree_get(state.opt_state, "order")),
    )
    gradients = jax.jit(jax.vmap(value_and_rows(lambda p: losses.apply(p, data, None, ())[0])))
    for strength, trained in enumerate(runs):
        params, order = trained.record
        rows, conflicts = gradients(params)[1], 0
        trunk, heads = flat(rows["trunk"], 2), flat(rows["heads"], 2)  # [steps, K, parameters]
        moved = {part: -np.diff(flat(params[part], 1), axis=0) for part in params}
        for step in range(11):
            conflicts += np.min(trunk[step] @ trunk[step].T) < 0
            want = projected(trunk[step], order[step + 1]) if strength else trunk[step].sum(axis=0)
            np.testing.assert_allclose(moved["trunk"][step], want, atol=1e-5)
            np.testing.assert_allclose(moved["heads"][step], heads[step].sum(axis=0), atol=1e-5)
        assert conflicts > 5


# ------------------------------------------------------------------ (c) a multiplier as a row link


class Multiplier(NamedTuple):
    mu: jax.Array


def multiplier(row, rate, tolerance, bound):
    """The row times mu; ``mu <- clip(mu + rate (violation - tolerance), 0, bound)``."""

    def update_fn(updates, state, params=None, *, memory, **extra):
        check_rows(updates, params)
        mu = jnp.clip(state.mu + rate * (memory["violation"] - tolerance), 0.0, bound)
        return jax.tree.map(lambda g: g.at[row].multiply(mu), updates), Multiplier(mu)

    return optax.GradientTransformationExtraArgs(
        lambda params: Multiplier(jnp.zeros(())), update_fn
    )


def test_a_bounded_multiplier_follows_the_violation_it_reads_from_memory():
    spec, data = spec_of(1), rows_of([[1, 1, 0, 0]])
    model = shared_bottom(spec, (4,), ())

    def apply(params, batch, key, memory):
        scores = model_scores(model, params, batch.x)
        terms = terms_of(spec, scores, batch, from_distance(rate_gap, (everyone,)))
        hard = rate_gap((scores[:, 0] > 0).astype(jnp.float32), batch.groups, batch.weight)
        return (terms.loss[0], terms.fairness[0]), {
            "violation": hard
        }  # trains the soft gap, measures the hard one

    def build(k):
        row_link = for_rows(multiplier(1, 0.5, 0.3, k["bound"]))
        chain = optax.chain(row_link, sum_rows(), optax.sgd(0.5))
        return Components(
            model,
            Objective(("loss", "gap"), lambda key, data: {"violation": jnp.zeros(())}, apply),
            chain,
        )

    recipe = Recipe("multiplier", build, {"bound": Range(1.0)})
    swept, runs, _ = both(
        recipe,
        TrainConfig(60, N),
        {"bound": [0.0, 1.0]},
        data,
        lambda state: (state.memory["violation"], optax.tree_utils.tree_get(state.opt_state, "mu")),
    )
    assert swept.metrics["gap"][1, 0] < 0.7 * swept.metrics["gap"][0, 0]
    for bound, trained in zip((0.0, 1.0), runs, strict=True):
        violation, mu = trained.record
        want = [0.0]
        for v in violation:
            want.append(min(max(want[-1] + 0.5 * (v - 0.3), 0.0), bound))
        np.testing.assert_allclose(mu, want[1:], atol=1e-6)
    assert mu.max() == 1.0 and 0.0 < mu[-1] < 1.0  # it has met its bound, and come back


# ----------------------------------------------------------------------- (d) a trunk that branches


def copies_of(inner, tasks):
    """One copy of the trunk per task, all alike at the start; task t reads copy t."""

    def init(key):
        params = inner.init(key)
        return {**params, "trunk": jax.tree.map(lambda a: jnp.stack([a] * tasks), params["trunk"])}

    def predict(heads, z):
        return jnp.stack([inner.predict(heads, z[t])[:, t] for t in range(tasks)], axis=1)

    return Model(init, lambda trunk, x: jax.vmap(inner.represent, (0, None))(trunk, x), predict)


def tie(tasks):
    """Aggregator: copies of one label share the sum of their gradients."""

    def update_fn(updates, state, params=None, *, memory, **extra):
        check_rows(updates, params)
        return jax.tree.map(
            lambda g: jax.ops.segment_sum(g[0], memory, tasks)[memory], updates
        ), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)


def test_copies_stay_tied_until_an_event_splits_some_members_of_a_sweep():
    spec = spec_of(2)
    shared = shared_bottom(spec, (4,), ())
    model, start = copies_of(shared, 2), jnp.zeros(2, jnp.int32)

    def build(k):
        inner = weighted(per_task(model, spec), jnp.ones(2))
        losses = inner._replace(
            init=lambda key, data: start,
            apply=lambda p, batch, key, labels: (inner.apply(p, batch, key, ())[0], labels),
        )

        def split(key, block, state, data):
            alike = jnp.corrcoef(model_scores(model, state.params, data.train.x).T)[0, 1]
            return state._replace(
                memory=jnp.where((block == 1) & (alike < k["tau"]), jnp.arange(2), state.memory)
            )

        tx = optax.chain(route({"trunk": tie(2), "heads": sum_rows()}), optax.adam(0.05))
        return Components(model, losses, tx, (split,))

    recipe, train_config = (
        Recipe("branch", build, {"tau": Range(0.0)}),
        TrainConfig(16, 16, block=4),
    )
    opposed, alike = (
        rows_of([[1, 1, 0, 0], [-1, -1, 0, 1]]),
        rows_of([[1, 1, 0, 0], [1, 1, 0, 0.1]]),
    )

    def tied(trained):
        leaves = jax.tree.leaves(trained.record)  # [blocks, copies, ...]
        return [all(np.array_equal(leaf[i, 0], leaf[i, 1]) for leaf in leaves) for i in range(4)]

    swept, runs, run = both(
        recipe,
        train_config,
        {"tau": [-2.0, 0.0, 2.0]},
        opposed,
        lambda state: state.params["trunk"],
    )
    assert [tied(r) for r in runs] == [
        [True] * 4,
        [True, True, False, False],
        [True, True, False, False],
    ]
    kernel = swept.params["trunk"]["kernel"]
    assert [np.array_equal(*k) for k in kernel] == [True, False, False]
    assert (
        tied(run({"tau": np.float32(0.0)}, alike)) == [True] * 4
    )  # the rows decide: these tasks agree
    plain = vanilla()(Context(spec, shared, lambda k: optax.adam(0.05), {}))
    one = alone(plain, train_config)({"weight": np.ones(2, np.float32)}, opposed).state.params
    np.testing.assert_allclose(
        kernel[0][0], one["trunk"]["kernel"], atol=1e-5
    )  # tied copies are one trunk


# ------------------------------------------------------------------------- (e) a hypothetical step


class Tried(NamedTuple):
    size: jax.Array
    full: jax.Array  # sum of losses after the whole step
    mismatch: jax.Array


def backtrack(halvings):
    """Link after an optimizer: the largest half-power of its step that does not raise the loss."""

    def update_fn(updates, state, params=None, *, values, value_fn, **extra):
        sizes = jnp.append(0.5 ** jnp.arange(halvings), 0.0)
        trial = jax.vmap(
            lambda s: jnp.sum(value_fn(jax.tree.map(lambda p, u: p + s * u, params, updates)))
        )(sizes)
        size = sizes[jnp.argmax(trial <= jnp.sum(values))]
        state = Tried(size, trial[0], jnp.max(jnp.abs(value_fn(params) - values)))
        return jax.tree.map(lambda u: size * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: Tried(*jnp.zeros(3)), update_fn)


def test_a_link_tries_steps_with_value_fn_and_never_climbs():
    spec, data = spec_of(2), rows_of([[1, 1, 0, 0], [-1, 0, 1, 0]])
    model = shared_bottom(spec, (4,), ())
    recipe = Recipe(
        "backtrack",
        lambda k: Components(
            model,
            per_task(model, spec),
            optax.chain(sum_rows(), optax.sgd(k["rate"]), backtrack(16)),
        ),
        {"rate": Range(1.0)},
    )
    swept, (modest, bold), _ = both(
        recipe, TrainConfig(12, N), {"rate": [0.5, 200.0]}, data, lambda state: state.opt_state[-1]
    )
    total = swept.values.sum(axis=-1)
    assert np.all(np.diff(total, axis=1) <= 1e-6) and np.all(total[:, -1] < 0.8 * total[:, 0])
    assert (
        max(modest.record.mismatch.max(), bold.record.mismatch.max()) < 1e-6
    )  # value_fn gives the values again
    np.testing.assert_allclose(
        modest.record.full[:-1], total[0, 1:], rtol=1e-4
    )  # what was promised is what came
    assert (
        np.all(modest.record.size == 1.0)
        and bold.record.size[0] < 0.1
        and bold.record.full[0] > 2 * total[1, 0]
    )


def test_a_routed_link_asks_value_fn_about_its_own_subtree():
    params = {"trunk": {"w": jnp.array([1.0, 2.0])}, "heads": {"w": jnp.array([3.0])}}

    def value_fn(p):
        return jnp.stack([jnp.sum(p["trunk"]["w"] ** 2) * p["heads"]["w"][0], p["heads"]["w"][0]])

    link = route(
        {"trunk": optax.chain(sum_rows(), optax.sgd(0.1), backtrack(4)), "heads": sum_rows()}
    )
    rows = jax.jit(jax.jacrev(value_fn))(params)
    _, state = link.update(
        rows, link.init(params), params, values=value_fn(params), value_fn=value_fn
    )
    tried = optax.tree_utils.tree_get(state, "full")
    np.testing.assert_allclose(
        tried, 3.0 * (0.4**2 + 0.8**2) + 3.0, rtol=1e-5
    )  # the head stays, the trunk goes 0.6 g


# ------------------------------------------------------------------------- (f) a conditioned model


def conditioned(inner, width, lam):
    """FiLM: ``z (1 + c s) + c b`` with c the condition of every row, by default the hparam."""

    def init(key):
        params = inner.init(key)
        return {
            **params,
            "trunk": {
                "body": params["trunk"],
                "scale": jnp.zeros(width),
                "shift": jnp.zeros(width),
            },
        }

    def represent(trunk, x, condition=None):
        c = jnp.broadcast_to(lam if condition is None else condition, x.numeric.shape[:1])[:, None]
        return inner.represent(trunk["body"], x) * (1.0 + c * trunk["scale"]) + c * trunk["shift"]

    return Model(init, represent, inner.predict)


def test_one_model_trained_on_drawn_weights_answers_for_the_knob():
    spec, data = spec_of(1), rows_of([[1, 1, 0, 0]])
    inner = shared_bottom(spec, (6,), ())

    def build(k):
        model = conditioned(inner, 6, k["lam"])

        def apply(params, batch, key, memory):
            lam = jax.random.uniform(key, batch.weight.shape)
            scores = model.predict(
                params["heads"], model.represent(params["trunk"], batch.x, condition=lam)
            )
            share = jnp.mean(batch.groups, axis=0)
            signed = batch.groups @ jnp.array([1.0, -1.0]) / (batch.groups @ share)
            gap = jnp.mean(
                lam * signed * jax.nn.sigmoid(scores[:, 0])
            )  # rows weighted by their own lam
            (loss,) = losses_of(spec, scores, batch)
            return (loss, 40.0 * gap**2), memory

        return Components(
            model,
            Objective(("loss", "gap"), lambda key, data: (), apply),
            optax.chain(sum_rows(), optax.adam(0.05)),
        )

    recipe = Recipe("conditioned", build, {"lam": Range(0.5)})
    swept, runs, _ = both(recipe, TrainConfig(100, N), {"lam": [0.0, 1.0]}, data)
    for leaf in jax.tree.leaves(swept.params):
        np.testing.assert_array_equal(leaf[0], leaf[1])  # one training; only the question differs
    asked, params = build({"lam": 0.123}).model, runs[0].state.params
    for lam, scores in zip((0.0, 1.0), swept.scores["test"], strict=True):
        want = asked.predict(
            params["heads"], asked.represent(params["trunk"], data.x, condition=lam)
        )
        np.testing.assert_allclose(scores, want, atol=1e-3)
    assert swept.metrics["gap"][1, 0] < 0.5 * swept.metrics["gap"][0, 0]


# ------------------------------------------------------------------------ (g) two data sets in one


def joined(first, second):
    """Rows of both, each with its own labels and groups; the others' are NaN or zero."""

    def beside(a, b, fill):
        return np.block(
            [[a, np.full((len(a), b.shape[1]), fill)], [np.full((len(b), a.shape[1]), fill), b]]
        )

    x = jax.tree.map(lambda a, b: np.concatenate([a, b]), first.x, second.x)
    return Dataset(
        x,
        *map(
            np.float32,
            (
                beside(first.labels, second.labels, np.nan),
                beside(first.label_mask, second.label_mask, 0.0),
                beside(first.groups, second.groups, 0.0),
                np.concatenate([first.weight, second.weight]),
            ),
        ),
    )


def test_two_data_sets_with_disjoint_labels_are_one_data_set():
    spec = spec_of(2, (ATTRIBUTE, dataclasses.replace(ATTRIBUTE, name="other")))
    a, b = rows_of([[0, 1, 1, 0]]), rows_of([[1, 0, 0, 1]], seed=1)
    data, model, accuracy = (
        joined(a, b),
        shared_bottom(spec, (6,), ()),
        aggregator(lambda rows, _: jax.tree.map(lambda g: g[0] + g[1], rows)),
    )

    def values(lam):
        def of(scores, batch):
            gap = rate_gap(
                jax.nn.sigmoid(scores[:, 1]), batch.groups[:, spec.group_slice(1)], batch.weight
            )
            return *losses_of(spec, scores, batch), lam * gap

        return objective(model, ("a", "b", "fairness on b"), of)

    recipe = Recipe(
        "joined",
        lambda k: Components(
            model,
            values(k["lam"]),
            optax.chain(route({"trunk": sum_rows(), "heads": accuracy}), optax.adam(0.05)),
        ),
        {"lam": Range(1.0)},
    )
    swept, runs, _ = both(recipe, TrainConfig(30, 32), {"lam": [0.0, 2.0]}, data)
    of_a, of_b = swept.scores["test"][:, :N, 0], swept.scores["test"][:, N:, 1]
    assert np.all(np.mean((of_a > 0) == a.labels[:, 0], axis=1) > 0.8)
    assert np.mean((of_b[0] > 0) == b.labels[:, 0]) > 0.8
    free, held = (float(rate_gap(jax.nn.sigmoid(s), b.groups, b.weight)) for s in of_b)
    assert held < 0.5 * free

    only_b = data._replace(weight=data.weight * (np.arange(2 * N) >= N))
    rows = jax.jit(value_and_rows(lambda p: values(2.0).apply(p, only_b, None, ())[0]))(
        runs[0].state.params
    )[1]
    assert not any(
        np.any(leaf) for leaf in jax.tree.leaves(rows["heads"]["t0"])
    )  # head A feels nothing of rows of B
    assert all(np.any(rows["trunk"]["kernel"][k]) for k in (1, 2))
