"""The data that a trained model is evaluated on, read in the form that the model takes."""

from fer_jax.data.dataset import SPLITS, Dataset
from fer_jax.data.options import FolderOptions
from fer_jax.data.sources import load
from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel


def load_for(model: TrainedModel, source: str, **options) -> Dataset:
    """Load `source`, as for train.py, with images of the size and colour of `model`, and split as it was for training.

    `options` are further ones of `FolderOptions`. Raises `InputError` for what `load` refuses.
    """
    folder = FolderOptions(
        image_size=model.image_shape[0],
        colour=len(model.image_shape) == 3,
        class_names=model.class_names,
        input=model.config.data.input,
        **options,
    )
    fraction = model.config.data.validation_fraction
    return load(source, validation_fraction=fraction, seed=model.config.seed, folder=folder)


def data_for(
    model: TrainedModel, source: str, split: str, *, names: str | None = None, skip_damaged: bool = False
) -> Dataset:
    """Return the data that `source` names, as for train.py, with images of the size and colour of `model`.

    `names` and `skip_damaged` are those of `FolderOptions`.

    Raises `InputError` for what `load` refuses, for other classes than the model's, and where `split` has no image.
    """
    # Data without splits are the split that is asked for; but train and validation are what training made of them.
    unsplit = "test" if split == "test" else "train"
    data = load_for(model, source, names=names, skip_damaged=skip_damaged, unsplit=unsplit)
    if data.class_names != model.class_names:
        raise InputError(
            f"{source}: has the classes {', '.join(data.class_names)}; the model was trained for "
            f"{', '.join(model.class_names)}"
        )
    if not len(data.split(split)):
        there = ", ".join(name for name in SPLITS if len(data.split(name)))
        raise InputError(f"{source}: no image of the {split} split, found {there}; choose another --split")
    return data
