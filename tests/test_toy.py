"""The toy problem of the experiments: its losses against float64, its Pareto set, and who gets
there."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "toy_trajectories.py"


@pytest.fixture(scope="module")
def toy():
    spec = importlib.util.spec_from_file_location("toy_trajectories", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pareto(toy) -> np.ndarray:
    return toy.pareto_set(29)


def published(x1: float, x2: float) -> list[float]:
    """Float64, written as the formula stands in the CAGrad paper."""
    f1 = np.log(max(abs(0.5 * (-x1 - 7) - np.tanh(-x2)), 5e-6)) + 6
    f2 = np.log(max(abs(0.5 * (-x1 + 3) + np.tanh(-x2) + 2), 5e-6)) + 6
    g1 = ((-x1 + 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    g2 = ((-x1 - 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    c1, c2 = max(np.tanh(0.5 * x2), 0), max(np.tanh(-0.5 * x2), 0)
    return [f1 * c1 + g1 * c2, f2 * c1 + g2 * c2]


def test_losses_are_the_published_ones(toy):
    points = np.array(
        [
            *toy.STARTS,
            (-5.4, 1.7),
            (3.0, 0.2),
            (0.0, -8.3552),
            (7.0, -8.43),
            (-10.5, -10.5),
            (10.5, 0.01),
        ]
    )
    expected = np.array([published(*p) for p in points])
    np.testing.assert_allclose(
        jax.vmap(toy.losses)(points.astype("f4")), expected, rtol=2e-5, atol=2e-5
    )
    scaled = jax.vmap(toy.losses, in_axes=(0, None))(points.astype("f4"), 0.1)
    np.testing.assert_allclose(scaled, expected * [0.1, 1.0], rtol=2e-5, atol=2e-5)


def test_the_bottom_of_a_valley_is_cut(toy):
    x = np.array([5.0, 50.0], "f4")  # tanh is 1, so the second task's distance is 0
    np.testing.assert_allclose(toy.losses(x)[1], np.log(5e-6) + 6, rtol=1e-6)
    assert np.isfinite(jax.jacobian(toy.losses)(x)).all()


def test_pareto_set(toy, pareto):
    """Its middle is the published -8.3552; no random point of the plane is better in both losses
    than a point of it."""
    np.testing.assert_allclose(pareto[14], [0.0, -8.3552], atol=2e-4)
    np.testing.assert_allclose(pareto[[0, -1], 0], [-7.0, 7.0], atol=1e-4)
    front = np.array([published(*p) for p in pareto])
    others = np.array([published(*p) for p in np.random.default_rng(0).uniform(-11, 11, (4000, 2))])
    assert not np.any(np.all(others[None] < front[:, None] - 1e-6, axis=-1))
    near = pareto[14] + [[0.0, 1.0], [0.0, -0.25], [1.0, 0.0]]
    np.testing.assert_allclose(toy.distance(near, pareto), [1.0, 0.25, 0.0], atol=0.02)


@pytest.mark.parametrize("method", ["mgda", "nash_mtl"])
def test_averaging_stays_in_the_valleys(toy, pareto, method):
    """As in both papers, with the published learning rate."""

    def away(name: str) -> np.ndarray:
        found = toy.paths(name, ((-8.5, 7.5), (9.0, 9.0)), (1.0,), 25_000, 5_000)
        assert found.shape == (1, 2, 6, 2)
        return toy.distance(found[0, :, -1], pareto)

    assert np.all(away("mean_rows") > 5.0)
    assert np.all(away(method) < toy.NEAR)


def test_the_script_writes_a_table_and_a_picture(toy, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(toy, "METHODS", ("mean_rows", "dwa", "famo"))
    toy.main(["--steps", "60", "--out", str(tmp_path)])
    assert capsys.readouterr().out.count("on the Pareto set") == 3
    with (tmp_path / "ends.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(toy.STARTS) * len(toy.SCALES)
    for row in rows:
        end = published(float(row["end_x1"]), float(row["end_x2"]))
        scale = float(row["scale_1"])
        np.testing.assert_allclose(
            [float(row["loss_1"]), float(row["loss_2"])], [scale * end[0], end[1]], atol=2e-3
        )
        moved = np.hypot(
            float(row["end_x1"]) - float(row["start_x1"]),
            float(row["end_x2"]) - float(row["start_x2"]),
        )
        assert 0 < moved < 0.2 and row["reached"] == "no"
    assert (tmp_path / "trajectories.png").read_bytes().startswith(b"\x89PNG")
