"""Weights as people have them: inside wrappers, behind prefixes, with classifiers of their own, in half precision."""

import dataclasses
import io
import json
import zipfile

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax

from fer_jax.errors import InputError
from fer_jax.pretrained.convert import convert_file
from fer_jax.pretrained.file_kind import kind_of_file
from fer_jax.pretrained.manifest import CONVENTIONS
from fer_jax.pretrained.matching import find_backbone
from fer_jax.pretrained.naming import EFFICIENTNET_PYTORCH, KERAS_EFFICIENTNET, TIMM, TORCHVISION_EFFICIENTNET
from fer_jax.pretrained.source_file import SourceFile

NORM = ("gamma", "beta", "moving_mean", "moving_variance")
TORCH = {"scale": "weight", "kernel": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


@pytest.fixture(autouse=True)
def _tiny_conventions(monkeypatch):
    for flavour in ("keras", "timm"):
        monkeypatch.setitem(CONVENTIONS, (flavour, "tiny"), CONVENTIONS[flavour, "efficientnet_b0"])


def _torch_layers(spec, naming=TIMM, prefix="", seed=0):
    """The arrays of `spec` as PyTorch has them, by layer."""
    rng, layers = np.random.default_rng(seed), {}
    for name, layer in naming.names(spec).items():
        arrays = layers[prefix + name] = {}
        for ours, shape in layer.shapes().items():
            if ours == "kernel":
                shape = (1, 1, *shape) if layer.kind == "gate" else shape
                shape = (shape[3], shape[2], *shape[:2])
            arrays[TORCH[ours]] = rng.uniform(size=shape).astype(np.float32)
    return layers


def _state(layers):
    return {f"{name}.{weight}": array for name, arrays in layers.items() for weight, array in arrays.items()}


def _file(tmp_path, **models):
    return SourceFile(tmp_path / "f.pth", "torch", models)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "model._orig_mod.module.", "backbone.net."])
def test_any_prefix_is_passed_over_and_what_stands_beside_is_named(prefix, tiny_backbone, tmp_path):
    layers = _torch_layers(tiny_backbone, prefix=prefix)
    beside = {f"{prefix}head.3": {"weight": np.ones((7, 5), "f4")}, "": {"loss_weight": np.ones(7, "f4")}}
    found = find_backbone(_file(tmp_path, state_dict=layers | beside), tiny_backbone, (TIMM,))
    assert all(found.layers[name] is layers[prefix + name] for name in found.expected)
    assert found.head is None
    assert found.notes[-1] == f"left out, as no part of the backbone: {prefix}head.3, loss_weight"


def test_the_classifier_that_the_weights_were_trained_with_is_kept_where_it_is_whole(tiny_backbone, tmp_path):
    layers = _torch_layers(tiny_backbone)
    head = {"weight": np.ones((7, tiny_backbone.top_channels), "f4"), "bias": np.ones(7, "f4")}
    for beside, kept in (({}, "classifier"), ({"classifier_2": head}, None)):
        file = _file(tmp_path, model=layers | {"classifier": head} | beside)
        assert find_backbone(file, tiny_backbone, (TIMM,)).head == kept


def test_the_moving_average_is_taken_and_two_networks_are_refused(tiny_backbone, tmp_path):
    plain, other = _torch_layers(tiny_backbone), _torch_layers(tiny_backbone, seed=1)
    found = find_backbone(_file(tmp_path, state_dict=plain, state_dict_ema=other), tiny_backbone, (TIMM,))
    # `state_dict_ema` is a word of its own here, as timm writes it.
    assert found.layers["conv_stem"] is other["conv_stem"]
    assert "moving average" in found.notes[0]
    with pytest.raises(InputError, match="holds 2 such networks, at teacher, student; keep one of them"):
        find_backbone(_file(tmp_path, teacher=plain, student=other), tiny_backbone, (TIMM,))
    assert find_backbone(_file(tmp_path, one=plain, same=plain), tiny_backbone, (TIMM,)).model == "one"


def test_the_features_of_torchvision_alone(tiny_backbone, tmp_path):
    naming = dataclasses.replace(TORCHVISION_EFFICIENTNET, top=("features.4.0", "features.4.1"))
    layers = _torch_layers(tiny_backbone, naming)
    alone = {f"0.{name.removeprefix('features.')}": arrays for name, arrays in layers.items()}
    file = _file(tmp_path, state_dict=alone | {"2": {"weight": np.ones((7, 24), "f4")}})
    found = find_backbone(file, tiny_backbone, (naming, naming.within("features.")))
    assert found.layers["0.0"] is layers["features.0.0"]


