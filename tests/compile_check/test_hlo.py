"""Reading HLO: hand-written snippets whose collectives, bytes and gathers are known."""

import pytest

from fer_jax.compile_check import hlo

COMPILED = """
HloModule jit_step, is_scheduled=true
  %all-reduce.3 = f32[1280]{0:T(1024)S(1)} all-reduce(%x), channel_id=1, metadata={op_name="jit(step)/reduce_sum"}
  ROOT %all-reduce.4 = (bf16[3,3,1,32]{3,2,1,0:T(2,128)(2,1)S(1)}, /*index=1*/bf16[16]{0}, f32[]) all-reduce(%a, %b, %c)
  %start = (f32[8]{0}, f32[32]{0}) all-gather-start(%y), dimensions={0}
  %all-gather-done = f32[32]{0} all-gather-done(%start), metadata={op_name="jit(step)/gathered"}
  %add.1 = f32[4]{0} add(%all-reduce.3, %all-reduce.3), metadata={op_name="all-reduce"}
"""


def test_collectives_are_found_once_with_the_bytes_of_their_results():
    assert hlo.collectives(COMPILED) == [
        hlo.Collective("all-reduce", 1280 * 4, "jit(step)/reduce_sum"),
        hlo.Collective("all-reduce", 288 * 2 + 16 * 2 + 4, "unknown"),
        hlo.Collective("all-gather", 32 * 4, "jit(step)/gathered"),
    ]
    groups = hlo.by_opcode(hlo.collectives(COMPILED))
    assert {opcode: len(group) for opcode, group in groups.items()} == {"all-reduce": 2, "all-gather": 1}


def test_copies_of_an_array_are_counted():
    text = """
      %copy.1 = u8[90,48,48]{2,1,0:T(8,128)(4,1)} copy(%param.1), metadata={op_name="images"}
      %copy.2 = u8[32,48,48]{2,1,0} copy(%param.1)
      %fusion = u8[90,48,48]{2,1,0} fusion(%copy.1), kind=kLoop
    """
    assert hlo.copies(text, (90, 48, 48)) == 1
    assert hlo.copies(text, (91, 48, 48)) == 0


def test_estimated_cycles_as_shares_by_place():
    lines = [("conv", 600), ("add", 100), ("conv", 300)]
    text = "\n".join(
        f'%x = f32[] fusion(%y), metadata={{op_name="{name}"}}, backend_config={{"estimated_cycles":"{cycles}"}}'
        for name, cycles in lines
    )
    shares = hlo.cycle_shares(text)
    assert list(shares) == ["conv", "add"]
    assert shares == pytest.approx({"conv": 0.9, "add": 0.1})
    assert hlo.cycle_shares("%x = f32[] add(%y, %z)") == {}


def test_main_memory_bytes_by_where_arrays_lie():
    text = """
HloModule jit_step, is_scheduled=true
%fused (p: f32[1000]) -> f32[1000] {
  ROOT %twice = f32[1000]{0} add(%p, %p)
}

ENTRY %main (a: f32[100], b: bf16[64,2]) -> f32[100] {
  %a = f32[100]{0:T(128)} parameter(0)
  %b = bf16[64,2]{1,0:T(8,128)(2,1)} parameter(1)
  %copy-start = (f32[100]{0:T(128)S(1)}, f32[100]{0:T(128)}, u32[]{:S(2)}) copy-start(%a), dma_priority=1
  %copy-done = f32[100]{0:T(128)S(1)} copy-done(%copy-start)
  %slice-start = ((bf16[64,2]{1,0}), bf16[16,2]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%b), slice={[0:16], [0:2]}
  %slice-done = bf16[16,2]{1,0:S(1)} slice-done(%slice-start)
  %joined = bf16[32,2]{1,0:S(1)} custom-call(%slice-done, %slice-done), custom_call_target="ConcatBitcast"
  %fusion.1 = (f32[100]{0:T(128)S(1)}, f32[10]{0}) fusion(%copy-done, %a, %joined), kind=kLoop, calls=%fused
  %gte = f32[10]{0} get-tuple-element(%fusion.1), index=1
  ROOT %fusion.2 = f32[100]{0} fusion(%gte, /*index=1*/%copy-done), kind=kLoop, calls=%fused
}
"""
    # The two fetches read 400 and 64 bytes; the first fusion reads %a and writes 40; the second reads 40, writes 400.
    assert hlo.main_memory_bytes(text) == (400 + 64) + (400 + 40) + (40 + 400)


def test_estimated_cycles_add_up():
    lines = [f'%x = f32[] fusion(%y), backend_config={{"estimated_cycles":"{cycles}"}}' for cycles in (700, 300)]
    assert hlo.estimated_cycles("\n".join(lines)) == 1000
    assert hlo.estimated_cycles("%x = f32[] add(%y, %z)") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f32[]", 4),
        ("bf16[128,7]{1,0:T(8,128)(2,1)}", 1792),
        ("(pred[10], /*index=1*/u8[3])", 13),
        ("s4[3]", 2),
        ("f8e4m3fn[16]", 16),
        ("c64[2]", 16),
        ("()", 0),
    ],
)
def test_bytes_of_a_type(text, expected):
    assert hlo.type_bytes(text) == expected


def gather(result, slices):
    operation = f"gather(%images, %ids), offset_dims={{1,2}}, slice_sizes={{{slices}}}"
    line = f'  gather.1 = {result} {operation}, metadata={{op_name="jit(f)/g"}}'
    return hlo.gathers(line)[0]


@pytest.mark.parametrize(
    ("result", "slices", "fetches"),
    [
        ("u8[32,48,48]{2,1,0}", "1,48,48", True),
        ("s32[32]{0}", "1", True),
        ("f32[32,200,200]{2,1,0}", "1,1,1", False),  # a pixel at a time
        ("f32[1280000]{0}", "1", False),  # the same, flattened
        ("f32[32,48]{1,0}", "1,1,48", True),  # one row of each image, in one piece
        ("u8[64,48,48]{2,1,0}", "1,48,48", False),  # more than the batch
    ],
)
def test_only_the_fetch_of_a_batch_counts_as_one(result, slices, fetches):
    found = gather(result, slices)
    assert found.op_name == "jit(f)/g"
    assert found.fetches_batch((32,)) == fetches
