"""Make a shipped model of a run: its file in the smallest storage that serves, the report of it, and its card."""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fer_jax.data.dataset import Dataset
from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.publishing.card import model_card
from fer_jax.publishing.storage_choice import write_smallest
from fer_jax.storage import files
from fer_jax.zoo.model_file import read_model_file

_TIMED = 512  # Images whose prediction is timed.


Evaluate = Callable[[Path, Path], None]
"""What writes the report of the model's file, its first argument, on the test split into a folder, the second."""


def publish(
    model: TrainedModel,
    name: str,
    data: Dataset,
    *,
    evaluate: Evaluate,
    folder: Path,
    report: Path | None,
    command: str,
) -> list[Path]:
    """Write `NAME.safetensors` and the card `NAME.md` of `model` into `folder`; return both.

    The storage is chosen, and the temperature fitted, on the validation split of `data`. `evaluate` then scores the
    test split once, with the file that was written; its report fills the card and stays in the folder `report` if one
    is given. `command` is what the card says about how it was made. An earlier model of that name stays until all has
    succeeded.

    Raises `InputError` for a name that cannot be one, or data without these splits.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise InputError(f"{name}: expected a name of small letters, digits and underscores")
    if data.class_names != model.class_names:
        raise InputError(f"{data.source}: has the classes {', '.join(data.class_names)}, the model has other ones")
    for split in ("validation", "test"):
        if not len(data.split(split)):
            raise InputError(
                f"{data.source}: no image of the {split} split; expected data with a validation and a test split"
            )
    provenance = model.provenance()
    checkpoint, comma, rest = str(provenance["checkpoint"]).rpartition(", epoch")
    provenance["checkpoint"] = Path(checkpoint).name + comma + rest
    with tempfile.TemporaryDirectory() as scratch:
        # Under its final name, which the report tells.
        path = Path(scratch, f"{name}.safetensors")
        fitted_on = f"{data.describe_split('validation')} of {data.source}"
        trials = write_smallest(model, path, data.validation, fitted_on=fitted_on, provenance=provenance)
        report = report or Path(scratch, "report")
        evaluate(path, report)
        content = json.loads((report / "report.json").read_text())
        content["provenance"]["checkpoint"] = content["provenance"]["checkpoint"].replace(str(path), path.name)
        written = model.with_weights_of(read_model_file(path))
        speed = _speed(written, data)
        card = model_card(name, written, content, path=path, trials=trials, speed=speed, command=command)
        with files.replace_file(folder / path.name) as beside:
            beside.write_bytes(path.read_bytes())
    files.write_text(folder / f"{name}.md", card)
    return [folder / f"{name}.safetensors", folder / f"{name}.md"]


def evaluate_by_command(source: str, votes: Path | None = None) -> Evaluate:
    """Return what calls `fer-jax evaluate` on the data `source`, so that anybody who calls it gets the same numbers.

    With the file `votes` of FER+, the report also has the scores by its majority.
    """

    def evaluate(path: Path, report: Path) -> None:
        place = Path(source).resolve() if Path(source).exists() else source
        options = [f"--checkpoint={path.name}", f"--data={place}", "--split=test", f"--out={report.resolve()}"]
        if votes is not None:
            options.append(f"--votes={votes.resolve()}")
        command = [sys.executable, "-m", "fer_jax", "evaluate", *options, "--no-faces"]
        # In the folder of the file, so that the report names it without any.
        if status := subprocess.run(command, cwd=path.parent, check=False).returncode:
            raise InputError(f"the evaluation of the model ended with status {status}, see above; nothing is published")

    return evaluate


def _speed(model: TrainedModel, data: Dataset) -> str:
    """Say how fast `model` predicts on this machine, once it is compiled."""
    images = np.stack([data.test.images[i] for i in range(min(_TIMED, len(data.test)))])
    model.probabilities(images)
    started = time.perf_counter()
    model.probabilities(images)
    rate = len(images) / (time.perf_counter() - started)
    seen = ", each with its mirror image," if model.config.eval.flip else ""
    return (
        f"{rate:.0f} images/s{seen} when this card was written, in batches of {model.config.eval.batch_size} on "
        f"{os.cpu_count()} cores ({_processor()})."
    )


def _processor() -> str:
    """The name of the processor where Linux tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
