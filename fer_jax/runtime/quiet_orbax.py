"""What Orbax and its layers print of a checkpoint that cannot be written, beside the error that they raise."""

import logging
import sys

from absl import logging as absl_logging


def silence_orbax() -> None:
    """Leaves the error itself, which `Checkpoints` makes one of ours, as the only word on a failed write.

    Orbax logs it with its stack; the tasks that write other arrays fail after the first one, unasked for, which asyncio
    logs; and what they tell an event loop that is closed by then, Python prints.
    """
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    earlier = sys.unraisablehook

    def hook(unraisable):
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            earlier(unraisable)

    sys.unraisablehook = hook
