"""Metrics against fairlearn, scikit-learn, scipy and the published rule written out in numpy."""

from __future__ import annotations

from dataclasses import replace

import fairlearn.metrics as fairlearn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from fairjax import metrics, notions
from fairjax.core.keys import Metric, parse_key
from fairjax.core.types import Attribute, Dataset, Spec, Task


@pytest.fixture(autouse=True)
def strict_ranks():
    with jax.numpy_rank_promotion("raise"):
        yield


def close(ours, theirs, tolerance=1e-6):
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- decisions


def published_threshold(score, rate):
    """The rule of the released code: a position in the ascending scores."""
    return np.sort(score)[max(0, int((1 - rate) * len(score)) - 1)]


threshold = jax.jit(metrics.base_rate_threshold)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60), st.floats(0.0, 1.0), st.integers(1, 40), st.integers(0, 2**31))
def test_base_rate_threshold_is_the_published_position(n, rate, distinct, seed):
    rate = float(np.float32(rate))
    position = (1 - rate) * n
    if 0 < round(position) - position < 1e-4:  # within float32 rounding of the next position
        return
    rng = np.random.default_rng(seed)
    score, weight = (
        rng.integers(distinct, size=60).astype(np.float32),
        rng.permutation(np.arange(60) < n),
    )
    ours = threshold(
        jnp.asarray(np.where(weight, score, np.nan)), jnp.asarray(weight, jnp.float32), rate
    )
    assert float(ours) == published_threshold(score[weight], rate)


def test_threshold_on_a_test_set_of_real_size():
    score = np.random.default_rng(0).normal(size=15_060).astype(np.float32)
    for positives in (7_508, 2_440, 16):
        rate = (
            positives / 30_162
        )  # a training base rate; its position is not within rounding of the next
        expected = published_threshold(score, rate)
        assert float(threshold(jnp.asarray(score), jnp.ones(15_060), rate)) == expected


def test_threshold_under_weights_ignores_their_scale_and_the_order_of_rows():
    rng = np.random.default_rng(1)
    score, weight = (
        rng.integers(8, size=50).astype(np.float32),
        rng.exponential(size=50).astype(np.float32),
    )
    order = rng.permutation(50)
    for rate in (0.1, 0.35, 0.8):
        plain = float(threshold(jnp.asarray(score), jnp.asarray(weight), rate))
        assert plain == float(
            threshold(jnp.asarray(score[order]), jnp.asarray(4 * weight[order]), rate)
        )
        # the weight strictly below the threshold is at most what must not be selected
        assert (
            weight[score < plain].sum()
            <= (1 - rate) * weight.sum()
            < weight[score <= plain].sum() + weight.max()
        )


def test_constant_scores_select_everyone_and_are_flagged():
    label = jnp.asarray([1.0, 0, 0, 0, 0])
    score, weight = jnp.full(5, -3.0), jnp.ones(5)
    decision = metrics.decide(score, metrics.base_rate_threshold(score, weight, 0.2))
    assert float(metrics.error(decision, label, weight)) == pytest.approx(1 - 0.2)
    assert float(metrics.constant_output(decision, weight)) == 1.0
    assert float(metrics.constant_output(jnp.asarray([1.0, 0, 1, 1, 1]), weight)) == 0.0
    assert (
        float(metrics.constant_output(jnp.asarray([1.0, 0, 1, 1, 1]), weight.at[1].set(0))) == 1.0
    )


def test_without_weight_or_with_nan_there_is_no_threshold():
    score = jnp.asarray([0.1, jnp.nan, 0.3])
    assert np.isnan(metrics.base_rate_threshold(score, jnp.ones(3), 0.5))
    assert np.isnan(metrics.base_rate_threshold(score, jnp.zeros(3), 0.5))
    assert np.isnan(metrics.constant_output(metrics.decide(score, 0.0), jnp.ones(3)))


def test_fixed_threshold_is_a_logit():
    assert metrics.fixed(0.5) == 0.0
    assert metrics.fixed(0.8) == pytest.approx(np.log(4.0))
    with pytest.raises(ValueError, match="strictly between 0 and 1, got 1"):
        metrics.fixed(1.0)


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("distinct", [3, 50, 10**6])
def test_auc_and_error_against_scikit_learn(distinct):
    rng = np.random.default_rng(distinct)
    score = rng.integers(distinct, size=500).astype(np.float32)
    label = (rng.random(500) < 0.3).astype(np.float32)
    weight = (rng.exponential(size=500) * (rng.random(500) < 0.8)).astype(np.float32)
    kept = weight > 0
    theirs = sklearn.metrics.roc_auc_score(label[kept], score[kept], sample_weight=weight[kept])
    dirty = jnp.asarray(np.where(kept, label, np.nan))
    close(metrics.auc(jnp.asarray(score), dirty, jnp.asarray(weight)), theirs)
    decision = (score > distinct / 2).astype(np.float32)
    theirs = sklearn.metrics.zero_one_loss(label, decision, sample_weight=weight)
    close(metrics.error(jnp.asarray(decision), dirty, jnp.asarray(weight)), theirs)


