"""What `config.init` becomes, and that converted weights fit the modules exactly."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from fer_jax.errors import InputError
from fer_jax.models.backbone import Backbone, BackboneOptions, Preprocessing
from fer_jax.models.fernet import BACKBONES
from fer_jax.pretrained.initial import initial_backbones
from fer_jax.pretrained.layers import backbone_layers
from fer_jax.pretrained.manifest import converted_place
from fer_jax.pretrained.weights import Weights, write_weights

VARIANT = {
    "padding": "symmetric",
    "batch_norm_epsilon": 1e-5,
    "preprocessing": {"mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)},
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def write(tmp_path):
    """Writes weights of an architecture, all arrays different."""

    def write(architecture, path):
        spec = BACKBONES[architecture].with_variant(VARIANT)
        shapes = {(*layer.path, n): s for layer in backbone_layers(spec) for n, s in layer.shapes().items()}
        arrays = {path: np.full(shape, i, np.float32) for i, (path, shape) in enumerate(shapes.items())}
        write_weights(path, Weights(spec, arrays, {}, "", f"origin of {architecture}", "abc", ""))
        return path

    return write


@pytest.mark.parametrize("architecture", BACKBONES)
def test_weights_fit_the_modules(architecture, write, tmp_path):
    path = write(architecture, tmp_path / "w.safetensors")
    (initial,) = initial_backbones(str(path), (architecture,))
    module = nnx.eval_shape(lambda: Backbone(initial.spec, BackboneOptions(), rngs=nnx.Rngs(0)))
    _, *expected_trees = nnx.split(module, nnx.Param, nnx.BatchStat)
    for found, state in zip((initial.params, initial.batch_stats), expected_trees, strict=True):
        expected = nnx.to_pure_dict(state)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        assert jax.tree.map(lambda a: (a.shape, a.dtype), found) == jax.tree.map(lambda a: (a.shape, a.dtype), expected)
    assert initial.spec.padding == "symmetric"
    assert initial.spec.batch_norm_epsilon == 1e-5
    assert initial.spec.preprocessing == Preprocessing(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    assert initial.origin == f"origin of {architecture}, sha256 abc"


def test_names_stand_for_converted_sources(write):
    write("efficientnet_b0", converted_place("keras_efficientnet_b0"))
    write("mobilenet_v2", converted_place("keras_mobilenet_v2"))
    write("mobilenet_v2", converted_place("timm_mobilenetv2_100.ra_in1k"))
    both = ("mobilenet_v2", "efficientnet_b0")
    for init in ("keras", "keras_efficientnet_b0, timm:mobilenetv2_100.ra_in1k"):
        assert [initial.spec.name for initial in initial_backbones(init, both)] == list(both)
    assert initial_backbones("timm:mobilenetv2_100.ra_in1k", both[:1])[0].spec.name == "mobilenet_v2"


def test_scratch_needs_no_file():
    (initial,) = initial_backbones("scratch", ("efficientnet_lite0",))
    assert initial.spec == BACKBONES["efficientnet_lite0"]
    assert initial.params is None


@pytest.mark.parametrize(
    ("init", "names", "message"),
    [
        ("keras", ("mobilenet_v2",), "convert_weights.py --source keras_mobilenet_v2.*--config.init=scratch"),
        ("keras", ("efficientnet_lite0",), "no keras weights of efficientnet_lite0"),
        ("timm:efficientnet_b0.ra", ("efficientnet_b0",), "did you mean 'timm_efficientnet_b0.ra_in1k'"),
        ("nowhere.safetensors", ("efficientnet_b0",), "neither a file nor the name of weights"),
    ],
)
def test_says_how_to_get_what_is_missing(init, names, message):
    with pytest.raises(InputError, match=message):
        initial_backbones(init, names)


def test_refuses_files_that_do_not_fit(write, tmp_path):
    path = write("mobilenet_v2", tmp_path / "w.safetensors")
    for names in (("efficientnet_b0",), ("mobilenet_v2", "efficientnet_b0")):
        with pytest.raises(InputError, match=r"weights of mobilenet_v2, expected one file each for"):
            initial_backbones(str(path), names)
    with pytest.raises(InputError, match="weights of mobilenet_v2, mobilenet_v2, expected one file"):
        initial_backbones(f"{path},{path}", ("mobilenet_v2",))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="damaged"):
        initial_backbones(str(path), ("mobilenet_v2",))


def test_refuses_safetensors_that_were_not_converted(tmp_path):
    safetensors.numpy.save_file({"a": np.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="not converted weights"):
        initial_backbones(str(tmp_path / "w.safetensors"), ("mobilenet_v2",))
