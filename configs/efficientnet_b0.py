"""EfficientNetB0, all of it trained from ImageNet weights: the first row of the paper's Table 3.

    python scripts/train.py --config=configs/efficientnet_b0.py --data=fer2013.csv --workdir=runs/efficientnet_b0

The paper: 73.32 % on PrivateTest at epoch 95, the epoch chosen on that same split. Meant for one accelerator; on a
CPU start with --config.init=scratch --config.model.input_size=64.

Measured from scratch only, at 64 px instead of 200, with batch 64 and cosine, on all of FER2013
(docs/results/README.md), PrivateTest: 50.96 % after 12 epochs instead of 100, 42.13 % after 6 with warm-up.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config


def get_config() -> ConfigDict:
    return default_config()
