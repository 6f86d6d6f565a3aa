"""Networks that branch: likeness, groups, the link, the event, and the network rebuilt by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import double

from fairjax import models, notions
from fairjax.core.disk import read_arrays, write_arrays
from fairjax.core.types import Attribute, Columns, DataError, Dataset, Images, Spec, Splits, Task
from fairjax.data import Roles, from_table
from fairjax.gradients import (
    Branches,
    among_fairness,
    gate_fairness,
    on_branches,
    pcgrad,
    route,
    sum_rows,
)
from fairjax.methods import Context, fairbranch, recon
from fairjax.methods._branching import chance_above, stacked_heads
from fairjax.methods._likeness import chance_level, cka, cosine, debiased_cka, merged_groups
from fairjax.methods._recon import layer_conflicts
from fairjax.models import branched, compact, equal_copies, expanded, parameter_count, trunk_layers
from fairjax.objectives import per_task
from fairjax.study import NamedStudy, StudyConfig, from_names, load_model, run_study
from fairjax.study.explain import different_metrics, model_of_run
from fairjax.training import Program, TrainConfig, make_train, samplers, sweep
from fairjax.training.loop import start

NOTION = notions.get("rate_gap", notions.CONDITIONS["fpr"])

# ---------------------------------------------------------------------------------------- likeness

A = [[1, 0], [0, 1], [1, 1], [2, -1]]
B = [[1, 1], [0, 1], [1, 0], [1, -1]]


def brute_hsic(one: np.ndarray, other: np.ndarray) -> float:
    """The unbiased estimator as a mean over all quadruples of different inputs."""
    k, m = one @ one.T, other @ other.T
    n = len(k)
    terms = []
    for i, j, q, r in np.ndindex(n, n, n, n):
        if len({i, j, q, r}) == 4:
            terms.append(k[i, j] * (m[i, j] + m[q, r] - 2.0 * m[i, q]))
    return float(np.mean(terms))


def test_cka_of_the_papers_vector():
    likeness = cka(jnp.array([A, B], float))
    np.testing.assert_allclose(likeness[0, 1], 0.641174, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3, 3), (6, 3, 1), (4, 2, 5)])
def test_likeness_against_centred_gram_matrices(shape):
    inputs, outputs, tasks = shape
    kernels = np.random.default_rng(0).normal(size=(tasks, inputs, outputs))
    with double():
        measured = [np.asarray(f(jnp.asarray(kernels))) for f in (cka, debiased_cka, cosine)]
    centre = np.eye(inputs) - 1.0 / inputs
    for s, t in np.ndindex(tasks, tasks):
        one, other = kernels[s], kernels[t]
        k, m = (centre @ w @ w.T @ centre for w in (one, other))
        expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
        np.testing.assert_allclose(measured[0][s, t], expected, rtol=1e-10)
        norms = max(brute_hsic(one, one), 0.0) * max(brute_hsic(other, other), 0.0)
        unbiased = brute_hsic(one, other) / np.sqrt(norms) if norms > 0 else 0.0
        np.testing.assert_allclose(measured[1][s, t], unbiased, rtol=1e-9, atol=1e-12)
        flat = np.vdot(one, other) / np.linalg.norm(one) / np.linalg.norm(other)
        np.testing.assert_allclose(measured[2][s, t], flat, rtol=1e-10)


def test_cka_sees_neither_sign_nor_rotation_and_cosine_sees_both():
    rng = np.random.default_rng(1)
    one = rng.normal(size=(8, 3))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    others = [-one, one @ rotation, 2.0 * one + rng.normal(size=3)]
    for other in others:
        pair = jnp.array([one, other], jnp.float32)
        np.testing.assert_allclose(cka(pair)[0, 1], 1.0, atol=1e-5)
    assert cosine(jnp.array([one, -one], jnp.float32))[0, 1] < -0.99


@pytest.mark.parametrize("inputs, outputs", [(512, 128), (256, 512), (20, 1024)])
def test_chance_level_of_cka(inputs, outputs):
    kernels = np.random.default_rng(2).normal(size=(4, inputs, outputs))
    above = np.triu_indices(4, 1)
    plain = cka(jnp.asarray(kernels, jnp.float32))[above]
    np.testing.assert_allclose(plain, chance_level(inputs, outputs), atol=0.01)
    unbiased = debiased_cka(jnp.asarray(kernels, jnp.float32))[above]
    assert np.max(np.abs(unbiased)) < 0.2


def test_heads_of_other_widths_are_compared_by_what_they_read():
    heads = [jnp.array(A, float), jnp.array(B, float)[:, :1]]
    one, other = (np.asarray(head) - np.mean(head, axis=0) for head in heads)
    norm = np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other)
    expected = np.linalg.norm(one.T @ other) ** 2 / norm
    np.testing.assert_allclose(cka(stacked_heads(heads))[0, 1], expected, rtol=1e-5)


def test_chance_levels_of_the_papers_network():
    spec = spec_of()
    model = branched(models.shared_bottom(spec, (1024, 128, 256, 512, 128), ()), spec)
    names = [task.name for task in spec.tasks]
    levels = chance_above(model, names)
    # 1024-128, 128-256, 256-512, 512-128, and heads of one output
    np.testing.assert_allclose(levels, [0.11, 0.66, 0.67, 0.20, 0.01], atol=0.011)


# ------------------------------------------------------------------------------------------ groups

PAIRS = {(0, 1): 0.9, (0, 2): 0.8, (0, 3): 0.2, (0, 4): 0.1, (1, 2): 0.7}
PAIRS |= {(1, 3): 0.3, (1, 4): 0.2, (2, 3): 0.75, (2, 4): 0.1, (3, 4): 0.4}
GROUPS = {0.7: [0, 0, 2, 2, 4], 0.8: [0, 0, 2, 3, 4], 0.4: [0, 0, 2, 2, 4], 0.95: [0, 1, 2, 3, 4]}


@pytest.mark.parametrize("tau", GROUPS)
def test_groups_of_the_papers_example(tau):
    likeness = np.eye(5)
    for (s, t), value in PAIRS.items():
        likeness[s, t] = likeness[t, s] = value
    assert merged_groups(jnp.asarray(likeness), jnp.arange(5), tau).tolist() == GROUPS[tau]


def brute_groups(likeness: np.ndarray, group: list[int], tau: float) -> list[int]:
    labels = sorted(set(group))
    pairs = [(-likeness[a, b], a, b) for a in labels for b in labels if a < b]
    merged = {}
    for unlike, a, b in sorted(pairs):
        if -unlike >= tau and a not in merged and b not in merged:
            merged[a] = merged[b] = a
    return [merged.get(label, label) for label in group]


@pytest.mark.parametrize("seed", range(20))
def test_groups_against_a_list_of_pairs(seed):
    rng = np.random.default_rng(seed)
    tasks = rng.integers(1, 9)
    draw = rng.integers(0, 6, (tasks, tasks)) / 5  # with ties
    likeness = np.maximum(draw, draw.T)
    colour = rng.integers(0, tasks, tasks)
    group = [int(np.argmax(colour == one)) for one in colour]
    for tau in (0.2, 0.6, 1.0):
        found = merged_groups(jnp.asarray(likeness), jnp.asarray(group), tau).tolist()
        assert found == brute_groups(likeness, group, tau)
        assert all((np.array(found)[np.array(group) == g] == found[g]).all() for g in set(group))


# ---------------------------------------------------------------------------------------- the link

J = [[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]]


def two_copies(labels, next_layer):
    return {"branches": Branches(jnp.array([labels], jnp.int32), jnp.array(next_layer))}


def rows_for(fairness, head_products=(1.0, 1.0)):
    """Rows on one trunk layer of copies and a head of one number per task."""
    fairness = jnp.array(fairness)
    zero = jnp.zeros_like(fairness)
    heads = {f"t{t}": jnp.array([[1.0], [p]]) for t, p in enumerate(head_products)}
    params = {"trunk": {"w": fairness}, "heads": {name: jnp.zeros(1) for name in heads}}
    return {"trunk": {"w": jnp.stack([zero, fairness])}, "heads": heads}, params


def update_of(fairness, labels=(0, 0), next_layer=-1, head_products=(1.0, 1.0), **options):
    link = on_branches(list(rows_for(fairness, head_products)[0]["heads"]), (("w",),), **options)
    rows, params = rows_for(fairness, head_products)
    state = link.init(params)
    return link.update(rows, state, params, memory=two_copies(labels, next_layer))


def test_surgery_of_the_papers_rows():
    (update, state) = update_of(J)
    projected = np.array([[-0.526316, 1.578947, 1.578947], [1.111111, 2.222222, 2.222222]])
    np.testing.assert_allclose(update["trunk"]["w"], [projected.sum(0)] * 2, atol=1e-5)
    assert state.conflicts[1, 0].tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("case", ["a layer that has not branched", "strangers", "no surgery"])
def test_what_surgery_leaves_alone(case):
    options = {
        "a layer that has not branched": {"next_layer": 0},
        "strangers": {"labels": (0, 1)},
        "no surgery": {"surgery": False},
    }
    update, _ = update_of(J, **options[case])
    expected = J if case == "strangers" else [np.sum(J, axis=0)] * 2
    np.testing.assert_allclose(update["trunk"]["w"], expected, atol=1e-6)


@pytest.mark.parametrize("products, is_open", [((1.0, -1.0), (1, 0)), ((0.0, -1e-9), (1, 0))])
def test_the_gate_closes_where_accuracy_and_fairness_conflict_on_the_head(products, is_open):
    update, state = update_of(J, labels=(0, 1), head_products=products)
    assert state.gate.tolist() == list(is_open)
    np.testing.assert_allclose(update["trunk"]["w"], np.array(J) * np.array(is_open)[:, None])
    closed = update["heads"]["t1"]
    np.testing.assert_allclose(closed, [1.0], atol=0)  # the accuracy alone
    ungated, _ = update_of(J, labels=(0, 1), head_products=products, gate=False)
    np.testing.assert_allclose(ungated["trunk"]["w"], J)


@pytest.mark.parametrize("seed", range(5))
def test_on_rows_of_a_shared_layer_it_is_a_gate_and_pcgrad_among_fairness(seed):
    rng = np.random.default_rng(seed)
    tasks = ["a", "b", "c"]
    accuracy, fairness = rng.normal(size=(2, 3, 5)).astype(np.float32)
    products = rng.normal(size=(2, 3)).astype(np.float32)
    own = {name: jnp.array(products[:, [t]]) for t, name in enumerate(tasks)}
    params = {"trunk": {"w": jnp.zeros((3, 5))}, "heads": {name: jnp.zeros(1) for name in tasks}}
    on_copies = on_branches(tasks, (("w",),))
    rows = {"trunk": {"w": jnp.array([accuracy, fairness])}, "heads": own}
    memory = two_copies((0, 0, 0), -1)
    expected, state = on_copies.update(rows, on_copies.init(params), params, memory=memory)

    params["trunk"] = {"w": jnp.zeros(5)}
    surgery = pcgrad(6, ascending=True, against=among_fairness(3))
    chain = optax.chain(gate_fairness(tasks), route({"trunk": surgery, "heads": sum_rows()}))
    heads = {name: np.zeros((6, 1), np.float32) for name in tasks}
    for t, name in enumerate(tasks):
        heads[name][[t, 3 + t], 0] = products[:, t]
    rows = {"trunk": {"w": jnp.concatenate([accuracy, fairness])}, "heads": heads}
    update, _ = chain.update(rows, chain.init(params), params)
    assert state.gate.sum() == (np.prod(products, axis=0) >= 0).sum()
    for task in range(3):
        np.testing.assert_allclose(expected["trunk"]["w"][task], update["trunk"]["w"], atol=1e-5)
    jax.tree.map(np.testing.assert_allclose, update["heads"], expected["heads"])


def test_heads_that_belong_to_no_task_are_refused():
    with pytest.raises(ValueError, match="a dict with the 2 tasks a, b"):
        on_branches(["a", "b"], (("w",),)).init({"trunk": {}, "heads": {"a": 0.0}})


# --------------------------------------------------------------- a run, and the same net by hand

FEATURES = 6
TASKS = 4


def spec_of(tasks=TASKS):
    numeric = tuple(f"x{i}" for i in range(FEATURES))
    names = tuple(Task(f"t{t}") for t in range(tasks))
    return Spec(names, (Attribute("sex", ("f", "m")),), numeric)


def rows_of(directions, n=64, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    member = np.arange(n) % 3 == 0
    x = rng.normal(size=(n, FEATURES))
    x[:, 0] += np.where(member, 1.0, -1.0)
    labels = x @ np.asarray(directions, float).T + 0.3 * rng.normal(size=(n, len(directions))) > 0
    columns = Columns(x.astype(dtype), np.zeros((n, 0), np.int32))
    groups = np.stack([~member, member], axis=1)
    arrays = [labels, np.ones(labels.shape), groups, np.ones(n)]
    return Dataset(columns, *(array.astype(dtype) for array in arrays))


LAYERS = (("embedding", "kernel", "bias"), ("dense_1",), ("dense_2",))
ROLES = Roles(tasks=tuple(f"t{t}" for t in range(TASKS)), sensitive=("sex",))


def table_of_opposed_tasks():
    data = rows_of(DIRECTIONS, n=120)
    columns = {f"x{i}": data.x.numeric[:, i] for i in range(FEATURES)}
    columns |= {f"t{t}": data.labels[:, t].astype(int) for t in range(TASKS)}
    return columns | {"sex": np.where(data.groups[:, 0] > 0, "f", "m")}


KEY_OF_RUN = jax.random.key(3)
# optax corrects the bias of Adam's moments in float32
MOMENTUM = optax.sgd(0.1, momentum=0.9)
# two pairs of tasks that want opposite things
DIRECTIONS = np.zeros((TASKS, FEATURES))
DIRECTIONS[0, :2] = DIRECTIONS[1, :2] = (1.0, 2.0)
DIRECTIONS[2, :3] = DIRECTIONS[3, :3] = (-1.0, 0.0, 2.0)
DIRECTIONS[1, 4] = DIRECTIONS[3, 5] = 0.5


def context_of(spec, trunk=(8, 7, 6), head=(), optimizer=None, dropout=0.0):
    model = models.shared_bottom(spec, trunk, head, dropout=dropout)
    optimizer = optimizer or optax.adam(0.05)
    return Context(spec, model, lambda hparams: optimizer, {}, batch_size=64)


def branches_and_params(state):
    return state.memory["branches"], state.params


def trained(method, data, epochs, tau, dtype=np.float32, **context):
    spec = spec_of()
    recipe = method(context_of(spec, **context))
    config = TrainConfig(epochs, len(data.weight))
    train = make_train(config, recipe, record=branches_and_params)
    tasks = len(spec.tasks)
    hparams = {"weight": np.ones(tasks), "lam": np.full(tasks, 0.7), "tau": np.asarray(tau)}
    hparams = {name: jnp.asarray(value, dtype) for name, value in hparams.items()}
    keys = jax.random.split(KEY_OF_RUN)
    run = jax.jit(train)
    if dtype == np.float32:
        return run(*keys, hparams, data)
    parts = recipe.build(hparams)
    state = start(parts, jax.random.key(5), data)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), state.params)
    state = state._replace(params=params, opt_state=parts.transform.init(params))
    return run(*keys, hparams, data, state), params


def project_rows(rows: list[np.ndarray]) -> list[np.ndarray]:
    projected = []
    for i, row in enumerate(rows):
        row = row.copy()
        for j, other in enumerate(rows):
            product = row @ other
            if i != j and product < 0:
                row = row - product / (other @ other) * other
        projected.append(row)
    return projected


def steps_of_run(data, epochs):
    """The batch, in its order, and the objective's key of every step of :func:`trained`."""
    key, order_key = jax.random.split(KEY_OF_RUN)
    run_key = jax.random.split(key, 3)[0]
    config = TrainConfig(epochs, len(data.weight))
    for step in range(epochs):
        rows = np.asarray(samplers.shuffled(config, order_key, step, None, data).rows[0])
        step_key = jax.random.fold_in(run_key, step)
        yield jax.tree.map(lambda leaf, r=rows: leaf[r], data), jax.random.split(step_key)[0]


