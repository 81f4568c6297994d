"""Draw the validation curves of runs side by side: %(prog)s RUN [RUN ...] --out=FILE.png

RUN is the --workdir of a training. Each is named by its networks and their initial weights; with
--out=FILE.png a table of the epochs is written beside it as FILE.md.
"""

import argparse

from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.runtime.user_path import PlaceArgument
from fer_jax.storage import files


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", nargs="+", action=PlaceArgument, metavar="RUN", help="a run's folder")
    parser.add_argument("--out", required=True, action=PlaceArgument, metavar="FILE.png", help="the picture")
    args = parser.parse_args()
    if args.out.suffix != ".png":
        raise InputError(f"--out={args.out}: expected a name that ends in .png")
    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.evaluation.comparison import comparison_table, named_runs
    from fer_jax.evaluation.plots import save_figure, validation_curves_figure

    histories = named_runs(args.runs)
    save_figure(validation_curves_figure(histories), args.out)
    files.write_text(args.out.with_suffix(".md"), comparison_table(histories))
    print(f"curves: {args.out}, table: {args.out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
