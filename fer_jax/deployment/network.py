"""What an export is made from: the network, its weights and what happens before and after it, apart from any file."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from fer_jax.inference.predictor import Forward, predict_images
from fer_jax.models.fernet import FerNetSpec
from fer_jax.runtime.sharding import make_mesh, replicated
from fer_jax.training.state import model_definition


@dataclasses.dataclass(frozen=True)
class ExportNetwork:
    """A network as it is exported, in evaluation, from uint8 images to probabilities.

    It computes in float32 whatever the compute dtype of its training, and on each platform with the convolutions that
    are the default there, whatever the config chose for the machine of the training.

    Attributes:
      spec: the shapes and the computation.
      params: the parameters of a `FerNet`, nested dicts of float32 arrays.
      batch_stats: its running statistics.
      image_shape: (height, width) of the gray images that it takes, or (height, width, 3) of RGB.
      flip: whether the probabilities of an image and of its mirror image are averaged.
      temperature: what the logits are divided by.
    """

    spec: FerNetSpec
    params: dict
    batch_stats: dict
    image_shape: tuple[int, ...]
    flip: bool = False
    temperature: float = 1.0

    def __post_init__(self):
        options = dataclasses.replace(self.spec.options, dtype=jnp.float32, depthwise_lowering="auto")
        object.__setattr__(self, "spec", dataclasses.replace(self.spec, options=options))
        for name in ("params", "batch_stats"):
            object.__setattr__(self, name, jax.tree.map(np.asarray, getattr(self, name)))

    def probabilities(self, images: jax.Array) -> jax.Array:
        """Return the class probabilities float32 [n, classes] of `images`, uint8 [n, *image_shape]; n may be symbolic.

        The weights are constants of the program.
        """
        logits = self.forward(self.params, self.batch_stats, images)
        return jax.nn.softmax(logits / self.temperature, axis=-1)

    @functools.cached_property
    def forward(self) -> Forward:
        """The logits, before the temperature, from parameters, running statistics and images."""
        graphdef = model_definition(self.spec, replicated(make_mesh()))[0]
        return functools.partial(predict_images, graphdef=graphdef, input_size=self.spec.input_size, flip=self.flip)
