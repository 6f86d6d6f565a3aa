"""PNG figures of one repair: densities, transport, unfairness by attribute, the path.

In: an :class:`~fairjax.postprocess.Audit`. Out: the bytes of PNG files. A group has one colour in
all pictures; names are drawn literally.
"""

from __future__ import annotations

from fairjax.postprocess import Audit
from fairjax.report.drawing import house_style, png
from fairjax.report.repair.arrows import draw_arrows
from fairjax.report.repair.densities import draw_densities
from fairjax.report.repair.path import draw_path
from fairjax.report.repair.waterfall import draw_waterfall

FIGURES = {
    "densities.png": draw_densities,
    "arrows.png": draw_arrows,
    "waterfall.png": draw_waterfall,
    "path.png": draw_path,
}


def repair_figures(audit: Audit) -> dict[str, bytes]:
    """``densities.png``, ``arrows.png``, ``waterfall.png`` and ``path.png`` of an audit, by name.

    Raises:
      ImportError: matplotlib is missing.
    """
    with house_style():
        return {name: png(draw(audit)) for name, draw in FIGURES.items()}
