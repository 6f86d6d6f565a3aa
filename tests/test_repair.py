"""The door to repair for any model: against a float64 brute force, in all forms of input, and what
it refuses."""

from __future__ import annotations

import enum
import pickle
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fairjax import Repair
from fairjax.core.disk import read_json, write_json
from fairjax.core.types import DataError
from fairjax.data.level_codes import level_codes, level_counts, level_positions
from fairjax.metrics import unfairness
from fairjax.metrics.distribution import unfairness_on_host
from fairjax.postprocess import Scale, barycenter, identity, price
from fairjax.postprocess.estimator import random_folds

few = pytest.mark.filterwarnings("ignore:.*groups have fewer than 400 rows")


def sample(rows: int, seed: int = 0, groups: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, rows)
    scores = rng.normal(size=(rows, 2)) * (1 + group[:, None] / 4) + group[:, None] / 2
    return np.stack([scores[:, 0], 1 / (1 + np.exp(-scores[:, 1]))], 1), np.array(
        ["ann", "bob", "cy", "di"]
    )[group]


@pytest.fixture(scope="module")
def pool():
    return sample(1500)


@pytest.fixture(scope="module")
def fitted(pool):
    return Repair().fit(pool[0], sensitive_features=pool[1])


def brute(
    pool,
    groups,
    scores,
    group,
    *,
    points=1024,
    share=None,
    forward=lambda v: v,
    inverse=lambda v: v,
    weight=None,
):
    """One task in double precision: quantiles at middle ranks, linear between, read off at the same
    levels."""
    level = np.sin(np.pi / 2 * (np.arange(points) + 0.5) / points) ** 2
    weight = np.ones(len(pool)) if weight is None else weight
    tables, mass = {}, {}
    for name in sorted(set(groups)):
        value, w = forward(pool[groups == name]), weight[groups == name]
        order = np.argsort(value)
        value, w = value[order], w[order]
        tables[name], mass[name] = (
            np.interp(level, (np.cumsum(w) - w / 2) / w.sum(), value),
            w.sum(),
        )
    share = share or {name: m / weight.sum() for name, m in mass.items()}
    target = sum(share[name] * tables[name] for name in tables)
    found = []
    for value, name in zip(forward(scores), group, strict=True):
        inside = np.clip(value, tables[name][0], tables[name][-1])
        place = np.interp(inside, tables[name], np.arange(points))
        found.append(inside + np.interp(place, np.arange(points), target - tables[name]))
    return inverse(np.array(found))


def inside(pool, groups, scores, group):
    """Which scores lie within the pool's of their group, whose ends stand for more than
    themselves."""
    return np.array(
        [
            pool[groups == name].min() < value < pool[groups == name].max()
            for value, name in zip(scores, group, strict=True)
        ]
    )


# ----------------------------------------------------------------------------------- what comes out


def test_it_is_the_barycenter_of_a_brute_force_in_double_precision(pool, fitted):
    scores, group = sample(300, 1)
    found = fitted.transform(scores, sensitive_features=group)
    partly = fitted.transform(scores, sensitive_features=group, amount=0.25)
    for t in range(2):
        within = inside(pool[0][:, t], pool[1], scores[:, t], group)
        expected = brute(pool[0][:, t], pool[1], scores[:, t], group)
        np.testing.assert_allclose(found[within, t], expected[within], atol=2e-5)
        np.testing.assert_allclose(
            partly[within, t], (0.75 * scores[:, t] + 0.25 * expected)[within], atol=2e-5
        )
    before, after = (
        max(
            stats.ks_2samp(s[group == a, 0], s[group == b, 0]).statistic
            for a in "ann bob cy".split()
            for b in "ann bob cy".split()
        )
        for s in (scores, found)
    )
    assert after < 0.2 and before > 0.35


@pytest.mark.parametrize(
    ("scale", "forward", "inverse"),
    [
        ("logit", lambda p: np.log(p / (1 - p)), lambda v: 1 / (1 + np.exp(-v))),
        ("log", np.log, np.exp),
    ],
)
def test_quantiles_are_averaged_on_the_scale(pool, scale, forward, inverse):
    scores, group = sample(200, 1)
    found = (
        Repair(scale=scale)
        .fit(pool[0][:, 1], sensitive_features=pool[1])
        .transform(scores[:, 1], sensitive_features=group)
    )
    expected = brute(pool[0][:, 1], pool[1], scores[:, 1], group, forward=forward, inverse=inverse)
    within = inside(pool[0][:, 1], pool[1], scores[:, 1], group)
    np.testing.assert_allclose(found[within], expected[within], atol=1e-5)


def test_a_scale_may_be_given_as_functions_but_not_saved(pool, tmp_path):
    scores, group = sample(200, 1)
    cubic = Scale(np.cbrt, lambda value: value**3)
    named, own = (
        Repair(scale=scale).fit(pool[0], sensitive_features=pool[1])
        for scale in ("identity", cubic)
    )
    given = Repair(scale=identity).fit(pool[0], sensitive_features=pool[1])
    rows = {"X": scores, "sensitive_features": group}
    np.testing.assert_array_equal(given.transform(**rows), named.transform(**rows))
    assert not np.allclose(own.transform(**rows), named.transform(**rows), atol=1e-3)
    np.testing.assert_allclose(own.transform(**rows, amount=0), scores, atol=1e-12)
    given.save(tmp_path)
    assert Repair.load(tmp_path).scale == "identity"
    with pytest.raises(DataError, match="cannot be written"):
        own.save(tmp_path)


