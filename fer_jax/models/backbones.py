"""The backbones."""

from fer_jax.models.efficientnet import EFFICIENTNET_B0, EFFICIENTNET_LITE0
from fer_jax.models.mobilenet import MOBILENET_V2

BACKBONES = {spec.name: spec for spec in (EFFICIENTNET_B0, EFFICIENTNET_LITE0, MOBILENET_V2)}
"""The backbones, by their names in configs."""