def test_auc_without_one_class_or_with_nan_is_nan():
    score, weight = jnp.asarray([0.2, 0.5, 0.9]), jnp.ones(3)
    assert np.isnan(metrics.auc(score, jnp.ones(3), weight))
    assert np.isnan(metrics.auc(score, jnp.zeros(3), weight))
    assert np.isnan(metrics.auc(score.at[1].set(jnp.nan), jnp.asarray([0.0, 1, 1]), weight))
    assert float(metrics.auc(jnp.ones(3), jnp.asarray([0.0, 1, 1]), weight)) == 0.5


def test_regression_and_multiclass_against_scikit_learn():
    rng = np.random.default_rng(2)
    prediction, target, weight = rng.normal(size=(3, 80)).astype(np.float32)
    weight = np.abs(weight)
    theirs = sklearn.metrics.root_mean_squared_error(target, prediction, sample_weight=weight)
    close(metrics.root_mean_squared_error(*map(jnp.asarray, (prediction, target, weight))), theirs)
    scores, label = rng.normal(size=(80, 4)).astype(np.float32), rng.integers(4, size=80)
    theirs = sklearn.metrics.zero_one_loss(label, scores.argmax(1), sample_weight=weight)
    close(
        metrics.multiclass_error(
            jnp.asarray(scores), jnp.asarray(label, jnp.float32), jnp.asarray(weight)
        ),
        theirs,
    )
    assert np.isnan(metrics.multiclass_error(jnp.full((2, 3), jnp.nan), jnp.zeros(2), jnp.ones(2)))


# ---------------------------------------------------------------- groups

GAPS = {
    "demographic_parity_difference": metrics.parity_gap,
    "equalized_odds_difference": metrics.odds_gap,
    "true_positive_rate_difference": metrics.true_positive_gap,
    "false_positive_rate_difference": metrics.false_positive_gap,
}


def draw_groups(seed, levels, n=400):
    rng = np.random.default_rng(seed)
    member = rng.integers(levels, size=n)
    label = (rng.random(n) < 0.3 + 0.1 * member).astype(np.float32)
    decision = (rng.random(n) < 0.2 + 0.4 * label + 0.05 * member).astype(np.float32)
    return member, label, decision, rng.exponential(size=n).astype(np.float32)


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_gaps_and_ratios_are_fairlearns(levels, weighted):
    member, label, decision, weight = draw_groups(levels, levels)
    weight = weight if weighted else np.ones_like(weight)
    rates = metrics.group_rates(
        *map(jnp.asarray, (decision, label, np.eye(levels, dtype=np.float32)[member], weight))
    )
    options = {"sensitive_features": member, "sample_weight": weight}
    for name, gap in GAPS.items():
        close(gap(rates), getattr(fairlearn, name)(label, decision, **options))
    ratio = metrics.rate_ratio(rates.selection_rate, rates.count)
    close(ratio, fairlearn.demographic_parity_ratio(label, decision, **options))


def test_group_table_is_fairlearns_frame():
    member, label, decision, weight = draw_groups(9, 3)
    functions = {
        "selection_rate": fairlearn.selection_rate,
        "true_positive_rate": fairlearn.true_positive_rate,
        "false_positive_rate": fairlearn.false_positive_rate,
        "accuracy": sklearn.metrics.accuracy_score,
    }
    frame = fairlearn.MetricFrame(
        metrics=functions,
        y_true=label,
        y_pred=decision,
        sensitive_features=member,
        sample_params={name: {"sample_weight": weight} for name in functions},
    ).by_group
    rates = metrics.group_rates(
        *map(jnp.asarray, (decision, label, np.eye(3, dtype=np.float32)[member], weight))
    )
    for name in functions:
        close(getattr(rates, name), frame[name])
    close(rates.count, np.bincount(member, weight), 1e-5)
    close(rates.positives + rates.negatives, rates.labelled, 1e-5)


def test_unknown_demographics_and_absent_groups_stay_out():
    member, label, decision, weight = draw_groups(3, 3)
    groups = np.eye(5, dtype=np.float32)[member]  # two levels that nobody has
    groups[::4] = 0.0  # and rows whose level is unknown
    rates = metrics.group_rates(*map(jnp.asarray, (decision, label, groups, weight)))
    known = groups.sum(1) > 0
    assert np.isnan(rates.selection_rate[3:]).all() and float(rates.count[4]) == 0.0
    for name, gap in GAPS.items():
        theirs = getattr(fairlearn, name)(
            label[known],
            decision[known],
            sensitive_features=member[known],
            sample_weight=weight[known],
        )
        close(gap(rates), theirs)


def test_missing_labels_count_for_selection_only():
    decision, label = jnp.asarray([1.0, 0, 1, 1]), jnp.asarray([1.0, 0, jnp.nan, 1])
    rates = metrics.group_rates(
        decision, label, jnp.ones((4, 1)), jnp.ones(4), jnp.asarray([1.0, 1, 0, 1])
    )
    close(rates.selection_rate, [0.75])
    close(rates.true_positive_rate, [1.0])
    close(rates.accuracy, [1.0])


