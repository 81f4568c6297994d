"""Figures that the paper prints beside those of Table 3, as they stand there: Tables 4 and 5, and its recalls.

Abdulhussein, El Abbadi, Gaber 2021, *Hybrid Deep Neural Network for Facial Expressions Recognition*.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class PublishedResult:
    """A row of the paper's Table 4: accuracy in percent on FER2013; `note` is what is known of its protocol."""

    work: str
    year: int
    accuracy: float
    note: str = ""


_ON_TEST = "epoch chosen on PrivateTest itself"

TABLE_4 = (
    PublishedResult("the paper: hybrid, trained on FER and frozen", 2021, 74.39, _ON_TEST),
    PublishedResult("Residual Masking Network", 2020, 74.14, "trained on more data than FER2013"),
    PublishedResult("the paper: EfficientNetB0", 2021, 73.32, _ON_TEST),
    PublishedResult("VGGNET", 2021, 73.28, "on PublicTest"),
    PublishedResult("the paper: hybrid, all trained", 2021, 73.22, _ON_TEST),
    PublishedResult("VGG", 2016, 72.70),
    PublishedResult("ResNet", 2016, 72.40),
    PublishedResult("CNN hyperparameter optimisation", 2021, 72.16),
    PublishedResult("Inception", 2016, 71.60),
    PublishedResult("ARM (ResNet-18)", 2021, 71.38),
    PublishedResult("the paper: MobileNetV2", 2021, 71.04, _ON_TEST),
    PublishedResult("Attentional ConvNet", 2019, 70.02),
    PublishedResult("Convolution and inception layers", 2016, 66.40),
    PublishedResult("VGG + SVM", 2019, 66.31),
)
"""The paper's Table 4. Notes are this project's: the paper does not say by which protocol a figure came about."""

MOST_CONFUSED = {
    "angry": ("sad", 0.13),
    "disgust": ("angry", 0.18),
    "fear": ("sad", 0.18),
    "happy": ("neutral", 0.03),
    "sad": ("neutral", 0.14),
    "surprise": ("fear", 0.07),
    "neutral": ("sad", 0.15),
}
"""The paper's Table 5: what each class is most often mistaken for, and in which share of its images."""

RECALL = {
    "angry": 0.68,
    "disgust": 0.75,
    "fear": 0.56,
    "happy": 0.92,
    "sad": 0.66,
    "surprise": 0.82,
    "neutral": 0.74,
}
"""The recall of each class by the paper's hybrid, trained on FER and frozen."""