def test_weights_and_shares(pool):
    scores, group = sample(200, 1)
    weight = np.random.default_rng(2).uniform(0, 3, len(pool[0]))
    weight[:50] = 0
    for share, given in (
        ("frequency", None),
        ("uniform", dict.fromkeys(("ann", "bob", "cy"), 1 / 3)),
        ([1, 2, 5], {"ann": 1 / 8, "bob": 2 / 8, "cy": 5 / 8}),
    ):
        found = (
            Repair(share=share)
            .fit(pool[0][:, 0], sensitive_features=pool[1], sample_weight=weight)
            .transform(scores[:, 0], sensitive_features=group)
        )
        held, names = pool[0][weight > 0, 0], pool[1][weight > 0]
        expected = brute(held, names, scores[:, 0], group, weight=weight[weight > 0], share=given)
        within = inside(held, names, scores[:, 0], group)
        np.testing.assert_allclose(found[within], expected[within], atol=2e-5)


@few
def test_several_attributes_are_the_core_on_membership():
    """Crossed groups, an amount for each attribute: the same as the pure functions see
    membership."""
    scores, one = sample(1200, groups=2)
    two = np.random.default_rng(4).choice(["x", "y", "z"], len(scores), p=[0.5, 0.3, 0.2])
    new, rows = slice(0, 100), slice(100, None)
    repair = Repair([0.7, 0.2], points=256).fit(
        scores[rows], sensitive_features=[one[rows], two[rows]]
    )
    groups = np.concatenate(
        [one[:, None] == ["ann", "bob"], two[:, None] == ["x", "y", "z"]], 1
    ).astype(np.float32)
    post = barycenter((2, 3), points=256)
    state = jax.jit(post.fit)(
        scores[rows].astype(np.float32), groups[rows], np.ones(len(scores) - 100, np.float32)
    )
    expected = jax.jit(post.apply)(
        state, scores[new].astype(np.float32), groups[new], amount=np.float32([0.7, 0.2])
    )
    np.testing.assert_allclose(
        repair.transform(scores[new], sensitive_features=[one[new], two[new]]), expected, atol=1e-4
    )
    np.testing.assert_allclose(repair.price([1, 1]), price(state), rtol=1e-3)
    assert repair.cells_[4] == ("bob", "y") and repair.price().shape == (2, 6)
    only = Repair([0, 1], points=256).fit(
        scores[rows], sensitive_features={"one": one[rows], "two": two[rows]}
    )
    moved = only.transform(scores[new], sensitive_features={"one": one[new], "two": two[new]})
    for name in (
        "ann",
        "bob",
    ):  # repair of one attribute alone happens among the rows that share the other
        alone = Repair(points=256).fit(
            scores[rows][one[rows] == name], sensitive_features=two[rows][one[rows] == name]
        )
        np.testing.assert_allclose(
            moved[one[new] == name],
            alone.transform(
                scores[new][one[new] == name], sensitive_features=two[new][one[new] == name]
            ),
            atol=1e-5,
        )


def test_amount_0_changes_nothing_and_large_offsets_lose_nothing(pool, fitted):
    scores, group = sample(200, 1)
    assert np.array_equal(fitted.transform(scores, sensitive_features=group, amount=0), scores)
    far = (
        Repair()
        .fit(pool[0] + 1e9, sensitive_features=pool[1])
        .transform(scores + 1e9, sensitive_features=group)
    )
    np.testing.assert_allclose(
        far - 1e9, fitted.transform(scores, sensitive_features=group), atol=1e-5
    )
    path = fitted.path(scores, [0, 0.5, 1], sensitive_features=group)
    assert np.array_equal(path[0], scores) and np.array_equal(
        path[2], fitted.transform(scores, sensitive_features=group)
    )


def test_beyond_the_pool(pool, fitted):
    scores, group = np.array([[50.0, 0.5], [60.0, 0.5], [-50.0, 0.5]]), ["ann"] * 3
    clamped = fitted.transform(scores, sensitive_features=group)[:, 0]
    apart = (
        Repair(outside="shift")
        .fit(*pool[:1], sensitive_features=pool[1])
        .transform(scores, sensitive_features=group)[:, 0]
    )
    assert (
        clamped[0] == clamped[1]
        and pool[0][:, 0].min() <= clamped[2] < clamped[0] <= pool[0][:, 0].max()
    )
    beyond = 50 - pool[0][pool[1] == "ann", 0].max()
    np.testing.assert_allclose(
        [apart[1] - apart[0], apart[0] - clamped[0]], [10, beyond], rtol=1e-5
    )


def test_price_is_the_mean_squared_change_of_the_pool(pool, fitted):
    with pytest.warns(UserWarning, match="1,500 rows are those of the pool"):
        change = fitted.transform(pool[0], sensitive_features=pool[1]) - pool[0]
    expected = np.array(
        [np.mean(change[pool[1] == name] ** 2, axis=0) for name in ("ann", "bob", "cy")]
    ).T
    np.testing.assert_allclose(fitted.price(), expected, rtol=0.03)
    np.testing.assert_allclose(fitted.price(0.5), fitted.price() / 4, rtol=1e-5)


# ------------------------------------------------------------------------------------------ batches