def test_where_a_rate_is_not_defined():
    label, groups = jnp.asarray([0.0, 1, 0, 1, 0, 0]), jnp.asarray([[1.0, 0]] * 4 + [[0, 1]] * 2)
    rates = metrics.group_rates(jnp.asarray([0.0, 1, 1, 0, 0, 0]), label, groups, jnp.ones(6))
    assert np.isnan(rates.true_positive_rate[1])  # no positives: no rate, and no gap of one group
    assert np.isnan(metrics.true_positive_gap(rates))
    assert np.isnan(metrics.odds_gap(rates))
    close(metrics.false_positive_gap(rates), 0.5)
    nobody = metrics.group_rates(jnp.zeros(6), label, groups, jnp.ones(6))
    nobody_ratio = metrics.rate_ratio(nobody.selection_rate, nobody.count)
    assert np.isnan(nobody_ratio)  # 0/0, as in fairlearn
    assert np.isnan(
        fairlearn.demographic_parity_ratio(
            np.asarray(label), np.zeros(6), sensitive_features=groups[:, 0]
        )
    )
    assert float(metrics.parity_gap(nobody)) == 0.0


def test_signed_gap_is_second_minus_first():
    assert float(metrics.signed_gap(jnp.asarray([0.5, 0.2]))) == pytest.approx(-0.3)
    with pytest.raises(ValueError, match="2 groups, got 3"):
        metrics.signed_gap(jnp.ones(3))


# ---------------------------------------------------------------- all at once

SPEC = Spec(
    tasks=(
        Task("income"),
        Task("job", "multiclass", ("a", "b", "c")),
        Task("wage", "regression"),
        Task("tags", "multilabel", ("x", "y")),
    ),
    attributes=(Attribute("sex", ("Female", "Male")), Attribute("race", ("p", "q", "r"))),
)


def at_base_rate(spec, scores, data, base_rate):
    """Metrics of decisions at the threshold that selects the base rate of the very rows."""
    thresholds = metrics.decision_thresholds("base_rate", spec, scores, data, base_rate)
    return metrics.evaluate(spec, scores, data, thresholds)


evaluate = jax.jit(at_base_rate, static_argnums=0)


def draw_data(seed=0, n=120):
    rng = np.random.default_rng(seed)
    labels = np.stack(
        [
            rng.integers(2, size=n),
            rng.integers(3, size=n),
            rng.normal(size=n),
            rng.integers(2, size=n),
            rng.integers(2, size=n),
        ],
        1,
    ).astype(np.float32)
    mask = (rng.random(labels.shape) < 0.9).astype(np.float32)
    groups = np.concatenate(
        [np.eye(2)[rng.integers(2, size=n)], np.eye(3)[rng.integers(3, size=n)]], 1
    )
    groups[rng.random(n) < 0.1, :2] = 0.0
    weight = (rng.random(n) < 0.8).astype(np.float32)
    labels = np.where(mask > 0, labels, np.nan)
    data = Dataset((), *(jnp.asarray(a, jnp.float32) for a in (labels, mask, groups, weight)))
    return jnp.asarray(rng.normal(size=(n, 7)), jnp.float32), data


def test_evaluate_names_every_metric_of_every_kind():
    scores, data = draw_data()
    out = evaluate(SPEC, scores, data, metrics.base_rates(SPEC, data))
    on_sex = Metric("", "income", attribute="sex")
    on_race = Metric("", "income", attribute="race")
    assert {
        Metric("error", "income"),
        Metric("threshold", "income"),
        Metric("constant_output", "income"),
        on_race._replace(metric="demographic_parity_difference"),
        on_race._replace(metric="true_positive_rate", group="r"),
        on_sex._replace(metric="equalized_odds_difference"),
        on_sex._replace(metric="false_positive_rate_difference"),
        on_sex._replace(metric="true_positive_rate_difference"),
        on_sex._replace(metric="false_positive_rate_signed_gap"),
        on_sex._replace(metric="selection_rate", group="Female"),
    } <= set(out)
    assert on_race._replace(metric="false_positive_rate_signed_gap") not in out
    assert {
        Metric("auc", "income"),
        Metric("loss", "wage"),
        Metric("error", "wage"),
        Metric("mean_prediction_difference", "wage", attribute="race"),
        Metric("mean_prediction", "wage", attribute="sex", group="Male"),
        Metric("error", "job"),
        Metric("demographic_parity_difference", "job", attribute="race"),
        Metric("selection_rate", "job", outcome="c", attribute="sex", group="Male"),
        Metric("error", "tags"),
        Metric("demographic_parity_difference", "tags", attribute="sex"),
    } <= set(out)
    assert all(value.shape == () and np.isfinite(value) for value in out.values())


