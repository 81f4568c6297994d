"""Training, from a config and data to checkpoints and curves: one loop, read from top to bottom."""

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from fer_jax.config.defaults import check_config
from fer_jax.config.effects import check_effects
from fer_jax.config.loading import to_json
from fer_jax.data.configured import as_configured
from fer_jax.data.dataset import Dataset
from fer_jax.data.inputs import ResidentInput, StreamingInput, make_input
from fer_jax.data.resident import epoch_order
from fer_jax.errors import InputError
from fer_jax.inference.predictor import Predictor
from fer_jax.params.trainable import state_bytes
from fer_jax.pretrained.initial import InitialBackbone
from fer_jax.runs.checkpoint import Checkpoints
from fer_jax.runs.folder import add_notice, describe, open_run_folder, resumed_backbones, write_overviews
from fer_jax.runs.metrics_log import MetricsLog
from fer_jax.runs.record import CheckpointRecord, EpochResult, RunDescription, TrainResult, as_json
from fer_jax.runtime import processes
from fer_jax.runtime.jax_environment import usual_numerics
from fer_jax.runtime.preemption import Preempted, StopRequests
from fer_jax.runtime.profiling import StepTrace
from fer_jax.runtime.run_ahead import StepsInFlight
from fer_jax.runtime.sharding import make_mesh, replicated, split_batch
from fer_jax.runtime.terminal import TrainingProgress
from fer_jax.runtime.user_path import user_place
from fer_jax.runtime.watchdog import COMPILE_ALLOWANCE, Watchdog
from fer_jax.storage.bucket import AnyPath, BucketPath
from fer_jax.streams import told_of_losses
from fer_jax.training.cached_features import cached_input
from fer_jax.training.nan_guard import all_finite, first_not_finite
from fer_jax.training.program import DataShape, TrainProgram
from fer_jax.training.state import TrainState
from fer_jax.training.step import TrainMetrics, cross_entropy
from fer_jax.warm_start import StartingPoint, random_and_frozen, starting_point


@dataclasses.dataclass
class RunProgress:
    """How far a run is: all that changes from step to step, and that a checkpoint keeps.

    Attributes:
      state: after the steps taken so far.
      metrics: since the last line of the log.
      epoch_metrics: of the epoch before that line.
      step: steps taken.
      history: the results of the whole epochs, in order.
      best: the one of the best validation accuracy so far, the earliest of equals.
      epoch_seconds: what the epoch under way has taken so far, in earlier commands.
    """

    state: TrainState
    metrics: TrainMetrics
    epoch_metrics: TrainMetrics
    step: int = 0
    history: tuple[EpochResult, ...] = ()
    best: EpochResult | None = None
    epoch_seconds: float = 0.0

    def record(self, description: RunDescription) -> CheckpointRecord:
        """Return the record of a checkpoint of this run."""
        return CheckpointRecord(
            description=description,
            epoch=len(self.history),
            step=self.step,
            epoch_seconds=self.epoch_seconds,
            best=self.best,
            history=self.history,
        )