def by_hand(params, labels_b, data, epochs, rate=0.1, lam=0.7, dropout=0.0):
    """Train the network with one entry per branch, rebuilt where labels change; with momentum."""
    depth, tasks = labels_b.shape[1:]

    def layer_of(trunk, i, t):
        part = trunk if i == 0 else trunk[f"dense_{i}"]
        return {key: np.asarray(part[key])[t] for key in ("kernel", "bias")}

    net = {("trunk", i, 0): layer_of(params["trunk"], i, 0) for i in range(depth)}
    for t in range(tasks):
        head = params["heads"][f"t{t}"]["output"]
        net["head", t] = {key: np.asarray(value) for key, value in head.items()}
    momenta = jax.tree.map(np.zeros_like, net)
    labels = np.zeros((depth, tasks), int)
    next_layer = depth - 1
    inner = context_of(spec_of(), dropout=dropout).model

    def mask_of(key, layer, width, rows):
        u = jax.random.uniform(jax.random.fold_in(key, layer), (width, rows), jnp.float32)
        return np.asarray(u.T >= dropout) / (1.0 - dropout)

    def scores_of(net, labels, x, key):
        columns = []
        for t in range(tasks):
            z = x.numeric
            for i in range(depth):
                layer = net["trunk", i, int(labels[i, t])]
                z = jax.nn.relu(z @ layer["kernel"] + layer["bias"])
                if dropout:
                    z = z * mask_of(key, i, z.shape[1], z.shape[0])
            head = net["head", t]
            columns.append(z @ head["kernel"] + head["bias"])
        return jnp.concatenate(columns, axis=1)

    def losses(net, labels, batch, key):
        given = inner._replace(
            represent=lambda trunk, x, key=None: (x, key),
            predict=lambda heads, z: scores_of(net, labels, *z),
        )
        objective = per_task(given, spec_of(), notion=NOTION, lam=jnp.ones(tasks) * lam, split=True)
        fake = {"trunk": None, "heads": None}
        values, _ = objective.apply(fake, batch, key, objective.init(None, batch))
        return jnp.stack(values)

    for epoch, (batch, key) in enumerate(steps_of_run(data, epochs)):
        # leaves [2T, ...]; compiled, it loses digits here
        rows = jax.jacrev(losses)(net, labels, batch, key)
        update = {}
        gate = []
        for t in range(tasks):
            head = rows["head", t]
            flat = np.concatenate([np.reshape(head[key], (2 * tasks, -1)) for key in head], axis=1)
            gate.append(float(flat[t] @ flat[tasks + t] >= 0))
        for key, rows_of_part in rows.items():
            shapes = {name: leaf.shape[1:] for name, leaf in rows_of_part.items()}
            flat = np.concatenate(
                [np.reshape(leaf, (2 * tasks, -1)) for leaf in rows_of_part.values()], axis=1
            )
            accuracy, fairness = flat[:tasks], flat[tasks:] * np.array(gate)[:, None]
            if key[0] == "trunk" and key[1] > next_layer:
                mates = [t for t in range(tasks) if labels[key[1], t] == key[2]]
                fairness = np.array(project_rows([fairness[t] for t in mates]))
            total = accuracy.sum(0) + fairness.sum(0)
            update[key], begin = {}, 0
            for name, shape in shapes.items():
                size = int(np.prod(shape))
                update[key][name] = total[begin : begin + size].reshape(shape)
                begin += size
        for key, part in net.items():
            for name in part:
                momenta[key][name] = 0.9 * momenta[key][name] + update[key][name]
                part[name] = part[name] - rate * momenta[key][name]
        new_labels = np.asarray(labels_b[epoch])
        for i in range(depth):
            if (new_labels[i] == labels[i]).all():
                continue
            next_layer = i - 1
            for label in set(new_labels[i].tolist()) - {0}:
                for store in (net, momenta):
                    store["trunk", i, label] = jax.tree.map(np.copy, store["trunk", i, 0])
        labels = new_labels
    return net, labels


