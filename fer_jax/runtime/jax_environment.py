"""What the environment says to JAX: the devices that it names must be there, and numbers have the usual types."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from fer_jax.errors import InputError, first_line


def prepare_jax() -> None:
    """Give JAX its usual numerics for a command, and check that it has devices.

    Call it before the data are read, and after `fer_jax.runtime.processes.initialize` where several processes train.

    Raises:
      InputError: if JAX_PLATFORMS names devices that JAX cannot use here.
    """
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        options: Any = jax.config  # attributes that its type does not name
        wanted = options.jax_platforms
        if not wanted:
            raise
        reason = f" ({first_line(error)})" if str(error) else ""
        raise InputError(
            f"JAX_PLATFORMS={wanted}: JAX finds no such device here{reason}; install what it needs by pip install "
            "'fer_jax[cuda12]', '[cuda13]' or '[tpu]', or unset JAX_PLATFORMS to run on the devices that are there"
        ) from error


@contextlib.contextmanager
def usual_numerics() -> Iterator[None]:
    """Trace and run in the block as JAX does by default, whatever JAX_ENABLE_X64 or strict promotion say outside.

    Every array here has a type that the code states; types of 64 bits would be other programs and other results.
    """
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield
