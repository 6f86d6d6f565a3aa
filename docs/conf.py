"""Sphinx settings of the site.

``sphinx-build -W --keep-going -b html docs OUT`` builds it, ``-b doctest`` runs the examples of its
docstrings. Nothing is fetched, and the built pages load nothing from elsewhere.
"""

from __future__ import annotations

import doctest
import importlib
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402

import fairjax  # noqa: E402

project = "fairjax"
author = "The fairjax authors"
copyright = author
version = release = fairjax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["generated/*_table.md"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
nb_execution_mode = "off"  # tests/test_site.py runs every block
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
bibtex_bibfiles = ["references.bib"]
copybutton_prompt_text = ">>> "

autodoc_typehints = "none"  # a docstring says shapes, which types do not
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
doctest_default_flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
python_display_short_literal_types = True

html_theme = "sphinx_book_theme"
html_title = "fairjax"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "home_page_in_toc": False,
    "use_download_button": False,
    "use_fullscreen_button": False,
}


def examples_with_their_module(app, what, name, obj, options, lines):
    """Put the names of an object's module before the examples of its docstring."""
    if not any(line.lstrip().startswith(">>>") for line in lines):
        return
    module = importlib.import_module(getattr(obj, "__module__", None) or name)
    names = f"globals().update(vars(__import__('importlib').import_module({module.__name__!r})))"
    lines[:0] = [".. testsetup:: *", "", f"   {names}", ""]


def letters_are_no_lists(app, what, name, obj, options, lines):
    """``:param rows: K.`` would begin a list of items K, L, M."""
    lines[:] = [re.sub(r"^(:param \S+: [A-Z])\.$", r"\1\.", line) for line in lines]


def skip_fields(app, what, name, obj, skip, options):
    """A field of a named tuple stands in the signature."""
    made_up = (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")
    return True if made_up else None


def setup(app):
    generate.write(HERE / "generated")
    for change in (examples_with_their_module, letters_are_no_lists):
        app.connect("autodoc-process-docstring", change, priority=900)  # after napoleon
    app.connect("autodoc-skip-member", skip_fields)