@pytest.mark.slow
@pytest.mark.parametrize(("dropout", "tau"), [(0.0, 0.98), (0.25, 0.985)])
def test_a_branched_run_is_the_run_of_the_network_rebuilt_by_hand(dropout, tau):
    epochs = 14  # the last branches train for two of them
    with double():
        data = rows_of(DIRECTIONS, dtype=np.float64)
        method = fairbranch(NOTION, every=3, warmup=5)
        options = {"optimizer": MOMENTUM, "dropout": dropout}
        run, initial = trained(method, data, epochs, tau, np.float64, **options)
        labels_b = np.asarray(run.record[0].labels)
        changed = np.any(labels_b[1:] != labels_b[:-1], axis=(1, 2))
        changes = np.flatnonzero(changed)
        assert len(changes) == 2 and changes[-1] + 2 < epochs, changes
        net, labels = by_hand(initial, labels_b, data, epochs, dropout=dropout)
        trunk = run.state.params["trunk"]
        for i in range(3):
            part = trunk if i == 0 else trunk[f"dense_{i}"]
            for t in range(TASKS):
                for name in ("kernel", "bias"):
                    expected = net["trunk", i, int(labels[i, t])][name]
                    np.testing.assert_allclose(part[name][t], expected, atol=1e-12, rtol=1e-10)
        for t in range(TASKS):
            head = run.state.params["heads"][f"t{t}"]["output"]
            for name in ("kernel", "bias"):
                np.testing.assert_allclose(head[name], net["head", t][name], atol=1e-12, rtol=1e-10)


