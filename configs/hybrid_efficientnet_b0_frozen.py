r"""The hybrid with EfficientNetB0 frozen and MobileNetV2 fine-tuned: one of the two cases that the paper leaves open.

    python scripts/train.py --config=configs/hybrid_efficientnet_b0_frozen.py --data=fer2013.csv \
        --workdir=runs/hybrid_b0_frozen

Both start from ImageNet weights; `--config.backbone_checkpoints.efficientnet_b0=RUN` freezes a network that was trained
on FER2013 in place of ImageNet's. Meant for one accelerator.

Not measured.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.backbones = ("efficientnet_b0", "mobilenet_v2")
    config.train.parameters = ("backbones/efficientnet_b0/**: freeze", "**: train")
    return config