def test_every_batch_scores_a_row_alike_to_the_last_bit(fitted):
    scores, group = sample(1100, 1)
    whole = fitted.transform(scores, sensitive_features=group)
    for rows in (1, 2, 7, 255, 256, 257, 1000):
        assert np.array_equal(
            fitted.transform(scores[-rows:], sensitive_features=group[-rows:]), whole[-rows:]
        )
    lacking = group != "bob"
    assert np.array_equal(
        fitted.transform(scores[lacking], sensitive_features=group[lacking]), whole[lacking]
    )
    assert fitted.transform(scores[:0], sensitive_features=group[:0]).shape == (0, 2)


def test_whole_scores_are_not_cut_to_whole_numbers():
    points = np.random.default_rng(0).integers(0, 100, 900)
    group = np.arange(900) % 2 == 0
    repair = Repair().fit(points + 5 * group, sensitive_features=group)
    found = repair.transform([10, 20, 30], sensitive_features=[True, False, True])
    assert found.dtype == np.float64 and np.any(found % 1 != 0)
    np.testing.assert_allclose(
        found,
        brute(
            (points + 5 * group).astype(float) + 1e-9 * np.arange(900),
            group,
            np.array([10.0, 20.0, 30.0]),
            [True, False, True],
        ),
        atol=0.6,
    )


def test_equal_targets_are_equal_to_the_last_bit():
    """Two groups with the same steps at other places: no rounding may tell the repaired steps
    apart."""
    steps = np.repeat(np.arange(10) ** 1.5, 60)
    repair = Repair().fit(
        np.append(steps, steps / 3 + 1e6 + 0.1), sensitive_features=np.repeat(["a", "b"], 600)
    )
    one, two = (
        repair.transform(s, sensitive_features=[g] * 600)
        for s, g in ((steps, "a"), (steps / 3 + 1e6 + 0.1, "b"))
    )
    assert np.array_equal(one, two) and len(set(one)) == 10


@few
def test_names_that_join_alike_are_groups_of_their_own():
    one, two = (
        np.array(["1", "11"])[np.arange(400) // 200],
        np.array(["11", "1"])[np.arange(400) // 200],
    )
    scores = np.where(one == "1", 0.0, 100.0) + np.arange(400) % 200
    repair = Repair().fit(scores, sensitive_features=[one, two])
    rows = dict(zip(repair.cells_, repair.rows_.tolist(), strict=True))
    assert {cell: n for cell, n in rows.items() if n} == {("1", "11"): 200, ("11", "1"): 200}
    found = repair.transform([100.0, 200.0], sensitive_features=[["1", "11"], ["11", "1"]])
    np.testing.assert_allclose(found, [150, 150], atol=0.5)


def test_a_new_fit_forgets_and_nothing_is_drawn(pool):
    scores, group = sample(1500, 5)
    repair = Repair().fit(pool[0], sensitive_features=pool[1]).fit(scores, sensitive_features=group)
    again = Repair().fit(scores, sensitive_features=group)
    new, who = sample(50, 6)
    assert np.array_equal(
        repair.transform(new, sensitive_features=who), again.transform(new, sensitive_features=who)
    )
    repair.set_params(
        scale="log", small="pool", amount=0
    )  # of these, only the amount is for rows of the old fit
    assert np.array_equal(repair.transform(new, sensitive_features=who), new)
    with pytest.raises(DataError, match="NaN"):
        repair.fit([np.nan], sensitive_features=["ann"])
    with pytest.raises(DataError, match="not fitted yet"):
        repair.transform(new, sensitive_features=who)


def test_a_seed_takes_equal_scores_apart():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 2000)
    scores = np.round((rng.normal(size=2000) + group) / 2)
    repair = Repair().fit(scores[:1000], sensitive_features=group[:1000])
    new, who = scores[1000:], group[1000:]
    assert len(set(repair.transform(new, sensitive_features=who))) <= 2 * len(set(scores))
    drawn = repair.transform(new, sensitive_features=who, seed=3)
    assert np.array_equal(drawn, repair.transform(new, sensitive_features=who, seed=3))
    assert np.array_equal(
        drawn[:10], repair.transform(new[:10], sensitive_features=who[:10], seed=3)
    )
    together, apart = (
        stats.ks_2samp(s[who == 0], s[who == 1]).statistic
        for s in (repair.transform(new, sensitive_features=who), drawn)
    )
    assert apart < 0.09 < together


# ----------------------------------------------------------------------------------- forms of input


def test_all_forms_of_scores_and_groups_say_the_same(pool, fitted):
    scores, group = sample(40, 1)
    expected = fitted.transform(scores, sensitive_features=group)
    frame = pd.DataFrame(scores, columns=["pd", "income"])
    for form in (
        scores.tolist(),
        list(scores),
        frame,
        {"pd": scores[:, 0], "income": scores[:, 1]},
        np.asfortranarray(scores),
    ):
        assert np.array_equal(fitted.transform(form, sensitive_features=group), expected)
    for form in (
        group.tolist(),
        group.astype(object),
        group[:, None],
        pd.Series(group, index=range(7, 47)),
        [group],
        pd.Series(group, dtype="category"),
        pd.Series(group, dtype="string"),
        pd.DataFrame({"who": group}),
        {"who": group},
        [[g] for g in group],
        group.astype("S"),
    ):
        assert np.array_equal(fitted.transform(scores, sensitive_features=form), expected)
    single = fitted.transform(scores.astype(np.float32), sensitive_features=group)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-5)
    flat = Repair().fit(pool[0][:, 0], sensitive_features=pool[1])
    assert flat.transform(frame["pd"], sensitive_features=group).shape == (40,)
    assert np.array_equal(
        flat.transform(scores[:, :1], sensitive_features=group)[:, 0], expected[:, 0]
    )


