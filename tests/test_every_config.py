"""Every shipped config: its training step on gray and on colour images, with tiny networks in place of its own."""

import dataclasses
from pathlib import Path

import jax
import pytest

from fer_jax.config.defaults import check_config
from fer_jax.config.loading import load_config
from fer_jax.testing import MINI, TINY, drawn_split, registered, step_of_config

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.py"))
SWISH = dataclasses.replace(TINY, name="swish", stages=TINY.stages[1:2])
RELU6 = dataclasses.replace(MINI, name="relu6", stages=MINI.stages[1:2])
STAND_INS = {"efficientnet_b0": SWISH, "efficientnet_lite0": SWISH, "mobilenet_v2": RELU6}
BATCH = 8

every_config = pytest.mark.parametrize("name", CONFIGS)
gray_and_colour = pytest.mark.parametrize("colour", [False, True], ids=["gray", "colour"])


def tiny(name):
    """The config `name`, its networks and its input as small as compile quickly, all else as it is."""
    config = load_config([f"--config={FOLDER / name}"])
    config.init = "scratch"
    config.model.backbones = tuple(STAND_INS[backbone].name for backbone in config.model.backbones)
    config.model.hidden_units = tuple(8 for _ in config.model.hidden_units)
    config.model.input_size = 32
    config.train.batch_size = BATCH
    return config


@every_config
@gray_and_colour
def test_step_is_traced_and_keeps_the_shapes_of_its_state(name, colour):
    with registered(SWISH, RELU6):
        config = tiny(name)
        check_config(config)
        made = step_of_config(config, drawn_split(2 * BATCH, colour=colour))
        state, metrics, split, order = jax.eval_shape(made.arguments)
        after, _ = jax.eval_shape(made.step, state, metrics, split, order)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
