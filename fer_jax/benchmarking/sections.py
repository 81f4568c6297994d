"""What `scripts/benchmark.py --what` can measure: each a function from the settings to a `Section`."""

import contextlib
import math
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax

from fer_jax.augment.affine import NO_AUGMENTATION
from fer_jax.benchmarking.depthwise import depthwise
from fer_jax.benchmarking.dispatch import dispatch
from fer_jax.benchmarking.exports import exports
from fer_jax.benchmarking.frozen import frozen
from fer_jax.benchmarking.rounds import Runner, interleave
from fer_jax.benchmarking.runners import TrainRunner, eval_runner, forward_runner, input_runners
from fer_jax.benchmarking.section import Section, Settings
from fer_jax.benchmarking.torch_baseline import torch_peer
from fer_jax.compile_check.cost import roofline
from fer_jax.data.fer2013 import PUBLISHED_COUNTS
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.inference.predictor import even_batch_size
from fer_jax.pretrained.initial import initial_backbones
from fer_jax.runs.checkpoint import Checkpoints
from fer_jax.runs.folder import describe
from fer_jax.runs.record import CheckpointRecord
from fer_jax.runtime.compile_cache import empty_compile_cache
from fer_jax.training.step import TrainMetrics

OURS = "fer_jax"

FER2013_VALIDATION_IMAGES = sum(PUBLISHED_COUNTS["validation"])
"""Images of PublicTest, which is evaluated after each epoch."""


def train(settings: Settings) -> Section:
    """Measure the training step and the peer's; its start, cold and cached; its cost against the device's limits."""
    config = settings.config
    with empty_compile_cache():
        cold = TrainRunner(config)
        first_step, compilation = cold.first_step_seconds, cold.compile_seconds
        del cold
        jax.clear_caches()
        runner = TrainRunner(config)
    images = config.train.batch_size
    with _beside_peer(settings, "train", images, {OURS: runner}) as runners:
        speeds = interleave(runners, rounds=settings.rounds, steps=settings.steps)
    seconds = images / speeds[OURS].median
    bounds = roofline(runner.cost, settings.peak, config.model.dtype)
    per_device = images / jax.device_count()
    figures = {
        "time to first step, cold (s)": first_step,
        "time to first step, compiled programs cached (s)": runner.first_step_seconds,
        "compilation of the step, cold (s)": compilation,
        "compilation of the step, cached (s)": runner.compile_seconds,
        "compute (GFLOP an image)": runner.cost.flops / per_device / 1e9,
        "memory traffic as XLA counts it (MB an image)": runner.cost.num_bytes / per_device / 1e6,
        "share of the device's peak compute (%)": 100 * bounds.compute_seconds / seconds,
        "share of the device's peak memory bandwidth, by XLA's count (%)": 100 * bounds.memory_seconds / seconds,
        "memory of the step: arguments, results, temporaries (MiB)": runner.cost.peak_bytes / 2**20,
        **_peak_memory(),
    }
    return Section("train", f"Training step, batch {images}", speeds, figures)


