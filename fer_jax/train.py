"""Training, from a config and data to checkpoints and curves: one loop, read from top to bottom."""

import time
from collections.abc import Sequence
from pathlib import Path

import jax
import msgspec
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from fer_jax.config.defaults import check_config
from fer_jax.config.loading import to_json
from fer_jax.data import resident
from fer_jax.data.dataset import Dataset
from fer_jax.data.inputs import make_input
from fer_jax.errors import InputError
from fer_jax.inference.predictor import Predictor
from fer_jax.models.build import model_spec
from fer_jax.params.trainable import resolve, state_bytes
from fer_jax.pretrained.initial import InitialBackbone
from fer_jax.runs.checkpoint import Checkpoints
from fer_jax.runs.folder import describe, open_run_folder, resumed_backbones
from fer_jax.runs.metrics_log import MetricsLog
from fer_jax.runs.record import CheckpointRecord, EpochResult, TrainResult, as_json
from fer_jax.runs.warm_start import starting_backbones
from fer_jax.runtime import files, processes
from fer_jax.runtime import sharding as meshes
from fer_jax.runtime.placement import place
from fer_jax.runtime.preemption import Preempted, StopRequests
from fer_jax.runtime.profiling import StepTrace
from fer_jax.runtime.run_ahead import StepsInFlight
from fer_jax.runtime.terminal import TrainingProgress
from fer_jax.runtime.watchdog import COMPILE_ALLOWANCE, Watchdog
from fer_jax.training import depthwise_tuning
from fer_jax.training.cached_features import cached_input, check_cached_views
from fer_jax.training.nan_guard import all_finite, first_not_finite
from fer_jax.training.optimizer import learning_rate_schedule, make_table_optimizer
from fer_jax.training.state import create_model, create_state, model_definition
from fer_jax.training.step import TrainMetrics, cross_entropy, jit_epoch_step


