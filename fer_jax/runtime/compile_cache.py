"""Keep compiled programs on disk, so that a second run of the same config starts without compiling."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache
from platformdirs import user_cache_path

_OPTIONS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


def enable_compile_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR names another one."""
    options: Any = jax.config  # attributes that its type does not name
    if not options.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(user_cache_path("fer_jax") / "compiled"))


@contextlib.contextmanager
def empty_compile_cache() -> Iterator[None]:
    """Keep every program compiled in the block in a temporary folder that is empty at first.

    Programs compiled before are dropped, so that the first compilation in the block is a cold one; after
    `jax.clear_caches()` the same program comes from the folder.
    """
    before = {option: getattr(jax.config, option) for option in _OPTIONS}
    with tempfile.TemporaryDirectory(prefix="fer_jax_compiled_") as folder:
        try:
            _use(dict(zip(_OPTIONS, (folder, 0.0), strict=True)))
            yield
        finally:
            _use(before)


def _use(options: dict) -> None:
    for option, value in options.items():
        jax.config.update(option, value)
    # JAX opens its cache once, at the first compilation.
    compilation_cache.reset_cache()
    jax.clear_caches()
