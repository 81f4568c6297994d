"""What is published about FER2013: its image size, its splits and its counts."""

IMAGE_SIZE = 48
"""Height and width of a FER2013 image in pixels."""

USAGE_OF_SPLIT = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
"""The name of each split in the `Usage` column of the official csv."""

PUBLISHED_COUNTS = {
    "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "validation": (467, 56, 496, 895, 653, 415, 607),
    "test": (491, 55, 528, 879, 594, 416, 626),
}
"""Images by split and class, in the order of `EXPRESSIONS` (Kaggle "Challenges in Representation Learning", 2013)."""

SPLIT_OF_NAME = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "publictest": "validation",
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}
"""The split that is meant by each name, in lower case, of folders, of files, and in `Usage` columns."""
