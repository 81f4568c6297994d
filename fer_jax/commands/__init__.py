"""The commands: each a module with a `main` that parses `sys.argv` and calls the package. `scripts/` calls them too."""

import shlex
import sys
from pathlib import Path

COMMANDS = {
    "train": ("fer_jax.commands.train:main", "train a network, or resume its run"),
    "evaluate": ("fer_jax.commands.evaluate:main", "score a trained network on a data set and write the report"),
    "predict": ("fer_jax.commands.predict:main", "name the expression of every face in pictures and videos"),
    "demo": ("fer_jax.commands.demo:main", "open a page on this machine that judges pictures and the webcam"),
    "publish": ("fer_jax.commands.publish:main", "make a model that comes with the package out of a run"),
    "export": ("fer_jax.commands.export:main", "write a trained network to one ONNX or StableHLO file, and prove it"),
    "convert": ("fer_jax.commands.convert_weights:main", "convert published or own weights to start from"),
    "prepare": ("fer_jax.commands.prepare_data:main", "check a data set, draw a preview, write it as a TFDS dataset"),
    "audit": (
        "fer_jax.commands.audit:main",
        "find images of one photograph within and across the splits of a data set",
    ),
    "compare": ("fer_jax.commands.compare:main", "compare two models on the same images, by McNemar's test"),
    "compare-runs": ("fer_jax.commands.compare_runs:main", "draw the validation curves of runs side by side"),
    "sweep": ("fer_jax.commands.sweep:main", "train a config with many changes and seeds, and compare them in a table"),
    "reproduce": ("fer_jax.commands.reproduce_paper:main", "run the experiments of the paper's Table 3"),
    "benchmark": ("fer_jax.commands.benchmark:main", "measure the speed of a config on this machine"),
    "compile-check": ("fer_jax.commands.compile_check:main", "compile the training step for TPUs without one"),
    "scaling": ("fer_jax.commands.scaling:main", "estimate what more TPU chips gain"),
}
"""By the name that follows `fer-jax`: the function, as module:name, imported when it is called; what it does."""


def command_line(name: str) -> str:
    """Return how a user calls the command `name`, in the form in which this process was called."""
    program = Path(sys.argv[0])
    if program.suffix == ".py":
        return shlex.join(["python", str(program.with_name(f"{name}.py"))])
    return f"{sys.argv[0].rpartition(' ')[0]} {name}"
