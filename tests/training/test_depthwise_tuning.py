"""The choice of lowerings on a GPU, with a measurement that is made up: no GPU is needed to know what comes of it."""

import json
import re
from types import SimpleNamespace

import jax
import pytest

import fer_jax
from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.models.convolutions.depthwise import DIRECTIONS, DepthwiseShape
from fer_jax.models.convolutions.timing import depthwise_shapes
from fer_jax.runs.checkpoint import find_model
from fer_jax.runtime import sharding as meshes
from fer_jax.train import train
from fer_jax.training import depthwise_tuning
from fer_jax.training.depthwise_tuning import RECORD, choose, from_json, to_json, tune, tune_run
from fer_jax.training.program import train_program

SMALL = DepthwiseShape(size=6, channels=4, kernel=3, stride=1, padding="same")
LARGE = DepthwiseShape(size=12, channels=4, kernel=5, stride=2, padding="symmetric")
MIXED = "native,shift_and_add,shift_and_add"


class Gpu:
    """Measures as a GPU whose native convolution has slow gradients, and counts how often it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, shape, direction):
        self.asked.append((shape, direction))
        return {"native": 1.0, "shift_and_add": 2.0 if direction == "forward" else 0.5}


@pytest.fixture
def gpu():
    return Gpu()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "lowerings.json"


def test_the_faster_one_of_each_direction_is_chosen(gpu, cache):
    tuning = choose((SMALL, LARGE), 32, "float32", "H100", cache, gpu)
    assert tuning.choices == ((SMALL, MIXED), (LARGE, MIXED))
    assert gpu.asked == [(shape, direction) for shape in (SMALL, LARGE) for direction in DIRECTIONS]
    assert "on H100: of 2 shapes, shift_and_add for the forward of 0, input gradient of 2, kernel" in tuning.message
    assert "2 shapes measured" in tuning.message


def test_equally_fast_is_native(cache):
    tuning = choose((SMALL,), 32, "float32", "H100", cache, lambda *_: {"native": 1.0, "shift_and_add": 1.0})
    assert tuning.choices == ((SMALL, "native,native,native"),)


def test_direction_that_does_not_run_is_native(cache):
    def measure(shape, direction):
        if direction == "kernel gradient":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return {"native": 1.0, "shift_and_add": 0.5}

    assert choose((SMALL,), 32, "float32", "H100", cache, measure).choices == (
        (SMALL, "shift_and_add,shift_and_add,native"),
    )


def test_what_is_known_is_not_measured_again(gpu, cache):
    choose((SMALL,), 32, "float32", "H100", cache, gpu)
    del gpu.asked[:]
    tuning = choose((SMALL, LARGE), 32, "float32", "H100", cache, gpu)
    assert {shape for shape, _ in gpu.asked} == {LARGE}
    assert dict(tuning.choices) == {SMALL: MIXED, LARGE: MIXED}
    assert f"1 known from {cache}" in tuning.message


@pytest.mark.parametrize(
    "other",
    [
        {"batch_size": 33},
        {"dtype": "bfloat16"},
        {"device_kind": "A100"},
        {"shapes": (LARGE,)},
        {"jax": "0"},
        {"us": "0"},
    ],
)
def test_whatever_else_it_depends_on_is_measured_anew(other, gpu, cache, monkeypatch):
    arguments = {"shapes": (SMALL,), "batch_size": 32, "dtype": "float32", "device_kind": "H100"}
    choose(**arguments, cache=cache, measure=gpu)
    before = json.loads(cache.read_text())
    del gpu.asked[:]
    monkeypatch.setattr(jax, "__version__", other.pop("jax", jax.__version__))
    monkeypatch.setattr(fer_jax, "__version__", other.pop("us", fer_jax.__version__))
    choose(**arguments | other, cache=cache, measure=gpu)
    assert len(gpu.asked) == 3
    # Beside what was there.
    assert before.items() < json.loads(cache.read_text()).items()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b"null", b"[" * 100_000, "same keys, other values", "a folder"]
)
def test_damaged_cache_is_measured_again(content, gpu, cache):
    choose((SMALL,), 32, "float32", "H100", cache, gpu)
    if content == "same keys, other values":
        cache.write_text(json.dumps({key: ["fast"] for key in json.loads(cache.read_text())}))
    elif content == "a folder":
        cache.unlink()
        cache.mkdir()
    else:
        cache.write_bytes(content)
    del gpu.asked[:]
    assert choose((SMALL,), 32, "float32", "H100", cache, gpu).choices == ((SMALL, MIXED),)
    assert len(gpu.asked) == 3
    if content != "a folder":
        assert list(json.loads(cache.read_text()).values()) == [MIXED]


def test_what_there_is_no_time_for_stays_native_and_unknown(gpu, cache):
    # The start, a look before each of two shapes, and the end.
    times = iter([0.0, 1.0, 11.0, 12.0])
    tuning = choose((SMALL, LARGE), 32, "float32", "H100", cache, gpu, budget_seconds=10.0, clock=lambda: next(times))
    assert tuning.choices == ((SMALL, MIXED),)
    assert "1 left native for want of time" in tuning.message
    assert len(json.loads(cache.read_text())) == 1


@pytest.fixture
def pretended(gpu, tmp_path, monkeypatch):
    """Lets the devices of this machine pass for GPUs, but for what compiles for them."""

    def seconds(shape, direction, batch_size, dtype, *, rounds, calls):
        return gpu(shape, direction)

    monkeypatch.setattr(depthwise_tuning, "is_measured", lambda config, mesh: True)
    monkeypatch.setattr(depthwise_tuning, "lowering_seconds", seconds)
    monkeypatch.setattr(depthwise_tuning, "user_cache_path", lambda name: tmp_path / "cache")
    return gpu


@pytest.mark.parametrize(
    ("platform", "lowering", "measured"),
    [
        ("gpu", "auto", True),
        ("gpu", MIXED, False),
        ("gpu", "native", False),
        ("cpu", "auto", False),
        ("tpu", "auto", False),
    ],
)
def test_only_auto_on_a_gpu_is_measured(platform, lowering, measured, make_tiny_config):
    config = make_tiny_config()
    config.model.depthwise_lowering = lowering
    mesh = SimpleNamespace(devices=SimpleNamespace(flat=[SimpleNamespace(platform=platform)]))
    assert depthwise_tuning.is_measured(config, mesh) is measured


def test_cpu_never_measures(make_tiny_config, tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(depthwise_tuning, "lowering_seconds", None)
    monkeypatch.setattr(depthwise_tuning, "user_cache_path", None)
    assert tune(make_tiny_config(), [tiny_backbone], meshes.make_mesh()) == depthwise_tuning.Tuning()
    assert tune_run(make_tiny_config(), [tiny_backbone], meshes.make_mesh(), tmp_path) == depthwise_tuning.Tuning()
    assert not list(tmp_path.iterdir())


def test_run_keeps_its_choices_whatever_becomes_of_the_cache(pretended, make_tiny_config, tiny_backbone, tmp_path):
    arguments = make_tiny_config(), [tiny_backbone], meshes.make_mesh(), tmp_path
    first = tune_run(*arguments)
    assert set(dict(first.choices)) == set(depthwise_shapes([tiny_backbone], 32))
    (cache,) = (tmp_path / "cache").iterdir()
    cache.write_text(cache.read_text().replace("shift_and_add", "native"))
    asked = len(pretended.asked)
    again = tune_run(*arguments)
    assert again.choices == first.choices
    assert again.message.endswith("as when this run began")
    assert len(pretended.asked) == asked == 3 * len(first.choices)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda text: "{}",
        lambda text: text.replace(MIXED, "native,fast,native", 1),
        lambda text: text.replace('"size"', '"sise"', 1),
        lambda text: re.sub(r'"size": \d+', '"size": true', text, count=1),
    ],
)
def test_damaged_record_of_a_run_is_named(damage, pretended, make_tiny_config, tiny_backbone, tmp_path):
    arguments = make_tiny_config(), [tiny_backbone], meshes.make_mesh(), tmp_path
    tune_run(*arguments)
    (tmp_path / RECORD).write_text(damage((tmp_path / RECORD).read_text()))
    with pytest.raises(InputError, match=rf"{RECORD}: .*; it is damaged, bring it back from a backup"):
        tune_run(*arguments)


def test_choices_there_and_back_through_json():
    choices = ((SMALL, MIXED), (LARGE, "native"))
    assert from_json(json.loads(json.dumps(to_json(choices))), "there") == choices


def test_choices_reach_the_compiled_step(pretended, make_tiny_config, tiny_backbone):
    """Compiled for a GPU, the step has a native convolution for each direction that has it, and no other."""

    def grouped_convolutions(config, platform):
        program = train_program(config, meshes.make_mesh())
        traced = program.step.trace(program.state, program.metrics, program.data, program.order)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return len(re.findall(r"(?:feature|batch)_group_count = (?!1\b)\d+", text))

    config, blocks = make_tiny_config(), tiny_backbone.num_blocks
    assert grouped_convolutions(config, "cuda") == blocks
    assert grouped_convolutions(config, "cpu") == 0
    assert grouped_convolutions(config, "tpu") == 3 * blocks
    config.model.depthwise_lowering = "native"
    assert grouped_convolutions(config, "cuda") == 3 * blocks


def test_run_on_a_pretended_gpu(pretended, make_tiny_config, faces, whole_run, assert_same_run, tmp_path, capsys):
    """The choices are in its checkpoints; as compiled for this machine it is the run without them, to the bit."""
    workdir = tmp_path / "run"
    train(make_tiny_config(), faces, workdir)
    assert "shapes measured in" in capsys.readouterr().out
    recorded = json.loads((workdir / RECORD).read_text())
    assert recorded == list(find_model(workdir).record.description.depthwise_choices)
    assert {row["lowering"] for row in recorded} == {MIXED}
    assert_same_run(workdir, whole_run[0])
    model = TrainedModel(workdir)
    assert model.probabilities(faces.validation.images).shape == (30, 7)

    asked = len(pretended.asked)
    train(make_tiny_config(), faces, workdir)
    assert "as when this run began" in capsys.readouterr().out
    assert len(pretended.asked) == asked


@pytest.mark.slow
def test_on_a_gpu(make_tiny_config, tiny_backbone, tmp_path, monkeypatch):
    """JAX_PLATFORMS=cuda pytest -m slow tests/training/test_depthwise_tuning.py"""
    if jax.devices()[0].platform != "gpu":
        pytest.skip("there is no GPU")
    monkeypatch.setattr(depthwise_tuning, "user_cache_path", lambda name: tmp_path / "cache")
    arguments = make_tiny_config(), [tiny_backbone], meshes.make_mesh()
    first = tune(*arguments)
    assert set(dict(first.choices)) == set(depthwise_shapes([tiny_backbone], 32))
    second = tune(*arguments)
    assert second.choices == first.choices
    assert "0 shapes measured" in second.message
