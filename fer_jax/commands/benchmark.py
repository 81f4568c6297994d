"""Measure a config on this machine: %(prog)s --config=NAME [--what=train,eval] [...]

    train        the training step: images a second, time to the first step, compilation cold and cached, operations
                 and memory traffic, the share of the device's peak, memory
    eval         the evaluation of 3,589 images, once a round, and the forward pass alone
    input        the time of a step by its parts: fetch of the batch, augmentation and resize, step, evaluation
    checkpoint   saving and restoring the state
    depthwise    each lowering of the depthwise convolution, in the training step and by shape and direction, and the
                 value of config.model.depthwise_lowering that is fastest on this device
    frozen       the step that trains everything, the classifier alone, and the classifier on cached features
    dispatch     steps handed to the device one by one, and several at a time
    exports      an ONNX export in onnxruntime beside the same network in JAX, one image at a time and in batches

Faces are synthetic. Programs that are compared run in turn, round by round; the first round does not count, and the
tables give the median with the lowest and the highest round. `--peer=torch` puts the same network in PyTorch and timm
beside train and eval, run by an interpreter that has both (`--peer-python`).
"""

import argparse
import os
import sys

import fer_jax
from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.runtime.user_path import PathArgument

WHAT = ("train", "eval", "input", "checkpoint", "depthwise", "frozen", "dispatch", "exports")
"""What `fer_jax.benchmarking.sections.SECTIONS` measures, in its order."""


def _sections(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in WHAT]
    if unknown:
        raise InputError(f"--what={text}: {unknown[0]!r} is not known; expected some of {','.join(WHAT)}")
    return names


def _at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise InputError(f"--{name}={value}: expected at least 1")


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="a config by name or file; --config.KEY=VALUE changes it")
    parser.add_argument("--what", default="train,eval", help="what to measure, with commas (default: train,eval)")
    parser.add_argument("--batch", type=int, help="config.train.batch_size and config.eval.batch_size")
    parser.add_argument("--size", type=int, help="config.model.input_size")
    parser.add_argument("--dtype", help="config.model.dtype")
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count (default: 9)")
    parser.add_argument("--steps", type=int, default=4, help="steps of each program in a round (default: 4)")
    parser.add_argument("--peer", choices=("torch",), help="the same network elsewhere, beside train and eval")
    parser.add_argument(
        "--peer-python",
        action=PathArgument,
        default=sys.executable,
        help="the interpreter of the peer (default: this one)",
    )
    parser.add_argument("--out", action=PathArgument, help="a folder for benchmark.json and benchmark.png")
    args, overrides = parser.parse_known_args()
    what = _sections(args.what)
    for name in ("batch", "rounds", "steps"):
        _at_least_one(name, getattr(args, name))
    given = {"model.input_size": args.size, "model.dtype": args.dtype}
    given |= {"train.batch_size": args.batch, "eval.batch_size": args.batch}
    overrides += [f"--config.{key}={value}" for key, value in given.items() if value is not None]
    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.config.loading import load_config

    config = load_config([f"--config={args.config}", *overrides])
    if args.peer:
        # JAX would otherwise take most of a GPU's memory at its start and leave none to the peer.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    import jax
    from rich.console import Console

    from fer_jax.benchmarking import render
    from fer_jax.benchmarking.section import Settings
    from fer_jax.benchmarking.sections import SECTIONS
    from fer_jax.compile_check.devices import device_peak
    from fer_jax.runtime.jax_environment import prepare_jax
    from fer_jax.runtime.malloc import keep_freed_memory

    keep_freed_memory()
    prepare_jax()
    console = Console()
    peak = device_peak(config.model.dtype)
    heading = (
        f"{' + '.join(config.model.backbones)}, {config.model.input_size} px, {config.model.dtype}, "
        f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    )
    console.print(
        f"{heading}; JAX {jax.__version__}; limits of a device ({peak.name}): "
        f"{peak.flops[config.model.dtype] / 1e12:.3g} TFLOP/s, {peak.bytes_per_second / 1e9:.3g} GB/s",
        highlight=False,
    )
    settings = Settings(config, peak, args.rounds, args.steps, args.peer_python if args.peer else None)
    sections = []
    for name in what:
        sections.append(SECTIONS[name](settings))
        render.print_section(sections[-1], console)
    if args.out:
        setting = {
            "config": config.to_dict(),
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "fer_jax": fer_jax.__version__,
            "jax": jax.__version__,
            "peak": {"name": peak.name, "flops": peak.flops, "bytes_per_second": peak.bytes_per_second},
        }
        render.write_json(args.out / "benchmark.json", setting, sections)
        render.write_chart(args.out / "benchmark.png", heading, sections)
        console.print(f"\nwritten to {args.out}", highlight=False)


if __name__ == "__main__":
    main()
