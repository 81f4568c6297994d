"""Write a trained network to one file that needs nothing of this package, and prove that it computes the same."""

import json
from typing import Any

import numpy as np
from PIL import Image

from fer_jax.config.loading import to_json
from fer_jax.data.image_files import ImageFiles
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.deployment.metadata import ExportMetadata
from fer_jax.deployment.network import ExportNetwork
from fer_jax.deployment.proof import NUM_IMAGES, ProofImages, prove
from fer_jax.deployment.request import check_request
from fer_jax.errors import InputError
from fer_jax.evaluation.data_for_model import data_for
from fer_jax.inference.model import TrainedModel
from fer_jax.storage.bucket import AnyPath
from fer_jax.storage.files import replace_file, write_text


def export_model(
    model: TrainedModel, kind: str, out: AnyPath, sample: ProofImages, *, storage: str = "float32"
) -> dict[str, Any]:
    """Export `model` to the file `out`, and its proof to `out` with `.proof.json` after its name; return the proof.

    Args:
      model: the network, which is exported as its config evaluates it, with `eval.flip`, and its temperature.
      kind: one of `fer_jax.deployment.request.SUFFIXES`.
      out: the file to write; it is replaced if it exists, but only by a file that was proved.
      sample: the images of the proof.
      storage: of the kernels, one of `fer_jax.deployment.onnx_graph.STORAGES`.

    Raises `InputError` if the proof fails, or the file cannot be written; `out` is then what it was before.
    """
    check_request(kind, out, storage)
    fitted = model.stored_temperature()
    network = ExportNetwork(
        model.spec,
        *model.weights(),
        model.image_shape,
        flip=model.config.eval.flip,
        temperature=fitted.temperature if fitted else 1.0,
    )
    source = model.provenance()
    if fitted:
        source["temperature fitted on"] = f"{fitted.fitted_on}, {fitted.images:,} images"
    metadata = ExportMetadata(
        class_names=tuple(model.class_names),
        input_size=(model.image_shape[0], model.image_shape[1]),
        channels=3 if len(model.image_shape) == 3 else 1,
        temperature=network.temperature,
        config=json.loads(to_json(model.config)),
        source=source,
    )
    try:
        with replace_file(out) as beside:
            if kind == "onnx":
                import onnx

                from fer_jax.deployment.onnx_graph import onnx_model

                onnx.save(onnx_model(network, metadata, storage), beside)
            else:
                from fer_jax.deployment.stablehlo import write_stablehlo

                write_stablehlo(beside, network, metadata)
            proof = {"file": out.name} | prove(beside, kind, storage, network, sample)
        write_text(out.with_name(f"{out.name}.proof.json"), json.dumps(proof, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    return proof


def drawn_images(image_shape: tuple[int, ...]) -> ProofImages:
    """Return drawn faces of the shape that a network takes, without labels: what they show is no photo's expression."""
    faces = np.asarray(synthetic_faces(8, 8, NUM_IMAGES, seed=0).test.images)
    size = image_shape[1], image_shape[0]
    images = np.stack([np.asarray(Image.fromarray(face).resize(size, Image.Resampling.BILINEAR)) for face in faces])
    if len(image_shape) == 3:
        # Channels that differ, so that their order matters.
        images = (images[..., None] * np.array([1.0, 0.8, 0.6])).astype(np.uint8)
    return ProofImages(images, None, f"{NUM_IMAGES} drawn faces")


def images_of_source(source: str, split: str, model: TrainedModel) -> ProofImages:
    """Return up to `NUM_IMAGES` labelled images, evenly from the split of a data set, named as for training.

    Raises `InputError` if its images or classes are not those of the model, or if the split is empty.
    """
    data = data_for(model, source, split)
    if data.image_shape != model.image_shape:
        raise InputError(f"{source}: has images of {data.image_shape} pixels; the model takes {model.image_shape}")
    found = data.split(split)
    chosen = np.linspace(0, len(found) - 1, min(NUM_IMAGES, len(found))).round().astype(int)
    images = found.images.subset(chosen).read() if isinstance(found.images, ImageFiles) else found.images[chosen]
    return ProofImages(images, found.labels[chosen], f"{len(chosen)} of {data.source}, {data.describe_split(split)}")