def test_evaluate_against_the_oracles():
    scores, data = draw_data(1)
    base = metrics.base_rates(SPEC, data)
    out = evaluate(SPEC, scores, data, base)
    weight, mask, labels, groups = (
        np.asarray(a) for a in (data.weight, data.label_mask, data.labels, data.groups)
    )
    score, use = np.asarray(scores), weight * mask[:, 0] > 0
    label = labels[use, 0]
    close(base[0], label.mean())
    decision = (score[use, 0] >= published_threshold(score[use, 0], label.mean())).astype(float)
    close(out[Metric("error", "income")], np.mean(decision != label))
    close(out[Metric("auc", "income")], sklearn.metrics.roc_auc_score(label, score[use, 0]))
    close(
        out[Metric("loss", "income")],
        sklearn.metrics.log_loss(label, 1 / (1 + np.exp(-score[use, 0]))),
        1e-5,
    )
    sexed = groups[use, :2].sum(1) > 0
    sex = groups[use][sexed, 1]
    theirs = fairlearn.false_positive_rate_difference(
        label[sexed], decision[sexed], sensitive_features=sex
    )
    close(out[Metric("false_positive_rate_difference", "income", attribute="sex")], theirs)
    close(jnp.abs(out[Metric("false_positive_rate_signed_gap", "income", attribute="sex")]), theirs)
    job = weight * mask[:, 1] > 0
    close(out[Metric("error", "job")], np.mean(score[job, 1:4].argmax(1) != labels[job, 1]))
    wage = weight * mask[:, 2] > 0
    close(out[Metric("error", "wage")], np.sqrt(np.mean((score[wage, 4] - labels[wage, 2]) ** 2)))


def test_evaluate_worst_class_gap_and_multilabel_error():
    scores, data = draw_data(2)
    data = data._replace(
        label_mask=jnp.ones_like(data.label_mask), labels=jnp.nan_to_num(data.labels)
    )
    out = evaluate(SPEC, scores, data, metrics.base_rates(SPEC, data))
    use = np.asarray(data.weight) > 0
    choice, race = (
        np.asarray(scores)[use, 1:4].argmax(1),
        np.asarray(data.groups)[use, 2:].argmax(1),
    )
    gaps = [
        fairlearn.demographic_parity_difference(choice * 0, choice == c, sensitive_features=race)
        for c in range(3)
    ]
    close(out[Metric("demographic_parity_difference", "job", attribute="race")], max(gaps))
    tags = np.asarray(scores)[use, 5:] >= 0
    close(
        out[Metric("error", "tags")],
        sklearn.metrics.hamming_loss(np.asarray(data.labels)[use, 3:] > 0, tags),
    )


def test_a_notion_has_the_mean_or_the_sum_over_classes_and_the_metric_the_worst():
    scores, data = draw_data(3)
    out = evaluate(SPEC, scores, data, metrics.base_rates(SPEC, data))
    decision = jax.nn.one_hot(jnp.argmax(scores[:, 1:4], axis=1), 3)
    race = data.groups[:, 2:]
    weight = jnp.broadcast_to(data.weight[:, None], decision.shape)
    rows = notions.TaskRows(decision, decision, race, (weight,), "multiclass", None)
    gaps = [float(notions.rate_gap(decision[:, c], race, data.weight)) for c in range(3)]
    assert min(gaps) < max(gaps)
    close(out[Metric("demographic_parity_difference", "job", attribute="race")], max(gaps))
    statistic = notions.get("demographic_parity")
    distance = notions.get("rate_gap", (notions.everyone,))
    close(statistic.apply(rows, ())[0], np.mean(gaps))
    close(distance.apply(rows, ())[0], np.sum(gaps))


def test_a_column_where_rows_are_meant_is_refused():
    member, label, decision, weight = draw_groups(0, 2)
    groups = np.eye(2, dtype=np.float32)[member]
    for function, arguments in (
        (metrics.error, (decision[:, None], label, weight)),
        (metrics.error, (decision, label[:, None], weight)),
        (metrics.mean_squared_error, (decision[:, None], label, weight)),
        (metrics.root_mean_squared_error, (decision, label[:, None], weight)),
        (metrics.group_rates, (decision[:, None], label, groups, weight)),
        (notions.rate_gap, (decision[:, None], groups, weight)),
    ):
        expected = pytest.raises(ValueError, match=r"shape \(400, 1\), expected \[N\]")
        with jax.numpy_rank_promotion("allow"), expected:
            function(*map(jnp.asarray, arguments))
    with pytest.raises(ValueError, match=r"macro_f1: .*expected \[N, K\] one-hot"):
        metrics.macro_f1(*map(jnp.asarray, (decision, label, weight)))
    two = notions.differential.two
    f1 = metrics.macro_f1(two(decision), two(label), jnp.asarray(weight))
    close(f1, sklearn.metrics.f1_score(label, decision, average="macro", sample_weight=weight))