def train(config: ConfigDict, data: Dataset, workdir: Path, *, profile_steps: int = 0) -> TrainResult:
    """Trains the network of `config` on `data.train`, or goes on with the run that `workdir` holds.

    After each epoch the network is evaluated on `data.validation`, whose accuracy selects the best epoch (the
    earliest of equals), and the state is saved. `data.test` is not looked at, unless `config.eval.test_each_epoch` asks
    for the accuracy on it after each epoch, which is noted and selects nothing. Stopped at any step and called again,
    it ends as if it had never been stopped.

    Called by several processes (`fer_jax.runtime.processes`) it trains on the devices of all; each must give the
    same arguments, and `workdir` must be a folder that they share.

    Args:
      config: see `fer_jax.config.defaults`.
      data: the splits.
      workdir: the folder of the run.
      profile_steps: how many steps to trace, into `workdir/profile`.

    Returns:
      The description of the run with its `best` epoch and its `history`, an entry an epoch.

    Raises:
      InputError: before any work, for an impossible config, missing weights, or a folder that holds something else or
        is in use; during training, for numbers that are no longer finite, or a folder that cannot be written.
      Preempted: after SIGTERM or SIGINT, once the state is saved.
    """
    # ---- What is asked for can be done.
    check_config(config)
    if config.eval.test_each_epoch and not len(data.test):
        raise InputError(f"config.eval.test_each_epoch=True: {data.source} has no test split; set it to False")
    mesh = meshes.make_mesh()
    replicated = meshes.replicated(mesh)
    batch_size = config.train.batch_size
    meshes.check_batch_size(batch_size, mesh, "train.batch_size")
    steps_per_epoch = resident.steps_per_epoch(len(data.train), batch_size)
    total_steps = steps_per_epoch * config.train.epochs
    # Only a new run needs its initial weights.
    backbones = resumed_backbones(workdir, config, data) or starting_backbones(config, data.fingerprint())
    backbone_specs = [backbone.spec for backbone in backbones]
    spec = model_spec(config, backbone_specs, len(data.class_names))
    graphdef, param_shapes, _ = model_definition(spec, replicated)
    table = resolve(config.train.parameters, config.train.epochs, param_shapes)
    check_cached_views(config, table)
    description = describe(config, data, backbones, table.describe())

    with (
        open_run_folder(workdir, description),
        Watchdog(config.train.watchdog_minutes) as watchdog,
        Checkpoints(workdir) as checkpoints,
    ):
        # ---- What the depthwise convolutions compile to, where a measurement has to say.
        tuning = depthwise_tuning.tune_run(config, backbone_specs, mesh, workdir)
        if tuning.choices:
            spec = model_spec(config, backbone_specs, len(data.class_names), tuning.choices)
            graphdef, *_ = model_definition(spec, replicated)
            choices = tuple(depthwise_tuning.to_json(tuning.choices))
            description = msgspec.structs.replace(description, depthwise_choices=choices)

        # ---- The state before the first step, on the devices.
        params, batch_stats = create_model(spec, config.seed)
        for backbone in backbones:
            if backbone.params is not None:
                params["backbones"][backbone.spec.name] = backbone.params
                batch_stats["backbones"][backbone.spec.name] = backbone.batch_stats
        schedule = learning_rate_schedule(config.optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        optimizer = make_table_optimizer(config.optimizer, schedule, table, epoch=1, steps_per_epoch=steps_per_epoch)
        average = config.train.ema_decay > 0
        state = create_state(params, batch_stats, optimizer, replicated, ever_trains=table.ever_trains, average=average)
        what_trains = table.text(state_bytes(state.opt_state))
        if processes.is_main():
            files.write_text(workdir / "freeze.txt", what_trains + "\n")
            overview = parameter_overview.get_parameter_overview(state.params)
            files.write_text(workdir / "parameters.txt", overview + "\n")
        processes.wait_for_all("has built the network")

        def no_metrics() -> TrainMetrics:
            return place(TrainMetrics.empty(), replicated)

        # ---- Where an earlier command left off; first, because features are cached with the backbones of its state.
        history, best, done, seconds = (), None, 0, 0.0
        epoch_metrics, metrics = no_metrics(), no_metrics()
        if restored := checkpoints.restore_last(state, (epoch_metrics, metrics)):
            state, (epoch_metrics, metrics), record = restored
            history, best, done, seconds = record.history, record.best, record.step, record.epoch_seconds

        # ---- The data, on the devices or on their way.
        cached = config.train.cached_views > 0
        if cached:
            model = state.model()
            inputs, how_it_is_read = cached_input(
                config, data, **model, graphdef=graphdef, mesh=mesh, beat=watchdog.beat
            )
        else:
            inputs, how_it_is_read = make_input(
                config, data, total_steps=total_steps, replicated=replicated, batch_sharding=meshes.split_batch(mesh)
            )

        # ---- The compiled functions; the step is compiled when it is known what trains.
        evaluation = config.eval
        predict = Predictor(
            graphdef, config.model.input_size, evaluation.batch_size, mesh, flip=evaluation.flip, cached=cached
        )
        step_fn = None
        merge = jax.jit(lambda metrics, other: metrics.merge(other), out_shardings=replicated)
        state_is_finite = jax.jit(all_finite)

        def check_finite(bad_step: int | None) -> None:
            if bad_step is not None:
                epoch, row = divmod(bad_step - 1, steps_per_epoch)
                order = resident.epoch_order(config.seed, epoch + 1, len(data.train), batch_size)
                row_ids = data.train.row_ids[order[row]]
                raise InputError(_not_finite(bad_step, row_ids, checkpoints.last_step, workdir))

        def save_last(step: int, epoch_seconds: float = 0.0) -> CheckpointRecord:
            """Saves all there is after `step`, in the middle of an epoch of `epoch_seconds` so far or at its end."""
            check_finite(first_not_finite(metrics.first_not_finite))
            check_finite(None if state_is_finite(state) else step)
            record = CheckpointRecord(
                description=description,
                epoch=len(history),
                step=step,
                epoch_seconds=epoch_seconds,
                best=best,
                history=history,
            )
            checkpoints.save_last(step, state, (epoch_metrics, metrics), record)
            return record

        silent = not processes.is_main()
        log = MetricsLog(workdir, done if restored else None, len(history), silent=silent)
        progress = TrainingProgress(total_steps, config.train.epochs, batch_size, silent=silent)
        trace = StepTrace(workdir, 0 if silent else profile_steps)
        in_flight = StepsInFlight()
        with log, progress, trace, inputs.steps(done) as batches:
            for notice in checkpoints.notices:
                progress.message(f"warning: {notice}")
            progress.message(_headline(data, backbones, state.params, mesh, workdir))
            progress.message(how_it_is_read)
            progress.message(what_trains)
            if tuning.message:
                progress.message(tuning.message)
            if restored:
                progress.message(f"going on after step {done} of {total_steps}")
            else:
                log.write_text("config", f"```\n{to_json(config)}```")
            with StopRequests() as stopping:
                for epoch in range(len(history) + 1, config.train.epochs + 1):
                    # ---- Compile the step, at the start and where something more begins to train.
                    if step_fn is None or epoch in table.phase_starts:
                        watchdog.beat(COMPILE_ALLOWANCE)
                        start = time.monotonic()
                        step_fn = jit_epoch_step(
                            config,
                            spec,
                            table,
                            schedule,
                            epoch=epoch,
                            steps_per_epoch=steps_per_epoch,
                            mesh=mesh,
                            resident=inputs.is_resident,
                        )
                        step_fn = step_fn.lower(state, metrics, *inputs.step_arguments()).compile()
                        processes.wait_for_all(f"has compiled the step of epoch {epoch}")
                        progress.message(f"training step compiled in {time.monotonic() - start:.0f} s")

                    # ---- Train, and report what the steps since the last report did.
                    first_step = step = reported_step = done
                    last_step = done = epoch * steps_per_epoch
                    train_start = interval_start = time.monotonic()
                    epoch_start, seconds = train_start - seconds, 0.0
                    stop = False
                    while step < last_step and not stop:
                        trace.before_step()
                        state, metrics = step_fn(state, metrics, *next(batches))
                        step += 1
                        in_flight.add(state.step)
                        watchdog.beat()
                        if step % config.train.log_every_steps == 0 or step == last_step:
                            values, now = _floats(metrics), time.monotonic()
                            check_finite(first_not_finite(metrics.first_not_finite))
                            images_per_second = (step - reported_step) * batch_size / (now - interval_start)
                            interval_start, reported_step = now, step
                            progress.update(step, epoch, values, images_per_second)
                            pace = {"learning_rate": float(schedule(step - 1)), "images_per_second": images_per_second}
                            log.write(step, {"epoch": step / steps_per_epoch, **values, **pace})
                            epoch_metrics, metrics = merge(epoch_metrics, metrics), no_metrics()
                        if message := trace.after_step(state.step):
                            progress.message(message)
                        stop = stopping.requested()
                        every = config.train.checkpoint_every_steps
                        if every and step % every == 0 and step < last_step and not stop:
                            save_last(step, time.monotonic() - epoch_start)
                    train_seconds = time.monotonic() - train_start

                    # ---- Evaluate on the validation split.
                    logits = None
                    if not stop:
                        watchdog.beat(COMPILE_ALLOWANCE)
                        arguments = {**state.model(), "splits": inputs.evaluated}
                        logits = predict.each(**arguments, stop=lambda: watchdog.beat() or stopping.requested())
                    if logits is None:
                        save_last(step, time.monotonic() - epoch_start)
                        checkpoints.wait()
                        raise Preempted(f"stopped after step {step} of {total_steps} and saved in {workdir}")
                    entry = EpochResult(
                        epoch=epoch,
                        step=last_step,
                        **{f"train_{name}": value for name, value in _floats(epoch_metrics).items()},
                        **_validation_metrics(logits["validation"], data.validation.labels),
                        **_paper_protocol(logits.get("test"), data.test.labels),
                        learning_rate=float(schedule(last_step - 1)),
                        images_per_second=(last_step - first_step) * batch_size / train_seconds,
                        seconds=time.monotonic() - epoch_start,
                    )

                    # ---- Save and report.
                    history = (*history, entry)
                    improved = best is None or entry.validation_accuracy > best.validation_accuracy
                    best = entry if improved else best
                    epoch_metrics = no_metrics()
                    # Before the checkpoint, which must not find a line missing when a later command goes on from it.
                    log.write(last_step, {k: v for k, v in as_json(entry).items() if k != "step"}, kind="epoch")
                    record = save_last(last_step)
                    if improved:
                        checkpoints.save_best(last_step, state, record)
                    progress.epoch_line(_epoch_line(entry, improved))
                checkpoints.wait()

            progress.message(
                f"best epoch {best.epoch} of {len(history)}, by accuracy on "
                f"{description.split_roles['validation']}: {100 * best.validation_accuracy:.2f} %"
            )
    return TrainResult(description, best, history)


def _floats(metrics: TrainMetrics) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.compute().items() if name != "first_not_finite"}


