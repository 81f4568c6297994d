"""Trains a network: python scripts/train.py --config=configs/X.py --data=SOURCE --workdir=DIR [--config.KEY=VALUE ...]

SOURCE is fer2013.csv (or icml_face_data.csv), a folder of images by split and class, a folder written by
scripts/prepare_data.py, or `synthetic`. Given again, the same command goes on with a run that was interrupted.
"""

import argparse
import sys
from pathlib import Path

from fer_jax.config import load_config, model_spec
from fer_jax.data.folder_reader import FolderOptions
from fer_jax.data.sources import load
from fer_jax.errors import exit_on_input_error
from fer_jax.expressions import NUM_EXPRESSIONS
from fer_jax.models.fernet import BACKBONES
from fer_jax.models.summary import layer_table
from fer_jax.train import train
from fer_jax.training.compile_cache import enable_compile_cache


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="a config file; --config.KEY=VALUE overrides a value of it")
    parser.add_argument("--data", help="where the images come from")
    parser.add_argument("--workdir", type=Path, help="the folder for checkpoints, metrics and curves")
    parser.add_argument("--summary", action="store_true", help="print the layers of the network and stop")
    args, overrides = parser.parse_known_args()
    config = load_config([f"--config={args.config}", *overrides])
    if args.summary:
        backbones = [BACKBONES[name] for name in config.model.backbones]
        print(layer_table(model_spec(config, backbones, NUM_EXPRESSIONS)))
        return
    if args.data is None or args.workdir is None:
        parser.error("--data and --workdir are needed")
    folder = FolderOptions(
        image_size=config.data.image_size,
        input_size=config.model.input_size,
        classes=config.data.classes,
        input=config.data.input,
    )
    fraction = config.data.validation_fraction
    data = load(args.data, validation_fraction=fraction, seed=config.seed, folder=folder)
    enable_compile_cache()
    try:
        train(config, data, args.workdir)
    except KeyboardInterrupt:
        sys.exit(f"interrupted; the same command goes on after the last whole epoch in {args.workdir}")
    print(f"metrics, checkpoints and TensorBoard files: {args.workdir}")
    split = "test" if len(data.test) else "validation"
    print(
        f"evaluate: python scripts/evaluate.py --checkpoint={args.workdir} --data={args.data} --split={split} --out=DIR"
    )


if __name__ == "__main__":
    main()
