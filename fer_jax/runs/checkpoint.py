"""Checkpoints of a run: the best epoch for use, the last ones to resume from.

In a run's folder, `checkpoints/best/STEP` holds a model and `checkpoints/last/STEP` also all else that training needs,
which may be in the middle of an epoch. Each carries a `CheckpointRecord` as JSON, so that nothing
else is needed to rebuild the model and to say what it is; and the checksums of its files (`fer_jax.runs.checksums`),
which are compared before anything is read.

A checkpoint that cannot be used is moved to `checkpoints/set_aside/` and the one before it serves.
"""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fer_jax.errors import InputError, first_line, is_exhaustion
from fer_jax.runs.checkpoint_folder import KEPT, CheckpointFolder, checkpoint_folder
from fer_jax.runs.checksums import find_damage
from fer_jax.runs.metrics_log import epoch_history, read_metrics
from fer_jax.runs.record import CheckpointRecord, as_json, decode_record
from fer_jax.runtime import processes
from fer_jax.runtime.user_path import user_place
from fer_jax.storage.bucket import AnyPath, BucketPath
from fer_jax.storage.patience import BucketError
from fer_jax.training.state import TrainState

CHECKPOINTS = "checkpoints"
"""The folder of checkpoints in a run's folder."""

_BEST, _LAST, _SET_ASIDE = f"{CHECKPOINTS}/best", f"{CHECKPOINTS}/last", f"{CHECKPOINTS}/set_aside"


class Checkpoints:
    """The checkpoints below a run's folder `workdir`; use as a context manager, whose end waits for all writes.

    They are written in the background; an error there arrives as an `InputError` of a later call, or of the end.

    Attributes:
      last_step: the newest step saved, to resume from; 0 if there is none.
      notices: what was found damaged and set aside, a sentence each.

    Raises `InputError` if there are states to resume from and all of them are damaged; nothing is moved then.
    """

    def __init__(self, workdir: AnyPath):
        self._workdir = workdir
        self._before_commit: list[Callable[[], None]] = []
        self._best_folder, self._last_folder = (
            checkpoint_folder(workdir / name, self._call_before_commit) for name in (_BEST, _LAST)
        )
        self.notices: list[str] = []
        self.last_step = processes.on_main(self._choose)
        self._best = _Writer(workdir / _BEST, self._best_folder)
        self._last = _Writer(workdir / _LAST, self._last_folder)

    def commit_after(self, action: Callable[[], None]) -> None:
        """Call `action` before any later checkpoint becomes whole in a bucket; if it raises, none does."""
        self._before_commit.append(action)

    def save_best(self, step: int, state: TrainState, record: CheckpointRecord) -> None:
        """Keeps the model of `state` as the best one so far."""
        self._best.save(step, _model_items(state, record, self._best_folder))

    def save_last(self, step: int, state: TrainState, metrics: Any, record: CheckpointRecord) -> None:
        """Keep all of `state`, and `metrics` (any pytree of arrays), to resume from after `step`."""
        items = _model_items(state, record, self._last_folder)
        items["progress"] = ocp.args.StandardSave(_to_write(_progress(state, metrics), self._last_folder))
        self._last.save(step, items)
        self.last_step = step

    def restore_last(self, state: TrainState, metrics: Any) -> tuple[TrainState, Any, CheckpointRecord] | None:
        """The newest whole state, its metrics, shaped and placed like the arguments, and its record; None if new."""
        if not self.last_step:
            return None
        items = _restore_model_items(state.params, state.batch_stats)
        items["progress"] = ocp.args.StandardRestore(_abstract(_progress(state, metrics)))
        place = self._workdir / _LAST / str(self.last_step)
        restored = _read(place, self._last_folder.files_of(self.last_step), items)
        record = decode_record(restored.record, f"{place}, record")
        progress = dict(restored.progress)
        metrics = jax.tree.unflatten(jax.tree.structure(metrics), progress.pop("metrics"))
        state = TrainState.from_parts(restored.model, progress)
        # The run ended after the last state was saved and before the best one was: they are the same model.
        if record.best and record.best.step == self.last_step and self.last_step not in self._best_folder.steps():
            self.save_best(self.last_step, state, record)
        return state, metrics, record

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        self._last.wait()
        self._best.wait()

    def _choose(self) -> int:
        """The newest whole step, or 0; what is damaged or newer than it is set aside."""
        last, best = self._workdir / _LAST, self._workdir / _BEST
        for folder in (self._last_folder, self._best_folder):
            folder.begin()
        damaged, chosen = {}, 0
        for step in reversed(self._last_folder.steps()):
            if (damage := find_damage(self._last_folder.files_of(step))) is None:
                chosen = step
                break
            damaged[step] = damage
        if damaged and not chosen:
            found = "; ".join(f"{last / str(step)}: {damage}" for step, damage in damaged.items())
            raise InputError(
                f"{self._workdir}: every checkpoint to resume from is damaged ({found}); bring one back from a backup, "
                "or begin again with another --workdir"
            )
        for step, damage in damaged.items():
            place = self._set_aside(self._last_folder, "last", step)
            self.notices.append(f"{last / str(step)} is damaged ({damage}), now in {place}; step {chosen} serves")
        for step in self._best_folder.steps():
            damage = find_damage(self._best_folder.files_of(step))
            if damage is not None:
                place = self._set_aside(self._best_folder, "best", step)
                self.notices.append(f"{best / str(step)} is damaged ({damage}), now in {place}")
            elif step > chosen:
                # The run will come to this step again.
                self._set_aside(self._best_folder, "best", step)
        return chosen

    def _set_aside(self, folder: CheckpointFolder, kind: str, step: int) -> AnyPath:
        aside, name = self._workdir / _SET_ASIDE, f"{kind}-{step}"
        names = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
        place = next(aside / name for name in names if not (aside / name).exists())
        folder.move(step, place)
        return place

    def _call_before_commit(self) -> None:
        for action in self._before_commit:
            action()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        self._last.close()
        self._best.close()


