"""Initialisers that give shapes instead of values where only the shapes of a network are wanted.

`FerNet(spec, rngs=NoKeys())` is so a network of `jax.ShapeDtypeStruct`, as `nnx.eval_shape` makes it, in a tenth of the
time: nothing is traced.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Initialiser = Callable[[Any, tuple[int, ...], Any], jax.Array]
"""From a key, a shape and a dtype to the first values of a parameter."""


class NoKeys:
    """Stands for `nnx.Rngs` in a network of shapes."""

    def params(self) -> None:
        """Return what stands for a key: `shaped` initialisers then give shapes."""


def shaped(initialiser: Initialiser) -> Initialiser:
    """Return `initialiser`, which gives the shape and dtype of its values where it gets no key (`NoKeys`)."""

    def first_values(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype) if key is None else initialiser(key, shape, dtype)

    return first_values


zeros = shaped(jax.nn.initializers.zeros)
ones = shaped(jax.nn.initializers.ones)
