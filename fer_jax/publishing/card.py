"""The card of a model: Markdown with the front matter of model hubs, filled from a report and from the model itself."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_jax.config.defaults import default_config, flatten
from fer_jax.evaluation.section import Table, percent
from fer_jax.inference.model import TrainedModel
from fer_jax.params.tree import leaves_by_path
from fer_jax.publishing.storage_choice import Trial

_DATA = {
    "fer2013": (
        "FER2013 (Goodfellow et al. 2013, *Challenges in Representation Learning*): 35,887 gray faces of 48 x 48 "
        "pixels, found by searching the web for words of emotion, labelled by people. It was published for a contest "
        "without a licence of its own; the photographs belong to whoever took them, so that none is part of this "
        "model or its files. Human accuracy on it is 65 +- 5 %."
    ),
    "other": "Images of the user's own; see the provenance below.",
}


def model_card(
    name: str,
    model: TrainedModel,
    report: Mapping[str, Mapping],
    *,
    path: Path,
    trials: Sequence[Trial],
    speed: str,
    command: str,
) -> str:
    """Return the card of the model at `path`, which the package ships as `zoo:NAME`.

    `report` is the content of the report.json of its evaluation, `trials` how its storage was chosen, `speed` a
    sentence, `command` what made the file.
    """
    description = model.record.description
    metrics, provenance = report["metrics"], report["provenance"]
    low, high = metrics["accuracy_wilson_95"]
    is_fer = description.data.images == {"train": 28709, "validation": 3589, "test": 3589}
    size = model.config.model.input_size
    networks = " + ".join(backbone.name for backbone in description.backbones)
    num_parameters = sum(leaf.size for leaf in leaves_by_path(model.weights()[0]).values())
    channels = "gray" if len(model.image_shape) == 2 else "RGB"
    accuracy = f"{percent(metrics['accuracy'])} % ({percent(low)} to {percent(high)})"
    lines = [
        *_front_matter(name, metrics, provenance, "FER2013" if is_fer else description.data.source),
        f"# {name}",
        "",
        f"{networks} at {size} x {size} pixels, trained for facial expressions: {accuracy} on "
        f"{provenance['evaluated on']}; Wilson's 95 % interval. Made by [fer_jax](../../../README.md) "
        f"{description.fer_jax}.",
        "",
        "## Use",
        "",
        "```bash",
        f"fer-jax predict photos/ --model=zoo:{name}",
        "```",
        "",
        "```python",
        "import fer_jax",
        "",
        f'model = fer_jax.load("zoo:{name}")',
        'probabilities = model.predict(["face.jpg"])',
        "```",
        "",
        f"- Input: faces, {model.image_shape[0]} x {model.image_shape[1]} {channels} pixels, uint8, cut out as a "
        "square about as large as the face; the network resizes and normalises them itself.",
        f"- Output: probabilities of {', '.join(f'{i} {label}' for i, label in enumerate(model.class_names))}, "
        "in this order.",
        f"- Size: {path.stat().st_size / 1e6:.2f} MB, {num_parameters:,} parameters; {trials[-1].storage}, "
        "float32 once loaded.",
        f"- Speed: {speed}",
        "",
        "## How good it is",
        "",
        f"Epoch selected: {provenance['epoch selected']}. The {provenance['evaluated on']} selected nothing, and were "
        "scored with that epoch alone.",
        "",
        f"- accuracy {accuracy}, {metrics['correct']:,} of {metrics['examples']:,} right",
        f"- macro-F1 {metrics['macro_f1']:.4f}, log loss {metrics['log_loss']:.4f}",
        *_leak_free(report.get("leak_free")),
        *_by_votes(report.get("scores_by_votes")),
        *_calibration(report.get("calibration")),
        "",
        *_per_class(metrics),
        "",
        f"`scripts/evaluate.py --checkpoint=zoo:{name} --data=fer2013.csv --split=test --out=DIR` gives the same "
        "numbers, to the last image.",
        "",
        "## How it was made",
        "",
        _DATA["fer2013" if is_fer else "other"],
        "",
        *Table(["", ""], [[key, str(value)] for key, value in provenance.items()], numbers=False).markdown(),
        "",
        "```bash",
        training_command(model),
        command,
        "```",
        "",
        "The storage was chosen on the validation split, the smallest that changes its accuracy by at most 0.1 point:",
        "",
        *_trials(trials).markdown(),
        "",
        "## What it is for, and what not",
        "",
        "- For research, teaching, and as a start for models of your own. It names the expression that people would "
        "see in a face of the kind that FER2013 holds, which is not what a person feels.",
        "- Not for decisions about people: at work, in schools, courts or medicine, at borders. Laws restrict it; the "
        "European Union's AI Act (Regulation 2024/1689, article 5) forbids it at work and in schools.",
        "- FER2013 does not say who its people are; how well the model does by age, sex or skin was not measured. "
        "Its labels are noisy: 16 % of PrivateTest's got none of the ten votes of FER+.",
        "- A probability is calibrated on FER2013 alone. Use `--threshold` to let the model abstain.",
        "",
        "Apache-2.0, as the code.",
        "",
    ]
    return "\n".join(lines)


def training_command(model: TrainedModel) -> str:
    """Return the command that trains such a model, with every value of its config that is not a default."""
    default, config = flatten(default_config()), flatten(model.config)
    changed = [(key, config[key]) for key in default if config[key] != default[key]]
    lines = ["python scripts/train.py --config=configs/efficientnet_b0.py --data=fer2013.csv --workdir=runs/model"]
    texts = {key: f'"{value}"' if isinstance(value, tuple) else shlex.quote(str(value)) for key, value in changed}
    lines += [f"--config.{key}={text}" for key, text in texts.items()]
    return " \\\n  ".join(lines)


def _front_matter(name: str, metrics: Mapping, provenance: Mapping, data: str) -> list[str]:
    """The YAML that model hubs read; JSON's strings are YAML's."""
    return [
        "---",
        "license: apache-2.0",
        "library_name: fer_jax",
        "pipeline_tag: image-classification",
        "tags: [facial-expression-recognition, emotion, fer2013, jax, flax, safetensors]",
        "metrics: [accuracy, f1]",
        "model-index:",
        f"- name: {json.dumps(name)}",
        "  results:",
        "  - task: {type: image-classification, name: Facial expression recognition}",
        f"    dataset: {{type: fer2013, name: {json.dumps(data)}, split: {json.dumps(provenance['evaluated on'])}}}",
        "    metrics:",
        f"    - {{type: accuracy, value: {metrics['accuracy']:.6f}}}",
        f"    - {{type: f1, name: macro-F1, value: {metrics['macro_f1']:.6f}}}",
        "---",
        "",
    ]


def _calibration(found: Mapping | None) -> list[str]:
    if found is None:
        return []
    lines = [
        f"- as the network gives them: ECE {percent(found['before']['ece'])} % in 15 bins, Brier score "
        f"{found['before']['brier']:.4f}"
    ]
    if found["after"] is not None:
        temperature = found["temperature"]
        lines.append(
            f"- after the stored temperature {temperature['value']:.3f} (fitted on {temperature['fitted_on']}), as "
            f"`predict` gives them: ECE {percent(found['after']['ece'])} %, Brier score {found['after']['brier']:.4f}, "
            f"log loss {found['after']['log_loss']:.4f}"
        )
    return lines


def _leak_free(found: Mapping | None) -> list[str]:
    if found is None:
        return []
    rest, twins = found["rest"], found["exact"]["n"] + found["near"]["n"]
    return [
        f"- leak-free {_with_interval(rest)}, {rest['correct']:,} of {rest['n']:,} right: without the {twins:,} images "
        "that are one photograph with a training image (`docs/twins.md`); with an exact twin there "
        f"{_with_interval(found['exact'])} of {found['exact']['n']:,}, with a near one "
        f"{_with_interval(found['near'])} of {found['near']['n']:,}"
    ]


def _by_votes(found: Mapping | None) -> list[str]:
    if found is None:
        return []
    eight, seven = found["ferplus_majority_8"], found["ferplus_majority_7"]
    return [
        f"- by the majority of FER+'s votes in place of FER2013's labels: {_with_interval(eight)} of {eight['n']:,} "
        f"images with one of 8 classes, {_with_interval(seven)} of {seven['n']:,} with one of 7"
    ]


def _with_interval(score: Mapping) -> str:
    if not score["n"]:
        return "–"
    low, high = score["wilson_95"]
    return f"{percent(score['accuracy'])} % ({percent(low)} to {percent(high)})"


def _per_class(metrics: Mapping) -> list[str]:
    rows = [
        [
            name,
            *(f"{found[key]:.3f}" for key in ("precision", "recall", "f1")),
            str(found["support"]),
            found["most_confused_with"] or "–",
        ]
        for name, found in metrics["per_class"].items()
    ]
    return Table(["", "Precision", "Recall", "F1", "Images", "Most often mistaken for"], rows).markdown()


def _trials(trials: Sequence[Trial]) -> Table:
    rows = [
        [
            str(trial.storage),
            f"{trial.num_bytes / 1e6:.2f}",
            percent(trial.accuracy),
            str(trial.changed),
            f"{trial.largest:.4f}",
        ]
        for trial in trials
    ]
    header = ["Storage", "MB", "Validation accuracy %", "Changed predictions", "Largest change of a probability"]
    return Table(header, rows)
