"""The benchmark on the tiny backbone for one round: every section runs, and its figures agree with each other."""

import json

import jax
import pytest
from rich.console import Console

from fer_jax.benchmarking import depthwise, dispatch, frozen, render, sections
from fer_jax.benchmarking.rounds import Speed, timed
from fer_jax.benchmarking.runners import TrainRunner
from fer_jax.benchmarking.section import Section, Settings
from fer_jax.benchmarking.sections import SECTIONS
from fer_jax.commands.benchmark import WHAT
from fer_jax.compile_check.devices import Peak
from fer_jax.models.build import model_spec
from fer_jax.models.fernet import BACKBONES
from fer_jax.training.state import create_model


@pytest.fixture
def settings(make_tiny_config):
    config = make_tiny_config()
    config.train.batch_size = config.eval.batch_size = 8
    return Settings(config, Peak("made up", {"float32": 1e12}, 1e11), rounds=1, steps=1)


def test_the_command_knows_every_section():
    assert tuple(SECTIONS) == WHAT


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
    monkeypatch.setattr(sections, "eval_runner", lambda config, num_images: timed(lambda: None, 8))
    section = SECTIONS["input"](settings)
    assert built == [(0.0, True), (10.0, False)]
    assert list(section.speeds)[:2] == ["fetch", "fetch, augment, resize"]
    assert section.figures["fetch: share of the step's time (%)"] == pytest.approx(
        100 * section.speeds["training step"].median / section.speeds["fetch"].median
    )


def test_evaluation_of_a_whole_split_beside_the_forward_pass(settings, monkeypatch):
    monkeypatch.setattr(sections, "FER2013_VALIDATION_IMAGES", 30)
    section = SECTIONS["eval"](settings)
    whole, forward = section.speeds.values()
    assert list(section.speeds) == ["evaluation of 30 images", "forward pass alone"]
    figures = section.figures
    assert figures["evaluation beside the forward pass alone (%)"] == pytest.approx(100 * whole.median / forward.median)


def test_frozen_steps_cost_less_and_count_what_trains(settings):
    section = SECTIONS["frozen"](settings)
    whole, anew, cached = section.speeds
    figures = section.figures
    flops = [figures[f"{name}: compute of a device (GFLOP a step)"] for name in (whole, anew, cached)]
    assert flops[0] > 2 * flops[1] > 4 * flops[2] > 0
    # Adam's two moments of what trains, and its count.
    params, _ = create_model(model_spec(settings.config, [BACKBONES["tiny"]], 7), 0)
    for name, part in ((whole, params), (anew, params["classifier"]), (cached, params["classifier"])):
        expected = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(part))
        assert 1e6 * figures[f"{name}: optimizer state (MB)"] == pytest.approx(expected, abs=16)
    speeds = [section.speeds[name].median for name in (whole, anew, cached)]
    assert figures["classifier alone: time beside everything (ratio)"] == pytest.approx(speeds[0] / speeds[1])
    ratio = "cached features: images a second beside images anew (ratio)"
    assert figures[ratio] == pytest.approx(speeds[2] / speeds[1])
    assert figures["computing features, 1,000 images (s)"] > 0


def test_feature_times_leave_out_the_first_batch_and_the_other_split():
    # Three batches of 10 images at 2 s each but for the first, which compiles, and one of the validation split.
    assert frozen.seconds_an_image([50.0, 52.0, 54.0, 90.0], 30) == pytest.approx(0.2)


def test_steps_of_one_call_are_those_of_several(settings, monkeypatch):
    monkeypatch.setattr(dispatch, "STEPS_AT_A_TIME", (2,))
    training = []

    def runner(config):
        training.append(TrainRunner(config))
        return training[0]

    monkeypatch.setattr(dispatch, "TrainRunner", runner)
    section = SECTIONS["dispatch"](settings)
    assert list(section.speeds) == ["1 step a call, as train.py", "2 steps a call"]
    # The first step, two rounds of two steps in either way, and one call by itself.
    assert int(training[0].state.step) == 1 + 2 * 2 * 2 + 1
    assert section.figures["1 step a call: until it returns (ms)"] > 0


def test_checkpoint(settings):
    figures = SECTIONS["checkpoint"](settings).figures
    assert figures["save: until it is on disk (s)"] >= figures["save: training waits (s)"]
    # Parameters and Adam's two moments, float32; most of the tiny network is its classifier.
    assert figures["size (MB)"] > 0.01


