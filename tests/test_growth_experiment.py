"""The benchmark of growth: its exponents, its table and its made-up runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fairjax.report import lay_out

FILE = Path(__file__).resolve().parents[1] / "experiments" / "bench_growth.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("bench_growth", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_exponent_is_the_power_of_the_last_step(benchmark):
    sizes = [10.0, 100.0, 1000.0]
    assert benchmark.exponent(sizes, [1.0, 3.0, 3.0 * 10**1.5]) == pytest.approx(1.5)
    assert np.isnan(benchmark.exponent(sizes[:1], [1.0]))


def test_a_line_of_the_table_has_all_points_by_size(benchmark):
    values = {1000: "2.0", 10: "0.02", 100: "0.1"}
    found = [
        {"axis": "rows", "what": "evaluation", "size": size, "value": value}
        for size, value in values.items()
    ]
    line = benchmark.summary(found).splitlines()[-1]
    assert line == "| rows | evaluation | 10 | 1,000 | 0.02, 0.1, 2 | 1.30 |"
    pairs = [{"data": "d", "runs": 16, "epochs": 10, "cpu": cpu} for cpu in (10, 15)]
    assert (
        benchmark.ray_summary(pairs).splitlines()[-1] == "| d | 16 | 10 | 10.0 | 15.0 | 5.0 (50%) |"
    )


def test_a_made_up_table_can_be_laid_out(benchmark):
    table, info = benchmark.table_of(50)
    layout = lay_out(table, info)
    assert layout.relative and len(layout.methods) == 2 and layout.overall.runs > 40
