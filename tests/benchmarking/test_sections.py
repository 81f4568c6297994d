"""The benchmark on the tiny backbone for one round: every section runs, and its figures agree with each other."""

import json

import pytest
from rich.console import Console

from fer_jax.benchmarking import presentation, sections
from fer_jax.benchmarking.devices import Peak
from fer_jax.benchmarking.rounds import Speed, timed
from fer_jax.benchmarking.sections import SECTIONS, Section, Settings


@pytest.fixture
def settings(make_tiny_config):
    config = make_tiny_config()
    config.train.batch_size = config.eval.batch_size = 8
    return Settings(config, Peak("made up", {"float32": 1e12}, 1e11), rounds=1, steps=1)


def test_training_step(settings):
    section = SECTIONS["train"](settings)
    figures = section.figures
    assert set(section.speeds) == {"fer_jax"}
    assert figures["time to first step, cold (s)"] > figures["compilation of the step, cold (s)"]
    assert figures["compilation of the step, cached (s)"] < figures["compilation of the step, cold (s)"]
    speed = section.speeds["fer_jax"].median
    share = 100 * figures["compute (GFLOP an image)"] * 1e9 * speed / 1e12
    assert figures["share of the device's peak compute (%)"] == pytest.approx(share)


def test_input_by_its_parts(settings, monkeypatch):
    built = []

    def runner(config, images_at_input_size=False):
        built.append((config.augment.rotation_range, images_at_input_size))
        return timed(lambda: None, 8)

    monkeypatch.setattr(sections, "TrainRunner", runner)
    monkeypatch.setattr(sections, "eval_runner", lambda config: timed(lambda: None, 8))
    section = SECTIONS["input"](settings)
    assert built == [(0.0, True), (10.0, False)]
    assert list(section.speeds)[:2] == ["fetch", "fetch, augment, resize"]
    assert section.figures["fetch: share of the step's time (%)"] == pytest.approx(
        100 * section.speeds["training step"].median / section.speeds["fetch"].median
    )


def test_evaluation_and_checkpoint(settings):
    assert SECTIONS["eval"](settings).speeds["fer_jax"].median > 0
    figures = SECTIONS["checkpoint"](settings).figures
    assert figures["save: until it is on disk (s)"] >= figures["save: training waits (s)"]
    # Parameters and Adam's two moments, float32; most of the tiny network is its classifier.
    assert figures["size (MB)"] > 0.01


def test_lowerings_in_the_step_and_by_shape(settings, monkeypatch):
    built = []

    def runner(config):
        built.append(config.model.depthwise_lowering)
        return timed(lambda: None, 8)

    monkeypatch.setattr(sections, "TrainRunner", runner)
    section = SECTIONS["depthwise"](settings)
    assert built == ["native", "shift_and_add"]
    assert set(section.speeds) == {"training step, native", "training step, shift_and_add"}
    assert section.rows[0]["shape"] == "16 x 16 x 8, 3 x 3 / 1"
    assert section.rows[0]["forward, native (ms)"] > 0
    assert section.rows[0]["auto"] == "shift_and_add,shift_and_add,shift_and_add"


SPEEDS = {"fer_jax": Speed(200.0, 150.0, 210.0, 5.0, 3, 2), "torch 9": Speed(100.0, 90.0, 110.0, 9.0, 3, 2)}
ROWS = [
    {"shape": f"{n} x {n}", "times": 1, "forward, native (ms)": 2.0, "forward, shift_and_add (ms)": 0.5} for n in (8, 4)
]


def test_results_as_table_json_and_chart(tmp_path):
    found = [
        Section("train", "Training step", SPEEDS, {"compute (GFLOP an image)": 0.25}),
        Section("depthwise", "Depthwise convolutions", rows=ROWS),
    ]
    console = Console(record=True, width=120)
    for section in found:
        presentation.print_section(section, console)
    text = console.export_text()
    for cell in ("200.0", "150.0 to 210.0", "0.50 x", "compute (GFLOP an image)", "0.25", "8 x 8"):
        assert cell in text
    presentation.write_json(tmp_path / "out" / "benchmark.json", {"device": "cpu"}, found)
    read = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert read["setting"] == {"device": "cpu"}
    assert read["results"]["train"]["speeds"]["torch 9"]["median"] == 100.0
    assert read["results"]["depthwise"]["rows"][1]["shape"] == "4 x 4"
    assert presentation.write_chart(tmp_path / "chart.png", "tiny", found)
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_no_chart_without_bars(tmp_path):
    assert not presentation.write_chart(tmp_path / "chart.png", "tiny", [Section("checkpoint", "Checkpoint")])
    assert not (tmp_path / "chart.png").exists()