def test_columns_of_a_frame_are_found_by_name(pool):
    scores, group = sample(40, 1)
    frame = pd.DataFrame(pool[0], columns=["pd", "income"])
    with pytest.warns(UserWarning, match=r"'ann' & 1 229.*6 in all.*about 0.08 apart"):
        repair = Repair().fit(
            frame, sensitive_features=pd.DataFrame({"who": pool[1], "odd": np.arange(1500) % 2})
        )
    new, who = (
        pd.DataFrame(scores, columns=["pd", "income"]),
        pd.DataFrame({"who": group, "odd": np.arange(40) % 2}),
    )
    assert np.array_equal(
        repair.transform(new, sensitive_features=who),
        repair.transform(new[["income", "pd"]], sensitive_features=who[["odd", "who"]]),
    )
    assert list(repair.get_feature_names_out()) == ["pd", "income"] and repair.attributes_ == (
        "who",
        "odd",
    )
    with pytest.raises(DataError, match="'what'"):
        repair.transform(new, sensitive_features=who.rename(columns={"odd": "what"}))


@pytest.mark.parametrize(
    "column",
    [
        np.array([3, 1, 3, 7]),
        np.array([-128, 127, 0, 0], np.int8),
        np.array([2**63 - 1, 5, -(2**63)]),
        np.array([0.5, np.nan, 0.5]),
        np.array([1.0, np.nan, 200.0]),
        np.array([True, False]),
        np.array([2**64 - 1, 1], np.uint64),
        np.array(["b", "a", "b"]),
        np.array(["b", None, "a", float("nan"), pd.NA, pd.NaT], object),
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series(["b", None, "b"]),
        pd.Series([True, None], dtype="boolean"),
        np.array([np.nan]),
        np.array([], float),
        np.array([1e300, 1e300]),
        pd.Series(["b", None, "a"], dtype="category"),
    ],
)
def test_codes_stand_for_the_cells_of_a_column(column):
    codes, levels = level_codes("c", column)
    known = {key: i for i, key in enumerate(level_counts(codes, levels))}
    held = list(known)
    cells = column.astype(object) if hasattr(column, "dtype") else column
    for cell, place in zip(list(cells), level_positions(codes, levels, known), strict=True):
        assert (
            pd.isna(cell) if place < 0 else held[place] == (isinstance(cell, bool | np.bool_), cell)
        )


class Sex(str, enum.Enum):  # noqa: UP042 (str() of a StrEnum is its text)
    WOMAN = "f"
    MAN = "m"


class Code(enum.IntEnum):
    WOMAN = 1
    MAN = 2


