"""What a new run starts from: single backbones or a whole model, of a run or a shipped one, or `config.init`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from fer_jax.errors import InputError, shown
from fer_jax.models.build import model_spec
from fer_jax.params.trainable import TrainableTable
from fer_jax.pretrained.initial import SCRATCH, InitialBackbone, initial_backbones
from fer_jax.runs.checkpoint import SavedModel
from fer_jax.runs.record import BackboneRecord
from fer_jax.training.state import model_definition
from fer_jax.zoo.model_file import ModelFile
from fer_jax.zoo.saved import open_saved


class StartingPoint(NamedTuple):
    """The backbones of a new run, and the parameters of its classifier as NumPy arrays, or None for fresh ones."""

    backbones: tuple[InitialBackbone, ...]
    classifier: dict | None = None


def starting_point(config: ConfigDict, data_fingerprint: str, class_names: Sequence[str]) -> StartingPoint:
    """The whole model of `config.init_from` if that is given, or else `starting_backbones` and a fresh classifier.

    A whole model is what `open_saved` finds, averaged where its run averaged; the images may have another size.
    `class_names` are those of this run's data.

    Raises `InputError` as `starting_backbones` does, and if the checkpoint of `config.init_from` is missing, damaged or
    one of another network or of other classes.
    """
    if config.init_from is None:
        return StartingPoint(starting_backbones(config, data_fingerprint))
    key = f"config.init_from={config.init_from}"
    if given := [name for name, place in config.backbone_checkpoints.items() if place is not None]:
        raise InputError(
            f"{key}: is the whole model already, so config.backbone_checkpoints.{given[0]} would have no effect; leave "
            "one of the two out"
        )
    try:
        saved = open_saved(config.init_from)
        description = saved.record.description
        trained_config = description.parsed_config()
        names = tuple(backbone.name for backbone in description.backbones)
        for what, found, expected in (
            ("the networks", names, tuple(config.model.backbones)),
            ("config.model.hidden_units", trained_config.model.hidden_units, config.model.hidden_units),
            ("config.model.pooling", trained_config.model.pooling, config.model.pooling),
            ("the classes", description.class_names, tuple(class_names)),
        ):
            if found != expected:
                raise InputError(
                    f"a model of another form: {what} {shown(found, 200)}, expected {shown(expected, 200)}; for single "
                    "backbones of it give --config.init_from=None --config.backbone_checkpoints.NAME=DIR"
                )
        variants = {backbone.name: backbone for backbone in description.backbones}
        params, batch_stats = _restore(saved, trained_config, variants)
    except InputError as error:
        raise InputError(f"{key}: {error}") from None
    backbones = (
        InitialBackbone(
            variants[name].spec,
            params["backbones"][name],
            batch_stats["backbones"][name],
            f"whole model of {_origin(saved, variants[name], data_fingerprint)}",
        )
        for name in names
    )
    return StartingPoint(tuple(backbones), params["classifier"])


def starting_backbones(config: ConfigDict, data_fingerprint: str) -> tuple[InitialBackbone, ...]:
    """The backbones of `config.model.backbones`, each from its checkpoint if it has one, else as `config.init` says.

    `config.init=checkpoints` says that each has one. A checkpoint is what `open_saved` finds, its best epoch for a
    run's folder; only the backbone is taken from it, with the padding, epsilon and preprocessing that it was trained
    with. `data_fingerprint` is that of this run's data: if the checkpoint was trained on other data, among them may be
    images that this run validates or tests on, and its origin says so.

    Raises `InputError` as `initial_backbones` does; for a checkpoint of a backbone that the network has not, or that
    is missing or damaged; and if the checkpoint has no such backbone, or saw images of another size.
    """
    names = config.model.backbones
    places = {name: place for name, place in config.backbone_checkpoints.items() if place is not None}
    for name in places:
        if name not in names:
            raise InputError(
                f"config.backbone_checkpoints.{name}={places[name]}: the network has no {name}, only "
                f"{', '.join(names)} (config.model.backbones)"
            )
    rest = [name for name in names if name not in places]
    if config.init == "checkpoints" and rest:
        raise InputError(
            f"config.init=checkpoints: no checkpoint of {rest[0]}; give the folder of a run that trained it by "
            f"--config.backbone_checkpoints.{rest[0]}=DIR"
        )
    found = {name: _from_checkpoint(name, place, config, data_fingerprint) for name, place in places.items()}
    if rest:
        found |= {backbone.spec.name: backbone for backbone in initial_backbones(config.init, rest)}
    return tuple(found[name] for name in names)


def random_and_frozen(backbones: Sequence[InitialBackbone], table: TrainableTable) -> list[str]:
    """Return a line for each backbone that starts from scratch and never trains, in part or as a whole."""
    notices = []
    for backbone in backbones:
        name = backbone.spec.name
        paths = [path for path in table.row_of if path[:2] == ("backbones", name)]
        frozen = [path for path in paths if not table.ever_trains(path)]
        if backbone.origin == SCRATCH and frozen:
            notices.append(
                f"{name} starts from scratch and {len(frozen)} of its {len(paths)} parameters are frozen: they stay "
                "random numbers; give weights by --config.init, or let them train by --config.train.parameters"
            )
    return notices


def _from_checkpoint(name: str, place: str, config: ConfigDict, data_fingerprint: str) -> InitialBackbone:
    key = f"config.backbone_checkpoints.{name}={place}"
    try:
        saved = open_saved(place)
        variants = {backbone.name: backbone for backbone in saved.record.description.backbones}
        trained_config = saved.record.description.parsed_config()
        if name not in variants:
            raise InputError(f"holds {', '.join(variants)}, expected {name}")
        input_size = trained_config.model.input_size
        if input_size != config.model.input_size:
            raise InputError(
                f"trained on images of {input_size} pixels, expected {config.model.input_size} "
                f"(config.model.input_size); train it again at that size, or set config.model.input_size={input_size}"
            )
        params, batch_stats = _restore(saved, trained_config, variants)
    except InputError as error:
        raise InputError(f"{key}: {error}") from None
    return InitialBackbone(
        variants[name].spec,
        params["backbones"][name],
        batch_stats["backbones"][name],
        _origin(saved, variants[name], data_fingerprint),
    )


def _restore(
    saved: SavedModel | ModelFile, config: ConfigDict, variants: Mapping[str, BackboneRecord]
) -> tuple[dict, dict]:
    """All parameters and statistics of the checkpoint, as NumPy arrays."""
    specs = [variant.spec for variant in variants.values()]
    spec = model_spec(config, specs, len(saved.record.description.class_names))
    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    _, *model = model_definition(spec, one_device)
    return jax.tree.map(np.asarray, saved.restore(*model))


def _origin(saved: SavedModel | ModelFile, variant: BackboneRecord, data_fingerprint: str) -> str:
    description = saved.record.description
    fingerprint = description.data.fingerprint
    evaluated = [entry for entry in saved.record.history if entry.step == saved.record.step]
    accuracy = "not evaluated"
    if evaluated:
        accuracy = f"{100 * evaluated[0].validation_accuracy:.2f} %"
    origin = (
        f"{saved.name}, {accuracy} on "
        f"{description.split_roles[description.selected_on]} of data {fingerprint[:12]}, "
        f"itself from {variant.initial_weights}"
    )
    if fingerprint == data_fingerprint:
        return origin
    return (
        f"{origin}; careful: this run has other data ({data_fingerprint[:12]}), "
        "whose validation and test images the checkpoint may have been trained on"
    )
