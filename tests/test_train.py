"""One run: the order of minibatches, padding against no padding, events, memory, one trace."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import brute_gap, dataset, slope, tabular_spec

from fairjax import notions
from fairjax.core.types import Components, Dataset, Model, Objective, Rank, Recipe, Splits
from fairjax.gradients import sum_rows
from fairjax.methods import Context, baseline
from fairjax.models import shared_bottom
from fairjax.training import TrainConfig, Trained, make_train

N, B = 10, 4
FPR = notions.from_distance(notions.rate_gap, (notions.negatives,))
STATIC = TrainConfig(epochs=4, batch_size=B, block=2)
STEPS = 3 * 4  # ten rows in batches of four, four epochs


def numbered() -> Dataset:
    """Rows that know their number."""
    ones = np.ones((N, 1), np.float32)
    return Dataset(np.arange(N), ones, ones, np.ones((N, 2), np.float32), ones[:, 0])


def spy(events=(), link=None, traces: list | None = None) -> Recipe:
    """A recipe whose memory holds every batch: row numbers, weights, and a draw of its key."""

    def apply(params, batch, key, memory):
        if traces is not None:
            traces.append(1)
        at = memory["at"]
        counts = jnp.stack([batch.weight, batch.label_mask[:, 0], batch.groups[:, 0]])
        memory = {
            **memory,
            "at": at + 1,
            "rows": memory["rows"].at[at].set(batch.x),
            "counts": memory["counts"].at[at].set(counts),
            "draw": memory["draw"].at[at].set(jax.random.uniform(key)),
        }
        return (jnp.sum(batch.weight) * params["trunk"], params["heads"] ** 2), memory

    def fresh(key, data):
        return {
            "at": jnp.zeros((), int),
            "rows": jnp.zeros((STEPS, B), int),
            "counts": jnp.zeros((STEPS, 3, B)),
            "draw": jnp.zeros(STEPS),
            "seen": jnp.zeros(2),
            "event": jnp.zeros(2),
            "begin": jnp.stack([jax.random.uniform(key), jnp.sum(data.weight)]),
        }

    def build(hparams):
        model = Model(
            lambda key: {"trunk": jax.random.normal(key), "heads": jnp.ones(())}, None, None
        )
        return Components(
            model,
            Objective(("a", "b"), fresh, apply),
            link or optax.chain(sum_rows(), optax.sgd(hparams["rate"])),
            events,
        )

    return Recipe("spy", build, {})


KEYS = jax.random.split(jax.random.key(5), 2)
KNOBS = {"rate": jnp.float32(0.1)}


@functools.cache
def spied() -> Trained:
    """Two members with their own keys and one order."""
    train = make_train(STATIC, spy())
    return jax.jit(jax.vmap(train, (0, None, None, None)))(
        KEYS, jax.random.key(9), KNOBS, numbered()
    )


# ------------------------------------------------------------------------------------------- order


def test_every_epoch_sees_every_row_once_in_a_new_order():
    memory = jax.tree.map(lambda a: a[0], spied().state.memory)
    epochs = memory["rows"].reshape(4, 12), memory["counts"][:, 0].reshape(4, 12)
    real = [rows[weight > 0] for rows, weight in zip(*map(np.asarray, epochs), strict=True)]
    for rows in real:
        assert sorted(rows) == list(range(N))
    assert len({tuple(rows) for rows in real}) == 4


def test_padding_counts_for_nothing():
    counts = np.asarray(spied().state.memory["counts"][0])
    last = counts[2::3]  # the third batch of each epoch holds two rows
    np.testing.assert_array_equal(last, np.broadcast_to([1.0, 1, 0, 0], last.shape))
    assert counts.sum() == 4 * N * 3


def test_members_share_the_order_and_nothing_else():
    memory = spied().state.memory
    np.testing.assert_array_equal(memory["rows"][0], memory["rows"][1])
    assert (
        np.all(memory["draw"][0] != memory["draw"][1])
        and len(set(np.asarray(memory["draw"][0]))) == STEPS
    )
    trunk = spied().state.params["trunk"]
    assert trunk[0] != trunk[1]


def test_memory_starts_from_the_members_key_and_the_training_rows():
    begin = spied().state.memory["begin"]
    assert begin[0, 0] != begin[1, 0]
    np.testing.assert_array_equal(begin[:, 1], N)


def test_another_order_key_is_another_order():
    other = jax.jit(make_train(STATIC, spy()))(KEYS[0], jax.random.key(10), KNOBS, numbered())
    assert np.any(other.state.memory["rows"] != spied().state.memory["rows"][0])


def test_values_are_means_over_blocks():
    trained = spied()
    assert trained.values.shape == (2, 2, 2) and trained.record == ()
    heads = 0.8 ** np.arange(STEPS)  # d/dh h^2 = 2h, at rate 0.1
    np.testing.assert_allclose(
        trained.values[0, :, 1], [np.mean(heads[:6] ** 2), np.mean(heads[6:] ** 2)], rtol=1e-5
    )
    assert trained.state.step[0] == STEPS


# -------------------------------------------------------------------------- padding against a loop


def test_a_run_is_a_loop_over_batches_without_padding():
    """The paper's per-task method on a logistic model: unpadded sums, float64, Adagrad from 0.1."""
    spec = tabular_spec(1, 2, ())
    data = dataset(spec, N, 3, unknown=0.2)
    first = np.array([0.3, -0.2])
    model = Model(
        lambda key: {"trunk": {"w": jnp.asarray(first, jnp.float32)}, "heads": {}},
        lambda trunk, x: x.numeric @ trunk["w"],
        lambda heads, z: z[:, None],
    )
    rate, lam = 0.3, 1.5
    recipe = baseline(FPR)(Context.paper(spec, model, rate, B))
    hparams = {"weight": jnp.ones(1), "lam": jnp.array([lam]), "learning_rate": jnp.float32(rate)}
    trained = jax.jit(make_train(STATIC, recipe))(KEYS[0], jax.random.key(9), hparams, data)

    def total(w, rows):
        prob = 1 / (1 + np.exp(-data.x.numeric[rows].astype(float) @ w))
        y = data.labels[rows, 0]
        negative = (y == 0) & (data.groups[rows].sum(1) > 0)
        loss = -np.sum(np.log(np.where(y == 1, prob, 1 - prob)))
        return loss + lam * negative.sum() * brute_gap(prob, data.groups[rows], negative)

    memory, w, accumulator, values = spied().state.memory, first, np.full(2, 0.1), []
    for rows, counts in zip(
        np.asarray(memory["rows"][0]), np.asarray(memory["counts"][0]), strict=True
    ):
        rows = rows[counts[0] > 0]
        gradient = slope(lambda v, rows=rows: total(v, rows), w)
        values.append(total(w, rows) / B)
        accumulator = accumulator + gradient**2
        w = w - rate * gradient / np.sqrt(accumulator)
    np.testing.assert_allclose(trained.state.params["trunk"]["w"], w, rtol=1e-4)
    np.testing.assert_allclose(
        trained.values[:, 0], np.mean(np.reshape(values, (2, 6)), axis=1), rtol=1e-4
    )
    assert np.max(np.abs(w - first)) > 0.3


