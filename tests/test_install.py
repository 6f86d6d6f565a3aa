"""What pip would do: into an image with an older jax, and into empty environments.

The package index is asked, so this runs only with FAIRJAX_NETWORK=1 (about eight minutes on two
busy cores): ``FAIRJAX_NETWORK=1 pytest tests/test_install.py``. An interpreter that is not on PATH
may be named by its own variable, FAIRJAX_PYTHON3_12 for instance; a version that is not found is
skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(
        os.environ.get("FAIRJAX_NETWORK") != "1",
        reason="asks a package index; set FAIRJAX_NETWORK=1",
    ),
]
# The published freeze of the Colab image, as far as fairjax meets it (Python 3.13, August 2026).
IMAGE = {
    "jax": "0.7.2",
    "jaxlib": "0.7.2",
    "flax": "0.11.2",
    "optax": "0.2.8",
    "numpy": "2.1.3",
    "tensorflow-datasets": "4.9.10",
    "orbax-checkpoint": "0.12.4",
}
SINKHORN = """
import jax, jax.numpy as jnp
from ott.geometry import pointcloud
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn
x, y = jnp.array([[0.0], [1.0]]), jnp.array([[2.0], [3.0]])
solve = jax.jit(lambda x: sinkhorn.Sinkhorn()(linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=1e-2))))
out = solve(x)
cost = float((out.matrix * out.geom.cost_matrix).sum())
assert bool(out.converged) and abs(cost - 4.0) < 1e-2, cost
"""


def interpreter(version: str) -> str:
    found = os.environ.get(f"FAIRJAX_PYTHON{version.replace('.', '_')}") or shutil.which(
        f"python{version}"
    )
    if not found and version == f"{sys.version_info.major}.{sys.version_info.minor}":
        found = sys.executable
    return found or pytest.skip(f"no python{version} at hand")


def environment(folder: Path, version: str) -> Path:
    """A fresh virtual environment; returns its python."""
    subprocess.run([interpreter(version), "-m", "venv", folder], check=True)
    return next(p for p in (folder / "bin/python", folder / "Scripts/python.exe") if p.exists())


def pip(python: Path, *args: str) -> None:
    done = subprocess.run([python, "-m", "pip", *args], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def would_install(python: Path, *requirements: str) -> dict[str, str]:
    """``{name: version}`` of what pip would put in, or put in the place of what is there."""
    report = python.parent / "report.json"
    pip(python, "install", "--dry-run", "--quiet", "--report", str(report), *requirements)
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {item["name"].lower().replace("_", "-"): item["version"] for item in found}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    python = environment(tmp_path_factory.mktemp("image") / "venv", "3.13")
    pip(python, "install", "--quiet", *(f"{name}=={version}" for name, version in IMAGE.items()))
    return python


@pytest.mark.parametrize("extra", ["", "[ot]", "[data]", "[plot]", "[cli]", "[all]", "[test]"])
def test_an_image_with_an_older_jax_keeps_everything_it_has(image, extra):
    new = would_install(image, f".{extra}")
    shown = subprocess.run(
        [image, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    there = {item["name"].lower().replace("_", "-") for item in json.loads(shown.stdout)}
    assert "fairjax" in new
    assert not there & set(new), {name: new[name] for name in there & set(new)}


def test_the_ceiling_on_lineax_is_what_keeps_it(image):
    """The control: bare ott-jax does replace jax. When this fails, the ceiling can go."""
    assert "jax" in would_install(image, "ott-jax>=0.6.0")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_an_empty_environment_gets_the_newest_jax_with_every_extra(tmp_path, version):
    python = environment(tmp_path / "venv", version)
    newest = would_install(python, "jax")["jax"]
    for extra in ("", "[all]", "[test]"):
        assert would_install(python, f".{extra}")["jax"] == newest


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_ott_solves_with_the_newest_jax_and_the_ceiling(tmp_path, version):
    python = environment(tmp_path / "venv", version)
    pip(python, "install", "--quiet", ".[ot]")
    done = subprocess.run([python, "-c", SINKHORN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_ott_solves_in_the_image_after_a_real_installation(image):  # last: it changes the image
    pip(image, "install", "--quiet", ".[ot]")
    done = subprocess.run([image, "-c", SINKHORN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    versions = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {list(IMAGE)}}}))"
    shown = subprocess.run([image, "-c", versions], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout) == IMAGE
