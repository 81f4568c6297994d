"""TPU slices that need not be here: their devices can be compiled for, but not run on."""

import importlib.util
import os

import jax
import numpy as np
from jax.experimental import topologies

from fer_jax.errors import InputError, first_line
from fer_jax.runtime.sharding import DATA_AXIS

# libtpu otherwise asks a metadata server for the machine that it runs on, and keeps a lock as if it held a chip.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
}
"""What must be in the environment before the first use of JAX to compile for a TPU on a machine without one."""


def topology_mesh(topology: str) -> jax.sharding.Mesh:
    """Return the mesh that `train.py` would make of the chips of `topology`, such as `v5e:2x2`.

    Sets `ENVIRONMENT`, so it must come before JAX's first use of a device.

    Raises:
      InputError: where libtpu is missing, or does not know the topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            "the TPU compiler is not installed; run `pip install libtpu` in an environment of its own, beside this "
            "package (in the one that trains on CPU, it would look for a TPU at every start)"
        )
    os.environ.update(ENVIRONMENT)
    jax.config.update("jax_platforms", ENVIRONMENT["JAX_PLATFORMS"])
    # A v4 chip has two cores, which by default appear as two devices here and as one where it is installed.
    options = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices
    except (RuntimeError, ValueError) as error:  # JaxRuntimeError where libtpu refuses, ValueError where JAX does
        raise InputError(
            f"--topology={topology}: not known to the TPU compiler ({first_line(error)}); expected a generation and "
            "its chips along each axis, such as v5e:2x2, v6e:2x4, v4:2x2x1 or v5p:2x2x1"
        ) from error
    return jax.sharding.Mesh(np.array(devices), (DATA_AXIS,))