@usual_numerics()
def train(
    config: ConfigDict, data: Dataset, workdir: str | Path | BucketPath, *, profile_steps: int = 0
) -> TrainResult:
    """Train the network of `config` on `data.train`, or resume the run that `workdir` holds.

    After each epoch the network is evaluated on `data.validation`, whose accuracy selects the best epoch (the
    earliest of equals), and the state is saved. `data.test` is not looked at, unless `config.eval.test_each_epoch` asks
    for the accuracy on it after each epoch, which is noted and selects nothing. Stopped at any step and called again,
    it ends as if it had never been stopped.

    Called by several processes (`fer_jax.runtime.processes`) it trains on the devices of all of them; each must give
    the same arguments, and `workdir` must be a folder that they share.

    Args:
      config: see `fer_jax.config.defaults`.
      data: the splits, as they were read: `config.data` may say to change their labels.
      workdir: the folder of the run, on a disk or in a bucket (`gs://BUCKET/FOLDER`).
      profile_steps: how many steps to trace, into `workdir/profile`.

    Returns:
      The description of the run, its best epoch and its history, an entry an epoch.

    Raises:
      InputError: before any work, for an impossible config, missing weights, or a folder that holds something else or
        is in use; during training, for numbers that are no longer finite, or a folder that cannot be written.
      Preempted: after SIGTERM, SIGINT, SIGHUP or SIGUSR1, once the state is saved.
    """
    # ---- What is asked for can be done.
    workdir = user_place(workdir, f"the run's folder {workdir}")
    data = _checked(config, data)
    # Only a new run needs its initial weights.
    resumed_from = resumed_backbones(workdir, config, data)
    backbones, classifier = (
        StartingPoint(resumed_from) if resumed_from else starting_point(config, data.fingerprint(), data.class_names)
    )
    program = TrainProgram.build(config, DataShape.of(data), make_mesh(), [backbone.spec for backbone in backbones])
    description = describe(config, data, backbones, program.table.describe())
    steps_per_epoch, total_steps = program.steps_per_epoch, program.total_steps

    with contextlib.ExitStack() as stack:
        description, changed, check_hold = stack.enter_context(open_run_folder(workdir, description))
        watchdog = stack.enter_context(Watchdog(config.train.watchdog_minutes))
        checkpoints = stack.enter_context(Checkpoints(workdir))
        checkpoints.commit_after(check_hold)

        # ---- The state before the first step, or where an earlier command stopped; the data, on the devices.
        state = program.initial_state(
            {
                backbone.spec.name: (backbone.params, backbone.batch_stats)
                for backbone in backbones
                if backbone.params is not None and backbone.batch_stats is not None
            },
            classifier,
        )
        overview = program.table.text(state_bytes(state.opt_state))
        _write_overviews(workdir, overview, state)
        run = _restore(checkpoints, RunProgress(state, program.no_metrics(), program.no_metrics()))
        # After that, because features are cached with the backbones of the run's state.
        inputs, input_line = _make_inputs(program, data, run.state, watchdog.beat)
        predict = Predictor.of_program(program, before_compile=lambda: watchdog.beat(COMPILE_ALLOWANCE))
        resumed = run.step > 0
        save = _Saver(program, data, workdir, checkpoints, description)

        # ---- Who is told, and who may ask to stop.
        silent = not processes.is_main()
        resume = (run.step, len(run.history)) if resumed else ()
        log = stack.enter_context(MetricsLog(workdir, *resume, silent=silent, check=check_hold))
        checkpoints.commit_after(log.flush)
        note = functools.partial(add_notice, workdir)
        if not silent:
            stack.enter_context(told_of_losses(note))
        progress = stack.enter_context(
            TrainingProgress(total_steps, config.train.epochs, config.train.batch_size, silent=silent, on_loss=note)
        )
        trace = stack.enter_context(StepTrace(workdir, 0 if silent else profile_steps))
        batches = stack.enter_context(inputs.steps(run.step))
        in_flight = StepsInFlight()
        for line in (
            *(f"warning: {notice}" for notice in (*checkpoints.notices, *random_and_frozen(backbones, program.table))),
            _headline(data, backbones, program, workdir),
            *(line for line in (input_line, _class_weights(program), overview) if line),
            *([_resuming(run, total_steps, changed)] if resumed else []),
        ):
            progress.message(line)
        if not resumed:
            log.write_text("config", f"```\n{to_json(config)}```")
        stopping = stack.enter_context(StopRequests())

        step_fn = None
        for epoch in range(len(run.history) + 1, config.train.epochs + 1):
            if _stopped_early(run, config):
                break
            # ---- Compile the step, at the start and where something more begins to train.
            if step_fn is None or epoch in program.table.phase_starts:
                watchdog.beat(COMPILE_ALLOWANCE)
                step_fn, seconds = _compile_step(program, epoch, run, inputs)
                progress.message(f"training step compiled in {seconds:.0f} s")

            # ---- Train, and report what the steps since the last report did.
            last_step = epoch * steps_per_epoch
            interval = _Interval(run.step)
            epoch_start, stop = time.monotonic() - run.epoch_seconds, False
            while run.step < last_step and not stop:
                trace.before_step()
                run.state, run.metrics = step_fn(run, next(batches))
                run.step += 1
                in_flight.add(run.state.step)
                watchdog.beat()
                if run.step % config.train.log_every_steps == 0 or run.step == last_step:
                    save.check_finite(first_not_finite(run.metrics.first_not_finite))
                    values, pace = _floats(run.metrics), interval.images_per_second(run.step, config.train.batch_size)
                    progress.update(run.step, epoch, {key: values[key] for key in ("loss", "accuracy")}, pace)
                    rates = {"learning_rate": float(program.schedule(run.step - 1)), "images_per_second": pace}
                    log.write(run.step, {"epoch": run.step / steps_per_epoch, **values, **rates})
                    run.epoch_metrics = program.merge_metrics(run.epoch_metrics, run.metrics)
                    run.metrics = program.no_metrics()
                if message := trace.after_step(run.state.step):
                    progress.message(message)
                stop = stopping.requested()
                run.epoch_seconds = time.monotonic() - epoch_start
                every = config.train.checkpoint_every_steps
                if every and run.step % every == 0 and run.step < last_step and not stop:
                    save(run)
            train_seconds = run.epoch_seconds

            # ---- Evaluate, log, save, report: in this order, on which tests/test_resume.py depends.
            logits = None
            if not stop:
                arguments = {**run.state.model(), "splits": inputs.evaluated}
                logits = predict.each(**arguments, stop=lambda: watchdog.beat() or stopping.requested())
            run.epoch_seconds = time.monotonic() - epoch_start
            if logits is None:
                save(run)
                checkpoints.wait()
                raise Preempted(f"stopped after step {run.step} of {total_steps} and saved in {workdir}")
            entry = _epoch_result(program, data, run, logits, train_seconds)
            # Before the checkpoint, which must not find a line missing when a later command resumes from it.
            log.write(last_step, {k: v for k, v in as_json(entry).items() if k != "step"}, kind="epoch")
            improved = run.best is None or entry.validation_accuracy > run.best.validation_accuracy
            run.history, run.best = (*run.history, entry), entry if improved else run.best
            run.epoch_metrics, run.epoch_seconds = program.no_metrics(), 0.0
            save(run, improved=improved)
            progress.epoch_line(_epoch_line(entry, improved))
        checkpoints.wait()
        progress.message(_last_line(run, description, config))
    assert run.best is not None
    return TrainResult(description, run.best, run.history)