def test_normalisation_has_a_scale_and_a_bias_for_every_copy():
    spec = Spec((Task("a"), Task("b")), (Attribute("g", ("0", "1")),), image_shape=(8, 8))
    inner = models.image_encoder(spec, widths=(4,), head=(), dropout=0.5)
    model = branched(inner, spec)
    params = jax.jit(model.init)(jax.random.key(0))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    x = Images(jnp.asarray(pixels))
    key = jax.random.key(1)

    @jax.jit
    def gradients(trunk):
        def total(trunk, t):
            z = models.represent(model, trunk, x, key=key)
            return jnp.sum(jnp.sin(z[t]))

        return jax.grad(total)(trunk, 0), jax.grad(total)(trunk, 1)

    of_first, of_second = gradients(params["trunk"])
    names = []
    leaves = jax.tree.leaves_with_path(params["trunk"])
    both = zip(leaves, jax.tree.leaves(of_first), jax.tree.leaves(of_second), strict=True)
    for (path, leaf), first, second in both:
        name = jax.tree_util.keystr(path)
        if "normalisation" not in name:
            continue
        names.append(name)
        assert leaf.shape == (2, 4)
        # a task moves its own copy, and both copies alike as long as they are equal
        assert np.any(first[0]) and not np.any(first[1]), name
        assert np.any(second[1]) and not np.any(second[0]), name
        np.testing.assert_allclose(first[0], second[1], rtol=1e-5, atol=1e-6)
    assert len(names) == 8  # scale and bias of the stem and of the three of a stage


