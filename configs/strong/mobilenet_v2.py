"""MobileNetV2, by the recipe of today; not in the paper.

    python scripts/train.py --config=configs/strong/mobilenet_v2.py --data=fer2013.csv --workdir=runs/strong_v2

The recipe is that of `fer_jax/config/recipes.py`. Meant for one accelerator.

Not measured.
"""

from ml_collections import ConfigDict

from fer_jax.config.defaults import default_config
from fer_jax.config.recipes import fine_tuning_recipe


def get_config() -> ConfigDict:
    config = default_config()
    config.model.backbones = ("mobilenet_v2",)
    fine_tuning_recipe(config)
    return config
