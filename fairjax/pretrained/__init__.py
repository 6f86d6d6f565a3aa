"""Networks that somebody else trained: their weights, their inputs and their features."""

from fairjax.pretrained._efficientnet_lite0 import efficientnet_lite0
from fairjax.pretrained.network import Pretrained

__all__ = ["Pretrained", "efficientnet_lite0"]
