"""Stop on request: SIGTERM and SIGINT end a run after the current step, with its state saved."""

import contextlib
import os
import signal
import threading

import jax
from jax.experimental import multihost_utils

EXIT_PREEMPTED = os.EX_TEMPFAIL
"""The exit status (75) of a run that was stopped by a signal and saved: the same command resumes it."""

EXIT_INTERRUPTED = 128 + signal.SIGINT
"""The exit status (130) that shells give to a program which SIGINT ended."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preempted(Exception):
    """The run was asked to stop, and its state is saved. The message says where, and how to resume."""


class StopRequests(contextlib.AbstractContextManager):
    """Records SIGTERM and SIGINT while the block runs, and then restores the earlier handlers.

    After the first signal both have their default action again, so a second one ends the process at once, even inside
    compiled code.

    With several processes SIGTERM belongs to the preemption service of `jax.distributed`, which tells all processes
    and finds a step that none of them has passed; SIGINT becomes SIGTERM.
    """

    def __init__(self):
        self._noted = False
        self._asked = 0
        self._earlier: dict[int, object] = {}

    def requested(self) -> bool:
        """Return whether to stop here.

        Processes that train together must all call this equally often; they get the same answer.
        """
        if jax.process_count() == 1:
            return self._noted
        self._asked += 1
        return multihost_utils.reached_preemption_sync_point(self._asked)

    def __enter__(self) -> "StopRequests":
        # Python delivers signals to the main thread, and only it may set handlers.
        if threading.current_thread() is threading.main_thread():
            several = jax.process_count() > 1
            for number in (signal.SIGINT,) if several else _SIGNALS:
                self._earlier[number] = signal.signal(number, self._pass_on if several else self._note)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._earlier.items():
            # None means a handler that was not set by Python and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number, frame) -> None:
        self._noted = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    def _pass_on(self, number, frame) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
