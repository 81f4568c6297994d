"""Find pictures that are the same photograph: a fast look at all pairs, then a close one at the likely ones.

Only details are compared, an image minus a Gaussian: they survive another crop or brightness. They are clipped, so that
a watermark counts for no more than the face around it. The fast look correlates every image with every later one, and
with its mirror image: at 24 x 24 pixels in place, and at 10 x 10 pixels shifted. The close look is the largest
normalised correlation over small shifts; where that leaves doubt, also of images turned or scaled a little. On FER2013
the similarity has two humps, of different photographs and of one, with a valley at 0.70; perceptual hashes find half of
these pairs at best.
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft
import scipy.sparse
from scipy.ndimage import gaussian_filter1d

SIZE = 48
"""Height and width in pixels at which pictures are compared: that of FER2013."""

THRESHOLD = 0.70
"""The least similarity of the same photograph: the valley on FER2013."""

_SIGMA = 3.0  # pixels; of the Gaussian that is subtracted
_SHIFT = 5  # pixels to either side
_INNER = SIZE - 2 * _SHIFT
_CLIP = 1.5  # standard deviations of the details of an image, estimated from their median
_WARPS = ((-5.0, 1.0), (5.0, 1.0), (0.0, 0.92), (0.0, 1 / 0.92))  # degrees, and the scale
_DOUBT = 0.22  # below the threshold: there a twin that is turned by 5 degrees or scaled by a tenth may be
_WARPED = 0.06  # more likeness is asked of images that are warped, since they have more chances of it
_MIRRORED = 0.05  # and of mirrored ones, since these are rare: at the same likeness more of them are two photographs
_LOOKS = ((2, 24, ((0, 0),)), (4, 10, ((0, 0), (-3, -3), (-3, 3), (3, -3), (3, 3))))
"""Of the fast look: pixels to the side of a cell, cells to the side of the middle part, and its shifts in pixels."""
_CANDIDATES = 10  # of each image, by each kind of fast look
_ROWS, _PAIRS = 512, 2048  # looked at at once
_GROUPS = 64

Progress = Callable[[str, float], None]
"""Is told what is done and which part of it, from 0 to 1."""


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of indices `first` < `second`, int32 [m], of one photograph.

    `similarity` float32 [m] is at most 1; `mirrored` bool [m] tells where the second is like the mirror image of the
    first.
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray
    mirrored: np.ndarray


def same_photographs(
    images: np.ndarray, threshold: float = THRESHOLD, progress: Progress = lambda what, part: None
) -> Pairs:
    """Return the pairs of `images`, uint8 [n, 48, 48], that are one photograph: similar by at least `threshold`.

    Of mirrored ones a little more is asked.
    """
    details = _clipped(high_pass(images))
    first, second, mirrored = _candidates(details, progress)
    similarity = _verified(details, first, second, mirrored, threshold, progress)
    found = similarity >= threshold + _MIRRORED * mirrored
    pairs = Pairs(first[found], second[found], similarity[found], mirrored[found])
    return _best_of_each(pairs)


def high_pass(images: np.ndarray) -> np.ndarray:
    """Return `images` [n, 48, 48] minus their Gaussian blur, float32."""
    blur = gaussian_filter1d(np.eye(images.shape[-1], dtype=np.float32), _SIGMA, axis=0)
    images = images.astype(np.float32)
    return images - blur @ images @ blur.T


def _clipped(details: np.ndarray) -> np.ndarray:
    deviation = 1.4826 * np.median(np.abs(details), axis=(1, 2), keepdims=True)
    # At least a gray level, for drawings on an even ground: half of their details are none.
    return np.clip(details, *(sign * _CLIP * (deviation + 1) for sign in (-1, 1)))


def _normalised(planes: np.ndarray) -> np.ndarray:
    """Return `planes` [n, h, w] with mean 0 and length 1; 0 where a plane is constant but for rounding."""
    planes = planes - planes.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt(np.square(planes).sum(axis=(1, 2), keepdims=True))
    return np.divide(planes, length, out=np.zeros_like(planes), where=length > 1e-3)


def _halves(details: np.ndarray, cell: int, cells: int, shift: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the even and the odd part under mirroring of the middle of `details`, shifted, float32 [n, cells² / 2].

    The products of even and of odd parts add up to the correlation with an image; their difference is that with its
    mirror image.
    """
    width = cell * cells
    top, left = ((SIZE - width) // 2 + pixels for pixels in shift)
    part = details[:, top : top + width, left : left + width].reshape(len(details), cells, cell, cells, cell)
    small = _normalised(part.mean(axis=(2, 4), dtype=np.float32))
    left_half, right_half = small[:, :, : cells // 2], small[:, :, : cells // 2 - 1 : -1]
    return tuple(
        ((left_half + sign * right_half) / np.sqrt(np.float32(2))).reshape(len(details), -1) for sign in (1, -1)
    )


def _candidates(details: np.ndarray, progress: Progress) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `first`, `second` and `mirrored` of the likely pairs, each once."""
    n = len(details)
    looks = [[_halves(details, cell, cells, shift) for shift in shifts] for cell, cells, shifts in _LOOKS]
    found = []
    for start in range(0, n - 1, _ROWS):
        # Only later images: each pair comes up once, from its first.
        rows, columns = slice(start, min(start + _ROWS, n)), slice(start + 1, n)
        indices = np.arange(n, dtype=np.int32)
        not_later = indices[None, columns] <= indices[rows, None]
        for shifted in looks:
            even, odd = (half[columns].T for half in shifted[0])
            same, mirrored = _best_scores(shifted, rows, even, odd)
            for flag, scores in ((False, same), (True, mirrored)):
                scores[not_later] = -np.inf
                row, column = _largest(scores, _CANDIDATES)
                found.append((np.int64(row + start) * n + column + start + 1) * 2 + flag)
        progress("looking for candidates", min(1, 1 - (1 - rows.stop / n) ** 2))
    codes = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
    first, second = np.divmod(codes // 2, max(n, 1))
    return first.astype(np.int32), second.astype(np.int32), (codes % 2).astype(bool)


def _best_scores(
    shifted: Sequence[tuple[np.ndarray, np.ndarray]], rows: slice, even: np.ndarray, odd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest correlation over the shifts with the images `even`, `odd`, and with their mirror images."""

    def scores(ours: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        of_even, of_odd = ours[0][rows] @ even, ours[1][rows] @ odd
        return of_even + of_odd, of_even - of_odd

    same, mirrored = scores(shifted[0])
    for others in map(scores, shifted[1:]):
        np.maximum(same, others[0], out=same)
        np.maximum(mirrored, others[1], out=mirrored)
    return same, mirrored


def _largest(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the `k` largest finite values in each row of `scores` [m, n]."""
    m, n = scores.shape
    width = n // _GROUPS
    columns = np.broadcast_to(np.arange(n), (m, n))
    if width > 4 * k:
        # The largest values lie in the groups with the largest maxima, which are found much faster.
        whole = width * _GROUPS
        tops = scores[:, :whole].reshape(m, _GROUPS, width).max(axis=1)
        groups = np.argpartition(tops, -k, axis=1)[:, -k:]
        inside = (groups[:, None, :] + width * np.arange(_GROUPS)[None, :, None]).reshape(m, -1)
        columns = np.concatenate([inside, np.broadcast_to(np.arange(whole, n), (m, n - whole))], axis=1)
        scores = np.take_along_axis(scores, columns, axis=1)
    k = min(k, scores.shape[1])
    chosen = np.argpartition(scores, -k, axis=1)[:, -k:]
    finite = np.isfinite(np.take_along_axis(scores, chosen, axis=1))
    rows = np.broadcast_to(np.arange(m)[:, None], chosen.shape)
    return rows[finite], np.take_along_axis(columns, chosen, axis=1)[finite]


def _verified(
    details: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    mirrored: np.ndarray,
    threshold: float,
    progress: Progress,
) -> np.ndarray:
    """Return the similarity of each pair, float32 [m]."""
    lengths = _window_lengths(details)

    def compare(part: np.ndarray, warp: scipy.sparse.csr_array | None = None) -> np.ndarray:
        ours = details[first[part]]
        if warp is not None:
            ours = (warp @ ours.reshape(len(part), -1).T).T.reshape(ours.shape)
        return _similarity(ours, details[second[part]], lengths[second[part]], mirrored[part])

    similarity = np.zeros(len(first), np.float32)
    with ThreadPoolExecutor() as pool:
        for warp in (None, *(_warping(*values) for values in _WARPS)):
            where, what, handicap = np.arange(len(first)), "comparing candidates", 0.0
            if warp is not None:
                where = np.flatnonzero((similarity >= threshold - _DOUBT) & (similarity < threshold))
                what, handicap = "warping what is doubtful", _WARPED
            parts = [where[start : start + _PAIRS] for start in range(0, len(where), _PAIRS)]
            for index, found in enumerate(pool.map(lambda part, warp=warp: compare(part, warp), parts)):
                similarity[parts[index]] = np.maximum(similarity[parts[index]], found - handicap)
                progress(what, (index + 1) / len(parts))
    return similarity


def _warping(degrees: float, scale: float) -> scipy.sparse.csr_array:
    """Return the bilinear rotation and scaling of a plane of 48 x 48 pixels, a matrix [2304, 2304] for its pixels."""
    angle, centre = np.radians(degrees), (SIZE - 1) / 2
    y, x = (np.mgrid[:SIZE, :SIZE] - centre) / scale
    rows, columns = np.cos(angle) * y - np.sin(angle) * x + centre, np.sin(angle) * y + np.cos(angle) * x + centre
    # What lies beyond the border is the pixel on it.
    rows, columns = (np.clip(values, 0, SIZE - 1).ravel() for values in (rows, columns))
    top, left = (np.minimum(values.astype(int), SIZE - 2) for values in (rows, columns))
    down, right = rows - top, columns - left
    weights, sources = [], []
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weights.append((down if dy else 1 - down) * (right if dx else 1 - right))
        sources.append((top + dy) * SIZE + left + dx)
    pixels = np.tile(np.arange(SIZE**2), 4)
    matrix = (np.concatenate(weights).astype(np.float32), (pixels, np.concatenate(sources)))
    return scipy.sparse.csr_array(matrix, shape=(SIZE**2, SIZE**2))


def _similarity(ours: np.ndarray, theirs: np.ndarray, lengths: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Return the largest normalised correlation of the inner parts of `ours` with `theirs`, over all shifts.

    `lengths` are the `_window_lengths` of `theirs`, which are mirrored where `mirrored`: both are overwritten.
    """
    inner = _normalised(ours[:, _SHIFT:-_SHIFT, _SHIFT:-_SHIFT])
    theirs[mirrored] = theirs[mirrored, :, ::-1]
    lengths[mirrored] = lengths[mirrored, :, ::-1]
    # Circular, but no shift that counts reaches across the border.
    size = (SIZE, SIZE)
    product = np.conj(scipy.fft.rfft2(inner, size)) * scipy.fft.rfft2(theirs)
    shifts = 2 * _SHIFT + 1
    correlation = scipy.fft.irfft2(product, size)[:, :shifts, :shifts]
    found = np.divide(correlation, lengths, out=np.zeros_like(correlation), where=lengths > 0)
    return found.max(axis=(1, 2))


def _window_lengths(details: np.ndarray) -> np.ndarray:
    """Return the length of each window of `details` minus its mean, float32 [n, 11, 11]; 0 where it is constant."""

    def sums(planes: np.ndarray) -> np.ndarray:
        for axis in (1, 2):
            totals = np.insert(np.cumsum(planes, axis=axis), 0, 0, axis=axis)
            ends = np.arange(_INNER, SIZE + 1)
            planes = np.take(totals, ends, axis=axis) - np.take(totals, ends - _INNER, axis=axis)
        return planes

    lengths = []
    for part in np.array_split(details, max(1, len(details) // _PAIRS)):
        exact = part.astype(np.float64)
        variance = sums(exact**2) - sums(exact) ** 2 / _INNER**2
        length = np.sqrt(np.maximum(variance, 0))
        lengths.append(np.where(length > 1e-3, length, 0).astype(np.float32))
    return np.concatenate(lengths)


def _best_of_each(pairs: Pairs) -> Pairs:
    """Keep each pair of images once: the better of as it is and mirrored."""
    order = np.lexsort((-pairs.similarity, pairs.second, pairs.first))
    ordered = Pairs(*(getattr(pairs, field.name)[order] for field in dataclasses.fields(Pairs)))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(ordered.first) != 0) | (np.diff(ordered.second) != 0)
    return Pairs(*(getattr(ordered, field.name)[new] for field in dataclasses.fields(Pairs)))
