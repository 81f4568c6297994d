"""The seven expression classes of FER2013 and their order.

Labels are mapped by name, never by index: image-folder copies of FER2013 sort the classes alphabetically, and other
data sets have orders of their own.
"""

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Class names in the order of the `emotion` column of the official `fer2013.csv` (0 to 6)."""

NUM_EXPRESSIONS = len(EXPRESSIONS)

# Names under which image folders and other data sets hold the same seven classes.
_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}


def label_of(name: str) -> int:
    """The FER2013 label (0 to 6) of an expression name in any letter case; `KeyError` for any other name."""
    name = name.strip().lower()
    name = _SYNONYMS.get(name, name)
    if name not in EXPRESSIONS:
        raise KeyError(name)
    return EXPRESSIONS.index(name)
