"""Tables of many runs: parquet in place of CSV, read lazily; a page and figures of a sample."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from fairjax import report
from fairjax.core import tables
from fairjax.core.keys import HParam, Metric
from fairjax.core.tables import (
    Table,
    has_table,
    read_csv,
    read_table,
    table_file,
    write_csv,
    write_table,
)
from fairjax.core.types import DataError
from fairjax.report import lay_out, sample, summarize

GAP = "true_positive_rate_difference"
TASKS, ATTRIBUTES = ("a", "b"), ("sex", "race")
INFO = {"tasks": list(TASKS), "attributes": list(ATTRIBUTES), "gap": GAP}
INFO["reference_methods"] = ["single_task"]


def runs(count, seed=0):
    """A table of so many runs with metrics of two tasks and two attributes."""
    rng = np.random.default_rng(seed)
    method = np.array(["single_task", "vanilla", "=mta_f"])[np.arange(count) % 3]
    table = Table({"run": np.arange(count), "method": method})
    table["point"] = np.arange(count) // 2
    table["seed"] = np.arange(count) % 2
    table["diverged"] = rng.random(count) < 0.1
    table[HParam("lam", "a")] = rng.uniform(0, 5, count).astype(np.float32)
    table[HParam("width")] = np.full(count, 3)
    for split in ("validation", "test"):
        subject = Metric("are", split=split)
        table[subject] = rng.uniform(0.9, 1.2, count).astype(np.float32)
        table[subject._replace(metric="arfg")] = rng.uniform(0, 1, count)
        for task in TASKS:
            key = Metric("error", task, split=split)
            table[key] = rng.uniform(0.1, 0.2, count).astype(np.float32)
            for attribute in ATTRIBUTES:
                key = Metric(GAP, task, attribute=attribute, split=split)
                table[key] = rng.uniform(0, 0.1, count)
    for key in table.metrics:
        table[key][::7] = np.nan
    return table


def same(one, other):
    """Whether two tables have the same columns, up to the precision of CSV."""
    assert list(one) == list(other) and one.rows == other.rows
    for key, values in one.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, other[key], rtol=1e-6)
        else:
            np.testing.assert_array_equal(values, other[key])


def test_many_runs_are_parquet_and_few_are_csv(tmp_path, monkeypatch):
    table = runs(50)
    assert not has_table(tmp_path)
    assert write_table(tmp_path, table).name == "table.csv" == table_file(50)
    same(table, read_table(tmp_path))
    monkeypatch.setattr(tables, "MOST_IN_CSV", 49)
    path = write_table(tmp_path, table)
    assert path.name == "table.parquet" == table_file(50) and has_table(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["table.parquet"]  # no other, older table
    stored = read_table(tmp_path)
    same(table, stored)
    for key, values in stored.items():  # floats in their own precision, and every bit of them
        if values.dtype.kind == "f" and key != HParam("width"):
            assert values.dtype == table[key].dtype
            np.testing.assert_array_equal(values, table[key])
    content = path.read_bytes()
    assert write_table(tmp_path, stored) == path and path.read_bytes() == content
    elsewhere = write_table(tmp_path / "elsewhere", stored)
    assert elsewhere.read_bytes() == content


def test_parquet_is_read_column_by_column(tmp_path, monkeypatch):
    from pyarrow import parquet

    monkeypatch.setattr(tables, "MOST_IN_CSV", 0)
    monkeypatch.setattr(tables, "ROW_GROUP", 16)
    table = runs(50)
    write_table(tmp_path, table)
    read = []

    class Watched(parquet.ParquetFile):
        def read(self, columns):
            read.extend(columns)
            return super().read(columns)

    monkeypatch.setattr(parquet, "ParquetFile", Watched)
    stored = read_table(tmp_path)
    assert stored.rows == 50 and len(stored) == len(table) and stored.metrics == table.metrics
    assert "test.are" in stored and "test.nothing" not in stored and stored.get("no") is None
    assert read == []
    np.testing.assert_array_equal(stored["test.are"], table["test.are"])
    np.testing.assert_array_equal(stored.get("method"), table["method"])
    assert read == ["test.are", "method"]
    frame = stored.to_pandas()
    np.testing.assert_array_equal(frame["seed"], table["seed"])


def test_a_damaged_parquet_is_one_complaint(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MOST_IN_CSV", 0)
    path = write_table(tmp_path, runs(500))
    content = path.read_bytes()
    for spoiled in (content[: len(content) // 2], b"", b"words", content[:-9] + bytes(9)):
        path.write_bytes(spoiled)
        with pytest.raises(DataError, match="table.parquet: damaged") as error:
            read_table(tmp_path)
        assert "\n" not in str(error.value)
    path.write_bytes(content[:400] + bytes(2000) + content[2400:])
    with pytest.raises(DataError, match="table.parquet: damaged"):
        list(read_table(tmp_path).values())


def test_csv_has_the_same_bytes_however_many_rows_are_text_at_a_time(tmp_path, monkeypatch):
    table = runs(50)
    whole = write_csv(tmp_path / "whole.csv", table)
    same(table, read_csv(whole))
    monkeypatch.setattr(tables, "BLOCK", 7)
    parts = write_csv(tmp_path / "parts.csv", table)
    assert parts.read_bytes() == whole.read_bytes()
    same(table, read_csv(whole))
    whole.write_text(whole.read_text() + "1,2\n")
    with pytest.raises(DataError, match="row 51 has 2 cells"):
        read_csv(whole)


def cheapest(table, limit, tasks, attributes):
    """The least validation error with a worst gap of at most the limit, by a loop over runs."""
    found = np.inf
    for row in range(table.rows):
        if table["diverged"][row] or table["method"][row] == "single_task":
            continue
        gaps = [
            table[Metric(GAP, task, attribute=attribute, split="validation")][row]
            for task in tasks
            for attribute in attributes
        ]
        key = Metric("error", tasks[0], split="validation")
        key = key if len(tasks) == 1 else Metric("are", split="validation")
        if max(gaps) <= limit:
            found = min(found, float(table[key][row]))
    return found


def test_a_sample_has_every_frontier_and_every_answer(monkeypatch):
    table = runs(3000)
    monkeypatch.setattr(sample, "MOST_POINTS", 100)
    layout = lay_out(table, INFO | {"candidates": [{"run": 2999}]})
    rows = layout.shown
    assert (np.diff(rows) > 0).all() and 100 <= len(rows) < 400 and rows[-1] == 2999
    for panel in (layout.overall, *layout.task_panels):
        for front in panel.fronts.values():
            assert np.isin(np.concatenate([front.validation, front.test]), rows).all()
    shown = Table({key: values[rows] for key, values in table.items()})
    asked = itertools.product(
        (TASKS, TASKS[:1], TASKS[1:]), (ATTRIBUTES, ATTRIBUTES[:1], ATTRIBUTES[1:])
    )
    for tasks, attributes in asked:
        for limit in (0.03, 0.06, 0.1):
            best = cheapest(table, limit, tasks, attributes)
            assert np.isfinite(best) and cheapest(shown, limit, tasks, attributes) == best


def test_copies_of_a_run_change_neither_frontiers_nor_weight(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "MOST_POINTS", 100)
    once = runs(60)
    many = Table({key: np.tile(values, 50) for key, values in once.items()})
    many["run"] = np.arange(many.rows)
    one, all_copies = lay_out(once, INFO), lay_out(many, INFO)
    for panel, tiled in zip(
        (one.overall, *one.task_panels),
        (all_copies.overall, *all_copies.task_panels),
        strict=True,
    ):
        for method, front in panel.fronts.items():
            for name in ("validation", "test", "line"):
                expected, found = getattr(front, name), getattr(tiled.fronts[method], name)
                np.testing.assert_array_equal(found, expected)
    methods = [summarize(layout)["methods"] for layout in (one, all_copies)]
    for method, found in methods[0].items():
        for selected in ("selected_on_validation", "selected_on_test"):
            assert methods[1][method][selected] == found[selected]
    assert len(all_copies.shown) < 100 + 2 * 60


def test_a_report_of_parquet_is_that_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MOST_IN_CSV", 0)
    monkeypatch.setattr(sample, "MOST_POINTS", 100)
    table = runs(600)
    table[HParam("width")] = np.full(600, 3.0)
    paths = report.write(tmp_path, table, INFO)
    written = {path.name: path.read_bytes() for path in paths}
    assert "table.parquet" in written and "table.csv" not in written
    page = written["report.html"].decode()
    assert 'href="table.parquet"' in page and "table.csv" not in page
    assert " of 600 runs: every frontier, every cheapest run, and a sample." in page
    again = report.write(tmp_path, read_table(tmp_path), INFO)
    assert written == {path.name: path.read_bytes() for path in again}


@pytest.mark.slow
def test_commands_read_a_sweep_whose_table_is_parquet(tmp_path):
    small = "--methods vanilla --runs 4 --epochs 2 --trunk 4 --head 2 --devices 1".split()
    program = (
        "import sys\nfrom fairjax.core import tables\nfrom fairjax.cli import main\n"
        "tables.MOST_IN_CSV = 5\nmain(sys.argv[1:])"
    )

    def run(*arguments):
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("frontier", *small, "--out", "out")
    assert read_table(tmp_path / "out").rows == 14
    files = json.loads((tmp_path / "out" / "study.json").read_text())["checksums"]
    assert set(files) == {"table.parquet", "groups.csv"}
    content = (tmp_path / "out" / "table.parquet").read_bytes()
    run("report", "out")
    run("frontier", *small, "--out", "out", "--resume")
    assert (tmp_path / "out" / "table.parquet").read_bytes() == content
    said = run("train", "--like", "out", "--run", "11", "--out", "model")
    assert "metrics are those of run 11 in out/table.parquet" in said
