"""The leak-free score: how a model does on the images that it did not see in training as another copy."""

import numpy as np

from fer_jax.data.twins import KINDS, TwinIndex
from fer_jax.evaluation.metrics import Predictions, proportion
from fer_jax.evaluation.section import PROPORTION_HEADER, Section, Table, proportion_cells


def leak_free_section(predictions: Predictions, index: TwinIndex, split: str) -> Section | None:
    """Return the section of a report on `split`, or None where near twins are not known (`TwinIndex.twins`).

    `predictions` are those of all images of the split, in its order.
    """
    if index.twins is None:
        return None
    kinds = index.kinds(split, ("train",))
    right = predictions.predicted == predictions.labels
    groups = {
        "all": np.ones(len(kinds), bool),
        "exact": kinds == KINDS.index("exact"),
        "near": (kinds >= 0) & (kinds != KINDS.index("exact")),
        "rest": kinds < 0,
    }
    content = {name: proportion(right[chosen]) for name, chosen in groups.items()}
    names = {
        "all": "all images",
        "exact": "with an exact twin in train",
        "near": "with a near or mirrored twin in train",
        "rest": "the rest, leak-free",
    }
    rows = [[names[name], *proportion_cells(score)] for name, score in content.items()]
    return Section(
        key="leak_free",
        title="Leak-free score",
        content={"twins": index.twins.source, "split": split, **content},
        paragraphs=[
            f"Images of {split} that are one photograph with a training image are remembered as much as recognised. "
            f"The list {index.twins.source} tells them apart. It says nothing of what a model whose training left "
            "twins out has seen, or of photographs that its initial weights were trained on.",
        ],
        tables=[Table(["Images", *PROPORTION_HEADER], rows)],
    )
