"""Run the experiments one after another, each in its own processes, and resume where they were stopped.

Below the folder: `runs/NAME-seedN` is a run of the command `train`, `reports/NAME-seedN` its report on the test split,
whose `report.json` says that the experiment is done, `logs/NAME-seedN.log` what both printed.
"""

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fer_jax.errors import InputError
from fer_jax.reproduction.plan import Experiment, config_arguments
from fer_jax.runtime.preemption import EXIT_INTERRUPTED, EXIT_PREEMPTED, IMPATIENT, Preempted, stop_signals
from fer_jax.storage import files

_PLAN = "plan.json"

PROGRAM = (sys.executable, "-m", "fer_jax")
"""How a process of a command begins, before the command's name."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one experiment with one seed ended: the folders of its run and its report, or why it failed."""

    experiment: Experiment
    seed: int
    run: Path
    report: Path
    failure: str | None = None


def open_plan(workdir: Path, plan: dict) -> None:
    """Make `workdir` the folder of `plan` (JSON), or raise `InputError` if it holds something else.

    Experiments that the earlier plan did not have are added to it.
    """
    place = workdir / _PLAN
    if place.is_file():
        earlier = json.loads(place.read_text(encoding="utf-8"))
        before = earlier.get("overrides", {})
        known = {name: row for name, row in plan["overrides"].items() if name in before}
        pairs = [(key, earlier.get(key), value) for key, value in {**plan, "overrides": known}.items()]
        changed = [f"{key}: {then!r} and {now!r}" for key, then, now in pairs if then != now]
        if changed:
            raise InputError(
                f"{workdir}: holds other experiments, which differ in {'; '.join(changed)} (there and now); give "
                "another --workdir or the same arguments"
            )
        if plan != earlier:
            files.write_text(place, json.dumps(plan, indent=2) + "\n")
        return
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise InputError(f"{workdir}: exists and is not the folder of a reproduction; give a new or empty --workdir")
    files.write_text(place, json.dumps(plan, indent=2) + "\n")


class Runner:
    """Runs experiments below `workdir` on the data `source`; its processes begin with `program`."""

    def __init__(
        self,
        workdir: Path,
        source: str,
        *,
        program: Sequence[str] = PROGRAM,
        message: Callable[[str], None] = print,
    ):
        # Runs record the paths of the runs that they start from, which must not depend on the working directory.
        self._workdir, self._source = workdir.resolve(), source
        self._program = program
        self._message = message
        self._child: subprocess.Popen | None = None
        self._stopped: int | None = None

    def __call__(self, experiments: Sequence[Experiment], seeds: Sequence[int]) -> list[Outcome]:
        """Run all experiments with the first seed, then with the next, so that a whole table is complete early.

        A failed experiment is recorded, and those that depend on it are not run. Raises `Preempted` after a signal that
        asks to stop, which is passed on as SIGTERM to the process that runs, once that has saved its state and ended.
        """
        outcomes = []
        with self._signals():
            for seed in seeds:
                failed: set[str] = set()
                for experiment in experiments:
                    failure = self._run(experiment, seed, failed)
                    if failure:
                        failed.add(experiment.name)
                        self._message(f"{experiment.name}, seed {seed}: failed: {failure}")
                    folders = self._run_folder(experiment.name, seed), self._report(experiment.name, seed)
                    outcomes.append(Outcome(experiment, seed, *folders, failure))
        return outcomes

    def _run(self, experiment: Experiment, seed: int, failed: set[str]) -> str | None:
        """Train and evaluate; return the reason if that failed."""
        name = f"{experiment.name}-seed{seed}"
        report = self._report(experiment.name, seed)
        if (report / "report.json").is_file():
            self._message(f"{name}: done before")
            return None
        if missing := [needed for needed in experiment.needs.values() if needed in failed]:
            return f"needs {missing[0]}, which failed"
        self._message(f"{name}: {experiment.title}")
        run = self._run_folder(experiment.name, seed)
        overrides = {**experiment.overrides, "seed": seed, "eval.test_each_epoch": True}
        for backbone, needed in experiment.needs.items():
            overrides[f"backbone_checkpoints.{backbone}"] = self._run_folder(needed, seed)
        common = [f"--data={self._source}"]
        configured = dataclasses.replace(experiment, overrides=overrides)
        train = [f"--workdir={run}", *config_arguments(configured)]
        evaluate = [f"--checkpoint={run}", "--split=test", f"--out={report}", "--no-faces"]
        start = time.monotonic()
        for command, arguments in (("train", common + train), ("evaluate", common + evaluate)):
            if failure := self._command(name, command, arguments):
                return failure
        self._message(f"{name}: done in {(time.monotonic() - start) / 60:.1f} min")
        return None

    def _command(self, name: str, command: str, arguments: Sequence[str]) -> str | None:
        log = self._workdir / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            before = file.tell()
            # In a session of its own: the terminal's SIGINT reaches it through here alone, and so only once.
            self._child = subprocess.Popen(
                [*self._program, command, *arguments], stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
            if self._stopped:
                self._child.send_signal(signal.SIGTERM)
            status = self._child.wait()
            self._child = None
        if self._stopped or status in (EXIT_PREEMPTED, EXIT_INTERRUPTED):
            raise Preempted(f"stopped in {name}; {log} has its last words")
        if status == 0:
            return None
        with log.open("rb") as file:
            file.seek(before)
            lines = file.read().decode(errors="replace").splitlines()
        said = [line for line in lines if line.startswith("error: ")] or lines[-1:] or [""]
        return f"{said[0].removeprefix('error: ')} (exit status {status}, {log})"

    def _run_folder(self, name: str, seed: int) -> Path:
        return self._workdir / "runs" / f"{name}-seed{seed}"

    def _report(self, name: str, seed: int) -> Path:
        return self._workdir / "reports" / f"{name}-seed{seed}"

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number, frame):
            before, self._stopped = self._stopped, number
            # A second one would end the training at once.
            if self._child and (before is None or {before, number} <= set(IMPATIENT)):
                self._child.send_signal(signal.SIGTERM)

        earlier = {number: signal.signal(number, stop) for number in stop_signals()}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
