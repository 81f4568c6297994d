"""The hybrid of EfficientNetB0 and MobileNetV2, all of it trained from ImageNet weights: "TT" in the paper's Table 3.

    python scripts/train.py --config=configs/hybrid_imagenet_finetuned.py --data=fer2013.csv --workdir=runs/hybrid_tt

The paper: 73.22 % on PrivateTest at epoch 74, the epoch chosen on that same split. Meant for one accelerator.

Not measured with this pair. With EfficientNet-Lite0 in place of EfficientNetB0, at 64 px instead of 200, batch 64 and
cosine, 5 epochs instead of 100: 64.42 % on PrivateTest (docs/results/README.md).
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.backbones = ("efficientnet_b0", "mobilenet_v2")
    return config
