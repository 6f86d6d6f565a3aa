"""Disaggregated tables against fairlearn's MetricFrame, and what is left out of them."""

from __future__ import annotations

import fairlearn.metrics as fairlearn
import numpy as np
import pytest
import sklearn.metrics as sk
from cases import dataset, tabular_spec

from fairjax.core.types import Attribute, Dataset, Spec, Task
from fairjax.metrics import _group_sums, group_table

N = 300
THEIRS = {
    "selection_rate": fairlearn.selection_rate,
    "true_positive_rate": fairlearn.true_positive_rate,
    "false_positive_rate": fairlearn.false_positive_rate,
    "precision": sk.precision_score,
    "accuracy": sk.accuracy_score,
    "f_score": sk.f1_score,
}


TWO = (Task("t"), Task("other"))


def case(seed=0, kinds=TWO):
    rng = np.random.default_rng(seed)
    spec = Spec(kinds, (Attribute("a", ("x", "y", "z")), Attribute("b", ("0", "1"))))
    labels = np.stack(
        [
            rng.integers(0, len(t.levels) or 2, N) if t.kind != "regression" else rng.normal(size=N)
            for t in kinds
        ],
        1,
    ).astype(np.float32)
    groups = np.concatenate(
        [np.eye(3)[rng.integers(0, 3, N)], np.eye(2)[rng.integers(0, 2, N)]], 1
    ).astype(np.float32)
    data = Dataset(
        (), labels, np.ones_like(labels), groups, rng.uniform(0.5, 2.0, N).astype(np.float32)
    )
    return spec, rng.normal(size=(N, sum(t.score_width for t in kinds))).astype(np.float32), data


def entry(table, **where):
    keep = np.all([table.columns[k] == v for k, v in where.items()], axis=0)
    assert keep.sum() == 1, where
    return {k: v[keep][0] for k, v in table.columns.items()}


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_a_table_is_fairlearns_metric_frame(threshold):
    spec, scores, data = case()
    table = group_table(spec, scores, data, thresholds=(threshold, None), cross=[("a", "b")])
    decision, label = scores[:, 0] >= threshold, data.labels[:, 0]
    level = {"a": data.groups[:, :3].argmax(1), "b": data.groups[:, 3:].argmax(1)}
    names = {"a": np.array(["x", "y", "z"])[level["a"]], "b": np.array(["0", "1"])[level["b"]]}
    names["a & b"] = np.array([f"{p} & {q}" for p, q in zip(names["a"], names["b"], strict=True)])
    for attribute, group in names.items():
        frame = fairlearn.MetricFrame(
            metrics=THEIRS,
            y_true=label,
            y_pred=decision,
            sensitive_features=group,
            sample_params={name: {"sample_weight": data.weight} for name in THEIRS},
        )
        for name in THEIRS:
            for value in np.unique(group):
                got = entry(table, task="t", attribute=attribute, group=value, statistic=name)
                np.testing.assert_allclose(got["value"], frame.by_group.loc[value, name], rtol=1e-4)
            got = entry(table, task="t", attribute=attribute, group="difference", statistic=name)
            np.testing.assert_allclose(got["value"], frame.difference()[name], atol=1e-5)
            got = entry(table, task="t", group="overall", statistic=name)
            np.testing.assert_allclose(got["value"], frame.overall[name], rtol=1e-4)
    got = entry(table, task="t", attribute="a", group="y", statistic="log_loss")
    inside = names["a"] == "y"
    prob = 1 / (1 + np.exp(-scores[inside, 0].astype(float)))
    np.testing.assert_allclose(
        got["value"], sk.log_loss(label[inside], prob, sample_weight=data.weight[inside]), rtol=1e-4
    )
    np.testing.assert_allclose(got["count"], data.weight[inside].sum(), rtol=1e-5)
    positive = entry(table, task="t", attribute="a", group="y", statistic="true_positive_rate")
    np.testing.assert_allclose(
        positive["count"], data.weight[inside & (label > 0)].sum(), rtol=1e-5
    )


def test_other_thresholds_and_scores_compile_nothing():
    spec, scores, data = case()
    program, _ = _group_sums._program(spec)
    for threshold in (None, 0.0, 0.4):
        scores = scores + 0.1
        group_table(spec, scores, data, thresholds=(threshold, None))
    assert program._cache_size() == 1


