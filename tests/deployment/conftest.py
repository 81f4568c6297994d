"""A tiny network whose outputs depend on its input, to export."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from fer_jax.deployment.export import export_model
from fer_jax.deployment.metadata import ExportMetadata
from fer_jax.deployment.network import ExportNetwork
from fer_jax.deployment.proof import ProofImages
from fer_jax.inference.model import TrainedModel
from fer_jax.models.backbone import Preprocessing
from fer_jax.models.fernet import FerNetSpec
from fer_jax.testing import MINI, TINY
from fer_jax.training.state import model_definition


def _drawn(weights):
    """Arrays like `weights`, a pytree, such that the network's answers differ from image to image.

    Nothing hides behind a factor of one or a bias of zero.
    """
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        kind, values = path[-1].key, rng.standard_normal(leaf.shape)
        if kind == "kernel":
            depthwise = leaf.ndim == 4 and leaf.shape[2] == 1
            values *= np.sqrt(2 / np.prod(leaf.shape[:2] if depthwise else leaf.shape[:-1]))
        elif kind in ("scale", "var"):
            values = np.exp(0.3 * values)
        else:
            values *= 0.3
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, weights)


@pytest.fixture(scope="session")
def make_network() -> Callable[..., ExportNetwork]:
    """Return a hybrid of `TINY` and `MINI` at 24 pixels with weights by NumPy; fields of its spec may be given.

    Nothing is compiled.
    """

    def make(*, image_shape=(20, 20), flip=False, temperature=1.0, **fields) -> ExportNetwork:
        # Other conventions than the first backbone's.
        preprocessing = Preprocessing(mean=(110.0, 120.0, 130.0), std=(60.0, 50.0, 70.0))
        second = dataclasses.replace(MINI, padding="symmetric", preprocessing=preprocessing, batch_norm_epsilon=1e-5)
        spec = FerNetSpec(**{"backbones": (TINY, second), "input_size": 24, "hidden_units": (12,)} | fields)
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        weights = _drawn(model_definition(spec, here)[1:])
        return ExportNetwork(spec, *weights, image_shape, flip, temperature)

    return make


@pytest.fixture(scope="session")
def metadata_of() -> Callable[[ExportNetwork], ExportMetadata]:
    """Return the metadata of a network whose classes are called a, b, c, ..."""

    def metadata(network: ExportNetwork) -> ExportMetadata:
        return ExportMetadata(
            class_names=tuple("abcdefghij"[: network.spec.num_classes]),
            input_size=network.image_shape[:2],
            channels=3 if len(network.image_shape) == 3 else 1,
            temperature=network.temperature,
            config={"model": {"input_size": network.spec.input_size}},
            source={"checkpoint": "drawn"},
        )

    return metadata


@pytest.fixture(scope="session")
def trained(whole_run) -> TrainedModel:
    """The best epoch of `whole_run`, with other weights: three epochs hardly teach it to tell images apart."""
    model = TrainedModel(whole_run[0])
    model._params, model._batch_stats = _drawn(model.weights())
    return model


@pytest.fixture(scope="session")
def exported(trained, faces, tmp_path_factory) -> dict[str, tuple[Path, dict]]:
    """Both formats of a trained run, the ONNX one proved on labelled images, with what the proofs say."""
    folder = tmp_path_factory.mktemp("exported")
    test = faces.test
    sample = ProofImages(test.images, test.labels, "17 faces")
    files = {kind: folder / f"model.{kind}" for kind in ("onnx", "stablehlo")}
    return {kind: (path, export_model(trained, kind, path, sample)) for kind, path in files.items()}
