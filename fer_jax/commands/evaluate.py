"""Evaluate a checkpoint: %(prog)s --checkpoint=DIR --data=SOURCE --split=test --out=DIR

The model is rebuilt from the checkpoint alone: DIR is a run's folder (its best epoch), or one epoch's folder under
checkpoints/. Writes report.html, report.md, report.json, predictions.csv and the pictures into --out. On the
official fer2013.csv the report also scores the test images without a twin in training on their own.
"""

import argparse

from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.ferplus import read_votes
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.twins import TwinIndex
from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.evaluation.data_for_model import data_for
from fer_jax.evaluation.fitted_temperature import temperature_for
from fer_jax.evaluation.leak_free import leak_free_section
from fer_jax.evaluation.metrics import Predictions, classification_metrics
from fer_jax.evaluation.report import write_report
from fer_jax.evaluation.vote_scores import vote_scores_section
from fer_jax.inference.model import TrainedModel
from fer_jax.runtime.compile_cache import enable_compile_cache
from fer_jax.runtime.jax_environment import prepare_jax
from fer_jax.runtime.malloc import keep_freed_memory
from fer_jax.runtime.user_path import PathArgument, SourceArgument


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoint", required=True, action=PathArgument, help="a run's folder, or zoo:NAME")
    parser.add_argument(
        "--data", required=True, action=SourceArgument, help="where the images come from, as for train.py"
    )
    parser.add_argument("--split", choices=SPLITS, required=True)
    parser.add_argument("--out", required=True, action=PathArgument, help="the folder for the report")
    parser.add_argument("--no-faces", action="store_true", help="leave out the sample grid, to publish the report")
    parser.add_argument(
        "--votes",
        action=PathArgument,
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
    args = parser.parse_args()
    if args.batch_size is not None and args.batch_size < 1:
        raise InputError(f"--batch-size={args.batch_size}: expected a number of images of at least 1")

    if args.out.exists() and not args.out.is_dir():
        raise InputError(f"{args.out}: is a file; expected the folder for the report")
    keep_freed_memory()
    prepare_jax()
    enable_compile_cache()
    model = TrainedModel(args.checkpoint)
    if args.batch_size is not None:
        model.config.eval.batch_size = args.batch_size
    data = data_for(model, args.data, args.split, names=args.class_names, skip_damaged=args.skip_damaged)
    split = data.split(args.split)
    if missing := [name for label, name in enumerate(model.class_names) if label not in split.labels]:
        print(f"without images, and not in the macro averages: {', '.join(missing)}")
    votes = read_votes(args.votes, data) if args.votes is not None else None
    # Files are not read for it unasked.
    audited = args.twins or not any(isinstance(data.split(name).images, ImageFiles) for name in SPLITS)
    twins = TwinIndex(data, args.twins) if audited and args.split != "train" else None
    predictions = Predictions(split.row_ids, split.labels, model.probabilities(split.images))
    more = [] if twins is None else [leak_free_section(predictions, twins, args.split)]
    if votes is not None:
        more.append(vote_scores_section(predictions, votes.counts[args.split], votes.source))
    more = [section for section in more if section is not None]
    files = write_report(
        args.out,
        predictions=predictions,
        class_names=model.class_names,
        images=split.images,
        names=split.files,
        history=model.run_history(),
        provenance=model.provenance() | _provenance_of(data, args),
        include_faces=not args.no_faces,
        temperature=temperature_for(model, data, predictions.probabilities if args.split == "validation" else None),
        votes=(votes.counts[args.split], votes.source) if votes is not None else None,
        more=more,
    )
    metrics = classification_metrics(predictions.labels, predictions.probabilities, model.class_names)
    low, high = metrics.accuracy_interval
    print(
        f"accuracy {100 * metrics.accuracy:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f}) and macro-F1 "
        f"{metrics.macro_f1:.4f} on {len(split):,} images of {data.describe_split(args.split)}"
    )
    for section in more:
        scores = (f"{accuracy} % of {n} {images}" for images, n, _, accuracy, _ in section.tables[0].rows)
        print(f"{section.title}: {', '.join(scores)}")
    print(f"report: {files[-1]}")


def _provenance_of(data: Dataset, args: argparse.Namespace) -> dict[str, str | int]:
    return {
        "evaluated on": f"{data.describe_split(args.split)}, {len(data.split(args.split)):,} images",
        "evaluation data": data.source,
        "evaluation data fingerprint": data.fingerprint(),
    }


if __name__ == "__main__":
    main()
