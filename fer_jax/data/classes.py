"""Map labels, as folders and files write them, to classes: the expressions, or other classes by their names."""

from collections.abc import Sequence

from fer_jax.data.options import FolderOptions
from fer_jax.errors import InputError, nearest, shown
from fer_jax.expressions import CONTEMPT, EIGHT_EXPRESSIONS, EXPRESSIONS, expression_of

CLASSES = ("auto", "folders", "with_contempt")
"""`auto`: the seven expressions if the names are expressions; `folders`: the names as they are; `with_contempt`: the
seven and contempt as the eighth."""

_FORCE = "set config.data.classes=folders (--classes=folders) to train on the folder names as they are"
_EIGHT = "set config.data.classes=with_contempt (--classes=with_contempt) for eight classes"
_NAMES = "config.data.class_names (--class-names)"

RAFDB_ORDER = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
"""The expressions that RAF-DB numbers from 1 to 7 (its `Readme.txt`, basic emotions)."""


def decide_class_names(
    where: object, names: Sequence[str], classes: str, word: str = "class folder"
) -> tuple[str, ...]:
    """Return the class names of a data set whose class folders in `where` have these names.

    With `auto`, folders that are all named after expressions (in any letter case, or by the usual synonyms) mean the
    seven classes of FER2013 in their order. If at least half of them are, the others are taken for mistakes. Otherwise
    the names themselves are the classes, in sorted order. With `with_contempt` all must be expressions or contempt.

    Raises `InputError` for such a mistake, for fewer than two classes, and for names that differ in letter case only.
    """
    known = EIGHT_EXPRESSIONS if classes == "with_contempt" else EXPRESSIONS
    unknown = [name for name in names if expression_of(name) not in known]
    if classes != "folders" and names and not unknown:
        return known
    if classes == "with_contempt" or (classes == "auto" and names and 2 * len(unknown) <= len(names)):
        advice = _FORCE
        if classes == "auto" and all(expression_of(name) == CONTEMPT for name in unknown):
            advice = f"{_EIGHT}, or {_FORCE}"
        name = unknown[0] if unknown else "no class"
        raise InputError(
            f"{_place(where, name, word)}, while {len(names) - len(unknown)} of {len(names)} are "
            f"expressions ({', '.join(known)}){nearest(name, known)}; rename or remove it, or {advice}"
        )
    if len(names) < 2:
        found = f"one class folder, {names[0]!r}" if names else "no class folder"
        raise InputError(f"{where}: {found}; expected a folder of images for each of two classes or more")
    by_lower: dict[str, str] = {}
    for name in sorted(names):
        earlier = by_lower.setdefault(name.lower(), name)
        if earlier != name:
            raise InputError(f"{where}: {earlier!r} and {name!r} differ in letter case only; merge or rename them")
    return tuple(sorted(names))


def decide_classes(
    where: object, names: Sequence[str], options: FolderOptions, *, word: str = "class folder"
) -> tuple[tuple[str, ...], dict[str, int | None]]:
    """Return the class names of data with these different names for labels, and the class of each, by its index.

    A name that no image may have (of an expression that a model to be evaluated does not know) has the class None.
    `word` is what a label is called in messages. Raises `InputError` as `decide_class_names` does, and for a name that
    a model to be evaluated has no class for.
    """
    if options.class_names is not None:
        return options.class_names, {name: _class_of_model(where, name, options.class_names, word) for name in names}
    if options.names is not None and all(map(expression_of, names)) and options.classes != "folders":
        eight = options.classes == "with_contempt" or CONTEMPT in map(expression_of, names)
        class_names: tuple[str, ...] = EIGHT_EXPRESSIONS if eight else EXPRESSIONS
    else:
        # Names that the user gave are no mistakes.
        class_names = decide_class_names(where, names, "folders" if options.names else options.classes, word)
    return class_names, {name: label_among(where, name, class_names, word) for name in names}


