"""Training, from a config and data to checkpoints and curves: one loop, read from top to bottom."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from fer_jax import atomic
from fer_jax.config import check_config, model_spec, to_json
from fer_jax.data import resident
from fer_jax.data.fer2013 import Fer2013
from fer_jax.data.inputs import make_input
from fer_jax.errors import InputError
from fer_jax.inference import Predictor
from fer_jax.pretrained.initial import InitialBackbone, initial_backbones
from fer_jax.training import mesh as meshes
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.metrics_log import MetricsLog
from fer_jax.training.optimizer import learning_rate_schedule, make_optimizer
from fer_jax.training.progress import TrainingProgress
from fer_jax.training.run_folder import describe, open_run_folder
from fer_jax.training.state import create_model, create_state, model_definition
from fer_jax.training.step import TrainMetrics, cross_entropy, jit_train_step


def train(config: ConfigDict, data: Fer2013, workdir: Path) -> dict:
    """Trains the network of `config` on `data.train`, or goes on with the run that `workdir` holds.

    After each epoch the network is evaluated on `data.validation`, whose accuracy selects the best epoch (the
    earliest of equals), and the state is saved. `data.test` is not looked at.

    Returns:
      The description of the run with its `best` epoch and its `history`, an entry an epoch.

    Raises:
      InputError: before any work, for an impossible config, missing weights, or a folder that holds something else;
        during training, if the loss is no longer a number.
    """
    # ---- What is asked for can be done.
    check_config(config)
    mesh = meshes.make_mesh()
    replicated = meshes.replicated(mesh)
    batch_size = config.train.batch_size
    meshes.check_batch_size(batch_size, mesh, "train.batch_size")
    steps_per_epoch = resident.steps_per_epoch(len(data.train), batch_size)
    total_steps = steps_per_epoch * config.train.epochs
    backbones = initial_backbones(config.init, config.model.backbones)
    description = describe(config, data, backbones)
    open_run_folder(workdir, description)

    # ---- The state before the first step, on the devices.
    spec = model_spec(config, [backbone.spec for backbone in backbones], len(data.class_names))
    graphdef, *_ = model_definition(spec, replicated)
    params, batch_stats = create_model(spec, config.seed)
    for backbone in backbones:
        if backbone.params is not None:
            params["backbones"][backbone.spec.name] = backbone.params
            batch_stats["backbones"][backbone.spec.name] = backbone.batch_stats
    schedule = learning_rate_schedule(config.optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    optimizer = make_optimizer(config.optimizer, schedule)
    state = create_state(params, batch_stats, optimizer, replicated)
    atomic.write_text(workdir / "parameters.txt", parameter_overview.get_parameter_overview(state.params) + "\n")

    # ---- The data, on the devices or on their way.
    inputs, how_it_is_read = make_input(
        config, data, total_steps=total_steps, replicated=replicated, batch_sharding=meshes.split_batch(mesh)
    )

    # ---- The two compiled functions.
    predict = Predictor(graphdef, config.model.input_size, config.eval.batch_size, mesh)
    step_fn = jit_train_step(config, graphdef=graphdef, optimizer=optimizer, mesh=mesh, resident=inputs.is_resident)

    def no_metrics() -> TrainMetrics:
        return jax.device_put(TrainMetrics.empty(), replicated)

    with Checkpoints(workdir) as checkpoints:
        # ---- Where an earlier command left off.
        history, best = [], None
        if restored := checkpoints.restore_last(state):
            state, record = restored
            history, best = record["history"], record["best"]
        first_epoch = len(history) + 1

        log = MetricsLog(workdir, resume_step=int(state.step) if restored else None)
        progress = TrainingProgress(total_steps, config.train.epochs, batch_size)
        with log, progress, inputs.steps(int(state.step)) as batches:
            progress.message(_headline(data, backbones, state.params, mesh, workdir))
            progress.message(how_it_is_read)
            if restored:
                progress.message(f"going on after epoch {len(history)} of {config.train.epochs}")
            else:
                log.write_text("config", f"```\n{to_json(config)}```")
            if first_epoch <= config.train.epochs:
                start = time.monotonic()
                step_fn = step_fn.lower(state, no_metrics(), *inputs.step_arguments()).compile()
                progress.message(f"training step compiled in {time.monotonic() - start:.0f} s")

            for epoch in range(first_epoch, config.train.epochs + 1):
                # ---- Train, and report what the steps since the last report did.
                epoch_metrics, metrics = no_metrics(), no_metrics()
                epoch_start = interval_start = time.monotonic()
                last_step = epoch * steps_per_epoch
                reported_step = last_step - steps_per_epoch
                for step in range(reported_step + 1, last_step + 1):
                    state, metrics = step_fn(state, metrics, *next(batches))
                    if step % config.train.log_every_steps == 0 or step == last_step:
                        values = _floats(metrics)
                        now = time.monotonic()
                        images_per_second = (step - reported_step) * batch_size / (now - interval_start)
                        interval_start, reported_step = now, step
                        if not math.isfinite(values["loss"]):
                            raise InputError(_not_finite(step, values["loss"], epoch - 1, workdir))
                        progress.update(step, epoch, values, images_per_second)
                        pace = {"learning_rate": float(schedule(step - 1)), "images_per_second": images_per_second}
                        log.write(step, {"epoch": step / steps_per_epoch, **values, **pace})
                        epoch_metrics, metrics = epoch_metrics.merge(metrics), no_metrics()
                train_seconds = time.monotonic() - epoch_start

                # ---- Evaluate on the validation split.
                logits = predict(state.params, state.batch_stats, inputs.validation_images)
                entry = {
                    "epoch": epoch,
                    "step": last_step,
                    **{f"train_{name}": value for name, value in _floats(epoch_metrics).items()},
                    **_validation_metrics(logits, data.validation.labels),
                    "learning_rate": float(schedule(last_step - 1)),
                    "images_per_second": steps_per_epoch * batch_size / train_seconds,
                    "seconds": time.monotonic() - epoch_start,
                }

                # ---- Save and report.
                # A new list: the checkpoints may still be writing the record of the epoch before.
                history = [*history, entry]
                improved = best is None or entry["validation_accuracy"] > best["validation_accuracy"]
                best = entry if improved else best
                record = {**description, "epoch": epoch, "metrics": entry, "best": best, "history": history}
                if improved:
                    checkpoints.save_best(epoch, state, record)
                checkpoints.save_last(epoch, state, record)
                log.write(last_step, {k: v for k, v in entry.items() if k != "step"}, kind="epoch")
                progress.epoch_line(_epoch_line(entry, improved))

            progress.message(
                f"best epoch {best['epoch']} of {len(history)}, by accuracy on "
                f"{description['split_roles']['validation']}: {100 * best['validation_accuracy']:.2f} %"
            )
    return {**description, "best": best, "history": history}


def _floats(metrics: TrainMetrics) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.compute().items()}


def _validation_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean cross-entropy (nats, without label smoothing) and accuracy over all examples, each counted once."""
    return {
        "validation_loss": float(np.mean(cross_entropy(logits, labels))),
        "validation_accuracy": float(np.mean(logits.argmax(axis=-1) == labels)),
    }


