"""fairjax: fair multi-task learning in JAX, and the whole fairness-accuracy frontier instead of one point of it.

Names load when they are first used: ``import fairjax`` loads neither flax nor any reader or drawing library.
"""

import importlib

__version__ = "0.1.0"

_WHERE = {
    "types": ["Array", "Attribute", "Columns", "DataError", "Dataset", "Model", "Objective", "Parts", "Post", "Range",
              "Recipe", "Sentences", "Spec", "Splits", "Task"],
    "data": ["Encoder", "Prepared", "Roles", "from_sentences", "from_table", "load", "synthetic", "token_column"],
    "models": ["from_equinox", "from_linen", "from_nnx", "network", "scores", "shared_bottom", "text_encoder"],
    "notions": ["Notion", "correlation_ratio", "everyone", "exclusive", "gaussian", "gaussian_mmd", "hsic", "laplacian",
                "mmd", "negatives", "pearson", "positives", "rate_gap", "sharpened_rate_gap"],
    "objectives": ["mta_f_rows", "objective", "per_task", "weighted"],
    "gradients": ["LinkState", "Rule", "aggregator", "aligned_mtl", "around", "at_representation", "cagrad", "checked",
                  "config", "dualproj", "dwa", "fairness_gives_way", "famo", "graddrop", "gradnorm", "gradvac", "imtl_g",
                  "imtl_l", "link", "link_states", "mean_rows", "mgda", "nash_mtl", "observe", "pcgrad", "random_weighting",
                  "route", "rows_through", "sum_rows", "summed_adagrad", "take_row", "uncertainty", "upgrad", "value_and_rows",
                  "weighted_rows"],
    "train": ["State", "Static", "Trained", "make_train"],
    "sweep": ["Runs", "draw", "grid"],
    "metrics": ["are", "arfg", "evaluate"],
    "frontier": ["hypervolume", "knee", "nondominated"],
    "recipes": ["RECIPES", "Setup", "baseline", "mta_f", "single_task", "vanilla"],
    "study": ["Plan"],
    "repair": ["Audit", "Repair"],
}
# the functions sweep and study share their room's name and stay there: from fairjax.sweep import sweep
_ROOM = {name: room for room, names in _WHERE.items() for name in names}
__all__ = sorted(_ROOM)


def __getattr__(name: str):
    if name not in _ROOM:
        raise AttributeError(f"module 'fairjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fairjax.{_ROOM[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
