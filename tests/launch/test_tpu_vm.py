"""tpu_vm.sh: what it asks gcloud for, and how it ends."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

MINIMAL = ("--name=n", "--zone=z", "--config=configs/some.py", "--workdir=r")


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
    assert (desk.root / "runs" / "first run" / "metrics.jsonl").exists()
    assert [path.name for path in (desk.root / "runs").iterdir()] == ["first run"]
    converted = [call[1:] for call in desk.lines("trainings.jsonl") if call not in desk.trainings()]
    assert converted == [["scripts/convert_weights.py", "--source", "keras_mobilenet_v2"]]
    create = next(call for call in desk.calls() if call[3] == "create")
    assert create[2:5] == ["queued-resources", "create", "some-vm"]
    options = {"--accelerator-type=v5litepod-8", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"}
    assert options < set(create)
    assert desk.verbs()[-1] == "queued-resources delete"
    assert not (desk.world / "some-vm.vm").exists()


def test_tpu_vm_is_reused_and_its_older_copy_replaced(desk):
    assert desk.tpu_vm().returncode == 0
    again = desk.tpu_vm()
    assert again.returncode == 0, again.stderr
    assert "reusing some-vm" in again.stdout
    assert desk.verbs().count("create") == 1
    assert "delete" not in desk.verbs()
    assert [path.name for path in (desk.root / "runs").iterdir()] == ["first run"]


def test_tpu_vm_that_was_taken_away_is_created_again(desk):
    (desk.world / "some-vm.vm").write_text("PREEMPTED")
    assert desk.tpu_vm().returncode == 0
    assert desk.verbs()[:4] == ["describe", "queued-resources describe", "delete", "create"]


BUCKET = ("--spot", "--data=gs://bucket/fer2013.csv", "--workdir=gs://bucket/run")


def test_spot_goes_on_by_itself_when_the_vm_is_taken_away(desk):
    (desk.world / "preempt").touch()
    result = desk.tpu_vm(*BUCKET, FAKE_ADDRESSES="10.0.0.1;10.0.0.2")
    assert result.returncode == 0, result.stderr
    assert "queued resource some-vm: WAITING_FOR_RESOURCES\n" in result.stdout
    assert "going on in 60 s" in result.stdout
    asked = [verb for verb in desk.verbs() if verb.startswith("queued") and not verb.endswith("describe")]
    assert asked == ["queued-resources create", "queued-resources delete", "queued-resources create"]
    assert len(desk.trainings()) == 4
    assert len({tuple(training[1:]) for training in desk.trainings()}) == 1


def test_spot_without_a_shared_folder_ends_with_75(desk):
    (desk.world / "preempt").touch()
    result = desk.tpu_vm("--spot")
    assert result.returncode == 75
    assert "the same command resumes" in result.stderr
    assert desk.verbs().count("queued-resources create") == 1


def test_spot_where_there_are_no_queued_resources(desk):
    result = desk.tpu_vm(*BUCKET, "--delete", FAKE_QUEUE="none")
    assert result.returncode == 0, result.stderr
    create = next(call for call in desk.calls() if call[2:4] == ["tpu-vm", "create"])
    assert "--spot" in create
    assert desk.verbs()[-1] == "delete"


def test_request_that_the_queue_refuses_is_made_anew_by_the_next_command(desk):
    refused = desk.tpu_vm(*BUCKET, FAKE_QUEUE="WAITING_FOR_RESOURCES FAILED")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("error: some-vm: the queue has refused it (no quota)")
    assert desk.tpu_vm(*BUCKET).returncode == 0
    asked = [verb for verb in desk.verbs() if verb.startswith("queued") and not verb.endswith("describe")]
    assert asked == ["queued-resources create", "queued-resources delete", "queued-resources create"]


def test_request_of_an_earlier_command_is_waited_for(desk):
    (desk.world / "some-vm.request").write_text("PROVISIONING\nACTIVE")
    assert desk.tpu_vm(*BUCKET).returncode == 0
    assert "queued-resources create" not in desk.verbs()


@pytest.mark.parametrize(
    ("environment", "status", "message"),
    [
        # Of two workers one never comes up.
        ({"FAKE_DEAD": "1"}, 75, "some-vm: a worker cannot be reached by ssh, although the VM is READY"),
        ({"FAKE_CREATE": "no capacity"}, 1, "ERROR: no capacity"),
    ],
)
def test_vm_that_cannot_be_used(desk, environment, status, message):
    arguments = ["--data=gs://bucket/fer2013.csv", "--workdir=gs://bucket/run"]
    result = desk.tpu_vm(*arguments, FAKE_ADDRESSES="10.0.0.1;10.0.0.2", **environment)
    assert result.returncode == status
    assert message in result.stderr
    assert desk.verbs().count("ssh") == (10 if "FAKE_DEAD" in environment else 0)
    assert desk.trainings() == []


def test_vm_that_is_being_created_is_waited_for(desk):
    (desk.world / "some-vm.vm").write_text("CREATING")
    result = desk.tpu_vm()
    assert result.returncode == 0, result.stderr
    assert "create" not in desk.verbs()


def test_no_answer_of_the_service_ends_with_75(desk):
    (desk.world / "no answer").touch()
    result = desk.tpu_vm()
    assert result.returncode == 75
    assert result.stderr == "error: gcloud cannot look for some-vm: ERROR: no answer\n"
    assert desk.verbs() == ["describe"] * 5


def test_connection_that_is_lost_is_taken_up_again(desk):
    (desk.world / "wait").touch()
    (desk.world / "drop").touch()
    following = subprocess.Popen(
        desk.command("tpu_vm.sh", *desk.options()),
        cwd=desk.root,
        env=desk.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    desk.wait_until(lambda: sum("follow" in call[-3] for call in desk.calls()) == 2)
    (desk.world / "wait").unlink()
    output = following.communicate(timeout=120)[0]
    assert following.returncode == 0, output
    assert "the connection is lost, the training continues; going on in 30 s" in output
    assert len(desk.trainings()) == 1


def test_tpu_vm_follows_a_run_that_a_lost_connection_left_behind(desk):
    """The command is killed with all that it started here; the training goes on, and the next command follows it."""
    (desk.world / "wait").touch()
    command = desk.command("tpu_vm.sh", *desk.options())
    first = subprocess.Popen(command, cwd=desk.root, env=desk.environment, start_new_session=True)
    log = desk.world / "worker0" / "fer_jax" / "log"
    desk.wait_until(lambda: log.exists() and "epoch 1" in log.read_text())
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    copies, calls = desk.verbs().count("scp"), len(desk.verbs())
    second = subprocess.Popen(
        command, cwd=desk.root, env=desk.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    other = desk.tpu_vm("--config.seed=1")
    assert other.returncode == 2
    assert "other arguments" in other.stderr
    desk.wait_until(lambda: any("follow" in call[-3] for call in desk.calls()[calls:]))
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
    desk.wait_until(lambda: log.exists() and "epoch 1" in log.read_text())
    stop = desk.run("tpu_vm.sh", "--name=some-vm", "--zone=some zone", "--stop")
    assert stop.returncode == 0, stop.stderr
    output = following.communicate(timeout=120)[0]
    assert following.returncode == 75
    assert "the same command resumes" in output
    assert (desk.root / "runs" / "first run" / "run.json").exists()
    assert (desk.world / "some-vm.vm").exists()  # although --delete: the run is not done


def test_tpu_vm_passes_on_the_status_of_a_mistake_and_keeps_the_vm(desk):
    assert desk.tpu_vm("--delete", FAKE_STATUS="2").returncode == 2
    assert (desk.world / "some-vm.vm").exists()
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
        desk.executable(desk.world.parent / "bin" / name, "")
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
    assert (place / "metrics.jsonl").exists()
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
    assert (desk.world / "some-vm.vm").exists()


def test_tpu_vm_with_a_bucket_needs_no_shared_disk_and_fetches_nothing(desk):
    """On two workers."""
    result = desk.tpu_vm(*BUCKET, FAKE_ADDRESSES="10.0.0.1;10.0.0.2")
    assert result.returncode == 0, result.stderr
    assert "the run is in gs://bucket/run" in result.stdout
    assert "--nfs" not in result.stderr
    assert list(desk.root.glob("runs*")) == []
    assert len(desk.trainings()) == 2
    for training in desk.trainings():
        assert set(BUCKET[1:]) <= set(training)
    copied = [call[4] for call in desk.calls() if call[3] == "scp"]
    assert {Path(source).name for source in copied} == {"repository.tar.gz"}


def test_tpu_vm_dry_run_prints_the_commands_and_runs_none(desk):
    result = desk.tpu_vm("--dry-run", "--delete")
    assert result.returncode == 0, result.stderr
    assert desk.verbs() == []
    commands = [line.split()[3:5] for line in result.stdout.splitlines() if line.startswith("gcloud")]
    assert commands[:3] == [["tpu-vm", verb] for verb in ("describe", "create", "ssh")]
    assert commands[-2:] == [["tpu-vm", "scp"], ["tpu-vm", "delete"]]
    result = desk.tpu_vm("--dry-run", "--delete", "--spot")
    commands = [line.split()[3:5] for line in result.stdout.splitlines() if line.startswith("gcloud")]
    assert commands[1] == ["queued-resources", "create"]
    assert commands[-1] == ["queued-resources", "delete"]
    assert desk.verbs() == []
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
