"""The house itself: what an import loads, which way imports run, what the library never does, what
is promised.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import fairjax

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "fairjax"
FILES = sorted(LIBRARY.rglob("*.py"))
# The order of the flow. A file imports only from its own room and from rooms before it.
STREET = fairjax.ROOMS
HEAVY = {"flax", "ott", "tensorflow_datasets", "orbax", "pandas", "matplotlib"}
README = (ROOT / "README.md").read_text(encoding="utf-8")


# ---- what an import loads ------------------------------------------------------------------------


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_importing_fairjax_loads_nothing_heavy():
    assert not HEAVY & loaded_by("import fairjax")


def test_the_probe_sees_a_heavy_import():
    assert "pandas" in loaded_by("import fairjax, pandas")


# ---- direction of imports ------------------------------------------------------------------------


def imported(node: ast.AST, here: tuple[str, ...]) -> Iterator[str]:
    """Rooms that a statement of module ``here`` imports from; a name of the front door counts as
    its own room.
    """
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = [*here[: len(here) - node.level]] if node.level else []
        base += node.module.split(".") if node.module else []
        modules = [".".join([*base, alias.name]) for alias in node.names]
    else:
        return
    for module in modules:
        first, *rest = module.split(".")
        if first == "fairjax" and rest and not rest[0].startswith("__"):
            yield (
                fairjax._ROOM.get(rest[0], rest[0]).partition(".")[0]
                if rest[0] not in STREET
                else rest[0]
            )


def uphill(source: str, path: Path) -> list[str]:
    """Imports of a file at ``path`` (relative to the package) from later rooms."""
    here = ("fairjax", *path.with_suffix("").parts)
    room = here[1]
    assert room in STREET, f"{path} stands outside the street"
    found = [
        (node.lineno, other)
        for node in ast.walk(ast.parse(source))
        for other in imported(node, here)
        if isinstance(node, ast.stmt)
    ]
    return [
        f"{path}:{line} {room} -> {other}"
        for line, other in found
        if other not in STREET or STREET.index(other) > STREET.index(room)
    ]


def test_imports_run_down_the_street():
    doors = (LIBRARY / "__init__.py", LIBRARY / "__main__.py")
    inner = [path for path in FILES if path not in doors]
    assert not [
        line for path in inner for line in uphill(path.read_text(), path.relative_to(LIBRARY))
    ]


@pytest.mark.parametrize(
    "planted",
    [
        "import fairjax.training",
        "from fairjax.training import grid",
        "from fairjax import training",
        "from fairjax import grid",
        "from ..training import grid",
        "from .. import training",
        "def later():\n    from fairjax.methods import mta_f",
        "from fairjax.nowhere import thing",
    ],
)
def test_a_planted_uphill_import_is_caught(planted):
    assert uphill(planted, Path("notions/rates.py"))


@pytest.mark.parametrize(
    "planted",
    [
        "from fairjax.core.masked import divide",
        "from . import conditions",
        "from .conditions import negatives",
        "from fairjax.notions import conditions",
        "from ..losses import row_losses",
        "from fairjax import Spec, __version__",
        "import jax.sweep",
    ],
)
def test_an_import_from_an_earlier_room_passes(planted):
    assert not uphill(planted, Path("notions/rates.py"))


def test_a_room_outside_the_street_is_caught():
    with pytest.raises(AssertionError, match="outside the street"):
        uphill("", Path("helpers.py"))


def test_the_front_door_opens_no_room():
    tree = ast.parse((LIBRARY / "__init__.py").read_text())
    assert not [room for node in ast.walk(tree) for room in imported(node, ("fairjax", "__init__"))]


# ---- what the library never does -----------------------------------------------------------------

GENERATORS = {
    "default_rng",
    "Generator",
    "RandomState",
    "SeedSequence",
    "BitGenerator",
    "PCG64",
    "Philox",
}
# The command line owns its process: it may print, it makes one virtual device per core, and it says
# where compiled programs are kept.
_SETTINGS = (
    "jax_num_cpu_devices",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)
ALLOWED = {"cli": {"print", *(f"config.update({name!r})" for name in _SETTINGS)}}


def misdeed(node: ast.AST) -> str:
    """What a node changes or reads of the state shared by the whole process, or nothing."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if re.search(r"(^|\.)config\.update$", called):
            return f"config.update({ast.unparse(node.args[0]) if node.args else ''})"
        return called if called == "print" else ""
    if isinstance(node, ast.Attribute):
        return ast.unparse(node) if ast.unparse(node.value) in ("np.random", "numpy.random") else ""
    if isinstance(node, ast.Import):
        return "random" if "random" in {alias.name for alias in node.names} else ""
    if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
        return " ".join({alias.name for alias in node.names} - GENERATORS)
    return ""


