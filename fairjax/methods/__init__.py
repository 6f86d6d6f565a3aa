"""Methods by name: each file is one recipe, a function from a :class:`Context` to a :class:`fairjax.core.types.Recipe`."""

from fairjax.methods._aggregated import AGGREGATED
from fairjax.methods._differential import differential
from fairjax.methods._mta_f import mta_f
from fairjax.methods._transfer import VARIANTS, blind, penalised, sequential, settings, transfer
from fairjax.methods._yoto import loss_weights, runs_for, scores_for, yoto
from fairjax.methods.context import Context
from fairjax.methods.scalarized import baseline, single_task, vanilla
from fairjax.methods.selection import select

RECIPES = {
    "single_task": single_task,
    "vanilla": vanilla,
    "baseline": baseline,
    "mta_f": mta_f,
    "differential": differential,
    **AGGREGATED,
}

__all__ = [
    "AGGREGATED",
    "RECIPES",
    "VARIANTS",
    "Context",
    "baseline",
    "blind",
    "differential",
    "loss_weights",
    "mta_f",
    "penalised",
    "runs_for",
    "scores_for",
    "select",
    "sequential",
    "settings",
    "single_task",
    "transfer",
    "vanilla",
    "yoto",
]
