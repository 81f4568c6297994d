"""The launch scripts, with stand-ins for gcloud, srun and scontrol that act for the machines they would reach."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

MINIMAL = ("--name=n", "--zone=z", "--config=configs/some.py", "--workdir=r")

# `ssh` runs the command in the home of the worker, `scp` copies between here and there; the VM is a file.
GCLOUD = """
import json, os, pathlib, shutil, subprocess, sys
world = pathlib.Path(os.environ["FAKE_WORLD"])
arguments = sys.argv[1:]
with open(world / "calls.jsonl", "a") as file:
    print(json.dumps(arguments), file=file)
assert arguments[:3] == ["compute", "tpus", "tpu-vm"], arguments
assert "--zone=some zone" in arguments and "--quiet" in arguments
verb, place = arguments[3], arguments[4]
options = dict(argument[2:].partition("=")[::2] for argument in arguments if argument.startswith("--"))
vm = world / "vm"
if verb == "describe":
    if not vm.exists():
        sys.exit("ERROR: (gcloud.compute.tpus.tpu-vm.describe) NOT_FOUND: no such VM")
    print(vm.read_text().strip() if options["format"] == "value(state)" else os.environ["FAKE_ADDRESSES"])
elif verb == "create":
    vm.write_text("READY")
elif verb == "delete":
    vm.unlink()
elif not vm.exists():
    sys.exit("ERROR: cannot connect")
else:
    names = os.environ["FAKE_ADDRESSES"].split(";")
    homes = [world / f"worker{i}" for i in range(len(names)) if options["worker"] in ("all", str(i))]
    for home in homes:
        home.mkdir(exist_ok=True)
        if verb == "scp":
            source, target = arguments[4:6]
            remote = lambda path: home / path.partition(":")[2] if path.startswith("some-vm:") else path
            shutil.copyfile(remote(source), remote(target))
        else:
            environment = {**os.environ, "HOME": str(home)}
            status = subprocess.run(["bash", "-c", options["command"]], cwd=home, env=environment).returncode
            if status:
                sys.exit(1)
"""

# In place of the environment's Python: notes what it was given, and trains as it is told.
PYTHON = """
import json, os, pathlib, signal, sys, time
world = pathlib.Path(os.environ["FAKE_WORLD"])
with open(world / "trainings.jsonl", "a") as file:
    print(json.dumps([os.getcwd(), *sys.argv[1:]]), file=file)
if not sys.argv[1:] or "scripts/train.py" not in sys.argv:
    sys.exit(0)
workdir = next(pathlib.Path(a.partition("=")[2]) for a in sys.argv if a.startswith("--workdir="))
workdir.mkdir(parents=True, exist_ok=True)
(workdir / "run.json").write_text("{}")
(workdir / "metrics.jsonl").write_text("1")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("epoch 1: train loss", flush=True)
while (world / "wait").exists():
    time.sleep(0.02)
