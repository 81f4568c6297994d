"""The models of timm and torchvision with drawn weights, and their outputs after stem, each block and top.

    python tests/pretrained/golden/torch_models.py

writes the golden files beside it; it needs PyTorch, torchvision and timm, and none of this project.
"""

from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from drawing import draw_images, draw_state, kept_values

MODELS = {
    "torchvision-efficientnet_b0": lambda: torchvision.models.efficientnet_b0(),
    "torchvision-mobilenet_v2": lambda: torchvision.models.mobilenet_v2(),
    "timm-efficientnet_b0": lambda: timm.create_model("efficientnet_b0"),
    "timm-mobilenet_v2": lambda: timm.create_model("mobilenetv2_100"),
    "timm-tf-efficientnet_b0": lambda: timm.create_model("tf_efficientnet_b0"),
    "timm-tf-efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0"),
}
"""By flavour and architecture."""

GOLDEN_SIZE = 136
"""Pixels: even before three strides, odd before two, and at least 5 in the end, below which float64 is slow in JAX."""


def drawn_model(name):
    """A model of `MODELS` in float64 and evaluation mode with drawn weights, and these as a float32 state dict."""
    model = MODELS[name]().double().eval()
    state = draw_state({key: tuple(value.shape) for key, value in model.state_dict().items()})
    model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return model, state


def mean_and_std(name, model):
    """The preprocessing that the model's own configuration asks for, for RGB in 0..1."""
    if name.startswith("timm"):
        return model.default_cfg["mean"], model.default_cfg["std"]
    return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def stages(name, model, images):
    """Float64 [n, h, w, c] after the stem, each block and the top, for RGB images in 0..255."""
    if name.startswith("timm"):
        modules = [model.bn1, *(block for stage in model.blocks for block in stage), model.bn2]
    elif name.endswith("mobilenet_v2"):
        modules = list(model.features)
    else:
        stem, *middle, top = model.features
        modules = [stem, *(block for stage in middle for block in stage), top]
    outputs = []
    hooks = [module.register_forward_hook(lambda *args: outputs.append(args[2])) for module in modules]
    mean, std = mean_and_std(name, model)
    inputs = torch.from_numpy((images.astype(np.float64) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return [output.permute(0, 2, 3, 1).numpy() for output in outputs]


def write_golden(name, folder):
    model, state = drawn_model(name)
    outputs = stages(name, model, draw_images(GOLDEN_SIZE))
    np.savez_compressed(
        folder / f"{name}.npz",
        names=np.array(list(state)),
        shapes=np.array([",".join(map(str, value.shape)) for value in state.values()]),
        size=GOLDEN_SIZE,
        stds=np.array([output.std() for output in outputs]),
        values=np.stack([kept_values(output) for output in outputs]),
    )


if __name__ == "__main__":
    for name in MODELS:
        write_golden(name, Path(__file__).parent)
