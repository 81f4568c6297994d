"""The seven expression classes of FER2013 and their order, and contempt, which other data sets have as an eighth.

Labels are mapped by name, never by index: image-folder copies of FER2013 sort the classes alphabetically, and other
data sets have orders of their own.
"""

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Class names in the order of the `emotion` column of the official `fer2013.csv` (0 to 6)."""

NUM_EXPRESSIONS = len(EXPRESSIONS)

CONTEMPT = "contempt"

EIGHT_EXPRESSIONS = (*EXPRESSIONS, CONTEMPT)
"""FER2013's seven first, so that a label means the same with seven and with eight classes."""

# Names under which image folders and other data sets hold the same classes.
_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "contemptuous": CONTEMPT,
}


def expression_of(name: str) -> str | None:
    """Return the one of `EIGHT_EXPRESSIONS` that `name` means, in any letter case or by a synonym; None if none is."""
    name = name.strip().lower()
    name = _SYNONYMS.get(name, name)
    return name if name in EIGHT_EXPRESSIONS else None


def label_of(name: str) -> int:
    """The FER2013 label (0 to 6) of an expression name in any letter case; `KeyError` for any other name."""
    found = expression_of(name)
    if found not in EXPRESSIONS:
        raise KeyError(name)
    return EXPRESSIONS.index(found)
