"""Pages that are made of the registries and docstrings: one per method, link, notion and repair,
one of the API per room, and the tables that list them.

``conf.py`` calls :func:`write` at every build. A new member of a registry has its page by itself;
``when.toml`` says in a sentence when to take it.
"""

from __future__ import annotations

import csv
import functools
import inspect
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fairjax
from fairjax import data, gradients, methods, models, notions, postprocess, pretrained
from fairjax.core.types import Range, Recipe

HERE = Path(__file__).resolve().parent
WHEN = tomllib.loads((HERE / "when.toml").read_text(encoding="utf-8"))
RESULTS = HERE.parent / "experiments" / "results"
ROWS, PARAMETERS = 8, 10_000_000  # the size whose times are shown
BATCH = 512
# rooms whose public names are those of their files without an underscore
WITHOUT_ALL = {"core": ("types", "keys", "tables"), "losses": (), "cli": ()}

WEIGHS = {
    "gradients": "conflicts between gradients of the trunk",
    "all": "conflicts between gradients of all parameters, heads included",
    "losses": "sizes or paces of losses",
    "nothing": "nothing: its weights are given or drawn",
}


# ---- text -------------------------------------------------------------------------------------


def summary(thing) -> str:
    """The first sentence of a docstring, in Markdown."""
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
    return plain(paragraph)


def plain(text: str) -> str:
    """Markdown of a line of reStructuredText."""
    for role in ("func", "class", "mod", "meth", "data"):
        text = text.replace(f":{role}:`~", "`").replace(f":{role}:`", "`")
    return text.replace("``", "`")


def table(head: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"


def documented(path: str) -> str:
    """A directive that shows the docstring of a function."""
    return f"```{{eval-rst}}\n.. autofunction:: {path}\n```\n"


def read_rows(name: str) -> list[dict[str, str]]:
    """A table that an experiment wrote."""
    with (RESULTS / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(value) -> str:
    return np.format_float_positional(float(value), precision=3, unique=True, trim="0")


# ---- links ------------------------------------------------------------------------------------


def needs(entry: gradients.LinkEntry) -> str:
    """The extra arguments that a link's ``update`` asks for."""
    if entry.owns_optimizer:
        return "`values=`, `value_fn=`"
    rule = getattr(entry.factory, "rule", None)
    if rule is None:
        return ""
    parameters = inspect.signature(rule).parameters.values()
    given = {p.name: jnp.ones(2) for p in parameters if p.default is p.empty}
    return "`values=`" if rule(**{**given, **entry.constants}).needs_values else ""


@functools.cache
def link_times() -> dict[str, dict[str, float]]:
    rows = [row for row in read_rows("links/links.csv") if row["rows"] == str(ROWS)]
    return {row["link"]: row for row in rows if row["parameters"] == str(PARAMETERS)}


def cost(name: str) -> str:
    """The measured cost of a link, where the benchmark has it."""
    row = link_times().get(name)
    if row is None:
        return "Not in the benchmark."
    times = float(row["ours_s"]) / float(row["sum_s"])
    return (
        f"For {ROWS} rows of {PARAMETERS:,} parameters it takes {times:.1f} times a plain sum of "
        "the rows (two CPU cores; {doc}`all sizes </speed>`)."
    )


def link_pages() -> Iterator[tuple[str, str]]:
    for name, entry in gradients.REGISTRY.items():
        settles = f"It settles {WEIGHS[entry.weighs]}."
        asks = f" Its `update` needs {needs(entry)}." if needs(entry) else ""
        named = (
            ""
            if entry.weighs == "nothing"
            else f" As a method of a study it is `{name}` (a row per task) and `{name}_split` "
            "(accuracy and fairness apart)."
        )
        yield (
            f"links/{name}",
            f"# {name}\n\n{settles}{asks}{named}\n\n**Cost.** {cost(name)}\n\n"
            + documented(f"fairjax.gradients.{name}"),
        )


def link_table() -> str:
    return table(
        ("link", "weights of `u = sum w_k g_k`", "settles", "needs"),
        [
            (
                f"[`{name}`](generated/links/{name}.md)",
                summary(entry.factory),
                WEIGHS[entry.weighs],
                needs(entry),
            )
            for name, entry in gradients.REGISTRY.items()
        ],
    )


# ---- methods ----------------------------------------------------------------------------------


def own_methods() -> list[str]:
    """Methods that are no link on rows; these have a docstring of their own."""
    return [name for name in methods.REGISTRY if name in methods.__all__]


@functools.cache
def prepared():
    return fairjax.load("synthetic")


@functools.cache
def context() -> methods.Context:
    made = prepared()
    model = models.shared_bottom(made.spec, trunk=(8, 8), head=(4,))
    inputs = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((4, *a.shape[1:]), a.dtype), made.splits.train.x
    )
    return methods.Context.paper(
        made.spec, model, learning_rate=0.05, batch_size=512, inputs=inputs
    )


@functools.cache
def recipe(name: str) -> Recipe:
    """A method on two binary tasks."""
    notion = notions.get("robust_log" if name == "fairbranch" else "equalized_odds")
    return methods.get(name, notion)(context())


def space(name: str) -> str:
    """The hyper-parameters of a method."""
    rows = [
        (f"`{key}`", _default(value), _range(value)) for key, value in recipe(name).space.items()
    ]
    return table(("hyper-parameter", "default", "a sweep draws"), rows)


def slots(name: str) -> str:
    """The rows of a method with their values on a batch, its state, and what else moves."""
    hparams = {key: jnp.asarray(value.default) for key, value in recipe(name).space.items()}
    components = recipe(name).build(hparams)
    objective = components.objective
    train = prepared().splits.train
    batch = jax.tree.map(lambda a: a[:BATCH], train)
    key = jax.random.key(0)
    memory = objective.init(key, train)
    values, _ = objective.apply(components.model.init(key), batch, key, memory)
    named = zip(objective.rows, values, strict=True)
    rows = ", ".join(f"`{row}` {number(value)}" for row, value in named)
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(memory))
    also = [
        *(["an event after every block"] if components.events else []),
        *(["batches of its own"] if components.sampler else []),
        *(["a record of every block"] if components.record else []),
        *(["the block that delivers"] if components.rank else []),
    ]
    state = f"{count:,} numbers" if count else "none"
    return (
        f"- **Rows**, with their values before training on {BATCH} rows of `synthetic`: {rows}.\n"
        f"- **State** beside parameters and optimizer: {state}.\n"
        f"- **What else it settles**: {', '.join(also) or 'nothing'}.\n"
    )


