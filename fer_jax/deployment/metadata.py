"""What an exported file says of itself: the keys and values of its metadata, the same in every format.

This module and `onnx_model` import no JAX: a machine that only uses an exported file need not have it.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from fer_jax.errors import InputError, shown

FORMAT_VERSION = 1
"""The version of the metadata, and of the meaning of the input and the output, that this code writes and reads."""

_Size = Annotated[int, msgspec.Meta(ge=1)]


class ExportMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a user of the file has to know, as the file holds it: each value is a string of JSON.

    Attributes:
      class_names: the names of the outputs, in order.
      input_size: height and width of the images that the file takes, in pixels. They are those of the training data;
        the file resizes them to the network's own input size.
      channels: 1 for gray images, uint8 [n, height, width]; 3 for RGB, uint8 [n, height, width, 3].
      temperature: what the logits are divided by, inside the file; 1 where none was fitted.
      config: the config of the training run, by key.
      source: where the network comes from, in words: checkpoint, data, initial weights, seed.
      format_version: `FORMAT_VERSION` of the code that wrote the file.
    """

    class_names: Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
    input_size: tuple[_Size, _Size]
    channels: int
    temperature: Annotated[float, msgspec.Meta(gt=0)]
    config: dict[str, Any]
    source: dict[str, Any]
    format_version: int = FORMAT_VERSION

    def __post_init__(self):
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}, expected 1 or 3")

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width) of gray images, (height, width, 3) of RGB."""
        return self.input_size if self.channels == 1 else (*self.input_size, 3)

    def encode(self) -> dict[str, str]:
        """Return the metadata as strings by key."""
        return {key: json.dumps(value) for key, value in msgspec.to_builtins(self).items()}


def decode_metadata(found: Mapping[str, str], where: str) -> ExportMetadata:
    """Return the metadata in `found`; raise `InputError`, which begins with `where`, if this code cannot read it."""
    if "format_version" not in found:
        raise InputError(f"{where}: has no format_version in its metadata; expected a file written by fer-jax export")
    values = {}
    for key in (field.name for field in msgspec.structs.fields(ExportMetadata) if field.name in found):
        try:
            values[key] = json.loads(found[key])
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: {key} in its metadata is {shown(found[key])}, expected JSON") from error
    if values["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{where}: is an export of version {shown(values['format_version'])}, this fer_jax reads version "
            f"{FORMAT_VERSION}; export the model again with this fer_jax, or use the one that wrote the file"
        )
    try:
        return msgspec.convert(values, ExportMetadata)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: its metadata cannot be used: {error}; export the model again") from error
