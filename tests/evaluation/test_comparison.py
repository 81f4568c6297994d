"""Runs side by side: named by what tells them apart, drawn and listed epoch by epoch."""

import shutil

import pytest

from fer_jax.errors import InputError
from fer_jax.evaluation.comparison import comparison_table, named_runs
from fer_jax.evaluation.plots import validation_curves_figure


def test_table_has_the_accuracies_of_every_run(whole_run, tmp_path):
    workdir, result = whole_run
    shutil.copytree(workdir, tmp_path / "shorter")
    lines = (tmp_path / "shorter" / "metrics.jsonl").read_text().splitlines(keepends=True)
    second_epoch = next(i for i, line in enumerate(lines) if '"epoch": 2,' in line and '"kind": "epoch"' in line)
    (tmp_path / "shorter" / "metrics.jsonl").write_text("".join(lines[: second_epoch + 1]))
    runs = named_runs([workdir, tmp_path / "shorter"])
    # Alike but for their folders.
    assert list(runs) == ["tiny, scratch, 32 px (whole)", "tiny, scratch, 32 px (shorter)"]
    *_, first, second = comparison_table(runs).splitlines()
    accuracies = [f"{100 * entry.validation_accuracy:.2f}" for entry in result.history]
    assert [cell.strip() for cell in first.split("|")[2:-1]] == accuracies
    assert [cell.strip() for cell in second.split("|")[2:-1]] == [*accuracies[:2], ""]


def test_figure_has_a_curve_for_every_run():
    histories = {f"run {i}": [{"epoch": 1, "validation_accuracy": 0.1 * i}] for i in range(6)}
    (axes,) = validation_curves_figure(histories).axes
    assert [line.get_label() for line in axes.lines] == list(histories)
    assert [line.get_ydata()[0] for line in axes.lines] == pytest.approx([0, 10, 20, 30, 40, 50])
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 6


def test_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(InputError, match="is not the folder of a run"):
        named_runs([tmp_path])
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: cannot be read as JSON"):
        named_runs([tmp_path])


def test_run_without_a_whole_epoch_is_named(whole_run, tmp_path):
    shutil.copy(whole_run[0] / "run.json", tmp_path)
    with pytest.raises(InputError, match="no whole epoch yet"):
        named_runs([tmp_path])
