"""Weights of torchvision and timm: against activations kept in `golden/`, and where PyTorch is there, against it."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy

from fer_jax.errors import InputError
from fer_jax.pretrained import torch_state
from fer_jax.pretrained.convert import convert_file

NAMES = (
    "torchvision-efficientnet_b0",
    "torchvision-mobilenet_v2",
    "timm-efficientnet_b0",
    "timm-mobilenet_v2",
    "timm-tf-efficientnet_b0",
    "timm-tf-efficientnet_lite0",
)
TOLERANCE = 1e-4


@pytest.fixture
def golden(request, golden_folder):
    with np.load(golden_folder / f"{request.param}.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture
def state(golden, drawing):
    shapes = {
        str(name): tuple(int(size) for size in shape.split(",") if size)
        for name, shape in zip(golden["names"], golden["shapes"], strict=True)
    }
    return drawing.draw_state(shapes)


def _convert(state, folder, name):
    safetensors.numpy.save_file(state, folder / "state.safetensors")
    flavour, _, architecture = name.rpartition("-")
    return convert_file(folder / "state.safetensors", architecture, flavour)


def _difference(stages, golden, drawing):
    kept = np.stack([drawing.kept_values(output) for output in stages])
    return (np.abs(kept - golden["values"]).max(axis=1) / golden["stds"]).max()


@pytest.mark.parametrize(("golden", "name"), [(name, name) for name in NAMES], indirect=["golden"], ids=NAMES)
def test_golden_activations(golden, state, name, drawing, our_stages, tmp_path):
    weights = _convert(state, tmp_path, name)
    images = drawing.draw_images(int(golden["size"]))
    stages, _ = our_stages(weights, images)
    assert _difference(stages, golden, drawing) <= TOLERANCE

    axes = ("blocks", 1, "depthwise", "conv", "kernel")
    spec = weights.spec
    wrong = {
        "padding": {"spec": dataclasses.replace(spec, padding={"same": "symmetric"}.get(spec.padding, "same"))},
        "epsilon": {"spec": dataclasses.replace(spec, batch_norm_epsilon=1e-8 / spec.batch_norm_epsilon)},
        "axes": {"arrays": weights.arrays | {axes: weights.arrays[axes].swapaxes(0, 1)}},
    }
    for mistake, changes in wrong.items():
        stages, _ = our_stages(dataclasses.replace(weights, **changes), images)
        assert _difference(stages, golden, drawing) >= 100 * TOLERANCE, mistake


@pytest.mark.parametrize("golden", ["timm-tf-efficientnet_lite0"], indirect=True)
def test_efficientnet_pytorch_names(state, golden_folder, tmp_path):
    """The names in the file of EfficientNet-Lite0 that is published, in the order of the same layers in timm."""
    names = (golden_folder / "efficientnet_pytorch_lite0_names.txt").read_text().split()
    renamed = dict(zip(names, state.values(), strict=True))
    expected = _convert(state, tmp_path, "timm-tf-efficientnet_lite0")
    found = _convert(renamed, tmp_path, "efficientnet-pytorch-efficientnet_lite0")
    assert found.arrays.keys() == expected.arrays.keys()
    assert all(np.array_equal(found.arrays[path], expected.arrays[path]) for path in expected.arrays)
    assert np.array_equal(found.head["kernel"], expected.head["kernel"])


def test_without_torch_a_pth_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_state.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "state.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="PyTorch is not installed"):
        convert_file(tmp_path / "state.pth", "mobilenet_v2", "timm")


@pytest.mark.slow
@pytest.mark.parametrize("size", [199, 200, 224])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_pytorch(name, size, torch_models, drawing, our_stages, relative_difference, tmp_path):
    import torch

    model, _ = torch_models.drawn_model(name)
    images = drawing.draw_images(size)
    # A training pass sets the running statistics to the batch's, as far as float32 holds them.
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    model.train()
    for norm in norms:
        norm.momentum = 1.0
    for module in model.modules():
        if "Dropout" in type(module).__name__ or "DropPath" in type(module).__name__ or "Stochastic" in str(module):
            module.eval()
    torch_models.stages(name, model, images)
    model.eval().float().double()
    reference = torch_models.stages(name, model, images)
    torch.save(model.float().state_dict(), tmp_path / "state.pth")
    flavour, _, architecture = name.rpartition("-")
    ours, _ = our_stages(convert_file(tmp_path / "state.pth", architecture, flavour), images)
    assert relative_difference(ours, reference) <= TOLERANCE
    assert (ours[-1][0] - ours[-1][1]).std() > 0.1 * ours[-1].std()


@pytest.mark.slow
def test_a_pickled_model_is_not_unpickled(torch_models, tmp_path):
    import torch

    torch.save(torch_models.MODELS["timm-mobilenet_v2"](), tmp_path / "model.pth")
    with pytest.raises(InputError, match="more than a state dict"):
        convert_file(tmp_path / "model.pth", "mobilenet_v2", "timm")