def test_labels_refine_upward_and_copies_of_a_branch_are_equal_bit_by_bit():
    data = rows_of(DIRECTIONS)
    run = trained(fairbranch(NOTION, every=3), data, 18, 0.98)
    branches, params_b = run.record
    labels_b = np.asarray(branches.labels)
    assert len(np.unique(labels_b[-1][2])) > 1
    for b, labels in enumerate(labels_b):
        for below, above in zip(labels, labels[1:], strict=False):
            # tasks that share a layer share all layers below
            pairs = [pair for pair in np.ndindex(4, 4) if above[pair[0]] == above[pair[1]]]
            assert all(below[s] == below[t] for s, t in pairs)
        if b:
            before = labels_b[b - 1]
            changed = before != labels
            assert (before[changed] == 0).all()
        params = jax.tree.map(lambda leaf, b=b: np.asarray(leaf)[b], params_b)
        equal = equal_copies(params["trunk"], context_of(spec_of()).model.layers)
        for layer in range(3):
            mates = labels[layer][:, None] == labels[layer][None, :]
            assert (equal[layer][:, None] == equal[layer][None, :])[mates].all()
    # the paper leaves the first layer shared
    assert (labels_b[:, 0] == 0).all()


@pytest.mark.slow
def test_one_sweep_over_tau_ends_in_different_trees_with_one_compilation(tmp_path):
    data = rows_of(DIRECTIONS)
    recipe = fairbranch(NOTION, every=3)(context_of(spec_of()))
    config = TrainConfig(15, 64)
    devices = jax.local_devices()[:1]
    program = Program(recipe, config, lambda scores, splits: {}, ("params",), devices=devices)

    def swept(folder, weight=1.0):
        hparams = {
            "weight": np.ones((3, TASKS), np.float32),
            "lam": np.ones((3, TASKS), np.float32),
            "tau": np.float32([0.05, 0.9, 0.999]),
        }
        hparams["weight"][1] = weight
        return sweep(
            recipe,
            config,
            hparams,
            [0, 1],
            Splits(data, data, data),
            lambda scores, splits: {},
            out=tmp_path / folder,
            chunk=2,
            keep=("params",),
            devices=devices,
            program=program,
        )

    runs = swept("whole")
    assert runs.compilations == 1 and not runs.diverged.any()
    counts = [len(np.unique(labels[-1][-1])) for labels in runs.record.labels]
    assert len(set(counts)) > 1 and counts == sorted(counts), counts

    # a chunk that a kill has left out is trained again, to the same bits
    files = sorted((tmp_path / "whole").glob("chunk-*"))
    content = files[1].read_bytes()
    files[1].unlink()
    again = swept("whole")
    assert files[1].read_bytes() == content
    jax.tree.map(np.testing.assert_array_equal, again.params, runs.params)

    # a run that diverges changes no other
    diverging = swept("diverging", weight=np.inf)
    assert diverging.diverged.tolist() == [False, False, True, True, False, False]
    others = np.array([0, 1, 4, 5])
    for one, other in zip(*map(jax.tree.leaves, (runs.params, diverging.params)), strict=True):
        np.testing.assert_array_equal(one[others], other[others])


