"""The synthetic population: closed forms against draws, and the hparams that it plants."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fairjax.data import Population, load, reload, synthetic

POPULATIONS = [
    Population(),
    Population(
        tasks=3, relatedness=0.9, bias=(0.3, 0.3, 0.6), cut=0.7, noise=1.0, group_fraction=0.2
    ),
    Population(tasks=1, relatedness=0.0, bias=(1.5,), cut=-0.4, noise=0.3, proxy=0.0),
]


@pytest.mark.parametrize("population", POPULATIONS)
def test_closed_form_rates_agree_with_a_large_draw(population):
    n = 200_000
    columns = population.draw(n, seed=3)
    label = np.stack([columns[f"task{t}"] for t in range(population.tasks)], 1)
    hard = population.bayes_scores(columns) > 0.5
    rates = population.bayes_rates()
    for group, level in enumerate("AB"):
        rows = columns["group"] == level
        y, d = label[rows], hard[rows]
        drawn = {"base": y.mean(0), "selection": d.mean(0)}
        drawn |= {"tpr": (d * y).sum(0) / y.sum(0), "fpr": (d * (1 - y)).sum(0) / (1 - y).sum(0)}
        for name, value in drawn.items():
            count = {"tpr": y.sum(0), "fpr": (1 - y).sum(0)}.get(name, rows.sum())
            exact = rates[name][group]
            assert (abs(value - exact) < 4.5 * np.sqrt(exact * (1 - exact) / count)).all(), name
    np.testing.assert_allclose(
        (hard != label).mean(0), rates["error"], atol=4.5 * np.sqrt(0.25 / n)
    )


@pytest.mark.parametrize("population", POPULATIONS[:2])
def test_bayes_scores_are_calibrated_in_each_group(population):
    columns = population.draw(100_000, seed=4)
    score = population.bayes_scores(columns)[:, 0]
    for level in "AB":
        for low in (0.0, 0.2, 0.4, 0.6, 0.8):
            rows = (columns["group"] == level) & (score >= low) & (score < low + 0.2)
            assert abs(columns["task0"][rows].mean() - score[rows].mean()) < 4.5 * 0.5 / np.sqrt(
                rows.sum()
            )


def test_relatedness_bias_and_group_size_are_what_was_asked():
    def agreement(relatedness):
        columns = Population(relatedness=relatedness, bias=(0.5, 0.5), noise=0.1).draw(50_000)
        return np.corrcoef(columns["task0"], columns["task1"])[0, 1]

    assert agreement(0.0) < 0.15 < 0.3 < agreement(0.6) < agreement(0.95)
    rates = Population(bias=(1.0, 0.0)).bayes_rates()
    gap = rates["fpr"][1] - rates["fpr"][0]
    assert gap[0] < -0.05 and abs(gap[1]) < 1e-12
    assert abs((Population(group_fraction=0.2).draw(50_000)["group"] == "B").mean() - 0.2) < 0.01


def test_group_is_no_feature_but_can_be_told_from_the_features():
    data = synthetic()
    names = data.spec.numeric + tuple(name for name, _ in data.spec.categorical)
    assert (
        "group" not in names
        and len(data.spec.numeric) == 6
        and dict(data.spec.categorical) == {"grade": 3, "region": 4}
    )
    train = data.splits.train
    proxy = train.x.numeric[:, data.spec.numeric.index("proxy")]
    assert np.corrcoef(proxy, train.groups[:, 1])[0, 1] > 0.4


def test_missing_labels_and_groups():
    data = synthetic(3000, label_missing=0.3, group_missing=0.2)
    mask = np.concatenate([s.label_mask for s in data.splits])
    groups = np.concatenate([s.groups for s in data.splits])
    assert abs(1 - mask.mean() - 0.3) < 0.03 and abs((groups.sum(1) == 0).mean() - 0.2) < 0.03


def test_same_seed_same_arrays_and_reload():
    data, other = synthetic(500, seed=2, tasks=3), synthetic(500, seed=3, tasks=3)
    again = reload(json.loads(json.dumps(data.source)))
    assert again.spec == data.spec
    np.testing.assert_array_equal(again.splits.train.x.numeric, data.splits.train.x.numeric)
    assert not np.array_equal(other.splits.train.x.numeric, data.splits.train.x.numeric)
    named = load("synthetic", seed=2)
    np.testing.assert_array_equal(
        reload(named.source).splits.test.labels, synthetic(seed=2).splits.test.labels
    )


@pytest.mark.parametrize(
    "law", [{"relatedness": 1.0}, {"group_fraction": 0}, {"noise": 0}, {"tasks": 0}]
)
def test_impossible_laws(law):
    with pytest.raises(ValueError, match="synthetic"):
        synthetic(100, **law)