class _Manager(ocp.CheckpointManager):
    """Leaves the question whether to stop to `fer_jax.runtime.preemption`.

    Orbax asks it too: when a save begins, and in process 0 again from a thread when it ends. Each time it tells the
    service that counts these questions a number of its own, the step. Processes whose counts are mixed up miss the
    place where to stop, or stop at different ones and wait for each other.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


class _Writer:
    """Writes one folder of checkpoints, the two newest of which stay.

    Where the folder is not shared, the main process writes alone and the others wait for it.
    """

    def __init__(self, place: AnyPath, folder: CheckpointFolder):
        self._place = place
        self._folder = folder
        self._step = 0
        self._waited = 0
        alone = not folder.shared
        self._idle = alone and not processes.is_main()
        if self._idle:
            return
        self._manager = self._guarded(
            lambda: _Manager(
                folder.staging,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=1 if alone else KEPT,
                    create=not alone,
                    cleanup_tmp_directories=True,
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._finish),
                    multiprocessing_options=ocp.options.MultiprocessingOptions(
                        barrier_sync_key_prefix=place.name, active_processes={0} if alone else None
                    ),
                ),
            )
        )

    def save(self, step: int, items: dict) -> None:
        """Write `items` in the background as the checkpoint of `step`, when the one before is written."""
        if not self._folder.shared:
            self._wait_together()
        if self._idle:
            return

        def save():
            self._manager.wait_until_finished()
            # This step may have been saved at the end of an epoch, before its evaluation; replace it.
            if step in self._manager.all_steps():
                self._manager.delete(step)
            self._step = step
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

        self._guarded(save)

    def wait(self) -> None:
        """Return when what was saved is stored."""
        if self._folder.shared:
            self._guarded(self._manager.wait_until_finished)
        else:
            self._wait_together()

    def close(self) -> None:
        """Wait for what was saved, and free what is held."""
        if not self._idle:
            self._guarded(self._manager.close)

    def _wait_together(self) -> None:
        if not self._idle:
            self._guarded(self._manager.wait_until_finished)
        self._waited += 1
        processes.wait_for_all(f"has stored {self._place.name} {self._waited}")

    def _finish(self) -> None:
        """Called when all files are written and the folder does not have its final name yet."""
        if processes.is_main():
            (written,) = self._folder.staging.glob(f"{self._step}{ocp.utils.TMP_DIR_SUFFIX}*")
            self._folder.finish(written, self._step)

    def _guarded(self, action):
        try:
            return action()
        except BucketError:  # which says all that there is to say
            raise
        # A full disk shows as an OSError, as a ValueError of TensorStore, or as a RuntimeError of the tasks beside it.
        except (OSError, ValueError, RuntimeError) as error:
            if is_exhaustion(error):
                raise
            raise InputError(
                f"{self._place}: the checkpoint cannot be written ({_reason(error)}); what was saved before is "
                "whole: mend the cause, and give the same command to resume from it"
            ) from error


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A checkpoint: the folder that holds it, its step there, and the record it carries."""

    folder: AnyPath
    step: int
    record: CheckpointRecord
    _files: CheckpointFolder

    @property
    def name(self) -> str:
        """The checkpoint, for messages and records."""
        return f"checkpoint {self.folder / str(self.step)}"

    @property
    def epoch(self) -> int:
        """The whole epochs done."""
        return self.record.epoch

    def run_history(self) -> list[dict]:
        """Return the epochs of the whole run, also those after this checkpoint, if it lies in the run's folder.

        Elsewhere they are those of its record, up to its own. Raises `InputError` if the run's log is damaged.
        """
        logged = []
        if self.folder.parent.name == CHECKPOINTS:
            logged = epoch_history(read_metrics(self.folder.parent.parent))
        return logged or [as_json(entry) for entry in self.record.history]

    def restore(self, params: Any, batch_stats: Any) -> tuple[Any, Any]:
        """Parameters and running statistics, shaped and placed like the arguments (arrays or shapes)."""
        items = _restore_model_items(params, batch_stats)
        model = _read(self.folder / str(self.step), self._files.files_of(self.step), items).model
        return model["params"], model["batch_stats"]


