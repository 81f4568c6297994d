"""Who is right where model and label differ: ten people's votes on the images that a model gets wrong by the label."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fer_jax.data.ferplus import CONTEMPT, majority
from fer_jax.evaluation.metrics import wilson_interval
from fer_jax.evaluation.section import Section, Table, percent
from fer_jax.expressions import EXPRESSIONS

VERDICTS = ("model", "label", "neither", "no majority")
"""With whom the votes' majority agrees about an image that the model gets wrong by its label.

`neither`: the majority names a third class; `no majority`: no class has one by FER+'s rule.
"""


def verdicts(predicted: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return for each image the index in `VERDICTS`, int64 [n]: with whom the majority of its votes agrees.

    `predicted` and `labels` are integers [n] in the order of `fer_jax.data.ferplus.FERPLUS_CLASSES`, `counts` int
    [n, 10] as in `Votes.counts`. Where model and label say the same and the majority does too, it is `label`.
    """
    voted = majority(counts)
    return np.select([voted < 0, voted == labels, voted == predicted], [3, 1, 0], 2)


@dataclasses.dataclass(frozen=True)
class AuditedClass:
    """The images of one label (or of all) that the model gets wrong by it, by `VERDICTS`; `name` is the label's.

    `expected_with_model` is the number of agreements with the model that wrong answers would have by chance: if the
    model's wrong answers to the images of a label were dealt out among these images anew.
    """

    name: str
    images: int
    counts: tuple[int, int, int, int]
    expected_with_model: float

    @property
    def wrong(self) -> int:
        """The images that the model gets wrong by the label."""
        return sum(self.counts)

    def to_json(self) -> dict:
        """Return the figures as plain JSON values; shares of the wrong images with 95 % Wilson intervals."""
        shares = {
            name: {
                "images": count,
                "share": count / self.wrong if self.wrong else None,
                "wilson_95": list(wilson_interval(count, self.wrong)) if self.wrong else None,
            }
            for name, count in zip(VERDICTS, self.counts, strict=True)
        }
        wrong = {"images": self.images, "wrong": self.wrong, "with_model_by_chance": self.expected_with_model}
        return wrong | {"votes_agree_with": shares}


@dataclasses.dataclass(frozen=True)
class Contradicted:
    """The images whose label the votes' majority contradicts, by whether the model says what the majority says.

    `majority` images get the majority's class from the model, `label` ones the label, `other` a third class;
    `expected` is the number that would get the majority's class if the model's answers to the images of a label were
    dealt out among the contradicted ones of that label anew.
    """

    majority: int
    label: int
    other: int
    expected: float

    @property
    def images(self) -> int:
        """All of them."""
        return self.majority + self.label + self.other


@dataclasses.dataclass(frozen=True)
class LabelAudit:
    """The audit of one model: all images that it gets wrong by their label, the same by label, and contradicted labels.

    `right` are the images that it gets right by their label, `right_contradicted` those of them whose majority is
    another class.
    """

    whole: AuditedClass
    classes: tuple[AuditedClass, ...]
    contradicted: Contradicted
    right: int
    right_contradicted: int

    def to_json(self) -> dict:
        """Return the figures as plain JSON values."""
        return {
            "all": self.whole.to_json(),
            "per_class": {row.name: row.to_json() for row in self.classes},
            "contradicted_labels": {**dataclasses.asdict(self.contradicted), "images": self.contradicted.images},
            "right_by_label": {"images": self.right, "majority_contradicts": self.right_contradicted},
        }


