"""EfficientNetB0 as ImageNet weights have it, under a classifier that is trained: the paper's other case of a network.

    python scripts/train.py --config=configs/efficientnet_b0_frozen.py --data=fer2013.csv --workdir=runs/b0_frozen

Meant for one accelerator; a step costs little more than a forward pass.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.train.parameters = ("classifier/**: train", "backbones/**: freeze")
    return config
