"""The proof of an export: the file, reloaded in a process that lacks this package, against the network it was made of.

The probabilities of both are compared on the same images. The network's are computed here with full float32 precision
on any device; the file's on the CPU, because an accelerator may belong to this process alone.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fer_jax.deployment import reload
from fer_jax.deployment.network import ExportNetwork
from fer_jax.errors import InputError

NUM_IMAGES = 512

_TOLERANCE = {"float32": 5e-4, "float16": 0.1}
"""The largest difference of a probability, by the storage of the kernels.

Rounding alone makes 2e-6 to 5e-5 of networks of up to 200 pixels in float32, and 0.04 with kernels in float16; a wrong
padding, activation or weight makes far more than either.
"""

_LEAST_AGREEMENT = 0.95
"""The least fraction of images with the same first class; in float32 the tolerance alone asks for more."""

_BATCH = 64


@dataclasses.dataclass(frozen=True)
class ProofImages:
    """The images of a proof.

    Attributes:
      images: uint8 [n, *image_shape].
      labels: int32 [n], or None where there are none.
      origin: what they are, in words.
    """

    images: np.ndarray
    labels: np.ndarray | None
    origin: str


def prove(path: Path, kind: str, storage: str, network: ExportNetwork, sample: ProofImages) -> dict:
    """Compare the exported file at `path` with `network`; return the proof, as JSON has it.

    Raises `InputError` if they differ by more than rounding, or if the file cannot be run.
    """
    found, versions = _reloaded(path, kind, sample.images)
    expected = _network_probabilities(network, sample.images)
    proof: dict[str, Any] = {
        "file_bytes": path.stat().st_size,
        "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": kind,
        "storage": storage,
        "reloaded_with": versions,
        "images": sample.origin,
        "number_of_images": len(sample.images),
        "max_absolute_difference": float(abs(found - expected).max()),
        "tolerance": _TOLERANCE[storage],
        "top1_agreement": float(np.mean(found.argmax(1) == expected.argmax(1))),
        # How much the probability of a class varies from image to image, at most: the scale of the difference.
        "spread_of_probabilities": float(np.ptp(expected, axis=0).max()),
    }
    if sample.labels is not None:
        for name, probabilities in (("network", expected), ("file", found)):
            proof[f"accuracy_of_{name}"] = float(np.mean(probabilities.argmax(1) == sample.labels))
    # Not a number is not within the tolerance either.
    within = proof["max_absolute_difference"] <= proof["tolerance"] and proof["top1_agreement"] >= _LEAST_AGREEMENT
    if not within:
        raise InputError(
            f"the {kind} export differs from the network by up to {proof['max_absolute_difference']:.3g} in a "
            f"probability (tolerance {proof['tolerance']:g}) and agrees in the first class on "
            f"{proof['top1_agreement']:.2%} of {len(sample.images)} images; nothing was written"
        )
    return proof


def _reloaded(path: Path, kind: str, images: np.ndarray) -> tuple[np.ndarray, dict]:
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder, "images.npy"), Path(folder, "probabilities.npy")
        np.save(given, images)
        # -P: what lies in this folder is not imported by accident.
        command = [sys.executable, "-P", reload.__file__, kind, str(path), str(given), str(result)]
        done = subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().rpartition("\n")[2]
            raise InputError(f"the {kind} export cannot be run in a fresh process ({said}); nothing was written")
        return np.load(result), json.loads(done.stdout.strip().rpartition("\n")[2])


def _network_probabilities(network: ExportNetwork, images: np.ndarray) -> np.ndarray:
    """Class probabilities float64 [n, classes], with the temperature and the softmax computed apart from the export."""
    padded = np.pad(images, [(0, -len(images) % _BATCH)] + [(0, 0)] * (images.ndim - 1))
    forward = jax.jit(network.forward)
    weights = jax.device_put((network.params, network.batch_stats))
    with jax.default_matmul_precision("highest"):
        logits = [forward(*weights, batch) for batch in padded.reshape(-1, _BATCH, *images.shape[1:])]
    scaled = np.concatenate(logits)[: len(images)].astype(np.float64) / network.temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
