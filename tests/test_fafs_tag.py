"""FAFS and TAG: errors, clusters, transfer and partitions against loops, and whole runs."""

from __future__ import annotations

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import double
from test_branching import (
    DIRECTIONS,
    FEATURES,
    MOMENTUM,
    NOTION,
    TASKS,
    context_of,
    rows_of,
    spec_of,
)

from fairjax.core.types import Attribute, DataError, Dataset, Model, Spec, Splits, Task
from fairjax.gradients import Branches, on_branches
from fairjax.methods import fafs, tag
from fairjax.methods._branching import rows_on_branches
from fairjax.methods._fafs import (
    DECAY,
    affinity,
    between_branches,
    branch_by_errors,
    cheapest_groups,
    column_costs,
    cost_of_clusters,
    margins,
    no_errors,
    with_batch,
)
from fairjax.methods._tag import (
    best_by_beam,
    best_of,
    grouping,
    mean_transfer,
    partitions,
    transfers,
    with_transfer,
)
from fairjax.models import branched
from fairjax.objectives import predict
from fairjax.training import TrainConfig, make_train, sweep
from fairjax.training.loop import State, start

KEY = jax.random.key(0)
groups_of = jax.jit(cheapest_groups)


def all_partitions(tasks: int) -> list[list[int]]:
    """Every partition once, each task with the smallest one of its group."""
    rows = []
    for colour in product(range(tasks), repeat=tasks):
        labels = [colour.index(one) for one in colour]
        rows.append(labels)
    return [list(row) for row in sorted(set(map(tuple, rows)))]


def is_valid(labels) -> bool:
    """Whether every label is the smallest task that has it."""
    labels = np.asarray(labels)
    return all((layer == [list(layer).index(one) for one in layer]).all() for layer in labels)


# ------------------------------------------------------------------------- FAFS: errors, affinity


def test_affinity_of_two_batches_by_loops():
    rng = np.random.default_rng(0)
    tasks = 3
    errors = no_errors(tasks)
    margin_sum, known_sum = np.zeros(tasks), np.zeros(tasks)
    alike, pairs = np.zeros((tasks, tasks)), np.zeros((tasks, tasks))
    for _ in range(2):
        margin, known = rng.random((7, tasks)), (rng.random((7, tasks)) < 0.7).astype(float)
        weight = rng.uniform(0.5, 2.0, 7)
        weight[6] = 0.0
        errors = with_batch(errors, *(jnp.array(a, jnp.float32) for a in (margin, known, weight)))
        for t in range(tasks):
            own = [i for i in range(7) if known[i, t]]
            margin_sum[t] = DECAY * margin_sum[t] + sum(weight[i] * margin[i, t] for i in own)
            known_sum[t] = DECAY * known_sum[t] + sum(weight[i] for i in own)
        hard = margin >= margin_sum / known_sum
        alike, pairs = DECAY * alike, DECAY * pairs
        for s, t, i in np.ndindex(tasks, tasks, 7):
            if known[i, s] and known[i, t]:
                pairs[s, t] += weight[i]
                alike[s, t] += weight[i] * (hard[i, s] == hard[i, t])
    np.testing.assert_allclose(affinity(errors), alike / pairs, rtol=1e-5)
    np.testing.assert_allclose(np.diagonal(affinity(errors)), 1.0, rtol=1e-6)


def test_tasks_without_common_rows_are_not_alike():
    known = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    errors = with_batch(no_errors(2), known, known, jnp.ones(2))
    np.testing.assert_array_equal(affinity(errors), np.eye(2))


