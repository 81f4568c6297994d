"""Train a network: %(prog)s --config=NAME --data=SOURCE --workdir=DIR [--config.KEY=VALUE ...]

SOURCE is fer2013.csv (or icml_face_data.csv), a folder of images by split and class, a folder written by
the command `prepare`, or `synthetic`. The same command resumes a run that was interrupted, from the step
where it was stopped.

Several processes train as one on a TPU pod, under Slurm's srun and in an indexed Kubernetes job, with one and the same
command; elsewhere each is told of the others by --coordinator, --num-processes and --process-id.

Exit status: 0 done, 2 a mistake or a fault that the message names, 75 stopped by a signal (SIGTERM,
SIGINT, SIGHUP, SIGUSR1) and saved.
"""

import argparse
import shlex
import sys

from fer_jax.commands import command_line
from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.runtime.user_path import PlaceArgument, SourceArgument


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="a config by name or file; --config.KEY=VALUE changes it")
    parser.add_argument("--data", action=SourceArgument, help="where the images come from")
    parser.add_argument(
        "--workdir", action=PlaceArgument, help="the folder for checkpoints, metrics and curves, or gs://BUCKET/FOLDER"
    )
    parser.add_argument("--summary", action="store_true", help="print the layers of the network and stop")
    parser.add_argument("--profile", type=int, default=0, metavar="STEPS", help="trace some steps into WORKDIR/profile")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    parser.add_argument("--num-processes", type=int, metavar="N", help="how many train together; 1 for this one alone")
    parser.add_argument("--process-id", type=int, metavar="I", help="which of them this is, from 0")
    _run(*parser.parse_known_args())


def _run(args: argparse.Namespace, overrides: list[str]) -> None:
    # Imported when they are needed: with JAX and the other libraries that they use they take seconds, for which neither
    # --help nor a mistake in the command or the config should wait.
    from fer_jax.config.loading import load_config

    config = load_config([f"--config={args.config}", *overrides])
    from fer_jax.expressions import NUM_EXPRESSIONS
    from fer_jax.models.build import model_spec
    from fer_jax.models.fernet import BACKBONES
    from fer_jax.models.summary import layer_table
    from fer_jax.runtime import processes
    from fer_jax.runtime.compile_cache import enable_compile_cache
    from fer_jax.runtime.jax_environment import prepare_jax
    from fer_jax.runtime.malloc import keep_freed_memory
    from fer_jax.runtime.preemption import EXIT_INTERRUPTED, EXIT_PREEMPTED, Preempted
    from fer_jax.runtime.quiet_orbax import silence_orbax

    if args.summary:
        backbones = [BACKBONES[name] for name in config.model.backbones]
        print(layer_table(model_spec(config, backbones, NUM_EXPRESSIONS)))
        return
    if args.data is None or args.workdir is None:
        raise InputError("--data and --workdir are needed, or --summary")
    if args.profile < 0:
        raise InputError(f"--profile={args.profile}: expected a number of steps")
    # Not before: Grain and Orbax take as long again.
    from fer_jax.data.configured import load_by_config
    from fer_jax.train import train

    silence_orbax()
    keep_freed_memory()
    processes.initialize(args.coordinator, args.num_processes, args.process_id)
    prepare_jax()
    data = load_by_config(config, args.data)
    enable_compile_cache()
    try:
        train(config, data, args.workdir, profile_steps=args.profile)
    except Preempted as stopped:
        print(f"{stopped}; the same command resumes from there", file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)
    except KeyboardInterrupt:
        print(f"interrupted before the first step; the same command begins again in {args.workdir}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    if processes.is_main():
        print(f"metrics, checkpoints and TensorBoard files: {args.workdir}")
        split = "test" if len(data.test) else "validation"
        arguments = [f"--checkpoint={args.workdir}", f"--data={args.data}", f"--split={split}", "--out=DIR"]
        if config.data.class_names is not None:
            arguments.append(f"--class-names={config.data.class_names}")
        if config.data.skip_damaged:
            arguments.append("--skip-damaged")
        print(f"evaluate: {command_line('evaluate')} {shlex.join(arguments)}")


if __name__ == "__main__":
    main()