sys.exit(int(os.environ.get("FAKE_STATUS", "0")))
"""

RECORDER = """
import json, os, sys
with open(os.environ["FAKE_WORLD"] + "/calls.jsonl", "a") as file:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:], os.environ.get("JAX_LOCAL_DEVICE_IDS")]), file=file)
sys.exit(int(os.environ.get("FAKE_STATUS", "0")) if sys.argv[0].endswith("srun") else 0)
"""


def executable(path: Path, program: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{program}")
    path.chmod(0o755)


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for what another process does; it takes as long as the machine is busy."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lines(path: Path) -> list[list[str]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Desk:
    """A copy of the launch scripts as a repository of their own, in a folder with a space in its name."""

    def __init__(self, folder: Path, repository: Path):
        self.world = folder / "world"
        self.world.mkdir()
        self.root = folder / "a repository"
        shutil.copytree(repository / "scripts", self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        (self.root / "configs").mkdir()
        (self.root / "configs" / "some.py").write_text("")
        # Instead of installing: a Python that only notes what it is asked.
        executable(self.root / "fake_python", PYTHON)
        (self.root / "scripts" / "environment.sh").write_text("mkdir -p .venv/bin && cp fake_python .venv/bin/python\n")
        self.git("init", "--quiet")
        self.git("add", "--all")
        self.git("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--message=x")
        for name, program in {"gcloud": GCLOUD, "srun": RECORDER, "scontrol": RECORDER}.items():
            executable(folder / "bin" / name, program)
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "FAKE_WORLD": str(self.world),
            "FAKE_ADDRESSES": "10.0.0.1",
        }
        self.data = folder / "my data" / "fer 2013.csv"
        self.data.parent.mkdir()
        self.data.write_text("emotion,pixels,Usage\n")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, check=True)

    def command(self, script: str, *arguments: str) -> list[str]:
        return ["bash", str(self.root / "scripts" / "launch" / script), *arguments]

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(script, *arguments),
            cwd=self.root,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def tpu_vm(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return self.run("tpu_vm.sh", *self.options(), *arguments, **environment)

    def options(self) -> list[str]:
        place = ["--name=some-vm", "--zone=some zone", f"--data={self.data}", "--workdir=runs/first run"]
        return [*place, "--config=configs/some.py", "--config.train.parameters=**: train"]

    def verbs(self) -> list[str]:
        return [call[3] for call in lines(self.world / "calls.jsonl")]

    def trainings(self) -> list[list[str]]:
        return [call for call in lines(self.world / "trainings.jsonl") if "scripts/train.py" in call]


@pytest.fixture
def desk(tmp_path, repository):
    return Desk(tmp_path, repository)


def test_tpu_vm_creates_trains_fetches_and_deletes(desk):
    result = desk.tpu_vm("--delete", "--spot", "--weights=keras_mobilenet_v2")
    assert result.returncode == 0, result.stderr
    assert "epoch 1: train loss" in result.stdout
    [training] = desk.trainings()
    home = desk.world / "worker0" / "fer_jax"
    assert Path(training[0]) == home / "repository"
    assert training[3:] == [
        "--data=../data/fer 2013.csv",
        "--workdir=../shared/runs/first run",
        "--config=configs/some.py",
        "--config.train.parameters=**: train",
    ]
    assert (home / "data" / "fer 2013.csv").read_text() == desk.data.read_text()
    assert (desk.root / "runs" / "first run" / "metrics.jsonl").read_text() == "1"
    assert [path.name for path in (desk.root / "runs").iterdir()] == ["first run"]
    converted = [call[1:] for call in lines(desk.world / "trainings.jsonl") if call not in desk.trainings()]
    assert converted == [["scripts/convert_weights.py", "--source", "keras_mobilenet_v2"]]
    create = next(call for call in lines(desk.world / "calls.jsonl") if call[3] == "create")
    options = {"--accelerator-type=v5litepod-8", "--version=v2-alpha-tpuv5-lite", "--spot"}
    assert options < set(create)
    assert desk.verbs()[-1] == "delete"
    assert not (desk.world / "vm").exists()


def test_tpu_vm_is_reused_and_its_older_copy_replaced(desk):
    assert desk.tpu_vm().returncode == 0
    again = desk.tpu_vm()
    assert again.returncode == 0, again.stderr
    assert "reusing some-vm" in again.stdout
    assert desk.verbs().count("create") == 1
    assert "delete" not in desk.verbs()
    assert [path.name for path in (desk.root / "runs").iterdir()] == ["first run"]


def test_tpu_vm_that_was_taken_away_is_created_again(desk):
    (desk.world / "vm").write_text("PREEMPTED")
    assert desk.tpu_vm().returncode == 0
    assert desk.verbs()[:3] == ["describe", "delete", "create"]


def test_tpu_vm_follows_a_run_that_a_lost_connection_left_behind(desk):
    """The command is killed with all that it started here; the training goes on, and the next command follows it."""
    (desk.world / "wait").touch()
    command = desk.command("tpu_vm.sh", *desk.options())
    first = subprocess.Popen(command, cwd=desk.root, env=desk.environment, start_new_session=True)
    log = desk.world / "worker0" / "fer_jax" / "log"
    wait_until(lambda: log.exists() and "epoch 1" in log.read_text())
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    copies, calls = desk.verbs().count("scp"), len(desk.verbs())
    second = subprocess.Popen(
        command, cwd=desk.root, env=desk.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    other = desk.tpu_vm("--config.seed=1")
    assert other.returncode == 2
    assert "other arguments" in other.stderr
    wait_until(lambda: any("follow" in call[-3] for call in lines(desk.world / "calls.jsonl")[calls:]))
    (desk.world / "wait").unlink()
    output = second.communicate(timeout=120)[0]
    assert second.returncode == 0, output
    assert "following it" in output
    assert len(desk.trainings()) == 1
    assert desk.verbs().count("scp") == copies + 1  # the results alone


def test_tpu_vm_stop_saves_and_ends_with_75(desk):
    (desk.world / "wait").touch()
    following = subprocess.Popen(
        desk.command("tpu_vm.sh", *desk.options(), "--delete"),
        cwd=desk.root,
        env=desk.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = desk.world / "worker0" / "fer_jax" / "log"
    wait_until(lambda: log.exists() and "epoch 1" in log.read_text())
    stop = desk.run("tpu_vm.sh", "--name=some-vm", "--zone=some zone", "--stop")
    assert stop.returncode == 0, stop.stderr
    output = following.communicate(timeout=120)[0]
    assert following.returncode == 75
    assert "the same command resumes" in output
    assert (desk.root / "runs" / "first run" / "run.json").exists()
    assert (desk.world / "vm").exists()  # although --delete: the run is not done


def test_tpu_vm_passes_on_the_status_of_a_mistake_and_keeps_the_vm(desk):
    assert desk.tpu_vm("--delete", FAKE_STATUS="2").returncode == 2
    assert (desk.world / "vm").exists()
    assert not (desk.root / "runs").exists()


def test_several_workers_need_a_shared_folder(desk):
    result = desk.tpu_vm(FAKE_ADDRESSES="10.0.0.1;10.0.0.2")
    assert result.returncode == 2
    assert "--nfs" in result.stderr
    assert desk.trainings() == []


def test_all_workers_train(desk):
    # Where the mount would be, both have the same folder already.
    shared = desk.world / "shared"
    shared.mkdir()
    for worker in ("worker0", "worker1"):
        (desk.world / worker / "fer_jax").mkdir(parents=True)
        (desk.world / worker / "fer_jax" / "shared").symlink_to(shared)
    for name in ("mountpoint", "sudo"):
        executable(desk.world.parent / "bin" / name, "")
    result = desk.tpu_vm("--nfs=10.0.0.9:/export", FAKE_ADDRESSES="10.0.0.1;10.0.0.2")
    assert result.returncode == 0, result.stderr
    assert len(desk.trainings()) == 2
    assert len({training[0] for training in desk.trainings()}) == 2
    assert (desk.root / "runs" / "first run" / "run.json").exists()


def test_results_come_beside_what_was_in_their_folder(desk):
    place = desk.root / "runs" / "first run"
    place.mkdir(parents=True)
    (place / "tee.log").write_text("what was said")
    for _ in range(2):
        assert desk.tpu_vm().returncode == 0
    assert (place / "tee.log").read_text() == "what was said"
    assert (place / "metrics.jsonl").read_text() == "1"
    assert [path.name for path in place.parent.iterdir()] == ["first run"]


def test_results_of_another_run_are_not_replaced(desk):
    place = desk.root / "runs" / "first run"
    place.mkdir(parents=True)
    (place / "run.json").write_text('{"another": 1}')
    result = desk.tpu_vm("--delete")
    assert result.returncode == 2
    assert "holds another run" in result.stderr
    assert (place / "run.json").read_text() == '{"another": 1}'
    [fetched] = place.parent.glob("first run.fetched.*/runs/first run/run.json")
    assert fetched.read_text() == "{}"
    assert (desk.world / "vm").exists()


def test_tpu_vm_with_a_bucket_needs_no_shared_disk_and_fetches_nothing(desk):
    """On two workers, of a VM that is taken away once: the same command goes on with the run."""
    arguments = ["--spot", "--data=gs://bucket/fer2013.csv", "--workdir=gs://bucket/run"]
    for _ in range(2):
        result = desk.tpu_vm(*arguments, FAKE_ADDRESSES="10.0.0.1;10.0.0.2")
        assert result.returncode == 0, result.stderr
        assert "the run is in gs://bucket/run" in result.stdout
        assert "--nfs" not in result.stderr
        assert list(desk.root.glob("runs*")) == []
        desk.world.joinpath("vm").write_text("PREEMPTED")
    trainings = [line for line in lines(desk.world / "trainings.jsonl") if "scripts/train.py" in line]
    assert len(trainings) == 4
    for training in trainings:
        assert {"--data=gs://bucket/fer2013.csv", "--workdir=gs://bucket/run"} <= set(training)
    copied = [call[4] for call in lines(desk.world / "calls.jsonl") if call[3] == "scp"]
    assert {Path(source).name for source in copied} == {"repository.tar.gz"}


def test_tpu_vm_dry_run_prints_the_commands_and_runs_none(desk):
    result = desk.tpu_vm("--dry-run", "--delete")
    assert result.returncode == 0, result.stderr
    assert desk.verbs() == []
    commands = [line.split()[4] for line in result.stdout.splitlines() if line.startswith("gcloud")]
    assert commands[:3] == ["describe", "create", "ssh"]
    assert commands[-2:] == ["scp", "delete"]
    assert list(desk.root.glob("runs*")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--zone=z"], "--name=VALUE is missing"),
        (["--name=n", "--zone=z", "--data=synthetic", "--workdir=r"], "--config=VALUE is missing"),
        (["--name", "n"], "--name: no option"),
        (["--name=n", "--zone=z", "--batch=3"], "--batch=3: no option"),
        ([*MINIMAL, "--data=not here.csv"], "not here.csv"),
        ([*MINIMAL, "--data=synthetic", "--config=configs/no.py"], "configs/no.py: not in the"),
        ([*MINIMAL, "--data=synthetic", "--workdir=/r"], "--workdir=/r: expected"),
        ([*MINIMAL, "--data=synthetic", "--workdir=~/r"], "--workdir=~/r: expected"),
        ([*MINIMAL, "--data=synthetic", "--workdir=configs/some.py"], "not a folder"),
        ([*MINIMAL, "--data=synthetic", "--workdir=s3://bucket/r"], "--workdir=s3://bucket/r: is not on a file system"),
        (
            [*MINIMAL, "--data=synthetic", "--config=gs://bucket/c.py"],
            "--config=gs://bucket/c.py: is not on a file system",
        ),
        ([*MINIMAL, "--data=https://there/fer2013.csv"], "--data=https://there/fer2013.csv: is not on"),
        ([*MINIMAL, "--data=synthetic", "--config.init=s3://b/w.safetensors"], "w.safetensors: is not on"),
    ],
)
def test_tpu_vm_names_a_mistake_in_one_line(desk, arguments, message):
    result = desk.run("tpu_vm.sh", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert desk.verbs() == []


def slurm(desk, *arguments: str, **environment: str):
    executable(desk.root / ".venv" / "bin" / "python", PYTHON)
    job = {"SLURM_SUBMIT_DIR": str(desk.root), "SLURM_JOB_ID": "17"}
    return desk.run("slurm.sbatch", "--config=configs/some.py", "--data=a b.csv", *arguments, **{**job, **environment})


def test_slurm_starts_one_process_a_node_with_all_its_gpus(desk):
    assert slurm(desk, "--workdir=my runs", SLURM_GPUS_ON_NODE="4").returncode == 0
    [call] = lines(desk.world / "calls.jsonl")
    assert call[0] == "srun"
    assert "--ntasks-per-node=1" in call
    given = ["--config=configs/some.py", "--data=a b.csv", "--workdir=my runs"]
    assert call[-5:] == ["scripts/train.py", *given, "0,1,2,3"]


@pytest.mark.parametrize(("status", "queued_again"), [(0, False), (2, False), (75, True), (137, False)])
def test_slurm_queues_again_what_was_stopped_and_saved(desk, status, queued_again):
    assert slurm(desk, "--workdir=w", FAKE_STATUS=str(status)).returncode == status
    calls = [call[:-1] for call in lines(desk.world / "calls.jsonl")]
    assert (["scontrol", "requeue", "17"] in calls) == queued_again


def test_slurm_warns_every_process_before_the_end(repository):
    text = (repository / "scripts" / "launch" / "slurm.sbatch").read_text()
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {"--signal=TERM@120", "--requeue", "--ntasks-per-node=1", "--open-mode=append"} <= set(options)
    # Slurm reads none after the first command.
    assert text.index("set -euo") > text.rindex("#SBATCH")


def test_slurm_array_gives_each_task_its_number(desk):
    arguments = ["--workdir=runs/seed_%a", "--config.seed=%a"]
    assert slurm(desk, *arguments, SLURM_ARRAY_TASK_ID="3").returncode == 0
    [call] = lines(desk.world / "calls.jsonl")
    assert call[-3:-1] == ["--workdir=runs/seed_3", "--config.seed=3"]
    alone = slurm(desk, *arguments)
    assert alone.returncode == 2
    assert "--array" in alone.stderr


def test_slurm_dry_run_runs_nothing(desk):
    result = slurm(desk, "--workdir=w", "--dry-run")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["srun", "scontrol"]
    assert "a\\ b.csv" in result.stdout
    assert lines(desk.world / "calls.jsonl") == []


def test_slurm_names_a_mistake_in_one_line(desk, tmp_path):
    for result, message in (
        (slurm(desk), "--workdir=VALUE is missing"),
        (slurm(desk, "--workdir=w", "--data=s3://bucket/d"), "--data=s3://bucket/d: is not on a file system"),
        (slurm(desk, "--workdir=s3://bucket/r"), "--workdir=s3://bucket/r: is not on a file system"),
        (slurm(desk, "--workdir=w", SLURM_SUBMIT_DIR=str(tmp_path)), "not the root of the repository"),
    ):
        assert result.returncode == 2
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert message in result.stderr
