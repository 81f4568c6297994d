"""Find faces in photographs: the network CenterFace (`centerface.md`) through onnxruntime, decoded with NumPy."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from fer_jax.errors import InputError

MODEL = Path(__file__).with_name("centerface.onnx")

SMALLEST, LARGEST = 320, 640
"""Pixels of the longer side that the network sees: larger pictures are made smaller, small ones larger."""

_STRIDE = 32  # The network halves its input five times.
_CELL = 4  # Pixels of a cell of its outputs.
_OVERLAP = 0.3  # Of two boxes whose intersection is more of their union, the one with the lower score goes.


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a picture: the box (left, top, right, bottom) in pixels of the picture, and its score, 0 to 1."""

    box: tuple[float, float, float, float]
    score: float


class FaceDetector:
    """Finds the faces of a picture whose score is at least `threshold`.

    `threads` is how many processor cores a call uses; 0 leaves it to onnxruntime. Calls from several threads are safe.

    Raises:
      InputError: onnxruntime is not installed.
    """

    def __init__(self, threshold: float = 0.5, threads: int = 0):
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                "finding faces needs onnxruntime, which is not installed: pip install 'fer_jax[faces]', or tell with "
                "--faces=whole that every picture is a face"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self._threshold = threshold

    def __call__(self, picture: Image.Image) -> list[Face]:
        """Return the faces of `picture`, of any mode that Pillow converts to RGB, the highest score first."""
        longer = max(picture.size)
        scale = min(max(longer, SMALLEST), LARGEST) / longer
        # Whole strides, so that the proportions change a little.
        width, height = (max(1, round(side * scale / _STRIDE)) * _STRIDE for side in picture.size)
        resized = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, np.float32).transpose(2, 0, 1)[None]
        heatmap, size, offset = self._session.run(None, {"images": pixels})
        boxes, scores = decode(heatmap[0, 0], size[0], offset[0], self._threshold)
        boxes *= np.tile(np.array(picture.size) / (width, height), 2)
        boxes = np.clip(boxes, 0, np.tile(picture.size, 2))
        return [Face(tuple(boxes[i].tolist()), float(scores[i])) for i in suppressed(boxes, scores)]


def decode(
    heatmap: np.ndarray, size: np.ndarray, offset: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes float64 [n, 4] (left, top, right, bottom) in pixels of the network's input, and scores [n].

    `heatmap` float32 [rows, columns], `size` and `offset` float32 [2, rows, columns], rows before columns.
    """
    row, column = np.nonzero(heatmap >= threshold)
    middle = (np.stack([row, column]) + offset[:, row, column] + 0.5) * _CELL
    half = np.exp(size[:, row, column].astype(np.float64)) * _CELL / 2
    (top, left), (bottom, right) = middle - half, middle + half
    return np.stack([left, top, right, bottom], axis=1), heatmap[row, column]


def suppressed(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Return the indices of `boxes` [n, 4] that no kept box with a higher score overlaps, the highest score first."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        corner, opposite = np.maximum(boxes[best, :2], boxes[order, :2]), np.minimum(boxes[best, 2:], boxes[order, 2:])
        common = np.prod(np.maximum(opposite - corner, 0), axis=1)
        order = order[common <= _OVERLAP * (areas[best] + areas[order] - common)]
    return kept
