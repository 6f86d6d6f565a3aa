"""fairjax: fair multi-task learning in JAX, and the whole fairness-accuracy frontier.

Rooms (``fairjax.notions``, ``fairjax.gradients``, ...) and the names below load when they are first
used: ``import fairjax`` loads neither flax nor any reader or drawing library.
"""

import importlib

__version__ = "0.1.0"

# the order of the flow: a file imports only from its own room and from rooms before it
ROOMS = (
    "core",
    "pretrained",
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
# what a newcomer does first; everything else is in its room
_ROOM = {
    "Components": "core.types",
    "DataError": "core.types",
    "Dataset": "core.types",
    "Model": "core.types",
    "Objective": "core.types",
    "Range": "core.types",
    "Recipe": "core.types",
    "Spec": "core.types",
    "Roles": "data",
    "from_images": "data",
    "from_sentences": "data",
    "from_table": "data",
    "load": "data",
    "from_equinox": "models",
    "from_linen": "models",
    "from_nnx": "models",
    "shared_bottom": "models",
    "from_distance": "notions",
    "negatives": "notions",
    "positives": "notions",
    "rate_gap": "notions",
    "link_states": "gradients",
    "pcgrad": "gradients",
    "route": "gradients",
    "sum_rows": "gradients",
    "validated": "gradients",
    "value_and_rows": "gradients",
    "TrainConfig": "training",
    "make_train": "training",
    "Context": "methods",
    "baseline": "methods",
    "mta_f": "methods",
    "vanilla": "methods",
    "Repair": "postprocess",
    "StudyConfig": "study",
    "constrain": "study",
    "load_model": "study",
    "run_study": "study",
}
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
