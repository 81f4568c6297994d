"""Run the trials of a sweep on this machine, as many at a time as it has devices, each in a process of its own."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from fer_jax.errors import InputError
from fer_jax.runtime.preemption import EXIT_INTERRUPTED, EXIT_PREEMPTED, IMPATIENT, Preempted, stop_signals
from fer_jax.sweeps.spec import Trial

PROGRAM = (sys.executable, "-m", "fer_jax")
"""How a process of a command begins, before the command's name."""

_COUNT_DEVICES = "import jax; print(jax.default_backend(), jax.local_device_count())"
# How a process gets one device alone, by its number: of NVIDIA's driver, and of libtpu.
_ONE_DEVICE: dict[str, Callable[[int], dict[str, str]]] = {
    "gpu": lambda number: {"CUDA_VISIBLE_DEVICES": str(number)},
    "tpu": lambda number: {
        "TPU_VISIBLE_CHIPS": str(number),
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
    },
}
_POLL_SECONDS = 0.05


def device_environments() -> list[dict[str, str]]:
    """Return for each device of this machine the environment in which a process sees it alone; one for all of a CPU.

    JAX is asked in a process of its own, because it would keep the devices for this one.

    Raises `InputError` if JAX does not start.
    """
    asked = subprocess.run([sys.executable, "-c", _COUNT_DEVICES], capture_output=True, text=True)
    if asked.returncode:
        raise InputError(f"JAX finds no device ({(asked.stderr.strip().splitlines() or ['no message'])[-1]})")
    backend, number = asked.stdout.split()[-2:]
    if backend not in _ONE_DEVICE:
        return [{}]
    return [_ONE_DEVICE[backend](index) for index in range(int(number))]


@dataclasses.dataclass
class _Running:
    trial: Trial
    process: subprocess.Popen
    environment: Mapping[str, str]
    log: Path
    log_start: int


def run_trials(
    trials: Sequence[Trial],
    arguments: Sequence[str],
    workdir: Path,
    environments: Sequence[Mapping[str, str]],
    *,
    done: Callable[[Trial], None],
    message: Callable[[str], None] = print,
    program: Sequence[str] = PROGRAM,
) -> dict[str, str]:
    """Train each of `trials` in `workdir/runs/NAME`; return why some failed, by name. The others are not held up.

    Args:
      trials: in the order in which they are begun.
      arguments: of the command `train`, for all of them.
      workdir: the folder of the sweep; `logs/NAME.log` keeps what each printed.
      environments: what is added to the environment of a process; as many run at a time.
      done: is told of each trial that has ended with status 0.
      message: takes a line about what happens.
      program: how a process begins, before the command's name.

    Raises `Preempted` after a signal that asks to stop, which is passed on as SIGTERM, once all have saved and ended.
    """
    waiting, running = list(trials), list[_Running]()
    failures: dict[str, str] = {}
    free = list(environments)
    with _passed_on(running) as stopped:
        while running or (waiting and not stopped):
            while waiting and free and not stopped:
                running.append(_start(waiting.pop(0), arguments, workdir, free.pop(0), program))
                message(f"{running[-1].trial.name}: begun")
            for each in [each for each in running if each.process.poll() is not None]:
                running.remove(each)
                free.append(each.environment)
                status = each.process.returncode
                if status == 0:
                    done(each.trial)
                    message(f"{each.trial.name}: done")
                elif status in (EXIT_PREEMPTED, EXIT_INTERRUPTED):
                    stopped.append(status)
                elif not stopped:
                    failures[each.trial.name] = _reason(each, status)
                    message(f"{each.trial.name}: failed: {failures[each.trial.name]}")
            time.sleep(_POLL_SECONDS)
    if stopped:
        raise Preempted(f"stopped; the runs below {workdir / 'runs'} are saved")
    return failures


def _start(
    trial: Trial, arguments: Sequence[str], workdir: Path, environment: Mapping[str, str], program: Sequence[str]
) -> _Running:
    log = workdir / "logs" / f"{trial.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        start = file.tell()
        # In a session of its own: the terminal's SIGINT reaches it through here alone, and so only once.
        process = subprocess.Popen(
            [*program, "train", *arguments, *trial.arguments(), f"--workdir={workdir / 'runs' / trial.name}"],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | environment,
        )
    return _Running(trial, process, environment, log, start)


def _reason(ended: _Running, status: int) -> str:
    with ended.log.open("rb") as file:
        file.seek(ended.log_start)
        lines = file.read().decode(errors="replace").splitlines()
    said = [line for line in lines if line.startswith("error: ")] or lines[-1:] or [""]
    return f"{said[0].removeprefix('error: ')} (exit status {status}, {ended.log})"


@contextlib.contextmanager
def _passed_on(running: list[_Running]) -> Iterator[list[int]]:
    """Pass signals that ask to stop on to the processes; yield the list of those that came."""
    stopped: list[int] = []

    def stop(number, frame):
        # A second one would end the training at once.
        if not stopped or {stopped[0], number} <= set(IMPATIENT):
            for each in running:
                each.process.send_signal(signal.SIGTERM)
        stopped.append(number)

    earlier = {number: signal.signal(number, stop) for number in stop_signals()}
    try:
        yield stopped
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
