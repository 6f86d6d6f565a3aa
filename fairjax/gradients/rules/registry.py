"""Every link by name, with what a method must know to use it: one line for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from fairjax.gradients.rules._famo import famo
from fairjax.gradients.rules._graddrop import graddrop
from fairjax.gradients.rules._mgda import cagrad, mgda
from fairjax.gradients.rules.balance import dwa, gradnorm, imtl_l, uncertainty
from fairjax.gradients.rules.cone import dualproj, upgrad
from fairjax.gradients.rules.constant import random_weighting
from fairjax.gradients.rules.linear import aligned_mtl, conflict_free, imtl_g, nash_mtl
from fairjax.gradients.rules.surgery import gradvac, pcgrad


class Entry(NamedTuple):
    """A link of the registry."""

    link: Callable
    on_trunk: bool = True  # sees and moves the trunk alone; else it weighs losses, heads included
    owns_optimizer: bool = False  # takes the optimizer as its second argument
    constants: Mapping = {}  # keywords with which methods build it


REGISTRY: dict[str, Entry] = {
    "aligned_mtl": Entry(aligned_mtl),
    "cagrad": Entry(cagrad),
    "conflict_free": Entry(conflict_free),
    "dualproj": Entry(dualproj),
    "dwa": Entry(dwa, on_trunk=False, constants={"every": 64}),
    "famo": Entry(famo, on_trunk=False, owns_optimizer=True),
    "graddrop": Entry(graddrop),
    "gradnorm": Entry(gradnorm, on_trunk=False),
    "gradvac": Entry(gradvac),
    "imtl_g": Entry(imtl_g),
    "imtl_l": Entry(imtl_l, on_trunk=False),
    "mgda": Entry(mgda),
    "nash_mtl": Entry(nash_mtl),
    "pcgrad": Entry(pcgrad),
    "random_weighting": Entry(random_weighting, on_trunk=False),
    "uncertainty": Entry(uncertainty, on_trunk=False),
    "upgrad": Entry(upgrad),
}
