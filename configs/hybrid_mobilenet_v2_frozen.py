r"""The hybrid with MobileNetV2 frozen and EfficientNetB0 fine-tuned: the other case that the paper leaves open.

    python scripts/train.py --config=configs/hybrid_mobilenet_v2_frozen.py --data=fer2013.csv \
        --workdir=runs/hybrid_mnv2_frozen

Both start from ImageNet weights; `--config.backbone_checkpoints.mobilenet_v2=RUN` freezes a network that was trained
on FER2013 in place of ImageNet's. Meant for one accelerator.

Not measured.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.backbones = ("efficientnet_b0", "mobilenet_v2")
    config.train.parameters = ("backbones/mobilenet_v2/**: freeze", "**: train")
    return config
