"""The audit of labels by votes: counted by hand, image by image, and by dealing answers out at random."""

import json

import numpy as np
import pytest

from fer_jax.data.ferplus import FERPLUS_CLASSES
from fer_jax.evaluation.label_audit import VERDICTS, label_audit, label_audit_section, verdicts
from fer_jax.evaluation.metrics import wilson_interval

ANGRY, DISGUST, FEAR, HAPPY, SAD, SURPRISE, NEUTRAL, CONTEMPT = range(8)


def votes(**by_name):
    row = np.zeros(10, np.int32)
    for name, count in by_name.items():
        row[(*FERPLUS_CLASSES, "unknown", "nf").index(name)] = count
    return row


def test_each_verdict_by_hand():
    cases = [
        (SAD, FEAR, votes(sad=8, fear=2), "model"),
        (SAD, FEAR, votes(sad=2, fear=7, angry=1), "label"),
        (SAD, FEAR, votes(surprise=9, fear=1), "neither"),
        (SAD, FEAR, votes(contempt=10), "neither"),
        # Five of ten are not more than half, and a single vote counts for nothing.
        (SAD, FEAR, votes(sad=5, fear=5), "no majority"),
        (SAD, FEAR, votes(sad=5, fear=4, happy=1), "model"),
        (SAD, FEAR, votes(unknown=6, sad=4), "no majority"),
        (SAD, FEAR, votes(), "no majority"),
        (FEAR, FEAR, votes(fear=10), "label"),
    ]
    predicted, labels, counts, expected = (np.array(column) for column in zip(*cases, strict=True))
    assert [VERDICTS[i] for i in verdicts(predicted, labels, counts)] == expected.tolist()
    found = label_audit(predicted, labels, counts)
    assert found.whole.counts == (2, 1, 2, 3)
    assert found.classes[FEAR].counts == (2, 1, 2, 3)
    assert (found.right, found.right_contradicted) == (1, 0)
    assert (found.contradicted.majority, found.contradicted.label, found.contradicted.other) == (2, 0, 2)


def drawn(n=400):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, n)
    predicted = np.where(rng.random(n) < 0.5, labels, rng.integers(0, 7, n))
    counts = rng.multinomial(10, np.full(10, 0.1), n)
    kind = rng.integers(0, 4, n)
    counts[np.arange(n), np.select([kind == 0, kind == 1], [labels, predicted], rng.integers(0, 10, n))] += 15
    return predicted, labels, counts


def test_audit_agrees_with_a_count_image_by_image():
    predicted, labels, counts = drawn()
    expected = np.zeros((7, 4), int)
    contradicted = {"majority": 0, "label": 0, "other": 0}
    for said, label, row in zip(predicted, labels, counts, strict=True):
        left = [int(count) if count > 1 else 0 for count in row]
        top = max(range(8), key=lambda i: left[i])
        named = top if 2 * left[top] > sum(left) else None
        if said != label:
            expected[label, 3 if named is None else 0 if named == said else 1 if named == label else 2] += 1
        if named is not None and named != label:
            contradicted["majority" if said == named else "label" if said == label else "other"] += 1
    found = label_audit(predicted, labels, counts)
    np.testing.assert_array_equal([row.counts for row in found.classes], expected)
    assert found.whole.counts == tuple(expected.sum(axis=0))
    assert {key: getattr(found.contradicted, key) for key in contradicted} == contradicted
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    share = content["all"]["votes_agree_with"]["model"]
    assert share["wilson_95"] == pytest.approx(wilson_interval(share["images"], content["all"]["wrong"]))


def test_chance_is_the_mean_over_answers_dealt_out_anew():
    predicted, labels, counts = drawn()
    rng = np.random.default_rng(1)
    wrong = predicted != labels
    agreements = []
    for _ in range(400):
        dealt = predicted.copy()
        for label in range(7):
            mine = np.flatnonzero(wrong & (labels == label))
            dealt[mine] = rng.permutation(dealt[mine])
        agreements.append(label_audit(dealt, labels, counts).whole.counts[0])
    expected = label_audit(predicted, labels, counts).whole.expected_with_model
    assert np.mean(agreements) == pytest.approx(expected, abs=4 * np.std(agreements) / 20)


def test_section_says_counts_and_shares():
    predicted, labels, counts = drawn()
    section = label_audit_section(predicted, labels, counts, "FER+ votes.csv")
    whole = label_audit(predicted, labels, counts).whole
    text = "\n".join(section.markdown())
    assert f"gets {whole.wrong} of 400 images wrong" in text
    assert f"| all | {whole.wrong} of 400 | {whole.counts[0]}: {100 * whole.counts[0] / whole.wrong:.1f} %" in text
    assert section.content["votes"] == "FER+ votes.csv"
    nobody = label_audit_section(labels[:3], labels[:3], counts[:3] * 0, "x")
    assert "The majority contradicts no label." in "\n".join(nobody.markdown())
    with pytest.raises(ValueError, match=r"votes \[400, 10\]"):
        label_audit(predicted, labels, counts[:, :7])