def label_among(where: object, name: str, class_names: Sequence[str], word: str = "class folder") -> int:
    """Return the index of the class `name`; raise `InputError` if it is none of `class_names`."""
    found = _index(name, class_names)
    if found is None:
        raise InputError(_unknown(where, name, class_names, word))
    return found


def is_known(name: str, options: FolderOptions) -> bool:
    """Return whether a model to be evaluated knows `name`, as it is or as `options.names` renames it."""
    names = rename("", [name], options.names if "=" in (options.names or "") else None, "", strict=False)
    return _index(names[name], options.class_names or ()) is not None


def rename(where: object, labels: Sequence[str], names: str | None, word: str, *, strict: bool) -> dict[str, str]:
    """Return for each label the name that `names` (`FolderOptions.names`) gives it, or the label itself.

    Raises `InputError` for names of another number than the labels, and if `strict` for a label that is not there.
    """
    if names is None:
        return {label: label for label in labels}
    ordered = sorted(labels, key=lambda label: (0, int(label), label) if _is_number(label) else (1, 0, label))
    parts = [part.strip().strip("'\"").strip() for part in names.strip().strip("()[]").split(",")]
    parts = parts[:-1] if parts and not parts[-1] else parts
    listed = ", ".join(ordered[:12]) + (", ..." if len(ordered) > 12 else "")
    if any("=" in part for part in parts):
        pairs = {}
        for part in parts:
            label, _, name = (piece.strip().strip("'\"") for piece in part.partition("="))
            if not label or not name or label in pairs:
                raise InputError(f"{_NAMES}: {shown(part)}, expected LABEL=NAME once for each label of {listed}")
            pairs[label] = name
        if strict and (missing := [label for label in pairs if label not in labels]):
            raise InputError(f"{_NAMES}: {where} has no {word} {missing[0]!r}, found {listed}")
        return {label: pairs.get(label, label) for label in labels}
    if len(parts) != len(ordered) or not all(parts):
        raise InputError(
            f"{_NAMES}: {len(parts)} names ({', '.join(parts)}), but {where} has {len(ordered)} labels: {listed}; give "
            "a name for each in this order, or LABEL=NAME for some"
        )
    if len(set(parts)) != len(parts):
        raise InputError(f"{_NAMES}: {', '.join(parts)}, expected different names; LABEL=NAME may repeat one")
    return dict(zip(ordered, parts, strict=True))


def naming_advice(class_names: Sequence[str]) -> str | None:
    """Say how to name classes that are called by numbers; None where they are not."""
    if not all(map(_is_number, class_names)):
        return None
    example = f" (RAF-DB's 1 to 7 are {','.join(RAFDB_ORDER)})" if set(class_names) == set("1234567") else ""
    return (
        f"the classes are called {', '.join(class_names[:10])}: {_NAMES} names them in this order, as "
        f"surprise,fear,...{example}, for reports and for other data of the same classes"
    )


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit() and len(label) < 10


def _index(name: str, class_names: Sequence[str]) -> int | None:
    if name in class_names:
        return list(class_names).index(name)
    found = expression_of(name)
    expressions = [expression_of(other) for other in class_names]
    return expressions.index(found) if found in expressions and found else None


def _class_of_model(where: object, name: str, class_names: Sequence[str], word: str) -> int | None:
    found = _index(name, class_names)
    if found is None and not (expression_of(name) and any(map(expression_of, class_names))):
        advice = f"; {_NAMES} says what the numbers mean" if _is_number(name) else ""
        raise InputError(_unknown(where, name, class_names, word) + advice)
    return found


def _unknown(where: object, name: str, class_names: Sequence[str], word: str) -> str:
    expected = ", ".join(class_names)
    return f"{_place(where, name, word)}, expected {expected}{nearest(name, class_names)}; rename or remove it"


def _place(where: object, name: str, word: str) -> str:
    if word == "class folder":
        return f"{where}/{name}: unknown class folder"
    return f"{where}: unknown {word} {shown(name)}"
