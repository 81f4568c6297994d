"""Where the runs of a sweep are trained: on this machine, or by a launch script of the repository elsewhere."""

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fer_jax.config.shipped import config_file
from fer_jax.errors import InputError
from fer_jax.storage.bucket import AnyPath, BucketPath, is_bucket
from fer_jax.sweeps.folder import Logs
from fer_jax.sweeps.local import PROGRAM, device_environments

# As many runs at a time where nothing else is said: what a new project's quota may allow.
_AT_ONCE = 8
_REPOSITORY = Path(__file__).parents[2]
_SCRIPTS = Path("scripts", "launch")
# What each needs on this machine.
_TOOLS = {"tpu_vm": "gcloud", "slurm": "sbatch", "jobset": "kubectl"}
# What a launcher gives itself.
_OURS = ("--name", "--data", "--workdir", "--config", "--dry-run", "--delete", "--stop", "--wait", "--job-name")

LAUNCHERS = ("local", *_TOOLS)
"""The names of the launchers."""


@dataclasses.dataclass(frozen=True)
class Launcher:
    """How a run is trained.

    `command` returns the command for the run of a name, its workdir and its other arguments; `dry_run` the one that
    prints all that this would do, None where it is all. `slots` gives the environments of those that may run at a time.
    `follows` says whether the command only follows a run that lives elsewhere; `cwd` where it is given.
    """

    command: Callable[[str, AnyPath, Sequence[str]], list[str]]
    slots: Callable[[], Sequence[Mapping[str, str]]]
    dry_run: Callable[[Sequence[str]], list[str]] | None = None
    follows: bool = False
    cwd: Path | None = None

    def check(self, command: Sequence[str]) -> str:
        """Return what `command` would do, a line each; `InputError` if its script refuses it."""
        if self.dry_run is None:
            return ""
        tried = subprocess.run(self.dry_run(command), cwd=self.cwd, capture_output=True, text=True)
        if tried.returncode:
            said = tried.stderr.strip().splitlines() or [f"{command[0]}: exit status {tried.returncode}"]
            raise InputError(said[-1].removeprefix("error: "))
        return tried.stdout


def local_launcher(
    environments: Callable[[], Sequence[Mapping[str, str]]] = device_environments,
    program: Sequence[str] = PROGRAM,
    at_once: int | None = None,
) -> Launcher:
    """Return the launcher that trains on this machine, in processes that begin with `program`."""
    return Launcher(
        lambda name, workdir, arguments: [*map(str, program), "train", *arguments, f"--workdir={workdir}"],
        lambda: environments()[:at_once],
    )


def launcher_by_name(
    name: str,
    workdir: AnyPath,
    options: Sequence[str],
    at_once: int | None,
    *,
    repository: Path = _REPOSITORY,
    dry_run: bool = False,
) -> Launcher:
    """Return the launcher `name` for a sweep in `workdir`, which hands `options` to its script.

    `at_once` bounds the runs at a time. Raises `InputError` for options that do not fit, for a folder that the machines
    which train do not see, and where the script, or what it needs on this machine, is missing.
    """
    if at_once is not None and at_once < 1:
        raise InputError(f"--at-once={at_once}: expected a number of runs, at least 1")
    if name == "local":
        if options:
            raise InputError(f"--launch={options[0]}: --launcher=local takes no options")
        return local_launcher(at_once=at_once)
    for option in options:
        if option.partition("=")[0] in _OURS or option.startswith("--config."):
            raise InputError(f"--launch={option}: the sweep gives this itself; see --help")
    if name != "slurm" and not isinstance(workdir, BucketPath):
        raise InputError(
            f"--workdir={workdir}: the machines of --launcher={name} do not see it; give --workdir=gs://BUCKET/FOLDER"
        )
    script = _SCRIPTS / {"slurm": "slurm.sbatch"}.get(name, f"{name}.sh")
    if not (repository / script).is_file():
        raise InputError(
            f"--launcher={name}: {repository} has no {script}, for it is not the repository; run scripts/sweep.py of a "
            "checkout"
        )
    if not dry_run and not shutil.which(_TOOLS[name]):
        raise InputError(f"--launcher={name}: {_TOOLS[name]} is not installed, or not on the PATH")

    def arguments_there(given: Sequence[str]) -> list[str]:
        return [_there(argument, name, repository) for argument in given]

    def by_script(run: str, place: AnyPath, given: Sequence[str]) -> list[str]:
        more = ["--delete"] if name == "tpu_vm" else []
        of_the_run = [f"--name={_resource_name(workdir, run)}", f"--workdir={place}", *arguments_there(given)]
        return ["bash", str(script), *more, *options, *of_the_run]

    def by_sbatch(run: str, place: AnyPath, given: Sequence[str]) -> list[str]:
        # A job of this name that an earlier command has left behind is waited for: two never train in one folder.
        submit = ["sbatch", "--wait", "--dependency=singleton", f"--job-name={_resource_name(workdir, run)}"]
        # Slurm takes % for the start of a pattern.
        output = str(Logs(workdir).file(run)).replace("%", "%%")
        submit += [f"--output={output}", *options]
        return [*submit, str(script), f"--workdir={place}", *arguments_there(given)]

    def printing(command: Sequence[str]) -> list[str]:
        if name == "slurm":
            return ["bash", *command[command.index(str(script)) :], "--dry-run"]
        return [*command, "--dry-run"]

    return Launcher(
        by_sbatch if name == "slurm" else by_script,
        lambda: [{}] * (at_once or _AT_ONCE),
        dry_run=printing,
        follows=True,
        cwd=repository,
    )


def _there(argument: str, launcher: str, repository: Path) -> str:
    """An argument of `train` as the machines that train take it, which have the repository of the last commit."""
    key, _, value = argument.partition("=")
    if key == "--config":
        file = config_file(value).resolve()
        if not file.is_relative_to(repository.resolve()):
            raise InputError(
                f"{argument}: is not in the repository {repository}, which the machines of --launcher={launcher} have; "
                "put it into configs/ there"
            )
        return f"--config={file.relative_to(repository.resolve())}"
    if key == "--data" and value.partition(":")[0] != "synthetic" and not is_bucket(value):
        if launcher == "jobset":
            raise InputError(
                f"{argument}: the pods of --launcher=jobset do not see it; give --data=gs://BUCKET/NAME, or synthetic"
            )
        # The script is run in the root of the repository.
        return f"--data={os.path.abspath(value)}"
    return argument


def _resource_name(workdir: AnyPath, run: str) -> str:
    """A name for the VM, job or JobSet of a run: lower-case letters, digits and dashes, the same with each command."""
    words = re.sub(r"[^a-z0-9]+", "-", run.lower())[:30].strip("-")
    digest = hashlib.sha256(f"{workdir}\n{run}".encode()).hexdigest()[:8]
    return f"fer-{words}-{digest}".replace("--", "-")
