"""MobileNetV2 (Sandler et al. 2018), width 1.0: table 2 of the paper, with the preprocessing of the Keras weights."""

from fer_jax.models.spec import BackboneSpec, Preprocessing, Stage

MOBILENET_V2 = BackboneSpec(
    name="mobilenet_v2",
    stem_channels=32,
    stages=(
        Stage(repeats=1, kernel=3, stride=1, channels=16, expansion=1),
        Stage(repeats=2, kernel=3, stride=2, channels=24, expansion=6),
        Stage(repeats=3, kernel=3, stride=2, channels=32, expansion=6),
        Stage(repeats=4, kernel=3, stride=2, channels=64, expansion=6),
        Stage(repeats=3, kernel=3, stride=1, channels=96, expansion=6),
        Stage(repeats=3, kernel=3, stride=2, channels=160, expansion=6),
        Stage(repeats=1, kernel=3, stride=1, channels=320, expansion=6),
    ),
    top_channels=1280,
    activation="relu6",
    squeeze_excite=0.0,
    drop_path=False,
    batch_norm_momentum=0.999,
    preprocessing=Preprocessing(mean=(127.5,) * 3, std=(127.5,) * 3),
)
