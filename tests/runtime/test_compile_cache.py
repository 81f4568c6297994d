"""The compile cache of a block: empty at first, filled by it, and gone after it."""

from pathlib import Path

import jax
import jax.numpy as jnp

from fer_jax.runtime.compile_cache import empty_compile_cache


def test_cache_is_filled_in_the_block_and_restored_after_it():
    options = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    with empty_compile_cache():
        folder = Path(jax.config.jax_compilation_cache_dir)
        assert not list(folder.iterdir())
        jax.jit(lambda x: jnp.sin(x) * 3)(jnp.ones(5)).block_until_ready()
        assert list(folder.iterdir())
        assert str(folder) != options[0]
    assert not folder.exists()
    assert options == (jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)
