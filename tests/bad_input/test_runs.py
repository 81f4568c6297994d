"""Damaged checkpoints, run folders and records of training."""

import contextlib
import json
import os
import shutil

import pytest
from hypothesis import strategies as st

from fer_jax.inference.model import TrainedModel
from fer_jax.runs.checkpoint import Checkpoints, find_model
from fer_jax.runs.checksums import FILE_NAME, write_checksums
from fer_jax.runs.folder import open_run_folder, run_description
from fer_jax.runs.metrics_log import MetricsLog, read_metrics
from fer_jax.runs.record import as_json


@pytest.fixture(scope="module")
def run(whole_run):
    """The folder of a whole run, its files as they are listed, and the content of its `run.json`."""
    folder = whole_run[0]
    best = find_model(folder)
    return folder, best, json.loads((folder / "run.json").read_text())


def _copy(place, checkpoint):
    folder = place / "checkpoints" / "best" / checkpoint.name
    shutil.copytree(checkpoint, folder)
    return folder


def _checkpoint(run):
    _, best, _ = run
    return best.folder / str(best.step)


def _restored(place):
    """All arrays, which is what a use of the model begins with."""
    TrainedModel(place).provenance()


def test_bytes_of_a_checkpoint(survives, damage, run):
    """Its checksums tell."""
    checkpoint = _checkpoint(run)
    files = sorted(path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file())

    def lay(place, drawn):
        file, splices = drawn
        path = _copy(place, checkpoint) / file
        path.write_bytes(damage.spliced(path.read_bytes(), splices))
        return place

    sizes = {file: (checkpoint / file).stat().st_size for file in files}
    inputs = st.sampled_from(files).flatmap(lambda file: st.tuples(st.just(file), damage.splices(sizes[file])))
    survives(inputs, lay, find_model, few=30)


def test_bytes_of_a_checkpoint_with_checksums_to_match(survives, damage, run):
    """What Orbax and the storage below make of damage alone."""
    checkpoint = _checkpoint(run)
    files = sorted(path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file())
    files = [file for file in files if file.name != FILE_NAME]

    def lay(place, drawn):
        file, splices = drawn
        folder = _copy(place, checkpoint)
        path = folder / file
        path.write_bytes(damage.spliced(path.read_bytes(), splices))
        write_checksums(folder)
        return place

    sizes = {file: (checkpoint / file).stat().st_size for file in files}
    inputs = st.sampled_from(files).flatmap(lambda file: st.tuples(st.just(file), damage.splices(sizes[file])))
    survives(inputs, lay, _restored, few=5)


def test_record_of_a_checkpoint_with_checksums_to_match(survives, damage, run):
    """Any value in its place: the config, which is text, too."""
    checkpoint, record = _checkpoint(run), as_json(run[1].record)
    description = record["description"]
    configs = damage.json(json.loads(description["config"])).map(
        lambda config: {**record, "description": {**description, "config": json.dumps(config)}}
    )
    records = damage.json(record) | configs

    def lay(place, record):
        folder = _copy(place, checkpoint)
        (path,) = (path for path in (folder / "record").iterdir() if path.name == "metadata")
        path.write_text(json.dumps(record))
        write_checksums(folder)
        return place

    survives(records, lay, lambda place: find_model(place) and None, few=60)


def test_model_of_a_damaged_record(survives, damage, run):
    """As above, as far as the model."""
    checkpoint, record = _checkpoint(run), json.loads(json.dumps(as_json(run[1].record)))

    def lay(place, record):
        folder = _copy(place, checkpoint)
        (folder / "record" / "metadata").write_text(json.dumps(record))
        write_checksums(folder)
        return place

    survives(damage.json(record), lay, _restored, few=5)


