"""MobileNetV2 with frozen ImageNet weights; only the classifier trains: the paper's other case of a single network.

    python scripts/train.py --config=configs/mobilenet_v2_frozen.py --data=fer2013.csv --workdir=runs/v2_frozen

Meant for one accelerator; a step costs little more than a forward pass.

Not measured.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.backbones = ("mobilenet_v2",)
    config.train.parameters = ("classifier/**: train", "backbones/**: freeze")
    return config
