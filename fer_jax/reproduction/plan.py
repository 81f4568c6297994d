"""The experiments of the paper's Table 3: what they train, what they build on, and at which scale."""

import dataclasses
from collections.abc import Mapping, Sequence

from fer_jax.config.loading import load_config
from fer_jax.config.shipped import shipped_folder
from fer_jax.errors import InputError
from fer_jax.models.backbones import BACKBONES
from fer_jax.pretrained.initial import LIBRARIES, initial_backbones
from fer_jax.reproduction.scales import PAPER_BACKBONES, PRESETS


@dataclasses.dataclass(frozen=True)
class PaperResult:
    """A row of the paper's Table 3: accuracy in percent on PrivateTest, at the epoch that is best there."""

    accuracy: float
    epoch: int


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A row of the table.

    `kind` is `single`, `scratch` (a single network without initial weights, beside the paper's rows), `finetuned`,
    `frozen`, `fer_frozen` or `one_frozen` (one backbone frozen, the other trained: what the paper leaves for later);
    `config` a file's name in `configs/`; `overrides` change it; `needs` names, by backbone, the experiments whose best
    epoch it starts from. `paper` is None for a row that the paper does not have.
    """

    name: str
    title: str
    kind: str
    config: str
    overrides: Mapping[str, object]
    paper: PaperResult | None = None
    needs: Mapping[str, str] = dataclasses.field(default_factory=dict)


def config_arguments(experiment: Experiment) -> list[str]:
    """Return the config of `experiment` as a command takes it, for `load_config`."""
    overrides = (f"--config.{key}={value}" for key, value in experiment.overrides.items())
    return [f"--config={shipped_folder() / experiment.config}.py", *overrides]


def experiments(
    scale: str,
    *,
    backbones: Sequence[str] = PAPER_BACKBONES,
    init: str = "keras",
    scratch: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> tuple[Experiment, ...]:
    """Return the experiments in an order in which each comes after those that it builds on.

    Args:
      scale: a key of `PRESETS`.
      backbones: the pair, in the paper's order: the two of the paper have its results beside them.
      init: their initial weights as in `config.init`; as a list with commas, one for each in the order of `backbones`.
      scratch: networks that are trained from scratch beside them.
      changes: `--config.KEY=VALUE` for all of them, over what the scale says.

    Raises `InputError` for a pair that is none, initial weights that are not there, and changes that cannot be.
    """
    if len(backbones) != 2 or len(set(backbones)) != 2 or not set(backbones) <= set(BACKBONES):
        raise InputError(f"--backbones={','.join(backbones)}: expected two different names out of {_names()}")
    for name in scratch:
        if name not in BACKBONES:
            raise InputError(f"--scratch={','.join(scratch)}: expected names out of {_names()}")
    inits = [init] * 2 if init in (*LIBRARIES, "scratch") else [entry.strip() for entry in init.split(",")]
    if len(inits) != 2:
        raise InputError(f"--init={init}: expected weights for each of {', '.join(backbones)}, separated by commas")
    for name, weights in zip(backbones, inits, strict=True):
        initial_backbones(weights, [name])

    paper = tuple(backbones) == PAPER_BACKBONES
    pair = " + ".join(backbones)
    both = {"model.backbones": tuple(backbones), "init": init}
    first, second = backbones
    rows = [
        Experiment(
            name,
            f"{name}, all trained",
            "single",
            "efficientnet_b0",
            {"model.backbones": (name,), "init": weights},
            PaperResult(*result) if paper else None,
        )
        for name, weights, result in zip(backbones, inits, ((73.32, 95), (71.04, 85)), strict=True)
    ]
    rows += [
        Experiment(
            f"{name}_scratch",
            f"{name}, all trained from scratch",
            "scratch",
            "efficientnet_b0",
            {"model.backbones": (name,), "init": "scratch"},
        )
        for name in scratch
    ]
    rows += [
        Experiment(
            "hybrid_imagenet_frozen",
            f"{pair}, initial weights frozen",
            "frozen",
            "hybrid_imagenet_frozen",
            both,
            PaperResult(58.63, 147) if paper else None,
        ),
        Experiment(
            "hybrid_imagenet_finetuned",
            f"{pair}, all trained",
            "finetuned",
            "hybrid_imagenet_finetuned",
            both,
            PaperResult(73.22, 74) if paper else None,
        ),
        Experiment(
            "hybrid_fer_frozen",
            f"{pair}, trained on FER and frozen",
            "fer_frozen",
            "hybrid_fer_frozen",
            {"model.backbones": tuple(backbones)},
            PaperResult(74.39, 16) if paper else None,
            {first: first, second: second},
        ),
    ]
    rows += [
        Experiment(
            f"hybrid_{frozen}_frozen",
            f"{pair}, {frozen} frozen, {trained} trained",
            "one_frozen",
            config,
            {**both, "train.parameters": (f"backbones/{frozen}/**: freeze", "**: train")},
        )
        for frozen, trained, config in (
            (first, second, "hybrid_efficientnet_b0_frozen"),
            (second, first, "hybrid_mobilenet_v2_frozen"),
        )
    ]
    preset, changed = PRESETS[scale], _changes(changes)
    rows = [
        dataclasses.replace(
            row, overrides={**row.overrides, **preset.overrides, **preset.by_kind.get(row.kind, {}), **changed}
        )
        for row in rows
    ]
    if changed:
        for row in rows:
            load_config(config_arguments(row))
    return tuple(rows)


def _changes(arguments: Sequence[str]) -> dict[str, str]:
    """Return `--config.KEY=VALUE` by key, without those that the plan sets itself."""
    found = {}
    for argument in arguments:
        key, separator, value = argument.removeprefix("--config.").partition("=")
        if not argument.startswith("--config.") or not separator:
            raise InputError(f"unknown argument {argument}; changes of the configs are given by --config.KEY=VALUE")
        if key in _PLANNED or key.startswith("backbone_checkpoints"):
            raise InputError(f"{argument}: differs between the experiments; give {_PLANNED.get(key, 'another --init')}")
        found[key] = value
    return found


_PLANNED = {
    "seed": "--seeds=N",
    "init": "--init",
    "init_from": "--init",
    "model.backbones": "--backbones",
    "train.parameters": "nothing, as it is what makes an experiment",
    "eval.test_each_epoch": "nothing, as every run does it",
}
"""The keys of a config that the plan itself sets, and what to give in their place."""


def _names() -> str:
    return ", ".join(BACKBONES)
