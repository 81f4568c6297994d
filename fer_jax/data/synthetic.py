"""Drawn faces with the seven expressions: a data set that is always available, for examples and tests.

Brows, eyes, mouth and the folds beside the nose make the expression. Its strength varies from weak to full and the
features scatter, so that neighbours (fear and surprise, angry and disgust, sad and neutral) overlap a little; pose,
size, build, light and noise vary, so that no fixed set of pixels tells the classes apart.
"""

import numpy as np

from fer_jax.data.dataset import SPLITS, Dataset, Split
from fer_jax.data.fer2013 import IMAGE_SIZE
from fer_jax.expressions import EXPRESSIONS

# Columns: brow height, brow slope (inner ends down > 0), eye opening, mouth curve (smile > 0), mouth opening,
# mouth width, nose folds, teeth. All are differences from the neutral face, in half heights of the face or fractions.
_FEATURES = ("brow", "slope", "eye", "curve", "open", "width", "fold", "teeth")
_FULL = {
    "angry": (-0.10, 0.50, -0.020, -0.10, 0.02, -0.02, 0.1, 0.0),
    "disgust": (-0.06, 0.22, -0.055, -0.10, 0.06, -0.03, 0.8, 0.3),
    "fear": (0.08, -0.38, 0.050, -0.06, 0.11, 0.03, 0.0, 0.3),
    "happy": (0.02, 0.00, -0.025, 0.20, 0.05, 0.10, 0.4, 0.8),
    "sad": (0.02, -0.40, -0.035, -0.15, 0.00, -0.05, 0.0, 0.0),
    "surprise": (0.15, -0.04, 0.065, 0.00, 0.20, -0.10, 0.0, 0.0),
    "neutral": (0.00, 0.00, 0.000, 0.00, 0.00, 0.00, 0.0, 0.0),
}
_SCATTER = (0.025, 0.09, 0.012, 0.030, 0.012, 0.025, 0.08, 0.10)

_FREQUENCIES = {"angry": 14, "disgust": 10, "fear": 14, "happy": 18, "sad": 15, "surprise": 13, "neutral": 16}
"""Percentages of the classes: mildly uneven, as no real data set is even."""

_CHUNK = 64  # Images drawn at once: their planes of float32 fit into a processor's cache.


def synthetic_faces(n_train: int, n_validation: int, n_test: int, seed: int) -> Dataset:
    """Draw three splits of faces; equal arguments give equal pixels.

    Each split has its own random stream, so its images do not depend on the sizes of the others. Row ids are numbered
    through the splits.
    """
    parts, first = {}, 0
    for index, (name, n) in enumerate(zip(SPLITS, (n_train, n_validation, n_test), strict=True)):
        rng = np.random.default_rng([seed, index])
        labels = rng.permutation(_labels(n))
        chunks = [_draw(labels[start : start + _CHUNK], rng) for start in range(0, n, _CHUNK)]
        parts[name] = Split(np.concatenate(chunks), labels, np.arange(first, first + n, dtype=np.int32))
        first += n
    source = f"synthetic faces, {n_train}/{n_validation}/{n_test}, seed {seed}"
    return Dataset(parts["train"], parts["validation"], parts["test"], source)


def _labels(n: int) -> np.ndarray:
    """Return labels int32 [n], sorted, in the proportions of `_FREQUENCIES`."""
    percentages = [_FREQUENCIES[name] for name in EXPRESSIONS]
    # The class whose share of the cumulated percentages the middle of each of n equal parts falls into.
    return np.searchsorted(np.cumsum(percentages), (np.arange(n) + 0.5) * 100 / n, side="right").astype(np.int32)