def misdeeds(source: str, room: str = "") -> list[str]:
    found = [(getattr(node, "lineno", 0), misdeed(node)) for node in ast.walk(ast.parse(source))]
    return [
        f"{line}: {deed}"
        for line, deed in found
        if deed
        and deed not in ALLOWED.get(room, ())
        and deed.rpartition("random.")[2] not in GENERATORS
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_no_global_state_and_no_print(path):
    assert not misdeeds(path.read_text(), path.relative_to(LIBRARY).parts[0].removesuffix(".py"))


@pytest.mark.parametrize(
    "planted",
    [
        "import jax\njax.config.update('jax_enable_x64', True)",
        "from jax import config\nconfig.update('jax_enable_x64', True)",
        "print('done')",
        "import numpy as np\nnp.random.seed(0)",
        "import numpy as np\nx = np.random.normal(size=3)",
        "import random",
        "from numpy.random import normal",
        "from random import Random",
    ],
)
def test_a_planted_misdeed_is_caught(planted):
    assert misdeeds(planted)


def test_keys_and_seeded_generators_pass():
    assert not misdeeds(
        "jax.random.normal(key)\nnp.random.default_rng(0).normal()\nmodel.print()\nconfigure.update(a)"
    )


def test_the_command_line_may_print_and_make_devices_and_no_more():
    assert not misdeeds("print(1)\njax.config.update('jax_num_cpu_devices', 2)", "cli")
    assert misdeeds("jax.config.update('jax_enable_x64', True)", "cli")


# ---- what stands at the front door ---------------------------------------------------------------


@pytest.mark.parametrize("name", fairjax.__all__)
def test_every_public_name_resolves_and_is_documented(name):
    value = getattr(fairjax, name)
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return
    doc = value.__doc__ or ""
    made_up = doc.startswith(
        f"{value.__name__}("
    )  # what NamedTuple and dataclass write when nobody else does
    assert doc.strip() and not made_up


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nowhere'"):
        fairjax.nowhere  # noqa: B018


# ---- papers of the house -------------------------------------------------------------------------


def test_versions_and_licence_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert project["dynamic"] == ["version"]  # it stands in fairjax/__init__.py
    assert re.search(r"^version: (\S+)$", citation, re.M)[1] == fairjax.__version__
    assert project["license"] == "Apache-2.0" == re.search(r"^license: (\S+)$", citation, re.M)[1]
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence


def test_the_five_papers_are_cited():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert set(re.findall(r"value: \"arXiv:(\S+)\"", citation)) == {
        "2106.02705",
        "2305.12671",
        "2306.10155",
        "2310.13746",
        "2512.00469",
    }


def test_types_are_shipped():
    assert (LIBRARY / "py.typed").is_file()


def test_ci_runs_what_the_readme_says():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    install, test = re.findall(r"^(?:pip install|pytest) .*$", script, re.M)
    promised = f"{install} && {test}".replace(" --quiet", "").replace(' "$@"', "")
    assert f'{promised} -m "not slow"' in README  # the slow tests too
    elsewhere = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    for command in f'{promised} -m "not slow"'.split(" && "):
        assert f"- run: {command}" in elsewhere
    assert os.access(ROOT / ".ci" / "run", os.X_OK) or os.name == "nt"


def test_tests_that_are_listed_as_slow_exist():
    _, *listed = (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines()
    assert listed == sorted(set(listed))
    for name in listed:
        file, function = name.split("::")
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {function}(" in text, name


def test_ruff_is_content():
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_ruff_has_nothing_to_format():
    command = [sys.executable, "-m", "ruff", "format", "--no-cache", "--check", "."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


# ---- names and paths -------------------------------------------------------------------------


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def resolved(path: str):
    """The object that a dotted path names, modules imported on the way."""
    first, *names = path.split(".")
    value = importlib.import_module(first)
    for depth, name in enumerate(names, 2):
        if not hasattr(value, name):
            importlib.import_module(".".join(path.split(".")[:depth]))
        value = getattr(value, name)
    return value


def hidden(package: str) -> list[str]:
    """Modules of a package that a public name of the package hides."""
    module = importlib.import_module(package)
    return [
        name
        for _, name, _ in pkgutil.iter_modules(module.__path__)
        if not inspect.ismodule(getattr(module, name, sys))
    ]


PACKAGES = sorted({module_name(path) for path in FILES if path.name == "__init__.py"})


@pytest.mark.parametrize("package", PACKAGES)
def test_no_function_hides_a_module(package):
    assert not hidden(package)


@pytest.mark.parametrize("room", fairjax.ROOMS)
def test_every_room_opens_by_its_name_in_a_fresh_process(room):
    code = f"import fairjax; print(fairjax.{room}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == f"fairjax.{room}", done.stderr


def test_a_door_of_about_thirty_names():
    assert 25 <= len(fairjax.__all__) <= 40


REFERENCE = re.compile(
    r":(?:func|class|mod|meth|data):`~?(fairjax[\w.]*)`|``?(fairjax(?:\.\w+)+)``?"
)


IN_ROOM = re.compile(rf"`((?:{'|'.join(fairjax.ROOMS)})\.(?!html\b)[a-zA-Z_]\w*(?:\.\w+)*)")


def references(text: str) -> set[str]:
    paths = {"".join(match) for match in REFERENCE.findall(text)}
    return paths | {f"fairjax.{path}" for path in IN_ROOM.findall(text)}


PROSE = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in path.parts]


@pytest.mark.parametrize("path", [*FILES, ROOT / "README.md", *PROSE], ids=lambda p: p.name)
def test_paths_in_prose_resolve(path):
    broken = []
    for name in references(path.read_text(encoding="utf-8")):
        try:
            resolved(name)
        except (ImportError, AttributeError):
            broken.append(name)
    assert not broken


def test_a_broken_path_is_seen():
    text = "see :func:`fairjax.nowhere.thing`, ``fairjax.data.load`` and `notions.mmd(kernel)`"
    assert references(text) == {
        "fairjax.nowhere.thing",
        "fairjax.data.load",
        "fairjax.notions.mmd",
    }
    with pytest.raises(ImportError):
        resolved("fairjax.nowhere.thing")


def missing_imports(code: str) -> list[str]:
    """Names that ``from fairjax... import`` asks for and that are not there."""
    missing = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("fairjax"):
            continue
        for alias in node.names:
            try:
                resolved(f"{node.module}.{alias.name}")
            except (ImportError, AttributeError):
                missing.append(f"{node.module}.{alias.name}")
    return missing


SCRIPTS = sorted([*(ROOT / "experiments").glob("*.py"), *(ROOT / "colab").glob("*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_what_exists(path):
    assert not missing_imports(path.read_text(encoding="utf-8"))


def test_a_missing_import_is_seen():
    code = "from fairjax import load, nowhere\nfrom fairjax.nothing import mmd\n"
    assert missing_imports(code) == ["fairjax.nowhere", "fairjax.nothing.mmd"]


# ---- examples in docstrings -------------------------------------------------------------------

DOCUMENTED = [module_name(path) for path in FILES if ">>>" in path.read_text(encoding="utf-8")]


@pytest.mark.slow
@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings_run(name):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    outcome = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert outcome.attempted and not outcome.failed
