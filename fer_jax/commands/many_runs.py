"""How a command of many runs ends, and what it says."""

import sys
from collections.abc import Callable
from typing import NoReturn

from fer_jax.runtime.preemption import EXIT_PREEMPTED, Preempted
from fer_jax.storage.bucket import AnyPath


def leave_with_table(work: Callable[[], bool], page: AnyPath, table: AnyPath) -> NoReturn:
    """Do `work`, which returns whether some runs failed, and print its `page` and where its `table` is.

    The process ends with 0 if all runs are done, 1 if some failed, 75 after a signal that stopped them.
    """
    try:
        failed = work()
    except Preempted as stopped:
        print(f"{stopped}; the same command resumes from there", file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)
    print(page.read_text(encoding="utf-8"))
    print(f"table: {table}")
    sys.exit(failed)


def say(text: str) -> None:
    """Print a line of what happens, at once."""
    print(text, flush=True)
