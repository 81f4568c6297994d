"""Options that would change nothing: whoever sets one expects what will not happen, and is told so before any work."""

from ml_collections import ConfigDict

from fer_jax.config.defaults import keys
from fer_jax.data.input_choice import choose_input
from fer_jax.errors import InputError
from fer_jax.models.backbones import BACKBONES


def check_effects(config: ConfigDict, num_bytes: int) -> None:
    """Raise `InputError` for an option of `config` that has no effect on a run with `num_bytes` of images.

    A default is never refused, nor 0, which asks for nothing. This is no part of `check_config`, by which the configs
    of earlier runs are read as well: their options are what they are.
    """
    for name, value, reason in _without_effect(config, num_bytes):
        if value and value != keys()[name].default:
            raise InputError(f"config.{name}={value}: has no effect, since {reason}; leave the option out")


def _without_effect(config: ConfigDict, num_bytes: int) -> list[tuple[str, float, str]]:
    """Return the options without effect, whatever they hold: key, value, and why they have none."""
    found = []
    workers = ("data.workers", config.data.workers)
    kind, reason = choose_input(config.data.input, num_bytes)
    if config.train.cached_views:
        found.append((*workers, f"config.train.cached_views={config.train.cached_views} reads the images in threads"))
    elif kind == "resident":
        found.append((*workers, f"the input is resident ({reason}), and only a streamed one has workers"))
    if not config.model.hidden_units:
        found.append(("model.dropout", config.model.dropout, "config.model.hidden_units=() leaves no layer to drop in"))
    if config.data.votes is None:
        no_votes = "config.data.votes names no file to take them from"
        found += [(f"data.{name}", config.data[name], no_votes) for name in ("vote_labels", "vote_classes")]
    if config.data.drop_twins != "near":
        found.append(
            ("data.twins", config.data.twins, f"config.data.drop_twins={config.data.drop_twins} needs no list")
        )
    names = config.model.backbones
    if not any(BACKBONES[name].drop_path for name in names):
        found.append(("model.drop_path", config.model.drop_path, f"no block of {', '.join(names)} is ever skipped"))
    if config.optimizer.name != "sgd":
        momentum = ("optimizer.momentum", config.optimizer.momentum)
        found.append((*momentum, f"config.optimizer.name={config.optimizer.name} has moments of its own"))
    patience = config.train.early_stopping_patience
    if patience >= config.train.epochs:
        reason = f"a run of {config.train.epochs} epochs (config.train.epochs) ends before"
        found.append(("train.early_stopping_patience", patience, reason))
    return found