@pytest.mark.parametrize("task, first, labels", [("job", 1, (1, 1, 1)), ("tags", 5, (3, 4))])
def test_rates_given_the_label_are_fairlearns_in_the_worst_class(task, first, labels):
    scores, data = (jax.tree.map(np.asarray, made) for made in draw_data(1))
    out = evaluate(SPEC, scores, data, metrics.base_rates(SPEC, data))
    worst = {}
    for c, column in enumerate(labels):
        use = data.weight * data.label_mask[:, column] > 0
        chosen = scores[use, 1:4].argmax(1) == c if task == "job" else scores[use, first + c] >= 0
        label, race = (
            data.labels[use, column] == (c if task == "job" else 1),
            data.groups[use, 2:].argmax(1),
        )
        for name in ("true_positive_rate", "false_positive_rate", "equalized_odds"):
            theirs = getattr(fairlearn, f"{name}_difference")(
                label, chosen, sensitive_features=race
            )
            worst[name] = max(theirs, worst.get(name, 0.0))
    for name, theirs in worst.items():
        close(out[Metric(f"{name}_difference", task, attribute="race")], theirs)


def test_a_class_that_only_one_group_has_is_left_out_of_the_worst():
    scores, data = draw_data(6)
    sex, job = np.asarray(data.groups)[:, 1] > 0, np.asarray(data.labels)[:, 1]
    rare = data._replace(labels=data.labels.at[:, 1].set(jnp.where((job == 2) & ~sex, 0.0, job)))
    out = evaluate(SPEC, scores, rare, metrics.base_rates(SPEC, rare))
    use = np.asarray(data.weight * data.label_mask[:, 1] * data.groups[:, :2].sum(1)) > 0
    choice, job = np.asarray(scores)[use, 1:4].argmax(1), np.asarray(rare.labels)[use, 1]
    theirs = [
        fairlearn.true_positive_rate_difference(job == c, choice == c, sensitive_features=sex[use])
        for c in range(3)
    ]
    close(out[Metric("true_positive_rate_difference", "job", attribute="sex")], max(theirs[:2]))
    assert not np.isclose(
        max(theirs), max(theirs[:2])
    )  # to fairlearn women have a rate of 0 where no woman is
    alone = data._replace(
        groups=data.groups.at[:, 0].set(0.0)
    )  # one group only: nothing to compare
    out = evaluate(SPEC, scores, alone, metrics.base_rates(SPEC, alone))
    for name in (
        "demographic_parity",
        "true_positive_rate",
        "false_positive_rate",
        "equalized_odds",
    ):
        assert np.isnan(out[Metric(f"{name}_difference", "job", attribute="sex")]) and np.isfinite(
            out[Metric(f"{name}_difference", "job", attribute="race")]
        )
    row = int(np.flatnonzero(np.asarray(data.weight * data.label_mask[:, 1]))[0])
    broken = evaluate(SPEC, scores.at[row, 2].set(jnp.nan), data, metrics.base_rates(SPEC, data))
    assert all(
        np.isnan(broken[Metric(f"{name}_difference", "job", attribute="race")])
        for name in ("demographic_parity", "equalized_odds")
    )


def test_what_stands_in_masked_rows_does_not_matter():
    scores, data = draw_data(3)
    base = metrics.base_rates(SPEC, data)
    clean = evaluate(SPEC, scores, data, base)
    off = data.weight == 0
    dirty = data._replace(labels=jnp.where(off[:, None], jnp.nan, data.labels))
    out = evaluate(SPEC, jnp.where(off[:, None], jnp.nan, scores), dirty, base)
    assert {name: float(v) for name, v in out.items()} == {
        name: float(v) for name, v in clean.items()
    }


def test_nan_scores_give_nan_metrics_of_their_task_only():
    scores, data = draw_data(4)
    base = metrics.base_rates(SPEC, data)
    row = int(np.flatnonzero(np.asarray(data.weight * data.label_mask[:, 0]))[0])
    for broken in (scores.at[:, 0].set(jnp.nan), scores.at[row, 0].set(jnp.nan)):
        out = evaluate(SPEC, broken, data, base)
        for key, value in out.items():
            if key.task != "income":
                assert np.isfinite(value), key
            elif key.metric != "count":
                assert np.isnan(value), key
    out = evaluate(SPEC, scores * jnp.nan, data, base)
    assert all(np.isnan(value) for key, value in out.items() if key.metric != "count")


@pytest.mark.slow
def test_names_of_tasks_and_levels_with_signs_of_the_notation_stay_apart():
    levels = ("a|b", "c=d", "e]f", "g@0.5")
    spec = Spec(
        (Task("y"), Task("y=1"), Task("y|1", "multiclass", ("=", "|", "@"))),
        (Attribute("sex|race", levels), Attribute("sex", ("[1]", "\\"))),
    )
    rng = np.random.default_rng(0)
    member = [np.eye(4)[rng.integers(4, size=80)], np.eye(2)[rng.integers(2, size=80)]]
    data = Dataset(
        (),
        jnp.asarray(rng.integers(2, size=(80, 3)), jnp.float32),
        jnp.ones((80, 3)),
        jnp.asarray(np.concatenate(member, axis=1), jnp.float32),
        jnp.ones(80),
    )
    scores = jnp.asarray(rng.normal(size=(80, 5)), jnp.float32)
    base = metrics.base_rates(spec, data)
    out = evaluate(spec, scores, data, base)
    epsilons = metrics.evaluate_differential(spec, scores, data, base, [(0,), (0, 1)])
    for table in (out, epsilons):
        keys = [key._replace(split="test") for key in table]
        assert [parse_key(str(key)) for key in keys] == keys
        assert len({str(key) for key in keys}) == len(keys)
        tasks = {
            name: {key._replace(task="") for key in keys if key.task == name}
            for name in ("y", "y=1")
        }
        assert tasks["y"] == tasks["y=1"] and tasks["y"]
    assert {key.group for key in out if key.attribute == "sex|race"} == {"", *levels}
    assert {key.attribute for key in epsilons} == {"", "sex|race", "sex|race & sex"}