def _draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw images uint8 [n, 48, 48] of faces with these labels."""
    n = len(labels)

    def between(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    full = np.array([_FULL[name] for name in EXPRESSIONS], np.float32)[labels]
    values = full * rng.uniform(0.7, 1.1, (n, 1)) + np.array(_SCATTER) * rng.standard_normal((n, len(_FEATURES)))
    face = {name: values[:, i, None, None].astype(np.float32) for i, name in enumerate(_FEATURES)}

    # Coordinates of the head: u to the right and v down, in half heights of the face.
    size, angle = between(16.5, 22), np.radians(between(-14, 14))
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(np.float32) - (IMAGE_SIZE - 1) / 2
    x, y = x - between(-3, 3), y - between(-3, 3)
    u = (np.cos(angle) * x + np.sin(angle) * y) / size
    v = (np.cos(angle) * y - np.sin(angle) * x) / size

    def cover(distance: np.ndarray) -> np.ndarray:
        """Return how much of each pixel lies inside a shape, given signed distances to its edge in half heights."""
        return np.clip(0.5 - distance * size, 0, 1)

    light_u, light_v = between(-18, 18), between(-12, 12)
    image = between(30, 190) + between(-1, 1) * x
    skin = between(120, 215)
    shade = skin * between(0.25, 0.55)

    def paint(coverage: np.ndarray, tone: np.ndarray | float) -> None:
        nonlocal image
        image = image + coverage * (tone - image)

    breadth = between(0.68, 0.82)
    paint(cover(_ellipse(u, v + 0.08, breadth + 0.08, 1.06)), between(20, 130))
    paint(cover(_ellipse(u, v - 0.06, breadth, 0.94)), skin + light_u * u + light_v * v - 25 * u * u)

    # The head turns a little: its features shift sideways as one. Left and right are mirror images, so |u| draws both.
    u = u - between(-0.1, 0.1)
    side = np.abs(u)
    middle = between(0.31, 0.37)

    eye_v, opening = between(-0.17, -0.11), np.maximum(face["eye"] + between(0.085, 0.1), 0.02)
    eye = _ellipse(side - middle, v - eye_v, 0.17, opening)
    white = cover(eye)
    paint(cover(eye - 0.035), shade)
    paint(white, np.minimum(skin + 45, 245))
    paint(white * cover(np.hypot(side - middle, v - eye_v) - 0.075), 25)

    brow_v = eye_v - 0.21 - face["brow"]
    brow_at = np.clip(side - middle, -0.18, 0.2)
    brow = np.hypot(side - middle - brow_at, v - brow_v + face["slope"] * brow_at - 1.5 * brow_at**2)
    paint(cover(brow - between(0.03, 0.055)), between(20, 70))

    nose_at = np.clip(v, -0.05, 0.22)
    paint(0.4 * cover(np.hypot(u - 0.25 * (nose_at + 0.05), v - nose_at) - 0.02), shade)
    paint(0.8 * cover(_ellipse(side - 0.07, v - 0.25, 0.045, 0.025)), shade)
    fold_at = np.clip(v, 0.12, 0.42)
    fold = np.hypot(side - 0.17 - 0.55 * (fold_at - 0.12), v - fold_at)
    paint(np.clip(face["fold"], 0, 1) * cover(fold - 0.025), shade)

    # The lips are two parabolas that meet in the corners; `rise` is 1 in the middle of the mouth and 0 in the corners.
    width, mouth_v = face["width"] + between(0.27, 0.32), between(0.5, 0.56)
    mouth_at = np.clip(u, -width, width)
    rise = 1 - (mouth_at / width) ** 2
    line = mouth_v + face["curve"] * (rise - 0.6)
    gap = np.maximum(face["open"], 0) * rise
    outside = np.abs(u - mouth_at)
    lips = np.hypot(np.maximum(np.abs(v - line) - gap, 0), outside)
    paint(cover(lips - between(0.03, 0.045)), shade)
    inside = cover(np.maximum(np.abs(v - line) - gap, outside)) * (gap > 0.01)
    paint(inside, 20)
    paint(inside * np.clip(face["teeth"], 0, 1) * cover(v - line + 0.2 * gap), 225)

    image = (image - 128) * between(0.6, 1.1) + 128 + between(-25, 25)
    image = image + between(3, 10) * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _ellipse(x: np.ndarray, y: np.ndarray, half_width: np.ndarray | float, half_height: np.ndarray | float):
    """Return the signed distance to an ellipse around 0, to first order.

    This is the implicit function over the length of its gradient.
    """
    level = np.hypot(x / half_width, y / half_height)
    slope = np.hypot(x / half_width**2, y / half_height**2)
    return level * (level - 1) / np.maximum(slope, 1e-6)
