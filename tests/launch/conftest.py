"""The launch scripts, with stand-ins for gcloud, srun, sbatch, scontrol and kubectl that act for what they reach."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

# `ssh` runs the command in the home of the worker, `scp` copies between here and there; the VM and the queued resource
# are files with their states. Each look at the latter drops its first line, as long as another one follows.
GCLOUD = """
import json, os, pathlib, shutil, subprocess, sys
world = pathlib.Path(os.environ["FAKE_WORLD"])
arguments = sys.argv[1:]
with open(world / "calls.jsonl", "a") as file:
    print(json.dumps(arguments), file=file)
assert arguments[:2] == ["compute", "tpus"], arguments
assert "--zone=some zone" in arguments and "--quiet" in arguments
kind, verb, place = arguments[2:5]
options = dict(argument[2:].partition("=")[::2] for argument in arguments if argument.startswith("--"))
remote = next((path for path in arguments[4:6] if ":" in path), "") if verb == "scp" else ""
machine = remote.partition(":")[0] or place
vm, request = world / f"{machine}.vm", world / f"{machine}.request"
state = vm.read_text().strip() if vm.exists() else "absent"
if kind == "queued-resources":
    states = os.environ.get("FAKE_QUEUE", "WAITING_FOR_RESOURCES PROVISIONING ACTIVE").split()
    if states == ["none"]:
        sys.exit("ERROR: (gcloud.compute.tpus) Invalid choice: 'queued-resources'.")
    if verb == "create":
        assert options["node-id"] == place and not request.exists() and not vm.exists()
        request.write_text("\\n".join(states))
    elif not request.exists():
        sys.exit("ERROR: NOT_FOUND: no such queued resource")
    elif verb == "delete":
        assert "force" in options
        request.unlink()
        vm.unlink(missing_ok=True)
    elif "failedData" in options["format"]:
        print("no quota")
    else:
        now, *later = request.read_text().split()
        if later:
            request.write_text("\\n".join(later))
        if now == "ACTIVE" and state == "absent":
            vm.write_text("READY")
        print(now)
    sys.exit()
assert kind == "tpu-vm"
if verb == "describe":
    if (world / "no answer").exists():
        sys.exit("ERROR: no answer")
    if state == "absent":
        sys.exit("ERROR: (gcloud.compute.tpus.tpu-vm.describe) NOT_FOUND: no such VM")
    print(state if options["format"] == "value(state)" else os.environ["FAKE_ADDRESSES"])
    if state == "CREATING":
        vm.write_text("READY")
elif verb == "create":
    if "FAKE_CREATE" in os.environ:
        sys.exit("ERROR: " + os.environ["FAKE_CREATE"])
    vm.write_text("READY")
elif verb == "delete":
    assert not request.exists()
    vm.unlink()
elif state != "READY":
    sys.exit("ERROR: cannot connect")
else:
    names = os.environ["FAKE_ADDRESSES"].split(";")
    numbers = [i for i in range(len(names)) if options["worker"] in ("all", str(i))]
    if os.environ.get("FAKE_DEAD") in map(str, numbers):
        sys.exit("ERROR: [255] connection refused")
    if "follow" in options.get("command", "") and (world / "drop").exists():
        (world / "drop").unlink()
        sys.exit("ERROR: [255] connection reset")
    for i in numbers:
        # Each VM of a sweep has workers of its own.
        home = world / (machine if machine.startswith("fer-") else "") / f"worker{i}"
        home.mkdir(exist_ok=True, parents=True)
        if verb == "scp":
            source, target = (home / path.partition(":")[2] if path == remote else path for path in arguments[4:6])
            shutil.copyfile(source, target)
        else:
            environment = {**os.environ, "HOME": str(home)}
            status = subprocess.run(["bash", "-c", options["command"]], cwd=home, env=environment).returncode
            if status:
                sys.exit(1)
