"""Methods by name: one line for each. The command line and saved studies take them from here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fairjax import gradients
from fairjax.methods._aggregated import (
    consmtl,
    fairness_surgery,
    linked,
    mgda_ub,
    pcd_accuracy_first,
    pcd_fairness_first,
)
from fairjax.methods._blind import blind
from fairjax.methods._constrained import constrained
from fairjax.methods._fafs import fafs
from fairjax.methods._fairbranch import fairbranch
from fairjax.methods._fairmt import fairmt
from fairjax.methods._greedy_fmt import greedy_fmt
from fairjax.methods._l2t_fmt import l2t_fmt
from fairjax.methods._mta_f import mta_f
from fairjax.methods._recon import recon
from fairjax.methods._tag import tag
from fairjax.methods._transfer import sequential, transfer
from fairjax.methods._yoto import yoto
from fairjax.methods.context import Method, SweptNotions
from fairjax.methods.scalarized import baseline, differential, vanilla


def _without_notion(make: Callable[..., Method]) -> Callable[..., Method]:
    """A factory that has no use for the study's notion."""
    return lambda notion, **options: make(**options)


def _links() -> dict[str, Callable[..., Method]]:
    """Every gradient link, on one row per task and on rows of accuracy and of fairness."""
    methods = {}
    links = [name for name, link in gradients.REGISTRY.items() if link.weighs != "nothing"]
    at_representation = {"consmtl": consmtl, "mgda_ub": mgda_ub}
    for name in sorted([*links, *at_representation]):
        make = at_representation.get(name) or partial(linked, name=name)
        methods[name] = make
        methods[f"{name}_split"] = partial(make, split=True)
    return methods


# name -> factory ``(notion, **options) -> method``
REGISTRY: dict[str, Callable[..., Method]] = {
    "vanilla": _without_notion(vanilla),
    "baseline": baseline,
    "mta_f": mta_f,
    "constrained": constrained,
    "fairmt": _without_notion(fairmt),
    "differential": _without_notion(differential),
    "transfer": transfer,
    "sequential": sequential,
    "blind": _without_notion(blind),
    "yoto": yoto,
    "greedy_fmt": greedy_fmt,
    "l2t_fmt": l2t_fmt,
    "fairness_surgery": fairness_surgery,
    "pcd_accuracy_first": pcd_accuracy_first,
    "pcd_fairness_first": pcd_fairness_first,
    "fairbranch": fairbranch,
    "recon": recon,
    "fafs": fafs,
    "tag": tag,
    **_links(),
}


def get(name: str, notion: SweptNotions, **options: Any) -> Method:
    """A method of the registry by name.

    Args:
      name: a key of ``REGISTRY``.
      notion: of its fairness losses; a method without fairness losses has no use for it.
      options: of the method, such as ``scale_trunk`` of MTA-F.

    Raises:
      ValueError: the name is not in the registry.
    """
    if name not in REGISTRY:
        raise ValueError(f"method {name!r} is not one of {', '.join(REGISTRY)}")
    return REGISTRY[name](notion, **options)
