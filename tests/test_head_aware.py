"""The least norm of Lagrangians in a metric: against solvers that are not ours, and its promises.

P6 to P13 are the properties that the reading of FairMT promises.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import dataset, double, tabular_spec
from scipy.optimize import minimize

from fairjax import gradients
from fairjax.core.types import Objective
from fairjax.gradients import at_representation, head_aware, link, mgda, value_and_rows
from fairjax.models import shared_bottom
from fairjax.objectives import per_task

CASES = 300  # per number of tasks, as in the study


def on_heads(beta):
    """The metric with 1 on the trunk and beta on the heads."""
    return lambda path: 1.0 if path[0].key == "trunk" else beta


# ---- solvers of others ----


def least_norm(products: np.ndarray, linear: np.ndarray | None = None) -> np.ndarray:
    """``argmin a' H a / 2 + linear' a`` on the simplex, by trying every support."""
    count = len(products)
    linear = np.zeros(count) if linear is None else linear
    best, least = None, np.inf
    for size in range(1, count + 1):
        for support in itertools.combinations(range(count), size):
            index = list(support)
            matrix = np.ones((size + 1, size + 1))
            matrix[:size, :size] = products[np.ix_(index, index)]
            matrix[size, size] = 0.0
            try:
                solution = np.linalg.solve(matrix, np.append(-linear[index], 1.0))[:size]
            except np.linalg.LinAlgError:
                continue
            if solution.min() < -1e-12:
                continue
            a = np.zeros(count)
            a[index] = solution
            value = a @ products @ a / 2 + linear @ a
            if value < least - 1e-15:
                best, least = a, value
    return best


def by_slsqp(products: np.ndarray, linear: np.ndarray) -> np.ndarray:
    count = len(products)
    found = minimize(
        lambda a: a @ products @ a / 2 + linear @ a,
        np.full(count, 1 / count),
        jac=lambda a: products @ a + linear,
        bounds=[(0, None)] * count,
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-15, "maxiter": 500},
        method="SLSQP",
    )
    return found.x


def drawn(seed: int, tasks: int, constraints: int, width: int = 12, count: int = 20) -> np.ndarray:
    """Rows of unequal lengths, ``[N, K, P]``."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, tasks + constraints, width))
    return rows * np.exp(rng.normal(size=(count, tasks + constraints, 1)))


def lagrangians(rows: np.ndarray, constraints: int) -> np.ndarray:
    tasks = rows.shape[-2] - constraints
    pushed = rows[..., tasks:, :].sum(axis=-2, keepdims=True)
    return rows[..., :tasks, :] + pushed


def weights_of(rows: np.ndarray, **options) -> np.ndarray:
    """Weights ``[N, K]`` in float64."""
    rule = head_aware.rule(**options)
    with double():
        grams = jnp.asarray(rows @ rows.swapaxes(1, 2), jnp.float64)
        weigh = jax.jit(jax.vmap(lambda gram: rule.weights(gram, None, (), None)[0]))
        return np.asarray(weigh(grams))


@pytest.mark.parametrize("constraints", [0, 1, 2])
@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_weights_are_those_of_every_support(tasks, constraints):
    rows = drawn(tasks, tasks, constraints)
    found = weights_of(rows, constraints=constraints)
    for weights, g in zip(found, lagrangians(rows, constraints), strict=True):
        np.testing.assert_allclose(weights[:tasks], least_norm(g @ g.T), atol=1e-9)
        np.testing.assert_array_equal(weights[tasks:], 1.0)