def evaluate(settings: Settings) -> Section:
    """Measure the evaluation of as many images as PublicTest has, and the forward pass alone on a prepared batch.

    The evaluation also fetches its batches, resizes them, fills up the last one and copies the logits to the host. A
    round is one evaluation, and as many batches of the forward pass (and of the peer).
    """
    config, images = settings.config, FER2013_VALIDATION_IMAGES
    batch_size = even_batch_size(images, config.eval.batch_size, jax.device_count())
    batches = math.ceil(images / batch_size)
    whole = eval_runner(config, images)
    name, forward = f"evaluation of {images:,} images", "forward pass alone"
    ours = {name: lambda steps: whole(steps // batches), forward: forward_runner(config, batch_size)}
    with _beside_peer(settings, "eval", batch_size, ours) as runners:
        speeds = interleave(runners, rounds=settings.rounds, steps=batches)
    figures = {
        "evaluation beside the forward pass alone (%)": 100 * speeds[name].median / speeds[forward].median,
    }
    return Section("eval", f"Evaluation, batch {batch_size}", speeds, figures)


def make_input(settings: Settings) -> Section:
    """Measure the parts of a training step: the fetch of the batch and its augmentation, alone and in the step.

    The last two rows are the step on images that need neither augmentation nor resize, and the whole step; their
    difference is what the augmentation costs within the compiled step.
    """
    plain = settings.config.copy_and_resolve_references()
    plain.augment.update(vars(NO_AUGMENTATION))
    runners: dict[str, Runner] = {
        **input_runners(settings.config),
        "step without augmentation and resize": TrainRunner(plain, images_at_input_size=True),
        "training step": TrainRunner(settings.config),
        "evaluation": eval_runner(settings.config, settings.config.eval.batch_size),
    }
    speeds = interleave(runners, rounds=settings.rounds, steps=settings.steps)
    step = speeds["training step"].median
    shares = {
        f"{name}: share of the step's time (%)": 100 * step / speeds[name].median
        for name in speeds
        if name.startswith("fetch")
    }
    within = 100 * (1 - step / speeds["step without augmentation and resize"].median)
    figures = {**shares, "augmentation and resize within the step (%)": within}
    return Section("input", f"Input, batch {settings.config.train.batch_size}", speeds, figures)


def checkpoint(settings: Settings) -> Section:
    """Measure saving and restoring the whole state in the temporary folder, as medians of the rounds."""
    state, empty = TrainRunner(settings.config).state, TrainMetrics.empty()
    backbones = initial_backbones("scratch", settings.config.model.backbones)
    description = describe(settings.config, synthetic_faces(8, 1, 2, seed=0), backbones)
    record = CheckpointRecord(description=description, epoch=0, step=1, epoch_seconds=0.0, best=None, history=())
    held, whole, restore = [], [], []
    for _ in range(settings.rounds):
        with tempfile.TemporaryDirectory(prefix="fer_jax_benchmark_") as folder:
            start = time.perf_counter()
            with Checkpoints(Path(folder)) as checkpoints:
                checkpoints.save_last(1, state, empty, record)
                held.append(time.perf_counter() - start)
            whole.append(time.perf_counter() - start)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            start = time.perf_counter()
            with Checkpoints(Path(folder)) as checkpoints:
                jax.block_until_ready(checkpoints.restore_last(state, empty))
            restore.append(time.perf_counter() - start)
    figures = {
        "size (MB)": size / 1e6,
        "save: training waits (s)": statistics.median(held),
        "save: until it is on disk (s)": statistics.median(whole),
        "restore (s)": statistics.median(restore),
    }
    return Section("checkpoint", f"Checkpoint, median of {settings.rounds}", figures=figures)


SECTIONS: dict[str, Callable[[Settings], Section]] = {
    "train": train,
    "eval": evaluate,
    "input": make_input,
    "checkpoint": checkpoint,
    "depthwise": depthwise,
    "frozen": frozen,
    "dispatch": dispatch,
    "exports": exports,
}
"""What can be measured, by the name that `--what` takes."""


@contextlib.contextmanager
def _beside_peer(
    settings: Settings, what: str, batch_size: int, ours: Mapping[str, Runner]
) -> Iterator[dict[str, Runner]]:
    """Yield our runners by name, and the peer's if one is asked for."""
    if settings.peer_python is None:
        yield dict(ours)
        return
    with torch_peer(settings.config, what, batch_size, settings.peer_python) as peer:
        yield {**ours, peer.name: peer}


def _peak_memory() -> dict[str, float]:
    """Return the most memory that was in use so far: the device's where it counts that, else the process's."""
    counts = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in counts:
        return {"peak memory of the device so far (MiB)": counts["peak_bytes_in_use"] / 2**20}
    # Linux counts KiB, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 2**10
    return {
        "peak memory of the process so far (MiB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    }
