"""Limit how far the host runs ahead of the devices."""

import jax
import jax.numpy as jnp


class StepsInFlight:
    """Keeps the host at most one step ahead: enough to hide its own work, and a signal never waits for many steps."""

    def __init__(self):
        # A copy, since the state itself is donated to the next step.
        self._copy = jax.jit(jnp.copy)
        self._latest: jax.Array | None = None

    def add(self, step: jax.Array) -> None:
        """Take the `step` counter that a step has just returned; wait until the step before it is done."""
        earlier, self._latest = self._latest, self._copy(step)
        if earlier is not None:
            earlier.block_until_ready()
