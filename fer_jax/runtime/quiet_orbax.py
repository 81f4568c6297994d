"""Silence what Orbax and its layers print about a checkpoint that cannot be written, beside the error they raise."""

import importlib.util
import logging
import os
import sys

from absl import logging as absl_logging


def silence_orbax() -> None:
    """Leave the error itself, which `Checkpoints` makes one of ours, as the only word on a failed write.

    Three layers speak besides. Orbax logs the error with its stack. The tasks that write other arrays fail after the
    first one, and asyncio logs errors that nobody awaits. Python prints the error of a task whose event loop is closed.
    """
    # Orbax has no logger of its own: it logs by absl's, as others do.
    absl_logging.get_absl_logger().addFilter(_is_not_from_orbax)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    earlier = sys.unraisablehook

    def hook(unraisable):
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            earlier(unraisable)

    sys.unraisablehook = hook


# `orbax` is a namespace package, which other packages of the project may extend from other folders.
_FOUND = importlib.util.find_spec("orbax")
_ORBAX = tuple(os.path.join(folder, "") for folder in (_FOUND and _FOUND.submodule_search_locations) or ())


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.CRITICAL or not record.pathname.startswith(_ORBAX)