def test_names_of_efficientnet_pytorch_have_the_gates_of_b0():
    from fer_jax.models.fernet import BACKBONES

    names = EFFICIENTNET_PYTORCH.names(BACKBONES["efficientnet_b0"])
    assert {"_conv_stem", "_blocks.0._se_reduce", "_blocks.15._se_expand", "_blocks.15._bn2", "_bn1"} <= names.keys()
    assert "_blocks.0._expand_conv" not in names
    assert ("efficientnet-pytorch", "efficientnet_b0") in CONVENTIONS


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_widened(dtype, tiny_backbone, tmp_path):
    layers = _torch_layers(tiny_backbone)
    half = {name: jnp.asarray(array, dtype) for name, array in _state(layers).items()}
    safetensors.flax.save_file(half, tmp_path / "half.safetensors")
    found = convert_file(tmp_path / "half.safetensors", "tiny").arrays["top", "norm", "scale"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32(half[f"{TIMM.top[1]}.weight"]))


def test_gray_networks_are_said_to_be_gray(tiny_backbone, tmp_path):
    state = _state(_torch_layers(tiny_backbone))
    state["conv_stem.weight"] = state["conv_stem.weight"][:, :1]
    safetensors.flax.save_file({n: jnp.asarray(a) for n, a in state.items()}, tmp_path / "gray.safetensors")
    with pytest.raises(InputError, match=r"made for images of one channel \(gray\)"):
        convert_file(tmp_path / "gray.safetensors", "tiny")


def _keras_archive(spec, path, *, named, container="layers", nested=False):
    """A `.keras` file: groups by class and number, with the layers' names in them or in config.json alone."""
    rng, buffer, described, count = np.random.default_rng(0), io.BytesIO(), [], {}
    kinds = {"norm": "BatchNormalization", "depthwise": "DepthwiseConv2D"}
    with h5py.File(buffer, "w") as file:
        place = f"{container}/functional/{container}" if nested else container

        def add(kind, name, arrays, place=place):
            # Keras' own spelling of these classes, which the reader has to find by itself.
            group = {"BatchNormalization": "batch_normalization", "DepthwiseConv2D": "depthwise_conv2d"}.get(kind)
            group = group or kind.lower()
            number = count[place, group] = count.get((place, group), -1) + 1
            variables = file.create_group(f"{place}/{group}_{number}/vars" if number else f"{place}/{group}/vars")
            for i, array in enumerate(arrays):
                variables[str(i)] = np.float32(array)
            if named:
                variables.attrs["name"] = name
            return {"class_name": kind, "name": name, "config": {"name": name}}

        described.append(add("Normalization", "normalization", [np.zeros(3), np.ones(3), 0]))
        for name, layer in KERAS_EFFICIENTNET.names(spec).items():
            arrays = []
            for shape in layer.shapes().values():
                if layer.kind == "gate" and len(shape) == 2:
                    shape = (1, 1, *shape)
                arrays.append(rng.uniform(size=(*shape[:2], shape[3], 1) if layer.kind == "depthwise" else shape))
            described.append(add(kinds.get(layer.kind, "Conv2D"), name, arrays))
        if nested:
            described = [{"class_name": "Functional", "name": "base", "config": {"name": "base", "layers": described}}]
        described.append(add("Dense", "my_dense", [np.ones((24, 7)), np.ones(7)], container))
        file.create_group("optimizer/vars")["0"] = np.ones(3)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"layers": described}}))
        archive.writestr("model.weights.h5", buffer.getvalue())
    return path


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("layout", [{"named": False}, {"named": False, "container": "_layer_checkpoint_dependencies"}])
def test_keras_archives_of_all_versions_hold_the_same(layout, nested, tiny_backbone, tmp_path):
    newest = convert_file(_keras_archive(tiny_backbone, tmp_path / "new.keras", named=True), "tiny")
    found = convert_file(_keras_archive(tiny_backbone, tmp_path / "a.keras", nested=nested, **layout), "tiny")
    assert newest.arrays.keys() == found.arrays.keys()
    assert all(np.array_equal(newest.arrays[path], array) for path, array in found.arrays.items())
    assert newest.notes == ("left out, as no part of the backbone: my_dense",)
    assert found.notes[-1] == newest.notes[-1]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["a/constants.pkl", "a/code/net.py"], "a TorchScript archive"),
        (["m/saved_model.pb"], "a zip archive of a SavedModel of TensorFlow"),
        (["a.npy", "b.npy"], r"NumPy arrays \(\.npz\)"),
        (["best.pth"], "a zip archive of best.pth; unpack it"),
    ],
)
def test_archives_of_other_things_are_named(members, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for member in members:
            archive.writestr(member, "x")
    with pytest.raises(InputError, match=message):
        kind_of_file(tmp_path / "w.zip")


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("saved_model.pb", "a SavedModel folder of TensorFlow"),
        ("model.safetensors", r"a folder, expected a file; give .*model\.safetensors"),
        ("notes.txt", "a folder, expected a file of weights"),
    ],
)
def test_folders_are_named(inside, message, tmp_path):
    (tmp_path / inside).write_bytes(b"\x08\x01")
    with pytest.raises(InputError, match=message):
        kind_of_file(tmp_path)
