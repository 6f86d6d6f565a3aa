"""Disparities under fairlearn's names, against fairlearn."""

from __future__ import annotations

import enum
import inspect

import fairlearn.metrics as fairlearn
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from fairjax import metrics
from fairjax.core.types import DataError

NAMES = [
    f"{name}_{kind}"
    for name in (
        "demographic_parity",
        "equal_opportunity",
        "equalized_odds",
        "true_positive_rate",
        "false_positive_rate",
    )
    for kind in ("difference", "ratio")
]


def draw(seed: int, levels: int = 3, rows: int = 300):
    rng = np.random.default_rng(seed)
    group = rng.integers(levels, size=rows)
    label = (rng.random(rows) < 0.3 + 0.1 * group).astype(int)
    decision = (rng.random(rows) < 0.2 + 0.4 * label + 0.05 * group).astype(int)
    return label, decision, group, rng.exponential(size=rows)


@pytest.mark.parametrize("name", NAMES)
def test_the_signature_is_fairlearns(name):
    ours = inspect.signature(getattr(metrics, name)).parameters
    theirs = inspect.signature(getattr(fairlearn, name)).parameters
    assert list(ours) == ["y_true", "y_pred", "sensitive_features", "sample_weight"]
    for argument in ours:
        if argument in theirs:
            assert ours[argument].kind == theirs[argument].kind


@pytest.mark.parametrize("levels", [2, 3, 5])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_number_is_fairlearns(name, levels, weighted):
    for seed in range(10):
        label, decision, group, weight = draw(seed, levels)
        options = {"sensitive_features": group}
        if weighted:
            options["sample_weight"] = weight
        ours = getattr(metrics, name)(label, decision, **options)
        theirs = getattr(fairlearn, name)(label, decision, **options)
        assert type(ours) is float
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_large_weights_lose_nothing():
    label, decision, group, weight = draw(0, rows=20_000)
    weight = weight * 1e9 + 1
    options = {"sensitive_features": group, "sample_weight": weight}
    ours = metrics.equalized_odds_difference(label, decision, **options)
    theirs = fairlearn.equalized_odds_difference(label, decision, **options)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


class Sex(str, enum.Enum):  # noqa: UP042 (str() of a StrEnum is its text)
    WOMAN = "f"
    MAN = "m"


