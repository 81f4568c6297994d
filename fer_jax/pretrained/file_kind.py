"""What a file that is given as weights is, by its first bytes, and for what is none of them one line that says so."""

import re
import zipfile
from pathlib import Path

from fer_jax.errors import InputError, shown

HDF5, SAFETENSORS, KERAS_ARCHIVE, TORCH = "HDF5", "safetensors", "Keras archive", "PyTorch"

KERAS_WEIGHTS = "model.weights.h5"
"""The weights in a `.keras` file, which is a zip archive."""

EXPECTED = "expected Keras weights (.h5, .weights.h5, .keras), .safetensors, or a PyTorch state dict (.pth, .pt, .ckpt)"

_DOWNLOAD = "download the file itself"
# By how a file begins: what it is, and what to do.
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull` in its repository"),
    (b"\x1f\x8b", "compressed by gzip; unpack it and give what is inside"),
    (b"BZh", "compressed by bzip2; unpack it and give what is inside"),
    (b"\xfd7zXZ", "compressed by xz; unpack it and give what is inside"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it and give what is inside"),
    (b"Rar!", "a RAR archive; unpack it and give what is inside"),
    (b"\x93NUMPY", f"a NumPy array; {EXPECTED}"),
    (b"\x80", "a Python pickle, which could run any code and is never unpickled; save the weights as .safetensors"),
    (b"%PDF", f"a PDF document; {_DOWNLOAD}"),
)
_SAVED_MODEL = "load it by tf_keras.models.load_model (Keras 2), and save its weights as .h5"


def kind_of_file(path: Path) -> str:
    """Return one of `HDF5`, `SAFETENSORS`, `KERAS_ARCHIVE` and `TORCH`.

    The content decides, not the name. Raises `InputError` for a file that cannot be read, a folder, and anything else,
    with what it is and what to do.
    """
    if path.is_dir():
        raise InputError(f"{path}: {_folder(path)}")
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return HDF5
    if start[8:9] == b"{" and not start.startswith(b"{"):
        return SAFETENSORS
    if start.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    # PyTorch's older format, and a state dict that was pickled by itself: torch.load tells them apart.
    if start.startswith(b"\x80\x02"):
        return TORCH
    raise InputError(f"{path}: {_other(path, start)}")


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        # PyTorch's own reader may know more of it.
        return TORCH
    if KERAS_WEIGHTS in names:
        return KERAS_ARCHIVE
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        raise InputError(
            f"{path}: a TorchScript archive, which holds a program; save torch.jit.load(FILE).state_dict() by "
            "torch.save and give that"
        )
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return TORCH
    if any(name.endswith("saved_model.pb") for name in names):
        raise InputError(f"{path}: a zip archive of a SavedModel of TensorFlow; unpack it, {_SAVED_MODEL}")
    if names and all(name.endswith(".npy") for name in names):
        raise InputError(f"{path}: NumPy arrays (.npz); {EXPECTED}")
    inside = ", ".join(names[:3]) or "nothing"
    raise InputError(f"{path}: a zip archive of {inside}; unpack it and give the file of weights inside")


def _folder(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        return f"a SavedModel folder of TensorFlow, expected a file; {_SAVED_MODEL}"
    for name in (KERAS_WEIGHTS, "model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return f"a folder, expected a file; give {path / name}"
    return "a folder, expected a file of weights"


def _other(path: Path, start: bytes) -> str:
    if not start:
        return "an empty file; copy or download it again"
    for beginning, what in _OTHERS:
        if start.startswith(beginning):
            return what
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        return f"a web page or an XML document, such as an error of a server, not the file itself; {_DOWNLOAD}"
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it and give what is inside"
    if start[4:8] == b"TFL3":
        return f"a TFLite model, whose weights are not read; {EXPECTED}"
    if path.suffix == ".onnx":
        return f"an ONNX model, whose weights are not read; {EXPECTED}"
    if path.suffix == ".pb":
        return f"a graph of TensorFlow; give the model it was made from: {_SAVED_MODEL}"
    if re.search(r"\.(index|data-\d+-of-\d+)$", path.name):
        return "a checkpoint of TensorFlow; build the Keras model, load the checkpoint into it and save it as .keras"
    if _is_text(start):
        line = text.decode("utf-8", "replace").partition("\n")[0]
        return f"a text that begins with {shown(line)}, such as an error of a server, not the file itself; {_DOWNLOAD}"
    return f"begins with {start[:8]!r}, {EXPECTED}; it may be damaged, download it again"


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n" for byte in start)
