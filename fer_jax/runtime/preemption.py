"""Stop on request: SIGTERM, SIGINT, SIGHUP and SIGUSR1 end a run after the current step, with its state saved."""

import contextlib
import os
import signal
import threading
from typing import Any

EXIT_PREEMPTED = os.EX_TEMPFAIL
"""The exit status (75) of a run that was stopped by a signal and saved: the same command resumes it."""

EXIT_INTERRUPTED = 128 + signal.SIGINT
"""The exit status (130) that shells give to a program which SIGINT ended."""

IMPATIENT = (signal.SIGTERM, signal.SIGINT)
"""Signals of which a second one asks to end at once."""

# A lost connection to a terminal, and what Slurm is usually told to send before the time limit. Each may come more than
# once, or beside SIGTERM, without anybody being impatient.
_PATIENT = (signal.SIGHUP, signal.SIGUSR1)


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a run to stop: not SIGHUP and SIGUSR1 where they are ignored, as by `nohup`."""
    return (*IMPATIENT, *(number for number in _PATIENT if signal.getsignal(number) != signal.SIG_IGN))


class Preempted(Exception):
    """The run was asked to stop, and its state is saved. The message says where, and how to resume."""


class StopRequests(contextlib.AbstractContextManager):
    """Records the `stop_signals` while the block runs, and then restores the earlier handlers.

    After the first SIGTERM or SIGINT both have their default action again, so that a second one ends the process at
    once, even inside compiled code.

    With several processes SIGTERM belongs to the preemption service of `jax.distributed`, which tells all processes
    and finds a step that none of them has passed; the other signals become SIGTERM.
    """

    def __init__(self):
        # Here and not above: a command that only starts trainings needs the names of this module, and no JAX.
        import jax

        self._several = jax.process_count() > 1
        self._noted = False
        self._asked = 0
        self._earlier: dict[int, Any] = {}

    def requested(self) -> bool:
        """Return whether to stop here.

        Processes that train together must all call this equally often; they get the same answer.
        """
        if not self._several:
            return self._noted
        from jax.experimental import multihost_utils

        self._asked += 1
        return multihost_utils.reached_preemption_sync_point(self._asked)

    def __enter__(self) -> "StopRequests":
        # Python delivers signals to the main thread, and only it may set handlers.
        if threading.current_thread() is threading.main_thread():
            several = self._several
            for number in stop_signals():
                if not (several and number == signal.SIGTERM):
                    self._earlier[number] = signal.signal(number, self._pass_on if several else self._note)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._earlier.items():
            # None means a handler that was not set by Python and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number, frame) -> None:
        self._noted = True
        if number in IMPATIENT:
            for each in IMPATIENT:
                signal.signal(each, signal.SIG_DFL)

    def _pass_on(self, number, frame) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if not self._noted:
            self._noted = True
            os.kill(os.getpid(), signal.SIGTERM)
