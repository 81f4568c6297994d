"""EfficientNet-Lite0, all of it trained from ImageNet weights; not in the paper.

    python scripts/convert_weights.py --source efficientnet_lite0
    python scripts/train.py --config=configs/efficientnet_lite0.py --data=fer2013.csv --workdir=runs/lite0

B0 without gates and with ReLU6, for mobile devices. Meant for one accelerator.

Measured only at lower resolution, with batch 64 and cosine, on all of FER2013 (docs/results/README.md), PrivateTest:
from ImageNet weights at 96 px, 3 epochs: 64.92 %, at 64 px, 6 epochs: 65.17 %; from scratch at 96 px, 3 epochs:
40.76 %.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.init = "efficientnet_lite0"
    config.model.backbones = ("efficientnet_lite0",)
    return config
