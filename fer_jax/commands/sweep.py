"""Run a sweep: %(prog)s SPEC.py --config=NAME --data=SOURCE --workdir=DIR [--config.KEY=VALUE ...]

SPEC.py has a function that yields what each run changes in the config:

  def get_sweep():
      for rate in (1e-3, 3e-4):
          for seed in range(3):
              yield {"optimizer.learning_rate": rate, "seed": seed}

Each run is one of the command `train` in DIR/runs, as many at a time as this machine has devices. DIR/sweep.md has the
mean and the deviation over seeds, best first by the validation split. The same command skips finished runs, resumes
stopped ones and tries failed ones again; runs may be added to SPEC.py.

Exit status: 0 done, 1 some runs failed (the table says which and why), 2 a mistake that the message names, 75 stopped
by a signal and saved.
"""

import argparse
import sys

from fer_jax.errors import exit_on_input_error
from fer_jax.runtime.preemption import EXIT_PREEMPTED, Preempted
from fer_jax.runtime.user_path import PathArgument, SourceArgument
from fer_jax.sweeps.local import device_environments
from fer_jax.sweeps.sweep import sweep


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("spec", metavar="SPEC.py", action=PathArgument, help="the Python file with get_sweep()")
    parser.add_argument("--config", required=True, help="a config by name or file; --config.KEY=VALUE changes it")
    parser.add_argument(
        "--data", required=True, action=SourceArgument, help="where the images come from, as for train.py"
    )
    parser.add_argument("--workdir", required=True, action=PathArgument, help="the folder for the runs and the table")
    parser.add_argument("--launcher", choices=("local",), default="local", help="where the runs are trained")
    args, overrides = parser.parse_known_args()
    try:
        rows = sweep(
            args.spec,
            [f"--config={args.config}", *overrides],
            args.data,
            args.workdir.absolute(),
            device_environments,
            message=lambda text: print(text, flush=True),
        )
    except Preempted as stopped:
        print(f"{stopped}; the same command resumes from there", file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)
    print((args.workdir / "sweep.md").read_text(encoding="utf-8"))
    print(f"table: {args.workdir / 'sweep.md'}")
    sys.exit(any(row["failed"] for row in rows))


if __name__ == "__main__":
    main()