def test_checksums_of_a_checkpoint(survives, damage, run):
    """Names that lead outside are not followed."""
    checkpoint = _checkpoint(run)
    whole = json.loads((checkpoint / FILE_NAME).read_text())
    names = st.text(max_size=10) | st.sampled_from(("../../../../outside/treasure", "/dev/zero", "\0", "x" * 300))
    more = st.tuples(names, damage.values()).map(lambda item: {"sha256": {**whole["sha256"], item[0]: item[1]}})

    def lay(place, checksums):
        (_copy(place, checkpoint) / FILE_NAME).write_text(json.dumps(checksums))
        return place

    survives(damage.json(whole) | more, lay, find_model, few=40)


def test_something_else_in_the_place_of_a_checkpoint(survives, damage, run):
    checkpoint = _checkpoint(run)
    files = sorted(str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*"))
    places = st.sampled_from((*files, ".", "..", "../..", "../13", "../²", "../-1", "../13.orbax-checkpoint-tmp"))

    def lay(place, drawn):
        name, kind = drawn
        damage.replace_by(kind, (_copy(place, checkpoint) / name).resolve(), place.parent / "outside")
        return place

    survives(st.tuples(places, damage.kinds), lay, find_model, few=40)


def test_paths_that_are_no_checkpoint(survives):
    start = st.sampled_from(("", "x" * 300, "²", "12/"))

    def lay(place, text):
        os.symlink(place / "loop", place / "loop")
        return place / (text.replace("\0", "").replace("..", "").lstrip("/") or "loop")

    survives(st.tuples(start, st.text(max_size=12)).map("".join), lay, find_model, few=30)


def test_bytes_and_values_of_a_runs_description(survives, damage, run):
    folder, _, content = run
    whole = (folder / "run.json").read_bytes()
    inputs = damage.json(content).map(lambda tree: json.dumps(tree).encode())
    inputs |= damage.splices(len(whole)).map(lambda splices: damage.spliced(whole, splices))

    def lay(place, content):
        (place / "run.json").write_bytes(content)
        return place

    survives(inputs, lay, lambda place: _open(place, run_description(folder)), few=100, writes=True)


def _open(place, description):
    with open_run_folder(place, description):
        pass


def test_something_else_in_a_runs_folder(survives, damage, run):
    """Nothing is written through a link: not even the lock, nor the record of a run that begins anew."""
    folder, _, content = run
    description = run_description(folder)
    names = st.sampled_from(("run.json", "run.lock", "metrics.jsonl", "checkpoints", "checkpoints/last/3", "other"))
    links = st.tuples(st.sampled_from(("run.lock", "run.json", "metrics.jsonl")), st.just("treasure"))

    def lay(place, drawn):
        new, changes = drawn
        if not new:
            (place / "run.json").write_text(json.dumps(content))
        for name, kind in changes:
            if kind == "treasure":
                damage.replace_by("missing", place / name, place)
                (place / name).symlink_to(place.parent / "outside" / "treasure")
            else:
                # An earlier change may have left no place for this one.
                with contextlib.suppress(FileExistsError, NotADirectoryError):
                    damage.replace_by(kind, place / name, place.parent / "outside")
        return place

    def read(place):
        with open_run_folder(place, description), MetricsLog(place, 3), Checkpoints(place):
            pass

    # A folder of checkpoints that is a link is followed on purpose: they may lie on another disk.
    placed = st.tuples(names, damage.kinds).filter(lambda change: change != ("checkpoints", "outside"))
    changes = st.lists(placed | links, min_size=1, max_size=3)
    survives(st.tuples(st.booleans(), changes), lay, read, few=25, writes=True)


def test_bytes_and_lines_of_the_record(survives, damage, run):
    whole = (run[0] / "metrics.jsonl").read_bytes()
    lines = [json.loads(line) for line in whole.splitlines()]
    inputs = damage.json(lines).map(
        lambda tree: "".join(json.dumps(line) + "\n" for line in (tree if isinstance(tree, list) else [tree])).encode()
    )
    inputs |= damage.splices(len(whole)).map(lambda splices: damage.spliced(whole, splices))

    def lay(place, content):
        (place / "metrics.jsonl").write_bytes(content)
        return place

    def read(place):
        read_metrics(place)
        MetricsLog(place, 8, 2).close()

    survives(inputs, lay, read, few=100, writes=True)
