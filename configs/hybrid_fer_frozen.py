r"""The hybrid of two networks that were trained on FER2013 before: only the classifier on their features is trained.

    python scripts/train.py --config=configs/efficientnet_b0.py --data=fer2013.csv --workdir=runs/efficientnet_b0
    python scripts/train.py --config=configs/mobilenet_v2.py --data=fer2013.csv --workdir=runs/mobilenet_v2
    python scripts/train.py --config=configs/hybrid_fer_frozen.py --data=fer2013.csv --workdir=runs/hybrid_fer \
        --config.backbone_checkpoints.efficientnet_b0=runs/efficientnet_b0 \
        --config.backbone_checkpoints.mobilenet_v2=runs/mobilenet_v2

Each backbone comes from its run's best epoch on PublicTest, so PublicTest has already been used for selection;
PrivateTest has not. The paper: 74.39 % on PrivateTest at epoch 16, the epoch chosen on that same split. Meant for one
accelerator; a step costs little more than a forward pass.

Not measured with this pair. With EfficientNet-Lite0 in place of EfficientNetB0, at 64 px instead of 200, batch 64 and
cosine, 12 epochs on the cached features of 4 views: 67.18 % on PrivateTest (docs/results/README.md).
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.init = "checkpoints"
    config.model.backbones = ("efficientnet_b0", "mobilenet_v2")
    config.train.parameters = ("classifier/**: train", "backbones/**: freeze")
    return config
