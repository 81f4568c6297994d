"""Sweeps that are trained elsewhere: the launch scripts themselves, on the stand-ins."""

import json
import os
import shutil
import signal
import time

import pytest

from fer_jax.errors import InputError
from fer_jax.runtime.preemption import Preempted
from fer_jax.sweeps.launchers import launcher_by_name
from fer_jax.sweeps.sweep import print_commands, sweep

OPTIONS = {
    "tpu_vm": ["--zone=some zone", "--spot"],
    "slurm": ["--gpus-per-node=1"],
    "jobset": ["--image=some/image:1"],
}


@pytest.fixture
def elsewhere(desk, server, repository, tmp_path, monkeypatch):
    """A sweep over three seeds by a launcher, with files in the bucket or in a folder."""
    shutil.copy(repository / "configs" / "quickstart.py", desk.root / "configs" / "some.py")
    desk.commit()
    desk.make_environment()
    spec = tmp_path / "spec.py"
    spec.write_text("def get_sweep():\n    for seed in range(3):\n        yield {'seed': seed}\n")
    for name, value in desk.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders = {"tpu_vm": server.folder(), "jobset": server.folder(), "slurm": tmp_path / "shared"}

    def call(name, action=sweep, *, options=None, workdir=None, config=None, data="gs://b/fer2013.csv", **keywords):
        workdir = workdir or folders[name]
        options = OPTIONS[name] if options is None else options
        launcher = launcher_by_name(name, workdir, options, keywords.pop("at_once", None), repository=desk.root)
        config = f"--config={config or desk.root / 'configs' / 'some.py'}"
        call.messages = []
        return action(spec, [config], data, workdir, launcher, message=call.messages.append)

    call.folders, call.spec = folders, spec
    return call


@pytest.mark.parametrize("name", OPTIONS)
def test_runs_elsewhere_end_in_one_table(elsewhere, desk, name, monkeypatch):
    """One that fails is kept apart, and alone tried again."""
    monkeypatch.setenv("FAKE_STATUSES", '{"seed=1": 2}')
    monkeypatch.setenv("FAKE_CODES", "2")
    if name == "jobset":
        # Each JobSet ends as its pod does.
        monkeypatch.setenv("FAKE_JOBSET", "pod")
    (row,) = elsewhere(name)
    assert list(row["runs"]) == ["seed=0", "seed=2"]
    assert row["validation_accuracy"] == {"mean": 0.5, "standard_deviation": 0.0, "seeds": 2}
    log = elsewhere.folders[name] / "logs" / "seed=1.log"
    assert row["failed"] == {"seed=1": f"no luck (exit status 2, {log})"}
    assert "error: no luck" in log.read_text()
    assert (elsewhere.folders[name] / "curves.png").is_file()
    trained = desk.trainings()
    assert len(trained) == 3
    for training in trained:
        assert "--config=configs/some.py" in training
        assert "--data=gs://b/fer2013.csv" in training
    monkeypatch.setenv("FAKE_STATUSES", "{}")
    (row,) = elsewhere(name)
    assert list(row["runs"]) == ["seed=0", "seed=1", "seed=2"]
    assert [call for call in desk.trainings()[3:] if "--config.seed=1" not in call] == []
    assert len(desk.trainings()) == 4
    calls = len(desk.calls())
    assert elsewhere(name) == [row]
    assert len(desk.calls()) == calls
    if name == "tpu_vm":
        assert list(desk.world.glob("*.vm")) == []
    if name == "slurm":
        submitted = next(call for call in desk.calls() if call[0] == "sbatch")
        assert {"--wait", "--dependency=singleton", "--gpus-per-node=1"} <= set(submitted)


