"""Measure an exported ONNX file in onnxruntime beside the same network in JAX."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from fer_jax.benchmarking.rounds import Speed, interleave, timed
from fer_jax.benchmarking.section import Section, Settings
from fer_jax.data.fer2013 import IMAGE_SIZE
from fer_jax.deployment.metadata import ExportMetadata
from fer_jax.deployment.network import ExportNetwork
from fer_jax.errors import InputError
from fer_jax.expressions import EXPRESSIONS
from fer_jax.models.build import model_spec
from fer_jax.models.fernet import BACKBONES
from fer_jax.training.state import create_model


def exports(settings: Settings) -> Section:
    """Measure both formats from uint8 images to probabilities, one image at a time and in batches of the evaluation.

    JAX runs the program that a StableHLO export holds. A round has `steps` batches, or 16 times as many single images.
    """
    try:
        import onnx

        from fer_jax.deployment.onnx_graph import onnx_model
        from fer_jax.deployment.onnx_model import OnnxModel
    except ImportError as error:
        raise InputError("--what=exports: needs onnx and onnxruntime; pip install 'fer_jax[onnx]'") from error
    config = settings.config
    spec = model_spec(config, [BACKBONES[name] for name in config.model.backbones], len(EXPRESSIONS))
    network = ExportNetwork(spec, *create_model(spec, config.seed), (IMAGE_SIZE, IMAGE_SIZE), flip=config.eval.flip)
    metadata = ExportMetadata(
        class_names=EXPRESSIONS, input_size=(IMAGE_SIZE, IMAGE_SIZE), channels=1, temperature=1.0, config={}, source={}
    )
    with tempfile.TemporaryDirectory(prefix="fer_jax_benchmark_") as folder:
        path = Path(folder, "network.onnx")
        onnx.save(onnx_model(network, metadata), path)
        by_onnxruntime = OnnxModel(path).predict
    in_jax = jax.jit(network.probabilities)

    figures: dict[str, float] = {}
    speeds: dict[str, Speed] = {}
    for size in sorted({1, config.eval.batch_size}):
        images = np.random.default_rng(0).integers(0, 256, (size, *network.image_shape), dtype=np.uint8)
        here: dict[str, Callable[[np.ndarray], jax.Array | np.ndarray]] = {
            f"JAX, batch {size}": in_jax,
            f"onnxruntime, batch {size}": by_onnxruntime,
        }
        runners = {name: timed(functools.partial(_computed, run, images), size) for name, run in here.items()}
        found = interleave(runners, rounds=settings.rounds, steps=settings.steps * (16 if size == 1 else 1))
        jax_speed, onnx_speed = (speed.median for speed in found.values())
        figures[f"onnxruntime beside JAX, batch {size} (ratio)"] = onnx_speed / jax_speed
        speeds |= found
    return Section("exports", f"Exports, {'with' if config.eval.flip else 'without'} the mirror image", speeds, figures)


def _computed(run: Callable[[np.ndarray], jax.Array | np.ndarray], images: np.ndarray) -> np.ndarray:
    return np.asarray(run(images))
