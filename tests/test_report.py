"""The report of a sweep: files, numbers, and what names from somebody's table can do to them."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from fairjax import report
from fairjax.core.keys import HParam, Metric, parse_key
from fairjax.core.tables import Table, read_csv, write_csv
from fairjax.core.types import DataError
from fairjax.metrics import GroupTable
from fairjax.report import lay_out, summarize
from fairjax.report.columns import GAINS
from fairjax.report.commands import relative_command
from fairjax.report.payload import embedded, payload
from fairjax.report.references import relative_references
from fairjax.report.sample import MOST_POINTS
from fairjax.report.text import number

GAP = "false_positive_rate_difference"
HOSTILE = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "$x$ 'quoted' $\\frac{1$",  # not even valid mathematics
    "</script><script>window.pwned=1</script><!--",
    "{{script}} %{x} <b>bold</b> &lt;i&gt; <a href='javascript:window.pwned=1'>a</a>",
    "_line\nbreak, \u2028 comma \u00e9 \u4e2d",
)


def make(
    methods=("vanilla", "mtaf"),
    tasks=("income", "occupation"),
    attributes=("sex",),
    runs=12,
    seed=0,
):
    """A table that looks like a sweep's, and its description."""
    rng = np.random.default_rng(seed)
    n = runs * len(methods)
    table = Table(
        {
            "run": np.arange(n),
            "method": np.repeat(np.array(methods), runs),
            "point": np.arange(n) // 2,
            "seed": np.arange(n) % 2,
            "diverged": np.arange(n) == 1,
        }
    )
    for task in tasks:
        table[HParam("lam", task)] = rng.uniform(0, 5, n).astype(np.float32)
    table[HParam("learning_rate")] = np.full(n, 0.02)
    for split in ("validation", "test"):
        for task in tasks:
            table[Metric("error", task, split=split)] = rng.uniform(0.1, 0.2, n)
        for task in tasks:
            for attribute in attributes:
                key = Metric(GAP, task, attribute=attribute, split=split)
                table[key] = rng.uniform(0, 0.1, n)
        table[Metric("are", split=split)] = rng.uniform(0.9, 1.2, n)
        table[Metric("arfg", split=split)] = rng.uniform(0, 1, n)
        for name in GAINS:
            table[Metric(name, split=split)] = rng.uniform(-0.1, 0.1, n)
    for key in table.metrics:
        table[key][table["diverged"]] = np.nan
    info = {
        "tasks": list(tasks),
        "attributes": list(attributes),
        "gap": GAP,
        "title": "Made up",
        "seeds": [0, 1],
        "command": "fairjax train --like OUT --run {run}",
        "environment": {"device": "cpu"},
    }
    return table, info


def changed(table, change):
    """The table with every column changed."""
    return Table({key: change(values) for key, values in table.items()})


def blank(table, is_blank):
    """The table with NaN in the metrics of which ``is_blank(key)`` holds."""
    blanked = Table(table)
    for key in table.metrics:
        if is_blank(key):
            blanked[key] = np.full(len(table[key]), np.nan)
    return blanked


def without(table, is_absent):
    """The table without the metrics of which ``is_absent(key)`` holds."""
    absent = [key for key in table.metrics if is_absent(key)]
    return Table({key: values for key, values in table.items() if key not in absent})


def candidate(table, info, run):
    """A candidate with intervals of a hundredth around made-up values."""

    def measured(value, before):
        ends = {"low": value - 0.001, "high": value + 0.001}
        return {"value": value, **ends, "before": before, "before_low": before - 0.001} | {
            "before_high": before + 0.001
        }

    tasks = {}
    for task in info["tasks"]:
        error = float(table[Metric("error", task, split="test")][run])
        gaps = {name: measured(0.041, 0.157) for name in info["attributes"]}
        tasks[task] = {"error": measured(error, error - 0.008), "gaps": gaps}
    return {"run": run, "method": str(table["method"][run]), "tasks": tasks}


def is_relative(key):
    """Whether a metric is relative to single-task models."""
    return key.metric in ("are", "arfg")


def brute_front(points):
    """Non-dominated rows, straight from the definition."""
    return [
        i for i, p in enumerate(points) if not any((q <= p).all() and (q < p).any() for q in points)
    ]


# the table


def test_table_comes_back_with_hostile_names(tmp_path):
    table, _ = make(methods=HOSTILE, tasks=HOSTILE[:3], attributes=HOSTILE[3:])
    back = read_csv(write_csv(tmp_path / "t.csv", table))
    assert list(back) == list(table)
    for key, values in table.items():
        assert back[key].dtype.kind == values.dtype.kind, key
        np.testing.assert_array_equal(back[key].astype(values.dtype), values, err_msg=str(key))