@pytest.mark.parametrize("gamma", [0.0, 0.7, 20.0])
def test_weights_with_a_preference_are_those_of_others(gamma):
    rows, preference = drawn(7, 3, 1), np.array([0.5, 0.3, 0.2])
    found = weights_of(rows, constraints=1, preference=2 * preference, gamma=gamma)
    for weights, g in zip(found, lagrangians(rows, 1), strict=True):
        matrix, linear = g @ g.T + gamma * np.eye(3), -gamma * preference
        expected = least_norm(matrix, linear)
        np.testing.assert_allclose(weights[:3], expected, atol=1e-9)
        size = np.trace(matrix)
        slsqp = by_slsqp(matrix / size, linear / size)
        np.testing.assert_allclose(weights[:3], slsqp, atol=1e-6)
        ours, theirs = (a @ matrix @ a / 2 + linear @ a for a in (weights[:3], slsqp))
        assert ours < theirs + 1e-9 * size


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_a_strong_pull_ends_at_the_preference_of_those_present(scale):
    rows = drawn(3, 3, 1)
    rows[:, 1] = 0.0
    gram = jnp.asarray(scale * (rows @ rows.swapaxes(1, 2)), jnp.float32)
    rule = head_aware.rule(constraints=1, preference=[0.2, 0.5, 0.3], gamma=1e20)
    weights = jax.vmap(lambda g: rule.weights(g, None, (), None)[0])(gram)
    np.testing.assert_allclose(weights, np.tile([0.4, 0.0, 0.6, 1.0], (len(rows), 1)), atol=1e-4)


# ---- what it is without constraints, and with one task ----


def tree_of(rows: np.ndarray) -> dict:
    return {"trunk": jnp.asarray(rows[:, :5]), "heads": [jnp.asarray(rows[:, 5:])]}


def params_of(rows: dict) -> dict:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), rows)


def step(tx, rows: dict):
    """Update and state after one compiled step."""

    def update(rows):
        params = params_of(rows)
        return tx.update(rows, tx.init(params), params)

    return jax.jit(update)(rows)


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_without_constraints_and_metric_it_is_mgda_to_the_bit(tasks):
    rows = drawn(1, tasks, 0).astype(np.float32)
    if tasks > 2:
        rows[::3, 1] = 0.0
    stacked = jax.vmap(tree_of)(jnp.asarray(rows))

    def both(rows):
        return step(head_aware(tasks), rows), step(mgda(tasks), rows)

    for found in (
        jax.jit(both)(jax.tree.map(lambda a: a[0], stacked)),
        jax.jit(jax.vmap(both))(stacked),
    ):
        jax.tree.map(np.testing.assert_array_equal, *found)


def test_a_metric_of_ones_changes_no_bit():
    rows = tree_of(drawn(2, 2, 1)[0].astype(np.float32))
    plain = jax.jit(lambda r: step(head_aware(3, constraints=1), r))(rows)
    ones = jax.jit(lambda r: step(head_aware(3, constraints=1, metric=lambda path: 1.0), r))(rows)
    jax.tree.map(np.testing.assert_array_equal, plain, ones)


def test_one_task_is_the_gradient_of_its_lagrangian():
    rows = tree_of(drawn(4, 1, 2)[0].astype(np.float32))
    update, state = step(head_aware(3, constraints=2), rows)
    np.testing.assert_allclose(state.weights, 1.0, rtol=1e-6)
    np.testing.assert_allclose(update["trunk"], rows["trunk"].sum(axis=0), rtol=1e-5)


# ---- the metric ----


def seen_grams(metric, rows):
    """The Gram matrix that a rule is given, by a rule that remembers it."""
    count = jax.tree.leaves(rows)[0].shape[0]

    def weights(gram, values, memory, key):
        return jnp.ones(count, gram.dtype), gram, jnp.zeros((), gram.dtype)

    rule = gradients.Rule(lambda k: jnp.zeros((k, k)), weights)
    return step(link(rule, count, metric=metric), rows)[1].memory


