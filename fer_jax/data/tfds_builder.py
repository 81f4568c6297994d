"""The TFDS dataset `fer2013`, written and read as ArrayRecord files without TensorFlow.

Images are `tfds.features.Tensor`, since `tfds.features.Image` needs TensorFlow to encode and decode.
"""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf import json_format

from fer_jax.data.dataset import SPLITS, Dataset, Split
from fer_jax.data.fer2013 import IMAGE_SIZE
from fer_jax.errors import InputError, is_exhaustion
from fer_jax.expressions import EXPRESSIONS, label_of

INFO_FILE = "dataset_info.json"
"""The file that TFDS keeps in the folder of each dataset."""


class Fer2013Builder(tfds.core.GeneratorBasedBuilder):
    """Writes a `Dataset` that is in memory."""

    name = "fer2013"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, data: Dataset, data_dir: str):
        self._data = data
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Tensor(shape=(IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8),
                "label": tfds.features.ClassLabel(names=self._data.class_names),
                "row_id": tfds.features.Scalar(np.int32),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Faces of 48x48 gray pixels with seven expressions.",
            features=features,
            metadata=tfds.core.MetadataDict(source=self._data.source),
            # The order of the source is kept: training shuffles by its own seed.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(self._data.split(name)) for name in SPLITS}

    def _generate_examples(self, split: Split):
        for index, (image, label, row_id) in enumerate(zip(split.images, split.labels, split.row_ids, strict=True)):
            yield index, {"image": image, "label": int(label), "row_id": row_id}


def dataset_place(directory: str | Path) -> Path:
    """Return the folder into which `write_tfds` writes below `directory`: `fer2013/1.0.0`."""
    return Path(directory) / Fer2013Builder.name / str(Fer2013Builder.VERSION)


def write_tfds(data: Dataset, directory: str | Path) -> Path:
    """Write `data` below `directory` and return the dataset's folder, `dataset_place(directory)`.

    The dataset is written to a temporary folder beside it and moved when it is complete.

    Raises:
      InputError: the dataset exists already, or the directory cannot be written.
    """
    place = dataset_place(directory)
    if place.exists():
        raise InputError(f"{place}: there is a dataset already; remove it, or choose another folder")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".incomplete-") as beside:
            # TFDS announces a download although there is none.
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                builder = Fer2013Builder(data, data_dir=beside)
                builder.download_and_prepare()
            os.rename(builder.data_path, place)
    except OSError as error:
        raise InputError(f"{place}: cannot be written: {error.strerror or error}") from error
    return place


def find_tfds(directory: str | Path) -> Path | None:
    """Return the folder of the one TFDS dataset in `directory` or up to two levels below, such as `fer2013/1.0.0`.

    Raises `InputError` if there are several.
    """
    directory = Path(directory)
    found = sorted(info.parent for depth in ("", "*/", "*/*/") for info in directory.glob(depth + INFO_FILE))
    if len(found) > 1:
        raise InputError(f"{directory}: several TFDS datasets, {', '.join(map(str, found))}; name the one you mean")
    return found[0] if found else None


def read_tfds(directory: str | Path) -> Dataset:
    """Read the dataset that `write_tfds` wrote below `directory`; `directory` may also be the dataset's own folder.

    Labels are mapped by the class names that are stored with the dataset.

    Raises:
      InputError: there is no dataset, its features or splits are others, or its files are damaged.
    """
    place = find_tfds(directory)
    if place is None:
        raise InputError(f"{directory}: no TFDS dataset (no {INFO_FILE}); write one with scripts/prepare_data.py")
    try:
        builder = tfds.builder_from_directory(str(place))
    # What is no description of features raises what its parts happen to; nothing but TFDS has run.
    except (OSError, ValueError, TypeError, AttributeError, LookupError, ImportError, json_format.Error) as error:
        if is_exhaustion(error):
            raise
        raise _damaged(place, error) from error
    _check_info(builder.info, place)
    try:
        parts = {name: _read_split(builder.as_data_source(split=name), builder.info) for name in SPLITS}
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: of ArrayRecord.
        if is_exhaustion(error):
            raise
        raise _damaged(place, error) from error
    source = f"tfds from {(builder.info.metadata or {}).get('source', 'an unknown source')}"
    return Dataset(parts["train"], parts["validation"], parts["test"], source)


def _damaged(place: Path, error: Exception) -> InputError:
    return InputError(f"{place}: the TFDS dataset is damaged ({error}); write it anew")


def _check_info(info: tfds.core.DatasetInfo, place: Path) -> None:
    features = info.features or {}
    if set(features) != {"image", "label", "row_id"} or features["image"].shape != (IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"{place}: features {dict(features)}, expected a {IMAGE_SIZE}x{IMAGE_SIZE} image, label and row_id; "
            "write the dataset with scripts/prepare_data.py"
        )
    names = features["label"].names
    try:
        known = sorted(label_of(name) for name in names) == list(range(len(EXPRESSIONS)))
    except KeyError:
        known = False
    if not known:
        raise InputError(f"{place}: classes {', '.join(names)}, expected {', '.join(EXPRESSIONS)}")
    for name in SPLITS:
        if name not in info.splits or not info.splits[name].num_examples:
            raise InputError(
                f"{place}: no images in the split {name!r}, found {', '.join(info.splits) or 'no split'}; "
                "write the dataset with scripts/prepare_data.py"
            )


def _read_split(source, info: tfds.core.DatasetInfo) -> Split:
    label_by_stored = np.array([label_of(name) for name in info.features["label"].names], np.int32)
    examples = source.__getitems__(range(len(source)))
    return Split(
        np.stack([example["image"] for example in examples]),
        label_by_stored[[example["label"] for example in examples]],
        np.array([example["row_id"] for example in examples], np.int32),
    )
