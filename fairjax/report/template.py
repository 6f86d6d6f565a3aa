"""Pages from templates: assets, slots, a list of notes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib import resources


def asset(name: str) -> str:
    """A file of the folder ``assets``."""
    return resources.files("fairjax.report").joinpath("assets", name).read_text("utf-8")


def filled(name: str, slots: dict[str, str]) -> str:
    """A template with its ``{{slots}}`` filled by HTML; what is put in is never read as a slot."""
    pieces = re.split(r"\{\{(\w+)\}\}", asset(name))  # text, slot, text, ...
    return "".join(slots[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def notes(sentences: Sequence[str]) -> str:
    """A list of warnings, escaped; nothing without any."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes">{items}</ul>' if sentences else ""
