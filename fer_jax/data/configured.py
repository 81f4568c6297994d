"""What a config makes of a data set, however that was read: whose labels it has."""

from ml_collections import ConfigDict

from fer_jax.data import ferplus
from fer_jax.data.dataset import Dataset


def as_configured(config: ConfigDict, data: Dataset) -> Dataset:
    """Return `data` with the labels that `config.data` asks for.

    Raises `InputError`, which begins with the key, for votes that cannot be used.
    """
    if config.data.votes is None:
        return data
    votes = ferplus.read_votes(config.data.votes, data)
    return ferplus.labelled(data, votes, config.data.vote_labels, config.data.vote_classes)
