"""The page of one repair, and the same as a section of another page."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from fairjax.core.disk import write
from fairjax.postprocess import Audit
from fairjax.report.repair.captions import CAPTIONS
from fairjax.report.repair.figures import repair_figures
from fairjax.report.repair.sentences import finding, lead, warnings_of
from fairjax.report.repair.tables import tables_of
from fairjax.report.templates import asset, render

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
SCALE = 0.8  # pixels on the page per pixel of a figure
PNG_WIDTH = slice(16, 20)  # bytes of a PNG file that hold its width


def write_repair(out: Path, audit: Audit, *, title: str = "", command: str = "") -> list[Path]:
    """Write the pictures of a repair and a page that explains them into a folder.

    Every file appears complete or not at all.

    Args:
      out: folder, made when absent.
      audit: of the repair.
      title: of the page; the names of the tasks by default.
      command: what made the repair, shown at the end of the page.

    Returns:
      Paths of ``densities.png``, ``arrows.png``, ``waterfall.png``, ``path.png`` and
      ``report.html``.

    Raises:
      ImportError: matplotlib or jinja2 is missing.
    """
    figures = repair_figures(audit)
    page = render(
        "repair.html",
        policy=POLICY,
        title=title or "Repair of " + ", ".join(audit.tasks),
        style=asset("page.css"),
        lead=lead(audit),
        repair=_view(audit, figures, "What it did"),
        command=command,
    )
    paths = [write(out / name, content) for name, content in figures.items()]
    return [*paths, write(out / "report.html", page.encode("utf-8"))]


def repair_section(audit: Audit, about: dict[str, Any] | None = None) -> str:
    """The same as a section of another page, its figures inside, as HTML.

    Args:
      audit: of the repair.
      about: whose scores were repaired, ``run`` and ``method``, where they are known.

    Raises:
      ImportError: matplotlib or jinja2 is missing.
    """
    return render("repair_section.html", repair=repair_view(audit, about))


def repair_view(audit: Audit, about: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the template ``repair_section.html`` shows; arguments as of :func:`repair_section`."""
    heading = f"Repair of run {about['run']} ({about['method']})" if about else "Repair"
    return _view(audit, repair_figures(audit), heading)


def _view(audit: Audit, figures: dict[str, bytes], heading: str) -> dict[str, Any]:
    return {
        "heading": heading,
        "findings": [finding(audit, task) for task in range(len(audit.tasks))],
        "warnings": list(warnings_of(audit)),
        "figures": [_figure(name, content) for name, content in figures.items()],
        "tables": tables_of(audit),
    }


def _figure(name: str, content: bytes) -> dict[str, Any]:
    heading, caption = CAPTIONS[name]
    width = int.from_bytes(content[PNG_WIDTH], "big")
    return {
        "heading": heading,
        "caption": caption,
        "width": round(width * SCALE),
        "base64": b64encode(content).decode(),
    }
