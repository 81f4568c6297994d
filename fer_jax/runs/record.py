"""The record of a checkpoint and the description of a run, read back: whether they can be what was written."""

import json
from collections.abc import Callable

from fer_jax.config.loading import from_json
from fer_jax.data.dataset import SPLITS
from fer_jax.errors import InputError
from fer_jax.pretrained.variant import read_variant

_DAMAGED = "it is damaged, bring it back from a backup"


def read_description(text: bytes, where: str) -> dict:
    """The description in a file's content; raises `InputError` as `check_description` does, and for what is no JSON."""
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: cannot be read as JSON ({error}); {_DAMAGED}") from error
    check_description(description, where)
    return description


def check_description(description: object, where: str) -> None:
    """Raises `InputError`, which begins with `where`, unless `description` has the form of `run_folder.describe`.

    The config and the backbones are checked down to their values: networks are built from them.
    """
    _check_keys(description, _DESCRIPTION, where)
    _check_keys(description["data"], _DATA, f"{where}, data")
    _check_keys(description["split_roles"], dict.fromkeys(SPLITS, _TEXT), f"{where}, split_roles")
    try:
        from_json(description["config"])
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    for backbone in description["backbones"]:
        read_variant(backbone, where)
        _check_keys(backbone, {"initial_weights": _TEXT}, f"{where}, backbones")


def check_record(record: object, where: str) -> None:
    """As `check_description`, for the record of a checkpoint: also how far it is, its history and its best epoch."""
    check_description(record, where)
    _check_keys(record, _PROGRESS, where)
    for entry in (*record["history"], *([] if record["best"] is None else [record["best"]])):
        _check_keys(entry, _ENTRY, f"{where}, history")


def _check_keys(found: object, rules: dict[str, tuple[Callable, str]], where: str) -> None:
    if not isinstance(found, dict):
        raise InputError(f"{where}: {_shown(found)}, expected a JSON object; {_DAMAGED}")
    for key, (holds, expected) in rules.items():
        if key not in found:
            raise InputError(f"{where}: {key} is missing, expected {expected}; {_DAMAGED}")
        if not holds(found[key]):
            raise InputError(f"{where}: {key} is {_shown(found[key])}, expected {expected}; {_DAMAGED}")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    # A mean loss may be infinite where the gradients are not.
    return type(value) is float or _is_count(value)


def _are_class_names(value: object) -> bool:
    return (
        isinstance(value, list) and all(isinstance(name, str) for name in value) and len(set(value)) == len(value) > 1
    )


def _is_image_shape(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_count, value)) and value in (2 * value[:1], [*2 * value[:1], 3])


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_TEXT = (lambda value: isinstance(value, str), "a text")
_COUNT = (_is_count, "a whole number of at least 0")
_NUMBER = (_is_number, "a number")
_OBJECT = (lambda value: isinstance(value, dict), "a JSON object")
_LIST = (lambda value: isinstance(value, list), "a list")
_DESCRIPTION = {
    "fer_jax": _TEXT,
    "config": _TEXT,
    "class_names": (_are_class_names, "two or more different names"),
    "split_roles": _OBJECT,
    "selected_on": (lambda value: value in SPLITS, f"one of {', '.join(SPLITS)}"),
    "data": _OBJECT,
    "backbones": (lambda value: isinstance(value, list) and len(value) > 0, "one backbone or more"),
}
_DATA = {
    "source": _TEXT,
    "fingerprint": _TEXT,
    "images": (
        lambda value: isinstance(value, dict) and all(_is_count(value.get(name)) for name in SPLITS),
        "how many images each split has",
    ),
    "image_shape": (_is_image_shape, "height, width and perhaps 3"),
}
_PROGRESS = {
    "epoch": _COUNT,
    "step": _COUNT,
    "epoch_seconds": _NUMBER,
    "history": _LIST,
    "best": (lambda value: value is None or isinstance(value, dict), "None or an epoch"),
}
_ENTRY = {"epoch": _COUNT, "step": _COUNT} | dict.fromkeys(
    ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate"), _NUMBER
)
