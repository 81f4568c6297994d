"""Print how a run scales over TPU v5e chips: %(prog)s [FILE.json ...] [--network=NAME]

Estimates from the files that `compile-check --out` wrote, one for each batch a chip, not measurements.
Without files: in a checkout from docs/results/compile_check_v5e.json, which gives the tables of docs/scaling.md.
"""

import argparse
from pathlib import Path

from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.runtime.user_path import PathArgument

_COUNTS = Path(__file__).parents[2] / "docs" / "results" / "compile_check_v5e.json"


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "files", nargs="*", action=PathArgument, metavar="FILE.json", help="of scripts/compile_check.py --out"
    )
    parser.add_argument("--network", help="default: the first in the files")
    args = parser.parse_args()
    if not args.files and not _COUNTS.is_file():
        raise InputError("give files of `compile-check --out=FILE.json`; the project's own are in its checkout alone")
    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.compile_check.counts import read_counts
    from fer_jax.compile_check.scaling import sections

    networks = read_counts(args.files or [_COUNTS])
    name = args.network or next(iter(networks), "")
    if name not in networks:
        raise InputError(f"--network={name}: not in the files; expected one of {', '.join(networks) or 'none'}")
    network = networks[name]
    compiled = ", ".join(map(str, sorted(network.cycles)))
    print(f"{name}: estimates, not measurements; compiled at {compiled} images a chip, straight lines between them.\n")
    for title, table in sections(network).items():
        print(f"{title}\n\n{table}\n")


if __name__ == "__main__":
    main()
