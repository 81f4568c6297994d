"""What the pictures say, read from their texts and artists."""

import numpy as np
import pytest
from matplotlib.colors import same_color
from PIL import Image

from fer_jax.evaluation import plots
from fer_jax.evaluation.metrics import classification_metrics

NAMES = ("cat", "dog", "owl")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_confusion_matrix_shows_counts_and_percent_of_each_row():
    figure = plots.confusion_matrix_figure(np.array([[3, 1, 0], [0, 8, 0], [0, 0, 0]]), NAMES, "title")
    counts, shares = figure.axes
    assert texts(counts) == ["3", "1", "0", "0", "8", "0", "0", "0", "0"]
    assert texts(shares) == ["75.0", "25.0", "0.0", "0.0", "100.0", "0.0", "–", "–", "–"]
    for axes in figure.axes:
        assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted", "True")


def test_per_class_bars_have_the_height_of_the_metrics():
    labels = np.array([0, 0, 1, 1, 2], np.int32)
    metrics = classification_metrics(labels, np.eye(3, dtype=np.float32)[[0, 1, 1, 1, 2]], NAMES)
    (axes,) = plots.per_class_figure(metrics).axes
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    np.testing.assert_allclose(heights, [[1, 2 / 3, 1], [1 / 2, 1, 1], [2 / 3, 4 / 5, 1]])
    assert axes.get_xticklabels()[0].get_text() == "cat\nn = 2"


def test_training_curves_mark_the_first_best_epoch_and_leave_gaps():
    accuracies = [0.5, 0.7, None, 0.7]
    history = [{"epoch": epoch, "validation_accuracy": value} for epoch, value in enumerate(accuracies, 1)]
    history[0]["train_loss"] = 2.0
    figure = plots.training_curves_figure(history)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "best validation accuracy: 70.00 %, epoch 2" in legend
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), [50, 70, np.nan, 70])
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [2, np.nan, np.nan, np.nan])


@pytest.mark.parametrize("history", [[{"epoch": 1, "train_loss": 1.0, "validation_accuracy": 0.4}], [{"epoch": 1}]])
def test_training_curves_of_one_epoch_can_be_drawn(history, tmp_path):
    plots.save_figure(plots.training_curves_figure(history), tmp_path / "curves.png")


def grid_example():
    """Nine examples: class 0 right and wrong, class 1 only wrong, class 2 without any."""
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1], np.int32)
    predicted = np.array([0, 0, 0, 1, 2, 0, 0, 2, 0])
    confidence = np.array([0.5, 0.9, 0.9, 0.6, 0.8, 0.7, 0.55, 0.65, 0.75])
    probabilities = np.repeat(((1 - confidence) / 2)[:, None], 3, axis=1)
    probabilities[np.arange(9), predicted] = confidence
    images = np.broadcast_to(np.arange(9, dtype=np.uint8)[:, None, None], (9, 48, 48))
    return images, labels, probabilities.astype(np.float32)


def test_sample_grid_shows_the_most_confident_and_wrong_ones_in_red():
    (axes,) = plots.sample_grid_figure(*grid_example(), NAMES, per_side=2).axes
    # The image of each example is filled with its index. On equal confidence the earlier example comes first.
    assert [int(image.get_array()[0, 0]) for image in axes.images] == [1, 2, 4, 3, 8, 7]
    captions = {text.get_text(): text.get_color() for text in axes.texts if "→" in text.get_text()}
    assert list(captions) == [
        "cat → cat\n90.0 %",
        "cat → owl\n80.0 %",
        "cat → dog\n60.0 %",
        "dog → cat\n75.0 %",
        "dog → owl\n65.0 %",
    ]
    colour = {same_color(captions[caption], "#B2182B") for caption in captions if "cat → cat" not in caption}
    assert colour == {True}
    assert not same_color(captions["cat → cat\n90.0 %"], "#B2182B")
    assert texts(axes).count("none") == 3


def test_save_figure_writes_a_png_of_reasonable_size(tmp_path):
    path = tmp_path / "grid.png"
    plots.save_figure(plots.sample_grid_figure(*grid_example(), NAMES), path)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert 600 < image.width < 2500
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_an_interrupted_save_leaves_the_earlier_file(tmp_path):
    class Interrupted(plots.Figure):
        def savefig(self, path, **options):
            path.write_bytes(b"half a pic")
            raise KeyboardInterrupt

    path = tmp_path / "figure.png"
    path.write_bytes(b"earlier")
    with pytest.raises(KeyboardInterrupt):
        plots.save_figure(Interrupted(), path)
    assert path.read_bytes() == b"earlier"


@pytest.mark.parametrize("classes", [2, 30, 300])
def test_any_number_of_classes_can_be_drawn(classes, tmp_path):
    names = [f"a rather long name {label}" for label in range(classes)]
    labels = np.arange(classes, dtype=np.int32)
    probabilities = np.eye(classes, dtype=np.float32)
    metrics = classification_metrics(labels, probabilities, names)
    counts, _ = plots.confusion_matrix_figure(metrics.confusion, names, "title").axes
    assert len(counts.texts) == (classes**2 if classes <= plots.MOST_CLASSES else 0)
    assert len(counts.get_yticklabels()) == classes
    images = np.zeros((classes, 8, 8, 3), np.uint8)
    grid = plots.sample_grid_figure(images, labels, probabilities, names)
    assert len(grid.axes[0].images) == min(classes, plots.MOST_CLASSES)
    plots.save_figure(plots.per_class_figure(metrics), tmp_path / "bars.png")
    with Image.open(tmp_path / "bars.png") as picture:
        assert picture.width < 8000
