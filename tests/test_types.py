"""What a type checker says of the library, and of the programs of its users."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_site import README, blocks, read

import fairjax

ROOT = Path(fairjax.__file__).parents[1]
KNOWN = 0.98  # of the exported names, those whose types are known to the last part
# of classes that derive from those of click, flax or TFDS, which do not say all of their types
INHERITED = ("Type of base class", "Type of metaclass")
CLAUSE = "fairjax.data.builders.error"  # the name of an except clause

PROGRAM = """
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fairjax
from fairjax.core.tables import Table
from fairjax.data import Prepared
from fairjax.gradients import LinkState
from fairjax.metrics import demographic_parity_difference
from fairjax.notions import Notion
from fairjax.study import Results, SavedModel

roles = fairjax.Roles(tasks=("paid", "promoted"), sensitive=("sex",))
data = fairjax.from_table("people.csv", roles, seed=1)
assert_type(data, Prepared)
fairjax.from_table({"age": [30, 40], "sex": ["f", None], "paid": np.zeros(2)}, roles)

gap = fairjax.notions.get("mmd")
assert_type(gap, Notion)
results = fairjax.run_study(
    data,
    [fairjax.vanilla(), fairjax.baseline(gap), fairjax.mta_f(gap)],
    model=fairjax.shared_bottom(data.spec, trunk=(8,), head=(4,)),
    config=fairjax.StudyConfig(runs=4, reference_seeds=2, epochs=2),
)
assert_type(results, Results)
assert_type(results.table, Table)
assert_type(results.table["test.arfg"], np.ndarray)
best = fairjax.report.knee_run(results.table, results.info)
assert_type(best, int | None)
if best is not None:
    model, scores = fairjax.study.model_of_run(data, results, best)
    assert_type(model, SavedModel)
    model.save("model")
    assert_type(fairjax.load_model("model").predict("new.csv"), dict[str, np.ndarray])

params = {"trunk": jnp.zeros(3), "heads": jnp.zeros(2)}
tx = optax.chain(fairjax.pcgrad(rows=2, per="leaf"), optax.adamw(1e-3))
assert_type(fairjax.pcgrad(2), optax.GradientTransformationExtraArgs)
assert_type(fairjax.link_states(tx.init(params)), list[LinkState])
assert_type(fairjax.link_states(tx.init(params))[0].cosines, jax.Array)


def losses(params: dict[str, jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.sum(params["trunk"] * x), jnp.sum(params["heads"])


values, rows = fairjax.value_and_rows(losses)(params, jnp.ones(3))
columns = (jnp.ones(4), jnp.eye(4), jnp.ones(4))
assert_type(fairjax.rate_gap(*columns), jax.Array)

repair = fairjax.Repair(amount=0.5, scale="logit").fit([0.1, 0.9], sensitive_features=["f", "m"])
assert_type(repair, fairjax.Repair)
assert_type(repair.transform(jnp.ones(2), sensitive_features={"sex": ["f", None]}), np.ndarray)
decided = [0, 1, 1]
difference = demographic_parity_difference(decided, decided, sensitive_features=["f", "f", "m"])
assert_type(difference, float)
"""

# one mistake a line
MISTAKES = """
fairjax.pcgard(rows=2)
fairjax.pcgrad(rows="2")
fairjax.pcgrad(2, measures=None)
fairjax.Roles(task=("paid",), sensitive=("sex",))
fairjax.from_table(3, fairjax.Roles(tasks=("paid",), sensitive=("sex",)))
fairjax.StudyConfig(epochs="2")
fairjax.Repair(amuont=0.5)
fairjax.Repair().fit([0.1, 0.9], sensitive_features=None).transform_all([0.1])
fairjax.rate_gap("f", "m", 1)
fairjax.link_states(())[0].weight
fairjax.load_model("model").predict("new.csv").probability
fairjax.notions.gett("mmd")
"""


def pyright(*arguments: str, folder: Path) -> dict[str, Any]:
    """What pyright says of the Python that runs this test."""
    if importlib.util.find_spec("pyright"):
        command = [sys.executable, "-m", "pyright"]
    elif shutil.which("pyright"):
        command = ["pyright"]
    else:
        pytest.skip("the type checker is installed with: pip install -e '.[test]'")
    environment = {
        **os.environ,
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command += ["--outputjson", "--pythonpath", sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def complaints(report: dict[str, Any]) -> list[tuple[str, int, str]]:
    """File, line and text of every error."""
    found = []
    for entry in report["generalDiagnostics"]:
        if entry["severity"] == "error":
            line = entry["range"]["start"]["line"] + 1
            found.append((Path(entry["file"]).name, line, entry["message"]))
    return found


def test_the_names_of_the_front_door_are_those_that_type_checkers_read():
    stub = ast.parse((ROOT / "fairjax" / "__init__.pyi").read_text())
    imported = {
        entry.asname: (node.module, entry.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for entry in node.names
    }
    rooms = {room: ("fairjax", room) for room in fairjax.ROOMS}
    names = {name: (f"fairjax.{room}", name) for name, room in fairjax._ROOM.items()}
    assert imported == rooms | names


@pytest.mark.slow
def test_the_library_passes():
    report = pyright(folder=ROOT)
    assert report["summary"]["filesAnalyzed"] > 300
    assert complaints(report) == []


@pytest.mark.slow
def test_the_types_of_public_names_are_known():
    report = pyright("--verifytypes", "fairjax", "--ignoreexternal", folder=ROOT)
    types = report["typeCompleteness"]
    unknown = {
        symbol["name"]
        for symbol in types["symbols"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
        for problem in symbol["diagnostics"]
        if not problem["message"].startswith(INHERITED)
    }
    assert len(types["symbols"]) > 3000
    assert unknown <= {CLAUSE}
    assert types["completenessScore"] >= KNOWN


@pytest.mark.slow
def test_a_type_checker_is_content_with_programs_of_users(tmp_path):
    programs = [PROGRAM, *(code for _, code in blocks(read(README)))]
    assert len(programs) == 5
    for number, program in enumerate(programs):
        (tmp_path / f"program_{number}.py").write_text(program)
    assert complaints(pyright(str(tmp_path), folder=tmp_path)) == []


@pytest.mark.slow
def test_a_type_checker_finds_mistakes_of_users(tmp_path):
    lines = ["import fairjax", *MISTAKES.strip().splitlines()]
    (tmp_path / "program.py").write_text("\n".join(lines))
    found = {line for _, line, _ in complaints(pyright(str(tmp_path), folder=tmp_path))}
    assert found == set(range(2, len(lines) + 1))