def test_margins_of_every_kind():
    levels = ("p", "q", "r")
    kinds = ("binary", "multiclass", "multilabel", "regression")
    tasks = tuple(Task(kind, kind, levels if kind.startswith("multi") else ()) for kind in kinds)
    spec = Spec(tasks, (Attribute("a", ("f", "m")),))
    scores = np.array([[0.4, 0.1, -0.3, 0.9, 0.2, -1.0, 0.5, 1.5]], np.float32)
    labels = np.array([[0.0, 2.0, 1.0, np.nan, 0.0, -0.5]], np.float32)
    mask = np.float32(~np.isnan(labels))
    batch = Dataset((), labels, mask, np.ones((1, 2)), np.ones(1))
    margin, known = margins(spec, predict(spec, jnp.asarray(scores)), batch)

    def sigmoid(score):
        return 1 / (1 + np.exp(-score))

    chance = np.exp(scores[0, 1:4]) / np.exp(scores[0, 1:4]).sum()
    expected = [
        sigmoid(0.4),
        2 * (1 - chance[2]) / 3,  # mean over classes of |is the class - chance|
        (1 - sigmoid(0.2) + sigmoid(0.5)) / 2,
        2.0,
    ]
    np.testing.assert_allclose(margin[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(known, np.ones((1, 4)))


# --------------------------------------------------------------------------------- FAFS: clusters


def brute_between(alike: np.ndarray, group: list[int]) -> np.ndarray:
    tasks = len(group)
    members = {b: [t for t in range(tasks) if group[t] == b] for b in set(group)}
    between = np.zeros((tasks, tasks))
    for j, k in product(members, repeat=2):
        between[j, k] = np.mean([min(alike[t, s] for s in members[k]) for t in members[j]])
    return (between + between.T) / 2


def brute_cost(between: np.ndarray, clusters: list[list[int]], column: float, alpha: float):
    unlike = [1 - np.mean([min(between[j, k] for k in c) for j in c]) for c in clusters]
    return (len(clusters) - 1) * column + alpha * np.mean(unlike)


def clusters_of(labels, branches) -> list[list[int]]:
    """Branches by the group of their tasks."""
    numbers = sorted({labels[b] for b in branches})
    return [[b for b in branches if labels[b] == one] for one in numbers]


def planted(blocks: list[int], within: float, across: float, noise: float, seed=0) -> np.ndarray:
    mates = np.equal.outer(blocks, blocks)
    draw = noise * np.random.default_rng(seed).uniform(-1, 1, mates.shape)
    alike = np.where(mates, within, across) + (draw + draw.T) / 2
    np.fill_diagonal(alike, 1.0)
    return alike


def single(alike):
    return jnp.asarray(alike, jnp.float32), jnp.arange(len(alike))


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 0, 2, 3, 2], [0, 0, 0, 0, 0]])
def test_affinity_of_branches_and_cost_by_loops(group):
    alike = planted([0, 0, 1, 1, 1], 0.9, 0.6, 0.05)
    between = brute_between(alike, group)
    measured = between_branches(jnp.asarray(alike, jnp.float32), jnp.asarray(group))
    np.testing.assert_allclose(measured, between, rtol=1e-5)
    branches = sorted(set(group))
    exists = jnp.asarray(group) == jnp.arange(5)
    for cluster in ([0, 0, 0, 0, 0], [0, 0, 3, 3, 3], [1, 0, 1, 2, 4]):
        expected = brute_cost(between, clusters_of(cluster, branches), 0.25, 1.5)
        cost = cost_of_clusters(measured, jnp.asarray(cluster), exists, 0.25, 1.5)
        np.testing.assert_allclose(cost, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "blocks", [[0, 0, 0, 3, 3, 3], [0, 1, 0, 1, 0, 1], [0, 0, 2, 2, 4, 4, 2, 0]]
)
def test_planted_blocks_are_found(blocks):
    alike, group = single(planted(blocks, 0.9, 0.5, 0.04))
    assert groups_of(KEY, alike, group, 1 / 8, 1.0).tolist() == blocks


def test_blocks_of_branches_are_found():
    alike = jnp.asarray(planted([0, 0, 2, 2, 0, 2], 0.9, 0.5, 0.0), jnp.float32)
    merged = groups_of(KEY, alike, jnp.array([0, 0, 2, 2, 4, 5]), 1 / 8, 1.0)
    assert merged.tolist() == [0, 0, 2, 2, 0, 2]


@pytest.mark.parametrize("tasks, level", [(4, 0.9), (7, 0.6), (5, 1.0)])
def test_a_uniform_affinity_makes_one_group(tasks, level):
    alike, group = single(planted([0] * tasks, level, level, 0.0))
    assert groups_of(KEY, alike, group, 0.5, 1.0).tolist() == [0] * tasks


def test_the_groups_cost_little_more_than_the_best_of_all_partitions():
    excess = []
    for seed in range(12):
        blocks = np.random.default_rng(seed).integers(0, 3, 5).tolist()
        alike = planted(blocks, 0.9, 0.6, 0.05, seed)
        labels = groups_of(KEY, *single(alike), 1 / 16, 1.0).tolist()
        found = brute_cost(alike, clusters_of(labels, range(5)), 1 / 16, 1.0)
        costs = [
            brute_cost(alike, clusters_of(row, range(5)), 1 / 16, 1.0) for row in all_partitions(5)
        ]
        excess.append(found - min(costs))
    assert np.min(excess) > -1e-6 and np.mean(np.abs(excess) < 1e-6) > 0.7, excess


