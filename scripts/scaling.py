"""Prints how a run scales over TPU v5e chips, the tables of docs/scaling.md: python scripts/scaling.py

Estimates from what compile_check printed, not measurements. --network picks another network than MobileNetV2.
"""

import argparse

from fer_jax.compile_check.scaling import NETWORKS, sections


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--network", choices=tuple(NETWORKS), default="mobilenet_v2")
    network = NETWORKS[parser.parse_args().network]
    compiled = ", ".join(map(str, sorted(network.cycles)))
    print(f"Estimates, not measurements; compiled at {compiled} images a chip, and on straight lines between them.\n")
    for title, table in sections(network).items():
        print(f"{title}\n\n{table}\n")


if __name__ == "__main__":
    main()
