"""Blocks one by one: those of the network, and the figures of one."""

import jax
import pytest

from fer_jax.compile_check import blocks
from fer_jax.compile_check.cost import ProgramCost, program_cost
from fer_jax.models.backbone import BackboneOptions, Stage
from fer_jax.models.fernet import BACKBONES
from fer_jax.runtime.sharding import make_mesh


def test_blocks_are_those_of_the_network():
    shapes = blocks.block_shapes(BACKBONES["mobilenet_v2"], 200)
    assert sum(shapes.values()) == 17
    assert shapes[50, 24, Stage(1, 3, 1, 24, 6)] == 1
    assert shapes[13, 64, Stage(1, 3, 1, 64, 6)] == 3


def test_two_seeds_take_twice_the_operations_of_one(tiny_backbone):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shape = (6, 4, Stage(1, 3, 1, 4, 1))
    one, two = (
        program_cost(blocks.lower_block(tiny_backbone, BackboneOptions(), shape, 2, seeds, device).compile())
        for seeds in (1, 2)
    )
    assert two.flops == pytest.approx(2 * one.flops, rel=0.05)


def test_each_block_of_a_config_has_a_line(make_tiny_config, monkeypatch):
    lowered = []

    class Program:
        def compile(self):
            return self

        def as_text(self):
            return '  a = f32[] add(b, c), "estimated_cycles":"2500000"'

    def lower_block(spec, options, shape, batch, seeds, sharding):
        lowered.append((batch, seeds))
        return Program()

    monkeypatch.setattr(blocks, "lower_block", lower_block)
    monkeypatch.setattr(blocks, "program_cost", lambda program: ProgramCost(1.0, 1.0, fixed_bytes=1, temporary_bytes=1))
    lines = list(blocks.block_lines(make_tiny_config(), make_mesh(), 32, 4))
    assert lowered == [(32, 4)] * 3
    assert lines[0].startswith("tiny 16 x 16 x 8 to 8, expanded 1 x, 3 x 3 / 1, 1 in the network: 2.50 million cycles")
