"""The experiment on aggregators: ranks, critical differences, volumes, and a small run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture(scope="module")
def experiment():
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(
            "aggregators_experiment", FOLDER / "aggregators.py"
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


# Demsar, JMLR 2006, Table 5(a)
@pytest.mark.parametrize(
    ("methods", "published"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (8, 3.031), (10, 3.164)],
)
def test_critical_values_are_published(experiment, methods, published):
    assert experiment.critical_value(methods) == pytest.approx(published, abs=1.1e-3)


# Demsar, JMLR 2006, Table 6: four forms of C4.5 on 14 data sets, areas under the curve
# (of the two .975 the first has the better rank there)
PUBLISHED = """
.763 .768 .771 .798 | .599 .591 .590 .569 | .954 .971 .968 .967 | .628 .661 .654 .657
.882 .888 .886 .898 | .936 .931 .916 .931 | .661 .668 .609 .685 | .583 .583 .563 .625
.775 .838 .866 .875 | 1.000 1.000 1.000 1.000 | .940 .962 .965 .962 | .619 .666 .614 .669
.972 .981 .9751 .975 | .957 .978 .946 .970
"""


def published_areas() -> np.ndarray:
    rows = PUBLISHED.replace("\n", "|").split("|")
    return np.array([[float(cell) for cell in row.split()] for row in rows if row.strip()])


def test_ranks_and_distance_are_those_of_the_published_example(experiment):
    areas = published_areas()
    assert areas.shape == (14, 4)
    np.testing.assert_allclose(experiment.ranks(areas), (3.143, 2.000, 2.893, 1.964), atol=6e-4)
    # 1.25 there, by q of three digits
    assert experiment.critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    statistic, p = experiment.friedman(areas)
    # 9.28 there, without the correction for ties
    ties = sum(
        (counts**3 - counts).sum()
        for counts in (np.unique(row, return_counts=True)[1] for row in areas)
    )
    assert statistic * (1 - ties / (14 * 4 * 15)) == pytest.approx(9.28, abs=0.01)
    assert 0.01 < p < 0.05


def test_cliques_are_the_widest_ranges(experiment):
    ranks = np.array([1.0, 1.5, 2.2, 4.0, 4.9, 7.0])
    assert experiment.cliques(ranks, 1.0) == [(1.0, 1.5), (1.5, 2.2), (4.0, 4.9)]
    assert experiment.cliques(ranks, 10.0) == [(1.0, 7.0)]
    assert experiment.cliques(ranks, 0.1) == []


def test_intervals_of_all_at_once_are_wider(experiment):
    values = np.array([1.0, 2.0, 3.0])
    mean, half = experiment.interval(values)
    assert (mean, half) == (2.0, pytest.approx(4.3027 / np.sqrt(3), abs=1e-4))
    assert experiment.interval(values, 5)[1] == pytest.approx(9.9248 / np.sqrt(3), abs=1e-4)


def entries(experiment, method, seed, points):
    for lam, (validation, test) in zip((0.0, 1.0), points, strict=True):
        split = {"validation": [validation], "test": [test]}
        yield from experiment.lines(method, seed, (lam,), split, 1.0)


def test_validation_chooses_and_test_is_the_volume(experiment):
    best, worse, out = (1.0, 0.5), (1.05, 0.6), (1.3, 0.2)
    rows = [
        # the second is dominated on validation: its better test point does not count
        *entries(experiment, "a", 0, [(best, worse), (worse, best)]),
        *entries(experiment, "a", 1, [(best, best), (out, out)]),  # beyond the corner
        *entries(experiment, "b", 0, [((np.nan,) * 2, (np.nan,) * 2), (best, best)]),
    ]
    volumes = experiment.volumes_of(rows)
    np.testing.assert_allclose(volumes["a"], (0.2 * 0.4, 0.25 * 0.5))
    np.testing.assert_allclose(volumes["b"], (0.25 * 0.5,))


def test_predictors_that_look_at_no_row(experiment):
    class Rows:
        labels = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, np.nan]])
        label_mask = np.array([[1, 1], [1, 1], [1, 1], [1, 0]])

    share = experiment.shares(Rows)
    np.testing.assert_allclose(share, (3 / 4, 2 / 3))
    errors = experiment.blind_errors(np.array([3 / 4, 1.0]), share)
    np.testing.assert_allclose(errors["constant"], (1 / 4, 1 / 3))
    np.testing.assert_allclose(errors["at random"], (2 * 3 / 4 * 1 / 4, 1 / 3))


def measured(experiment, gain):
    rng = np.random.default_rng(0)
    methods = ("baseline", "pcgrad", "pcgrad_split")
    volume = 0.1 + 0.001 * rng.normal(size=(2, 4, 3)) + np.array([0.0, 0.0, gain])
    references = {"single task": np.zeros(2), "constant": np.array([0.3, 0.0])}
    diverged = np.array([[0, 0, 1], [0, 0, 2]])
    return experiment.Measured(
        ("one", "two"), methods, volume, np.ones((2, 3)), diverged, references
    )


def test_a_planted_difference_is_told_and_none_is_not(experiment):
    told = experiment.summary(measured(experiment, 0.05))
    assert "above `pcgrad_split`; below none" in told
    assert "1 of 1 rules are better" in told
    assert "count for nothing: `pcgrad_split` (3)." in told
    assert "than any method: `one`." in told
    told = experiment.summary(measured(experiment, 0.0))
    assert "above none; below none" in told


def test_the_table_begins_with_the_best_rank(experiment):
    lines = experiment.table(measured(experiment, 0.05)).splitlines()
    assert lines[2].startswith("| pcgrad_split | 1.0 | 1.0 |")
    assert {line.split()[1] for line in lines[2:5]} == {"baseline", "pcgrad", "pcgrad_split"}
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.slow
def test_a_small_run_goes_on_and_ends_in_tables_and_a_figure(experiment, tmp_path, capsys):
    size = experiment.Size(seeds=2, epochs=1, rows=(300, 200, 200), lams=(0.0, 1.0))
    path = tmp_path / "synthetic.csv"
    experiment.measure("synthetic", path, ("baseline", "vanilla"), size)
    first = experiment.read_runs(path)
    methods = ("baseline", "vanilla", "pcgrad_split")
    experiment.measure("synthetic", path, methods, size)
    rows = experiment.read_runs(path)
    assert rows[: len(first)] == first
    assert sum(row["method"] == "single task" for row in rows) == 2
    assert "pcgrad_split" in capsys.readouterr().out
    counts = {name: sum(row["method"] == name for row in rows) for name in methods}
    assert counts == dict.fromkeys(methods, 4)  # two seeds of two runs
    # the first run of vanilla has the initial parameters and batches of baseline at weight 0
    first_of = {}
    for row in rows:
        first_of.setdefault((row["method"], row["seed"]), row)
    for seed in ("0", "1"):
        plain, unfair = (first_of[name, seed] for name in ("vanilla", "baseline"))
        assert unfair["lam"] == "0"
        assert float(plain["are_test"]) == pytest.approx(float(unfair["are_test"]), abs=2e-4)
        assert float(plain["arfg_test"]) == pytest.approx(float(unfair["arfg_test"]), abs=2e-4)
    blind = [row for row in rows if row["method"] in ("constant", "at random")]
    assert len(blind) == 4
    assert {float(row["arfg_test"]) for row in blind} == {0.0}
    single = [float(row["are_test"]) for row in rows if row["method"] == "single task"]
    assert np.mean(single) == pytest.approx(1.0, abs=1e-4)
    shares = experiment.conflicts("synthetic", size)
    assert all(0 <= share <= 1 for share in shares.values())
    experiment.write(tmp_path, {"synthetic": shares})
    assert (tmp_path / "ranks.png").read_bytes().startswith(b"\x89PNG")
    assert "| baseline |" in (tmp_path / "aggregators.md").read_text()
    assert "`baseline` has rank" in (tmp_path / "summary.md").read_text()
    assert "two accuracies" in (tmp_path / "conflicts.md").read_text()
