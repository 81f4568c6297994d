"""Where atomic writes were before `fer_jax.storage.files`."""

from fer_jax.storage.files import replace_file, write_text

__all__ = ["replace_file", "write_text"]