"""

# In place of the environment's Python: notes what it was given, and trains as it is told: by files in the world, and by
# the statuses in FAKE_STATUSES for runs whose folder has such a name.
PYTHON = """
import json, os, pathlib, signal, sys, time, urllib.parse, urllib.request
world = pathlib.Path(os.environ["FAKE_WORLD"])
with open(world / "trainings.jsonl", "a") as file:
    print(json.dumps([os.getcwd(), *sys.argv[1:]]), file=file)
if not sys.argv[1:] or "scripts/train.py" not in sys.argv:
    sys.exit(0)
workdir = next(a.partition("=")[2] for a in sys.argv if a.startswith("--workdir="))
status = json.loads(os.environ.get("FAKE_STATUSES", "{}")).get(workdir.rpartition("/")[2])
if status:
    print("error: no luck")
    sys.exit(status)
files = {"run.json": "{}", "metrics.jsonl": METRICS}
for name, text in files.items():
    if workdir.startswith("gs://"):
        if "STORAGE_EMULATOR_HOST" in os.environ:
            bucket, _, key = workdir.removeprefix("gs://").partition("/")
            query = urllib.parse.urlencode({"uploadType": "media", "name": f"{key}/{name}"})
            url = f"{os.environ['STORAGE_EMULATOR_HOST']}/upload/storage/v1/b/{bucket}/o?{query}"
            urllib.request.urlopen(urllib.request.Request(url, text.encode())).close()
    else:
        pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
        (pathlib.Path(workdir) / name).write_text(text)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("epoch 1: train loss", flush=True)
while (world / "wait").exists():
    time.sleep(0.02)
if (world / "preempt").exists():
    (world / "preempt").unlink()
    (world / "some-vm.vm").write_text("PREEMPTED")
    (world / "some-vm.request").write_text("SUSPENDED")
    sys.exit(75)
sys.exit(int(os.environ.get("FAKE_STATUS", "0")))
"""

METRICS = '{"kind": "epoch", "step": 4, "epoch": 1, "validation_accuracy": 0.5, "seconds": 6.0}\n'

RECORDER = """
import json, os, subprocess, sys
with open(os.environ["FAKE_WORLD"] + "/calls.jsonl", "a") as file:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:], os.environ.get("JAX_LOCAL_DEVICE_IDS")]), file=file)
if sys.argv[0].endswith("srun"):
    if "FAKE_SLURM_TRAINS" in os.environ:
        command = sys.argv[1:]
        while command[0].startswith("--"):
            command.pop(0)
        sys.exit(subprocess.run(command).returncode)
    sys.exit(int(os.environ.get("FAKE_STATUS", "0")))
"""

# With --wait: the script of the job is run at once, and its status is that of the command.
SBATCH = """
import json, os, subprocess, sys
with open(os.environ["FAKE_WORLD"] + "/calls.jsonl", "a") as file:
    print(json.dumps(["sbatch", *sys.argv[1:]]), file=file)
options = [a for a in sys.argv[1:] if a.startswith("--")]
script = next(i for i, a in enumerate(sys.argv) if a.endswith(".sbatch"))
assert "--wait" in sys.argv[1:script]
output = next(a.partition("=")[2] for a in sys.argv if a.startswith("--output="))
job = {"SLURM_SUBMIT_DIR": os.getcwd(), "SLURM_JOB_ID": "17", "FAKE_SLURM_TRAINS": "yes"}
with open(output, "a") as file:
    sys.exit(subprocess.run(["bash", *sys.argv[script:]], env=os.environ | job, stdout=file, stderr=file).returncode)
"""

# The JobSet is a file with the manifest; `logs` is when it trains. What it becomes is in FAKE_JOBSET, a condition for
# each time.
KUBECTL = """
import json, os, pathlib, subprocess, sys
sys.path.append(SITE)
import yaml
world = pathlib.Path(os.environ["FAKE_WORLD"])
arguments = sys.argv[1:]
with open(world / "calls.jsonl", "a") as file:
    print(json.dumps(["kubectl", *arguments]), file=file)
