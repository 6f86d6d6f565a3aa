"""The README and the site: every block of code runs, every command is one, every name has a page,
no link is dead, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import doctest
import html
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag

import click
import pytest

import fairjax
from fairjax.cli import main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [
    README,
    *sorted(path for path in DOCS.rglob("*.md") if DOCS / "generated" not in path.parents),
]
MOST_LINES = 150  # of the README
HOW = "the site is built with: pip install -e '.[docs]'"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# ---- blocks of code ------------------------------------------------------------------------------


def blocks(text: str) -> list[tuple[int, str]]:
    """``(line, code)`` of every python fence that no ``<!-- skip: reason -->`` stands above, and of
    both sides of every diff.
    """
    fences = re.finditer(
        r"(?:(<!-- skip: \S.*?-->)\s*)?^```(python|diff)[^\n]*\n(.*?)^```[ \t]*$",
        text,
        re.M | re.S,
    )
    found = []
    for fence in fences:
        if fence[1]:
            continue
        line = text.count("\n", 0, fence.start(3)) + 1
        sides = [fence[3]] if fence[2] == "python" else [side(fence[3], sign) for sign in "-+"]
        found += [(line, code) for code in sides]
    return found


def side(diff: str, sign: str) -> str:
    """The lines of a diff before (``-``) or after (``+``) the change."""
    lines = diff.splitlines(keepends=True)
    return "".join(line[1:] or "\n" for line in lines if line[0] in f" {sign}\n")


def run(code: str) -> None:
    """Run a block in a namespace of its own; of one with prompts the output is compared."""
    namespace = {"__name__": "readme"}
    if not code.lstrip().startswith(">>>"):
        exec(compile(code, "README.md", "exec"), namespace)
        return
    test = doctest.DocTestParser().get_doctest(code, namespace, "README.md", "README.md", 0)
    doctest.DebugRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=f"{page.relative_to(ROOT)}:{line}:{number}")
        for page in PAGES
        for number, (line, code) in enumerate(blocks(read(page)))
    ],
)
def test_a_block_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(code)


def test_blocks_are_found_and_skipped():
    text = (
        "a\n```python\nx = 1\n```\n\n<!-- skip: needs a GPU -->\n\n```python\n1 / 0\n```\n"
        "```bash\nls\n```\n<!-- skip: -->\n```python\ny\n```\n```diff\n a\n-b\n+c\n```\n"
    )
    assert blocks(text) == [(3, "x = 1\n"), (16, "y\n"), (19, "a\nb\n"), (19, "a\nc\n")]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("1 / 0", ZeroDivisionError),
        (">>> 1 / 0\n", doctest.UnexpectedException),
        (">>> 1 + 1\n3\n", doctest.DocTestFailure),
    ],
)
def test_a_broken_block_fails(code, error):
    with pytest.raises(error):
        run(code)


# ---- commands ------------------------------------------------------------------------------------


FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```[ \t]*$", re.M | re.S)


def commands(text: str) -> list[str]:
    """Lines of code that ask ``fairjax`` or a script of an experiment, in fences and in prose."""
    found = [line for info, code in FENCE.findall(text) if not info for line in code.splitlines()]
    prose = FENCE.sub("", text)
    found += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    return [line for line in found if line.startswith(("fairjax ", "python experiments"))]


def unknown(line: str) -> list[str]:
    """Options, commands and scripts of a line that are not there."""
    words = shlex.split(
        line.replace("'fairjax", "fairjax").replace("id/16'", "id/16"), comments=True
    )
    if words[:1] == ["python"]:
        return [w for w in words[1:2] if w.startswith("experiments/") and not (ROOT / w).is_file()]
    command: click.Command = main
    bad = []
    for word in words[1:]:
        if isinstance(command, click.Group) and not word.startswith("-"):
            command = command.commands.get(word) or bad.append(word) or command
        elif word.startswith("--"):
            known = [name for p in command.params for name in (*p.opts, *p.secondary_opts)]
            bad += [word] if word not in known else []
    return bad


@each_page
def test_commands_are_there(page):
    lines = commands(read(page))
    assert not [f"{line}: {word}" for line in lines for word in unknown(line)]


def test_a_wrong_command_is_seen():
    text = (
        "```\nfairjax data list\nls\n```\nand `python experiments/yoto.py\n--quick`, a `fairjax`\n"
    )
    assert commands(text) == ["fairjax data list", "python experiments/yoto.py --quick"]
    assert unknown("fairjax frontier --data adult --nothing 3  # a comment") == ["--nothing"]
    assert unknown("fairjax paint") == ["paint"]
    assert unknown("python experiments/nowhere.py") == ["experiments/nowhere.py"]
    assert not unknown("fairjax --no-cache frontier --resume")


# ---- pages and their sources ---------------------------------------------------------------------


def test_the_readme_is_short():
    assert read(README).count("\n") <= MOST_LINES


def dead(page: Path) -> list[str]:
    """Links of a source file to files that are not there; pages that are made are looked at in the
    built site.
    """
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", read(page), flags=re.S))
    targets += re.findall(r"^```\{(?:include|image)\} (\S+)", read(page), re.M)
    return [
        target
        for target in targets
        if not re.match(r"\w+:", target)
        and "generated/" not in target
        and not (page.parent / target).exists()
    ]


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CHANGELOG", "SECURITY"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_of_sources_are_not_dead(page):
    assert not dead(page)


def test_a_dead_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](page.md) [b](gone.md) [c](https://x.org)\n```{include} gone.txt\n```\n")
    assert dead(page) == ["gone.md", "gone.txt"]


@pytest.fixture(scope="module")
def generate():
    """The module that makes pages of the registries."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_when_to_take_it_is_said_of_every_member(generate):
    """Of methods, notions and repairs: a new one needs its line in docs/when.toml."""
    families = {
        "methods": generate.own_methods(),
        "notions": fairjax.notions.registry.REGISTRY,
        "repairs": fairjax.postprocess.REGISTRY,
    }
    for family, names in families.items():
        assert set(generate.WHEN[family]) == set(names), family


