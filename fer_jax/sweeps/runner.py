"""Run many jobs, as many at a time as there are slots for them, each in processes of its own."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from fer_jax.errors import InputError
from fer_jax.runtime.preemption import EXIT_INTERRUPTED, EXIT_PREEMPTED, IMPATIENT, Preempted, stop_signals
from fer_jax.sweeps.folder import Logs

_POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Job:
    """A run: its name, the commands that make it, one after another, and the names of the jobs that it builds on."""

    name: str
    commands: Sequence[Sequence[str]]
    needs: Sequence[str] = ()


class _Running:
    """A job whose commands run one after another in the environment `slot`."""

    def __init__(self, job: Job, slot: Mapping[str, str], log: Path, cwd: Path | None):
        self.job, self.slot, self.log = job, slot, log
        self._cwd = cwd
        self._commands = list(job.commands)
        self._began = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._log_start = file.tell()
            self.process = self._start(file)

    def _start(self, file: BinaryIO) -> subprocess.Popen:
        # In a session of its own: the terminal's SIGINT reaches it through this process alone, and so only once.
        return subprocess.Popen(
            [*self._commands.pop(0)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | self.slot,
            cwd=self._cwd,
        )

    def status(self, *, last: bool) -> int | None:
        """Return the exit status once all commands have ended, or one of them failed, or the `last` one is over."""
        status = self.process.poll()
        if status == 0 and self._commands and not last:
            with self.log.open("ab") as file:
                self.process = self._start(file)
            return None
        return EXIT_PREEMPTED if status == 0 and self._commands else status

    def minutes(self) -> float:
        return (time.monotonic() - self._began) / 60

    def reason(self, status: int, log: object) -> str:
        """Why it failed, by what it printed last."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        said = [line for line in lines if line.startswith("error: ")] or lines[-1:] or [""]
        return f"{said[0].removeprefix('error: ')} (exit status {status}, {log})"


def run_jobs(
    jobs: Sequence[Job],
    slots: Sequence[Mapping[str, str]],
    logs: Logs,
    *,
    done: Callable[[Job], None],
    stopped_message: str,
    follows: bool = False,
    cwd: Path | None = None,
    message: Callable[[str], None] = print,
) -> dict[str, str]:
    """Run `jobs`, each as soon as there is a slot and what it needs is done; return why some failed, by name.

    A failed job holds up none but those that need it, which fail too; what a job needs and is not among `jobs` counts
    as done.

    Args:
      jobs: in the order in which they are begun, each after those that it needs.
      slots: what is added to the environment of a job; as many run at a time.
      logs: where what they print is kept.
      done: is told of each job whose commands have all ended with status 0; what it refuses has failed.
      stopped_message: says, after a signal, where the rest is.
      follows: whether the processes only follow runs that live elsewhere: then a signal ends them with all that they
        have started, and one that ends with 75 by itself is a failed job like others; else that stops all.
      cwd: where the commands are run.
      message: takes a line about what happens.

    Raises `Preempted` after a signal that asks to stop, which is passed on as SIGTERM, once all have saved and ended.
    """
    waiting, running = list(jobs), list[_Running]()
    unfinished = {job.name for job in jobs}
    failures: dict[str, str] = {}
    free = list(slots)

    def fail(job: Job, reason: str) -> None:
        failures[job.name] = reason
        message(f"{job.name}: failed: {reason}")

    with _passed_on(running, follows) as stopped:
        while running or (waiting and not stopped):
            for job in [job for job in waiting if not stopped]:
                if lost := [name for name in job.needs if name in failures]:
                    waiting.remove(job)
                    fail(job, f"needs {lost[0]}, which failed")
                elif free and not unfinished & set(job.needs):
                    waiting.remove(job)
                    running.append(_Running(job, free.pop(0), logs.file(job.name), cwd))
                    if stopped:  # while it was started
                        _terminate(running[-1], follows)
                    message(f"{job.name}: begun")
            for each in list(running):
                begun = each.process
                status = each.status(last=bool(stopped))
                if status is None:
                    if stopped and each.process is not begun:
                        _terminate(each, follows)
                    continue
                running.remove(each)
                free.append(each.slot)
                logs.keep(each.job.name)
                if status == 0:
                    try:
                        done(each.job)
                    except InputError as error:
                        fail(each.job, str(error))
                        continue
                    unfinished.remove(each.job.name)
                    message(f"{each.job.name}: done in {each.minutes():.1f} min")
                elif not follows and status in (EXIT_PREEMPTED, EXIT_INTERRUPTED):
                    stopped.append(status)
                elif not stopped:
                    fail(each.job, each.reason(status, logs.kept(each.job.name)))
            time.sleep(_POLL_SECONDS)
    if stopped:
        raise Preempted(stopped_message)
    return failures


def _terminate(running: _Running, follows: bool) -> None:
    if not follows:
        running.process.send_signal(signal.SIGTERM)
    elif running.process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGTERM)


@contextlib.contextmanager
def _passed_on(running: list[_Running], follows: bool) -> Iterator[list[int]]:
    """Pass signals that ask to stop on to the processes; yield the list of those that came.

    What still runs when the block raises is asked to stop too, and waited for.
    """
    stopped: list[int] = []

    def stop(number, frame):
        # A second one would end the training at once.
        if not stopped or {stopped[0], number} <= set(IMPATIENT):
            for each in running:
                _terminate(each, follows)
        stopped.append(number)

    earlier = {number: signal.signal(number, stop) for number in stop_signals()}
    try:
        yield stopped
    except BaseException:
        for each in running:
            _terminate(each, follows)
        for each in running:
            each.process.wait()
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