def test_columns_cost_half_as_much_from_layer_to_layer_upwards():
    costs = column_costs(9, 1)[1:].tolist()
    assert costs == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 64, 1 / 64]


def state_of(alike, labels, next_layer, complete=False):
    alike = jnp.asarray(alike, jnp.float32)
    errors = no_errors(len(alike))._replace(alike=alike, pairs=jnp.ones_like(alike))
    branches = Branches(jnp.asarray(labels, jnp.int32), jnp.asarray(next_layer, jnp.int32))
    memory = {"branches": branches, "errors": errors, "complete": jnp.asarray(complete)}
    return State((), (), memory, jnp.zeros((), jnp.int32))


def test_the_event_divides_the_active_layer_and_a_complete_network_stays():
    model = branched(context_of(spec_of()).model, spec_of())
    event = jax.jit(branch_by_errors(model, every=2, first=1))
    blocks = planted([0, 0, 2, 2], 0.95, 0.5, 0.0)
    shared = np.zeros((3, 4))
    early = event(KEY, 0, state_of(blocks, shared, 2), 1.0).memory
    assert early["branches"].labels.tolist() == shared.tolist() and not early["complete"]
    due = event(KEY, 1, state_of(blocks, shared, 2), 1.0).memory
    assert due["branches"].labels.tolist() == [[0] * 4, [0] * 4, [0, 0, 2, 2]]
    assert due["branches"].next_layer == 1 and not due["complete"]
    # the next layer merges branches of this one, and its columns cost more
    state = state_of(blocks, due["branches"].labels, 1)
    assert event(KEY, 3, state, 1.0).memory["complete"]
    dear = event(KEY, 3, state, 2.0).memory["branches"]
    assert dear.labels.tolist() == [[0] * 4, [0, 0, 2, 2], [0, 0, 2, 2]] and dear.next_layer == 0
    end = event(KEY, 5, state_of(blocks, dear.labels, 0), 2.0).memory
    np.testing.assert_array_equal(end["branches"].labels, dear.labels)
    done = event(KEY, 1, state_of(blocks, shared, 2, complete=True), 1.0).memory
    assert done["branches"].labels.tolist() == shared.tolist() and done["complete"]


# ------------------------------------------------------------------------------ TAG: the transfer

RATE = 0.5
WIDTH = 3


def linear(tasks: int) -> Model:
    """A linear trunk, and a linear head without bias per task."""

    def init(key):
        keys = jax.random.split(key, tasks + 1)
        heads = {f"t{t}": jax.random.normal(keys[t], (WIDTH, 1)) for t in range(tasks)}
        return {"trunk": {"w": jax.random.normal(keys[-1], (FEATURES, WIDTH))}, "heads": heads}

    def predict(heads, z):
        return jnp.concatenate([z @ heads[f"t{t}"] for t in range(tasks)], axis=1)

    return Model(init, lambda trunk, x: x.numeric @ trunk["w"], predict)


def test_transfer_of_a_linear_network_by_hand():
    spec = spec_of(3)
    data = rows_of(DIRECTIONS[:3], n=20, dtype=np.float64)
    mask = np.array(data.label_mask)
    mask[::3, 1] = 0.0
    data = data._replace(label_mask=mask, labels=np.where(mask > 0, data.labels, np.nan))
    weight = np.array([0.5, 1.0, 2.0])
    with double():
        inner = linear(3)
        model = branched(inner, spec)
        objective = rows_on_branches(
            model, spec, notion=NOTION, lam=jnp.zeros(3), weight=jnp.asarray(weight)
        )
        objective = with_transfer(objective, 3)
        optimizer = optax.sgd(RATE, momentum=0.9)
        chain = optax.chain(on_branches(["t0", "t1", "t2"], model.layers, gate=False), optimizer)
        params = jax.tree.map(lambda leaf: leaf.astype(float), inner.init(KEY))
        copies = {"w": jnp.stack([params["trunk"]["w"]] * 3)}
        heads = params["heads"]
        params = {"trunk": copies, "heads": heads}
        link, (trace, *others) = chain.init(params)
        momentum = np.random.default_rng(1).normal(size=(FEATURES, WIDTH)) / 10
        moments = {**trace.trace, "trunk": {"w": jnp.stack([jnp.asarray(momentum)] * 3)}}
        opt_state = (link, (trace._replace(trace=moments), *others))
        state = State(params, opt_state, objective.init(KEY, data), jnp.zeros((), jnp.int32))
        measure = jax.jit(partial(transfers, inner, spec, objective, chain))
        z, is_measured = measure(state, data, KEY)
    w = np.asarray(copies["w"][0])

    def loss(w, t):
        score = data.x.numeric @ w @ np.asarray(heads[f"t{t}"])[:, 0]
        rows = mask[:, t] > 0
        sign = 1 - 2 * data.labels[rows, t]
        return np.sum(np.logaddexp(0, sign * score[rows])) / len(mask)

    def gradient(t):
        head = np.asarray(heads[f"t{t}"])[:, 0]
        chance = 1 / (1 + np.exp(-data.x.numeric @ w @ head))
        error = np.where(mask[:, t] > 0, chance - np.nan_to_num(data.labels[:, t]), 0.0)
        return np.outer(data.x.numeric.T @ error, head) / len(mask)

    for i, j in np.ndindex(3, 3):
        step = 0.9 * momentum + weight[i] * gradient(i)
        expected = 1 - loss(w - RATE * step, j) / loss(w, j)
        np.testing.assert_allclose(z[i, j], expected, atol=2e-6)
    assert np.max(np.abs(z)) > 0.05 and is_measured.all()


