"""What the environment says to JAX, before any work and around it."""

import jax
import jax.numpy as jnp
import pytest

from fer_jax.errors import InputError
from fer_jax.runtime.jax_environment import prepare_jax, usual_numerics


@pytest.mark.parametrize("reason", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda'\nmore")])
def test_devices_that_are_not_there_are_refused_with_what_installs_them(reason, monkeypatch):
    def none():
        raise reason

    monkeypatch.setattr(jax, "devices", none)
    with pytest.raises(InputError, match=rf"JAX_PLATFORMS=cpu: .*{reason or 'here;'}".partition("\n")[0]) as error:
        prepare_jax()
    assert "fer_jax[cuda12]" in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_have_their_usual_types_whatever_is_set_outside():
    @usual_numerics()
    def mixed():
        return jnp.arange(3) + jnp.zeros(3, jnp.bfloat16) + jnp.ones(3, jnp.float32)

    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        assert mixed().dtype == jnp.float32
        assert jnp.zeros(1).dtype == jnp.float64
