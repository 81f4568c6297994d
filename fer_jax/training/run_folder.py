"""The folder of a run: what it is a run of, so that the same command goes on with it and another one cannot harm it."""

import json
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

import fer_jax
from fer_jax import atomic
from fer_jax.config import differences, from_json, to_json
from fer_jax.data.fer2013 import SPLITS, Fer2013
from fer_jax.errors import InputError
from fer_jax.pretrained.initial import InitialBackbone

_DESCRIPTION = "run.json"


def describe(config: ConfigDict, data: Fer2013, backbones: Sequence[InitialBackbone]) -> dict:
    """What a run is a run of, as JSON; with an epoch's results it becomes the record of a checkpoint.

    `split_roles` says for each role which split plays it; `selected_on` is the role that picks the best
    epoch. The test split has no part in training.
    """
    description = {
        "fer_jax": fer_jax.__version__,
        "config": to_json(config),
        "class_names": list(data.class_names),
        "split_roles": {name: data.describe_split(name) for name in SPLITS},
        "selected_on": "validation",
        "data": {
            "source": data.source,
            "fingerprint": data.fingerprint(),
            "image_shape": list(data.image_shape),
            "images": {name: len(data.split(name)) for name in SPLITS},
        },
        "backbones": [{**backbone.spec.variant(), "initial_weights": backbone.origin} for backbone in backbones],
    }
    # As it will be read back: JSON turns tuples into lists.
    return json.loads(json.dumps(description))


def open_run_folder(workdir: Path, description: dict) -> bool:
    """Makes `workdir` the folder of the run `description`; True if it already is, with work to go on from.

    Raises `InputError`, and changes nothing, if the folder holds another run, or anything else.
    """
    place = workdir / _DESCRIPTION
    if place.is_file():
        _check_same(workdir, json.loads(place.read_text(encoding="utf-8")), description)
        return True
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise InputError(f"{workdir}: exists and is not the folder of a run; give a new or empty one by --workdir")
    atomic.write_text(place, json.dumps(description, indent=2) + "\n")
    return False


def _check_same(workdir: Path, earlier: dict, description: dict) -> None:
    changed = differences(from_json(earlier["config"]), from_json(description["config"]))
    if changed:
        raise InputError(
            f"{workdir}: holds a run of another config, which differs in {'; '.join(changed)} (there and now); "
            "give another --workdir or the same config"
        )
    # The same images may come from another place, so data are compared by content.
    for key in ("data", "backbones", "class_names"):
        found, given = (d[key]["fingerprint"] if key == "data" else d[key] for d in (earlier, description))
        if found != given:
            raise InputError(f"{workdir}: holds a run with other {key}: {found}, now {given}; give another --workdir")
