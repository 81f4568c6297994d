"""The JobSet for GKE: what its API asks for, and a run that train.py accepts."""

import json
import math
import subprocess

import pytest
import yaml


def check_jobset(jobset: dict) -> None:
    """The parts of the JobSet and Job APIs that a run depends on; raises if one is missing or contradicts another."""
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(jobset) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(jobset["spec"]) == {"failurePolicy", "replicatedJobs"}
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] >= 1
    [rule] = policy["rules"]
    assert rule["name"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    [replicated] = jobset["spec"]["replicatedJobs"]
    assert set(replicated) == {"name", "replicas", "template"}
    job = replicated["template"]["spec"]
    assert set(job) == {"completionMode", "completions", "parallelism", "backoffLimit", "podFailurePolicy", "template"}
    assert job["completionMode"] == "Indexed"
    assert job["backoffLimit"] == 0
    pod = job["template"]["spec"]
    # What a podFailurePolicy asks for.
    assert pod["restartPolicy"] == "Never"
    [container] = pod["containers"]
    codes = [rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert codes == [{"containerName": container["name"], "operator": "In", "values": [75]}]
    conditions = [rule["onPodConditions"] for rule in job["podFailurePolicy"]["rules"] if "onPodConditions" in rule]
    assert conditions == [[{"type": "DisruptionTarget", "status": "True"}]]
    chips = container["resources"]["limits"]["google.com/tpu"]
    assert container["resources"]["requests"]["google.com/tpu"] == chips
    sides = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    hosts = math.prod(map(int, sides)) // chips
    assert (job["completions"], job["parallelism"]) == (hosts, hosts)
    # No disk that all see: they need none.
    assert "volumes" not in pod
    for option in ("--workdir", "--data"):
        value = next(value for value in container["args"] if value.startswith(f"{option}="))
        assert value.startswith((f"{option}=gs://", "--data=synthetic"))
    assert pod["serviceAccountName"]
    assert all(isinstance(value, str) for value in container["command"] + container["args"])


def test_jobset_is_what_the_api_and_the_slice_ask_for(repository):
    check_jobset(yaml.safe_load((repository / "scripts" / "launch" / "jobset.yaml").read_text()))


@pytest.mark.parametrize(
    "damage",
    [
        ("completions: 4", "completions: 2"),
        ("restartPolicy: Never", "restartPolicy: OnFailure"),
        ("values: [75]", "values: [2]"),
        ("--workdir=gs://BUCKET", "--workdir=/shared"),
        ("template:\n        spec:", "template:\n        specs:"),
    ],
)
def test_check_of_the_jobset_notices(repository, damage):
    text = (repository / "scripts" / "launch" / "jobset.yaml").read_text()
    assert damage[0] in text
    with pytest.raises((AssertionError, KeyError)):
        check_jobset(yaml.safe_load(text.replace(*damage, 1)))


def test_jobset_is_a_run_that_train_accepts(repository):
    from fer_jax.config.defaults import check_config
    from fer_jax.config.loading import load_config

    text = (repository / "scripts" / "launch" / "jobset.yaml").read_text()
    [job] = yaml.safe_load(text)["spec"]["replicatedJobs"]
    [container] = job["template"]["spec"]["template"]["spec"]["containers"]
    overrides = [value for value in container["args"] if value.startswith("--config")]
    overrides[0] = overrides[0].replace("configs/", f"{repository}/configs/")
    config = load_config(overrides)
    check_config(config)
    assert config.train.batch_size % 16 == 0


OPTIONS = (
    "--name=fer-1",
    "--image=europe-docker.pkg.dev/p/r/fer_jax:1",
    "--data=gs://bucket/fer2013.csv",
    "--workdir=gs://bucket/runs/1",
    "--config=configs/some.py",
)


def manifest(desk, name="fer-1"):
    return json.loads((desk.world / f"{name}.jobset").read_text())["manifest"]


def jobset_verbs(desk):
    return [" ".join(call[1:3]) if call[1] in ("get", "delete") else call[1] for call in desk.calls()]


def test_jobset_is_created_and_followed_to_its_end(desk):
    awkward = """--config.train.parameters=('a"b\\c/**: train',)"""
    more = ["--topology=2x4", "--chips=8", "--spot", "--service-account=trainer", awkward]
    result = desk.run("jobset.sh", *OPTIONS, *more, FAKE_JOBSET="none Completed")
    assert result.returncode == 0, result.stderr
    assert "epoch 1: train loss" in result.stdout
    assert result.stdout.endswith("the run is in gs://bucket/runs/1\n")
    made = manifest(desk)
    check_jobset(made)
    assert made["metadata"]["name"] == "fer-1"
    job = made["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert (job["completions"], pod["serviceAccountName"]) == (1, "trainer")
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "2x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert pod["containers"][0]["image"] == "europe-docker.pkg.dev/p/r/fer_jax:1"
    assert pod["containers"][0]["args"] == [*OPTIONS[2:], awkward]
    # The same command sees that it is done; another run has to have another name.
    calls = len(desk.calls())
    assert desk.run("jobset.sh", *OPTIONS, *more).returncode == 0
    assert jobset_verbs(desk)[calls:] == ["get jobset"] * 2
    other = desk.run("jobset.sh", *OPTIONS)
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)
    assert "trains with other arguments" in other.stderr


def test_jobset_that_has_failed_is_created_again(desk):
    failed = desk.run("jobset.sh", *OPTIONS, FAKE_JOBSET="Failed", FAKE_CODES="0 137 2 137")
    assert failed.returncode == 2
    assert "fer-1 has failed (2)" in failed.stderr
    again = desk.run("jobset.sh", *OPTIONS)
    assert again.returncode == 0, again.stderr
    assert "creating it again" in again.stdout
    assert [verb for verb in jobset_verbs(desk) if verb[:3] != "get"] == [
        "create",
        "logs",
        "delete jobset",
        "create",
        "logs",
    ]
    crashed = desk.run("jobset.sh", *OPTIONS, "--name=fer-2", FAKE_JOBSET="Failed", FAKE_CODES="0 137")
    assert crashed.returncode == 137


def test_jobset_that_somebody_deletes_or_a_cluster_without_an_answer_is_75(desk):
    (desk.world / "wait").touch()
    following = subprocess.Popen(
        desk.command("jobset.sh", *OPTIONS), cwd=desk.root, env=desk.environment, stderr=subprocess.PIPE, text=True
    )
    desk.wait_until(lambda: len(desk.trainings()) == 1)
    (desk.world / "no answer").touch()
    (desk.world / "wait").unlink()
    assert "the cluster cannot be reached (Unable to connect" in following.communicate(timeout=120)[1]
    assert following.returncode == 75
    (desk.world / "no answer").unlink()
    stop = desk.run("jobset.sh", "--name=fer-1", "--stop")
    assert stop.returncode == 0
    assert not (desk.world / "fer-1.jobset").exists()


def test_jobset_dry_run_prints_the_commands_and_runs_none(desk):
    result = desk.run("jobset.sh", *OPTIONS, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines() if line.startswith("kubectl")] == [
        "get",
        "create",
        "logs",
    ]
    check_jobset(yaml.safe_load("\n".join(line for line in result.stdout.splitlines() if line.startswith("  "))))
    assert desk.calls() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (OPTIONS[1:], "--name=VALUE is missing"),
        (OPTIONS[:-1], "--config=VALUE is missing"),
        ((*OPTIONS, "--name=Fer_1"), "--name=Fer_1: expected at most 50 lower-case letters"),
        ((*OPTIONS, "--workdir=runs/1"), "--workdir=runs/1: the pods share no disk"),
        ((*OPTIONS, "--workdir=s3://bucket/1"), "--workdir=s3://bucket/1: the pods share no disk"),
        ((*OPTIONS, "--data=s3://bucket/d"), "--data=s3://bucket/d: the pods do not see it"),
        ((*OPTIONS, "--topology=3x3"), "--topology=3x3: is no whole number of hosts"),
        ((*OPTIONS, "--topology=big"), "--topology=big: expected a slice"),
        ((*OPTIONS, "--batch=3"), "--batch=3: no option of jobset.sh"),
        ((*OPTIONS, "--config.x=a\nb"), "--config.x=a: has a control character"),
    ],
)
def test_jobset_names_a_mistake_in_one_line(desk, arguments, message):
    result = desk.run("jobset.sh", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert desk.calls() == []