# ---- the built site ------------------------------------------------------------------------------


class Loaded(NamedTuple):
    """What a page refers to."""

    links: list[str]
    resources: list[str]
    anchors: set[str]


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = Loaded([], [], set())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.seen.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.seen.links.append(given["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in given:
            self.seen.resources.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon"):
            self.seen.resources.append(given.get("href", ""))


def look_at(page: Path) -> Loaded:
    reader = _Reader()
    reader.feed(read(page))
    return reader.seen


def build(builder: str, out: Path) -> Path:
    pytest.importorskip(
        "sphinx_book_theme", reason="the site is built with: pip install -e '.[docs]'"
    )
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", builder]
    where = ["-d", str(out / "doctrees"), str(DOCS), str(out / builder)]
    done = subprocess.run([*command, *where], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return out / builder


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return build("html", tmp_path_factory.mktemp("site"))


def inventory(site: Path) -> set[str]:
    """Names that the site describes."""
    head, _, body = (site / "objects.inv").read_bytes().partition(b"zlib.\n")
    assert head.startswith(b"# Sphinx inventory version 2")
    lines = zlib.decompress(body).decode().splitlines()
    return {line.split(" ")[0] for line in lines if " py:" in line}


@pytest.mark.slow
def test_every_public_name_has_its_place(site, generate):
    described = inventory(site)
    missing = []
    for room in fairjax.ROOMS:
        for name, thing in generate.public_names(room).items():
            path = f"fairjax.{room}.{name}"
            own = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
            if path not in described and own not in described:
                missing.append(path)
    assert not missing
    for name in fairjax.__all__:
        assert f"fairjax.{fairjax._ROOM[name]}.{name}" in described, name


@pytest.mark.slow
def test_every_member_of_a_registry_has_a_page(site, generate):
    made = {name for pages in generate.PAGES for name, _ in pages()}
    assert made and all((site / "generated" / f"{name}.html").is_file() for name in made)
    for name in fairjax.gradients.REGISTRY:
        assert f"links/{name}" in made
    for name in fairjax.notions.registry.REGISTRY:
        assert f"notions/{name}" in made
    for name in fairjax.postprocess.REGISTRY:
        assert f"repairs/{generate.repair_function(name)}" in made


@pytest.mark.slow
def test_no_link_is_dead_and_nothing_is_loaded_from_elsewhere(site):
    paths = [path.resolve() for path in site.rglob("*.html") if "_static" not in path.parts]
    pages = {path: look_at(path) for path in paths}
    wrong = []
    for path, seen in pages.items():
        for target in seen.links + seen.resources:
            if re.match(r"(mailto|data):", target):
                continue
            if re.match(r"(\w+:)?//", target):
                wrong += [f"{path.name}: loads {target}"] if target in seen.resources else []
                continue
            file, anchor = urldefrag(html.unescape(unquote(target)))
            there = (path.parent / file.partition("?")[0]).resolve() if file else path
            if not there.is_file():
                wrong.append(f"{path.name}: {target}")
            elif anchor and there in pages and anchor not in pages[there].anchors:
                wrong.append(f"{path.name}: {target}")
    assert not wrong
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", read(style)), style


@pytest.mark.slow
def test_built_twice_the_pages_are_the_same(site, tmp_path):
    again = build("html", tmp_path)
    names = {path.relative_to(site) for path in site.rglob("*.html")}
    assert names == {path.relative_to(again) for path in again.rglob("*.html")}
    for name in names:
        assert (site / name).read_bytes() == (again / name).read_bytes(), name


@pytest.mark.slow
def test_examples_of_pages_and_docstrings_run(tmp_path):
    out = build("doctest", tmp_path)
    *_, total = re.findall(r"^ +(\d+) tests$", read(out / "output.txt"), re.M)
    assert int(total) > 100


@pytest.mark.slow
def test_a_page_that_warns_fails(tmp_path):
    pytest.importorskip("myst_nb", reason=HOW)
    (tmp_path / "conf.py").write_text("extensions = ['myst_nb']\n")
    (tmp_path / "index.md").write_text("# a\n\n[gone](gone.md)\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(tmp_path)]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode != 0 and "gone" in inspect.cleandoc(done.stderr)
