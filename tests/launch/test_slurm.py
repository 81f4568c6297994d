"""slurm.sbatch, with stand-ins for srun and scontrol."""

import pytest


def slurm(desk, *arguments: str, **environment: str):
    desk.make_environment()
    job = {"SLURM_SUBMIT_DIR": str(desk.root), "SLURM_JOB_ID": "17"}
    return desk.run("slurm.sbatch", "--config=configs/some.py", "--data=a b.csv", *arguments, **{**job, **environment})


def test_slurm_starts_one_process_a_node_with_all_its_gpus(desk):
    assert slurm(desk, "--workdir=my runs", SLURM_GPUS_ON_NODE="4").returncode == 0
    [call] = desk.calls()
    assert call[0] == "srun"
    assert "--ntasks-per-node=1" in call
    given = ["--config=configs/some.py", "--data=a b.csv", "--workdir=my runs"]
    assert call[-5:] == ["scripts/train.py", *given, "0,1,2,3"]


@pytest.mark.parametrize(("status", "queued_again"), [(0, False), (2, False), (75, True), (137, False)])
def test_slurm_queues_again_what_was_stopped_and_saved(desk, status, queued_again):
    assert slurm(desk, "--workdir=w", FAKE_STATUS=str(status)).returncode == status
    calls = [call[:-1] for call in desk.calls()]
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
    [call] = desk.calls()
    assert call[-3:-1] == ["--workdir=runs/seed_3", "--config.seed=3"]
    alone = slurm(desk, *arguments)
    assert alone.returncode == 2
    assert "--array" in alone.stderr


def test_slurm_dry_run_runs_nothing(desk):
    result = slurm(desk, "--workdir=w", "--dry-run")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["srun", "scontrol"]
    assert "a\\ b.csv" in result.stdout
    assert desk.calls() == []


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
