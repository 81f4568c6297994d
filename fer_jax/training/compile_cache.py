"""Compiled programs kept on disk, so that a second run of the same config starts at once."""

import jax
from platformdirs import user_cache_path


def enable_compile_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR names another place."""
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(user_cache_path("fer_jax") / "compiled"))
