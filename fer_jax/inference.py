"""Predictions of a trained network: exact over every image, whatever the batch size and the number of devices."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from fer_jax.config import from_json, model_spec
from fer_jax.data.resident import padded_batches
from fer_jax.models.fernet import BACKBONES
from fer_jax.training import mesh as meshes
from fer_jax.training.checkpoint import find_model
from fer_jax.training.state import model_definition
from fer_jax.training.step import predict_step


class Predictor:
    """The compiled forward pass of one network on one mesh.

    `batch_size` is rounded up to a multiple of the number of devices; the last batch is filled up, and what the
    filling gives is dropped. `flip` is that of `predict_step`.
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef,
        input_size: int,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        *,
        flip: bool = False,
    ):
        self._mesh = mesh
        self._batch_size = -(-batch_size // mesh.size) * mesh.size
        self._step = jax.jit(
            functools.partial(
                predict_step,
                graphdef=graphdef,
                input_size=input_size,
                batch_sharding=meshes.split_batch(mesh),
                flip=flip,
            ),
            out_shardings=meshes.replicated(mesh),
        )

    def __call__(
        self, params: dict, batch_stats: dict, images: jax.Array, stop: Callable[[], bool] = lambda: False
    ) -> np.ndarray | None:
        """Logits float32 [n, classes] of `images`, uint8 [n, 48, 48], on the devices of the mesh.

        `stop` is asked after each batch; None if it says so before the last one.
        """
        batches = padded_batches(len(images), min(self._batch_size, _round_up(len(images), self._mesh.size)))
        logits = []
        upcoming = self._step(params, batch_stats, images, batches[0])
        for ids in batches[1:]:
            # One batch ahead of the one that is waited for, so that the devices never wait.
            current, upcoming = upcoming, self._step(params, batch_stats, images, ids)
            logits.append(np.asarray(current))
            if stop():
                return None
        logits.append(np.asarray(upcoming))
        return np.concatenate(logits)[: len(images)]


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


class TrainedModel:
    """A model rebuilt from a checkpoint alone: its weights, and the record of how it came to be.

    Attributes:
      record: what the checkpoint tells of itself (see `fer_jax.training.run_folder.describe`).
      config: the config it was trained with.
      class_names: the names of its outputs, in order.
    """

    def __init__(self, path: str | Path):
        self._path = path
        saved = find_model(path)
        self.record = saved.record
        self.config: ConfigDict = from_json(self.record["config"])
        self.class_names: tuple[str, ...] = tuple(self.record["class_names"])
        backbones = [BACKBONES[variant["name"]].with_variant(variant) for variant in self.record["backbones"]]
        self._mesh = meshes.make_mesh()
        spec = model_spec(self.config, backbones, len(self.class_names))
        self._graphdef, *model = model_definition(spec, meshes.replicated(self._mesh))
        self._params, self._batch_stats = saved.restore(*model)

    def provenance(self) -> dict[str, str | int]:
        """Where the model comes from, for a report: data, resolution, weights, seed, and who selected the epoch."""
        record, best = self.record, self.record["best"]
        selected = "none, before the end of the first"
        if best is not None:
            selected = f"epoch {best['epoch']}, by accuracy on {record['split_roles'][record['selected_on']]}"
        return {
            "checkpoint": f"{self._path}, epoch {record['epoch']} of {self.config.train.epochs}, step {record['step']}",
            "epoch selected": selected,
            "networks": " + ".join(backbone["name"] for backbone in record["backbones"]),
            "initial weights": ", ".join(backbone["initial_weights"] for backbone in record["backbones"]),
            "resolution": f"{self.config.model.input_size} x {self.config.model.input_size} pixels",
            "seed": self.config.seed,
            "training data": f"{record['data']['source']}, {record['data']['images']['train']:,} images",
            "training data fingerprint": record["data"]["fingerprint"],
            "fer_jax": record["fer_jax"],
        }

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities float32 [n, classes] of gray images, uint8 [n, 48, 48]."""
        evaluation = self.config.eval
        predictor = Predictor(
            self._graphdef, self.config.model.input_size, evaluation.batch_size, self._mesh, flip=evaluation.flip
        )
        images = jax.device_put(images, meshes.replicated(self._mesh))
        return np.asarray(jax.nn.softmax(predictor(self._params, self._batch_stats, images), axis=-1))