@pytest.mark.slow
def test_seventeen_tasks_branch_in_one_program_for_two_members():
    tasks = 17
    directions = np.random.default_rng(4).normal(size=(tasks, FEATURES))
    data = rows_of(directions)
    recipe = fairbranch(NOTION, every=3)(context_of(spec_of(tasks)))
    ones = np.ones((2, tasks), np.float32)
    runs = sweep(
        recipe,
        TrainConfig(7, 64),  # one step after the second branching
        {"weight": ones, "lam": ones, "tau": np.float32([0.3, 1.1])},
        [0],
        Splits(data, data, data),
        lambda scores, splits: {},
        chunk=2,
        keep=("params",),
        devices=jax.local_devices()[:1],
    )
    assert runs.compilations == 1 and not runs.diverged.any()
    some, all_apart = runs.record.labels[:, -1]
    # no likeness reaches 1.1: every task is alone, in the layer below too
    np.testing.assert_array_equal(all_apart, [np.zeros(tasks), *[np.arange(tasks)] * 2])
    # groups at most halve from one layer to the next
    counts = [len(np.unique(label)) for label in some]
    assert 9 <= counts[2] < tasks and counts[0] == 1 < counts[1] <= counts[2] <= 2 * counts[1]
    for m, labels in enumerate((some, all_apart)):
        trunk = jax.tree.map(lambda leaf, m=m: leaf[m], runs.params["trunk"])
        np.testing.assert_array_equal(equal_copies(trunk, LAYERS), labels)


