"""Methods by name: each file is one recipe, a function from a :class:`Setup` to a :class:`fairjax.types.Recipe`."""

from fairjax.recipes.aggregated import AGGREGATED
from fairjax.recipes.differential import differential
from fairjax.recipes.mta_f import mta_f
from fairjax.recipes.scalarized import baseline, single_task, vanilla
from fairjax.recipes.setup import Setup
from fairjax.recipes.transfer import VARIANTS, blind, penalised, sequential, settings, transfer
from fairjax.recipes.yoto import loss_weights, runs_over, scores_over, yoto

RECIPES = {"single_task": single_task, "vanilla": vanilla, "baseline": baseline, "mta_f": mta_f,
           "differential": differential, **AGGREGATED}

__all__ = ["AGGREGATED", "RECIPES", "VARIANTS", "Setup", "baseline", "blind", "differential", "loss_weights", "mta_f",
           "penalised", "runs_over", "scores_over", "sequential", "settings", "single_task", "transfer", "vanilla", "yoto"]