def _validation_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean cross-entropy (nats, without label smoothing) and accuracy over all examples, each counted once."""
    return {
        "validation_loss": float(np.mean(cross_entropy(logits, labels))),
        "validation_accuracy": float(np.mean(logits.argmax(axis=-1) == labels)),
    }


def _paper_protocol(logits: np.ndarray | None, labels: np.ndarray) -> dict[str, float]:
    """The accuracy on the test split, by which the paper chooses its best epoch and nothing here chooses any."""
    if logits is None:
        return {}
    return {"paper_protocol_test_accuracy": float(np.mean(logits.argmax(axis=-1) == labels))}


def _headline(data: Dataset, backbones: Sequence[InitialBackbone], params: dict, mesh, workdir: Path) -> str:
    """What is about to be trained, on what, where."""
    networks = " + ".join(f"{backbone.spec.name} ({backbone.origin})" for backbone in backbones)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    device = mesh.devices.flat[0]
    return (
        f"{networks}, {parameters:,} parameters; {data.source}: {len(data.train):,} training and "
        f"{len(data.validation):,} validation images; {mesh.size} x {device.device_kind}; results in {workdir}"
    )


def _epoch_line(entry: EpochResult, improved: bool) -> str:
    return (
        f"epoch {entry.epoch}: train loss {entry.train_loss:.4f} accuracy {entry.train_accuracy:.4f}, "
        f"validation loss {entry.validation_loss:.4f} accuracy {entry.validation_accuracy:.4f}"
        f"{' (best so far)' if improved else ''}, {entry.images_per_second:.1f} img/s, {entry.seconds:.0f} s"
    )


def _not_finite(step: int, row_ids: np.ndarray, last_step: int, workdir: Path) -> str:
    saved = f"the state after step {last_step} is whole, in {workdir}" if last_step else "nothing was saved yet"
    return (
        f"the training loss, its gradient or the state is not finite at step {step}, on the rows "
        f"{', '.join(map(str, row_ids))} of the training data; {saved}; look at these rows, or begin again with a "
        "lower config.optimizer.learning_rate, or config.optimizer.gradient_clip_norm=1"
    )
