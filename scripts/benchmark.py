"""Times the training step: python scripts/benchmark.py --config=configs/X.py --what=depthwise [--config.KEY=VALUE ...]

    depthwise      the lowerings of the depthwise convolution: shift_and_add beside XLA's native one
    augmentation   the step with random flips, shifts, rotations, zooms and the resize, beside a step with neither, on
                   images of the input size

The variants run in turn on synthetic faces; the table gives images per second as median (lowest to highest).
"""

import argparse

import jax
from ml_collections import ConfigDict

from fer_jax.benchmark import Variant, time_train_steps
from fer_jax.config import load_config
from fer_jax.data.augment import NO_AUGMENTATION
from fer_jax.errors import exit_on_input_error


def _variants(what: str, config: ConfigDict) -> dict[str, Variant]:
    copy = config.copy_and_resolve_references()
    if what == "depthwise":
        copy.model.depthwise_lowering = "native"
        config.model.depthwise_lowering = "shift_and_add"
        return {"shift_and_add": Variant(config), "native": Variant(copy)}
    copy.augment.update(vars(NO_AUGMENTATION))
    return {"neither": Variant(copy, images_at_input_size=True), "augmented and resized": Variant(config)}


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="a config file; --config.KEY=VALUE overrides a value of it")
    parser.add_argument("--what", choices=("depthwise", "augmentation"), required=True)
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count (default: 9)")
    parser.add_argument("--steps", type=int, default=4, help="steps of each variant in a round (default: 4)")
    args, overrides = parser.parse_known_args()
    config = load_config([f"--config={args.config}", *overrides])

    timings = time_train_steps(_variants(args.what, config), rounds=args.rounds, steps=args.steps)
    first = next(iter(timings.values()))
    device = jax.devices()[0].device_kind
    print(
        f"{' + '.join(config.model.backbones)}, {config.model.input_size} px, batch {config.train.batch_size}, "
        f"{config.model.dtype}, {jax.device_count()} x {device}, median of {args.rounds} rounds of {args.steps} steps"
    )
    for name, timing in timings.items():
        print(
            f"{name:>24}: {timing.median:7.1f} img/s ({timing.low:.1f} to {timing.high:.1f}), "
            f"{first.median / timing.median:5.2f} x the time of the first; compiled in {timing.compile_seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
