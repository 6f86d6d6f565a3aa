"""How a sweep was run, as a short list of terms for a reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairjax.report.names import attribute_label, task_label

TRAINING = ("epochs", "batch_size", "learning_rate", "condition", "reduction")  # of config


def terms_of(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and texts, those that ``info`` knows."""
    for name, text in _all(info):
        if text:
            yield name, text


def _all(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Data", _source(info)
    yield "Tasks", ", ".join(task_label(info, task) for task in info["tasks"])
    yield "Sensitive", ", ".join(attribute_label(info, name) for name in info["attributes"])
    yield "Trained notion", str(info.get("notion") or "")
    yield "Shown gap", str(info["gap"]).replace("_", " ")
    yield "Decisions", decision_text(info)
    yield "Training", _named(_part(info.get("config"), TRAINING))
    yield "Seeds", _seeds(info.get("seeds"))
    yield "Machine", _named(info.get("environment"))
    yield "Software", _named(info.get("versions"))


def decision_text(info: dict[str, Any]) -> str:
    """The sentence that says how a run decides; empty where it is not known."""
    decision = info.get("decision") or {}
    return str(decision.get("text") or "")


def _source(info: dict[str, Any]) -> str:
    source = info.get("source") or {}
    name = info.get("title") or source.get("name") or ""
    draw = source.get("seed")
    if draw is None:
        return str(name)
    return f"{name}, split with seed {draw}"


def _seeds(seeds) -> str:
    if not isinstance(seeds, dict):
        return _named(seeds)
    parts = []
    if "members" in seeds:
        parts.append(_plural(seeds["members"], "seed") + " per setting")
    if "single_task" in seeds:
        parts.append(_plural(seeds["single_task"], "seed") + " of the single-task models")
    if "draw" in seeds:
        parts.append(f"settings drawn with seed {seeds['draw']}")
    return ", ".join(parts)


def _plural(number: int, name: str) -> str:
    if number == 1:
        return f"one {name}"
    return f"{number} {name}s"


def _part(values, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(values, dict):
        return {}
    return {name: values[name] for name in names if name in values}


def _named(values) -> str:
    """Entries of a dict beside one another; another value as text."""
    if isinstance(values, dict):
        return ", ".join(f"{str(name).replace('_', ' ')} {value}" for name, value in values.items())
    if isinstance(values, list | tuple):
        return ", ".join(map(str, values))
    return "" if values is None else str(values)
