"""MobileNetV2, all of it trained from ImageNet weights: the second row of the paper's Table 3.

    python scripts/train.py --config=configs/mobilenet_v2.py --data=fer2013.csv --workdir=runs/mobilenet_v2

The paper: 71.04 % on PrivateTest at epoch 85, the epoch chosen on that same split. Meant for one accelerator; on a
CPU start with --config.init=scratch --config.model.input_size=64.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.backbones = ("mobilenet_v2",)
    return config