def task_rows():
    """Rows of three losses, each through a head of its own."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)
    params = {
        "trunk": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
        "heads": [jnp.asarray(rng.normal(size=4), jnp.float32) for _ in range(3)],
    }

    def losses(params):
        z = jnp.tanh(x @ params["trunk"])
        return [jnp.mean((z @ head - t) ** 2) for t, head in enumerate(params["heads"])]

    return value_and_rows(losses)(params)[1]


def test_p6_without_heads_and_constraints_it_is_mgda_on_the_trunk():
    rows = task_rows()
    with_constraint = jax.tree.map(lambda leaf: jnp.concatenate([leaf, 0 * leaf[:1]]), rows)
    update, state = step(head_aware(4, constraints=1, metric=on_heads(0.0)), with_constraint)
    _, on_trunk = step(mgda(3), {"trunk": rows["trunk"]})
    np.testing.assert_allclose(state.weights[:3], on_trunk.weights, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(
        seen_grams(on_heads(0.0), rows), seen_grams(None, {"trunk": rows["trunk"]})
    )
    assert not any(np.any(head) for head in update["heads"])  # a weight of 0: no step


@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_p7_heads_of_their_own_lengthen_rows_and_turn_none(beta):
    rows = task_rows()
    change = seen_grams(on_heads(beta), rows) - seen_grams(on_heads(0.0), rows)
    lengths = [np.sum(np.square(rows["heads"][t][t])) for t in range(3)]
    np.testing.assert_allclose(change, beta * np.diag(lengths), rtol=1e-4, atol=1e-6)


def test_a_weight_for_each_leaf():
    rows = task_rows()
    beta = {"trunk": 1.5, 0: 0.2, 1: 0.0, 2: 3.0}

    def metric(path):
        return beta[path[0].key if len(path) == 1 else path[1].idx]

    flat = np.concatenate([np.asarray(leaf).reshape(3, -1) for leaf in jax.tree.leaves(rows)], 1)
    scales = np.repeat([0.2, 0.0, 3.0, 1.5], [4, 4, 4, 12])
    np.testing.assert_allclose(
        seen_grams(metric, rows), (flat * scales) @ flat.T, rtol=1e-4, atol=1e-6
    )
    update, state = step(head_aware(3, metric=metric), rows)
    stepped = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(update)])
    np.testing.assert_allclose(stepped, scales * (state.weights @ flat), rtol=1e-4, atol=1e-6)


def test_p8_and_p9_no_lagrangian_rises_and_weights_are_on_the_simplex():
    rng = np.random.default_rng(5)
    for tasks, constraints in ((2, 1), (3, 2), (5, 1)):
        rows = drawn(tasks + 10, tasks, constraints, width=9)
        rows[::4, 0] = 0.0
        scales = rng.uniform(0.0, 3.0, size=(len(rows), 9))
        found = weights_of(rows * np.sqrt(scales)[:, None], constraints=constraints)
        alpha = found[:, :tasks]
        g = lagrangians(rows, constraints)
        np.testing.assert_allclose(alpha.sum(axis=1), 1.0, atol=1e-12)
        assert alpha.min() >= 0.0 and not np.any(alpha[::4, 0])
        products = (g * scales[:, None]) @ g.swapaxes(1, 2)
        np.testing.assert_allclose(products, products.swapaxes(1, 2), atol=1e-12)
        assert np.linalg.eigvalsh(products).min() > -1e-10 * products.max()
        d = np.einsum("nk,nkp->np", found, rows)
        squared_length = np.einsum("np,np->n", scales * d, d)
        descent = np.einsum("ntp,np->nt", g, scales * d)
        is_present = np.any(rows[:, :tasks] != 0, axis=2)
        least = np.where(is_present, descent, np.inf).min(axis=1)
        assert np.all(least >= squared_length - 1e-9 * np.trace(products, axis1=1, axis2=2))


# ---- the study: which steps let a Lagrangian rise ----


def conflicts_in_heads(tasks: int) -> dict[str, np.ndarray]:
    """Rows of T losses and of one constraint that in every head is minus half of the loss's row.

    The trunk has six parameters, a head fifteen; the multiplier is 3/4. The study does not tell its
    own numbers. These were chosen among some hundreds, with which 0 to 80 % of the cases rise, such
    that the rates resemble the study's. Six parameters keep five rows independent: alpha is unique.
    """
    rng = np.random.default_rng(0)
    trunk, heads = [], []
    for _ in range(CASES):
        of_losses = rng.normal(size=(tasks, 6))
        of_constraint = 0.75 * rng.normal(size=6)
        head = rng.normal(size=(tasks, 15))
        own = np.einsum("st,tp->stp", np.eye(tasks), head)
        trunk.append(np.concatenate([of_losses, of_constraint[None]]))
        heads.append(np.concatenate([own, -0.375 * head[None]]))
    return {"trunk": np.stack(trunk), "heads": np.stack(heads)}


# cases of 300 in which some Lagrangian rises, for beta 0, 0.1, 0.5 and 1
STUDY = {2: (87, 46, 0, 0), 3: (157, 114, 1, 0), 5: (92, 38, 0, 0)}  # noted for 0: 122, 147, 102


@pytest.mark.parametrize("tasks", STUDY)
def test_a_step_outside_the_metric_lets_lagrangians_rise_and_one_inside_none(tasks):
    betas = np.array([0.0, 0.1, 0.5, 1.0, 4.0])
    rows = conflicts_in_heads(tasks)

    def update(beta, rows):
        tx = head_aware(tasks + 1, constraints=1, metric=on_heads(beta))
        update, state = step(tx, rows)
        return update, state.weights

    with double():
        of_betas = jax.vmap(jax.vmap(update, (None, 0)), (0, None))
        inside, weights = jax.jit(of_betas)(jnp.asarray(betas), jax.tree.map(jnp.asarray, rows))

    def flat(tree, lead):
        leaves = [np.asarray(tree[name]) for name in ("trunk", "heads")]
        return np.concatenate([leaf.reshape(*leaf.shape[:lead], -1) for leaf in leaves], lead)

    table = flat(rows, 2)
    g = lagrangians(table, 1)
    outside = np.einsum("bnk,nkp->bnp", np.asarray(weights), table)
    rises = {}
    for name, direction in (("outside", outside), ("inside", flat(inside, 2))):
        descent = np.einsum("ntp,bnp->bnt", g, direction)
        rises[name] = np.sum(np.any(descent < -1e-9, axis=2), axis=1)
    np.testing.assert_array_equal(rises["inside"], 0)
    np.testing.assert_array_equal(rises["outside"][:4], STUDY[tasks])
    if tasks == 2:  # the shared-only rows of the study are those of ``measure``
        mgda_on_trunk = mgda(2, measure=lambda path: path[0].key == "trunk")
        summed = {name: leaf[0, :2] + leaf[0, 2:] for name, leaf in rows.items()}
        told = step(mgda_on_trunk, jax.tree.map(jnp.asarray, summed))[1].weights
        np.testing.assert_allclose(weights[0, 0, :2], told, atol=1e-5)


# ---- rows that are absent, not finite, or cancelled ----


def test_an_absent_task_leaves_the_simplex_although_its_lagrangian_is_not_zero():
    rows = {
        "trunk": jnp.asarray([[7**0.5, 0, 0, 0], [0, 0, 0, 0], [0, 10**0.5, 0, 0], [0, 0, 0, 1.0]])
    }
    update, state = step(head_aware(4, constraints=1), rows)
    np.testing.assert_allclose(state.weights, [10 / 17, 0, 7 / 17, 1], atol=1e-5)  # .588, .412
    np.testing.assert_allclose(update["trunk"][3], 1.0, atol=1e-6)
    assert state.weights[1] == 0.0


def test_with_all_tasks_absent_the_constraints_move_alone():
    rows = {"trunk": jnp.asarray([[0.0, 0], [0, 0], [3, 4]])}
    update, state = step(head_aware(3, constraints=1), rows)
    np.testing.assert_array_equal(state.weights, [0, 0, 1])
    np.testing.assert_array_equal(update["trunk"], [3, 4])
    assert np.isfinite(state.residual)


@pytest.mark.parametrize("bad", [0, 2])
def test_a_row_that_is_not_finite_is_left_out(bad):
    rows = np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 5]], np.float32)
    rows[bad, 1] = np.nan
    update, state = step(head_aware(3, constraints=1), {"trunk": jnp.asarray(rows)})
    expected = [[0, 1, 1], None, [0.2, 0.8, 0]][bad]
    np.testing.assert_allclose(state.weights, expected, atol=1e-5)
    assert np.isfinite(update["trunk"]).all() and state.quarantined == 1


@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize("all_tasks", [True, False])
def test_a_constraint_that_cancels_a_loss(precise, all_tasks):
    rng = np.random.default_rng(1)
    c = rng.normal(size=(20, 1, 6))
    other = -c if all_tasks else rng.normal(size=(20, 1, 6))
    rows = np.concatenate([-c, other, c], axis=1)
    rule = head_aware.rule(constraints=1)
    with double():
        grams = jnp.asarray(rows @ rows.swapaxes(1, 2), jnp.float64 if precise else jnp.float32)
        weights = jax.vmap(lambda gram: rule.weights(gram, None, (), None)[0])(grams)
    weights = np.asarray(weights, float)
    d = np.einsum("nk,nkp->np", weights, rows)
    assert np.linalg.norm(d, axis=1).max() < (1e-6 if precise else 1e-2)
    np.testing.assert_allclose(weights[:, :2].sum(axis=1), 1.0, atol=1e-5)


# ---- transformations and number formats ----


def test_mapped_over_beta_gamma_and_rows_is_a_loop():
    rows = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *[tree_of(x.astype(np.float32)) for x in drawn(8, 3, 1, count=4)],
    )
    betas, gammas = jnp.asarray([0.0, 0.1, 1.0, 3.0]), jnp.asarray([0.0, 1.0, 0.0, 5.0])

    def update(beta, gamma, rows):
        tx = head_aware(4, constraints=1, gamma=gamma, metric=on_heads(beta))
        update, state = step(tx, rows)
        return update, state.weights

    mapped = jax.jit(jax.vmap(update))(betas, gammas, rows)
    for i in range(4):
        member = jax.tree.map(lambda leaf, i=i: leaf[i], rows)
        alone = update(float(betas[i]), float(gammas[i]), member)
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-4)


def test_rows_in_bfloat16():
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), tree_of(drawn(9, 3, 1)[0]))
    tx = head_aware(4, constraints=1, metric=on_heads(0.3))
    update, state = step(tx, half)
    full, _ = step(tx, jax.tree.map(lambda a: a.astype(jnp.float32), half))
    assert update["trunk"].dtype == jnp.bfloat16 and state.weights.dtype == jnp.float32
    for a, b in zip(jax.tree.leaves(update), jax.tree.leaves(full), strict=True):
        np.testing.assert_allclose(np.asarray(a, float), b, rtol=0.01, atol=1e-3)


# ---- complaints ----


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: head_aware(2, constraints=2), "constraints is 2 of 2 rows"),
        (lambda: head_aware(2, constraints=-1), "constraints is -1 of 2 rows"),
        (lambda: head_aware(2, preference=[1.0]), r"preference has shape \(1,\), expected \(2,\)"),
        (lambda: head_aware(2, metric=lambda path: -1.0), r"the weight -1.0, expected one number"),
        (lambda: head_aware(2, metric=lambda path: np.ones(2)), "expected one number"),
        (
            lambda: link(mgda.rule(), 2, measure=lambda path: True, metric=lambda path: 1.0),
            "measure and metric both say",
        ),
    ],
)
def test_complaints(make, message):
    with pytest.raises(ValueError, match=message):
        make().init({"trunk": jnp.zeros(3)})


# ---- at the representation ----

SPEC = tabular_spec()
DATA = dataset(SPEC, 24, 0)
MODEL = shared_bottom(SPEC, (4,), (3,))
PARAMS = MODEL.init(jax.random.key(1))


def remembered(rule):
    """The rule, which keeps its weights as its memory."""

    def weights(gram, values, memory, key):
        w, _, residual = rule.weights(gram, values, (), key)
        return w, w, residual

    def init(rows):
        rule.init(rows)
        return jnp.zeros(rows)

    return gradients.Rule(init, weights)


def with_constraint(multiplier, weight=(1.0, 1.0)):
    """The losses of the tasks, and ``multiplier`` times the mean square of all scores."""

    def losses(model):
        tasks = per_task(model, SPEC, weight=jnp.asarray(weight))

        def apply(params, batch, key, memory):
            values, memory = tasks.apply(params, batch, key, memory)
            scores = model.predict(params["heads"], model.represent(params["trunk"], batch.x))
            return (*values, multiplier * jnp.mean(jnp.square(scores))), memory

        return Objective((*tasks.rows, "constraint"), tasks.init, apply)

    return losses


def at_z(losses, rule, params=PARAMS, **options):
    """Weights and the gradient of the row that is trained."""
    objective = at_representation(MODEL, losses, remembered(rule), **options)
    memory = objective.init(jax.random.key(0), DATA)

    def total(params):
        values, memory_after = objective.apply(params, DATA, jax.random.key(2), memory)
        return values[0], memory_after[1]

    (_, weights), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    return weights, gradient


def rows_at_z(losses):
    """Rows by z and by the heads, through the plain model."""
    objective = losses(MODEL._replace(represent=lambda z, x, condition=None: z))
    z = MODEL.represent(PARAMS["trunk"], DATA.x)

    def values(at):
        return objective.apply(at, DATA, jax.random.key(2), ())[0]

    return value_and_rows(values)({"trunk": z, "heads": PARAMS["heads"]})[1]


def flat64(tree) -> np.ndarray:
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.asarray(a, float).reshape(len(a), -1) for a in leaves], axis=1)


def test_p13_at_the_representation_it_is_mgda_ub():
    plain, gradient = at_z(lambda model: per_task(model, SPEC), mgda.rule())
    rule = head_aware.rule(constraints=1)
    for options in ({}, {"metric": on_heads(0.0)}):
        weights, same_gradient = at_z(with_constraint(0.0), rule, **options)
        np.testing.assert_allclose(weights, [*plain, 1.0], atol=1e-6)
        for a, b in zip(jax.tree.leaves(same_gradient), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_heads_and_a_constraint_join_at_the_representation():
    losses, metric = with_constraint(0.3, (1.0, 1.5)), on_heads(0.4)
    rows = rows_at_z(losses)
    z, heads = flat64(rows["trunk"]), flat64(rows["heads"])
    g = lagrangians(np.concatenate([z, np.sqrt(0.4) * heads], axis=1), 1)
    weights, gradient = at_z(losses, head_aware.rule(constraints=1), metric=metric)
    alpha = least_norm(g @ g.T)
    np.testing.assert_allclose(weights, [*alpha, 1.0], atol=2e-4)
    assert 0.01 < alpha[0] < 0.99
    np.testing.assert_allclose(
        np.concatenate([np.ravel(a) for a in jax.tree.leaves(gradient["heads"])]),
        np.asarray(weights) @ heads,
        atol=1e-5,
    )
    # the step in the metric, by the link of one row
    row = jax.tree.map(lambda a: a[None], gradient)
    update, _ = step(head_aware(1, metric=metric), row)
    for part, beta in (("trunk", 1.0), ("heads", 0.4)):
        for a, b in zip(*map(jax.tree.leaves, (update[part], gradient[part])), strict=True):
            np.testing.assert_allclose(a, beta * b, rtol=1e-5)


@pytest.mark.parametrize("mu", [0.01, 0.5])
def test_anisotropy_is_the_inverse_of_the_whole_matrix(mu):
    losses = with_constraint(0.7)
    z = MODEL.represent(PARAMS["trunk"], DATA.x)
    slopes = jax.jacobian(lambda z: MODEL.predict(PARAMS["heads"], z))(z)
    j = np.asarray(slopes, float).reshape(-1, z.size)
    rows = flat64(rows_at_z(losses)["trunk"])
    products = rows @ np.linalg.solve(mu * np.eye(z.size) + j.T @ j, rows.T)
    both = np.array([[1.0, 0, 1], [0, 1, 1]])
    alpha = least_norm(both @ products @ both.T)
    weights, _ = at_z(losses, head_aware.rule(constraints=1), anisotropy=mu)
    np.testing.assert_allclose(weights, [*alpha, 1.0], atol=1e-3)
    plain, _ = at_z(losses, head_aware.rule(constraints=1))
    assert np.abs(weights - plain).max() > 1e-2


def test_a_weak_anisotropy_is_none():
    losses, rule = with_constraint(0.7), head_aware.rule(constraints=1)
    np.testing.assert_allclose(
        at_z(losses, rule, anisotropy=1e4)[0], at_z(losses, rule)[0], atol=1e-3
    )


# ---- in a chain ----


def test_multipliers_stand_before_the_link():
    """Rows of a constraint are multiplied by a transformation that is meant for rows."""
    rows = tree_of(drawn(6, 2, 1)[0].astype(np.float32))
    multiplier = jnp.asarray(0.3)

    def multiplied(updates, state, params=None):
        factors = jnp.asarray([1.0, 1.0, multiplier])
        return jax.tree.map(lambda leaf: factors[:, None] * leaf, updates), state

    before = gradients.for_rows(optax.GradientTransformation(lambda p: (), multiplied))
    tx = gradients.validated(optax.chain(before, head_aware(3, constraints=1)), 3)
    update, _ = step(tx, rows)
    by_hand, _ = step(head_aware(3, constraints=1), multiplied(rows, ())[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), update, by_hand)
