"""The folder of a run: what it is a run of, so that the same command resumes it and another one cannot harm it."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from ml_collections import ConfigDict

import fer_jax
from fer_jax.config.loading import to_json
from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.errors import InputError
from fer_jax.pretrained.initial import InitialBackbone
from fer_jax.runs.changes import accepted_changes
from fer_jax.runs.checkpoint import CHECKPOINTS, holds_checkpoint, holds_state, newest_step
from fer_jax.runs.metrics_log import FILE_NAME as METRICS
from fer_jax.runs.metrics_log import TENSORBOARD_FOLDER
from fer_jax.runs.record import (
    BackboneRecord,
    ConfigChange,
    DataRecord,
    ParameterRow,
    RunDescription,
    decode_description,
    encode_description,
)
from fer_jax.runtime import processes
from fer_jax.runtime.profiling import FOLDER as PROFILE_FOLDER
from fer_jax.storage import files
from fer_jax.storage.bucket import AnyPath, BucketPath
from fer_jax.storage.lock import held

_DESCRIPTION = "run.json"
_LOCK = "run.lock"
_WHAT_TRAINS = "freeze.txt"
_PARAMETERS = "parameters.txt"
_NOTICES = "notices.txt"
# Beside the description and the lock; any other file in the folder is none of the run's business.
_OF_A_RUN = (CHECKPOINTS, METRICS, TENSORBOARD_FOLDER, PROFILE_FOLDER, _WHAT_TRAINS, _PARAMETERS, _NOTICES)


def describe(
    config: ConfigDict,
    data: Dataset,
    backbones: Sequence[InitialBackbone],
    parameters: Sequence[Mapping[str, Any]] = (),
) -> RunDescription:
    """Return what a run is a run of; `parameters` are the rows of `TrainableTable.describe`."""
    return RunDescription(
        fer_jax=fer_jax.__version__,
        config=to_json(config),
        class_names=tuple(data.class_names),
        split_roles={name: data.describe_split(name) for name in SPLITS},
        selected_on="validation",
        data=DataRecord(
            source=data.source,
            fingerprint=data.fingerprint(),
            image_shape=tuple(data.image_shape),
            images={name: len(data.split(name)) for name in SPLITS},
        ),
        backbones=tuple(
            BackboneRecord(
                name=backbone.spec.name,
                padding=backbone.spec.padding,
                batch_norm_epsilon=backbone.spec.batch_norm_epsilon,
                preprocessing=backbone.spec.preprocessing,
                initial_weights=backbone.origin,
            )
            for backbone in backbones
        ),
        parameters=tuple(ParameterRow(**row) for row in parameters),
    )


def run_description(workdir: AnyPath) -> RunDescription:
    """Return what the folder `workdir` is a run of; `InputError` if that is missing or damaged."""
    place = workdir / _DESCRIPTION
    if not place.is_file():
        raise InputError(f"{workdir}: is not the folder of a run: it has no {_DESCRIPTION}")
    return decode_description(place.read_bytes(), str(place))


def resumed_backbones(workdir: AnyPath, config: ConfigDict, data: Dataset) -> tuple[InitialBackbone, ...] | None:
    """Return the backbones of the run that `workdir` resumes, or None where no state was saved yet.

    They have no weights: the checkpoint holds every array.

    Raises `InputError` if the folder holds a run of another config or other data, or a damaged description.
    """
    with _written_below(workdir):
        if not ((workdir / _DESCRIPTION).is_file() and holds_state(workdir)):
            return None
        earlier = run_description(workdir)
    _check_same(workdir, earlier, config, data.fingerprint(), data.class_names)
    # Where the weights came from may be gone by now, so it is told and not looked up.
    return tuple(InitialBackbone(backbone.spec, None, None, backbone.initial_weights) for backbone in earlier.backbones)


@contextlib.contextmanager
def open_run_folder(
    workdir: AnyPath, description: RunDescription
) -> Iterator[tuple[RunDescription, tuple[str, ...], Callable[[], None]]]:
    """Makes `workdir` the folder of the run `description`, or checks that it already is, and holds it for the block.

    Yields the description with what this command and earlier ones have changed in the config of the run, and the
    changes of this command (`accepted_changes`); in processes other than the main one, `description` and no changes.

    The hold is `run.lock` (`fer_jax.storage.lock.held`). The third value raises `InputError` if it was lost meanwhile.

    Raises `InputError`, and changes nothing, if the folder holds another run, or anything that a run would replace, if
    another process trains in it, or if it cannot be written. So does any `OSError` inside the block, as from a full
    disk.
    """
    content = {"config": description.config, "data": description.data.fingerprint}
    processes.wait_for_all("has read the data")
    processes.check_equal(json.dumps(content), "config and data")
    hold = contextlib.ExitStack()
    opened: list[tuple[RunDescription, tuple[str, ...], Callable[[], None]]] = [(description, (), lambda: None)]

    def claim() -> int:
        _changes(workdir, description)
        workdir.mkdir(parents=True, exist_ok=True)
        check = hold.enter_context(held(workdir / _LOCK))
        # Once more: until the lock was held, another process may have begun a run.
        changed = _changes(workdir, description)
        resumed = description
        if holds_state(workdir):
            earlier = run_description(workdir).changes
            now = (ConfigChange(step=newest_step(workdir), changed=changed),) if changed else ()
            resumed = msgspec.structs.replace(description, changes=(*earlier, *now))
        # Until a state is saved, the run begins anew, perhaps from other initial weights.
        if changed or not holds_state(workdir):
            files.write_text(workdir / _DESCRIPTION, encode_description(resumed))
        opened.append((resumed, changed, check))
        return 0

    def claim_if_writable() -> int:
        with _written_below(workdir):
            return claim()

    with hold:
        processes.on_main(claim_if_writable)
        with _written_below(workdir):
            yield opened[-1]


def write_overviews(workdir: AnyPath, what_trains: str, parameters: str) -> None:
    """Write the texts that say what trains and which parameters there are."""
    files.write_text(workdir / _WHAT_TRAINS, what_trains + "\n")
    files.write_text(workdir / _PARAMETERS, parameters + "\n")


def add_notice(workdir: AnyPath, text: str) -> None:
    """Append a line to the notices of the run: what a terminal would have shown. A failure to write it is no matter."""
    files.add_line(workdir / _NOTICES, text)


def _changes(workdir: AnyPath, description: RunDescription) -> tuple[str, ...]:
    """Check that `workdir` is free for the run `description`, or holds it; return what it changes in its config.

    A run that has saved nothing yet is no loss: after a batch that did not fit into memory, another config may begin in
    its place.
    """
    place = workdir / _DESCRIPTION
    if place.is_file():
        earlier = run_description(workdir)
        if not holds_checkpoint(workdir):
            return ()
        config, fingerprint = description.parsed_config(), description.data.fingerprint
        return _check_same(workdir, earlier, config, fingerprint, description.class_names)
    if isinstance(workdir, BucketPath):
        there = {path.name for path in workdir.iterdir()}
    elif workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir}: exists and is not a folder; give a new or empty one by --workdir")
    else:
        there = {name for name in _OF_A_RUN if os.path.lexists(workdir / name)}
    if found := [name for name in _OF_A_RUN if name in there]:
        raise InputError(
            f"{workdir}: is not the folder of a run, for it has no {_DESCRIPTION}, but holds what a run would replace "
            f"({', '.join(found)}); move that away, or give another --workdir"
        )
    return ()


@contextlib.contextmanager
def _written_below(workdir: AnyPath) -> Iterator[None]:
    try:
        yield
    except (InputError, ConnectionError):  # one line already; of a closed pipe, for one: no matter of files
        raise
    except OSError as error:
        place = error.filename or workdir
        raise InputError(
            f"{place}: cannot be written ({error.strerror or error}); what was saved before is whole: mend the cause, "
            "or give another --workdir"
        ) from error


def _check_same(
    workdir: AnyPath, earlier: RunDescription, config: ConfigDict, fingerprint: str, class_names: Sequence[str]
) -> tuple[str, ...]:
    """Raise `InputError` unless this is the run of `earlier`; return what `config` changes in it."""
    changed = accepted_changes(workdir, earlier, config, newest_step(workdir))
    # The same images may come from another place, so data are compared by content. Initial weights are not compared:
    # the config names them, and a checkpoint replaces them.
    for key, found, given in (
        ("data", earlier.data.fingerprint, fingerprint),
        ("class names", ", ".join(earlier.class_names), ", ".join(class_names)),
    ):
        if found != given:
            raise InputError(f"{workdir}: holds a run with other {key}: {found}, now {given}; give another --workdir")
    return changed
