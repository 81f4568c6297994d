"""What an export is asked for, checked before anything of it is imported or read."""

import importlib.util

from fer_jax.errors import InputError
from fer_jax.storage.bucket import AnyPath, BucketPath
from fer_jax.storage.files import try_writing

SUFFIXES = {"stablehlo": ".stablehlo", "onnx": ".onnx"}
"""The formats, and what the names of their files end in."""


def check_request(kind: str, out: AnyPath, storage: str) -> None:
    """Raise `InputError` for what can be known before the model is read, so that no long work is lost."""
    if out.suffix != SUFFIXES[kind]:
        raise InputError(f"--out {out}: expected a name that ends in {SUFFIXES[kind]} for --format={kind}")
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder; expected the name of the file to write")
    if kind != "onnx" and storage != "float32":
        raise InputError(f"--storage={storage}: only --format=onnx has it; leave the option out")
    for package in {"onnx": ("onnx", "onnxruntime"), "stablehlo": ("flatbuffers",)}[kind]:
        if importlib.util.find_spec(package) is None:
            advice = "pip install 'fer_jax[onnx]'" if kind == "onnx" else f"pip install {package}"
            raise InputError(f"--format={kind}: needs the package {package}; {advice}")
    if isinstance(out, BucketPath):
        return
    try:
        try_writing(out.parent)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error})") from error