@pytest.mark.slow
def test_a_branched_net_in_one_copy_per_branch_and_back():
    spec = spec_of()
    data = rows_of(DIRECTIONS)
    model = branched(context_of(spec).model, spec)
    run = trained(fairbranch(NOTION, every=3), data, 12, 0.98)
    params = jax.tree.map(np.asarray, run.state.params)
    small, labels = compact(params, model.layers)
    branches = [len(np.unique(label)) for label in labels]
    assert small["trunk"]["dense_2"]["kernel"].shape == (branches[2], 7, 6)
    back = expanded(small, labels, model.layers)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    plain = context_of(spec).model.init(jax.random.key(0))
    assert parameter_count(small) > parameter_count(plain)
    per_copy = [6 * 8 + 8, 8 * 7 + 7, 7 * 6 + 6]
    heads = TASKS * 7
    expected = sum(n * size for n, size in zip(branches, per_copy, strict=True)) + heads
    assert parameter_count(small) == expected


@pytest.mark.parametrize("own", [True, False])
def test_every_task_reads_its_own_copy(own):
    spec = spec_of()
    shared = context_of(spec, head=(5,)).model._replace(own_inputs=own)
    model = branched(shared, spec)
    params = model.init(jax.random.key(0))
    noise = jax.random.normal(jax.random.key(1), (4,))
    params["trunk"] = jax.tree.map(
        lambda leaf: leaf * (1 + noise.reshape(-1, *[1] * (leaf.ndim - 1))), params["trunk"]
    )
    x = rows_of(DIRECTIONS).x
    scores = models.scores(model, params, x)
    for t in range(TASKS):
        copy = jax.tree.map(lambda leaf, t=t: leaf[t], params["trunk"])
        alone = models.scores(shared, {"trunk": copy, "heads": params["heads"]}, x)
        np.testing.assert_allclose(scores[:, t], alone[:, t], rtol=1e-5)


@pytest.mark.slow
def test_a_saved_model_has_one_copy_per_branch_and_predicts_as_the_run(tmp_path):
    data = from_table(table_of_opposed_tasks(), ROLES)
    names = NamedStudy(
        methods=("fairbranch",),
        model_options={"trunk": (8, 7, 6), "head": (), "embedding": 2},
        fixed={"tau": 0.99},
        config=StudyConfig(runs=2, reference_seeds=1, epochs=9, batch_size=64, condition="fpr"),
    )
    study = from_names(data, names)
    results = run_study(data, study=study, out=tmp_path / "out", progress=False)
    run = int(np.flatnonzero(results.table["method"] == "fairbranch")[0])
    model, scores = model_of_run(data, results, run)
    assert not different_metrics(model, results, run)
    model.save(tmp_path / "model")
    arrays = read_arrays(tmp_path / "model" / "params.npz")
    branches = [len(np.unique(label)) for label in arrays["branches"]]
    assert branches[0] == 1 and branches[2] > 1
    stored = arrays["params.trunk.dense_2.kernel"]
    assert len(stored) == branches[2]
    loaded = load_model(tmp_path / "model")
    jax.tree.map(np.testing.assert_array_equal, loaded.params, model.params)
    assert "branches from the input on: t0 t1 t2 t3;" in loaded.describe()
    predicted = loaded.predict(table_of_opposed_tasks())
    assert set(predicted) >= {"t0", "t3 decision"}
    arrays["branches"] = arrays["branches"][:2]
    write_arrays(tmp_path / "model" / "params.npz", arrays)
    with pytest.raises(DataError, match=r"branches should be whole numbers \(3, 4\)"):
        load_model(tmp_path / "model")


