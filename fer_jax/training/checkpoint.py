"""Checkpoints of a run: the best epoch for use, the last ones to go on from.

In a run's folder, `checkpoints/best/EPOCH` holds the model and `checkpoints/last/EPOCH` the optimizer as well. Each
carries a record (JSON): config, class names, split roles, data, initial weights, metrics and history, so that nothing
else is needed to rebuild the model and to say what it is.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from fer_jax.errors import InputError
from fer_jax.training.state import TrainState

_BEST, _LAST = "checkpoints/best", "checkpoints/last"


class Checkpoints:
    """The checkpoints below a run's folder `workdir`; use as a context manager, whose end waits for all writes."""

    def __init__(self, workdir: Path):
        self._best = _writer(workdir / _BEST, max_to_keep=1)
        # Two: should the newest be damaged, there is one before it.
        self._last = _writer(workdir / _LAST, max_to_keep=2)

    def save_best(self, epoch: int, state: TrainState, record: dict) -> None:
        """Keeps the model of `state` as the best one so far, in place of the earlier one."""
        # A run that was interrupted between this and the writing of the last checkpoint repeats its epoch, to the
        # same result.
        if epoch not in self._best.all_steps():
            self._best.save(epoch, args=ocp.args.Composite(**_model_items(state, record)))

    def save_last(self, epoch: int, state: TrainState, record: dict) -> None:
        """Keeps all of `state`, to go on from after `epoch`."""
        items = _model_items(state, record) | {"progress": ocp.args.StandardSave(state.progress())}
        self._last.save(epoch, args=ocp.args.Composite(**items))

    def restore_last(self, template: TrainState) -> tuple[TrainState, dict] | None:
        """The newest state, placed and shaped like `template`, and its record; None if there is none yet."""
        epoch = self._last.latest_step()
        if epoch is None:
            return None
        items = _restore_model_items(template.params, template.batch_stats)
        items["progress"] = ocp.args.StandardRestore(_abstract(template.progress()))
        restored = _read(self._last.directory / str(epoch), items)
        return TrainState.from_parts(restored.model, restored.progress), restored.record

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        for manager in (self._best, self._last):
            manager.wait_until_finished()
            manager.close()


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A checkpoint on disk: the folder of its epochs, the epoch chosen, and the record it carries."""

    folder: Path
    epoch: int
    record: dict

    def restore(self, params: Any, batch_stats: Any) -> tuple[Any, Any]:
        """Parameters and running statistics, shaped and placed like the arguments (arrays or shapes)."""
        model = _read(self.folder / str(self.epoch), _restore_model_items(params, batch_stats)).model
        return model["params"], model["batch_stats"]


def find_model(path: str | Path) -> SavedModel:
    """The checkpoint that `path` names: a run's folder (its best epoch), `checkpoints/last`, or one epoch's folder.

    Raises `InputError` if there is none.
    """
    path = Path(path).resolve()
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected a run's folder, as given to train.py by --workdir")
    if path.name.isdigit():
        folder, epoch = path.parent, int(path.name)
    else:
        folder, epoch = (path / _BEST if (path / _BEST).is_dir() else path), None
    epochs = ocp.utils.checkpoint_steps(folder)
    if not epochs or epoch not in (None, *epochs):
        raise InputError(f"{path}: holds no checkpoint; expected a run's folder, as given to train.py by --workdir")
    epoch = max(epochs) if epoch is None else epoch
    record = _read(folder / str(epoch), {"record": ocp.args.JsonRestore()}).record
    return SavedModel(folder, epoch, record)


def _writer(folder: Path, max_to_keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=max_to_keep, create=True)
    return ocp.CheckpointManager(folder.resolve(), options=options)


def _model_items(state: TrainState, record: dict) -> dict:
    return {"model": ocp.args.StandardSave(state.model()), "record": ocp.args.JsonSave(record)}


def _restore_model_items(params: Any, batch_stats: Any) -> dict:
    model = _abstract({"params": params, "batch_stats": batch_stats})
    return {"model": ocp.args.StandardRestore(model), "record": ocp.args.JsonRestore()}


def _read(place: Path, items: dict):
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return checkpointer.restore(place, args=ocp.args.Composite(**items))
    except Exception as error:  # damage shows in as many ways as there are files
        first_line = str(error).partition("\n")[0]
        raise InputError(f"{place}: the checkpoint cannot be read ({type(error).__name__}: {first_line})") from error


def _abstract(tree: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
