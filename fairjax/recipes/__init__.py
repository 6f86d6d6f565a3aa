"""Methods by name: each file is one recipe, a function from a :class:`Setup` to a :class:`fairjax.types.Recipe`."""

from fairjax.recipes.aggregated import AGGREGATED
from fairjax.recipes.differential import differential
from fairjax.recipes.mta_f import mta_f
from fairjax.recipes.scalarized import baseline, single_task, vanilla
from fairjax.recipes.setup import Setup

RECIPES = {"single_task": single_task, "vanilla": vanilla, "baseline": baseline, "mta_f": mta_f,
           "differential": differential, **AGGREGATED}

__all__ = ["AGGREGATED", "RECIPES", "Setup", "baseline", "differential", "mta_f", "single_task", "vanilla"]
