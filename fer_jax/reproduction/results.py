"""The numbers of the table: both protocols of choosing an epoch, means over seeds, and McNemar's test."""

import csv
import dataclasses
import json
from collections.abc import Sequence

from fer_jax.errors import InputError
from fer_jax.evaluation.metrics import wilson_interval
from fer_jax.evaluation.model_comparison import exact_mcnemar
from fer_jax.reproduction.plan import Experiment
from fer_jax.storage.bucket import AnyPath
from fer_jax.sweeps.table import best_epoch, over_seeds, read_history


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one experiment with one seed ended: the folders of its run and its report, or why it failed."""

    experiment: Experiment
    seed: int
    run: AnyPath
    report: AnyPath
    failure: str | None = None


def mcnemar(first: dict[int, bool], second: dict[int, bool]) -> dict:
    """Test two models on the same examples by McNemar's exact test, given by row id whether each is right.

    See `fer_jax.evaluation.model_comparison.exact_mcnemar`. `ValueError` for different examples.
    """
    if first.keys() != second.keys():
        raise ValueError("expected predictions of the same examples")
    only_first = sum(right and not second[row] for row, right in first.items())
    only_second = sum(right and not first[row] for row, right in second.items())
    p_value = exact_mcnemar(only_first, only_second)
    return {"only_first_right": only_first, "only_second_right": only_second, "p_value": p_value}


def read_correct(report: AnyPath) -> dict[int, bool]:
    """Read from `report/predictions.csv`, by row id, whether the prediction is right."""
    lines = (report / "predictions.csv").read_text(encoding="utf-8").splitlines()
    return {int(line["row_id"]): line["correct"] == "1" for line in csv.DictReader(lines)}


def read_outcome(outcome: Outcome) -> dict:
    """Return the entry of one run in the table, as JSON: accuracies as fractions, seconds over all epochs."""
    if outcome.failure:
        return {"seed": outcome.seed, "failed": outcome.failure}
    content = json.loads((outcome.report / "report.json").read_text(encoding="utf-8"))
    metrics = content["metrics"]
    history = read_history(outcome.run)
    selected = best_epoch(history)
    on_test = best_epoch(history, "paper_protocol_test_accuracy")
    seconds = sum(entry["seconds"] for entry in history)
    images = sum(entry["images_per_second"] for entry in history) / len(history)
    correct = round(on_test["paper_protocol_test_accuracy"] * metrics["examples"])
    return {
        "seed": outcome.seed,
        "accuracy": metrics["accuracy"],
        "accuracy_wilson_95": metrics["accuracy_wilson_95"],
        "epoch": selected["epoch"],
        "validation_accuracy": selected["validation_accuracy"],
        "paper_protocol": {
            "accuracy": on_test["paper_protocol_test_accuracy"],
            "accuracy_wilson_95": list(wilson_interval(correct, metrics["examples"])),
            "epoch": on_test["epoch"],
        },
        "history": history,
        "images_per_second": images,
        "seconds": seconds,
        "most_confused": {
            name: {
                "with": row["most_confused_with"],
                "count": row["most_confused_count"],
                "share": row["most_confused_count"] / row["support"] if row["support"] else 0.0,
            }
            for name, row in metrics["per_class"].items()
        },
        "recall": {name: row["recall"] for name, row in metrics["per_class"].items()},
        "provenance": content["provenance"],
    }


def table_of(outcomes: Sequence[Outcome], about: dict) -> dict:
    """Return the whole table as JSON: `about` it, and a row for each experiment with its runs and their mean.

    Hybrids are compared with the better of the single networks that they are made of, better by accuracy on the
    validation split, with the same seed. `InputError` if the runs are not of the same data.
    """
    experiments = list({outcome.experiment.name: outcome.experiment for outcome in outcomes}.values())
    found = {(o.experiment.name, o.seed): read_outcome(o) for o in outcomes}
    reports = {(o.experiment.name, o.seed): o.report for o in outcomes}
    done = [run for run in found.values() if "failed" not in run]
    if len({run["provenance"]["training data fingerprint"] for run in done}) > 1:
        raise InputError(
            "the runs were trained on different data (see the provenance in reports/*/report.json); give a new "
            "--workdir for other data"
        )
    singles = [e.name for e in experiments if e.kind == "single"]
    rows = []
    for experiment in experiments:
        runs = [run for (name, _), run in found.items() if name == experiment.name]
        if experiment.kind not in ("single", "scratch"):
            for run in runs:
                run["mcnemar"] = _against_single(experiment, run, singles, found, reports)
        rows.append(_row(experiment, runs))
    return {**about, "rows": rows}


def _against_single(experiment: Experiment, run: dict, singles: Sequence[str], found: dict, reports: dict):
    """Return McNemar's test of a run against the better single network of its seed; None if one of them failed."""
    seed = run["seed"]
    others = {name: found[name, seed] for name in singles}
    if "failed" in run or any("failed" in other for other in others.values()):
        return None
    better = max(others, key=lambda name: others[name]["validation_accuracy"])
    test = mcnemar(read_correct(reports[experiment.name, seed]), read_correct(reports[better, seed]))
    return {"against": better, **test}


def _row(experiment: Experiment, runs: list[dict]) -> dict:
    paper = experiment.paper
    whole = [run for run in runs if "failed" not in run]
    return {
        "name": experiment.name,
        "title": experiment.title,
        "kind": experiment.kind,
        "paper": {"accuracy": paper.accuracy / 100, "epoch": paper.epoch} if paper else None,
        "accuracy": over_seeds([run["accuracy"] for run in whole]),
        "paper_protocol": over_seeds([run["paper_protocol"]["accuracy"] for run in whole]),
        "runs": runs,
    }
