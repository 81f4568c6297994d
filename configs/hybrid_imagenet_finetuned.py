"""The hybrid of EfficientNetB0 and MobileNetV2, all of it trained from ImageNet weights: "TT" in the paper's Table 3.

    python scripts/train.py --config=configs/hybrid_imagenet_finetuned.py --data=fer2013.csv --workdir=runs/hybrid_tt

The paper: 73.22 % on PrivateTest at epoch 74, the epoch chosen on that same split. Meant for one accelerator.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.backbones = ("efficientnet_b0", "mobilenet_v2")
    return config
