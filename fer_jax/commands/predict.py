"""Name the expression of every face in pictures and videos: %(prog)s INPUT ... [--model=zoo:NAME]

INPUT is a picture, a video, a folder with all below it, a glob, a file or folder in a bucket (gs://BUCKET/NAME), the
number of a camera, or - for a list of paths on standard input. One JSON line, or one line of csv, is written for each
face, and one that says why for each picture without any; probabilities are calibrated where the model has a
temperature.

Exit status: 0 done, 1 some inputs could not be read (their lines say why), 2 a mistake that the message names, 130
interrupted; what was found before is written.
"""

import argparse
import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import TextIO

from PIL import Image

from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.prediction.classifiers import load_classifier
from fer_jax.prediction.crops import CROP_SIDE, FACES
from fer_jax.prediction.results import ERROR, FACE, FORMATS, NO_FACE, RowWriter, Summary
from fer_jax.prediction.sources import check_apart, check_arguments, find_sources
from fer_jax.runtime.user_path import PlaceArgument
from fer_jax.storage.bucket import AnyPath, BucketPath
from fer_jax.storage.files import replace_file
from fer_jax.streams import OutputLost, output_is_result
from fer_jax.zoo.shipped import default_name

_BATCH = 32  # As fast for each face as any larger batch, and quick to give the first result.
_THREADS = 8  # More do not decode faster than a network judges.
_EVERY = 0.5  # Seconds between two looks at the speed on a terminal.


@exit_on_input_error
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="what to predict")
    parser.add_argument(
        "--model",
        action=PlaceArgument,
        help="a run's folder, zoo:NAME, a .safetensors file, or an exported .onnx or .stablehlo file; default: the "
        "smallest that fer_jax comes with",
    )
    parser.add_argument(
        "--faces",
        choices=FACES,
        default="auto",
        help="whole: each picture is a face; detect: find the faces; auto (the default): detect, but take square "
        f"pictures of at most {CROP_SIDE} pixels whole",
    )
    parser.add_argument("--min-score", type=float, default=0.5, help="the least score of a detected face (0.5)")
    parser.add_argument("--threshold", type=float, default=0.0, help="abstain below this probability (0: never)")
    parser.add_argument("--fps", type=float, default=2.0, help="frames a second of a video; 0: every one (2)")
    parser.add_argument(
        "--out", action=PlaceArgument, help="the file to write, .jsonl or .csv; default: standard output"
    )
    parser.add_argument("--format", choices=FORMATS, help="of the output; default: by the name of --out, or jsonl")
    parser.add_argument(
        "--draw", action=PlaceArgument, metavar="DIR", help="write the pictures and videos with what was found"
    )
    parser.add_argument("--batch-size", type=int, default=_BATCH, help=f"faces judged at once ({_BATCH})")
    args = parser.parse_args()
    # Larger pictures than Pillow warns of are refused, each by a line of its own.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    return predict(args, sys.stdin)