def _default(value: Range) -> str:
    return ", ".join(number(entry) for entry in np.ravel(value.default))


def _range(value: Range) -> str:
    if value.low is None:
        return ""
    if value.simplex:
        return "a point of the simplex"
    return f"{number(value.low)} to {number(value.high)}" + (
        ", logarithmically" if value.log else ""
    )


def method_pages() -> Iterator[tuple[str, str]]:
    for name in own_methods():
        when = WHEN["methods"].get(name, "")
        yield (
            f"methods/{name}",
            f"# {name}\n\n**When.** {when}\n\n`fairjax frontier --data adult --methods {name}`\n\n"
            f"{slots(name)}\n{space(name)}\n" + documented(f"fairjax.methods.{name}"),
        )


def method_table() -> str:
    return table(
        ("method", "what it does", "take it for"),
        [
            (
                f"[`{name}`](generated/methods/{name}.md)",
                summary(methods.REGISTRY[name] if name == "mgda_ub" else getattr(methods, name)),
                WHEN["methods"].get(name, ""),
            )
            for name in own_methods()
        ],
    )


# ---- notions ----------------------------------------------------------------------------------

# eight rows: scores, labels and two groups of four
SCORES = jnp.asarray([0.9, 0.8, 0.6, 0.3, 0.7, 0.4, 0.6, 0.1])
LABELS = jnp.asarray([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
GROUPS = jnp.repeat(jnp.eye(2), 4, axis=0)
NUMBERS = 3 * SCORES  # predictions of a regression, whose labels are 2 where they are 1


def conditions_of(name: str) -> tuple:
    return notions.registry.REGISTRY[name].conditions or notions.CONDITIONS["odds"]


def value(name: str, kind: str, prob: jax.Array, label: jax.Array) -> str:
    """What a notion says of the eight rows."""
    conditions = (notions.everyone,) if kind == "regression" and name not in _own_rows() else None
    notion = notions.get(name, conditions or conditions_of(name), kind=kind)
    mask = jnp.ones_like(label)
    weights = tuple(condition(label, mask)[:, None] for condition in notion.conditions)
    rows = notions.TaskRows(prob[:, None], label[:, None], GROUPS, weights, kind, None)
    seen, memory = notion.apply(rows, notion.init(rows._replace(prob=0 * prob[:, None]), 8))
    del memory
    return number(seen)


def _own_rows() -> set[str]:
    registry = notions.registry.REGISTRY
    return {name for name, entry in registry.items() if entry.conditions is not None}


def example(name: str) -> str:
    kinds = notions.registry.REGISTRY[name].kinds
    said = []
    if "binary" in kinds:
        soft = value(name, "binary", SCORES, LABELS)
        hard = value(name, "binary", (SCORES > 0.5) * 1.0, LABELS)
        said.append(f"**{soft}** of the probabilities and **{hard}** of the decisions at one half")
    if "regression" in kinds:
        said.append(f"**{value(name, 'regression', NUMBERS, 2 * LABELS)}** of predictions in units")
    return ", ".join(said)


def documented_notion(name: str) -> str | None:
    """Path of the function in ``fairjax.notions`` whose docstring has the formula."""
    entry = notions.registry.REGISTRY[name]
    made_of = inspect.getclosurevars(entry.build).nonlocals.get("distance")
    path = getattr(
        made_of, "__name__", {"mmd": "gaussian_mmd", "laplacian_mmd": "mmd"}.get(name, name)
    )
    return path if path in notions.__all__ else None


def notion_pages() -> Iterator[tuple[str, str]]:
    for name, entry in notions.registry.REGISTRY.items():
        about = WHEN["notions"].get(name, {})
        rows = (
            ", ".join(condition.__name__ for condition in entry.conditions)
            if entry.conditions
            else "those that are asked for: `--condition fpr`, `tpr`, `odds` or `parity`"
        )
        lines = [f"# {name}", ""]
        if "formula" in about:
            lines += [f"The largest difference between groups of `{about['formula']}`.", ""]
        lines += [
            f"**When.** {about.get('when', '')}",
            "",
            f"- **Rows**: {rows}.",
            f"- **Tasks**: {', '.join(entry.kinds)}.",
        ]
        if entry.dependence is not None:
            lines.append(f"- **Attributes that are numbers**: `{entry.dependence.__name__}`.")
        if not entry.is_gap:
            lines.append("- It is no gap: it is not 0 where groups agree.")
        lines += ["", f"**Value** on {{doc}}`the eight rows </notions>`: {example(name)}.", ""]
        lines += ["```python", f"import fairjax\n\nnotion = {call(name)}", "```", ""]
        path = documented_notion(name)
        if path is not None:
            what = summary(getattr(notions, path))
            lines.append(f"Its function is {{py:obj}}`fairjax.notions.{path}`: {what}")
        yield f"notions/{name}", "\n".join(lines) + "\n"


def call(name: str) -> str:
    if name in _own_rows():
        return f'fairjax.notions.get("{name}")'
    return f'fairjax.notions.get("{name}", fairjax.notions.CONDITIONS["odds"])'


def notion_table() -> str:
    rows = []
    for name, entry in notions.registry.REGISTRY.items():
        looked_at = ", ".join(c.__name__ for c in entry.conditions) if entry.conditions else "any"
        when = WHEN["notions"].get(name, {}).get("when", "")
        rows.append(
            (f"[`{name}`](generated/notions/{name}.md)", looked_at, ", ".join(entry.kinds), when)
        )
    return table(("notion", "rows", "tasks", "take it for"), rows)


def eight_rows() -> str:
    rows = zip(SCORES, LABELS, GROUPS, strict=True)
    return table(
        ("probability", "label", "group"),
        [(number(p), int(y), "ab"[int(g[1])]) for p, y, g in rows],
    )


# ---- repairs ----------------------------------------------------------------------------------


def repair_function(name: str) -> str:
    """Name of the pair of pure functions behind a repair of the registry."""
    return name if name in postprocess.__all__ else "group_thresholds"


def repair_pages() -> Iterator[tuple[str, str]]:
    functions = dict.fromkeys(map(repair_function, postprocess.REGISTRY))
    for function in functions:
        names = [name for name in postprocess.REGISTRY if repair_function(name) == function]
        lines = [f"# {function}", ""]
        for name in names:
            lines += [f"**{name}.** {WHEN['repairs'].get(name, '')}", ""]
        shown = names[0]
        lines += [f"`fairjax frontier --data adult --repair 0.5,1 --postprocess {shown}`", ""]
        yield (
            f"repairs/{function}",
            "\n".join(lines) + documented(f"fairjax.postprocess.{function}"),
        )


def repair_table() -> str:
    return table(
        ("repair", "what it does", "take it for"),
        [
            (
                f"[`{name}`](generated/repairs/{repair_function(name)}.md)",
                summary(getattr(postprocess, repair_function(name))),
                WHEN["repairs"].get(name, ""),
            )
            for name in postprocess.REGISTRY
        ],
    )


# ---- networks and data sets -------------------------------------------------------------------


def network_table() -> str:
    return table(
        ("`--model`", "what it is"),
        [
            (f"{{py:obj}}`{name} <fairjax.models.{name}>`", summary(make))
            for name, make in models.REGISTRY.items()
            if name in models.__all__
        ],
    )


def encoder_table() -> str:
    return table(
        ("`--encoder`", "what it is"),
        [(f"`{name}`", summary(make)) for name, make in pretrained.REGISTRY.items()],
    )


def data_table() -> str:
    rows = []
    for name, entry in data.registry.REGISTRY.items():
        rows.append((f"`{name}`", entry.about, ", ".join(entry.forms), entry.terms))
    return table(("`--data`", "what it is", "forms", "terms"), rows)


def notebook_table() -> str:
    """The notebooks by their titles."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    repository = project["project"]["urls"]["Repository"]
    rows = []
    for script in sorted((HERE.parent / "colab").glob("*.py")):
        title = re.search(r"^# # (.+)$", script.read_text(encoding="utf-8"), re.M)[1]
        address = f"{repository}/blob/main/colab/{script.stem}.ipynb"
        colab = address.replace("https://", "https://colab.research.google.com/").replace(
            "github.com/", "github/", 1
        )
        rows.append((f"`{script.stem}`", title, f"[Colab]({colab}), [repository]({address})"))
    return table(("notebook", "what it shows", "open it"), rows)


# ---- results ----------------------------------------------------------------------------------


def constraints_table() -> str:
    """Bounds on Adult's income: mean error and gap of each, bounds met and time, per method."""
    runs = [
        run
        for run in read_rows("constraints/adult_runs.csv")
        if run["task"] == "income" and float(run["bound"]) < 1
    ]
    bounds = dict.fromkeys((run["notion"], run["bound"]) for run in runs)
    rows = []
    for how in dict.fromkeys((run["method"], run["model"]) for run in runs):
        own = [run for run in runs if (run["method"], run["model"]) == how]
        cells = []
        for bound in bounds:
            at = [run for run in own if (run["notion"], run["bound"]) == bound]
            cells.append(f"{_mean(at, 'test error'):.3f}, {_mean(at, 'test violation'):.3f}")
        met = sum(
            float(run["test violation"])
            <= float(run["bound"]) + 1.96 * float(run["test standard error"])
            for run in own
        )
        method, model = how
        name = (
            f"`{method}`, {model}" if method == "constrained" else f"fairlearn's {method}, {model}"
        )
        cells += [f"{met} of {len(own)}", f"{_mean(own, 'cpu'):.1f}"]
        rows.append((name.replace("_", " "), *cells))
    asked = [f"{notion.replace('_', ' ')} {bound}: error, gap" for notion, bound in bounds]
    return table(("method", *asked, "bounds met", "CPU s"), rows)


def _mean(runs: list[dict[str, str]], key: str) -> float:
    return float(np.mean([float(run[key]) for run in runs]))


# variant and rule of selection -> heading
TRANSFERRED = {
    ("stl_base", ""): "single task",
    ("mtl_fair", "pareto_aux"): "penalty on the auxiliary task",
    ("mtl_fair, reach 0", "pareto_aux"): "the same, `head_penalty_scale=0`",
    ("stl_fair", "pareto_target"): "penalty on the target",
}


def transfer_table() -> str:
    """Epsilon of the targets of Adult and LSAC, from the results of the experiment."""
    cells = {}
    for name in ("adult", "lsac"):
        for row in read_rows(f"transfer/{name}.csv"):
            epsilon, low, high = (float(row[f"epsilon{end}"]) for end in ("", " low", " high"))
            key = name, row["target"], row["variant"], row["rule"]
            cells[key] = f"{epsilon:.2f} [{low:.2f}, {high:.2f}]"
    targets = dict.fromkeys(key[:2] for key in cells)
    rows = [(*target, *(cells[*target, *how] for how in TRANSFERRED)) for target in targets]
    return table(("data", "target", *TRANSFERRED.values()), rows)


# ---- API --------------------------------------------------------------------------------------


def public_names(room: str) -> dict[str, object]:
    """Public names of a room: those of ``__all__``, or those that its files define."""
    module = getattr(fairjax, room)
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    found = {}
    files = WITHOUT_ALL[room]
    for path, part in [("", module), *((f"{f}.", getattr(module, f)) for f in files)]:
        for name, thing in vars(part).items():
            if getattr(thing, "__module__", None) == part.__name__ and not name.startswith("_"):
                found[path + name] = thing
    return found


def described_elsewhere(room: str) -> set[str]:
    """Names that have a page of their own."""
    return {
        "methods": set(own_methods()),
        "gradients": set(gradients.REGISTRY),
        "postprocess": set(map(repair_function, postprocess.REGISTRY)),
    }.get(room, set())


def entry_of(path: str, thing) -> str:
    """The description of one public name."""
    if inspect.ismodule(thing):
        room = path.rpartition(".")[0]
        return f".. automodule:: {path}\n   :members:\n\n.. py:currentmodule:: {room}\n"
    if inspect.isclass(thing):
        return f".. autoclass:: {path}\n   :members:\n"
    if inspect.isroutine(thing) or (callable(thing) and hasattr(thing, "__wrapped__")):
        return f".. autofunction:: {path}\n"
    name = path.split(".", 2)[2]  # within the room that is current
    return f".. py:data:: {name}\n\n   {_what_it_is(thing)}\n"


def _what_it_is(thing) -> str:
    if isinstance(thing, dict):
        return "By name: " + ", ".join(f"``{key}``" for key in thing) + "."
    if type(thing) in (str, int, float, tuple):
        return f"``{thing!r}``"
    if typing.get_origin(thing) is not None:
        return f"The type ``{re.sub(r'[a-zA-Z_.]+[.](?=[a-zA-Z])', '', str(thing))}``."
    own = inspect.getdoc(thing)
    said = own if own and own != inspect.getdoc(type(thing)) else f"A {type(thing).__name__}."
    return said.split("\n\n")[0].replace("\n", " ")


def api_pages() -> Iterator[tuple[str, str]]:
    seen: dict[int, str] = {}
    for room in fairjax.ROOMS:
        module = getattr(fairjax, room)
        about = (inspect.getdoc(module) or "").replace("``", "`")
        lines = [f"# fairjax.{room}", "", plain(about), "", "```{eval-rst}"]
        lines += [f".. py:currentmodule:: fairjax.{room}", ""]
        elsewhere = described_elsewhere(room)
        names = public_names(room)
        for name, thing in names.items():
            if getattr(thing, "__name__", None) == name:  # not an alias
                seen.setdefault(id(thing), f"fairjax.{room}.{name}")
        for name, thing in sorted(names.items(), key=lambda item: item[0].lower()):
            path = f"fairjax.{room}.{name}"
            first = seen.setdefault(id(thing), path) if hasattr(thing, "__module__") else path
            if name in elsewhere or not first.startswith(f"fairjax.{room}."):
                lines += [f"- ``{name}``: :py:obj:`{first}`", ""]
            elif first != path:
                lines += [f".. py:data:: {name}\n\n   Another name of :py:obj:`{first}`.\n"]
            else:
                lines += [entry_of(path, thing)]
        yield f"api/{room}", "\n".join([*lines, "```", ""])


def door_table() -> str:
    rows = []
    for name in fairjax.__all__:
        path = f"fairjax.{fairjax._ROOM[name]}.{name}"
        rows.append((f"{{py:obj}}`fairjax.{name} <{path}>`", summary(getattr(fairjax, name))))
    return table(("name", "what it is"), rows)


# ---- files ------------------------------------------------------------------------------------

PAGES = (link_pages, method_pages, notion_pages, repair_pages, api_pages)
TABLES = {
    "links": link_table,
    "methods": method_table,
    "notions": notion_table,
    "eight_rows": eight_rows,
    "repairs": repair_table,
    "networks": network_table,
    "encoders": encoder_table,
    "data": data_table,
    "notebooks": notebook_table,
    "constraints": constraints_table,
    "transfer": transfer_table,
    "door": door_table,
}


def write(folder: Path) -> None:
    """Write all pages and tables that changed, and remove those that nothing makes any more."""
    made = {name: text for pages in PAGES for name, text in pages()}
    made |= {f"{name}_table": make() for name, make in TABLES.items()}
    for name, text in made.items():
        path = folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).with_suffix("").as_posix() not in made:
            path.unlink()
