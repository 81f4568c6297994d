"""What may change between two commands of one run: that on which none of its results depends."""

from ml_collections import ConfigDict

from fer_jax.config.loading import differences
from fer_jax.errors import InputError
from fer_jax.runs.record import RunDescription
from fer_jax.storage.bucket import AnyPath

# On the last three results depend to rounding at most. Of the files of votes and of twins only the content matters,
# which shows in the fingerprint of the data. Patience says only how many of the same epochs a run takes.
_WITHOUT_EFFECT = (
    "train.checkpoint_every_steps",
    "train.early_stopping_patience",
    "train.watchdog_minutes",
    "train.log_every_steps",
    "data.votes",
    "data.twins",
    "data.workers",
    "data.input",
    "eval.batch_size",
    "model.rematerialise",
)
_EPOCHS = "train.epochs"


def accepted_changes(workdir: AnyPath, earlier: RunDescription, config: ConfigDict, saved_step: int) -> tuple[str, ...]:
    """Return what differs between the config of the run in `workdir` and `config`, as `differences` has it.

    More epochs, or fewer that are not begun yet, are the same run where the learning rate does not depend on their
    number. `saved_step` is that of the newest state.

    Raises:
      InputError: for a difference that would make another run.
    """
    lines = {line.partition(":")[0]: line for line in differences(earlier.parsed_config(), config)}
    others = [line for key, line in lines.items() if key not in (*_WITHOUT_EFFECT, _EPOCHS)]
    elsewhere = f"another --workdir, where --config.init_from={workdir} starts a new run from the weights of this one"
    if others:
        raise InputError(
            f"{workdir}: holds a run of another config, which differs in {'; '.join(others)} (there and now); give the "
            f"same config, or {elsewhere}"
        )
    if _EPOCHS in lines:
        _check_epochs(workdir, earlier, config, saved_step, elsewhere)
    return tuple(lines.values())


def _check_epochs(
    workdir: AnyPath, earlier: RunDescription, config: ConfigDict, saved_step: int, elsewhere: str
) -> None:
    there, now = earlier.parsed_config().train.epochs, config.train.epochs
    change = f"{workdir}: config.train.epochs={now}, but the run there has {there}"
    if config.optimizer.schedule == "cosine":
        raise InputError(
            f"{change}, and its cosine schedule lowers the learning rate to 0 at the end of them: another number makes "
            f"every step another one; give {there}, or {elsewhere} (or from --config.init_from="
            f"{workdir / 'checkpoints' / 'last'})"
        )
    steps = earlier.data.images["train"] // config.train.batch_size
    if now * steps < saved_step:
        raise InputError(
            f"{change} and has taken {saved_step} steps, {saved_step / steps:.3g} epochs; give at least "
            f"{-(-saved_step // steps)}"
        )