def test_table_bytes_depend_on_numbers_only(tmp_path):
    table, _ = make()
    table["test.are"][:3] = [0.1, np.inf, 1e-300]
    first = write_csv(tmp_path / "a.csv", table).read_bytes()
    assert write_csv(tmp_path / "b.csv", read_csv(tmp_path / "a.csv")).read_bytes() == first
    assert write_csv(tmp_path / "c.csv", changed(table, np.copy)).read_bytes() == first
    cells = dict(zip(table, first.decode().splitlines()[1].split(","), strict=True))
    assert cells[Metric("are", split="test")] == "0.1"
    lam = HParam("lam", "income")
    assert float(np.float32(cells[lam])) == float(table[lam][0])


def test_integer_hparams_are_written_as_floats(tmp_path):
    depth = HParam("depth")
    write_csv(tmp_path / "a.csv", {"run": np.arange(2), depth: np.array([1, 2])})
    write_csv(tmp_path / "b.csv", {"run": np.arange(2), depth: np.array([1.0, 2.0])})
    assert (
        (tmp_path / "a.csv").read_bytes()
        == (tmp_path / "b.csv").read_bytes()
        == b"run,hparam.depth\n0,1.0\n1,2.0\n"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name every column once"),
        ("run,run\n1,2\n", "name every column once"),
        ("run,seed\n1,2\n3\n", "row 2 has 1 cells"),
        ("run,test.are\n1,high\n", "'test.are'"),
        ("run,diverged\n1,True\n", "'diverged'"),
    ],
)
def test_broken_table_is_refused(tmp_path, text, says):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        read_csv(tmp_path / "t.csv")


def test_columns_of_different_length_are_refused(tmp_path):
    with pytest.raises(ValueError, match="differ in length"):
        write_csv(tmp_path / "t.csv", {"run": np.arange(2), "seed": np.arange(3)})
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    table, _ = make()
    path = write_csv(tmp_path / "t.csv", table)
    before = path.read_bytes()

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match="cannot be written .disk full"):
        write_csv(path, changed(table, lambda values: values[:1]))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_table_is_a_data_frame():
    pytest.importorskip("pandas")
    table, _ = make()
    frame = table.to_pandas()
    assert list(frame.columns) == [str(key) for key in table] and len(frame) == table.rows
    np.testing.assert_array_equal(frame["test.error[income]"], table["test.error[income]"])
    assert list(frame["method"]) == list(table["method"])


def test_table_in_a_notebook_shows_names_as_texts():
    table, _ = make(methods=HOSTILE, tasks=HOSTILE[:3], attributes=HOSTILE[3:])
    shown = table._repr_html_()
    tags = set(re.findall(r"</?(\w+)", shown))
    assert tags == {"table", "thead", "tbody", "tr", "th", "td", "p"}
    assert html.escape(HOSTILE[0]) in shown and shown.count("<tr>") == 11
    assert f"{table.rows} rows, {len(table)} columns" in shown
    assert "0 rows, 0 columns" in Table()._repr_html_()


# names that the notation of keys uses itself

LEVELS = ("a|b", "a=b", "a]", "a@0.5", "<a>", "a\\b")


def awkward():
    """Tasks ``y`` and ``y=1``, whose texts could be taken for a task and a class of it."""
    table, info = make(tasks=("y", "y=1"), attributes=("x|z", "x"), runs=20)
    rng = np.random.default_rng(1)
    table[Metric("error", "y", outcome="1", split="test")] = rng.uniform(2, 3, table.rows)
    for level in LEVELS:
        key = Metric("selection_rate", "y=1", attribute="x|z", group=level, split="test")
        table[key] = rng.uniform(0, 1, table.rows)
    return table, info


def test_awkward_names_come_back_from_the_table(tmp_path):
    table, info = awkward()
    report.write(tmp_path, table, info)
    back = read_csv(tmp_path / "table.csv")
    assert list(back) == list(table)
    for key in table.metrics:
        np.testing.assert_array_equal(back[key], table[key], err_msg=str(key))
    first, second = lay_out(back, info).task_panels
    for panel, task in ((first, "y"), (second, "y=1")):
        np.testing.assert_array_equal(panel.test[:, 0], table[Metric("error", task, split="test")])
        gaps = [
            table[Metric(GAP, task, attribute=attribute, split="test")]
            for attribute in ("x|z", "x")
        ]
        np.testing.assert_array_equal(panel.test[:, 1], np.fmax(*gaps))


