"""A picture of a few faces of each class, to check a data set by eye."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fer_jax.data.dataset import Dataset


def write_preview(data: Dataset, path: str | Path, rows: int = 8) -> None:
    """Write a PNG with a column for each class and the first `rows` training images of it."""
    classes = len(data.class_names)
    # A Figure of its own needs no display and leaves pyplot's state alone.
    figure = Figure(figsize=(1.1 * classes, 1.1 * rows + 0.5), layout="compressed")
    figure.suptitle(data.source)
    axes = figure.subplots(rows, classes)
    for axis in axes.flat:
        axis.set_axis_off()
    for label, name in enumerate(data.class_names):
        axes[0, label].set_title(name)
        for row, index in enumerate(np.flatnonzero(data.train.labels == label)[:rows]):
            axes[row, label].imshow(data.train.images[index], cmap="gray", vmin=0, vmax=255)
    figure.savefig(path, format="png", dpi=110)