# ---------------------------------------------------------------------- events, record, extra args


def remember(key, block, state, data):
    """An event: keeps what it saw, and halves the heads."""
    memory = state.memory
    memory = {
        **memory,
        "seen": memory["seen"].at[block].set(memory["at"]),
        "event": memory["event"].at[block].set(jax.random.uniform(key) + jnp.sum(data.weight)),
    }
    return state._replace(
        memory=memory, params={**state.params, "heads": state.params["heads"] / 2}
    )


def test_events_stand_between_blocks_and_may_change_the_state():
    train = make_train(
        STATIC,
        spy((remember,)),
        record=lambda state: {"heads": state.params["heads"], "step": state.step},
    )
    trained = jax.jit(train)(KEYS[0], jax.random.key(9), KNOBS, numbered())
    memory = trained.state.memory
    np.testing.assert_array_equal(memory["seen"], [6, 12])  # the steps of the objective's own count
    draws = np.asarray(memory["event"]) - N
    assert np.all((draws > 0) & (draws < 1)) and draws[0] != draws[1]
    np.testing.assert_allclose(trained.record["heads"], [0.8**6 / 2, 0.8**12 / 4], rtol=1e-5)
    np.testing.assert_array_equal(trained.record["step"], [6, 12])
    np.testing.assert_array_equal(memory["rows"], spied().state.memory["rows"][0])