def test_a_task_without_labels_has_no_transfer():
    spec = spec_of(2)
    data = rows_of(DIRECTIONS[:2], n=20)
    mask = data.label_mask * np.float32([1, 0])
    data = data._replace(label_mask=mask, labels=np.where(mask > 0, data.labels, np.nan))
    recipe = tag(NOTION)(context_of(spec, optimizer=MOMENTUM))
    parts = recipe.build({"weight": jnp.ones(2), "lam": jnp.ones(2), "until": 2.0})
    state = jax.jit(lambda key, data: start(parts, key, data))(KEY, data)
    inner = context_of(spec).model
    measure = jax.jit(partial(transfers, inner, spec, parts.objective, parts.transform))
    z, is_measured = measure(state, data, KEY)
    assert is_measured.tolist() == [True, False] and np.isfinite(z).all() and (z[:, 1] == 0).all()


# --------------------------------------------------------------------------------- TAG: the groups


def brute_score(z: np.ndarray, labels) -> float:
    score = 0.0
    for t in range(len(labels)):
        mates = [s for s in range(len(labels)) if s != t and labels[s] == labels[t]]
        score += np.mean([z[s, t] for s in mates]) if mates else -1e6
    return score


def brute_best(z: np.ndarray, groups: int) -> list[int]:
    rows = [row for row in all_partitions(len(z)) if len(set(row)) <= groups]
    return max(rows, key=lambda row: brute_score(z, row))


def test_the_table_has_every_partition_once():
    for tasks, groups in ((4, 4), (5, 3), (5, 1), (6, 2)):
        expected = [row for row in all_partitions(tasks) if len(set(row)) <= groups]
        table = partitions(tasks, groups).tolist()
        named = sorted([row.index(one) for one in row] for row in table)
        assert named == expected and max(map(max, table)) < groups
    assert len(partitions(10, 3)) == 9842  # 1 + 511 + 9330, numbers of Stirling


@pytest.mark.parametrize("groups", [2, 3])
def test_the_groups_are_the_best_of_all_partitions(groups):
    choose = jax.jit(grouping(5, groups))
    for seed in range(15):
        z = np.random.default_rng(seed).normal(size=(5, 5)).astype(np.float32)
        assert choose(z).tolist() == brute_best(z, groups)


@pytest.mark.parametrize("tasks", [2, 3])
def test_two_or_three_tasks_stay_together(tasks):
    z = -np.ones((tasks, tasks), np.float32)
    assert grouping(tasks, 3)(z).tolist() == [0] * tasks


def test_the_beam_mostly_finds_the_best_partition():
    # a table has 122 partitions of six tasks, the beam keeps 16
    narrow = jax.jit(lambda z: best_by_beam(z, 3, 16))
    wide = jax.jit(lambda z: best_by_beam(z, 3, 256))
    exact = jax.jit(lambda z: best_of(z, partitions(6, 3)))
    found = []
    for seed in range(40):
        z = np.random.default_rng(seed).normal(size=(6, 6)).astype(np.float32)
        best = exact(z).tolist()
        assert wide(z).tolist() == best
        groups = narrow(z)
        assert is_valid(groups[None])
        found.append(groups.tolist() == best)
    assert np.mean(found) > 0.6, np.mean(found)


