"""Classifiers and regressors from outside as one more method of a study."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk
from cases import dataset, fairjax, pad, tabular_spec
from click.testing import CliRunner
from fairlearn.metrics import demographic_parity_difference
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from fairjax import study
from fairjax.cli import main
from fairjax.core.types import Attribute, Columns, DataError, Dataset, Spec, Splits, Task
from fairjax.data import Roles, from_table
from fairjax.models import shared_bottom
from fairjax.postprocess import model_barycenter
from fairjax.study import NamedStudy, StudyConfig, make_study, run_study
from fairjax.study.estimators import ESTIMATORS, estimated_scores
from fairjax.study.references import constants

CONFIG = StudyConfig(runs=1, seeds=2, reference_seeds=2, epochs=1, condition="parity", seed=3)
GAP = "demographic_parity_difference"


def columns(rows: int = 500) -> dict[str, list]:
    """Two tasks of numbers and levels; some labels of ``late`` are missing."""
    rng = np.random.default_rng(1)
    sex = rng.choice(["f", "m"], rows)
    age = rng.normal(40, 10, rows).round(2)
    job = rng.choice(["clerk", "cook", "smith"], rows)
    drive = (age - 40) / 10 + 2.0 * (job == "cook") + (sex == "m") + rng.normal(size=rows)
    late = np.where(rng.random(rows) < 0.3, "", (drive + rng.normal(size=rows) > 1).astype(int))
    return {
        "age": age.tolist(),
        "job": job.tolist(),
        "rich": (drive > 1).astype(int).tolist(),
        "late": late.tolist(),
        "sex": sex.tolist(),
    }


@functools.cache
def people():
    return from_table(columns(), Roles(tasks=("rich", "late"), sensitive=("sex",)))


def forest(task, seed):
    kind = RandomForestRegressor if task.kind == "regression" else RandomForestClassifier
    return kind(n_estimators=20, max_depth=4, random_state=seed)


def network(spec):
    return shared_bottom(spec, (4,), (2,), 2)


def study_of(data, estimators, **fields):
    return make_study(data, [], model=network, config=CONFIG, estimators=estimators, **fields)


@functools.cache
def results():
    data = people()
    made = study_of(data, {"forest": forest}, repairs=[model_barycenter], amounts=(0.5, 1.0))
    return run_study(data, study=made, progress=False)


def arrays(rows, column):
    """Features and labels of the rows whose label is known."""
    known = np.asarray(rows.label_mask[:, column]) > 0
    x = np.concatenate([rows.x.numeric, rows.x.codes], axis=1, dtype=np.float32)[known]
    return x, np.asarray(rows.labels)[known, column]


# ------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("seed", [0, 1])
def test_the_table_has_the_metrics_of_the_same_forest_fitted_by_hand(seed):
    data, table = people(), results().table
    (run,) = np.flatnonzero((table["method"] == "forest") & (table["seed"] == seed))
    assert not np.asarray(data.splits.train.label_mask).all()
    for column, task in enumerate(data.spec.tasks):
        x, y = arrays(data.splits.train, column)
        model = forest(task, CONFIG.seed + seed).fit(x, y)
        for split in ("validation", "test"):
            x, y = arrays(getattr(data.splits, split), column)
            prob = model.predict_proba(x)[:, 1]
            decided = prob >= 0.5
            found = {
                "auc": sk.roc_auc_score(y, prob),
                "error": sk.zero_one_loss(y, decided),
                "loss": sk.log_loss(y, np.clip(prob, 1e-7, 1 - 1e-7)),
            }
            for name, value in found.items():
                ours = table[f"{split}.{name}[{task.name}]"][run]
                assert ours == pytest.approx(value, abs=2e-6), name
            rows = getattr(data.splits, split)
            x = np.concatenate([rows.x.numeric, rows.x.codes], axis=1, dtype=np.float32)
            selected = model.predict_proba(x)[:, 1] >= 0.5  # of rows without a label too
            sex = np.asarray(rows.groups).argmax(axis=1)
            gap = demographic_parity_difference(selected, selected, sensitive_features=sex)
            assert table[f"{split}.{GAP}[{task.name}|sex]"][run] == pytest.approx(gap, abs=1e-6)


def test_every_run_stands_once_plain_and_once_per_amount():
    found = results()
    methods, points = found.table["method"], found.table["point"]
    assert np.sum(methods == "forest") == CONFIG.seeds
    assert points[methods == "forest+barycenter"].tolist() == [0, 1, 0, 1]
    assert found.info["estimator_methods"] == ["forest", "forest+barycenter"]
    assert found.info["versions"]["scikit-learn"] and not found.table["diverged"].any()
    json.dumps(found.info)
    seeds = [found.table["test.auc[rich]"][methods == "forest"][i] for i in (0, 1)]
    assert seeds[0] != seeds[1]


@pytest.mark.filterwarnings("ignore:2 of 2 groups have fewer than 400 rows")
@pytest.mark.parametrize("method", ["forest", "forest+barycenter"])
def test_groups_and_candidates_are_those_of_the_kept_scores(method):
    data, found = people(), results()
    run = int(np.flatnonzero(found.table["method"] == method)[-1])
    explanation = study.explain_run(data, found, run)
    groups = explanation.groups.columns
    rates = {
        group: value
        for group, value, task, statistic in zip(
            groups["group"], groups["value"], groups["task"], groups["statistic"], strict=True
        )
        if task == "rich" and statistic == "selection_rate" and group in ("f", "m")
    }
    gap = found.table[f"test.{GAP}[rich|sex]"][run]
    assert abs(rates["f"] - rates["m"]) == pytest.approx(gap, abs=1e-6)
    assert (explanation.audit is not None) and explanation.info["groups"]["method"] == method
    (candidate,) = study.candidates(data, found, [run])
    error = found.table["test.error[rich]"][run]
    assert candidate["tasks"]["rich"]["error"]["value"] == pytest.approx(error, abs=1e-5)


def test_a_run_of_an_estimator_is_no_model_and_the_message_says_what_to_do():
    data, found = people(), results()
    run = int(np.flatnonzero(found.table["method"] == "forest+barycenter")[0])
    point = study.point_of(found, run)
    for refused in (
        lambda: study.model_of_run(data, found, run),
        lambda: study.params_of(data, found, run),
        lambda: study.train_one(data, found.study, point),
        lambda: study.conflicts_of(data, found.study, point),
    ):
        with pytest.raises(DataError, match="forest is an estimator .* repair its scores with "):
            refused()


# ------------------------------------------------------------------------------------ kept on disk


def test_an_interrupted_study_goes_on_without_fitting_again(tmp_path):
    data, fitted = people(), []

    def counted(task, seed):
        class Counted(RandomForestClassifier):
            def fit(self, *arguments, **keywords):
                fitted.append((task.name, seed))
                if len(fitted) == stop:
                    raise KeyboardInterrupt
                return super().fit(*arguments, **keywords)

        return Counted(n_estimators=5, random_state=seed)

    made = study_of(data, {"counted": counted})
    shown = []

    def swept(out):
        return run_study(
            data, study=made, out=out, progress=lambda *entry: shown.append(entry), keep=()
        )

    stop = 3
    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path)
    stop = 0
    found = swept(tmp_path)
    # the seed whose fit was interrupted is fitted again, and no other
    assert fitted == [(task, seed) for seed in (3, 4) for task in ("rich", "late")][:3] + [
        ("rich", 4),
        ("late", 4),
    ]
    assert ("counted", 2, 2) in shown
    again = swept(tmp_path)
    assert len(fitted) == 5
    whole = swept(tmp_path / "whole")
    for key in whole.table:
        for other in (found, again):
            np.testing.assert_array_equal(other.table[key], whole.table[key])
    run = int(np.flatnonzero(found.table["method"] == "counted")[1])
    kept = study.scores_of_run(data, found, run)
    direct = estimated_scores(data.spec, data.splits, "counted", counted, CONFIG.seed + 1)
    for split, scores in kept.items():
        np.testing.assert_array_equal(scores, direct[split])
    for file in (tmp_path / "sweeps" / "counted").glob("chunk-*"):
        file.unlink()
    with pytest.raises(DataError, match="Run the sweep again with --resume"):
        study.scores_of_run(data, found, run)
    other = study_of(data, {"counted": forest})
    with pytest.raises(DataError, match="holds another sweep: objects is .*max_depth=4"):
        run_study(data, study=other, out=tmp_path, progress=False, keep=())


# --------------------------------------------------------------------------------- kinds of tasks

KINDS = Spec(
    (
        Task("class", "multiclass", ("a", "b", "c")),
        Task("signs", "multilabel", ("s", "t")),
        Task("size", "regression", mean=50.0, deviation=4.0),
        Task("place", "regression", ("x", "y"), mean=(1.0, 2.0), deviation=(3.0, 0.5)),
    ),
    (Attribute("sex", ("f", "m")),),
    numeric=("u", "v"),
    categorical=(("c", 3),),
)


def rows_of(count: int, seed: int, missing: float = 0.2) -> Dataset:
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=(2, count))
    code = rng.integers(0, 3, count)
    noise = 0.3 * rng.normal(size=(6, count))
    classes = np.clip(np.round(u + 1 + noise[0]), 0, 2)
    signs = [u + noise[1] > 0, code + noise[2] > 0.5]
    labels = np.stack(
        [classes, *signs, u + noise[3], v - u + noise[4], code - 1 + noise[5]], axis=1
    )
    mask = (rng.random(labels.shape) >= missing).astype(np.float32)
    return Dataset(
        Columns(np.float32([u, v]).T, code.astype(np.int32)[:, None]),
        np.where(mask > 0, labels, np.nan).astype(np.float32),
        mask,
        np.eye(2, dtype=np.float32)[rng.integers(0, 2, count)],
        np.ones(count, np.float32),
    )


@functools.cache
def kinds() -> Splits:
    return Splits(rows_of(600, 0), rows_of(200, 1), rows_of(300, 2))


def test_every_kind_of_task_is_scored_as_its_object_predicts():
    splits = kinds()
    scores = estimated_scores(KINDS, splits, "forest", forest, 5)
    widths = sum(task.score_width for task in KINDS.tasks)
    for split, found in scores.items():
        assert found.shape == (len(getattr(splits, split).weight), widths)
        assert found.dtype == np.float32 and np.isfinite(found).all()
    whole = np.concatenate([splits.test.x.numeric, splits.test.x.codes], axis=1, dtype=np.float32)
    start = 0
    for column, task in enumerate(KINDS.label_tasks):
        x, y = arrays(splits.train, column)
        block = scores["test"][:, start : start + task.score_width]
        start += task.score_width
        if task.kind == "regression":
            in_units = task.mean + task.deviation * y.astype(float)
            predicted = forest(task, 5).fit(x, in_units).predict(whole)
            np.testing.assert_allclose(task.in_units(block[:, 0]), predicted, rtol=1e-5)
            continue
        prob = forest(task, 5).fit(x, y).predict_proba(whole)
        if task.kind == "multiclass":
            np.testing.assert_allclose(np.exp(block), np.clip(prob, 1e-7, 1), rtol=1e-5)
        else:
            np.testing.assert_allclose(1 / (1 + np.exp(-block[:, 0])), prob[:, 1], atol=1e-6)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_the_registered_ones_are_better_than_constants_on_every_kind(name):
    if name == "trees":
        pytest.importorskip("lightgbm", reason="trees need LightGBM: fairjax[trees]")
    splits = kinds()
    scores = estimated_scores(KINDS, splits, name, ESTIMATORS[name](KINDS), 0)["test"]
    labels, mask = np.asarray(splits.test.labels), np.asarray(splits.test.label_mask) > 0
    assert np.mean(scores[mask[:, 0], :3].argmax(axis=1) == labels[mask[:, 0], 0]) > 0.7
    for column, score in ((1, 3), (2, 4)):
        known = mask[:, column]
        assert sk.roc_auc_score(labels[known, column], scores[known, score]) > 0.85
    for column, score in ((3, 5), (4, 6), (5, 7)):
        known = mask[:, column]
        assert sk.r2_score(labels[known, column], scores[known, score]) > 0.7


def with_labels(spec: Spec, column: int, change) -> Splits:
    """Small splits whose training labels of a column are changed."""
    parts = Splits(*(dataset(spec, 120, seed) for seed in range(3)))
    labels, mask = np.array(parts.train.labels), np.array(parts.train.label_mask)
    change(labels[:, column], mask[:, column])
    return parts._replace(train=parts.train._replace(labels=labels, label_mask=mask))


@pytest.mark.parametrize(("label", "score"), [(0, -16.118), (1, 16.118)])
def test_a_task_of_one_class_has_a_constant_score(label, score):
    spec = tabular_spec()
    splits = with_labels(spec, 1, lambda labels, mask: labels.fill(label))
    scores = estimated_scores(spec, splits, "forest", forest, 0)["test"]
    np.testing.assert_allclose(scores[:, 1], score, atol=1e-2)
    assert len(np.unique(scores[:, 0])) > 2


def test_a_task_without_any_label_has_a_constant_score():
    spec = tabular_spec()
    spec = replace(spec, tasks=(spec.tasks[0], Task("size", "regression", mean=7.0)))
    splits = with_labels(spec, 1, lambda labels, mask: mask.fill(0))
    scores = estimated_scores(spec, splits, "forest", forest, 0)["test"]
    assert np.all(scores[:, 1] == 0)
    spec = tabular_spec()
    scores = estimated_scores(spec, splits, "forest", forest, 0)["test"]
    assert np.all(scores[:, 1] == 0)


def test_a_class_that_no_training_row_has_is_never_chosen():
    spec = replace(tabular_spec(), tasks=(Task("k", "multiclass", ("a", "b", "c")), Task("z")))
    splits = with_labels(spec, 0, lambda labels, mask: np.multiply(labels, 2, out=labels))
    seen = {}

    class Strict(RandomForestClassifier):  # as XGBoost, which takes codes from 0 on alone
        def fit(self, X, y, sample_weight=None):
            seen["labels"] = set(np.unique(y))
            return super().fit(X, y, sample_weight)

    scores = estimated_scores(spec, splits, "strict", lambda task, seed: Strict(20), 0)["test"]
    assert seen["labels"] == {0, 1}
    np.testing.assert_allclose(np.exp(scores[:, 1]), 1e-7, rtol=1e-3)
    assert {0, 2} == set(scores[:, :3].argmax(axis=1))


# ---------------------------------------------------------------------------- rows, weights, levels


def test_weights_are_the_sample_weights_and_padding_is_left_out():
    spec = tabular_spec()
    splits = Splits(*(dataset(spec, 200, seed, weighted=True) for seed in range(3)))

    def regression(task, seed):
        return LogisticRegression()

    padded = splits._replace(train=pad(splits.train, 7))
    scores = estimated_scores(spec, padded, "regression", regression, 0)
    x, y = arrays(splits.train, 0)
    whole = np.concatenate([splits.test.x.numeric, splits.test.x.codes], axis=1, dtype=np.float32)
    weight = np.asarray(splits.train.weight)
    weighted = LogisticRegression().fit(x, y, weight).decision_function(whole)
    plain = LogisticRegression().fit(x, y).decision_function(whole)
    np.testing.assert_allclose(scores["test"][:, 0], weighted, atol=1e-4)
    assert np.abs(scores["test"][:, 0] - plain).max() > 1e-2


def test_linear_is_the_regression_of_numbers_and_a_column_per_level():
    data = people()
    scores = estimated_scores(data.spec, data.splits, "linear", ESTIMATORS["linear"](data.spec), 0)
    levels = OneHotEncoder(sparse_output=False)

    def design(part, known):
        codes = np.asarray(part.x.codes)[known]
        return np.concatenate([part.x.numeric[known], levels.transform(codes)], axis=1)

    train, test = data.splits.train, data.splits.test
    known = np.asarray(train.label_mask[:, 1]) > 0
    levels.fit(np.asarray(train.x.codes)[known])
    y = np.asarray(train.labels)[known, 1]
    model = LogisticRegression(max_iter=1000).fit(design(train, known), y)
    every = np.ones(len(test.weight), bool)
    expected = model.decision_function(design(test, every))
    np.testing.assert_allclose(scores["test"][:, 1], expected, atol=1e-4)


def test_validation_rows_are_given_to_who_takes_them_unless_they_are_the_test_rows():
    spec = tabular_spec()
    splits = Splits(*(dataset(spec, 80, seed, missing=0.3) for seed in range(3)))
    given = []

    class Ended(LogisticRegression):
        def fit(self, X, y, sample_weight=None, validation=None):
            given.append(validation)
            return super().fit(X, y, sample_weight)

    estimated_scores(spec, splits, "ended", lambda task, seed: Ended(), 0)
    for column, rows in enumerate(given):
        x, y = arrays(splits.validation, column)
        np.testing.assert_array_equal(rows.x, x)
        np.testing.assert_array_equal(rows.label, y)
    given.clear()
    same = splits._replace(validation=splits.test)
    estimated_scores(spec, same, "ended", lambda task, seed: Ended(), 0)
    assert given == [None, None]


def test_trees_are_lightgbms_own_with_levels_and_validation_rows():
    lightgbm = pytest.importorskip("lightgbm", reason="trees need LightGBM: fairjax[trees]")
    data = people()
    scores = estimated_scores(data.spec, data.splits, "trees", ESTIMATORS["trees"](data.spec), 4)
    numbers = len(data.spec.numeric)
    x, y = arrays(data.splits.train, 0)
    model = lightgbm.LGBMClassifier(
        n_estimators=1000, learning_rate=0.05, random_state=4, n_jobs=1, verbose=-1
    )
    held_out, held_out_y = arrays(data.splits.validation, 0)
    model.fit(
        x,
        y,
        eval_X=held_out,
        eval_y=held_out_y,
        categorical_feature=list(range(numbers, x.shape[1])),
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    assert 1 < model.best_iteration_ < 1000
    test = data.splits.test.x
    whole = np.concatenate([test.numeric, test.codes], axis=1, dtype=np.float32)
    raw = model.booster_.predict(whole, raw_score=True)
    np.testing.assert_allclose(scores["test"][:, 0], raw, rtol=1e-5, atol=1e-5)
    again = estimated_scores(data.spec, data.splits, "trees", ESTIMATORS["trees"](data.spec), 4)
    np.testing.assert_array_equal(again["test"], scores["test"])


# -------------------------------------------------------------------------------------- refusals


def test_what_cannot_be_fitted_is_refused_in_one_message(monkeypatch):
    data = people()
    with pytest.raises(DataError, match="'forest' is no function but one RandomForestClassifier"):
        study_of(data, {"forest": RandomForestClassifier()})
    with pytest.raises(ValueError, match="a method and an estimator are called 'single_task'"):
        study_of(data, {"single_task": forest})
    for spec, word in (
        (replace(data.spec, vocab_size=9), "texts"),
        (replace(data.spec, image_shape=(8, 8)), "images"),
    ):
        with pytest.raises(DataError, match=f"1 estimators .forest. read tables.* are {word}"):
            make_study(spec, {}, model=None, estimators={"forest": forest})
    made = study_of(data, {"ridge": lambda task, seed: RidgeClassifier()})
    with pytest.raises(DataError, match="'rich' .binary. has no predict_proba. Put .*Calibrated"):
        run_study(data, study=made, progress=False)
    with pytest.raises(DataError, match="estimator 'boosting' is not one of trees, linear"):
        NamedStudy(estimators=("boosting",))
    weighted = Splits(*(dataset(tabular_spec(), 60, seed, weighted=True) for seed in range(3)))

    def pipeline(task, seed):
        return make_pipeline(LogisticRegression())

    with pytest.raises(DataError, match="60 of 60 training rows have another weight than 1"):
        estimated_scores(tabular_spec(), weighted, "line", pipeline, 0)

    def of_size(part):
        return part._replace(labels=part.labels[:, 3:4], label_mask=part.label_mask[:, 3:4])

    wide = type("Wide", (LinearRegression,), {"predict": lambda self, X: np.zeros((len(X), 2))})
    with pytest.raises(DataError, match=r"predict of its Wide gives \(600, 2\) .* 'size'"):
        estimated_scores(
            replace(KINDS, tasks=KINDS.tasks[2:3]),
            Splits(*map(of_size, kinds())),
            "wide",
            lambda task, seed: wide(),
            0,
        )
    for module, name in (("lightgbm", "trees"), ("sklearn.linear_model", "linear")):
        monkeypatch.setitem(sys.modules, module, None)
        named = study_of(data, {name: ESTIMATORS[name](data.spec)})
        with pytest.raises(DataError, match=r"not installed: pip install 'fairjax\[trees\]'"):
            run_study(data, study=named, progress=False)


def test_a_prediction_that_is_no_number_is_a_run_that_diverged():
    data = people()

    class Lost(RandomForestClassifier):
        def predict_proba(self, X):
            return np.full((len(X), 2), np.nan)

    made = study_of(data, {"lost": lambda task, seed: Lost(2)})
    found = run_study(data, study=made, progress=False)
    lost = found.table["method"] == "lost"
    assert found.table["diverged"][lost].all() and not found.table["diverged"][~lost].any()
    with pytest.raises(DataError, match="diverged"):
        study.scores_of_run(data, found, int(np.flatnonzero(lost)[0]))


# ------------------------------------------------------------------------------- the command line


def test_the_command_line_puts_linear_models_beside_the_methods(tmp_path):
    data = tmp_path / "people.csv"
    table = columns(400)
    lines = [",".join(table)]
    lines += [",".join(map(str, row)) for row in zip(*table.values(), strict=True)]
    data.write_text("\n".join(lines))
    out = tmp_path / "out"
    arguments = ["frontier", "--data", str(data), "--task", "rich", "--task", "late"]
    arguments += ["--sensitive", "sex", "--estimators", "linear,linear", "--methods", "vanilla"]
    arguments += ["--preset", "paper"]
    arguments += ["--runs", "2", "--epochs", "1", "--out", str(out)]
    done = fairjax(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    prepared, found = study.load_results(out)
    methods = found.table["method"]
    assert np.sum(methods == "linear") == 1
    assert found.study.names.estimators == ("linear",)
    page = (out / "report.html").read_text()
    assert page.count('"is_estimator":true') == 1 and page.count('"is_estimator":false') == 2
    # one epoch of a network is no match: the knee and its groups are of the linear model
    assert found.info["groups"]["method"] == "linear"
    run = int(np.flatnonzero(methods == "linear")[0])
    error = found.table["test.error[rich]"][run]
    assert error < constants(prepared)["test"]["rich"]["nobody"]["error"]
    before = (out / "table.csv").read_bytes()
    assert fairjax(*arguments, "--resume", cwd=tmp_path).returncode == 0
    assert (out / "table.csv").read_bytes() == before
    arguments = ["train", "--like", str(out), "--run", str(run), "--out", str(tmp_path / "model")]
    refused = CliRunner().invoke(main, arguments)
    assert isinstance(refused.exception, DataError) or refused.exit_code == 2
    assert "linear is an estimator from outside" in f"{refused.output}{refused.exception}"
    assert not (tmp_path / "model").exists()
    wrong = CliRunner().invoke(main, ["frontier", "--estimators", "forest"])
    assert wrong.exit_code == 2 and "'forest' is not one of trees, linear" in wrong.output
