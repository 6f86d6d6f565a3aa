"""Headings and captions of the figures of a repair."""

from __future__ import annotations

CAPTIONS = {
    "densities.png": (
        "Distributions before and after",
        (
            "A line is the distribution of one group's scores, before the repair (above) and after"
            " (below). The further the lines of a picture lie apart, the more a score says about"
            " the group; after a full repair they should lie on one another as far as chance"
            " allows. A dot on a stem is a value that at least a twentieth of the group shares,"
            " the larger the more; groups of fewer than twenty rows are ticks, a row each. KS is"
            " the largest gap of selection rates between two groups over all thresholds."
        ),
    ),
    "arrows.png": (
        "Where scores go",
        (
            "Every group has a lane. Its dots are the nine deciles of its scores before the"
            " repair, its arrow heads where the repair takes them: to the right scores rise, to"
            " the left they fall. The repair keeps the order inside a group, so that arrows of a"
            " lane do not cross. After a full repair the heads of all groups should stand on the"
            " same grey lines; how far those of a small group miss them is mostly chance."
        ),
    ),
    "waterfall.png": (
        "Unfairness, attribute by attribute",
        (
            "The first bar is the unrepaired model, cut by attribute; every further bar is what"
            " remains after one more attribute is repaired, and hatched is what that step took"
            " away. Of several attributes the distances are added up. The dashed line is what"
            " chance alone makes of them: what lies below it cannot be told from no difference."
            " Dotted lines, where there are any, are the same for other orders; all end at the"
            " same place, but what an attribute contributes may depend on the order."
        ),
    ),
    "path.png": (
        "The price, over the repair amount",
        (
            "From amount 0 (as the model is) to 1 (full repair): to the left is cheaper, further"
            " down groups are closer to one another. The numbers are amounts. Each dashed line is"
            " what chance alone makes of the distance whose line has its colour: a path that has"
            " come down to it need not go on."
        ),
    ),
}
