"""The notebooks: each runs from top to bottom in a kernel of its own, is what its script makes, and
is stored as it ran, with pictures, without traces of a machine.

CONTRIBUTING.md has the command that makes a notebook again.
"""

from __future__ import annotations

import gc
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
COLAB = ROOT / "colab"
SCRIPTS = sorted(COLAB.glob("*.py"))
LARGEST = 1_000_000  # bytes
NOWHERE = "http://127.0.0.1:9"  # a proxy that answers nobody
MACHINE = re.compile(r"(?<![\w./-])/(?:work|tmp|root|home|Users|usr|opt|mnt|content)\b|[A-Z]:\\\\")
each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def needs(*modules: str) -> list:
    why = "notebooks are checked with {}: pip install -e '.[test]'"
    return [pytest.importorskip(name, reason=why.format(name)) for name in modules]


def stored(script: Path):
    (nbformat,) = needs("nbformat")
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


def cells(notebook) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook) -> list:
    """Outputs of a notebook that are images."""
    outputs = [out for cell in code_cells(notebook) for out in cell.outputs]
    return [out for out in outputs if "image/png" in out.get("data", {})]


def repository() -> str:
    """The address that pyproject.toml has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["urls"]["Repository"]


def test_every_notebook_has_a_script():
    assert SCRIPTS and [p.stem for p in SCRIPTS] == sorted(p.stem for p in COLAB.glob("*.ipynb"))


@each
def test_notebook_is_what_its_script_makes(script):
    jupytext, nbformat = needs("jupytext", "nbformat")
    notebook = stored(script)
    nbformat.validate(notebook)
    made = jupytext.read(script, fmt="py:percent")
    assert cells(notebook) == cells(made), f"make {script.name} again, see CONTRIBUTING.md"
    assert notebook.metadata.kernelspec == made.metadata.kernelspec


@each
def test_notebook_is_stored_as_it_ran(script):
    notebook = stored(script)
    code = code_cells(notebook)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [out for cell in code for out in cell.outputs]
    assert not [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"]
    assert pictures(notebook)


@each
def test_notebook_has_no_trace_of_a_machine(script):
    notebook = stored(script)
    assert not any("execution" in cell.metadata for cell in notebook.cells)  # its times
    for out in (out for cell in code_cells(notebook) for out in cell.outputs):
        texts = {kind: text for kind, text in out.get("data", {}).items() if "image" not in kind}
        assert not MACHINE.search(json.dumps([out.get("text"), texts]))
    assert script.with_suffix(".ipynb").stat().st_size < LARGEST


@pytest.mark.parametrize("text", ["in /mnt/a", "'/home/x.csv'", "C:\\\\Users", "(/content/b)"])
def test_a_trace_of_a_machine_is_seen(text):
    assert MACHINE.search(text)


def test_an_address_is_no_trace_of_a_machine():
    assert not MACHINE.search("https://x.org/home/work and 1/tmp and error/root mean")


@each
def test_addresses_are_those_of_the_project(script):
    address = repository()
    first, *_ = stored(script).cells
    owner = address.removeprefix("https://github.com/")
    badge = f"https://colab.research.google.com/github/{owner}/blob/main/colab/{script.stem}.ipynb"
    assert f"({badge})" in first.source
    text = script.read_text(encoding="utf-8")
    mentioned = re.findall(r"https://github\.com/[\w.-]+/fairjax(?![\w.-])", text)
    assert set(mentioned) == {address}
    for path in re.findall(r"blob/main/([\w./-]+\.(?:md|ipynb|py))", text):
        assert (ROOT / path).is_file(), path


def test_all_notebooks_install_alike():
    installs = set()
    for script in SCRIPTS:
        first, *_ = code_cells(stored(script))
        installs.add(first.source)
    (install,) = installs
    assert f"git+{repository()}" in install
    assert "-U" not in install and "jax==" not in install  # the jax of the image stays


@each
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # of its client
def test_notebook_runs(script, tmp_path, monkeypatch):
    """On real data where they are, otherwise on made-up rows: nothing is downloaded."""
    *_, nbclient, kernelspec, jupyter_client = needs(
        "matplotlib", "equinox", "ipykernel", "nbclient", "ipykernel.kernelspec", "jupyter_client"
    )
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(
            name, str(tmp_path / name.lower())
        )  # nothing of the user's own, nothing left behind
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, NOWHERE)
    beside = ROOT.parent / "shared" / "data"
    if beside.is_dir() and "FAIRJAX_DATA" not in os.environ:
        monkeypatch.setenv("FAIRJAX_DATA", str(beside))
    kernelspec.write_kernel_spec(tmp_path / "kernels" / "own")  # this very interpreter
    specs = jupyter_client.kernelspec.KernelSpecManager(
        kernel_dirs=[str(tmp_path / "kernels")], ensure_native_kernel=False
    )
    kernel = jupyter_client.AsyncKernelManager(kernel_name="own", kernel_spec_manager=specs)
    notebook = stored(script)
    shown = len(pictures(notebook))
    room = tmp_path / "room"
    room.mkdir()
    nbclient.NotebookClient(
        notebook, km=kernel, timeout=600, resources={"metadata": {"path": str(room)}}
    ).execute()
    assert all(cell.execution_count for cell in code_cells(notebook))
    assert len(pictures(notebook)) == shown
    del notebook, kernel
    gc.collect()  # its sockets are told here, and not to another test