def test_events_see_all_splits_when_they_are_given():
    def look(key, block, state, data):
        return state._replace(
            memory={**state.memory, "seen": state.memory["seen"] + jnp.sum(data.validation.weight)}
        )

    train = jax.jit(make_train(STATIC, spy((look,))))
    small = jax.tree.map(lambda a: a[:3], numbered())
    state = train(KEYS[0], jax.random.key(9), KNOBS, Splits(numbered(), small, small)).state
    np.testing.assert_array_equal(state.memory["seen"], 2 * 3)
    np.testing.assert_array_equal(
        state.memory["rows"], spied().state.memory["rows"][0]
    )  # trained on the training rows


def test_links_are_told_values_key_memory_and_a_value_function():
    def init(params):
        return {"gap": jnp.zeros(()), "at": jnp.zeros((), int), "draw": jnp.zeros(())}

    def update(rows, state, params, *, values, key, memory, value_fn, batch):
        assert batch.weight.shape == (B,)
        updates = jax.tree.map(lambda r: -0.1 * jnp.sum(r, axis=0), rows)
        return updates, {
            "gap": state["gap"] + jnp.sum(jnp.abs(value_fn(params) - values)),
            "at": memory["at"],
            "draw": state["draw"] + jax.random.uniform(key),
        }

    link = optax.GradientTransformationExtraArgs(init, update)
    state = jax.jit(make_train(STATIC, spy(link=link)))(
        KEYS[0], jax.random.key(9), KNOBS, numbered()
    ).state
    assert state.opt_state["gap"] == 0 and state.opt_state["at"] == STEPS
    draw = float(state.opt_state["draw"])
    assert 0 < draw < STEPS and draw % 1 != 0
    np.testing.assert_allclose(state.params["heads"], 0.8**STEPS, rtol=1e-5)


INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("ranks", "block"),
    [
        ([[0, 0], [0, 0], [1, 5], [1, 4]], 3),
        ([[0, 0], [0, 0], [1, 4], [1, 5]], 2),
        ([[0, 0], [0, 0], [1, 4], [1, 4]], 2),  # the first of two that are equal
        ([[0, 0], [0, 0], [2, 4], [1, 9]], 3),
        ([[0, 0], [0, 0], [INF, 4], [INF, 3]], 3),
        ([[0, 0], [0, 0], [1, 4], [1, np.nan]], 2),
        (None, 3),
    ],
)
def test_the_least_block_of_the_last_half_delivers_its_parameters(ranks, block):
    recipe = spy()
    if ranks is not None:
        recipe = ranked(jnp.array(ranks, jnp.float32), passed_over=0.5)
    train = make_train(TrainConfig(4, B), recipe, record=lambda state: state.params)
    trained = jax.jit(train)(KEYS[0], jax.random.key(9), KNOBS, numbered())
    assert trained.block == block and trained.last == 3
    of_block = jax.tree.map(lambda leaf: leaf[block], trained.record)
    jax.tree.map(np.testing.assert_array_equal, trained.params, of_block)
    of_last = jax.tree.map(lambda leaf: leaf[-1], trained.record)
    jax.tree.map(np.testing.assert_array_equal, trained.state.params, of_last)


