"""Compare two models on the same images: %(prog)s A B [--data=SOURCE --split=test] [--out=DIR]

A and B are each a run's folder, one of its checkpoints, or the predictions.csv of a report (or the report's folder);
a checkpoint needs --data and --split. Prints accuracies, McNemar's exact test, the bootstrap interval of the
difference, and which classes changed; --out=DIR keeps them as comparison.md and comparison.json. Another command,
compare-runs (scripts/compare_runs.py), draws the validation curves of runs side by side.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.runtime.user_path import PlaceArgument, input_path, user_place
from fer_jax.storage import files

if TYPE_CHECKING:
    from fer_jax.evaluation.metrics import Predictions


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    # Two arguments, because argparse cannot print the help of one that has two names.
    parser.add_argument("first", metavar="A", help="a run's folder, or a report's predictions.csv")
    parser.add_argument("second", metavar="B", help="the same of the other model")
    parser.add_argument("--data", help="where the images come from, as for training")
    parser.add_argument("--split", choices=("validation", "test"))
    parser.add_argument("--out", action=PlaceArgument, help="the folder for comparison.md and comparison.json")
    args = parser.parse_args()

    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise InputError(f"{args.out}: is a file; expected the folder for the comparison")
    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.evaluation.model_comparison import aligned, compare, comparison_markdown
    from fer_jax.evaluation.predictions_file import read_predictions
    from fer_jax.runtime.compile_cache import enable_compile_cache
    from fer_jax.runtime.jax_environment import prepare_jax
    from fer_jax.runtime.malloc import keep_freed_memory

    models = (args.first, args.second)
    tables = [_predictions_file(model) for model in models]
    for model, table in zip(models, tables, strict=True):
        if table is None and (args.data is None or args.split is None):
            raise InputError(f"{model}: is not a predictions.csv; a checkpoint needs --data=SOURCE and --split=SPLIT")
    if all(tables) and (args.data or args.split):
        raise InputError("--data and --split have no effect on two predictions.csv; leave them out")
    keep_freed_memory()
    prepare_jax()
    enable_compile_cache()
    # The files first: they tell in a moment whether they can be used.
    read = [None if table is None else read_predictions(table) for table in tables]
    abouts, found = [], []
    for model, table, from_file in zip(models, tables, read, strict=True):
        about, predictions = (str(table), from_file) if from_file else _evaluate(model, args.data, args.split)
        abouts.append(about)
        found.append(predictions)
    first, second = aligned(*found[0], *found[1], models)
    comparison = compare(first, second, found[0][1])
    text = comparison_markdown(comparison, models, [f"first: {abouts[0]}", f"second: {abouts[1]}"])
    print(text, end="")
    if args.out is not None:
        content = {"first": abouts[0], "second": abouts[1], **comparison.to_json()}
        files.write_text(args.out / "comparison.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        files.write_text(args.out / "comparison.md", text)


def _predictions_file(model: str) -> Path | None:
    from fer_jax.evaluation.predictions_file import FILE_NAME

    path = user_place(model, f"{model}:")
    if path.is_dir() and (path / FILE_NAME).is_file():
        path /= FILE_NAME
    return input_path(path, f"{model}:") if path.suffix.lower() == ".csv" else None


def _evaluate(path: str, source: str, split: str) -> tuple[str, tuple["Predictions", tuple[str, ...]]]:
    from fer_jax.evaluation.data_for_model import data_for
    from fer_jax.evaluation.metrics import Predictions
    from fer_jax.inference.model import TrainedModel

    model = TrainedModel(path)
    data = data_for(model, source, split)
    chosen = data.split(split)
    predictions = Predictions(chosen.row_ids, chosen.labels, model.probabilities(chosen.images))
    about = f"{model.provenance()['checkpoint']}, on {data.describe_split(split)} of {data.source}"
    return about, (predictions, model.class_names)


if __name__ == "__main__":
    main()
