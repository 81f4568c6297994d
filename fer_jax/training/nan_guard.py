"""Numbers that are no longer finite: noticed in the compiled step, named on the host, never saved."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from flax import struct

_NEVER = np.iinfo(np.int32).max


@struct.dataclass
class FirstNotFinite(clu_metrics.Metric):
    """The first step, counted from 1, whose loss or gradients were not finite; int32 [], the largest one if none."""

    step: jax.Array

    @classmethod
    def empty(cls) -> "FirstNotFinite":
        return cls(jnp.int32(_NEVER))

    @classmethod
    def from_model_output(cls, *, step: jax.Array, finite: jax.Array, **_) -> "FirstNotFinite":
        """Make it from the `step` just taken and whether all of it was `finite` (bool [])."""
        return cls(jnp.where(finite, _NEVER, step).astype(jnp.int32))

    def merge(self, other: "FirstNotFinite") -> "FirstNotFinite":
        return FirstNotFinite(jnp.minimum(self.step, other.step))

    def compute(self) -> jax.Array:
        return self.step


def first_not_finite(metric: FirstNotFinite) -> int | None:
    """Return the step as a number of the host, None if every step was finite."""
    step = int(metric.step)
    return None if step == _NEVER else step


def all_finite(tree: Any) -> jax.Array:
    """Return whether every floating-point leaf of `tree` is finite everywhere: bool []."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
