"""Pages from the templates in ``assets``: values are escaped unless they are marked as HTML."""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING, Any

from fairjax.report.text import count, number

if TYPE_CHECKING:
    from markupsafe import Markup


def render(name: str, **values: Any) -> str:
    """The page, or part of a page, that a template makes of values.

    Raises:
      ImportError: jinja2 is missing.
    """
    return _environment().get_template(name).render(**values)


def markup(text: str) -> Markup:
    """Text that a template leaves as it is: HTML, a style or a script of our own."""
    _jinja2()
    from markupsafe import Markup

    return Markup(text)


def asset(name: str) -> Markup:
    """A file of the folder ``assets``, which a template leaves as it is."""
    folder = resources.files("fairjax.report").joinpath("assets")
    return markup(folder.joinpath(name).read_text("utf-8"))


@functools.cache
def _environment():
    jinja2 = _jinja2()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fairjax.report", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "count": count, "head_width": _head_width}
    return environment


def _jinja2():
    try:
        import jinja2
    except ImportError as error:
        raise ImportError("the page needs jinja2: pip install 'fairjax[plot]'") from error
    return jinja2


def _head_width(name: str) -> int:
    """Characters of room for the name of a column: a common name fits, a longer one breaks."""
    longest = max(map(len, name.split()), default=0)
    return min(longest, 18) + 3
