"""Resolve `config.init` to a spec and, unless from scratch, initial weights for each backbone."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from fer_jax.errors import InputError, nearest
from fer_jax.models.backbones import BACKBONES
from fer_jax.models.spec import BackboneSpec
from fer_jax.pretrained.manifest import SOURCES, converted_place
from fer_jax.pretrained.weights import read_weights
from fer_jax.runtime.user_path import input_path

LIBRARIES = ("keras", "torchvision")
"""Values of `config.init` that mean this library's weights of every backbone."""

SCRATCH = "scratch"
"""The origin of a fresh initialisation."""


@dataclasses.dataclass(frozen=True)
class InitialBackbone:
    """A backbone before training.

    `spec` has the padding, epsilon and preprocessing that the weights require. `params` and `batch_stats` are nested
    dicts of float32 arrays as the modules have them, or None for a fresh initialisation. `origin` says in a few words
    where the weights come from, for logs and reports.
    """

    spec: BackboneSpec
    params: dict | None
    batch_stats: dict | None
    origin: str


def initial_backbones(init: str, names: Sequence[str]) -> tuple[InitialBackbone, ...]:
    """Return the backbones `names` with the initial weights of `config.init` (`init`).

    `init` is "scratch"; one of `LIBRARIES`; or, for each backbone in any order and separated by commas, the name of a
    source, "timm:" and timm's own name, or the path of a file that `scripts/convert_weights.py` wrote. Sources are
    read from `converted_place`; nothing is downloaded.

    Raises `InputError` if a file is missing or damaged, and unless there are weights for each backbone and no other.
    """
    if init == SCRATCH:
        return tuple(InitialBackbone(BACKBONES[name], None, None, SCRATCH) for name in names)
    entries = _of_library(init, names) if init in LIBRARIES else init.split(",")
    places = [_place(init, entry.strip()) for entry in entries]
    found = [read_weights(place) for place in places]
    given = [weights.spec.name for weights in found]
    if sorted(given) != sorted(names):
        raise InputError(
            f"config.init={init}: weights of {', '.join(given)}, expected one file each for {', '.join(names)} "
            "(config.model.backbones), separated by commas"
        )
    by_name = dict(zip(given, found, strict=True))
    return tuple(
        InitialBackbone(w.spec, w.params, w.batch_stats, f"{w.origin}, sha256 {w.origin_sha256[:12]}")
        for w in (by_name[name] for name in names)
    )


def _of_library(library: str, names: Sequence[str]) -> list[str]:
    for name in names:
        if f"{library}_{name}" not in SOURCES:
            others = [source.name for source in SOURCES.values() if source.architecture == name]
            raise InputError(
                f"config.init={library}: there are no {library} weights of {name}; there are {', '.join(others)}, "
                "or --config.init=scratch"
            )
    return [f"{library}_{name}" for name in names]


def _place(init: str, entry: str) -> Path:
    """Return the file that one entry of `init` names; raise `InputError` if it is missing."""
    name = entry.replace("timm:", "timm_", 1)
    if name in SOURCES:
        place = converted_place(name)
        if not place.is_file():
            raise InputError(
                f"config.init={init}: {place} is missing; get it by "
                f"`python scripts/convert_weights.py --source {name}` (downloads {SOURCES[name].url}), "
                "or train without it by --config.init=scratch"
            )
        return place
    place = input_path(entry, f"config.init={init}: {entry!r}")
    if not place.is_file():
        raise InputError(
            f"config.init={init}: {entry!r} is neither a file nor the name of weights{nearest(name, SOURCES)}; "
            "`python scripts/convert_weights.py --list` shows all; train without any by --config.init=scratch"
        )
    return place