def _checked(config: ConfigDict, data: Dataset) -> Dataset:
    """Return the data as the config asks for them, after every check that needs no more than the two."""
    check_config(config)
    check_effects(config, data.nbytes)
    data = as_configured(config, data)
    if config.eval.test_each_epoch and not len(data.test):
        raise InputError(f"config.eval.test_each_epoch=True: {data.source} has no test split; set it to False")
    return data


def _write_overviews(workdir: AnyPath, what_trains: str, state: TrainState) -> None:
    """Write `freeze.txt` and `parameters.txt`, in the main process."""
    if processes.is_main():
        write_overviews(workdir, what_trains, parameter_overview.get_parameter_overview(state.params))
    processes.wait_for_all("has built the network")


def _make_inputs(
    program: TrainProgram, data: Dataset, state: TrainState, beat: Callable[[], None]
) -> tuple[ResidentInput | StreamingInput, str]:
    """The input of a run, and one line on how it is read."""
    config, mesh = program.config, program.mesh
    if config.train.cached_views:
        return cached_input(config, data, **state.model(), graphdef=program.graphdef, mesh=mesh, beat=beat)
    shardings = {"replicated": replicated(mesh), "batch_sharding": split_batch(mesh)}
    return make_input(config, data, total_steps=program.total_steps, **shardings)


def _restore(checkpoints: Checkpoints, run: RunProgress) -> RunProgress:
    """The run as its newest checkpoint has it; `run`, which is at its start, if there is none."""
    restored = checkpoints.restore_last(run.state, (run.epoch_metrics, run.metrics))
    if not restored:
        return run
    state, (epoch_metrics, metrics), record = restored
    return RunProgress(state, metrics, epoch_metrics, record.step, record.history, record.best, record.epoch_seconds)


def _compile_step(
    program: TrainProgram, epoch: int, run: RunProgress, inputs: ResidentInput | StreamingInput
) -> tuple[Callable[[RunProgress, tuple], tuple[TrainState, TrainMetrics]], float]:
    """The step of `epoch`, and the seconds that its compilation took."""
    start = time.monotonic()
    lowered = program.step(epoch, inputs.fetch).lower(run.state, run.metrics, *inputs.step_arguments())
    compiled = lowered.compile()
    processes.wait_for_all(f"has compiled the step of epoch {epoch}")

    def step(run: RunProgress, batch: tuple) -> tuple[TrainState, TrainMetrics]:
        # Whatever a step takes is on the devices already: a transfer would be a mistake, and slow.
        with jax.profiler.StepTraceAnnotation("train", step_num=run.step), jax.transfer_guard("disallow"):
            return compiled(run.state, run.metrics, *batch)

    return step, time.monotonic() - start


_state_is_finite = jax.jit(all_finite)


@dataclasses.dataclass(frozen=True)
class _Saver:
    """Saves a run, unless its numbers are no longer finite."""

    program: TrainProgram
    data: Dataset
    workdir: AnyPath
    checkpoints: Checkpoints
    description: RunDescription

    def __call__(self, run: RunProgress, *, improved: bool = False) -> None:
        """Save all there is after `run.step`, and the model as the best one if it has `improved`."""
        self.check_finite(first_not_finite(run.metrics.first_not_finite))
        self.check_finite(None if _state_is_finite(run.state) else run.step)
        record = run.record(self.description)
        self.checkpoints.save_last(run.step, run.state, (run.epoch_metrics, run.metrics), record)
        if improved:
            self.checkpoints.save_best(run.step, run.state, record)

    def check_finite(self, bad_step: int | None) -> None:
        """Raise `InputError` if there is a step that was not finite, naming its images."""
        if bad_step is None:
            return
        config, train = self.program.config, self.data.train
        epoch, row = divmod(bad_step - 1, self.program.steps_per_epoch)
        order = epoch_order(config.seed, epoch + 1, len(train), config.train.batch_size)
        row_ids = train.row_ids[order[row]]
        raise InputError(_not_finite(bad_step, row_ids, self.checkpoints.last_step, self.workdir))


