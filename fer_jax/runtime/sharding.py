"""The device mesh: data parallel over all devices, parameters and data replicated; and arrays placed on it."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fer_jax.errors import InputError

DATA_AXIS = "data"


def make_mesh() -> Mesh:
    """Return a one-dimensional mesh of all devices of all processes."""
    return Mesh(np.array(jax.devices()), (DATA_AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """Return the sharding of an array whose first axis is the batch, split evenly over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def check_batch_size(batch_size: int, mesh: Mesh, key: str) -> None:
    """Raise `InputError` naming the config `key` unless every device gets an equal share of the batch."""
    if batch_size % mesh.size:
        nearest = max(mesh.size, round(batch_size / mesh.size) * mesh.size)
        raise InputError(
            f"config.{key}={batch_size} cannot be split over {mesh.size} devices; use a multiple, such as {nearest}"
        )


def place(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Return the arrays of `tree` on the devices of `sharding`; every process must give the same values."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf):
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(put, tree)