def planted(n, seed):
    """Two pairs of tasks with features and groups of their own, in opposite directions."""
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.4
    x = rng.normal(size=(n, 12))
    x[:, 0] += np.where(member, 0.8, -0.8)
    x[:, 1] -= np.where(member, 0.8, -0.8)
    directions = np.zeros((TASKS, 12))
    directions[:2, 2:5] = directions[2:, 5:8] = 1.0
    directions[:2, 0] = directions[2:, 1] = 0.8
    directions[:, 8:] = 0.5 * np.eye(TASKS)
    labels = x @ directions.T + 0.7 * rng.logistic(size=(n, TASKS)) > 0
    columns = Columns(x.astype(np.float32), np.zeros((n, 0), np.int32))
    arrays = [labels, np.ones(labels.shape), np.stack([~member, member], 1), np.ones(n)]
    return Dataset(columns, *map(np.float32, arrays))


@pytest.mark.slow
def test_planted_groups_of_tasks_are_found():
    numeric = tuple(f"x{i}" for i in range(12))
    spec = spec_of()
    spec = Spec(spec.tasks, spec.attributes, numeric)
    context = context_of(spec, (32, 16, 16), optimizer=optax.adam(3e-3))
    recipe = fairbranch(notions.get("robust_log"), every=3)(context._replace(reduction="mean"))
    seeds = 10
    runs = sweep(
        recipe,
        TrainConfig(6, 256),
        {name: np.float32(r.default)[None] for name, r in recipe.space.items()},
        range(seeds),
        Splits(*(planted(n, seed) for seed, n in enumerate((4000, 500, 500)))),
        lambda scores, splits: {},
        chunk=seeds,
        devices=jax.local_devices()[:1],
    )
    top = runs.record.labels[:, -1, 2]
    assert (top == [0, 0, 2, 2]).all(axis=1).sum() >= 9, top


# ------------------------------------------------------------------------------------------- recon


@pytest.mark.slow
def test_the_layers_with_most_conflicts_become_task_specific_and_training_begins_anew():
    conflicts = np.zeros((3, 4, 4), int)
    conflicts[0, 0, 1] = conflicts[0, 1, 0] = 5
    conflicts[1, 2, 3] = conflicts[1, 3, 2] = 9
    assert layer_conflicts(jnp.asarray(conflicts)).tolist() == [5, 9, 0]
    data = rows_of(DIRECTIONS)
    context = context_of(spec_of())
    recipe = recon(NOTION, search=3)(context)

    def record(state):
        return state.memory["branches"].labels, state.opt_state[0], state.params

    train = make_train(TrainConfig(5, 64), recipe, record=record)
    hparams = {name: jnp.asarray(r.default, jnp.float32) for name, r in recipe.space.items()}
    hparams["split"] = jnp.asarray(0.67)  # two of three layers
    arguments = (*jax.random.split(jax.random.key(3)), hparams, data)
    labels_b, link, params = jax.jit(train)(*arguments).record
    searching = make_train(TrainConfig(3, 64), recon(NOTION, search=9)(context), record=record)
    counts = layer_conflicts(jax.jit(searching)(*arguments).record[1].conflicts[-1, 0])
    assert (labels_b[:2] == 0).all()
    divided = [(label == np.arange(4)).all() for label in labels_b[2]]
    assert sum(divided) == 2 and not divided[int(np.argmin(counts))]
    assert link.count.tolist() == [1, 2, 0, 1, 2]
    kernel = params["trunk"]["dense_1"]["kernel"]
    assert np.abs(kernel[2] - kernel[1]).max() > 0.2  # a new initialisation
    assert (kernel[2] == kernel[2][0]).all()  # alike at its start
    trunk = jax.tree.map(lambda leaf: leaf[-1], params["trunk"])
    copies = [len(np.unique(label)) for label in equal_copies(trunk, LAYERS)]
    assert copies == [4 if own else 1 for own in divided]


# --------------------------------------------------------------------------------------- bad input


def test_layers_of_any_trunk():
    import flax.linen as nn

    trunk = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(3), nn.relu])
    x = np.zeros((2, FEATURES), np.float32)
    model = models.from_linen(trunk, nn.Dense(2), x)
    assert trunk_layers(model) == (("layers_0",), ("layers_2",))
    with pytest.raises(ValueError, match="name every one once"):
        trunk_layers(model._replace(layers=(("layers_0",),)))


def test_what_cannot_branch_is_refused():
    with pytest.raises(DataError, match="there is 1 .*--methods"):
        fairbranch(NOTION)(context_of(spec_of(1)))
    with pytest.raises(DataError, match="1 shared layer has none to branch.*--trunk 64,64"):
        fairbranch(NOTION)(context_of(spec_of(), trunk=(8,)))