def test_classes_one_against_the_rest_and_numbers_in_their_units():
    kinds = (
        Task("m", "multiclass", ("u", "v", "w")),
        Task("r", "regression", mean=40.0, deviation=5.0),
    )
    spec, scores, data = case(1, kinds)
    table = group_table(spec, scores, data)
    inside = data.groups[:, 1] > 0
    w = data.weight[inside]
    chosen = scores[:, :3].argmax(1) == 2
    got = entry(table, task="m=w", attribute="a", group="y", statistic="selection_rate")
    np.testing.assert_allclose(got["value"], np.average(chosen[inside], weights=w), rtol=1e-4)
    off = 5.0 * (scores[:, 3] - data.labels[:, 1])[inside]
    for name, want in (
        ("mean_residual", off),
        ("mean_absolute_error", abs(off)),
        ("mean_squared_error", off**2),
        ("mean_prediction", 40 + 5.0 * scores[inside, 3]),
    ):
        got = entry(table, task="r", attribute="a", group="y", statistic=name)
        np.testing.assert_allclose(got["value"], np.average(want, weights=w), rtol=1e-3)


def calibration(label, prob, weight):
    """Sizes of what is promised too much or too little, bin by bin."""
    inside = [(prob >= b / 10) & ((prob < (b + 1) / 10) | (b == 9)) for b in range(10)]
    return sum(abs(np.sum((weight * (prob - label))[rows])) for rows in inside) / weight.sum()


def test_areas_and_calibration_in_groups_and_in_a_resample_are_scikit_learns_and_a_loop():
    """Scores tie and labels are missing; both ends of an interval of one resample are its value."""
    kinds = (
        Task("t"),
        Task("m", "multiclass", ("u", "v", "w")),
        Task("l", "multilabel", ("p", "q")),
    )
    spec, scores, data = case(6, kinds)
    labels = np.concatenate(
        [data.labels[:, :2], np.random.default_rng(6).integers(0, 2, (N, 2))], 1
    ).astype(np.float32)
    scores[:, [0, 4, 5]] = np.round(2 * scores[:, [0, 4, 5]]) / 2
    known = np.arange(N) >= 20
    data = data._replace(
        labels=np.where(known[:, None], labels, np.nan),
        label_mask=np.outer(known, np.ones(4, np.float32)),
    )
    table = group_table(spec, scores, data, np.random.default_rng(7), draws=1, cross=[("a", "b")])
    counts = np.random.default_rng(7).poisson(1.0, (8, N))[0]
    soft = np.exp(scores[:, 1:4].astype(float)) / np.exp(scores[:, 1:4].astype(float)).sum(
        1, keepdims=True
    )
    sigmoid = 1 / (1 + np.exp(-scores.astype(float)))
    columns = {
        "t": (scores[:, 0], sigmoid[:, 0], labels[:, 0]),
        "m=v": (soft[:, 1], soft[:, 1], labels[:, 1] == 1),
        "l=q": (scores[:, 5], sigmoid[:, 5], labels[:, 3]),
    }
    groups = {
        ("", "overall"): known,
        ("a", "y"): known & (data.groups[:, 1] > 0),
        ("a & b", "x & 1"): known & (data.groups[:, 0] * data.groups[:, 4] > 0),
    }
    for task, (score, prob, label) in columns.items():
        for (attribute, group), rows in groups.items():
            for name, of in (
                (
                    "auc",
                    lambda w, r=rows, y=label, s=score: sk.roc_auc_score(
                        y[r], s[r], sample_weight=w[r]
                    ),
                ),
                (
                    "calibration_error",
                    lambda w, r=rows, y=label, p=prob: calibration(y[r], p[r], w[r]),
                ),
            ):
                got = entry(table, task=task, attribute=attribute, group=group, statistic=name)
                want = of(data.weight), of(data.weight * counts), of(data.weight * counts)
                np.testing.assert_allclose(
                    [got["value"], got["low"], got["high"]],
                    want,
                    rtol=2e-5,
                    err_msg=f"{name} {task}",
                )
                np.testing.assert_allclose(got["count"], data.weight[rows].sum(), rtol=1e-5)
    each = [entry(table, task="t", attribute="a", group=g, statistic="auc")["value"] for g in "xyz"]
    difference = entry(table, task="t", attribute="a", group="difference", statistic="auc")
    assert difference["value"] == pytest.approx(max(each) - min(each))