def test_every_condition_has_a_metric_for_every_kind_of_task_and_attribute():
    age = Attribute("age", (), continuous=True)
    spec = Spec(SPEC.tasks, (*SPEC.attributes, age))
    scores, data = draw_data()
    number = jnp.stack([jnp.ones(120), jnp.linspace(-1.0, 1.0, 120)], axis=1)
    data = data._replace(groups=jnp.concatenate([data.groups, number], axis=1))
    out = evaluate(spec, scores, data, metrics.base_rates(spec, data))
    for condition in metrics.GAPS:
        for task in spec.tasks:
            for attribute in spec.attributes:
                name = metrics.gap_metric(condition, task.kind, attribute.continuous)
                assert Metric(name, task.name, attribute=attribute.name) in out
    assert metrics.gap_metric("tpr", "binary", True) == "correlation_given_positive"
    assert metrics.gap_metric("odds", "multiclass", False) == "equalized_odds_difference"
    with pytest.raises(ValueError, match="'fnr' is not one of fpr, tpr, odds, parity"):
        metrics.gap_metric("fnr", "binary", False)


def test_evaluate_mapped_over_members_is_the_loop():
    scores, data = draw_data(5)
    base = metrics.base_rates(SPEC, data)
    members = jnp.stack([scores, -scores, scores * jnp.nan])
    mapped = jax.jit(jax.vmap(lambda s, d, b: at_base_rate(SPEC, s, d, b), (0, None, None)))(
        members, data, base
    )
    for i in range(3):
        for name, value in evaluate(SPEC, members[i], data, base).items():
            np.testing.assert_allclose(mapped[name][i], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_tasks_measured_together_have_the_metrics_of_each_alone():
    twins = [task for t in SPEC.tasks for task in (t, replace(t, name=t.name + " again"))]
    spec = Spec((*twins, Task("other wage", "regression", (), 3.0, 2.0)), SPEC.attributes)
    rng = np.random.default_rng(6)
    (one, data), (two, other) = draw_data(6), draw_data(7)

    def woven(first, second):
        """Columns of the tasks, of the twins from ``second``; then a regression."""
        parts = []
        begin = 0
        for task in SPEC.tasks:
            width = task.score_width if first.shape[1] == one.shape[1] else task.label_width
            block = slice(begin, begin + width)
            parts += [first[:, block], second[:, block]]
            begin += width
        return jnp.concatenate([*parts, jnp.asarray(rng.normal(size=(120, 1)))], axis=1)

    scores = woven(one, two)
    labels = woven(data.labels, other.labels)
    data = data._replace(labels=labels, label_mask=woven(data.label_mask, other.label_mask) > 0)
    data = data._replace(label_mask=data.label_mask.astype(jnp.float32))
    thresholds = jnp.asarray(rng.normal(size=len(spec.tasks)), jnp.float32)
    found = jax.jit(metrics.evaluate, static_argnums=0)(spec, scores, data, thresholds)
    together = metrics.evaluate_together(spec, scores, data, thresholds)
    assert {value.shape for value in together.values()} == {(1,), (2,)}
    for t, task in enumerate(spec.tasks):
        block = spec.label_slice(t)
        of_task = data._replace(labels=labels[:, block], label_mask=data.label_mask[:, block])
        alone = metrics.evaluate(
            Spec((task,), spec.attributes),
            scores[:, spec.score_slice(t)],
            of_task,
            thresholds[t : t + 1],
        )
        assert set(alone) == {key for key in found if key.task == task.name}
        for key, value in alone.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-6, err_msg=str(key))


def test_the_program_of_many_tasks_is_that_of_two():
    def length(tasks):
        spec = Spec(tuple(Task(f"t{t}") for t in range(tasks)), SPEC.attributes)
        _, data = draw_data()
        data = data._replace(labels=jnp.ones((120, tasks)), label_mask=jnp.ones((120, tasks)))

        def measure(scores):
            return metrics.evaluate_together(spec, scores, data, jnp.zeros(tasks))

        jaxpr = jax.make_jaxpr(measure)(jnp.ones((120, tasks)))
        return len(jaxpr.eqns)

    columns = length(3) - length(2)  # that are cut out and stacked
    assert length(10) - length(3) == 7 * columns
    assert columns < length(2) / 20