def test_lowerings_in_the_step_and_by_shape(settings, monkeypatch):
    built = []

    def runner(config):
        built.append(config.model.depthwise_lowering)
        return timed(lambda: None, 8)

    monkeypatch.setattr(depthwise, "TrainRunner", runner)
    section = SECTIONS["depthwise"](settings)
    assert built == ["native", "shift_and_add"]
    assert set(section.speeds) == {"training step, native", "training step, shift_and_add"}
    assert section.rows[0]["shape"] == "16 x 16 x 8, 3 x 3 / 1"
    assert section.rows[0]["forward, native (ms)"] > 0
    assert section.figures["whole network: forward, native (ms)"] == pytest.approx(
        sum(row["times"] * row["forward, native (ms)"] for row in section.rows)
    )
    assert "auto is shift_and_add in all directions" in section.note
    assert section.note.endswith(
        f"--config.model.depthwise_lowering={depthwise.fastest_lowering(depthwise.network_milliseconds(section.rows))}"
    )


def _milliseconds(*native, times=1):
    """A row in which shift and add takes 2 ms in each direction, and the native convolution what is given."""
    row = {"shape": "8 x 8", "times": times}
    for direction, found in zip(("forward", "input gradient", "kernel gradient"), native, strict=True):
        row |= {f"{direction}, native (ms)": found, f"{direction}, shift_and_add (ms)": 2.0}
    return row


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([_milliseconds(1.0, 3.0, 1.5)], "native,shift_and_add,native"),
        ([_milliseconds(1.0, 1.0, 1.0)], "native"),
        ([_milliseconds(3.0, 3.0, 3.0)], "shift_and_add"),
        ([_milliseconds(2.0, 2.0, 9.0)], "native,native,shift_and_add"),
        # 1 ms lost once and 0.4 ms gained once, or gained three times.
        ([_milliseconds(3.0, 1.0, 1.0), _milliseconds(1.6, 1.0, 1.0)], "shift_and_add,native,native"),
        ([_milliseconds(3.0, 1.0, 1.0), _milliseconds(1.6, 1.0, 1.0, times=3)], "native"),
    ],
)
def test_fastest_lowering_has_the_least_time_over_the_network(rows, expected):
    assert depthwise.fastest_lowering(depthwise.network_milliseconds(rows)) == expected


SPEEDS = {"fer_jax": Speed(200.0, 150.0, 210.0, 5.0, 3, 2), "torch 9": Speed(100.0, 90.0, 110.0, 9.0, 3, 2)}
ROWS = [
    {"shape": f"{n} x {n}", "times": 1, "forward, native (ms)": 2.0, "forward, shift_and_add (ms)": 0.5} for n in (8, 4)
]


def test_results_as_table_json_and_chart(tmp_path):
    found = [
        Section("train", "Training step", SPEEDS, {"compute (GFLOP an image)": 0.25}),
        Section("depthwise", "Depthwise convolutions", rows=ROWS, note=f"{'a note ' * 20}--config.model.x=native"),
    ]
    console = Console(record=True, width=120)
    for section in found:
        render.print_section(section, console)
    text = console.export_text()
    note = "a note --config.model.x=native\n"
    for cell in ("200.0", "150.0 to 210.0", "0.50 x", "compute (GFLOP an image)", "0.25", "8 x 8", note):
        assert cell in text
    render.write_json(tmp_path / "out" / "benchmark.json", {"device": "cpu"}, found)
    read = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert read["setting"] == {"device": "cpu"}
    assert read["results"]["train"]["speeds"]["torch 9"]["median"] == 100.0
    assert read["results"]["depthwise"]["rows"][1]["shape"] == "4 x 4"
    assert read["results"]["depthwise"]["note"].endswith("--config.model.x=native")
    assert render.write_chart(tmp_path / "chart.png", "tiny", found)
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_no_chart_without_bars(tmp_path):
    assert not render.write_chart(tmp_path / "chart.png", "tiny", [Section("checkpoint", "Checkpoint")])
    assert not (tmp_path / "chart.png").exists()


def test_export_beside_jax(settings):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    settings.config.eval.batch_size = 1
    section = SECTIONS["exports"](settings)
    in_jax, in_onnxruntime = (section.speeds[f"{name}, batch 1"] for name in ("JAX", "onnxruntime"))
    assert (in_jax.steps, in_jax.rounds) == (16, 1)
    assert section.figures == {"onnxruntime beside JAX, batch 1 (ratio)": in_onnxruntime.median / in_jax.median}