def test_a_group_of_one_label_has_no_area():
    spec, scores, data = case(7)
    labels = np.where(data.groups[:, [0]] > 0, 1.0, data.labels).astype(np.float32)
    table = group_table(
        spec, scores, data._replace(labels=labels), np.random.default_rng(0), draws=5
    )
    assert all(
        np.isnan(entry(table, task="t", attribute="a", group="x", statistic="auc")[k])
        for k in ("value", "low", "high")
    )
    others = [
        entry(table, task="t", attribute="a", group=g, statistic="auc")["value"] for g in "yz"
    ]
    difference = entry(table, task="t", attribute="a", group="difference", statistic="auc")
    assert difference["value"] == pytest.approx(abs(others[0] - others[1])) and np.isfinite(
        difference["high"]
    )


def test_what_is_missing_counts_nowhere():
    spec = tabular_spec(2)
    data, rng = dataset(spec, N, 3, missing=0.3, unknown=0.2), np.random.default_rng(3)
    scores = rng.normal(size=(N, 2)).astype(np.float32)
    weight = data.weight * (np.arange(N) >= 10)
    scores[:10] = np.nan
    table = group_table(spec, scores, data._replace(weight=weight), minimum=2.0)
    member = data.groups[:, 1] * weight > 0
    known = member & (data.label_mask[:, 0] > 0)
    got = entry(table, task="task0", attribute="a", group="1", statistic="accuracy")
    right = (scores[known, 0] >= 0) == data.labels[known, 0]
    assert got["value"] == pytest.approx(right.mean(), rel=1e-5) and got["count"] == known.sum()
    assert (
        entry(table, task="task0", attribute="a", group="1", statistic="selection_rate")["count"]
        == member.sum()
    )
    with pytest.raises(ValueError, match="10 rows have a score that is NaN"):
        group_table(spec, scores, data)
    with pytest.raises(ValueError, match=r"expected scores \[300, 2\], got \(300, 1\)"):
        group_table(spec, scores[:, :1], data)
    with pytest.raises(ValueError, match="'race' is not one of a"):
        group_table(spec, np.nan_to_num(scores), data, cross=[("a", "race")])


def test_what_no_table_can_be_made_of_is_refused():
    spec, scores, data = case(4)
    for thresholds, message in (
        ([0.0], r"1 thresholds for 2 tasks \(t, other\)"),
        ([], r"0 thresholds for 2 tasks \(t, other\)"),
        ([0.0, None, None], "3 thresholds for 2 tasks"),
        ([0.0, np.nan], "hold NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            group_table(spec, scores, data, thresholds=thresholds)
    for bad in (-1.0, np.nan, np.inf):
        weight = data.weight.copy()
        weight[3:5] = bad
        with pytest.raises(ValueError, match="2 of 300 weights are negative, NaN or infinite"):
            group_table(spec, scores, data._replace(weight=weight))
    scores = scores.astype(np.float64)
    scores[7] = 1e308
    with pytest.raises(ValueError, match="1 rows have a score beyond"):
        group_table(spec, scores, data)


def test_small_groups_are_left_out_and_listed():
    spec, scores, data = case(4)
    groups = data.groups.copy()
    groups[:, :3] = np.eye(3)[np.where(np.arange(N) < 4, 2, np.arange(N) % 2)]
    data = data._replace(groups=groups, weight=np.ones(N, np.float32))
    table = group_table(spec, scores, data, minimum=5, cross=[("a", "b")])
    assert table.left_out["a=z"] == 4 and set(table.left_out) == {
        "a=z",
        "a & b=z & 0",
        "a & b=z & 1",
    }
    assert "z" not in table.columns["group"]
    frame = table.to_pandas()
    assert list(frame.columns) == [
        "task",
        "attribute",
        "group",
        "statistic",
        "count",
        "value",
        "low",
        "high",
    ]
    assert frame[["low", "high"]].isna().all().all()


def test_intervals_have_the_width_of_a_binomial_and_cover_the_value():
    spec, scores, data = case(5)
    data = data._replace(weight=np.ones(N, np.float32))
    table = group_table(spec, scores, data, np.random.default_rng(0), draws=1000)
    again = group_table(spec, scores, data, np.random.default_rng(0), draws=1000)
    np.testing.assert_array_equal(table.columns["low"], again.columns["low"])
    got = entry(table, task="t", attribute="b", group="1", statistic="selection_rate")
    p, n = got["value"], got["count"]
    assert got["low"] < p < got["high"]
    assert got["high"] - got["low"] == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / n), rel=0.12)
    rows = table.to_pandas()
    inside = rows[rows.group != "difference"]
    assert ((inside.low <= inside.value) & (inside.value <= inside.high)).mean() > 0.99
    gap = entry(table, task="t", attribute="a", group="difference", statistic="accuracy")
    assert 0 <= gap["low"] <= gap["high"] <= 1