def label_audit(predicted: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> LabelAudit:
    """Return the audit of `predicted` against `labels` by the votes `counts`, all as `verdicts` takes them.

    Raises `ValueError` for arrays of different lengths.
    """
    n = len(labels)
    if not predicted.shape == labels.shape == (n,) or counts.shape != (n, len(EXPRESSIONS) + 3):
        raise ValueError(f"expected {n} predictions and votes [{n}, 10], found {predicted.shape} and {counts.shape}")
    voted = majority(counts)
    found = verdicts(predicted, labels, counts)
    wrong = predicted != labels
    rows = []
    for label, name in enumerate(EXPRESSIONS):
        of_label = labels == label
        mine = of_label & wrong
        rows.append(
            AuditedClass(
                name,
                int(of_label.sum()),
                _counts(found[mine]),
                _agreements_by_chance(predicted[mine], voted[mine]),
            )
        )
    whole = AuditedClass(
        "all",
        n,
        _counts(found[wrong]),
        sum(row.expected_with_model for row in rows),
    )
    against = (voted >= 0) & (voted != labels)
    by_label = [against & (labels == label) for label in range(len(EXPRESSIONS))]
    contradicted = Contradicted(
        majority=int((against & (predicted == voted)).sum()),
        label=int((against & ~wrong).sum()),
        other=int((against & wrong & (predicted != voted)).sum()),
        expected=sum(_agreements_by_chance(predicted[mine], voted[mine]) for mine in by_label),
    )
    return LabelAudit(whole, tuple(rows), contradicted, int((~wrong).sum()), int((against & ~wrong).sum()))


def _agreements_by_chance(predicted: np.ndarray, voted: np.ndarray) -> float:
    """The mean number of agreements over all ways to deal `predicted` out among the images anew."""
    if not len(predicted):
        return 0.0
    classes = len(EXPRESSIONS) + 1
    said, wanted = (np.bincount(array[array >= 0], minlength=classes) for array in (predicted, voted))
    return float(said @ wanted / len(predicted))


def label_audit_section(predicted: np.ndarray, labels: np.ndarray, counts: np.ndarray, source: str) -> Section:
    """Return the section of a report about the audit; `source` names the votes."""
    found = label_audit(predicted, labels, counts)
    whole, contradicted = found.whole, found.contradicted
    return Section(
        key="label_audit",
        title="Label audit",
        content={"votes": source, **found.to_json()},
        paragraphs=[
            f"The model gets {whole.wrong:,} of {whole.images:,} images wrong by their label. What do ten people say "
            f"of these ({source}; majority by FER+'s rule: more than half of the votes that are left when single ones "
            f"are dropped; {CONTEMPT} counts as a class of its own)? Shares are of the wrong images, with 95 % Wilson "
            "intervals. By chance: the agreements with the model if its wrong answers to the images of a label were "
            "dealt out among them anew.",
            _contradicted_text(contradicted),
            f"Of the {found.right:,} images that it gets right by their label, the majority contradicts "
            f"{found.right_contradicted:,}: there model and label are of one mind against the votes.",
        ],
        tables=[_table([whole, *found.classes])],
    )


def _counts(found: np.ndarray) -> tuple[int, int, int, int]:
    """Return how often each index in `VERDICTS` is in `found`."""
    with_model, with_label, with_neither, undecided = np.bincount(found, minlength=len(VERDICTS)).tolist()
    return with_model, with_label, with_neither, undecided


def _contradicted_text(found: Contradicted) -> str:
    if not found.images:
        return "The majority contradicts no label."
    low, high = wilson_interval(found.majority, found.images)
    return (
        f"The majority contradicts the label of {found.images:,} images. To {found.majority:,} of them "
        f"({percent(found.majority / found.images)} %, {percent(low)} to {percent(high)}) the model gives the "
        f"majority's class ({found.expected:.0f} by chance), to {found.label:,} the label, to {found.other:,} a third "
        "class."
    )


def _table(rows: Sequence[AuditedClass]) -> Table:
    cells = []
    for row in rows:
        line = [row.name, f"{row.wrong:,} of {row.images:,}"]
        for count in row.counts:
            if not row.wrong:
                line.append("–")
                continue
            low, high = wilson_interval(count, row.wrong)
            line.append(f"{count:,}: {100 * count / row.wrong:.1f} % ({100 * low:.1f} to {100 * high:.1f})")
        cells.append([*line, f"{row.expected_with_model:.1f}"])
    header = ["Label", "Wrong", "With the model", "With the label", "With neither", "No majority", "Model by chance"]
    return Table(header, cells, caption="With whom the majority of the votes agrees:")
