"""The JobSet for GKE: what its API asks for, and a run that train.py accepts."""

import math
import re
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
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    workdir = next(value for value in container["args"] if value.startswith("--workdir="))
    assert any(workdir.removeprefix("--workdir=").startswith(f"{mount}/") for mount in mounts.values())
    assert all(isinstance(value, str) for value in container["command"] + container["args"])


def test_jobset_is_what_the_api_and_the_slice_ask_for(repository):
    check_jobset(yaml.safe_load((repository / "scripts" / "launch" / "jobset.yaml").read_text()))


@pytest.mark.parametrize(
    "damage",
    [
        ("completions: 4", "completions: 2"),
        ("restartPolicy: Never", "restartPolicy: OnFailure"),
        ("values: [75]", "values: [2]"),
        ("mountPath: /shared", "mountPath: /elsewhere"),
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


def test_jobset_of_a_sweep_differs_in_name_folder_and_seed(repository):
    """By the command in the file's own head."""
    path = repository / "scripts" / "launch" / "jobset.yaml"
    substitution = re.search(r'sed "([^"]+)"', path.read_text())[1].replace("$seed", "2")
    changed = subprocess.run(["sed", substitution, path], capture_output=True, text=True, check=True).stdout
    jobset = yaml.safe_load(changed)
    check_jobset(jobset)
    pairs = zip(changed.splitlines(), path.read_text().splitlines(), strict=True)
    lines = [new.strip() for new, old in pairs if new != old and not new.startswith("#")]
    assert lines == ["name: fer-jax-2", "- --workdir=/shared/runs/seed2", "- --config.seed=2"]
