"""The hybrid with both backbones as ImageNet weights have them: only the classifier on their features is trained.

    python scripts/train.py --config=configs/hybrid_imagenet_frozen.py --data=fer2013.csv --workdir=runs/hybrid_imagenet

The paper ("FF" in Table 3): 58.63 % on PrivateTest at epoch 147 of 150, the epoch chosen on that same split. Meant for
one accelerator; a step costs little more than a forward pass.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.backbones = ("efficientnet_b0", "mobilenet_v2")
    config.train.parameters = ("classifier/**: train", "backbones/**: freeze")
    config.train.epochs = 150
    return config