@pytest.mark.parametrize(
    "form",
    [
        list,
        np.array,
        lambda cells: np.array(cells, object),
        lambda cells: pd.Series(cells, index=np.arange(300)[::-1]),
        lambda cells: pd.Series(cells, dtype="category"),
        lambda cells: [Sex(cell) for cell in cells],
        lambda cells: [cell == "m" for cell in cells],
        lambda cells: jnp.asarray([7.5 * (cell == "m") for cell in cells]),
        lambda cells: {"sex": cells},
        lambda cells: pd.DataFrame({"sex": cells}),
        lambda cells: np.array(cells)[:, None],
    ],
)
def test_groups_come_in_any_form(form):
    label, decision, group, weight = draw(1, 2)
    cells = ["fm"[g] for g in group]
    options = {"sample_weight": weight}
    ours = metrics.equalized_odds_difference(
        label, decision, sensitive_features=form(cells), **options
    )
    theirs = fairlearn.equalized_odds_difference(
        label, decision, sensitive_features=group, **options
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize(
    "form",
    [
        list,
        lambda cells: cells.astype(bool),
        lambda cells: cells.astype(np.float32),
        lambda cells: jnp.asarray(cells, jnp.bfloat16),
        lambda cells: 2 * cells - 1,
        lambda cells: pd.Series(cells, index=np.arange(300)[::-1]),
        lambda cells: pd.Series(cells, dtype="Int64"),
        lambda cells: cells[:, None],
    ],
)
def test_labels_and_decisions_come_in_any_form(form):
    label, decision, group, _ = draw(2)
    ours = metrics.equalized_odds_ratio(form(label), form(decision), sensitive_features=group)
    theirs = fairlearn.equalized_odds_ratio(label, decision, sensitive_features=group)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:sensitive_features")
def test_several_features_are_crossed(name):
    label, decision, group, weight = draw(3, rows=2000)
    sex = np.random.default_rng(0).choice(["f", "m"], 2000)
    theirs = getattr(fairlearn, name)(
        label,
        decision,
        sensitive_features=pd.DataFrame({"sex": sex, "group": group}),
        sample_weight=weight,
    )
    for both in ({"sex": sex, "group": group}, pd.DataFrame({"sex": sex, "group": group})):
        ours = getattr(metrics, name)(
            label, decision, sensitive_features=both, sample_weight=weight
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("missing", [None, np.nan, "", pd.NA])
def test_rows_without_demographics_do_not_count(missing):
    label, decision, group, weight = draw(4)
    cells = group.astype(object)
    cells[::4] = missing
    known = np.arange(300) % 4 > 0
    for name in NAMES:
        ours = getattr(metrics, name)(
            label, decision, sensitive_features=cells, sample_weight=weight
        )
        theirs = getattr(fairlearn, name)(
            label[known],
            decision[known],
            sensitive_features=group[known],
            sample_weight=weight[known],
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    if pd.isna(missing):
        with pytest.raises(ValueError, match="missing values"):
            fairlearn.demographic_parity_difference(label, decision, sensitive_features=cells)


def test_without_false_positives_equalized_odds_ratio_is_the_other_ratio():
    label, decision, group, _ = draw(5)
    options = {"sensitive_features": group}
    none = decision * label
    assert np.isnan(metrics.false_positive_rate_ratio(label, none, **options))
    other = metrics.true_positive_rate_ratio(label, none, **options)
    assert metrics.equalized_odds_ratio(label, none, **options) == other
    np.testing.assert_allclose(fairlearn.equalized_odds_ratio(label, none, **options), other)
    # fairlearn's answer depends on the order here
    none = decision * (1 - label)
    other = metrics.false_positive_rate_ratio(label, none, **options)
    assert metrics.equalized_odds_ratio(label, none, **options) == other
    assert np.isnan(fairlearn.equalized_odds_ratio(label, none, **options))
    nobody = 0 * decision
    assert np.isnan(metrics.equalized_odds_ratio(label, nobody, **options))
    assert np.isnan(metrics.demographic_parity_ratio(label, nobody, **options))
    assert metrics.demographic_parity_difference(label, nobody, **options) == 0


def test_a_group_without_positives_is_left_out_with_a_warning():
    label, decision, group, weight = draw(6)
    label = np.where(group == 1, 0, label)
    options = {"sensitive_features": group, "sample_weight": weight}
    with pytest.warns(UserWarning, match=r"1 of 3 groups have no positives \('1'\)") as caught:
        ours = metrics.true_positive_rate_difference(label, decision, **options)
    assert caught[0].filename == __file__
    others = group != 1
    theirs = fairlearn.true_positive_rate_difference(
        label[others],
        decision[others],
        sensitive_features=group[others],
        sample_weight=weight[others],
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    # fairlearn takes the rate for 0
    assert fairlearn.true_positive_rate_difference(label, decision, **options) > ours


@pytest.mark.filterwarnings("ignore:sensitive_features")
def test_one_group_is_not_measured():
    label, decision, group, _ = draw(7, 2)
    for name in NAMES:
        assert np.isnan(getattr(metrics, name)(label, decision, sensitive_features=0 * group))
    label = np.where(group == 1, 0, label)
    assert np.isnan(metrics.equalized_odds_difference(label, decision, sensitive_features=group))
    assert np.isnan(metrics.equalized_odds_ratio(label, decision, sensitive_features=group))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_pred": [0.2, 0.8, 0, 1]}, "y_pred: 2 of 4 cells are neither 0 nor 1. Give decisions"),
        ({"y_pred": [0, 1, np.nan, 1]}, "y_pred: 1 of 4 cells are neither"),
        ({"y_pred": ["no", "yes", "no", "no"]}, "y_pred: 4 cells are not all 0 or 1"),
        ({"y_pred": [[0, 1]] * 4}, "y_pred: 2 columns"),
        ({"y_true": [0, 1, None, 1]}, "y_true: "),
        ({"y_true": [0, 1, 2, 1]}, "y_true: 1 of 4 cells"),
        ({"y_true": [0, 1, 1]}, "y_true: 3 rows beside 4 decisions"),
        ({"sensitive_features": list("fmm")}, "sensitive_features: 3 rows beside 4 decisions"),
        ({"sensitive_features": [0, 1, np.inf, 1]}, "1 of 4 levels are infinite"),
        ({"sample_weight": [1, 1, -1, 1]}, "sample_weight: .*1 cells that are negative"),
        ({"sample_weight": [1, 1, 1]}, "sample_weight: shape"),
    ],
)
def test_complaints(change, message):
    data = {"y_true": [0, 1, 0, 1], "y_pred": [0, 1, 1, 1], "sensitive_features": list("fmfm")}
    with pytest.raises(DataError, match=message):
        metrics.equalized_odds_difference(**(data | change))