@dataclasses.dataclass
class _Interval:
    """The steps since the last line of the log, the first of which begins now."""

    step: int
    start: float = dataclasses.field(default_factory=time.monotonic)

    def images_per_second(self, step: int, batch_size: int) -> float:
        """The pace up to `step`, where the next interval begins."""
        now = time.monotonic()
        pace = (step - self.step) * batch_size / (now - self.start)
        self.step, self.start = step, now
        return pace


def _floats(metrics: TrainMetrics) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.compute().items() if name != "first_not_finite"}


def _epoch_result(
    program: TrainProgram, data: Dataset, run: RunProgress, logits: dict[str, np.ndarray], train_seconds: float
) -> EpochResult:
    """What the epoch that has just ended is recorded as."""
    images = program.steps_per_epoch * program.config.train.batch_size
    return EpochResult(
        epoch=len(run.history) + 1,
        step=run.step,
        **_training_metrics(run.epoch_metrics),
        **_validation_metrics(logits["validation"], data.validation.labels),
        **_paper_protocol(logits.get("test"), data.test.labels),
        learning_rate=float(program.schedule(run.step - 1)),
        images_per_second=images / train_seconds,
        seconds=run.epoch_seconds,
    )


def _training_metrics(metrics: TrainMetrics) -> dict[str, float]:
    """The means over an epoch; norms belong to a step."""
    values = _floats(metrics)
    return {"train_loss": values["loss"], "train_accuracy": values["accuracy"]}


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


def _stopped_early(run: RunProgress, config: ConfigDict) -> bool:
    """Whether `config.train.early_stopping_patience` ends the run here: a function of its history alone."""
    patience = config.train.early_stopping_patience
    return bool(patience) and run.best is not None and len(run.history) - run.best.epoch >= patience


def _last_line(run: RunProgress, description: RunDescription, config: ConfigDict) -> str:
    assert run.best is not None
    early = ""
    if len(run.history) < config.train.epochs:
        early = (
            f"finished after epoch {len(run.history)} of {config.train.epochs}: none of the last "
            f"{config.train.early_stopping_patience} was better (config.train.early_stopping_patience); "
        )
    return (
        f"{early}best epoch {run.best.epoch} of {len(run.history)}, by accuracy on "
        f"{description.split_roles['validation']}: {100 * run.best.validation_accuracy:.2f} %"
    )


def _headline(data: Dataset, backbones: Sequence[InitialBackbone], program: TrainProgram, workdir: AnyPath) -> str:
    """What is about to be trained, on what, where."""
    networks = " + ".join(f"{backbone.spec.name} ({backbone.origin})" for backbone in backbones)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(program.params))
    mesh = program.mesh
    device = mesh.devices.flat[0]
    return (
        f"{networks}, {parameters:,} parameters; {data.source}: {len(data.train):,} training and "
        f"{len(data.validation):,} validation images; {mesh.size} x {device.device_kind}; results in {workdir}"
    )


def _resuming(run: RunProgress, total_steps: int, changed: Sequence[str]) -> str:
    what_changed = f"; changed (before and now): {'; '.join(changed)}" if changed else ""
    return f"resuming after step {run.step} of {total_steps}{what_changed}"


def _class_weights(program: TrainProgram) -> str:
    if not program.class_weights:
        return ""
    pairs = zip(program.data_shape.class_names, program.class_weights, strict=True)
    return f"class weights of the training loss: {', '.join(f'{name} {weight:.3g}' for name, weight in pairs)}"


def _epoch_line(entry: EpochResult, improved: bool) -> str:
    return (
        f"epoch {entry.epoch}: train loss {entry.train_loss:.4f} accuracy {entry.train_accuracy:.4f}, "
        f"validation loss {entry.validation_loss:.4f} accuracy {entry.validation_accuracy:.4f}"
        f"{' (best so far)' if improved else ''}, {entry.images_per_second:.1f} img/s, {entry.seconds:.0f} s"
    )


def _not_finite(step: int, row_ids: np.ndarray, last_step: int, workdir: AnyPath) -> str:
    saved = f"the state after step {last_step} is whole, in {workdir}" if last_step else "nothing was saved yet"
    return (
        f"the training loss, its gradient or the state is not finite at step {step}, on the rows "
        f"{', '.join(map(str, row_ids))} of the training data; {saved}; look at these rows, or begin again with a "
        "lower config.optimizer.learning_rate, or config.optimizer.gradient_clip_norm=1"
    )


if __name__ == "__main__":
    print("error: fer_jax.train is no command; train by `fer-jax train` or `python scripts/train.py`", file=sys.stderr)
    sys.exit(2)