def test_awkward_names_are_told_apart_in_summary_and_page(tmp_path):
    table, info = awkward()
    groups = GroupTable(group_rows("y=1", "x|z", LEVELS), {"x|z=<other>": 3.0})
    report.write(tmp_path, table, info, groups)
    summary = json.loads((tmp_path / "summary.json").read_text())
    for row in summary["methods"]["mtaf"]["selected_on_validation"]["frontier"]:
        assert [parse_key(text) for text in row] == list(table)
        for text, value in row.items():
            if isinstance(parse_key(text), Metric):
                assert value == table[text][row["run"]]
    layout = lay_out(table, info)
    data = payload(layout, layout.shown)
    metrics = {one["label"]: one["values"] for one in data["metrics"]}
    assert [label for label, _ in data["hparams"]] == ["lam[y]", "lam[y=1]", "learning_rate"]
    for task in ("y", "y=1"):
        np.testing.assert_allclose(
            metrics[f"error, {task} (test)"], table[Metric("error", task, split="test")], rtol=1e-5
        )
        assert f"gap, {task}, x|z (test)" in metrics
    for kind, name, alone in data["relative"]:
        for split in ("validation", "test"):
            np.testing.assert_allclose(
                metrics[f"{name} ({split})"], table[f"{split}.{kind}"], rtol=1e-5
            )
        assert alone == (0 if kind in GAINS else 1)
    assert {kind for kind, _, _ in data["relative"]} == {"are", "arfg", *GAINS}
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "knowledge gain is the accuracy less" in page
    assert [row[0] for row in cells(page)[3:-1]] == list(LEVELS)
    assert "<a>" not in page.split("<main>")[1].split("</main>")[0]
    assert "x|z=&lt;other&gt; (3)" in page


# what is selected


def test_frontier_is_selected_on_validation_and_reported_on_test():
    table, info = make(methods=("only",), runs=30)
    chosen = summarize(lay_out(table, info))["methods"]["only"]
    ended = np.flatnonzero(~table["diverged"])
    for split in ("validation", "test"):
        points = np.stack([table[f"{split}.are"], table[f"{split}.arfg"]], axis=1)[ended]
        expected = {int(ended[i]) for i in brute_front(points)}
        frontier = chosen[f"selected_on_{split}"]["frontier"]
        assert {row["run"] for row in frontier} == expected
        assert all(row["test.are"] == table["test.are"][row["run"]] for row in frontier)
    assert (chosen["runs"], chosen["diverged"]) == (30, 1)


def test_hypervolume_by_hand():
    table, info = make(methods=("only",), runs=4)
    table["diverged"][:] = False
    table["validation.are"][:], table["validation.arfg"][:] = (
        [1.0, 1.1, 1.2, 1.2],
        [0.5, 0.25, 0.5, 0.5],
    )
    table["test.are"][:], table["test.arfg"][:] = [1.0, 1.125, 0.75, 2.0], [0.5, 0.25, 0.75, 2.0]
    summary = summarize(lay_out(table, info))
    only = summary["methods"]["only"]
    assert summary["axes"]["reference"] == [1.25, 1.0]
    # two boxes .25 x .5 and .125 x .75 overlapping in .125 x .5;
    # on test a third, .5 x .25, overlaps them in .25 x .25
    assert only["selected_on_validation"]["hypervolume"] == pytest.approx(0.125 + 0.09375 - 0.0625)
    assert only["selected_on_test"]["hypervolume"] == pytest.approx(0.15625 + 0.125 - 0.0625)


def test_reference_may_be_given_and_otherwise_lies_beyond_every_frontier():
    table, info = make()
    assert lay_out(table, info | {"reference": [3, 4]}).reference == (3.0, 4.0)
    table["test.are"][:] += 5
    seen = lay_out(table, info)
    fronts = seen.overall.fronts.values()
    points = np.concatenate(
        [seen.overall.test[rows] for front in fronts for rows in (front.validation, front.test)]
    )
    assert (points < np.array(seen.reference)).all()


def test_gap_of_a_task_is_the_worst_over_attributes():
    table, info = make(attributes=("sex", "race"))
    sex, race = table[f"test.{GAP}[income|sex]"], table[f"test.{GAP}[income|race]"]
    sex[2], race[3], race[4] = -0.5, 0.75, np.nan
    gaps = lay_out(table, info).task_panels[0].test[:, 1]
    assert gaps[2] == 0.5 and gaps[3] == 0.75 and gaps[4] == sex[4]
    assert any("could not be measured in 1 runs" in note for note in lay_out(table, info).notes)


def test_collapsed_runs_do_not_set_the_limits_and_are_counted():
    table, info = make(runs=40)
    table["test.error[income]"][5:8] = 50.0
    panel = lay_out(table, info).task_panels[0]
    assert panel.limits[0][1] < 0.25 and panel.outside == 3


def test_method_far_from_the_others_stays_in_view():
    table, info = make(methods=("a", "b", "c"), runs=40)
    table["test.error[income]"][:4] = 0.9
    table = changed(table, lambda values: values[3:])
    table["method"] = np.append("alone", table["method"][1:])
    assert lay_out(table, info).task_panels[0].limits[0][1] > 0.9


def test_info_that_lacks_a_part_is_refused():
    table, info = make()
    with pytest.raises(ValueError, match="gap"):
        lay_out(table, {k: v for k, v in info.items() if k != "gap"})
    with pytest.raises(ValueError, match="seed"):
        lay_out(Table({k: v for k, v in table.items() if k != "seed"}), info)


def test_a_metric_by_its_text_is_refused():
    table, info = make()
    texts = {str(key): values for key, values in table.items()}
    with pytest.raises(ValueError, match=r"'hparam.lam\[income\]'.*parse_key"):
        lay_out(Table(texts), info)
    keys = Table({parse_key(text): values for text, values in texts.items()})
    assert lay_out(keys, info).methods == ("vanilla", "mtaf")


