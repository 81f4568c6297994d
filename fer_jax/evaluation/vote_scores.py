"""A model by two labels: FER2013's own, and the majority of FER+'s ten votes on the same images."""

import numpy as np

from fer_jax.data.ferplus import FERPLUS_CLASSES, majority, rule
from fer_jax.evaluation.metrics import Predictions, proportion
from fer_jax.evaluation.section import PROPORTION_HEADER, Section, Table, proportion_cells
from fer_jax.expressions import NUM_EXPRESSIONS


def vote_scores_section(predictions: Predictions, counts: np.ndarray, source: str) -> Section:
    """Return the section of a report with the accuracy by FER2013's label and by the majority, of 8 and of 7 classes.

    `counts` int32 [n, 10] are the votes on the images of `predictions` in their order, as in `Votes`. FER2013 has no
    contempt: by its label a model that knows contempt chooses among the other seven.
    """
    labels = predictions.labels
    of_seven = predictions.probabilities[:, :NUM_EXPRESSIONS].argmax(axis=1)
    scores = {"fer2013": proportion(of_seven == labels)}
    for classes in (len(FERPLUS_CLASSES), NUM_EXPRESSIONS):
        voted = majority(counts, classes)
        chosen = predictions.predicted if classes > NUM_EXPRESSIONS else of_seven
        scores[f"ferplus_majority_{classes}"] = proportion((chosen == voted)[voted >= 0])
    names = ["by FER2013's label", "by FER+ majority of 8 classes", "by FER+ majority of 7 classes"]
    rows = [[name, *proportion_cells(score)] for name, score in zip(names, scores.values(), strict=True)]
    return Section(
        key="scores_by_votes",
        title="Scores by FER2013's labels and by FER+'s votes",
        content={"votes": source, "rule": rule("majority", len(FERPLUS_CLASSES)), **scores},
        paragraphs=[
            f"FER+'s majority ({source}) is {rule('majority', len(FERPLUS_CLASSES))}; images without one are left out. "
            "With 8 classes contempt counts, and a model that does not know it is wrong there.",
        ],
        tables=[Table(["Label", *PROPORTION_HEADER], rows)],
    )