@few
@pytest.mark.parametrize(
    ("cells", "levels"),
    [
        ([Sex.WOMAN, Sex.MAN], ["f", "m"]),
        ([Code.WOMAN, Code.MAN], [1, 2]),
        ([" f", "m "], ["f", "m"]),
        ([b"f ", b"m"], ["f", "m"]),
        (["f", "m", ""], ["f", "m"]),
        (["f", "m", "  "], ["f", "m"]),
        (["f", "m", "NaN"], ["f", "m"]),
        ([b"f", b"m", b""], ["f", "m"]),
        ([False, True, ""], [False, True]),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", [list, pd.Series, lambda cells: np.array(cells, object)])
def test_a_level_is_what_a_table_reads(cells, levels, form):
    scores = np.linspace(0, 1, 12 * len(cells))
    repair = Repair(small="pool").fit(scores, sensitive_features=form(cells * 12))
    assert repair.levels_ == [levels]
    assert repair.rows_.tolist() == [12, 12]
    answer = repair.transform([0.3], sensitive_features=[levels[0]])
    assert answer == repair.transform([0.3], sensitive_features=form(cells[:1]))


def test_text_of_other_types_is_read_alike():
    expected, _ = level_codes("c", np.array(["f", None, "m"], object))
    for column in (
        np.array(["f", "", "m"]),
        np.array(["f", "", "m"], "S"),
        pd.Series(["f", " ", "m"], dtype="string"),
        pd.Series(["f", "", "m"], dtype="category"),
    ):
        codes, levels = level_codes("c", column)
        assert np.array_equal(codes < 0, expected < 0)
        assert [key for _, key in level_counts(codes, levels)] == ["f", "m"]


@few
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_scores_groups_and_weights_of_short_numbers(dtype):
    scores = jnp.linspace(0, 1, 24).astype(dtype)
    group = jnp.arange(24) % 2
    wide = np.asarray(scores, np.float64)
    new = jnp.asarray([0.25, 0.5], dtype)
    expected = Repair().fit(wide, sensitive_features=group)
    expected = expected.transform([0.25, 0.5], sensitive_features=[0, 1])
    repair = Repair().fit(
        scores, sensitive_features=group.astype(dtype), sample_weight=jnp.ones(24, dtype)
    )
    answer = repair.transform(new, sensitive_features=jnp.asarray([0, 1], dtype))
    assert answer.dtype == dtype
    assert np.array_equal(answer, expected.astype(dtype))


def test_rows_are_matched_by_position(fitted):
    scores, group = sample(40, 1)
    index = np.arange(40)[::-1]
    frame = pd.DataFrame(scores, index=index)
    groups = pd.Series(group, index=np.roll(index, 3))
    found = fitted.transform(frame, sensitive_features=groups)
    assert np.array_equal(found, fitted.transform(scores, sensitive_features=group))


@few
def test_weights_are_not_repetition():
    scores, group = sample(60, 1)
    weight = np.arange(60) % 3 + 1
    weighted = Repair().fit(scores, sensitive_features=group, sample_weight=weight)
    repeated = Repair().fit(
        np.repeat(scores, weight, axis=0), sensitive_features=np.repeat(group, weight)
    )
    assert weighted.rows_.sum() == 60
    assert repeated.rows_.sum() == 120
    new, new_group = sample(20, 2)
    apart = weighted.transform(new, sensitive_features=new_group) - repeated.transform(
        new, sensitive_features=new_group
    )
    # neighbours in rank
    assert 1e-3 < np.abs(apart).max() < 0.5


def test_levels_that_print_alike_are_not_confused():
    cells = [True, 1, "1", 1.0, "True", 0.1, np.float64(0.1), "0.1", np.nextafter(0.1, 1)]
    codes, levels = level_codes("c", np.array(cells, object))
    assert list(level_counts(codes, levels).items()) == [
        ((False, 0.1), 2),
        ((False, np.nextafter(0.1, 1)), 1),
        ((False, 1), 2),
        ((False, "0.1"), 1),
        ((False, "1"), 1),
        ((False, "True"), 1),
        ((True, True), 1),
    ]
    scores = np.random.default_rng(0).normal(size=1000)
    repair = Repair().fit(scores, sensitive_features=np.arange(1000) % 2)
    assert np.isfinite(
        repair.transform(scores[:2], sensitive_features=[1.0, None])
    ).all()  # numbers with a gap come as floats
    for other in (["1", "0"], [True, False]):
        with pytest.raises(
            DataError,
            match=r"2 rows have a level of 'sensitive' that the pool has not.*it has 0 500, 1 500",
        ):
            repair.transform(scores[:2], sensitive_features=other)


def test_unknown_groups_are_no_part_of_the_pool_and_ranked_among_all(pool, fitted):
    scores, group = (
        np.append(pool[0], [[99.0, 0.5]] * 2, 0),
        np.append(pool[1].astype(object), [None, np.nan]),
    )
    repair = Repair().fit(scores, sensitive_features=group)
    assert (
        np.array_equal(repair.table_.quantiles, fitted.table_.quantiles)
        and repair.rows_.sum() == 1500
    )
    middle = np.median(pool[0][:, 0])
    found = repair.transform([[middle, 0.5]], sensitive_features=[None])[0, 0]
    share = repair.rows_ / 1500
    expected = sum(
        share[i] * np.median(pool[0][pool[1] == name, 0])
        for i, name in enumerate(("ann", "bob", "cy"))
    )
    assert found == pytest.approx(expected, abs=0.03)


# -------------------------------------------------------------------------- policies and complaints


def uneven():
    scores, group = sample(1503, groups=3)
    group[:3] = "di"
    return scores, group


@pytest.mark.parametrize(("small", "own"), [("pool", 0.0), ("shrink", 3 / 103)])
def test_small_groups_lean_on_all_rows_and_unseen_ones_too(small, own):
    scores, group = uneven()
    with pytest.warns(UserWarning, match=r"1 of 4 groups have fewer than 400 rows \('di' 3\); th"):
        repair = Repair(small=small).fit(scores, sensitive_features=group)
    quantile = repair.table_.quantiles[0]
    ends = (
        own * (np.sort(scores[:3, 0])[[0, -1]] - repair.centre_[0])
        + (1 - own) * quantile[-1, [0, -1]]
    )
    np.testing.assert_allclose(quantile[3, [0, -1]], ends, atol=1e-4)
    with pytest.warns(
        UserWarning,
        match="2 rows have a level of 'sensitive' that the pool has not .'eve' 2.*ranked among all",
    ):
        new = repair.transform(scores[:3], sensitive_features=["eve", "eve", None])
    assert np.array_equal(new[0], repair.transform(scores[:1], sensitive_features=[None])[0])


def test_refusing_is_the_default():
    scores, group = uneven()
    with pytest.raises(
        DataError, match=r"1 of 4 groups have fewer than 10 rows \('di' 3\); join levels"
    ):
        Repair(minimum=10).fit(scores, sensitive_features=group)
    with pytest.warns(
        UserWarning, match=r"\('di' 3\). On new rows the two smallest will be about 0.50 apart"
    ):
        Repair().fit(scores, sensitive_features=group)
    two = np.where(group == "ann", "x", np.where(group == "di", 0, np.arange(1503) % 2).astype(str))
    with pytest.warns(UserWarning, match="fewer than 400"):
        repair = Repair().fit(scores, sensitive_features=[group, two])
    with pytest.raises(
        DataError,
        match=r"1 rows have a combination .* has not \('ann' & '1' 1\); it has 'di' & '0' 3",
    ):
        repair.transform(scores[:1], sensitive_features=[np.array(["ann"]), np.array(["1"])])


def test_one_group_stays_as_it_is():
    with pytest.warns(UserWarning, match="all 500 rows are of one group, 'a'"):
        repair = Repair().fit(np.arange(500.0), sensitive_features=["a"] * 500)
    np.testing.assert_allclose(
        repair.transform([3.0, 400.0], sensitive_features=["a", "a"]), [3, 400], atol=1e-4
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("options", "scores", "groups", "message"),
    [
        ({}, [1.0, np.nan, np.inf], list("aab"), "score: 2 of 3 scores are NaN or infinite"),
        ({}, ["x", "y", "z"], list("aab"), "score: 3 cells are not all numbers"),
        (
            {"scale": "logit"},
            [0.5, 1.0, 0.0, 0.1],
            list("aabb"),
            "score: 2 of 4 scores are not between 0 and 1",
        ),
        (
            {"scale": "log"},
            [0.5, -1.0, 0.0, 0.1],
            list("aabb"),
            "score: 2 of 4 scores are not positive",
        ),
        ({}, [1.0, 2.0, 3.0], list("aab"), r"1 of 2 groups have fewer than 2 rows \('b' 1\)"),
        ({}, [], [], "0 rows"),
        ({}, [1.0, 2.0], list("aab"), "sensitive: 3 rows beside 2 scores"),
        ({}, [1.0, 2.0, 3.0], [None] * 3, "no row has a known group"),
        ({}, [1.0, 2.0, 3.0], None, "sensitive_features are missing"),
        ({}, [1.0, 2.0, 3e38], list("aaa"), "1 of 3 scores are beyond"),
        ({}, [1.0, 2.0, 1e308], list("aaa"), "score: 1 of 3 scores are beyond 1e.37. Take"),
        ({}, [1.0, 2.0, 3.0], [1.0, np.inf, np.inf], "sensitive: 2 of 3 levels are infinite"),
        ({}, [1.0, 2.0, 3.0], ["a", -np.inf, "a"], "sensitive: 1 of 3 levels are infinite"),
        ({}, [1.0, 2.0, 3.0], pd.Series([1.0, 2.0, np.inf], dtype="Float64"), "1 of 3 levels are"),
        ({}, np.arange(9000.0), np.arange(9000) / 7, "9,000 groups.*'sensitive' with 9,000 levels"),
        ({}, np.ones((3, 2, 2)), list("aab"), r"shape \(3, 2, 2\)"),
        ({}, [1.0, 2.0, 3.0], [[1], [2], {}], "sensitive"),
        ({"scale": "cubic"}, [1.0], ["a"], "'cubic' is not one of identity, logit, log"),
        ({"share": [1, 2, 3]}, np.arange(4.0), list("aabb"), r"share of shape \(3,\)"),
        ({"share": "odd"}, np.arange(4.0), list("aabb"), "share 'odd'"),
        ({"amount": 1.5}, np.arange(4.0), list("aabb"), "amount 1.5"),
        ({"amount": [1, 1]}, np.arange(4.0), list("aabb"), r"amount \[1.0, 1.0\].*1 attributes"),
        ({"sensitive": "who"}, np.ones((3, 2)), None, "no column 'who' among 2 columns"),
        ({"sensitive": 0}, np.ones((3, 2)), list("aab"), "leave out one"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_complaints(options, scores, groups, message):
    with pytest.raises(DataError, match=message):
        repair = Repair(**options).fit(scores, sensitive_features=groups)
        repair.transform(scores, sensitive_features=groups)


def test_complaints_of_transform(pool, fitted):
    for scores, groups, message in (
        ([[1.0, np.nan]], ["ann"], "score 1: 1 of 1 scores are NaN"),
        ([[1.0]], ["ann"], "X has 1 features.*expecting 2"),
        ([[1.0, 2.0]], [["ann", "bob"]], "2 columns, fitted were 1"),
        (
            [[1.0, 2.0]] * 2,
            ["ann", "eve"],
            r"1 rows have a level of 'sensitive' that the pool has not \('eve' 1\)",
        ),
    ):
        with pytest.raises(DataError, match=message):
            fitted.transform(scores, sensitive_features=groups)
    for weight in (np.ones(3), -np.ones(1500), np.full(1500, np.nan), np.zeros(1500)):
        with pytest.raises(DataError, match="sample_weight"):
            Repair().fit(pool[0], sensitive_features=pool[1], sample_weight=weight)
    with pytest.raises(DataError, match="y: 1 of 6 labels are infinite"):
        fitted.audit(pool[0][:3] + 0.1, pool[1][:3], [[0, np.inf], [0, 0], [0, 0]])
    with pytest.raises(ValueError, match="no parameter 'ammount'"):
        Repair().set_params(ammount=1)


# ------------------------------------------------------------------------------ the pool's own rows


@few
def test_cross_fitting_repairs_a_row_by_the_others(pool):
    scores, group = sample(300, 3)
    repair = Repair(0.6)
    found = repair.cross_fit_transform(scores, group, folds=3, seed=5)
    assert np.array_equal(found, Repair(0.6).cross_fit_transform(scores, group, folds=3, seed=5))
    assert not np.array_equal(
        found, Repair(0.6).cross_fit_transform(scores, group, folds=3, seed=6)
    )
    fold = random_folds(np.searchsorted(["ann", "bob", "cy"], group), 3, 5)
    for k in range(3):
        mine = fold == k
        alone = Repair(0.6).fit(scores[~mine], sensitive_features=group[~mine])
        np.testing.assert_allclose(
            found[mine], alone.transform(scores[mine], sensitive_features=group[mine]), atol=1e-5
        )
    counts = [np.bincount(fold[group == name], minlength=3) for name in ("ann", "bob", "cy")]
    assert np.ptp(counts, axis=1).max() <= 1  # every group in every fold
    with pytest.raises(DataError, match="folds 1"):
        repair.cross_fit_transform(scores, group, folds=1)


def test_an_audit_of_the_pool_is_honest_only_in_folds():
    scores, group = sample(1500, groups=2)
    repair = Repair().fit(scores, sensitive_features=group)
    with pytest.warns(UserWarning, match="those of the pool"):
        inside = repair.audit(scores, group)
    crossed = repair.audit(scores, group, folds=4, seed=1)
    assert np.all(2 * inside.reached["kolmogorov_smirnov"] < crossed.reached["kolmogorov_smirnov"])
    np.testing.assert_array_equal(
        crossed.after, Repair().cross_fit_transform(scores, group, folds=4, seed=1)
    )


# ---------------------------------------------------------------------------------------- the audit


@few
def test_the_audit_measures_what_scipy_measures():
    scores, one = sample(1700, groups=2)
    two = np.random.default_rng(1).choice(["x", "y"], 1700)
    rows, new = slice(0, 1300), slice(1300, None)
    labels = np.stack([scores[new, 0] + 1, scores[new, 1] > 0.6], 1).astype(float)
    labels[:5] = np.nan
    repair = Repair().fit(
        {"wage": scores[rows, 0], "pd": scores[rows, 1]},
        sensitive_features={"one": one[rows], "two": two[rows]},
    )
    seen = repair.audit(
        {"wage": scores[new, 0], "pd": scores[new, 1]}, {"one": one[new], "two": two[new]}, labels
    )
    assert (
        seen.tasks == ("wage", "pd")
        and seen.units == ("", "probability")
        and seen.attributes == ("one", "two")
    )
    assert seen.cells == ("ann & x", "ann & y", "bob & x", "bob & y") and seen.level.tolist() == [
        [0, 0, 1, 1],
        [0, 1, 0, 1],
    ]
    assert (
        seen.gaps["wasserstein"].shape == (11, 2, 3)
        and seen.steps.shape == (2, 3, 2, 2)
        and seen.orders == ((0, 1), (1, 0))
    )
    ks, w1 = seen.gaps["kolmogorov_smirnov"], seen.gaps["wasserstein"]
    for t in range(2):
        for p, score in ((0, seen.before[:, t]), (10, seen.after[:, t])):
            for a, who in enumerate((one[new] == "ann", two[new] == "x")):
                assert ks[p, t, a] == pytest.approx(
                    stats.ks_2samp(score[who], score[~who]).statistic
                )
                assert w1[p, t, a] == pytest.approx(
                    stats.wasserstein_distance(score[who], score[~who])
                )
                assert seen.floor[t, a] == pytest.approx(
                    0.8687 * np.sqrt(1 / who.sum() + 1 / (~who).sum()), abs=1e-5
                )
    np.testing.assert_allclose(seen.steps[:, 0], np.broadcast_to(ks[0, :, :2], (2, 2, 2)))
    np.testing.assert_allclose(
        seen.steps[:, 2], np.broadcast_to(ks[10, :, :2], (2, 2, 2)), atol=0.01
    )
    assert np.all(
        seen.steps[0, 1, :, 0] < 0.5 * seen.steps[0, 0, :, 0]
    )  # the first of an order is repaired first
    np.testing.assert_allclose(
        seen.change[10], np.sqrt(np.mean((seen.after - seen.before) ** 2, axis=0))
    )
    from sklearn.metrics import roc_auc_score

    assert seen.risk_name == ("mean squared error", "1 - AUC")
    assert seen.risk[0, 0] == pytest.approx(1) and seen.risk[0, 1] == pytest.approx(0, abs=1e-6)
    assert seen.risk[10, 1] == pytest.approx(
        1 - roc_auc_score(labels[5:, 1], seen.after[5:, 1]), abs=1e-5
    )


@few
def test_the_audit_is_what_the_report_draws(tmp_path):
    pytest.importorskip("matplotlib")
    from fairjax.report.repair import write_repair

    scores, one = sample(900, groups=2)
    two = np.random.default_rng(1).choice(["x", "y", None], 900)
    repair = Repair([1, 0.5]).fit(
        scores[:500], sensitive_features={"one": one[:500], "two": two[:500]}
    )
    seen = repair.audit(scores[500:], {"one": one[500:], "two": two[500:]}, scores[500:] > 0.5)
    assert {path.name for path in write_repair(tmp_path, seen)} >= {
        "report.html",
        "path.png",
        "waterfall.png",
    }
    assert "ann &amp; x" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_unfairness_on_the_host_is_the_traced_one():
    """Many groups, weights, ties, an unknown group and an absent one, beside the traced function in
    single precision."""
    rng = np.random.default_rng(0)
    score, codes, weight = (
        np.sort(np.round(rng.normal(size=300), 1)),
        rng.integers(-1, 5, 300),
        rng.uniform(0, 2, 300),
    )
    codes[codes == 3] = 2
    weight[:20] = 0
    found = unfairness_on_host(score, codes, 5, weight)
    member = (codes[:, None] == np.arange(5)).astype(np.float32)
    expected = jax.jit(unfairness)(score.astype(np.float32), member, weight.astype(np.float32))
    np.testing.assert_allclose(found, np.array(expected), atol=1e-5)
    assert np.isnan(unfairness_on_host(score, np.zeros(300, int), 5, weight)).all()


# ------------------------------------------------------------------------------------------ on disk


@few
def test_what_is_saved_repairs_the_same_to_the_last_bit(pool, fitted, tmp_path):
    scores, group = sample(70, 1)
    mixed = np.array([1, True, "1", 2.5], object)[np.arange(1500) % 4]
    for repair, groups in (
        (fitted, group),
        (
            Repair([0.5, 1], scale="identity", share=np.ones(12), small="pool", minimum=3).fit(
                pool[0], sensitive_features=[pool[1], mixed]
            ),
            [group, mixed[:70]],
        ),
    ):
        repair.save(tmp_path / "r")
        loaded, copied = Repair.load(tmp_path / "r"), pickle.loads(pickle.dumps(repair))
        expected = repair.transform(scores, sensitive_features=groups)
        for other in (loaded, copied):
            assert np.array_equal(other.transform(scores, sensitive_features=groups), expected)
            assert np.array_equal(other.price(), repair.price()) and other.cells_ == repair.cells_
    with pytest.warns(UserWarning, match="those of the pool"):
        loaded.transform(pool[0], sensitive_features=[pool[1], mixed])
    words = read_json(tmp_path / "r" / "repair.json")
    write_json(tmp_path / "r" / "repair.json", {**words, "tasks": ["one"]})
    with pytest.raises(DataError, match="belongs to another"):
        Repair.load(tmp_path / "r")
    text = (tmp_path / "r" / "repair.json").read_text()
    (tmp_path / "r" / "repair.json").write_text(text.replace("one", "two"))
    with pytest.raises(DataError, match=r"repair.json: damaged or changed \(its content was"):
        Repair.load(tmp_path / "r")
    write_json(tmp_path / "r" / "repair.json", words)
    (tmp_path / "r" / "repair.npz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"repair.npz: damaged or changed"):
        Repair.load(tmp_path / "r")
    (tmp_path / "r" / "repair.json").write_text("{")
    with pytest.raises(DataError, match=r"repair.json: damaged or changed"):
        Repair.load(tmp_path / "r")
    with pytest.raises(DataError, match="no repair here"):
        Repair.load(tmp_path)


# ------------------------------------------------------------------------------------- scikit-learn


def test_in_a_pipeline_behind_a_model():
    sklearn = pytest.importorskip("sklearn")
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    rng = np.random.default_rng(1)
    x = pd.DataFrame({"sex": rng.choice(["f", "m"], 2000), "a": rng.normal(size=2000)})
    x["b"] = rng.normal(size=2000) + (x["sex"] == "m")
    y = x["a"] + x["b"] + rng.normal(size=2000) > 0
    model = LogisticRegression().fit(x[["a", "b"]][:700], y[:700])
    scores = ColumnTransformer(
        [
            (
                "score",
                FunctionTransformer(lambda rows: model.predict_proba(rows)[:, 1:]),
                ["a", "b"],
            ),
            ("who", "passthrough", ["sex"]),
        ]
    )
    pipeline = make_pipeline(scores, Repair(sensitive=-1))
    pipeline.fit(x[700:1600])
    found = pipeline.transform(x[1600:])
    prob, sex = model.predict_proba(x[["a", "b"]])[:, 1], x["sex"].to_numpy()
    repair = Repair().fit(prob[700:1600], sensitive_features=sex[700:1600])
    direct = repair.transform(prob[1600:], sensitive_features=sex[1600:])
    assert found.shape == (400, 1) and np.array_equal(found[:, 0], direct)
    new, who = prob[1600:], sex[1600:] == "f"
    assert (
        stats.ks_2samp(direct[who], direct[~who]).statistic
        < 0.12
        < stats.ks_2samp(new[who], new[~who]).statistic
    )
    copy = sklearn.base.clone(pipeline)
    assert copy[-1].get_params() == pipeline[-1].get_params() and not hasattr(copy[-1], "table_")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_checks_of_scikit_learn():
    pytest.importorskip("sklearn", minversion="1.6")
    from sklearn.utils.estimator_checks import check_estimator

    refused = {
        "check_estimators_nan_inf": "the first column is of groups, where NaN is an unknown group; "
        "NaN scores are refused",
        "check_dtype_object": "a dictionary for a group is refused as a DataError, which is a "
        "ValueError and no TypeError",
        "check_sample_weight_equivalence_on_dense_data": "a value of weight 2 is one point of the "
        "quantile function, two equal values are a step",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(
            Repair(sensitive=0, small="pool", points=16),
            expected_failed_checks=refused,
            on_fail=None,
            on_skip=None,
        )
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(refused)
    assert sum(r["status"] == "passed" for r in results) > 40


@pytest.mark.filterwarnings("ignore:2 of 2 groups have fewer:UserWarning")
def test_a_notebook_shows_the_call_and_the_groups():
    repair = Repair(amount=0.5, minimum=1)
    assert repr(repair) == "Repair(amount=0.5, minimum=1)" and "table" not in repair._repr_html_()
    scores = np.arange(40.0)
    repair.fit(scores, sensitive_features=["<b>f</b>", "m"] * 20)
    shown = repair._repr_html_()
    assert "&lt;b&gt;f&lt;/b&gt;</th><td>20</td>" in shown and "<b>f" not in shown
