"""The hybrid of both backbones with frozen ImageNet weights: only the classifier on their features trains.

    python scripts/train.py --config=configs/hybrid_imagenet_frozen.py --data=fer2013.csv --workdir=runs/hybrid_imagenet

The paper ("FF" in Table 3): 58.63 % on PrivateTest at epoch 147 of 150, the epoch chosen on that same split. Meant for
one accelerator; a step costs little more than a forward pass.

Not measured with this pair. With EfficientNet-Lite0 in place of EfficientNetB0, at 64 px instead of 200, batch 64 and
cosine, 12 epochs on the cached features of 4 views: 53.75 % on PrivateTest (docs/results/README.md).
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.backbones = ("efficientnet_b0", "mobilenet_v2")
    config.train.parameters = ("classifier/**: train", "backbones/**: freeze")
    config.train.epochs = 150
    return config