def _headline(data: Fer2013, backbones: Sequence[InitialBackbone], params: dict, mesh, workdir: Path) -> str:
    """What is about to be trained, on what, where."""
    networks = " + ".join(f"{backbone.spec.name} ({backbone.origin})" for backbone in backbones)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    device = mesh.devices.flat[0]
    return (
        f"{networks}, {parameters:,} parameters; {data.source}: {len(data.train):,} training and "
        f"{len(data.validation):,} validation images; {mesh.size} x {device.device_kind}; results in {workdir}"
    )


def _epoch_line(entry: dict, improved: bool) -> str:
    return (
        f"epoch {entry['epoch']}: train loss {entry['train_loss']:.4f} accuracy {entry['train_accuracy']:.4f}, "
        f"validation loss {entry['validation_loss']:.4f} accuracy {entry['validation_accuracy']:.4f}"
        f"{' (best so far)' if improved else ''}, {entry['images_per_second']:.1f} img/s, {entry['seconds']:.0f} s"
    )


def _not_finite(step: int, loss: float, saved_epoch: int, workdir: Path) -> str:
    saved = f"the state after epoch {saved_epoch} is in {workdir}" if saved_epoch else "nothing was saved yet"
    return (
        f"the training loss is {loss} at step {step}; {saved}; try a lower config.optimizer.learning_rate, "
        "or config.optimizer.gradient_clip_norm=1"
    )
