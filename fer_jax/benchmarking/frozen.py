"""Measure how much faster a step is with frozen backbones, and with their cached features on top."""

import itertools
import statistics
import time

from fer_jax.benchmarking.rounds import interleave
from fer_jax.benchmarking.runners import TrainRunner
from fer_jax.benchmarking.section import Section, Settings
from fer_jax.params.trainable import EVERYTHING, state_bytes

CLASSIFIER_ALONE = ("classifier/**: train", "backbones/**: freeze")
"""The table by which only the classifier trains (`fer_jax.params.trainable`)."""

_TRAINABLE, _FROZEN, _CACHED = "everything trains", "classifier alone, images anew", "classifier alone, cached features"


def frozen(settings: Settings) -> Section:
    """Measure the step with all parameters trained, with only the classifier trained, and on cached features.

    The features are those of one view, computed from as many batches of `config.eval.batch_size` as there are rounds,
    after a warm-up batch that compiles.
    """
    whole, classifier, cached = (settings.config.copy_and_resolve_references() for _ in range(3))
    whole.train.update(parameters=EVERYTHING, cached_views=0)
    classifier.train.update(parameters=CLASSIFIER_ALONE, cached_views=0)
    cached.train.update(parameters=CLASSIFIER_ALONE, cached_views=1)
    cached.eval.test_each_epoch = False

    times = []
    images = max(2 * cached.train.batch_size, (settings.rounds + 1) * cached.eval.batch_size)
    # Built first, because it may refuse the config.
    on_features = TrainRunner(cached, num_images=images, beat=lambda: times.append(time.perf_counter()))
    runners = {_TRAINABLE: TrainRunner(whole), _FROZEN: TrainRunner(classifier), _CACHED: on_features}
    speeds = interleave(runners, rounds=settings.rounds, steps=settings.steps)
    median = {name: speed.median for name, speed in speeds.items()}
    figures = {
        "classifier alone: time beside everything (ratio)": median[_TRAINABLE] / median[_FROZEN],
        "cached features: images a second beside images anew (ratio)": median[_CACHED] / median[_FROZEN],
        "computing features, 1,000 images (s)": 1000 * seconds_an_image(times, images),
    }
    for name, runner in runners.items():
        figures[f"{name}: compute of a device (GFLOP a step)"] = runner.cost.flops / 1e9
        figures[f"{name}: optimizer state (MB)"] = state_bytes(runner.state.opt_state) / 1e6
    return Section("frozen", f"Frozen backbones, batch {settings.config.train.batch_size}", speeds, figures)


def seconds_an_image(times: list[float], images: int) -> float:
    """Return the median seconds an image, given the `times` at which each batch of features was done.

    All but the last are batches of the `images` training images; the last is the batch of the validation split, which
    runs another program and is left out.
    """
    times = times[:-1]
    batches = [end - start for start, end in itertools.pairwise(times)]
    return statistics.median(batches) * len(times) / images