verb = arguments[0]
if (world / "no answer").exists():
    sys.exit("Unable to connect to the server")
if verb == "create":
    jobset = yaml.safe_load(sys.stdin)
    place = world / f"{jobset['metadata']['name']}.jobset"
    assert not place.exists()
    place.write_text(json.dumps({"manifest": jobset, "conditions": os.environ.get("FAKE_JOBSET", "Completed").split()}))
    sys.exit()
name = arguments[2] if arguments[1] == "jobset" else next(a for a in arguments if "jobset-name=" in a)
place = world / f"{name.rpartition('jobset-name=')[2].partition(',')[0]}.jobset"
if not place.exists():
    sys.exit(f'Error from server (NotFound): jobsets.jobset.x-k8s.io "{name}" not found')
found = json.loads(place.read_text())
if verb == "get" and arguments[1] == "jobset":
    print(found["manifest"]["metadata"]["annotations"]["fer-jax/arguments"], found.get("condition", ""), end="")
elif verb == "get":
    print(os.environ.get("FAKE_CODES", "0") if "exitCode" in arguments[-1] else "Running", end="")
elif verb == "delete":
    place.unlink()
elif verb == "logs":
    pod = found["manifest"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]
    python = world.parent / "a repository" / "fake_python"
    status = subprocess.run([python, *pod["command"][1:], *pod["args"]]).returncode
    # `pod`: as the pod has ended.
    condition = found["conditions"].pop(0).replace("pod", "Failed" if status else "Completed")
    found["condition"] = condition.replace("none", "")
    place.write_text(json.dumps(found))
"""


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
        self.executable(self.root / "fake_python", PYTHON.replace("METRICS", repr(METRICS)))
        (self.root / "scripts" / "environment.sh").write_text("mkdir -p .venv/bin && cp fake_python .venv/bin/python\n")
        self.git("init", "--quiet")
        self.commit()
        stand_ins = {"gcloud": GCLOUD, "srun": RECORDER, "scontrol": RECORDER, "sbatch": SBATCH}
        stand_ins["kubectl"] = KUBECTL.replace("SITE", repr(str(Path(yaml.__file__).parents[1])))
        for name, program in stand_ins.items():
            self.executable(folder / "bin" / name, program)
        # Nobody waits for half a minute.
        (folder / "bin" / "sleep").write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 0.05\n")
        (folder / "bin" / "sleep").chmod(0o755)
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "FAKE_WORLD": str(self.world),
            "FAKE_ADDRESSES": "10.0.0.1",
        }
        self.data = folder / "my data" / "fer 2013.csv"
        self.data.parent.mkdir()
        self.data.write_text("emotion,pixels,Usage\n")

    @staticmethod
    def executable(path: Path, program: str) -> None:
        """Write a program in Python."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without the packages of the environment, which would take most of the time.
        path.write_text(f"#!{sys.executable} -IS\n{program}")
        path.chmod(0o755)

    @staticmethod
    def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
        """Wait for what another process does; it takes as long as the machine is busy."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, check=True)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--message=x")

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

    def lines(self, name: str) -> list[list[str]]:
        """What was noted in a file of the world."""
        path = self.world / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self) -> list[list[str]]:
        """The stand-ins' commands."""
        return self.lines("calls.jsonl")

    def verbs(self) -> list[str]:
        """What gcloud was asked, with the kind of thing where that is no VM."""
        return [call[3] if call[2] == "tpu-vm" else f"{call[2]} {call[3]}" for call in self.calls()]

    def make_environment(self) -> None:
        """Put the stand-in for Python where the repository's own environment is."""
        place = self.root / ".venv" / "bin" / "python"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.root / "fake_python", place)

    def trainings(self) -> list[list[str]]:
        return [call for call in self.lines("trainings.jsonl") if "scripts/train.py" in call]


@pytest.fixture
def desk(tmp_path, repository) -> Desk:
    """What `Desk` says."""
    return Desk(tmp_path, repository)