def test_many_tasks_in_planted_groups():
    blocks = np.arange(14) % 3
    z = np.where(np.equal.outer(blocks, blocks), 0.1, -0.1).astype(np.float32)
    assert grouping(14, 3)(z).tolist() == blocks.tolist()


def test_without_transfer_between_any_tasks_a_beam_leaves_nobody_alone():
    z = -np.ones((11, 11), np.float32)
    labels = jax.jit(lambda z: best_by_beam(z, 3, 4))(z)
    _, size = np.unique(labels, return_counts=True)
    assert size.min() > 1


# ----------------------------------------------------------------------------------------- runs


def hparams_of(space, runs, **values):
    """Defaults for so many runs, or as given; no fairness, as published."""
    ranges = {name: np.asarray(r.default, np.float32) for name, r in space.items()}
    ranges |= {"weight": np.ones(TASKS, np.float32), "lam": np.zeros(TASKS, np.float32)}
    repeated = {name: np.stack([value] * runs) for name, value in ranges.items()}
    return repeated | {name: np.float32(value) for name, value in values.items()}


def test_one_sweep_over_alpha_with_one_compilation(tmp_path):
    data = rows_of(DIRECTIONS)
    recipe = fafs(NOTION, every=4)(context_of(spec_of()))
    runs = sweep(
        recipe,
        TrainConfig(12, 64),
        hparams_of(recipe.space, 2, alpha=[0.1, 2.0]),
        [0, 1],
        Splits(data, data, data),
        lambda scores, splits: {},
        out=tmp_path,
        chunk=4,
        devices=jax.local_devices()[:1],
    )
    assert runs.compilations == 1 and not runs.diverged.any()
    labels = np.asarray(runs.record.labels)  # [runs, blocks, D, T]
    assert all(is_valid(layers) for run in labels for layers in run)
    columns = [sum(len(set(layer)) for layer in run[-1].tolist()) for run in labels]
    assert max(columns[:2]) < min(columns[2:]), columns  # two seeds of each alpha
    assert (labels[:, :, 0] == 0).all()  # the first layer stays shared


@pytest.mark.slow
def test_tag_searches_then_trains_a_network_per_group():
    data = rows_of(DIRECTIONS)
    recipe = tag(NOTION, groups=2)(context_of(spec_of(), optimizer=MOMENTUM))
    hparams = {name: v[0] for name, v in hparams_of(recipe.space, 1, until=[4.0]).items()}
    train = make_train(TrainConfig(7, 32), recipe, record=lambda state: state)
    run = jax.jit(train)(KEY, jax.random.key(1), hparams, data)
    states = jax.tree.map(np.asarray, run.record)
    labels = states.memory["branches"].labels
    assert (labels[:3] == 0).all()
    assert (labels[3:] == [0, 0, 2, 2]).all()  # in all three layers
    assert (states.memory["branches"].next_layer == [2, 2, 2, -1, -1, -1, -1]).all()
    assert (states.memory["transfer"].count[:, 0] == [8, 16, 24, 32, 32, 32, 32]).all()
    z = mean_transfer(states.memory["transfer"]._replace(count=states.memory["transfer"].count[-1]))
    mates = np.equal.outer([0, 0, 2, 2], [0, 0, 2, 2])
    assert z[-1][mates].min() > z[-1][~mates].max()
    # everything is new after the fourth block
    for leaf in jax.tree.leaves(states.params["trunk"]):
        assert (leaf[3] == leaf[3, :1]).all()
        assert (leaf[-1, 1] == leaf[-1, 0]).all() and (leaf[-1, 2] == leaf[-1, 3]).all()
    assert states.opt_state[0].count.tolist() == [2, 4, 6, 0, 2, 4, 6]
    kernel = states.params["trunk"]["dense_2"]["kernel"]
    assert np.abs(kernel[3] - kernel[2]).max() > 0.1
    assert np.abs(kernel[-1, 0] - kernel[-1, 2]).max() > 1e-3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states.params))


def test_what_cannot_branch_is_refused():
    for method in (fafs, tag):
        with pytest.raises(DataError, match="there is 1 .*--methods"):
            method(NOTION)(context_of(spec_of(1)))
    with pytest.raises(DataError, match="1 shared layer has none to branch.*--trunk 64,64"):
        fafs(NOTION)(context_of(spec_of(), trunk=(8,)))
