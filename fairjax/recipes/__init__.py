"""Methods by name: each file is one recipe, a function from a :class:`Setup` to a :class:`fairjax.types.Recipe`."""

from fairjax.recipes.aggregated import AGGREGATED
from fairjax.recipes.differential import differential
from fairjax.recipes.mta_f import mta_f
from fairjax.recipes.scalarized import baseline, single_task, vanilla
from fairjax.recipes.setup import Setup
from fairjax.recipes.transfer import VARIANTS, blind, penalised, sequential, settings, transfer

RECIPES = {"single_task": single_task, "vanilla": vanilla, "baseline": baseline, "mta_f": mta_f,
           "differential": differential, **AGGREGATED}

__all__ = ["AGGREGATED", "RECIPES", "VARIANTS", "Setup", "baseline", "blind", "differential", "mta_f", "penalised",
           "sequential", "settings", "single_task", "transfer", "vanilla"]