def test_evaluate_refuses_scores_of_another_spec():
    scores, data = draw_data()
    with pytest.raises(ValueError, match=r"expected scores \[N, 7\]"):
        metrics.evaluate(SPEC, scores[:, :3], data, jnp.ones(4))


def least_error_by_hand(score, label, weight):
    """The least weight of errors over all cuts, and the cut nearest to 0 that has it."""
    order = np.unique(score)
    cuts = [order[0], *(order[1:] + order[:-1]) / 2, order[-1] + 0.5, 0.0]
    wrong = [np.sum(weight * ((score >= cut) != label)) for cut in cuts]
    best = [cut for cut, errors in zip(cuts, wrong, strict=True) if errors <= min(wrong) + 1e-6]
    return min(wrong), min(best, key=abs)


@pytest.mark.parametrize("shift", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_threshold_of_least_error_is_that_of_all_cuts(shift, weighted):
    rng = np.random.default_rng(3)
    for seed in range(20):
        score = np.round(rng.normal(size=30) + shift, 1).astype(np.float32)
        label = (score - shift + rng.normal(size=30) > rng.normal()).astype(np.float32)
        weight = rng.integers(0, 3, size=30).astype(np.float32) if weighted else np.ones(30)
        counts = weight > 0
        found = float(metrics.least_error_threshold(score, label, weight))
        least, cut = least_error_by_hand(score[counts], label[counts], weight[counts])
        wrong = np.sum(weight * ((score >= found) != label))
        assert wrong == pytest.approx(least), seed
        assert abs(found) == pytest.approx(abs(cut), abs=1e-5), seed


def test_the_threshold_of_least_error_of_no_row_and_of_nan_is_nan():
    one = np.ones(1, np.float32)
    assert np.isnan(metrics.least_error_threshold(one, one, 0 * one))
    assert np.isnan(metrics.least_error_threshold(one * np.nan, one, one))
    # one positive row is selected, one negative row is not
    assert metrics.least_error_threshold(one * 3, one, one) == 0.0
    assert metrics.least_error_threshold(one * 3, 0 * one, one) == 3.5


def test_rates_of_few_rows_are_in_no_gap():
    spec = Spec((Task("y"),), (Attribute("race", ("a", "b", "c")),))
    member = np.repeat(np.eye(3), (20, 20, 1), axis=0)
    labels = np.append(np.arange(40) % 2, 1)[:, None]
    data = Dataset((), labels, np.ones((41, 1)), member, np.full(41, 9.0))
    data = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), data)
    scores = jnp.asarray(np.where(np.arange(41) < 20, 1.0, -1.0), jnp.float32)[:, None]
    scores = scores.at[:5].set(-1.0)
    at_half = jnp.zeros(1)
    on_race = Metric("", "y", attribute="race")
    parity = on_race._replace(metric="demographic_parity_difference")
    opportunity = on_race._replace(metric="true_positive_rate_difference")
    rate = on_race._replace(metric="selection_rate", group="c")
    scores = scores.at[40].set(1.0)
    every = metrics.evaluate(spec, scores, data, at_half)
    close(every[parity], 1.0)
    # nine in weight, one in rows
    large = metrics.evaluate(spec, scores, data, at_half, 2)
    close(large[parity], 0.75)
    close(large[rate], 1.0)
    # ten rows of either label in both large groups
    assert np.isfinite(metrics.evaluate(spec, scores, data, at_half, 10)[opportunity])
    assert np.isnan(metrics.evaluate(spec, scores, data, at_half, 11)[opportunity])
    assert np.isfinite(metrics.evaluate(spec, scores, data, at_half, 11)[parity])


# ---------------------------------------------------------------- relative to single task


def test_relative_error_of_the_papers_table_2():
    alone = np.array([0.40, 0.04])
    models = np.array([[0.40, 0.02], [0.38, 0.04]])
    close(models.mean(axis=1), [0.21, 0.21])
    close(metrics.are(models, alone), [0.75, 0.975])


def test_relative_gap_takes_absolute_values_per_run():
    close(
        metrics.arfg(np.array([[-0.06, 0.03], [0.06, -0.03]]), np.array([0.12, -0.06])), [0.5, 0.5]
    )
    report = metrics.denominator(np.array([[-0.1, 0.01], [0.1, 0.05]]))
    close(report.mean, [0.1, 0.03])
    assert report.noisy.tolist() == [False, True]
    assert metrics.denominator(np.ones((1, 2))).noisy.all()  # one run says nothing about spread
    assert np.isinf(metrics.arfg(np.array([0.1, 0.1]), np.array([0.1, 0.0])))


def test_gains_by_hand():
    errors, alone = np.array([[0.1, 0.3], [0.2, 0.2]]), np.array([0.2, 0.2])
    close(metrics.knowledge_gain(errors, alone), [0.0, 0.0])
    close(metrics.knowledge_gain(errors[:, :1], alone[:1]), [0.1, 0.0])
    close(metrics.ara(errors, alone), [(0.9 / 0.8 + 0.7 / 0.8) / 2, 1.0])
    close(metrics.discrimination_gain(errors, np.array([0.05, 0.15])), [0.1, 0.1])


