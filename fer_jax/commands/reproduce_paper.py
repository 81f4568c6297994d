"""Reproduce Table 3: %(prog)s --data=SOURCE --workdir=DIR [--scale=small] [--seeds=N] [--config.KEY=VALUE ...]

Trains and evaluates the single networks and the hybrids, each after those that it builds on, and writes
DIR/table3.json, .md, .png and .html, as many at a time as this machine has devices; DIR may be gs://BUCKET/FOLDER. The
same command skips finished experiments and resumes or retries the others.

--config.KEY=VALUE changes the config of every experiment, such as --config.data.validation_fraction=0.1 for data
without a validation split.

--scale=paper is the paper's Table 1 to the letter, for an accelerator; --scale=small takes hours on two CPU cores.

Exit status: 0 done, 1 some experiments failed (the table says which and why), 2 a mistake that the message names,
75 stopped by a signal and saved.
"""

import argparse

from fer_jax.commands.many_runs import leave_with_table, say
from fer_jax.errors import exit_on_input_error
from fer_jax.reproduction.scales import PAPER_BACKBONES, PRESETS
from fer_jax.runtime.user_path import PlaceArgument, SourceArgument


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--data", required=True, action=SourceArgument, help="where the images come from, as for train.py"
    )
    parser.add_argument(
        "--workdir", required=True, action=PlaceArgument, help="the folder for runs, reports and the table"
    )
    parser.add_argument("--scale", choices=tuple(PRESETS), default="small")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train everything with the seeds 0 to N-1")
    parser.add_argument("--backbones", type=_names, default=PAPER_BACKBONES, metavar="A,B", help="another pair")
    parser.add_argument(
        "--init",
        default="keras",
        metavar="WEIGHTS",
        help="initial weights, as config.init: keras, torchvision, scratch, or one for each backbone in their order, "
        "with a comma between them",
    )
    parser.add_argument(
        "--scratch", type=_names, default=(), metavar="A", help="train these from scratch too, beside the pair"
    )
    args, changes = parser.parse_known_args()
    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.reproduction.table import reproduce

    def work() -> bool:
        table = reproduce(
            args.data,
            args.workdir,
            scale=args.scale,
            seeds=args.seeds,
            backbones=args.backbones,
            init=args.init,
            scratch=args.scratch,
            overrides=changes,
            message=say,
        )
        return any("failed" in run for row in table["rows"] for run in row["runs"])

    leave_with_table(work, args.workdir / "table3.md", args.workdir / "table3.html")


if __name__ == "__main__":
    main()
