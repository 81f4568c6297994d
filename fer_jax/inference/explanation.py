"""Where in an image a network sees a class: Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391)."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from fer_jax.augment import affine


def class_activation(
    params: dict,
    batch_stats: dict,
    image: jax.Array,
    label: jax.Array | int,
    *,
    graphdef: nnx.GraphDef,
    input_size: int,
    output_size: int,
) -> jax.Array:
    """Return the Grad-CAM of a class at the last feature map, float32 [output_size, output_size] from 0 to 1.

    Each channel of the feature map is weighted by the mean gradient of the class's logit with respect to it; where
    their sum is negative, it speaks for other classes and counts as 0. The networks of a hybrid each have a map, of
    the same logit and so in the same units: each is brought to `output_size` bilinearly, and their mean is taken. At
    last the largest value becomes 1; a map of zeros stays so.

    Args:
      params: the parameters.
      batch_stats: the running statistics.
      image: uint8 [1, size, size] or [1, size, size, 3].
      label: int [], the class; -1 for the one with the largest logit.
      graphdef: of the network.
      input_size: pixels to which the image is resized.
      output_size: height and width of the map.
    """
    model = nnx.merge(graphdef, params, batch_stats)
    inputs = affine.resize(image, input_size)
    feature_maps = [backbone(inputs) for backbone in model.backbones.values()]

    def logits(feature_maps: list[jax.Array]) -> jax.Array:
        return model.classifier(model.pool(feature_maps))[0]

    found, pullback = jax.vjp(logits, feature_maps)
    label = jnp.where(label < 0, jnp.argmax(found), label)
    (gradients,) = pullback(jax.nn.one_hot(label, len(found), dtype=found.dtype))

    def resized(feature_map: jax.Array, gradient: jax.Array) -> jax.Array:
        weights = jnp.mean(gradient, axis=(0, 1, 2), dtype=jnp.float32)
        activation = jax.nn.relu(feature_map[0].astype(jnp.float32) @ weights)
        return jax.image.resize(activation, (output_size, output_size), "linear")

    maps = [resized(*both) for both in zip(feature_maps, gradients, strict=True)]
    mean = functools.reduce(jnp.add, maps) / len(maps)
    largest = mean.max()
    return jnp.where(largest > 0, mean / jnp.where(largest > 0, largest, 1), 0)
