"""Build the specification of a network from a config."""

from collections.abc import Sequence

import jax.numpy as jnp
from ml_collections import ConfigDict

from fer_jax.models.backbone import BackboneOptions
from fer_jax.models.fernet import FerNetSpec
from fer_jax.models.spec import BackboneSpec


def model_spec(config: ConfigDict, backbones: Sequence[BackboneSpec], num_classes: int) -> FerNetSpec:
    """Return the network that a config describes, on backbones as their initial weights want them."""
    options = BackboneOptions(
        drop_path=config.model.drop_path,
        batch_norm_momentum=config.model.batch_norm_momentum,
        dtype=jnp.dtype(config.model.dtype),
        depthwise_lowering=config.model.depthwise_lowering,
        rematerialise=config.model.rematerialise,
    )
    return FerNetSpec(
        backbones=tuple(backbones),
        input_size=config.model.input_size,
        pooling=config.model.pooling,
        hidden_units=tuple(config.model.hidden_units),
        dropout=config.model.dropout,
        num_classes=num_classes,
        options=options,
    )
