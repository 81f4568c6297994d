"""Every shipped config: its training step on gray and on colour images, with tiny networks in place of its own."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from fer_jax.config.defaults import check_config
from fer_jax.config.loading import load_config
from fer_jax.params.tree import leaves_by_path, select
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
    for backbone, stand_in in STAND_INS.items():
        rows = (row.replace(f"backbones/{backbone}/", f"backbones/{stand_in.name}/") for row in config.train.parameters)
        config.train.parameters = tuple(rows)
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


def changed(before, after):
    """The paths of the arrays that differ."""
    before, after = leaves_by_path(before), leaves_by_path(after)
    assert before.keys() == after.keys()
    return {path for path, leaf in before.items() if not np.array_equal(leaf, after[path])}


# The one recipe that has everything: averages, groups with rates of their own, erasing.
@pytest.mark.parametrize(("name", "colour"), [("strong/mobilenet_v2.py", True)])
def test_steps_change_what_trains_and_nothing_else(name, colour):
    with registered(SWISH, RELU6):
        made = step_of_config(tiny(name), drawn_split(2 * BATCH, colour=colour))
        state, metrics, split, order = made.arguments()
    before = jax.tree.map(np.asarray, state)
    # A warm-up leaves the first step without any learning rate.
    for _ in range(2):
        state, metrics = made.step(state, metrics, split, order)
    assert int(state.step) == 2
    assert float(metrics.loss.count) == 2 * BATCH
    assert np.isfinite(metrics.compute()["loss"])
    trained = set(leaves_by_path(select(before.params, made.table.ever_trains)))
    assert changed(before.params, state.params) == trained
    modules = {path[:-1] for path in trained}
    assert changed(before.batch_stats, state.batch_stats) == {
        path for path in leaves_by_path(before.batch_stats) if path[:-1] in modules
    }
    if before.average is not None:
        assert changed(before.average["params"], state.average["params"]) == trained
