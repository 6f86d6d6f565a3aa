"""The family of links by name, each documented in its own file.

``pcgrad(2)`` is the link, ``pcgrad.rule()`` its rule in task space.

A new member is a file with its function, and its line in :data:`REGISTRY`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import optax

from fairjax.gradients.aggregators import sum_rows
from fairjax.gradients.rules._aligned_mtl import aligned_mtl
from fairjax.gradients.rules._cagrad import cagrad
from fairjax.gradients.rules._conflict_free import conflict_free
from fairjax.gradients.rules._cosmos import cosmos
from fairjax.gradients.rules._cr_mogm import cr_mogm
from fairjax.gradients.rules._db_mtl import db_mtl
from fairjax.gradients.rules._dualproj import dualproj
from fairjax.gradients.rules._dwa import dwa
from fairjax.gradients.rules._excess_mtl import excess_mtl
from fairjax.gradients.rules._fairgrad import fairgrad
from fairjax.gradients.rules._famo import famo
from fairjax.gradients.rules._geometric_loss import geometric_loss
from fairjax.gradients.rules._go4align import go4align
from fairjax.gradients.rules._graddrop import graddrop
from fairjax.gradients.rules._gradnorm import gradnorm
from fairjax.gradients.rules._gradvac import gradvac
from fairjax.gradients.rules._head_aware import head_aware
from fairjax.gradients.rules._imtl_g import imtl_g
from fairjax.gradients.rules._imtl_l import imtl_l
from fairjax.gradients.rules._ldc_mtl import ldc_mtl
from fairjax.gradients.rules._mgda import mgda
from fairjax.gradients.rules._moco import moco
from fairjax.gradients.rules._modo import modo
from fairjax.gradients.rules._nash_mtl import nash_mtl
from fairjax.gradients.rules._normalised_rows import on_normalised_rows
from fairjax.gradients.rules._pbi import pbi
from fairjax.gradients.rules._pcd import pcd
from fairjax.gradients.rules._pcgrad import pcgrad
from fairjax.gradients.rules._pivrg import pivrg
from fairjax.gradients.rules._projections import accuracy_first, among_fairness
from fairjax.gradients.rules._sdmgrad import sdmgrad
from fairjax.gradients.rules._stch import stch
from fairjax.gradients.rules._two_batches import on_two_batches
from fairjax.gradients.rules._uncertainty import uncertainty
from fairjax.gradients.rules._upgrad import upgrad
from fairjax.gradients.rules.constant import mean_rows, random_weighting, weighted_rows


class LinkEntry(NamedTuple):
    """A link of the family, and what a method needs to know about it.

    ``weighs`` says what the link settles. ``"gradients"``: conflicts between gradients; a method
    puts the link on the shared trunk, and every head takes the sum of its own rows. ``"all"``:
    conflicts between gradients of all parameters, heads included; a method puts the link on all
    parameters. ``"losses"``: size or pace of losses; a method puts the link on all parameters, and
    gradients are measured on the trunk. ``"nothing"``: weights are fixed beforehand, which is no
    method of its own.
    """

    factory: Callable[..., optax.GradientTransformationExtraArgs]
    weighs: Literal["gradients", "all", "losses", "nothing"]
    owns_optimizer: bool = False  # factory(rows, optimizer) is the whole chain
    two_batches: bool = False  # a method gives it the rows of two batches a step
    # arguments without a default, which a method gives
    constants: Mapping[str, Any] = MappingProxyType({})


DWA_PERIOD = 64  # steps over which a method with DWA averages a loss

REGISTRY: dict[str, LinkEntry] = {
    "aligned_mtl": LinkEntry(aligned_mtl, "gradients"),
    "cagrad": LinkEntry(cagrad, "gradients"),
    "conflict_free": LinkEntry(conflict_free, "gradients"),
    "cosmos": LinkEntry(cosmos, "losses"),
    "cr_mogm": LinkEntry(cr_mogm, "gradients"),
    "db_mtl": LinkEntry(db_mtl, "gradients"),
    "dualproj": LinkEntry(dualproj, "gradients"),
    "dwa": LinkEntry(dwa, "losses", constants={"every": DWA_PERIOD}),
    "excess_mtl": LinkEntry(excess_mtl, "losses"),
    "fairgrad": LinkEntry(fairgrad, "gradients"),
    "famo": LinkEntry(famo, "losses", owns_optimizer=True),
    "geometric_loss": LinkEntry(geometric_loss, "losses"),
    "go4align": LinkEntry(go4align, "losses"),
    "graddrop": LinkEntry(graddrop, "gradients"),
    "gradnorm": LinkEntry(gradnorm, "losses"),
    "gradvac": LinkEntry(gradvac, "gradients"),
    "head_aware": LinkEntry(head_aware, "all"),
    "imtl_g": LinkEntry(imtl_g, "gradients"),
    "imtl_l": LinkEntry(imtl_l, "losses"),
    "ldc_mtl": LinkEntry(ldc_mtl, "losses"),
    "mean_rows": LinkEntry(mean_rows, "nothing"),
    "mgda": LinkEntry(mgda, "gradients"),
    "moco": LinkEntry(moco, "gradients"),
    "modo": LinkEntry(modo, "gradients", two_batches=True),
    "nash_mtl": LinkEntry(nash_mtl, "gradients"),
    "pbi": LinkEntry(pbi, "losses"),
    "pcd": LinkEntry(pcd, "gradients"),
    "pcgrad": LinkEntry(pcgrad, "gradients"),
    "pivrg": LinkEntry(pivrg, "gradients"),
    "random_weighting": LinkEntry(random_weighting, "losses"),
    "sdmgrad": LinkEntry(sdmgrad, "gradients", two_batches=True),
    "stch": LinkEntry(stch, "losses"),
    "sum_rows": LinkEntry(sum_rows, "nothing"),
    "uncertainty": LinkEntry(uncertainty, "losses"),
    "upgrad": LinkEntry(upgrad, "gradients"),
    "weighted_rows": LinkEntry(weighted_rows, "nothing"),
}

__all__ = [
    "REGISTRY",
    "LinkEntry",
    "accuracy_first",
    "among_fairness",
    "on_normalised_rows",
    "on_two_batches",
    *REGISTRY,
]
