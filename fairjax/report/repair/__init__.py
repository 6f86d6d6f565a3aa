"""What one repair did, as an offline page with its figures, or as a section of the page of a sweep.

In: an :class:`~fairjax.postprocess.Audit`. Out: ``report.html`` and the PNG files beside it, or
HTML. The page loads nothing and runs nothing: figures are in it as data, and names and values of
other people's tables reach it only escaped.
"""

from __future__ import annotations

from fairjax.report.repair.figures import repair_figures
from fairjax.report.repair.page import repair_section, repair_view, write_repair

__all__ = ["repair_figures", "repair_section", "repair_view", "write_repair"]
