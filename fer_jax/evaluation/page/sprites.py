"""Many small images as few large ones, which a page carries inside and shows piece by piece."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fer_jax.data.image_files import ImageFiles

SIDE = 48
"""Pixels of a tile, as FER2013 has them."""

COLUMNS = 32
_TILES = 512


@dataclasses.dataclass(frozen=True)
class Sprites:
    """Sheets of `COLUMNS` tiles of `SIDE` x `SIDE` pixels a row, as `data:` addresses; tile i stands in sheet i // 512.

    `rows` are the rows of tiles of each sheet.
    """

    sheets: Sequence[str]
    rows: Sequence[int]
    tiles_a_sheet: int = _TILES


def make_sprites(images: np.ndarray | ImageFiles, indices: np.ndarray) -> Sprites:
    """Return the images at `indices`, integers [m], in this order; others than `SIDE` pixels large are resized.

    `images` are uint8 [n, size, size] or [n, size, size, 3], an array or files. Sheets are WebP of quality 80: some
    600 bytes a face.
    """
    sheets, rows = [], []
    for start in range(0, len(indices), _TILES):
        chosen = indices[start : start + _TILES]
        part = images.subset(chosen).read() if isinstance(images, ImageFiles) else images[chosen]
        height = -(-len(chosen) // COLUMNS)
        sheet = Image.new("RGB" if part.ndim == 4 else "L", (COLUMNS * SIDE, height * SIDE))
        for i, pixels in enumerate(part):
            tile = Image.fromarray(pixels)
            if tile.width != SIDE:
                tile = tile.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
        buffer = io.BytesIO()
        sheet.save(buffer, format="WEBP", quality=80, method=2)
        sheets.append("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode())
        rows.append(height)
    return Sprites(sheets, rows)
