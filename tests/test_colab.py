"""The notebooks: each runs from top to bottom in a kernel of its own, is what its script makes, and
holds no outputs.

After a change of a script: ``jupytext --to ipynb colab/NAME.py``.
"""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COLAB = Path(__file__).resolve().parents[1] / "colab"
SCRIPTS = sorted(COLAB.glob("*.py"))
each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def needs(*modules: str) -> list:
    why = "notebooks are checked with {}: pip install -e '.[test]'"
    return [pytest.importorskip(name, reason=why.format(name)) for name in modules]


def cells(notebook) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_every_notebook_has_a_script():
    assert SCRIPTS and [p.stem for p in SCRIPTS] == sorted(p.stem for p in COLAB.glob("*.ipynb"))


@each
def test_notebook_is_what_its_script_makes(script):
    jupytext, nbformat = needs("jupytext", "nbformat")
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    made = jupytext.read(script, fmt="py:percent")
    assert cells(notebook) == cells(made), f"make it again: jupytext --to ipynb {script.name}"
    assert notebook.metadata.kernelspec == made.metadata.kernelspec


@each
def test_notebook_holds_no_outputs(script):
    (nbformat,) = needs("nbformat")
    code = [
        c
        for c in nbformat.read(script.with_suffix(".ipynb"), as_version=4).cells
        if c.cell_type == "code"
    ]
    assert code and not any(c.outputs or c.execution_count for c in code)


@each
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # of its client
def test_notebook_runs(script, tmp_path, monkeypatch):
    *_, nbclient, nbformat, kernelspec, jupyter_client = needs(
        "matplotlib",
        "equinox",
        "ipykernel",
        "nbclient",
        "nbformat",
        "ipykernel.kernelspec",
        "jupyter_client",
    )
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(
            name, str(tmp_path / name.lower())
        )  # nothing of the user's own, nothing left behind
    kernelspec.write_kernel_spec(tmp_path / "kernels" / "own")  # this very interpreter
    specs = jupyter_client.kernelspec.KernelSpecManager(
        kernel_dirs=[str(tmp_path / "kernels")], ensure_native_kernel=False
    )
    kernel = jupyter_client.AsyncKernelManager(kernel_name="own", kernel_spec_manager=specs)
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    room = tmp_path / "room"
    room.mkdir()
    nbclient.NotebookClient(
        notebook, km=kernel, timeout=300, resources={"metadata": {"path": str(room)}}
    ).execute()
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    assert [p.name for p in room.iterdir() if p.suffix == ".png"], (
        "the picture of conflicts was not written"
    )
    shown = [out for c in code for out in c.outputs if "image/png" in out.get("data", {})]
    assert len(shown) == 3
    del notebook, kernel
    gc.collect()  # its sockets are told here, and not to another test