# the files


def test_write_leaves_the_named_files(tmp_path):
    table, info = make(methods=("a", "b", "c", "d"))
    info["single_task"] = {"test": {"income": {"error": 0.15, "gap": 0.05}}}
    paths = report.write(tmp_path / "new" / "out", table, info)
    assert [p.name for p in paths] == [
        "table.csv",
        "summary.json",
        "frontier_tasks.png",
        "frontier_relative.png",
        "tradeoff.png",
        "report.html",
    ]
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == sorted(
        p.name for p in paths
    )
    assert all(p.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for p in paths if p.suffix == ".png")
    summary = json.loads(paths[1].read_text())
    assert summary["info"] == info and list(summary["methods"]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("empty", [False, True])
def test_many_methods_have_a_picture_each(tmp_path, empty):
    pytest.importorskip("matplotlib")
    table, info = make(methods=(*HOSTILE, "last"), runs=4)
    table = blank(table, lambda key: True) if empty else table
    few = changed(table, lambda values: values[:24])
    assert "frontier_methods.png" not in [
        p.name for p in report.write_figures(tmp_path, lay_out(few, info))
    ]
    path = report.write_figures(tmp_path, lay_out(table, info))[-1]
    assert path.name == "frontier_methods.png" and path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_same_numbers_same_files(tmp_path):
    table, info = make()
    first = report.write(tmp_path / "a", table, info)
    second = report.write(tmp_path / "b", read_csv(first[0]), info)
    for old, new in zip(first, second, strict=True):
        if old.suffix in (
            ".csv",
            ".png",
        ):  # float32 hparams come back as float64 and show more digits in the others
            assert old.read_bytes() == new.read_bytes(), old.name


def test_a_notebook_shows_a_figure_without_a_plotting_backend():
    formatters = pytest.importorskip("IPython.core.formatters")
    figure = report.draw_tasks(lay_out(*make()))
    assert formatters.PNGFormatter()(figure).startswith(b"\x89PNG")


def test_figures_are_objects():
    figure = pytest.importorskip("matplotlib.figure")
    layout = lay_out(*make())
    draws = (report.draw_tasks, report.draw_overall, report.draw_tradeoff, report.draw_methods)
    for draw in draws:
        assert isinstance(draw(layout), figure.Figure)
    alone = lay_out(*make(tasks=("income",)))
    with pytest.raises(ValueError, match="two tasks"):
        report.draw_tradeoff(alone)
    with pytest.raises(ValueError, match="needs a task"):
        report.draw_tasks(lay_out(*make(tasks=())))


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    report.write_figures(tmp_path, lay_out(*make()))
    assert dict(matplotlib.rcParams) == before


def is_test_gap_of_income(key):
    """Whether a metric is a gap of the first task on test."""
    return (key.metric, key.task, key.split) == (GAP, "income", "test")


def all_diverged(table):
    """The table of a sweep of which no run ended."""
    table = blank(table, lambda key: True)
    table["diverged"] = np.ones(table.rows, bool)
    return table


EMPTY = {
    "no single-task baseline": (
        lambda table: without(table, is_relative),
        "no finite ARE or ARFG",
    ),
    "baseline of NaN": (
        lambda table: blank(table, lambda key: is_relative(key) and key.split == "test"),
        "no finite ARE or ARFG",
    ),
    "all diverged": (all_diverged, "runs diverged"),
    "NaN gap": (
        lambda table: blank(table, is_test_gap_of_income),
        "for task income: the panel is empty",
    ),
    "no validation": (
        lambda table: blank(table, lambda key: key.split == "validation"),
        "selected on the test set",
    ),
    "one run": (lambda table: changed(table, lambda values: values[-1:]), "single run"),
    "no run": (lambda table: changed(table, lambda values: values[:0]), "no runs"),
}


@pytest.mark.parametrize("case", EMPTY)
def test_what_is_missing_is_said(tmp_path, case):
    change, says = EMPTY[case]
    table, info = make()
    paths = report.write(tmp_path, change(table), info)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert says in html.unescape(page.split("<main>")[1].split("All runs in pictures")[0])
    assert all(p.stat().st_size for p in paths)
    json.loads(
        (tmp_path / "summary.json").read_text(), parse_constant=pytest.fail
    )  # NaN is not JSON


def test_one_task_has_no_tradeoff_figure(tmp_path):
    table, info = make(tasks=("income",))
    paths = report.write(tmp_path, table, info)
    assert "tradeoff.png" not in [p.name for p in paths]
    assert "fewer than two tasks" in (tmp_path / "report.html").read_text("utf-8")


def test_no_attribute_no_task(tmp_path):
    table, info = make()
    report.write(tmp_path, table, info | {"attributes": []})
    assert "no sensitive attribute" in (tmp_path / "report.html").read_text("utf-8")
    report.write(tmp_path, table, info | {"tasks": [], "attributes": []})


# the groups of one run


def group_rows(task="income", attribute="sex", levels=("F", "M")):
    """The columns of a group table: two statistics, values that say where they are from."""
    rows = [("", "overall"), *((attribute, level) for level in levels), (attribute, "difference")]
    rows = [(task, *row, name) for row in rows for name in ("log_loss", "selection_rate")]
    columns = dict(
        zip(
            ("task", "attribute", "group", "statistic"),
            map(np.array, zip(*rows, strict=True)),
            strict=True,
        )
    )
    value = np.arange(len(rows)) / 100
    return columns | {
        "count": 1000.0 + np.arange(len(rows)),
        "value": value,
        "low": value - 0.005,
        "high": value + 0.005,
    }


def cells(page):
    """Texts of the group tables, row by row, with the intervals behind their values."""
    section = page.split('<section id="groups"><h2>Groups')[1].split("</section>")[0]
    return [
        [
            html.unescape(re.sub("<[^>]+>", "|", cell)).strip("|\n")
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
        ]
        for row in re.findall(r"<tr.*?</tr>", section)
    ]


def test_groups_of_a_run_stand_in_the_page_and_come_back(tmp_path):
    table, info = make()
    info["groups"] = {"run": 7, "method": "mtaf", "minimum": 10.0, "left_out": {"sex=<other>": 3.0}}
    groups = GroupTable(
        group_rows(levels=("F", "difference")), info["groups"]["left_out"]
    )  # a level of an awkward name
    paths = report.write(tmp_path, table, info, groups)
    assert "groups.csv" in [p.name for p in paths]
    page = (tmp_path / "report.html").read_text("utf-8")
    assert (
        "<h2>Groups: run 7 (mtaf)</h2>" in page
        and "fewer than 10 rows are left out: sex=&lt;other&gt; (3)." in page
    )
    assert cells(page) == [
        ["group", "rows", "selection rate", "log loss"],
        ["everyone", "1,001", "0.010|0.005 \u2013 0.015", "0.000|\u22120.005 \u2013 0.005"],
        ["sex"],
        ["F", "1,003", "0.030|0.025 \u2013 0.035", "0.020|0.015 \u2013 0.025"],
        ["difference", "1,005", "0.050|0.045 \u2013 0.055", "0.040|0.035 \u2013 0.045"],
        ["difference", "1,007", "0.070|0.065 \u2013 0.075", "0.060|0.055 \u2013 0.065"],
    ]
    back = read_csv(tmp_path / "groups.csv")
    for name, values in groups.columns.items():
        np.testing.assert_array_equal(back[name], values, err_msg=name)
    report.write(tmp_path / "plain", table, make()[1])
    assert "<h2>Groups" not in (tmp_path / "plain" / "report.html").read_text("utf-8")
    assert not (tmp_path / "plain" / "groups.csv").exists()


def test_groups_without_intervals_or_numbers_and_large_ones(tmp_path):
    columns = group_rows() | {"value": np.array([np.nan, 12345.6, 55.55, -3.2, 0, 1, 2, 3])}
    columns |= {"low": np.full(8, np.nan), "high": np.full(8, np.nan)}
    page = report.write_page(
        tmp_path / "p.html", lay_out(*make()), GroupTable(columns, {})
    ).read_text("utf-8")
    assert [row[2:] for row in cells(page)[1:4]] == [
        ["12,346", "\u2013"],
        [],
        ["\u22123.200", "55.5"],
    ]
    assert "Small type" not in page


def test_the_chosen_run_is_the_knee_of_all_methods_selected_on_validation():
    table, info = make(methods=("single_task", "a", "b"), runs=10)
    table["validation.are"][:], table["validation.arfg"][:] = 1.5, 1.5
    table["validation.are"][[3, 12, 17, 25]] = [0.1, 1.0, 1.1, 1.2]
    table["validation.arfg"][[3, 12, 17, 25]] = [
        0.1,
        1.0,
        0.55,
        0.5,
    ]  # the first is of single tasks, the third bulges most
    table["run"] = table["run"] + 100
    assert report.knee_run(table, info) == 103
    info["reference_methods"] = ["single_task"]
    assert report.knee_run(table, info) == 117
    table["diverged"][17] = True
    assert report.knee_run(table, info) in (112, 125)
    alone, _ = make(methods=("single_task",))
    assert report.knee_run(alone, info) is None
    for case in ("all diverged", "no validation", "no run"):
        assert report.knee_run(EMPTY[case][0](table), info) is None, case


# the page


def main_of(page):
    """Texts of the page in order, without markup."""
    body = page.read_text("utf-8").split("<main>")[1].split("</main>")[0]
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", body)).split())


def test_page_opens_with_warnings_and_candidates(tmp_path):
    table, info = make()
    info["warnings"] = ["Do not read this frontier: nobody is better."]
    info["candidates"] = [candidate(table, info, 15) | {"text": "The cheapest half."}]
    info["seeds"] = {"members": 1}
    report.write(tmp_path, table, info)
    text = main_of(tmp_path / "report.html")
    error = table["test.error[income]"][15]
    before = error - 0.008
    sentence = (
        "income: the gap by sex went from 0.157 [0.156, 0.158] to 0.041 [0.040, 0.042], the error"
        f" went from {number(before)} [{number(before - 0.001)}, {number(before + 0.001)}] to"
        f" {number(error)} [{number(error - 0.001)}, {number(error + 0.001)}]; that is 8 more"
        " errors in 1,000 rows."
    )
    order = [
        "Do not read",
        "Run 15, mtaf The cheapest half.",
        sentence,
        "Cheapest run",
        "Every point",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places) and "trained with one seed" in text
    notes = json.loads((tmp_path / "summary.json").read_text())["notes"]
    assert notes[0] == info["warnings"][0]


def test_candidate_without_intervals_or_a_reference(tmp_path):
    table, info = make(tasks=("income",))
    measured = {"error": {"value": 0.15}, "gaps": {"sex": {"value": 0.04, "before": 0.1}}}
    info["candidates"] = [{"run": 15, "method": "mtaf", "tasks": {"income": measured}}]
    report.write_page(tmp_path / "report.html", lay_out(table, info))
    text = main_of(tmp_path / "report.html")
    assert "income: the gap by sex went from 0.100 to 0.040, the error is 0.150." in text
    unknown = {"value": None, "low": None, "high": np.nan, "before": np.nan}
    info["candidates"][0]["tasks"]["income"] = {"error": unknown, "gaps": {"sex": unknown}}
    report.write_page(tmp_path / "report.html", lay_out(table, info))
    text = main_of(tmp_path / "report.html")
    assert "income: the gap by sex is \u2013, the error is \u2013." in text


def test_references_and_small_groups_are_shown(tmp_path):
    table, info = make()
    info["single_task"] = {"test": {task: {"error": 0.15, "gap": 0.05} for task in info["tasks"]}}
    info["constants"] = {
        "test": {"income": {"nobody": {"error": 0.12}}, "occupation": {"nobody": {"error": 0.18}}}
    }
    small = {"attribute": "sex", "group": "X", "task": "income", "rows": 12, "rows_that_count": 1}
    info |= {"left_out": {"test": [small]}, "minimum": 10}
    layout = lay_out(table, info)
    overall, income, _ = payload(layout, layout.shown)["panels"]
    assert overall["references"] == [{"name": "nobody", "error": 1.0, "gap": 0.0}]
    info["constant_are"] = {"test": 1.0}
    assert len(relative_references(info)) == 1  # no better than nobody alone
    info["constant_are"] = {"test": 0.8}
    assert relative_references(info)[-1] == ("best constants", 0.8, 0.0)
    assert [one["name"] for one in income["references"]] == ["single-task models", "nobody"]
    for panel in (layout.overall, *layout.task_panels):
        assert all(panel.limits[1][0] < reference.gap for reference in panel.references)
    report.write_page(tmp_path / "report.html", layout)
    text = main_of(tmp_path / "report.html")
    assert "nobody 0.120 0.000 0.180 0.000" in text
    assert "fewer than 10 rows that count" in text and "sex X income 12 1" in text


@pytest.mark.parametrize("rule", ["age > 60", "age in old, very old"])
def test_rules_appear_as_they_were_given(rule, tmp_path):
    table, info = make(tasks=("income",), attributes=("age",))
    key = Metric("selection_rate", "income", attribute="age", group="yes", split="test")
    table[key] = np.zeros(table.rows)
    info["source"] = {"roles": {"tasks": ["income > 50000"], "sensitive": [rule]}}
    groups = GroupTable(group_rows("income", "age", ("no", "yes")), {})
    page = report.write_page(tmp_path / "r.html", lay_out(table, info), groups).read_text("utf-8")
    assert [row[0] for row in cells(page)[2:5]] == [rule, f"not ({rule})", rule]
    layout = lay_out(table, info)
    data = payload(layout, layout.shown)
    assert data["tasks"] == ["income > 50000"] and data["attributes"] == [rule]
    assert data["groups"]["rows"][0]["group"] == rule


def test_commands_hold_no_absolute_path(tmp_path):
    def shown(command):
        return relative_command(command, tmp_path / "a b")

    like = f"fairjax train --like '{tmp_path / 'a b'}' --run {{run}}"
    assert shown(like) == "fairjax train --like . --run {run}"
    data = f"fairjax train --data={tmp_path / 'x.csv'} --run {{run}}"
    assert shown(data) == "fairjax train --data=../x.csv --run {run}"
    assert shown("an unclosed ' quote") == "an unclosed ' quote"


def test_hypervolume_has_an_interval_or_is_not_in_the_page(tmp_path):
    table, info = make(runs=20)
    page = tmp_path / "report.html"
    report.write_page(page, lay_out(table, info))
    assert "ypervolume" not in main_of(page)
    table["seed"] = np.arange(table.rows) % 4
    report.write_page(page, lay_out(table, info))
    assert "Hypervolume on test, mean over seeds [95 % interval]" in main_of(page)


def test_report_of_ten_runs_is_light(tmp_path):
    table, info = make(runs=5)
    report.write(tmp_path, table, info, GroupTable(group_rows(), {}))
    assert (tmp_path / "report.html").stat().st_size < 200_000


def test_embedded_json_cannot_leave_its_element():
    value = {name: [name] for name in HOSTILE}
    text = embedded(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_a_large_sweep_is_thinned_but_keeps_every_frontier():
    table, info = make(runs=MOST_POINTS)
    seen = lay_out(table, info)
    rows = seen.shown
    assert len(rows) < 1.1 * MOST_POINTS < len(seen.method_index)
    for panel in (seen.overall, *seen.task_panels):
        for front in panel.fronts.values():
            assert np.isin(front.validation, rows).all()
    chosen = payload(seen, rows)["panels"][0]["fronts"][0]["chosen"]
    np.testing.assert_array_equal(rows[chosen], seen.overall.fronts["vanilla"].validation)


def test_markup_of_the_page_is_ours_alone(tmp_path):
    table, info = hostile()
    info["groups"] = {"run": 7, "method": HOSTILE[3], "minimum": 1.0}
    groups = GroupTable(
        group_rows(HOSTILE[0], HOSTILE[3], (HOSTILE[1], HOSTILE[4])), {HOSTILE[1]: 1.0}
    )
    page = report.write_page(tmp_path / "report.html", lay_out(table, info), groups).read_text(
        "utf-8"
    )
    plain = tmp_path / "plain.html"
    report.write_page(
        plain,
        lay_out(*make(methods=tuple("abcdef"), tasks="stu", attributes="abc")),
        GroupTable(group_rows(), {}),
    )

    def elements(text):
        return [text.count(tag) for tag in ("<script", "</script", "<img", "<b>", "<a ")]

    assert elements(page) == elements(plain.read_text("utf-8"))
    assert (
        "{{script}} %{x} &lt;b&gt;" in page
    )  # a name that looks like a slot of the template stays a name
    assert not re.findall(r"(?:src|href)=[\"']?https?:|url\(", page)


def hostile():
    """A table and a description whose every name tries something."""
    table, info = make(methods=HOSTILE, tasks=HOSTILE[:3], attributes=HOSTILE[3:])
    return table, info | {
        "title": HOSTILE[1],
        "selection": HOSTILE[0],
        "environment": {HOSTILE[3]: HOSTILE[1]},
        "command": f"fairjax train --like '{HOSTILE[3]}' --run {{run}}",
    }


PROBE = """
const wait = setInterval(async () => {
  if (document.body.dataset.ready !== "1") return;
  clearInterval(wait);
  const at = (id) => document.getElementById(id);
  const press = (element, key) =>
    element.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  const set = (id, value, kind) => { at(id).value = value; at(id).dispatchEvent(new Event(kind)); };
  const result = {verdict: at("verdict").textContent,
    command: at("choice").querySelector("code")?.textContent ?? null};
  set("task", "0", "change");
  set("limit", "0.05", "input");
  result.income = at("verdict").textContent;
  result.doubts = at("doubts").textContent;
  result.groups = at("choice").querySelectorAll("details table")[0]?.innerText;
  set("limit", "0", "input");
  result.none = at("verdict").textContent;
  const plot = at("plot-overall");
  press(plot, "ArrowRight");
  result.tip = at("tip").innerText;
  press(plot, "Enter");
  result.pinned = at("tip").innerText;
  press(plot, "Escape");
  result.closed = at("tip").hidden;
  const table = at("run-table");
  const column = (k) => [...table.tBodies[0].rows].map((row) => row.cells[k].textContent);
  const heads = [...table.tHead.rows[0].cells];
  const head = (name) => heads.find((cell) => cell.textContent === name);
  result.heads = heads.map((cell) => cell.textContent);
  result.rows = column(1).map(Number);
  const seed = head("seed");
  const order = () => [column(seed.cellIndex).map(Number), seed.getAttribute("aria-sort")];
  seed.querySelector("button").click();
  result.up = order();
  seed.querySelector("button").click();
  result.down = order();
  set("filter", "run 7", "input");
  result.found = column(1).map(Number);
  table.tBodies[0].querySelector("button")?.click();
  result.expanded = table.tBodies[0].rows[1]?.innerText;
  set("filter", "", "input");
  set("frontier", "validation", "change");
  result.frontier = table.tBodies[0].rows.length;
  at("legend").querySelector("button").click();
  result.pressed = at("legend").querySelector("button").getAttribute("aria-pressed");
  const stray = document.createElement("script");
  stray.textContent = "window.stray = 1";
  document.body.append(stray);
  result.stray = window.stray !== undefined;
  stray.remove();
  result.pwned = window.pwned !== undefined;
  result.strangers =
    document.querySelectorAll("img, iframe, object, embed, a[href^=javascript]").length;
  result.scripts = document.scripts.length;
  const controls = [...document.querySelectorAll("button, input, select, canvas")];
  result.unnamed = controls.filter((e) =>
    !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length;
  const loose = "table:not(:has(caption)), thead th:not([scope])";
  result.loose = document.querySelectorAll(loose).length;
  result.wide = document.documentElement.scrollWidth;
  document.body.textContent = "RESULT" + JSON.stringify(result) + "END";
}, 20);
"""


def browse(page, scratch, width=1280):
    """Open the page, with a probe at its end, in headless Chromium; what the probe found.

    The policy of the copy lets the probe run beside the script of the page.
    """
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if chromium is None:
        pytest.skip("no chromium on this machine")
    text = page.read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src &#39;sha256-{digest}&#39; ", 1)
    end = text.rindex("</body>")
    copy = scratch / "probed.html"
    copy.write_text(f"{text[:end]}<script>{PROBE}</script>{text[end:]}", "utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
        " --disable-background-networking "
        "--disable-component-update --disable-sync --virtual-time-budget=20000 --dump-dom"
    ).split()
    done = subprocess.run(
        [
            chromium,
            *flags,
            f"--window-size={width},1600",
            f"--user-data-dir={scratch / 'profile'}",
            copy.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r"RESULT(.*)END", done.stdout, re.DOTALL)
    assert found, f"the page never became ready: {done.stdout[-500:]!r} {done.stderr[-500:]!r}"
    return json.loads(html.unescape(found.group(1)))


def test_page_in_a_browser_with_hostile_names(tmp_path):
    table, info = hostile()
    info |= {"warnings": [HOSTILE[0]], "notion": HOSTILE[1], "decision": {"text": HOSTILE[4]}}
    info["candidates"] = [candidate(table, info, 7)]
    for level in HOSTILE[:2]:
        key = Metric("selection_rate", HOSTILE[0], attribute=HOSTILE[3], group=level, split="test")
        table[key] = np.linspace(0, 1, table.rows)
    groups = GroupTable(
        group_rows(HOSTILE[0], HOSTILE[3], (HOSTILE[1], HOSTILE[4])), {HOSTILE[1]: 1.0}
    )
    report.write(tmp_path, table, info, groups)
    seen = browse(tmp_path / "report.html", tmp_path)
    assert not seen["pwned"] and not seen["stray"] and seen["strangers"] == 0
    assert seen["scripts"] == 3  # data, ours, the probe
    assert seen["unnamed"] == seen["loose"] == 0
    # an attribute's text is one line in a list of choices, and is kept in a cell
    run = re.search(r"Run (\d+), ", seen["verdict"])[1]
    assert seen["command"] == info["command"].replace("{run}", run)
    assert (
        HOSTILE[0] in seen["tip"] + seen["groups"] and "Copy" in seen["pinned"] and seen["closed"]
    )
    assert seen["rows"] == list(range(50)) and seen["heads"][:2] == ["method", "run"]
    assert seen["heads"].index("learning_rate") > seen["heads"].index("ARE (validation)")
    assert seen["up"] == [sorted(seen["up"][0]), "ascending"]
    assert seen["down"] == [sorted(seen["down"][0], reverse=True), "descending"]
    assert seen["found"] == [7] and "--run 7" in seen["expanded"]
    assert 6 <= seen["frontier"] <= 50 and seen["pressed"] == "false"


def test_page_in_a_browser_without_a_frontier(tmp_path):
    table, info = make()
    change, _ = EMPTY["all diverged"]
    report.write_page(tmp_path / "report.html", lay_out(change(table), info))
    seen = browse(tmp_path / "report.html", tmp_path)
    assert seen["verdict"].startswith("No run that may be taken") and seen["command"] is None
    assert len(seen["rows"]) == 24 and "--run 7" in seen["expanded"]


def cheapest(table, limit):
    """The run that the control names for the first task, by the definition."""
    error = table["validation.error[income]"]
    gap = table[f"validation.{GAP}[income|sex]"]
    is_fitting = ~table["diverged"] & (gap <= limit) & (table["method"] != "vanilla")
    return int(np.argmin(np.where(is_fitting, error, np.inf)))


def test_the_control_names_the_cheapest_run(tmp_path):
    table, info = make(runs=40)
    info["reference_methods"] = ["vanilla"]
    run = cheapest(table, 0.05)
    info["candidates"] = [candidate(table, info, run)]
    report.write_page(tmp_path / "report.html", lay_out(table, info))
    seen = browse(tmp_path / "report.html", tmp_path, width=390)
    assert seen["income"].startswith(f"Run {run}, mtaf")
    gap = table[f"test.{GAP}[income|sex]"][run]
    error = table["validation.error[income]"][run]
    assert f"its gap {number(gap)}" in seen["income"] and number(error) in seen["income"]
    assert ("above the limit" in seen["doubts"]) == (gap > 0.05)
    # the made-up intervals are narrow
    assert abs(error - table["test.error[income]"][run]) > 0.002
    assert "disagree by more than their noise: error of income" in seen["doubts"]
    assert seen["none"].startswith("No run has a validation gap of at most 0 (income, by sex)")
    assert seen["wide"] <= 500  # the narrowest window that the browser opens