@pytest.mark.parametrize(
    "decide, opportunity, odds",
    [
        (lambda label, group: np.ones_like(label), 0.0, 0.0),
        (lambda label, group: np.zeros_like(label), 0.0, 0.0),
        # right for one group and inverted for the other
        (lambda label, group: np.where(group == 0, label, 1 - label), 1.0, 2.0),
    ],
)
def test_violations_of_constant_and_inverted_predictors(decide, opportunity, odds):
    """FairBranch's released code reads rates off other rows, and is near 0 for all three."""
    rng = np.random.default_rng(0)
    group = (rng.random(2000) < 0.3).astype(int)
    label = (rng.random(2000) < 0.4).astype(np.float32)
    decision = decide(label, group)
    spec = Spec((Task("y"),), (Attribute("a", ("0", "1")),))
    data = Dataset(
        (), label[:, None], np.ones((2000, 1)), np.eye(2)[group], np.ones(2000, np.float32)
    )
    out = metrics.evaluate(spec, 4 * decision[:, None] - 2, data, jnp.zeros(1))
    true, false = (
        float(out[metrics.Metric(f"{name}_positive_rate_difference", "y", attribute="a")])
        for name in ("true", "false")
    )
    assert (true, true + false) == (opportunity, odds)
    on_host = {"y_true": label, "y_pred": decision, "sensitive_features": group}
    assert metrics.equal_opportunity_difference(**on_host) == opportunity
    assert true + false == opportunity + metrics.false_positive_rate_difference(**on_host)


def test_relative_interval_is_wide_where_the_denominator_is_noisy():
    rng = np.random.default_rng(0)
    runs = np.stack([rng.normal(0.12, 0.003, 20), rng.normal(0.03, 0.012, 20)], 1)
    low, high = metrics.relative_interval(rng, np.array([0.12, 0.03]), runs)
    mean = metrics.arfg(np.array([0.12, 0.03]), np.abs(runs).mean(axis=0))
    assert low < mean < high
    report = metrics.denominator(runs)
    # first order: half of the second task's relative error, times the normal quantile, both sides
    assert (high - low) == pytest.approx(2 * 1.96 * 0.5 * report.relative_error[1], rel=0.25)


# ---------------------------------------------------------------- intervals


def test_row_bootstrap_of_a_share_has_the_binomial_width():
    wrong = jnp.asarray(np.arange(600) % 5 == 0, jnp.float32)
    weight = jnp.ones(600).at[500:].set(0.0)
    statistic = lambda d, w: {"error": metrics.error(d, d * 0, w)}  # noqa: E731
    interval = metrics.bootstrap(jax.random.key(0), statistic, wrong, weight, draws=1000)
    width = float(interval.high["error"] - interval.low["error"])
    assert float(interval.estimate["error"]) == pytest.approx(0.2)
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.2 * 0.8 / 500), rel=0.1)


def test_row_bootstrap_is_reproducible_and_jits():
    statistic = lambda d, w: metrics.mean_squared_error(d, d * 0, w)  # noqa: E731
    data, weight = jnp.linspace(0.0, 1.0, 40), jnp.ones(40)
    run = jax.jit(lambda key: metrics.bootstrap(key, statistic, data, weight, draws=20))
    assert float(run(jax.random.key(1)).low) == float(run(jax.random.key(1)).low)
    assert float(run(jax.random.key(1)).low) != float(run(jax.random.key(2)).low)


def test_interval_over_seeds_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(3).exponential(size=12)
    ours = metrics.interval_over_seeds(np.random.default_rng(0), values, draws=20000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(1)
    ).confidence_interval
    close([ours.low, ours.high], [theirs.low, theirs.high], 0.02)
    assert ours.estimate == pytest.approx(values.mean())
    many = metrics.interval_over_seeds(
        np.random.default_rng(0), np.stack([values, values * np.nan], 1)
    )
    assert np.isfinite(many.low[0]) and np.isnan(many.low[1])


@pytest.mark.parametrize(
    "measure",
    [
        lambda score, codes, ones: metrics.group_rates(score > 0, ones, codes, ones, ones),
        lambda score, codes, ones: metrics.unfairness(score, codes, ones),
        lambda score, codes, ones: metrics.group.attribute_correlation(score, codes, ones),
        lambda score, codes, ones: metrics.group_correlations(score[:, None], codes, ones),
        lambda score, codes, ones: metrics.permutation_test(
            jax.random.key(0), lambda *_: 0.0, score[:, None], codes, ones
        ),
        lambda score, codes, ones: notions.pearson(score, codes, ones),
        notions.hsic,
    ],
    ids=["rates", "unfairness", "correlation", "correlations", "permutation", "pearson", "hsic"],
)
def test_codes_of_groups_are_refused(measure):
    rng = np.random.default_rng(0)
    score = rng.normal(size=30).astype(np.float32)
    with pytest.raises(ValueError, match=r"expected membership \[N, G\]"):
        measure(score, rng.integers(0, 2, 30), np.ones(30, np.float32))
