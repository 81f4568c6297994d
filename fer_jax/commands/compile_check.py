"""Compile the training step of a config for TPUs on a machine without one, and print what it costs there.

    %(prog)s --config=NAME --topology=v5e:2x2 [--batch-per-chip=N] [--seeds=N] [--config.KEY=VALUE]

Needs libtpu, in an environment of its own, and minutes of one core. Prints operations, memory traffic and peak memory
of one chip, the collectives, and the images per second that the chip's limits allow (nothing is run, so these are
bounds). Fails where the step does not fit, holds a gather beside the fetch of the batch, or an unexpected collective.
`--blocks` compiles each distinct block of the backbones by itself instead, on one chip, and prints a line of each.
`--out=FILE.json` keeps the counts that the command `scaling` reads, of one seed.
"""

import argparse
import shlex
import sys

from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.runtime.user_path import PathArgument


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="a config by name or file; --config.KEY=VALUE changes it")
    parser.add_argument("--topology", required=True, help="generation and chips, such as v5e:2x2 or v5p:2x2x1")
    parser.add_argument("--batch-per-chip", type=int, help="default: the config's batch, split over the chips")
    parser.add_argument("--seeds", type=int, default=1, help="that take the step together, each with a batch")
    parser.add_argument("--blocks", action="store_true", help="compile the backbones' blocks one by one instead")
    parser.add_argument("--confirm", action="store_true", help="compile the step at the estimated largest batch, too")
    parser.add_argument("--out", action=PathArgument, metavar="FILE.json", help="for the counts that `scaling` reads")
    args, overrides = parser.parse_known_args()
    if args.batch_per_chip is not None and args.batch_per_chip < 1:
        raise InputError(f"--batch-per-chip={args.batch_per_chip}: expected at least 1")
    if args.seeds < 1:
        raise InputError(f"--seeds={args.seeds}: expected at least 1")
    if args.blocks and (args.out or args.confirm):
        raise InputError("--blocks: compiles no step that --out could keep or --confirm enlarge; leave these out")
    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.config.loading import load_config

    config = load_config([f"--config={args.config}", *overrides])
    from fer_jax.compile_check.blocks import block_lines
    from fer_jax.compile_check.check import check_collectives, compile_step, report
    from fer_jax.compile_check.cost import largest_batch
    from fer_jax.compile_check.counts import write_counts
    from fer_jax.compile_check.topology import topology_mesh

    mesh = topology_mesh(args.topology)
    batch = args.batch_per_chip or max(1, config.train.batch_size // mesh.size)

    if args.blocks:
        for line in block_lines(config, mesh, batch, args.seeds):
            print(line, flush=True)
        return
    step = compile_step(config, mesh, batch, args.seeds)
    print(report(step), flush=True)
    if args.out:
        write_counts(args.out, step, config, args.topology, shlex.join(["fer-jax", "compile-check", *sys.argv[1:]]))
    check_collectives(step.collectives)
    if args.confirm and step.largest_batch_per_chip > batch:
        largest = compile_step(config, mesh, step.largest_batch_per_chip, args.seeds)
        peaks = {each.batch_per_chip: each.cost.peak_bytes for each in (step, largest)}
        print(
            f"  {largest.batch_per_chip} a chip compiles, peak {largest.cost.peak_bytes / 2**30:.2f} GiB; on a line "
            f"through both peaks about {largest_batch(peaks, step.peak.own_memory_bytes)} would fit"
        )


if __name__ == "__main__":
    main()