def test_signal_ends_the_following_and_the_run_goes_on(elsewhere, desk, monkeypatch):
    elsewhere.spec.write_text("def get_sweep(): yield {'seed': 1}")
    (desk.world / "wait").touch()
    sleep = time.sleep
    signalled = []

    def signals(seconds):
        if not signalled and any("follow" in call[-3] for call in desk.calls()):
            signalled.append(os.kill(os.getpid(), signal.SIGTERM))
        sleep(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", signals)
        with pytest.raises(Preempted, match="no longer followed; the runs below gs://"):
            elsewhere("tpu_vm")
    (desk.world / "wait").unlink()
    (row,) = elsewhere("tpu_vm")
    assert list(row["runs"]) == ["seed=1"]
    assert len(desk.trainings()) in (1, 2)  # it may have ended before it was followed again


@pytest.mark.parametrize("name", OPTIONS)
def test_dry_run_prints_every_command(elsewhere, desk, name):
    elsewhere(name, print_commands)
    lines = "\n".join(elsewhere.messages).splitlines()
    assert [line for line in lines if line.startswith("#")] == ["# seed=0", "# seed=1", "# seed=2"]
    tool = {"tpu_vm": "gcloud", "slurm": "srun", "jobset": "kubectl"}[name]
    assert sum(line.startswith(f"  {tool} ") for line in lines) >= 3
    assert len({line for line in lines if line.startswith(("bash ", "sbatch "))}) == 3
    assert desk.calls() == []
    assert not elsewhere.folders[name].exists()


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("tpu_vm", {"options": []}, r"^--zone=VALUE is missing"),
        ("tpu_vm", {"options": ["--zone=z", "--acelerator=x"]}, r"^--acelerator=x: no option of tpu_vm\.sh"),
        ("tpu_vm", {"options": ["--name=x"]}, r"^--launch=--name=x: the sweep gives this itself"),
        ("tpu_vm", {"workdir": "local"}, r"^--workdir=.*local: the machines of --launcher=tpu_vm do not see it"),
        ("jobset", {"workdir": "local"}, r"^--workdir=.*local: the machines of --launcher=jobset do not see it"),
        ("jobset", {"data": "fer2013.csv"}, r"^--data=fer2013\.csv: the pods of --launcher=jobset do not see it"),
        ("tpu_vm", {"data": "nowhere.csv"}, r"^--data=/.*nowhere\.csv: no such file"),
        ("slurm", {"config": "quickstart"}, r"^--config=quickstart: is not in the repository"),
        ("slurm", {"at_once": 0}, r"^--at-once=0: expected a number of runs"),
        ("local", {"options": ["--spot"]}, r"^--launch=--spot: --launcher=local takes no options"),
    ],
)
def test_mistake_is_one_line_before_any_work(elsewhere, desk, tmp_path, name, keywords, message):
    workdir = tmp_path / "local" if "workdir" in keywords or name == "local" else None
    with pytest.raises(InputError, match=message) as caught:
        elsewhere(name, **keywords | {"workdir": workdir})
    assert "\n" not in str(caught.value)
    assert desk.calls() == []
    assert not any(folder.exists() for folder in elsewhere.folders.values())


def test_tool_or_repository_that_is_missing_is_named(elsewhere, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"^--launcher=slurm: .*empty has no scripts/launch/slurm\.sbatch"):
        launcher_by_name("slurm", tmp_path, [], None, repository=tmp_path / "empty")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"^--launcher=slurm: sbatch is not installed"):
        elsewhere("slurm")


def test_names_of_machines_are_what_clouds_take():
    from fer_jax.sweeps.launchers import _resource_name

    names = {_resource_name("gs://b/s", run) for run in ("seed=0", "seed-0", "x" * 119, "", "Größe=0.1,SEED=2")}
    assert len(names) == 5
    for name in names:
        assert len(name) <= 50
        assert name.replace("-", "").isalnum()
        assert name.isascii()
        assert (name, name[0].isalpha()) == (name.lower(), True)


def test_sweep_on_this_machine_in_a_bucket(server, tmp_path, monkeypatch, desk):
    """With the log of each run brought there."""
    from fer_jax.sweeps.launchers import local_launcher

    for name, value in desk.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec, workdir = tmp_path / "spec.py", server.folder()
    spec.write_text("def get_sweep(): yield {'seed': 1}")
    launcher = local_launcher(lambda: [{}], program=(desk.root / "fake_python", "scripts/train.py"))
    (row,) = sweep(spec, ["--config=quickstart"], "synthetic:8", workdir, launcher, message=lambda text: None)
    assert row["validation_accuracy"]["mean"] == 0.5
    assert {found.name for found in workdir.objects()} == {
        "sweep.json",
        "runs.md",
        "runs.json",
        "curves.png",
        "done/seed=1",
        "logs/seed=1.log",
        "runs/seed=1/run.json",
        "runs/seed=1/metrics.jsonl",
    }
    assert json.loads((workdir / "runs.json").read_bytes()) == [row]
    with pytest.raises(InputError, match="holds a sweep with other arguments: data: 'synthetic:8' and 'synthetic:9'"):
        sweep(spec, ["--config=quickstart"], "synthetic:9", workdir, launcher, message=lambda text: None)
