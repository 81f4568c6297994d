"""Map class folders to classes: the seven expressions, or other classes named by the folders."""

from collections.abc import Sequence
from pathlib import Path

from fer_jax.errors import InputError, nearest
from fer_jax.expressions import EXPRESSIONS, label_of

CLASSES = ("auto", "folders")
"""`auto`: the seven expressions if the names are expressions; `folders`: the names as they are."""

_FORCE = "set config.data.classes=folders (--classes=folders) to train on the folder names as they are"


def decide_class_names(folder: Path, names: Sequence[str], classes: str) -> tuple[str, ...]:
    """Return the class names of a data set whose training folder `folder` has class folders of these names.

    With `auto`, folders that are all named after expressions (in any letter case, or by the usual synonyms) mean the
    seven classes of FER2013 in their order. If at least half of them are, the others are taken for mistakes. Otherwise
    the names themselves are the classes, in sorted order.

    Raises `InputError` for such a mistake, for fewer than two classes, and for names that differ in letter case only.
    """
    unknown = [name for name in names if not _is_expression(name)]
    if classes == "auto" and names and not unknown:
        return EXPRESSIONS
    if classes == "auto" and names and 2 * len(unknown) <= len(names):
        raise InputError(
            f"{folder / unknown[0]}: unknown class folder, while {len(names) - len(unknown)} of {len(names)} are "
            f"expressions ({', '.join(EXPRESSIONS)}){nearest(unknown[0], EXPRESSIONS)}; rename or remove it, "
            f"or {_FORCE}"
        )
    if len(names) < 2:
        found = f"one class folder, {names[0]!r}" if names else "no class folder"
        raise InputError(f"{folder}: {found}; expected a folder of images for each of two classes or more")
    by_lower = {}
    for name in sorted(names):
        earlier = by_lower.setdefault(name.lower(), name)
        if earlier != name:
            raise InputError(f"{folder}: {earlier!r} and {name!r} differ in letter case only; merge or rename them")
    return tuple(sorted(names))


def label_of_folder(folder: Path, class_names: Sequence[str]) -> int:
    """Return the label of a class folder by its name.

    Raises `InputError` if it is none of `class_names`, the classes of the training folder or of a trained model.
    """
    if tuple(class_names) == EXPRESSIONS and _is_expression(folder.name):
        return label_of(folder.name)
    if folder.name in class_names:
        return list(class_names).index(folder.name)
    raise InputError(
        f"{folder}: unknown class folder, expected {', '.join(class_names)}"
        f"{nearest(folder.name, class_names)}; rename or remove it"
    )


def _is_expression(name: str) -> bool:
    try:
        label_of(name)
    except KeyError:
        return False
    return True