def ranked(table: jax.Array, passed_over: float = 0.0) -> Recipe:
    """The recipe of :func:`spy` whose blocks of one epoch have the ranks ``table [blocks, R]``.

    A hyper-parameter ``member`` chooses a table among several.
    """

    def build(hparams):
        own = table[hparams["member"]] if "member" in hparams else table

        def value(state, data):
            assert len(data.weight) == N
            return own[state.step // 3 - 1]

        return spy().build(hparams)._replace(rank=Rank(value, passed_over))

    return Recipe("ranked", build, {})


# patience 2: the last block of a run, and the best one, by its ranks
ENDS = [
    ([5, 4, 3, 2, 1, 0], 5, 5),
    ([0, 5, 4, 1, 1, 0], 2, 0),
    ([3, 5, 2, 2, 9, 0], 4, 2),
    ([INF, NAN, NAN, 0, 0, 0], 2, 0),
]


def patient(patience: int, epochs: int = 6, passed_over: float = 0.0):
    tables = jnp.array([ranks for ranks, *_ in ENDS], jnp.float32)[:, :, None]
    return make_train(
        TrainConfig(epochs, B, patience=patience),
        ranked(tables, passed_over),
        record=lambda state: (state.params, state.step),
    )


def test_members_end_on_their_own_after_patience_blocks_without_a_better_one():
    hparams = {"rate": jnp.float32(0.1), "member": jnp.arange(len(ENDS))}
    mapped = jax.jit(jax.vmap(patient(2), in_axes=(None, None, {"rate": None, "member": 0}, None)))
    together = mapped(KEYS[0], jax.random.key(9), hparams, numbered())
    for m, (_, last, best) in enumerate(ENDS):
        one = jax.tree.map(lambda leaf, m=m: leaf[m], together)
        assert (one.last, one.block) == (last, best)
        # by hand: as many epochs, and no patience
        own = {"rate": jnp.float32(0.1), "member": jnp.int32(m)}
        by_hand = jax.jit(patient(0, last + 1))(KEYS[0], jax.random.key(9), own, numbered())
        jax.tree.map(np.testing.assert_array_equal, one.params, by_hand.params)
        begin = jax.tree.map(lambda leaf, last=last: leaf[: last + 1], (one.values, one.record))
        jax.tree.map(np.testing.assert_array_equal, begin, (by_hand.values, by_hand.record))
        rest = jax.tree.map(lambda leaf, last=last: leaf[last:], (one.values, one.record))
        jax.tree.map(
            lambda leaf: np.testing.assert_array_equal(leaf, leaf[:1].repeat(len(leaf), 0)), rest
        )
    # nobody trains on when the last one has ended, and one batch serves all
    short = {"rate": jnp.float32(0.1), "member": jnp.array([1, 3])}
    ended = mapped(KEYS[0], jax.random.key(9), short, numbered())
    np.testing.assert_array_equal(ended.state.step, [9, 9])


def test_patience_begins_with_the_first_block_that_may_be_chosen():
    own = {"rate": jnp.float32(0.1), "member": jnp.int32(1)}
    trained = jax.jit(patient(2, passed_over=0.5))(KEYS[0], jax.random.key(9), own, numbered())
    assert (trained.block, trained.last) == (5, 5)
    own["member"] = jnp.int32(3)
    trained = jax.jit(patient(2, passed_over=0.5))(KEYS[0], jax.random.key(9), own, numbered())
    assert (trained.block, trained.last) == (3, 5)


def test_patience_without_ranks_ends_nothing():
    train = make_train(TrainConfig(4, B, patience=1), spy())
    trained = jax.jit(train)(KEYS[0], jax.random.key(9), KNOBS, numbered())
    assert trained.last == 3 and trained.state.step == 12


# ------------------------------------------------------------------------------------- one program


def test_one_trace_serves_all_steps_and_all_calls():
    traces: list = []
    train = jax.jit(make_train(STATIC, spy(traces=traces)))
    train(KEYS[0], jax.random.key(9), KNOBS, numbered())
    once = len(traces)
    train(KEYS[1], jax.random.key(8), {"rate": jnp.float32(0.2)}, numbered())
    assert len(traces) == once and train._cache_size() == 1
    jax.eval_shape(
        make_train(TrainConfig(2, 1, 2), spy(traces=traces)),
        KEYS[0],
        jax.random.key(9),
        KNOBS,
        numbered(),
    )
    assert len(traces) == 2 * once  # the number of steps does not multiply it


def test_a_sweep_goes_through_a_step_once():
    """Averages of an optimizer begin as 0 for all members; from the first step on they differ."""
    passes = []

    @jax.custom_batching.custom_vmap
    def counted(updates):
        return updates

    @counted.def_vmap
    def count(members, is_mapped, updates):
        passes.append(members)
        return updates, is_mapped[0]

    def build(hparams):
        del hparams

        def apply(params, batch, key, memory):
            return (jnp.sum(batch.weight) * params**2,), memory

        return Components(
            Model(jax.random.normal, None, None),
            Objective(("a",), lambda key, data: (), apply),
            optax.chain(sum_rows(), optax.stateless(lambda u, _: counted(u)), optax.adam(0.1)),
            (),
        )

    train = make_train(STATIC, Recipe("counted", build, {}))
    of_member = functools.partial(train, data=numbered(), order_key=jax.random.key(9), hparams={})
    start = jnp.arange(2.0)
    trained = jax.vmap(lambda key, params: of_member(key, params=params))(KEYS, start)
    assert passes == [2]
    assert trained.params[0] != trained.params[1]


@pytest.mark.parametrize("wrong", [(0, 4), (2, 0), (3, 4, 2), (4, 4, 0), (4, 4, 1, -1)])
def test_shapes_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="epochs a multiple of block"):
        TrainConfig(*wrong)


