"""Evaluate checkpoints: %(prog)s --checkpoint DIR [DIR ...] --data=SOURCE --split=test --out=DIR

The model is rebuilt from the checkpoint alone: DIR is a run's folder (its best epoch), or one epoch's folder under
checkpoints/. Writes report.html, report.md, report.json, predictions.csv and the pictures into --out; of several
checkpoints, each into a folder of its name there. On the official fer2013.csv the report also scores the test images
without a twin in training on their own.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.runtime.user_path import PlaceArgument, SourceArgument
from fer_jax.storage.bucket import AnyPath

if TYPE_CHECKING:
    from fer_jax.inference.model import TrainedModel


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        nargs="+",
        action=PlaceArgument,
        metavar="DIR",
        help="a run's folder, or zoo:NAME",
    )
    parser.add_argument(
        "--data", required=True, action=SourceArgument, help="where the images come from, as for train.py"
    )
    parser.add_argument("--split", choices=SPLITS, required=True)
    parser.add_argument("--out", required=True, action=PlaceArgument, help="the folder for the report")
    parser.add_argument("--no-faces", action="store_true", help="leave out the sample grid, to publish the report")
    parser.add_argument(
        "--votes",
        action=PlaceArgument,
        metavar="FILE",
        help="FER+'s fer2013new.csv: adds the score by its majority and the audit of FER2013's labels to the report",
    )
    parser.add_argument("--class-names", metavar="NAMES", help="as config.data.class_names of a training run")
    parser.add_argument("--skip-damaged", action="store_true", help="as config.data.skip_damaged of a training run")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="images at once, in place of config.eval.batch_size"
    )
    parser.add_argument(
        "--twins", metavar="FILE", help="a list by fer-jax audit, for the leak-free score; that of FER2013 is known"
    )
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="average over an image and its mirror image, in place of config.eval.flip",
    )
    args = parser.parse_args()
    if args.batch_size is not None and args.batch_size < 1:
        raise InputError(f"--batch-size={args.batch_size}: expected a number of images of at least 1")
    if args.out.exists() and not args.out.is_dir():
        raise InputError(f"{args.out}: is a file; expected the folder for the report")
    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.inference.model import TrainedModel
    from fer_jax.runtime.compile_cache import enable_compile_cache
    from fer_jax.runtime.jax_environment import prepare_jax
    from fer_jax.runtime.malloc import keep_freed_memory

    keep_freed_memory()
    prepare_jax()
    enable_compile_cache()
    # All of them before the first evaluation, so that a wrong one costs no time.
    models = [TrainedModel(checkpoint) for checkpoint in args.checkpoint]
    for model in models:
        if args.batch_size is not None:
            model.config.eval.batch_size = args.batch_size
        if args.flip is not None:
            model.config.eval.flip = args.flip
    if len(models) == 1:
        _evaluate(models[0], args, args.out)
        return
    for name, model in zip(_names(args.checkpoint), models, strict=True):
        print(f"{name}:")
        _evaluate(model, args, args.out / name)


def _names(checkpoints: Sequence[AnyPath]) -> list[str]:
    """Return a folder's name for each of several reports: that of the run, or of its checkpoint; numbered if alike."""
    names: list[str] = []
    for checkpoint in checkpoints:
        parts = [part for part in str(checkpoint).removeprefix("zoo:").split("/") if part not in ("", ".", "..")]
        start = parts.index("checkpoints") - 1 if "checkpoints" in parts[1:] else -1
        name = "-".join(part for part in parts[start:] if part != "checkpoints")
        alike = sum(other == name or other.startswith(f"{name}--") for other in names)
        names.append(f"{name}--{alike + 1}" if alike else name)
    return names


def _evaluate(model: "TrainedModel", args: argparse.Namespace, out: AnyPath) -> None:
    """Write the report of one model into `out`, and print its accuracies."""
    from fer_jax.data.ferplus import read_votes
    from fer_jax.data.image_files import ImageFiles
    from fer_jax.data.twins import TwinIndex
    from fer_jax.evaluation.data_for_model import data_for
    from fer_jax.evaluation.fitted_temperature import temperature_for
    from fer_jax.evaluation.leak_free import leak_free_section
    from fer_jax.evaluation.metrics import Predictions
    from fer_jax.evaluation.report import write_report
    from fer_jax.evaluation.vote_scores import vote_scores_section

    data = data_for(model, args.data, args.split, names=args.class_names, skip_damaged=args.skip_damaged)
    split = data.split(args.split)
    if missing := [name for label, name in enumerate(model.class_names) if label not in split.labels]:
        print(f"without images, and not in the macro averages: {', '.join(missing)}")
    votes = read_votes(args.votes, data) if args.votes is not None else None
    # Files are not read for it unasked.
    audited = args.twins or not any(isinstance(data.split(name).images, ImageFiles) for name in SPLITS)
    twins = TwinIndex(data, args.twins) if audited and args.split != "train" else None
    predictions = Predictions(split.row_ids, split.labels, model.probabilities(split.images))
    sections = [] if twins is None else [leak_free_section(predictions, twins, args.split)]
    if votes is not None:
        sections.append(vote_scores_section(predictions, votes.counts[args.split], votes.source))
    more = [section for section in sections if section is not None]
    metrics, files = write_report(
        out,
        predictions=predictions,
        class_names=model.class_names,
        images=split.images,
        names=split.files,
        history=model.run_history(),
        provenance=model.provenance() | _provenance_of(data, args.split, model),
        include_faces=not args.no_faces,
        temperature=temperature_for(model, data, predictions.probabilities if args.split == "validation" else None),
        votes=(votes.counts[args.split], votes.source) if votes is not None else None,
        more=more,
    )
    low, high = metrics.accuracy_interval
    print(
        f"accuracy {100 * metrics.accuracy:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f}) and macro-F1 "
        f"{metrics.macro_f1:.4f} on {len(split):,} images of {data.describe_split(args.split)}"
    )
    for section in more:
        scores = (f"{accuracy} % of {n} {images}" for images, n, _, accuracy, _ in section.tables[0].rows)
        print(f"{section.title}: {', '.join(scores)}")
    print(f"report: {files[-1]}")


def _provenance_of(data: Dataset, split: str, model: "TrainedModel") -> dict[str, str | int]:
    return {
        "evaluated on": f"{data.describe_split(split)}, {len(data.split(split)):,} images",
        "averaged with the mirror image": "yes" if model.config.eval.flip else "no",
        "evaluation data": data.source,
        "evaluation data fingerprint": data.fingerprint(),
    }


if __name__ == "__main__":
    main()
