"""Find twins in a data set: %(prog)s DATA --out=DIR

DATA is what training takes as --data. All images are compared with each other, also mirrored: which are one photograph,
alike to the pixel or in another crop, brightness or coding, within a split and across them; which of these have
different labels; and which images are empty. Writes into DIR

  twins.csv     the pairs: row ids, splits, labels, kind, similarity. A training leaves out what is twin to validation
                or test by --config.data.drop_twins=near --config.data.twins=DIR/twins.csv, and the report of
                evaluate --twins=DIR/twins.csv scores the images without a twin in train on their own
  audit.json    the counts
  audit.html    the pairs, side by side. It shows images of the data: keep it where these are

FER2013 takes two minutes on two free cores; the time grows with the square of the number of images.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from fer_jax.audit.audit import Audit, audit
from fer_jax.audit.page import page
from fer_jax.audit.search import THRESHOLD, Progress
from fer_jax.data.classes import CLASSES
from fer_jax.data.dataset import SPLITS
from fer_jax.data.options import FolderOptions
from fer_jax.data.sources import load
from fer_jax.data.twins import KINDS
from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.runtime.user_path import PathArgument, SourceArgument
from fer_jax.storage import files

_FILES = ("twins.csv", "audit.json", "audit.html")


@exit_on_input_error
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "data", metavar="DATA", action=SourceArgument, help="where the images come from, as for a training"
    )
    parser.add_argument("--out", metavar="DIR", action=PathArgument, required=True, help="the folder to write to")
    parser.add_argument(
        "--threshold",
        type=float,
        default=THRESHOLD,
        metavar="X",
        help=f"the least similarity of one photograph, above 0 and at most 1 (default: {THRESHOLD})",
    )
    parser.add_argument("--validation-fraction", type=float, metavar="X", help="as config.data.validation_fraction")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of these images (default: 0)")
    parser.add_argument("--classes", choices=CLASSES, default="auto", help="as config.data.classes of a training run")
    parser.add_argument("--class-names", metavar="NAMES", help="as config.data.class_names of a training run")
    parser.add_argument("--skip-damaged", action="store_true", help="as config.data.skip_damaged of a training run")
    parser.add_argument("--image-size", type=int, metavar="N", help="as config.data.image_size of a training run")
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")

    if not 0 < args.threshold <= 1:
        raise InputError(f"--threshold={args.threshold}: expected a similarity above 0 and at most 1")
    _check_out(args.out)
    folder = FolderOptions(
        classes=args.classes, names=args.class_names, skip_damaged=args.skip_damaged, image_size=args.image_size
    )
    data = load(args.data, validation_fraction=args.validation_fraction, seed=args.seed, folder=folder)
    try:
        files.try_writing(args.out)
    except OSError as error:
        raise InputError(f"--out {args.out}: cannot be written: {error.strerror or error}") from error
    start = time.monotonic()
    with _progress() as progress:
        found = audit(data, args.threshold, progress)
    seconds = time.monotonic() - start
    texts = (found.twins_csv(), json.dumps(found.summary(), indent=1) + "\n", page(found, data))
    try:
        for name, text in zip(_FILES, texts, strict=True):
            files.write_text(args.out / name, text)
    except OSError as error:
        raise InputError(f"--out {args.out}: cannot be written: {error.strerror or error}") from error
    print(_summary(found))
    print(f"compared in {seconds:.0f} s; pairs: {args.out / 'twins.csv'}, page: {args.out / 'audit.html'}")


def _check_out(out: Path) -> None:
    """Refuse, before any long work, a folder in which something would be lost."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: a file, expected a folder or a new name")
    for name in _FILES:
        if (out / name).exists():
            raise InputError(f"--out {out}: {out / name} exists already; remove it, or choose another folder")


@contextmanager
def _progress() -> Iterator[Progress]:
    """Yield what shows progress on stderr: a bar on a terminal, elsewhere a line at each quarter of a stage."""
    console = Console(file=sys.stderr)
    if sys.stderr.isatty() and not console.is_dumb_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
        with Bar(*columns, console=console) as bar:
            task = bar.add_task("", total=1.0)
            yield lambda what, part: bar.update(task, description=what, completed=part)
        return
    told: dict[str, int] = {}

    def tell(what: str, part: float) -> None:
        quarter = int(4 * part)
        if quarter > told.get(what, -1):
            told[what] = quarter
            print(f"{what}: {25 * quarter} %", file=sys.stderr, flush=True)

    yield tell


def _summary(found: Audit) -> str:
    summary = found.summary()
    counts = ", ".join(f"{n:,} {name}" for name, n in summary["images"].items())
    lines = [f"{found.source}: {counts} images"]
    for kind in KINDS:
        of_kind = summary["pairs"][kind]
        lines.append(
            f"{kind} twins: {of_kind['pairs']:,} pairs, {of_kind['across_splits']:,} across splits, "
            f"{of_kind['conflicting_labels']:,} with different labels"
        )
    for name in SPLITS[1:]:
        if name in summary["images"]:
            twins, n = summary["images_with_a_twin"][f"{name} in train"], summary["images"][name]
            parts = ", ".join(f"{twins[kind]:,} {kind}" for kind in KINDS)
            lines.append(
                f"{name} images with a twin in train: {sum(twins.values()):,} of {n:,} "
                f"({100 * sum(twins.values()) / n:.1f} %): {parts}"
            )
    lines.append(f"constant images: {int(found.constant.sum()):,}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