def test_half_precision_parameters_train():
    spec = tabular_spec()
    model = shared_bottom(spec, (4,), (3,), 2)
    half = model._replace(
        init=lambda key: jax.tree.map(lambda p: p.astype(jnp.bfloat16), model.init(key))
    )
    recipe = baseline(FPR)(Context.paper(spec, half, 0.05, B))
    hparams = {"weight": jnp.full(2, 0.5), "lam": jnp.ones(2), "learning_rate": jnp.float32(0.05)}
    trained = jax.jit(make_train(TrainConfig(1, B), recipe))(
        KEYS[0], KEYS[1], hparams, dataset(spec, N, 0)
    )
    leaves = jax.tree.leaves(trained.state.params)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.bfloat16)}
    assert all(np.all(np.isfinite(leaf.astype(jnp.float32))) for leaf in leaves)


def test_cells_of_rows_that_nothing_uses_spoil_no_run():
    spec = tabular_spec()
    recipe = baseline(FPR)(Context.paper(spec, shared_bottom(spec, (4,), (3,), 2), 0.05, B))
    hparams = {"weight": jnp.full(2, 0.5), "lam": jnp.ones(2), "learning_rate": jnp.float32(0.05)}
    train = jax.jit(make_train(TrainConfig(2, B), recipe))
    whole = dataset(spec, N, 0)
    weight = np.array(whole.weight)
    label_mask = np.array(whole.label_mask)
    groups = np.array(whole.groups)
    weight[2] = 0
    label_mask[5] = 0
    groups[5] = 0
    data = whole._replace(weight=weight, label_mask=label_mask, groups=groups)
    numeric = np.array(whole.x.numeric)
    for rows, value, is_finite in (
        ([2, 5], np.nan, True),
        ([2], np.inf, True),
        ([3], np.nan, False),
    ):
        spoiled = numeric.copy()
        spoiled[rows] = value
        trained = train(
            KEYS[0], KEYS[1], hparams, data._replace(x=whole.x._replace(numeric=spoiled))
        )
        leaves = jax.tree.leaves(trained.state.params)
        assert all(np.all(np.isfinite(leaf)) for leaf in leaves) is is_finite
