"""Run an exported file in a process of its own: python reload.py FORMAT FILE IMAGES.npy PROBABILITIES.npy

This is the proof's other side, so it must not know this package: it is run by its path, and refuses what the file is to
do without. It writes the probabilities of the images, the first of them computed alone and the others in batches of 73,
an odd number, and prints the versions of what ran it as JSON.
"""

import itertools
import json
import platform
import sys

_BATCH = 73


def _onnx(path):
    for name in ("jax", "jaxlib", "flax", "fer_jax", "onnx"):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails from here on
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0], {"onnxruntime": onnxruntime.__version__}


def _stablehlo(path):
    for name in ("flax", "fer_jax"):
        sys.modules[name] = None  # type: ignore[assignment]
    import zipfile

    import jax
    from jax import export

    with zipfile.ZipFile(path) as archive:
        program = export.deserialize(bytearray(archive.read("program.jax_export")))
    return jax.jit(program.call), {"jax": jax.__version__, "platform": jax.default_backend()}


def main(kind, path, images, probabilities):
    import numpy as np

    run, versions = {"onnx": _onnx, "stablehlo": _stablehlo}[kind](path)
    images = np.load(images)
    starts = [0, *range(1, len(images), _BATCH), len(images)]
    batches = [np.asarray(run(images[start:end])) for start, end in itertools.pairwise(starts)]
    np.save(probabilities, np.concatenate(batches))
    print(json.dumps({"python": platform.python_version(), "numpy": np.__version__, **versions}))


if __name__ == "__main__":
    main(*sys.argv[1:])
