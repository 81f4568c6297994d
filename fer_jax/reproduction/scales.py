"""The scales at which the paper's Table 3 is reproduced."""

import dataclasses
from collections.abc import Mapping

PAPER_BACKBONES = ("efficientnet_b0", "mobilenet_v2")


@dataclasses.dataclass(frozen=True)
class Preset:
    """A scale: overrides of the configs (keys without `config.`) for all experiments, and for each kind of them."""

    description: str
    overrides: Mapping[str, object] = dataclasses.field(default_factory=dict)
    by_kind: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)


_SMALL_FROZEN = {"train.epochs": 12, "train.cached_views": 4}

PRESETS = {
    "paper": Preset("the paper's Table 1 to the letter: 200 pixels, batch 32, 100 or 150 epochs at 1e-3"),
    "small": Preset(
        "a small scale for two CPU cores: 64 pixels, batch 64, cosine from 1e-3 after half an epoch of warm-up; "
        "single networks 6 epochs, the fine-tuned hybrids 5, the frozen ones 12 on the cached features of 4 views",
        {
            "model.input_size": 64,
            # By Keras' 0.999 for MobileNetV2 the running statistics of so few steps would be those of the past.
            "model.batch_norm_momentum": 0.99,
            "train.batch_size": 64,
            "optimizer.schedule": "cosine",
            "optimizer.warmup_epochs": 0.5,
        },
        {
            "single": {"train.epochs": 6},
            "scratch": {"train.epochs": 6},
            "finetuned": {"train.epochs": 5},
            "frozen": _SMALL_FROZEN,
            "fer_frozen": _SMALL_FROZEN,
            "one_frozen": {"train.epochs": 5},
        },
    ),
}
"""The scales by name."""
