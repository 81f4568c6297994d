"""Predictions of a trained network: exact over every image, whatever the batch size and the number of devices."""

import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from fer_jax.config import from_json, model_spec
from fer_jax.data.fer2013 import IMAGE_SIZE
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.resident import RESIDENT_LIMIT, padded_batches
from fer_jax.data.streaming import in_order
from fer_jax.models.fernet import BACKBONES
from fer_jax.training import depthwise_tuning, hosts
from fer_jax.training import mesh as meshes
from fer_jax.training.checkpoint import find_model
from fer_jax.training.state import model_definition
from fer_jax.training.step import predict_batch, predict_step


class Predictor:
    """The compiled forward pass of one network on one mesh.

    `batch_size` is the most images of a batch, rounded up to a multiple of the number of devices, see
    `even_batch_size`; the last batch is filled up, and what the filling gives is dropped. `flip` and `cached` are those
    of `predict_batch`.
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef,
        input_size: int,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        *,
        flip: bool = False,
        cached: bool = False,
    ):
        self._mesh = mesh
        self._batch_size = _round_up(batch_size, mesh.size)
        fixed = {"graphdef": graphdef, "input_size": input_size, "flip": flip, "cached": cached}
        self._split_batch = meshes.split_batch(mesh)
        self._step = jax.jit(
            functools.partial(predict_step, **fixed, batch_sharding=self._split_batch),
            out_shardings=meshes.replicated(mesh),
        )
        self._batch_step = jax.jit(functools.partial(predict_batch, **fixed), out_shardings=meshes.replicated(mesh))
        self._compiled = False

    def __call__(
        self,
        params: dict,
        batch_stats: dict,
        images: jax.Array | np.ndarray | ImageFiles,
        stop: Callable[[], bool] = lambda: False,
    ) -> np.ndarray | None:
        """Logits float32 [n, classes] of `images`, uint8 [n, size, size] or [n, size, size, 3].

        Images on the devices of the mesh are taken from there; an array on the host or files are streamed to them.
        `stop` is asked after each batch; None if it says so before the last one.
        """
        batch_size = even_batch_size(len(images), self._batch_size, self._mesh.size)
        if isinstance(images, jax.Array):
            step = self._step
            batches = ((images, ids) for ids in padded_batches(len(images), batch_size))
        else:
            step = self._batch_step
            batches = ((batch,) for batch in in_order(images, batch_size, self._split_batch))
        first = next(batches)
        if not self._compiled:
            # The call below takes it from JAX's cache. Processes compile at different speeds.
            step.lower(params, batch_stats, *first).compile()
            hosts.wait_for_all("has compiled the evaluation")
            self._compiled = True
        steps = (step(params, batch_stats, *batch) for batch in itertools.chain([first], batches))
        logits = []
        upcoming = next(steps)
        for following in steps:
            # One batch ahead of the one that is waited for, so that the devices never wait.
            current, upcoming = upcoming, following
            logits.append(np.asarray(current))
            if stop():
                return None
        logits.append(np.asarray(upcoming))
        return np.concatenate(logits)[: len(images)]

    def each(
        self,
        params: dict,
        batch_stats: dict,
        splits: Mapping[str, jax.Array | np.ndarray | ImageFiles],
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, np.ndarray] | None:
        """The logits of each of `splits`, by name; None if `stop` says so before the last batch of any of them."""
        logits = {}
        for name, images in splits.items():
            found = self(params, batch_stats, images, stop)
            if found is None:
                return None
            logits[name] = found
        return logits


def even_batch_size(num_images: int, most: int, multiple: int) -> int:
    """The smallest multiple of `multiple` for which `num_images` still fit into as few batches as of `most` images.

    So little of the last batch is filling: FER2013's 3,589 images at 256 a batch take 15 batches, of 240.
    """
    batches = max(1, -(-num_images // most))
    return _round_up(-(-num_images // batches), multiple)


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


class TrainedModel:
    """A model rebuilt from a checkpoint alone: its weights, and the record of how it came to be.

    Attributes:
      record: what the checkpoint tells of itself (see `fer_jax.training.run_folder.describe`).
      config: the config it was trained with.
      class_names: the names of its outputs, in order.
      image_shape: (size, size) if it was trained on gray images, (size, size, 3) if on RGB, in pixels.
    """

    def __init__(self, path: str | Path):
        self._path = path
        saved = find_model(path)
        self.record = saved.record
        self.config: ConfigDict = from_json(self.record["config"])
        self.class_names: tuple[str, ...] = tuple(self.record["class_names"])
        # Before there was a choice, all images were those of FER2013.
        self.image_shape: tuple[int, ...] = tuple(self.record["data"].get("image_shape", (IMAGE_SIZE, IMAGE_SIZE)))
        backbones = [BACKBONES[variant["name"]].with_variant(variant) for variant in self.record["backbones"]]
        self._mesh = meshes.make_mesh()
        choices = depthwise_tuning.from_json(self.record.get(depthwise_tuning.KEY, []), str(path))
        spec = model_spec(self.config, backbones, len(self.class_names), choices)
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

    def probabilities(self, images: np.ndarray | ImageFiles) -> np.ndarray:
        """Class probabilities float32 [n, classes] of images uint8 [n, size, size] or [n, size, size, 3].

        Images of any size are resized to the model's input as in training, by bilinear interpolation without a
        filter: bring much larger ones to `image_shape` before (`fer_jax.data.image_files.decode`). RGB images become
        gray for a model that was trained on gray ones; gray ones are seen as RGB with three equal channels. More than
        `RESIDENT_LIMIT` bytes, and files, are streamed to the devices.
        """
        if isinstance(images, np.ndarray) and images.ndim > len(self.image_shape) + 1:
            images = _gray(images)
        if isinstance(images, np.ndarray) and images.nbytes <= RESIDENT_LIMIT:
            images = jax.device_put(images, meshes.replicated(self._mesh))
        evaluation = self.config.eval
        predictor = Predictor(
            self._graphdef, self.config.model.input_size, evaluation.batch_size, self._mesh, flip=evaluation.flip
        )
        return np.asarray(jax.nn.softmax(predictor(self._params, self._batch_stats, images), axis=-1))


def _gray(images: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) of RGB images, uint8 [n, h, w], rounded as Pillow does when a file is read as gray."""
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)
