"""fairjax: fair multi-task learning in JAX, and the whole fairness-accuracy frontier instead of one point of it.

Rooms (``fairjax.notions``, ``fairjax.gradients``, ...) and names load when they are first used: ``import fairjax`` loads
neither flax nor any reader or drawing library.
"""

import importlib

__version__ = "0.1.0"

ROOMS = (
    "core",
    "data",
    "models",
    "losses",
    "notions",
    "objectives",
    "gradients",
    "training",
    "metrics",
    "methods",
    "postprocess",
    "study",
    "report",
    "cli",
)
_NAMES = {
    "core.types": ["Array", "Attribute", "Columns", "Components", "DataError", "Dataset", "Model", "Objective", "Post",
                   "Range", "Recipe", "Sentences", "Spec", "Splits", "Task"],
    "data": ["Encoder", "Prepared", "Roles", "from_sentences", "from_table", "load", "synthetic", "token_column"],
    "models": ["from_equinox", "from_linen", "from_nnx", "network", "scores", "shared_bottom", "text_encoder"],
    "notions": ["Notion", "correlation_ratio", "everyone", "exclusive", "gaussian_kernel", "gaussian_mmd", "hsic",
                "laplacian_kernel", "mmd", "negatives", "pearson", "positives", "rate_gap", "sharpened_rate_gap"],
    "objectives": ["mta_f_rows", "objective", "per_task", "weighted"],
    "gradients": ["LinkState", "Rule", "accuracy_first", "aggregator", "aligned_mtl", "at_representation", "cagrad",
                  "conflict_free", "dualproj", "dwa", "famo", "graddrop", "gradnorm", "gradvac", "imtl_g", "imtl_l",
                  "link", "link_states", "mean_rows", "mgda", "nash_mtl", "observe", "pcgrad", "random_weighting",
                  "route", "rows_through", "sum_rows", "summed_adagrad", "take_row", "uncertainty", "upgrad",
                  "validated", "value_and_rows", "weighted_rows", "wrap_chain"],
    "training": ["Runs", "State", "TrainConfig", "Trained", "draw", "grid", "make_train"],
    "metrics": ["are", "arfg", "evaluate"],
    "metrics.frontier": ["hypervolume", "knee", "nondominated"],
    "methods": ["Context", "baseline", "mta_f", "vanilla"],
    "study": ["StudyConfig"],
    "postprocess": ["Audit", "Repair"],
}  # fmt: skip
_ROOM = {name: room for room, names in _NAMES.items() for name in names}
__all__ = sorted(_ROOM)


def __getattr__(name: str):
    if name in ROOMS:
        return importlib.import_module(f"fairjax.{name}")
    if name not in _ROOM:
        raise AttributeError(f"module 'fairjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fairjax.{_ROOM[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*__all__, *ROOMS])
