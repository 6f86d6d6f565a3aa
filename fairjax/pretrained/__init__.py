"""Networks that somebody else trained: their weights, their inputs and their features."""

from fairjax.pretrained._bert import bert, minilm
from fairjax.pretrained._efficientnet_lite0 import efficientnet_lite0
from fairjax.pretrained._features import features
from fairjax.pretrained._universal_sentence_encoder import universal_sentence_encoder
from fairjax.pretrained.network import Pretrained, Progress
from fairjax.pretrained.registry import REGISTRY, load

__all__ = [
    "REGISTRY",
    "Pretrained",
    "Progress",
    "bert",
    "efficientnet_lite0",
    "features",
    "load",
    "minilm",
    "universal_sentence_encoder",
]
