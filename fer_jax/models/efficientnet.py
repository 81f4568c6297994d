"""EfficientNet-B0 (Tan and Le 2019) by the table of the paper, and Lite0, its variant for mobile devices."""

import dataclasses

from fer_jax.models.spec import BackboneSpec, Preprocessing, Stage

# ImageNet's mean and standard deviation by channel, in units of 0..255.
_IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))

EFFICIENTNET_B0 = BackboneSpec(
    name="efficientnet_b0",
    stem_channels=32,
    stages=(
        Stage(repeats=1, kernel=3, stride=1, channels=16, expansion=1),
        Stage(repeats=2, kernel=3, stride=2, channels=24, expansion=6),
        Stage(repeats=2, kernel=5, stride=2, channels=40, expansion=6),
        Stage(repeats=3, kernel=3, stride=2, channels=80, expansion=6),
        Stage(repeats=3, kernel=5, stride=1, channels=112, expansion=6),
        Stage(repeats=4, kernel=5, stride=2, channels=192, expansion=6),
        Stage(repeats=1, kernel=3, stride=1, channels=320, expansion=6),
    ),
    top_channels=1280,
    activation="swish",
    squeeze_excite=0.25,
    drop_path=True,
    preprocessing=_IMAGENET,
)

# B0 without gates and with ReLU6 for swish. There are no Keras weights; the published ones expect (x - 127) / 128:
# https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
EFFICIENTNET_LITE0 = dataclasses.replace(
    EFFICIENTNET_B0,
    name="efficientnet_lite0",
    activation="relu6",
    squeeze_excite=0.0,
    preprocessing=Preprocessing(mean=(127.0,) * 3, std=(128.0,) * 3),
)
