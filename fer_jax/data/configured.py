"""A data set as a config asks for it: how it is read, whose labels it has, and what is left out of training."""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fer_jax.data import ferplus
from fer_jax.data.dataset import Dataset
from fer_jax.data.options import FolderOptions
from fer_jax.data.sources import load
from fer_jax.data.twins import TwinIndex
from fer_jax.errors import InputError


def load_by_config(config: ConfigDict, source: str | Path) -> Dataset:
    """Load the data set that `source` names for a training by `config`; raise `InputError` for what `load` refuses.

    It has its own labels and all its images: `as_configured` comes after it, in the training.
    """
    folder = FolderOptions(
        image_size=config.data.image_size,
        input_size=config.model.input_size,
        classes=config.data.classes,
        names=config.data.class_names,
        skip_damaged=config.data.skip_damaged,
        input=config.data.input,
    )
    return load(source, validation_fraction=config.data.validation_fraction, seed=config.seed, folder=folder)


def as_configured(config: ConfigDict, data: Dataset) -> Dataset:
    """Return `data` with the labels that `config.data` asks for, and without the training images that it leaves out.

    Raises `InputError` for votes or a list of twins that cannot be used, and where near twins are not known.
    """
    wanted = config.data.drop_twins
    dropped = np.zeros(0, np.int32) if wanted == "none" else _twins_of_other_splits(config, data)
    if config.data.votes is not None:
        votes = ferplus.read_votes(config.data.votes, data)
        data = ferplus.labelled(data, votes, config.data.vote_labels, config.data.vote_classes)
    if wanted == "none":
        return data
    kept = np.flatnonzero(~np.isin(data.train.row_ids, dropped))
    kinds = "exact twins" if wanted == "exact" else "twins of any kind"
    left_out = f"{len(data.train) - len(kept):,} training images that have {kinds} in validation or test"
    if not len(kept):
        raise InputError(f"config.data.drop_twins={wanted}: every training image of {data.source} has such a twin")
    return dataclasses.replace(data, train=data.train.subset(kept), source=f"{data.source}, without {left_out}")


def _twins_of_other_splits(config: ConfigDict, data: Dataset) -> np.ndarray:
    """Return the row ids of the training images to leave out."""
    index = TwinIndex(data, config.data.twins)
    if config.data.drop_twins == "near" and index.twins is None:
        raise InputError(
            f"config.data.drop_twins=near: {data.source} is not the whole FER2013, whose twins are known; find its own "
            "by fer-jax audit DATA --out=DIR, and give them by --config.data.twins=DIR/twins.csv, or set it to exact"
        )
    return index.to_drop(config.data.drop_twins)