def predict(args: argparse.Namespace, listed: TextIO) -> int:
    """Predict what `args` name and return the exit status; `listed` has a path a line where they ask for it."""
    check_arguments(args.inputs)
    for name, value, most in (
        ("min-score", args.min_score, 1),
        ("threshold", args.threshold, 1),
        ("fps", args.fps, 1e4),
    ):
        if not 0 <= value <= most:
            raise InputError(f"--{name}={value:g}: expected a number from 0 to {most:g}")
    if args.batch_size < 1:
        raise InputError(f"--batch-size={args.batch_size}: expected a number of faces, at least 1")
    form = _form(args.out, args.format)
    for option, path, is_wrong in (("--out", args.out, "is_dir"), ("--draw", args.draw, "is_file")):
        if isinstance(path, BucketPath):
            path.exists()  # refuses a bucket that there is not
        if path is not None and getattr(path, is_wrong)():
            raise InputError(f"{option}={path}: is a {'folder' if path.is_dir() else 'file'}; choose another name")
    if args.draw is not None:
        check_apart(args.inputs, args.draw)
    # Here, because what reads videos and finds faces is not always installed, nor ever needed for --help.
    from fer_jax.prediction.pipeline import Prediction

    detect = None
    threads = min(os.cpu_count() or 1, _THREADS)
    if args.faces != "whole":
        from fer_jax.detection.centerface import FaceDetector

        detect = FaceDetector(args.min_score, threads=1)
    classifier = load_classifier(str(args.model or default_name()), args.batch_size)
    prediction = Prediction(
        find_sources(args.inputs, listed, leave_out=args.draw),
        classifier,
        faces=args.faces,
        detect=detect,
        batch_size=args.batch_size,
        rate=args.fps,
        threads=threads,
        keep_pictures=args.draw is not None,
    )
    summary, status = Summary(), 0
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_stream(args.out))
        with _naming(args.out):
            writer = RowWriter(stream, form, classifier.class_names, args.threshold)
        add_drawing = _drawings(args, classifier, stack)
        # Its threads end before the process does.
        results = stack.enter_context(contextlib.closing(iter(prediction)))
        shown = started
        try:
            for found in results:
                with _naming(args.out):
                    for row in found.rows:
                        writer.write(row)
                for row in found.rows:
                    _count(summary, row, args.threshold)
                summary.pictures += found.rows[0].status != ERROR
                add_drawing(found)
                summary.seconds = time.monotonic() - started
                if args.out is None:
                    writer.flush()
                if sys.stderr.isatty() and time.monotonic() - shown > _EVERY:
                    shown = time.monotonic()
                    print(f"\r{summary}", end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            status = 130
        except OutputLost as loss:
            if loss.by_reader:
                return 0
            raise InputError(f"{loss}; the results end there, write them to a file by --out") from loss
    summary.seconds = time.monotonic() - started
    print(f"{chr(13) if sys.stderr.isatty() else ''}{summary}", file=sys.stderr)
    return status or (1 if summary.errors else 0)


def _count(summary: Summary, row, threshold: float) -> None:
    summary.faces += row.status == FACE
    summary.without += row.status == NO_FACE
    summary.errors += row.status == ERROR
    summary.abstained += row.status == FACE and float(row.probabilities.max()) < threshold


def _form(out: AnyPath | None, form: str | None) -> str:
    if form is not None or out is None:
        return form or "jsonl"
    suffix = out.suffix.removeprefix(".").lower()
    if suffix not in (*FORMATS, "json"):
        raise InputError(f"--out={out}: expected a name that ends in .jsonl or .csv, or --format")
    return "csv" if suffix == "csv" else "jsonl"


@contextlib.contextmanager
def _stream(out: AnyPath | None) -> Iterator[TextIO]:
    """Standard output, or the file `out`, which appears when all is written."""
    if out is None:
        with output_is_result():
            yield sys.stdout
        return
    stack = contextlib.ExitStack()
    try:
        with _naming(out):
            beside = stack.enter_context(replace_file(out))
            stream = stack.enter_context(beside.open("w", encoding="utf-8", newline=""))
        yield stream
    except BaseException:
        # What is still in the buffer is thrown away with the file.
        with contextlib.suppress(OSError):
            stack.__exit__(*sys.exc_info())
        raise
    with _naming(out):
        stack.close()


@contextlib.contextmanager
def _naming(out: AnyPath | None) -> Iterator[None]:
    """Let an `OSError` of the block, which does nothing but write, be the `InputError` of the file `out`."""
    try:
        yield
    except OSError as error:
        if out is None:
            raise
        raise InputError(f"--out={out}: cannot be written: {error.strerror or error}") from error


def _drawings(args: argparse.Namespace, classifier, stack: contextlib.ExitStack):
    if args.draw is None:
        return lambda found: None
    from fer_jax.prediction.drawing import Drawings

    return stack.enter_context(Drawings(args.draw, classifier.class_names, args.threshold, args.fps)).add


if __name__ == "__main__":
    sys.exit(main())
