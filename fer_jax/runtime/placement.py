"""Put arrays of the host on the devices of all processes."""

from typing import Any

import jax
import numpy as np


def place(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Put the arrays of `tree` on the devices of `sharding`; every process must pass the same values."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf):
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(put, tree)
