"""Run a sweep: %(prog)s SPEC.py --config=NAME --data=SOURCE --workdir=DIR [--config.KEY=VALUE ...]

SPEC.py has a function that yields what each run changes in the config:

  def get_sweep():
      for rate in (1e-3, 3e-4):
          for seed in range(3):
              yield {"optimizer.learning_rate": rate, "seed": seed}

Each run is one of the command `train` in DIR/runs. DIR/runs.md has the mean and the deviation over seeds, best first by
the validation split. The same command skips finished runs, resumes stopped ones and tries failed ones again; runs may
be added to SPEC.py.

--launcher says where the runs are trained; its options are given by --launch, one at a time:

  local    on this machine, as many at a time as it has devices; DIR may be gs://BUCKET/FOLDER
  tpu_vm   each on a TPU VM of its own, by scripts/launch/tpu_vm.sh, deleted when the run is done:
             --launcher=tpu_vm --workdir=gs://BUCKET/FOLDER --launch=--zone=ZONE --launch=--spot
  slurm    each a job, by scripts/launch/slurm.sbatch; DIR is on a file system that all nodes share, or in a bucket:
             --launcher=slurm --launch=--gpus-per-node=1 --launch=--time=02:00:00
  jobset   each a JobSet in Kubernetes, by scripts/launch/jobset.sh:
             --launcher=jobset --workdir=gs://BUCKET/FOLDER --launch=--image=IMAGE

A signal ends this command; runs that are trained elsewhere go on there, and the same command follows them again.

Exit status: 0 done, 1 some runs failed (the table says which and why), 2 a mistake that the message names, 75 stopped
by a signal and saved.
"""

import argparse

from fer_jax.commands.many_runs import leave_with_table, say
from fer_jax.errors import exit_on_input_error
from fer_jax.runtime.user_path import PathArgument, PlaceArgument, SourceArgument
from fer_jax.sweeps.launchers import LAUNCHERS, launcher_by_name


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
    parser.add_argument("--workdir", required=True, action=PlaceArgument, help="the folder for the runs and the table")
    parser.add_argument("--launcher", choices=LAUNCHERS, default="local", help="where the runs are trained (local)")
    parser.add_argument("--launch", action="append", default=[], metavar="OPTION", help="an option of the launcher")
    parser.add_argument("--at-once", type=int, metavar="N", help="at most N runs at a time (8 but for local)")
    parser.add_argument("--dry-run", action="store_true", help="print every command and run none")
    args, overrides = parser.parse_known_args()
    workdir = args.workdir.absolute()
    # Here and not above: what follows imports Matplotlib and more, for which neither --help nor a wrong option waits.
    from fer_jax.sweeps.sweep import print_commands, sweep
    from fer_jax.sweeps.table import PAGE

    launcher = launcher_by_name(args.launcher, workdir, args.launch, args.at_once, dry_run=args.dry_run)
    what = args.spec, [f"--config={args.config}", *overrides], args.data, workdir, launcher
    if args.dry_run:
        print_commands(*what, message=say)
        return
    leave_with_table(lambda: any(row["failed"] for row in sweep(*what, message=say)), workdir / PAGE, workdir / PAGE)


if __name__ == "__main__":
    main()
