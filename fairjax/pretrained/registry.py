"""Pretrained networks by name. To add one, write its file and add one line to ``REGISTRY``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fairjax.core.types import DataError
from fairjax.pretrained._bert import bert, minilm
from fairjax.pretrained._efficientnet_lite0 import efficientnet_lite0
from fairjax.pretrained._universal_sentence_encoder import universal_sentence_encoder
from fairjax.pretrained.network import Pretrained

REGISTRY: dict[str, Callable[[], Pretrained]] = {
    "efficientnet_lite0": efficientnet_lite0,
    "minilm": minilm,
    "use": universal_sentence_encoder,
}


def load(name: str | Path) -> Pretrained:
    """The network of a name, or the BERT of a folder.

    Raises:
      DataError: there is neither; a package is missing; or files are damaged.
    """
    if name in REGISTRY:
        return REGISTRY[name]()
    if not os.path.isdir(name):  # also of what no path can be
        names = ", ".join(REGISTRY)
        raise DataError(f"{name}: no pretrained network and no folder. Take {names}, or a folder.")
    return bert(name)
