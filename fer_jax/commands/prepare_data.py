"""Check a data set and write it as a TFDS dataset (ArrayRecord), with a preview and a summary.

    %(prog)s fer2013.csv --out data/

An image folder of other sizes, colours or classes than FER2013's is checked in the same way, with preview and
summary; use the folder itself as --data of a training.

SOURCE is a csv (fer2013.csv, icml_face_data.csv), an image folder (train|validation|test/<class>/<image>), `synthetic`,
or `synthetic:N`. Below the output folder it writes `fer2013/1.0.0/`, `preview.png` and `summary.json`; the folder
is then a --data of a training. Nothing that exists is overwritten.
"""

import argparse
import json
import logging
import os
import tempfile
from pathlib import Path

from fer_jax.data.classes import CLASSES
from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.runtime.user_path import PathArgument, SourceArgument, user_path
from fer_jax.storage.bucket import is_bucket


@exit_on_input_error
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", action=SourceArgument, help="what to read")
    parser.add_argument("--out", metavar="DIR", action=PathArgument, required=True, help="the folder to write to")
    parser.add_argument(
        "--validation-fraction",
        type=float,
        metavar="X",
        help="for an image folder without a validation split: the part of the training images to take for it",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of these images (default: 0)")
    parser.add_argument("--classes", choices=CLASSES, default="auto", help="as config.data.classes of a training run")
    parser.add_argument("--class-names", metavar="NAMES", help="as config.data.class_names of a training run")
    parser.add_argument("--skip-damaged", action="store_true", help="as config.data.skip_damaged of a training run")
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")

    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.data.inspection import summarise, summary_text
    from fer_jax.data.options import FolderOptions
    from fer_jax.data.preview import write_preview
    from fer_jax.data.sources import load
    from fer_jax.data.tfds_builder import dataset_place, write_tfds

    results = {"dataset": dataset_place(args.out), "preview": args.out / "preview.png"}
    results["summary"] = args.out / "summary.json"
    _check_out(args.out, args.source, list(results.values()))
    folder = FolderOptions(classes=args.classes, names=args.class_names, skip_damaged=args.skip_damaged)
    data = load(args.source, validation_fraction=args.validation_fraction, seed=args.seed, folder=folder)
    if not (data.has_form_of_fer2013() and len(data.test)):
        del results["dataset"]
    summary = summarise(data)
    print(summary_text(summary))
    summary |= {"validation_fraction": args.validation_fraction, "seed": args.seed}
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        # All three are written beside their final paths, so that a failure leaves none of them half-written.
        with tempfile.TemporaryDirectory(dir=args.out, prefix=".incomplete-") as name:
            beside = Path(name)
            write_preview(data, beside / "preview.png")
            (beside / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
            if "dataset" in results:
                write_tfds(data, beside)
                results["dataset"].parent.mkdir(exist_ok=True)
            for place in results.values():
                os.rename(beside / place.relative_to(args.out), place)
    except OSError as error:
        raise InputError(f"{args.out}: cannot be written: {error.strerror or error}") from error
    for kind, place in results.items():
        print(f"{kind}: {place}")
    if "dataset" not in results:
        why = "has no test split" if data.has_form_of_fer2013() else "is not in the form of FER2013"
        print(f"no dataset is written, since {args.source} {why}: give it to train.py as it is")


def _check_out(out: Path, source: str, places: list[Path]) -> None:
    """Refuses, before any long work, an output folder that would lose something."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: a file, expected a folder or a new name")
    for place in places:
        if place.exists():
            raise InputError(f"--out {out}: {place} exists already; remove it, or choose another folder")
    if is_bucket(source):
        return
    folder = user_path(source, f"{source}:")
    if folder.is_dir() and (out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents):
        raise InputError(f"--out {out}: lies in the source folder {source}, which it would change; choose another")


if __name__ == "__main__":
    main()