def find_model(path: str | Path | BucketPath) -> SavedModel:
    """The checkpoint that `path` names: a run's folder (its best epoch), `checkpoints/last`, or one step's folder.

    Raises `InputError` if there is none, or if its files are not what was written.
    """
    path = user_place(path, f"{path}:", "; expected a run's folder")
    try:
        path = path.resolve()
        is_folder = path.is_dir()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise InputError(f"{path}: cannot be looked up ({error}); expected a run's folder") from error
    if not is_folder:
        raise InputError(f"{path}: no such folder; expected a run's folder, as given to train.py by --workdir")
    has_best = (path / _BEST).is_dir()
    if path.name.isascii() and path.name.isdigit() and not has_best:
        folder, step = path.parent, int(path.name)
    else:
        folder, step = (path / _BEST if has_best else path), None
    files = checkpoint_folder(folder)
    steps = files.steps()
    if not steps or step not in (None, *steps):
        raise InputError(
            f"{path}: holds no checkpoint; expected a run's folder, as given to train.py by --workdir, after its first "
            "whole epoch"
        )
    step = steps[-1] if step is None else step
    if damage := find_damage(files.files_of(step)):
        raise InputError(
            f"{folder / str(step)}: the checkpoint cannot be read: {damage}; give another one, such as the newest "
            "below checkpoints/last"
        )
    place = folder / str(step)
    record = _read(place, files.files_of(step), {"record": ocp.args.JsonRestore()}).record
    return SavedModel(folder, step, decode_record(record, f"{place}, record"), files)


def holds_state(workdir: AnyPath) -> bool:
    """Tell whether the run's folder `workdir` holds a state to resume from, whole or damaged."""
    return bool(_steps(workdir / _LAST))


def holds_checkpoint(workdir: AnyPath) -> bool:
    """Tell whether the run's folder `workdir` holds any checkpoint, whole or damaged."""
    return holds_state(workdir) or bool(_steps(workdir / _BEST))


def newest_step(workdir: AnyPath) -> int:
    """Return the step of the newest state in the run's folder `workdir`, whole or damaged; 0 if there is none."""
    return max(_steps(workdir / _LAST), default=0)


def _steps(folder: AnyPath) -> list[int]:
    """The steps of the checkpoints in `folder`, oldest first."""
    return checkpoint_folder(folder).steps()


def _progress(state: TrainState, metrics: Any) -> dict:
    """All that is not the model."""
    return state.progress() | {"metrics": jax.tree.leaves(metrics)}


def _model_items(state: TrainState, record: CheckpointRecord, folder: CheckpointFolder) -> dict:
    model = _to_write(state.model(), folder)
    return {"model": ocp.args.StandardSave(model), "record": ocp.args.JsonSave(as_json(record))}


def _to_write(tree: Any, folder: CheckpointFolder) -> Any:
    """The arrays of `tree` as Orbax can write them: as this process has them, where it writes for all of them."""
    if folder.shared or jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), tree)


def _restore_model_items(params: Any, batch_stats: Any) -> dict:
    model = _abstract({"params": params, "batch_stats": batch_stats})
    return {"model": ocp.args.StandardRestore(model), "record": ocp.args.JsonRestore()}


# What Orbax raises for a damaged description of a tree: whatever its parts happen to. For an array that it cannot read
# it raises a plain Exception.
_UNREADABLE = (OSError, ValueError, RuntimeError, LookupError, AttributeError, TypeError)


def _read(place: AnyPath, files: Path, items: dict):
    """The items of the checkpoint `place`, whose files of this machine are in `files`."""
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return checkpointer.restore(files, args=ocp.args.Composite(**items))
    except Exception as error:
        if is_exhaustion(error) or (not isinstance(error, _UNREADABLE) and type(error) is not Exception):
            raise
        raise InputError(f"{place}: the checkpoint cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _abstract(tree: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
