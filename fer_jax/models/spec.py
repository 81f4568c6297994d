"""What a backbone is, as a table: its stages, and the conventions that its weights require.

Nothing here imports JAX, so that a config is checked and published weights are listed without waiting for it.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax


POOLINGS = ("avg", "max", "flatten")
"""What makes a vector of the last feature map of a backbone; see `fer_jax.models.fernet`."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """`repeats` blocks of one shape; only the first one strides and changes the number of channels."""

    repeats: int
    kernel: int
    stride: int
    channels: int
    expansion: int


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The normalisation `(x - mean) / std` of RGB values x in 0..255, with one mean and std for each channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: "jax.Array") -> "jax.Array":
        """Normalise gray [n, h, w] or RGB [n, h, w, 3] images in 0..255, float32, to RGB [n, h, w, 3], float32."""
        import jax.numpy as jnp

        if images.ndim == 3:
            images = images[..., None]
        return (images - jnp.array(self.mean)) / jnp.array(self.std)


@dataclasses.dataclass(frozen=True)
class BackboneSpec:
    """The definition of a backbone: its published table, and the conventions that its weights require.

    `squeeze_excite` is the ratio of the gate's width to the channels that enter the block (0: no gate); `drop_path`
    says whether the residual branches may be dropped in training. `batch_norm_momentum` is the decay of the running
    statistics in Keras, where the config gives none. The defaults of `padding`, `batch_norm_epsilon` and
    `preprocessing` belong to the Keras weights; converted weights bring their own values.
    """

    name: str
    stem_channels: int
    stages: Sequence[Stage]
    top_channels: int
    activation: str
    squeeze_excite: float
    drop_path: bool
    preprocessing: Preprocessing
    padding: str = "same"
    batch_norm_epsilon: float = 1e-3
    batch_norm_momentum: float = 0.99

    @property
    def num_blocks(self) -> int:
        return sum(stage.repeats for stage in self.stages)

    def variant(self) -> dict:
        """Return what the weights require, as JSON: name, `padding`, `batch_norm_epsilon` and `preprocessing`."""
        return {
            "name": self.name,
            "padding": self.padding,
            "batch_norm_epsilon": self.batch_norm_epsilon,
            "preprocessing": dataclasses.asdict(self.preprocessing),
        }

    def with_variant(self, variant: dict) -> "BackboneSpec":
        """Return this table with the padding, epsilon and preprocessing of `variant`; the inverse of `variant()`."""
        preprocessing = {key: tuple(values) for key, values in variant["preprocessing"].items()}
        return dataclasses.replace(
            self,
            padding=variant["padding"],
            batch_norm_epsilon=variant["batch_norm_epsilon"],
            preprocessing=Preprocessing(**preprocessing),
        )

    def feature_size(self, input_size: int) -> int:
        """Return the height (and width) of the feature map of a square image of `input_size` pixels."""
        strides = [2, *(stage.stride for stage in self.stages)]
        for stride in strides:
            input_size = math.ceil(input_size / stride)
        return input_size
