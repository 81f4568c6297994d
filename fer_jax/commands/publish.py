"""Make a model that comes with the package out of a run: %(prog)s RUN NAME --data=fer2013.csv

Writes NAME.safetensors, in the smallest storage that changes the accuracy on the validation split by at most 0.1 point,
and its card NAME.md into fer_jax/zoo/models, from where zoo:NAME loads it. The card is filled from the report of
`fer-jax evaluate` on the test split, scored with the file that was written; --report keeps that report.
"""

import argparse
from pathlib import Path

from fer_jax.errors import exit_on_input_error
from fer_jax.runtime.user_path import PathArgument, SourceArgument
from fer_jax.zoo import shipped


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", action=PathArgument, metavar="RUN", help="the folder of a run")
    parser.add_argument("name", metavar="NAME", help="what the model is called, such as mobilenet_v2_96px")
    parser.add_argument(
        "--data", required=True, action=SourceArgument, help="where the images come from, as for train.py"
    )
    parser.add_argument("--report", action=PathArgument, help="the folder that keeps the report, without faces")
    parser.add_argument(
        "--folder", action=PathArgument, default=shipped.MODELS, help="where the files go (the package)"
    )
    parser.add_argument(
        "--votes", action=PathArgument, metavar="FILE", help="FER+'s fer2013new.csv: adds the score by its majority"
    )
    args = parser.parse_args()
    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.data.ferplus import read_votes
    from fer_jax.evaluation.data_for_model import load_for
    from fer_jax.inference.model import TrainedModel
    from fer_jax.publishing.publish import evaluate_by_command, publish
    from fer_jax.runtime.compile_cache import enable_compile_cache
    from fer_jax.runtime.jax_environment import prepare_jax
    from fer_jax.runtime.malloc import keep_freed_memory

    keep_freed_memory()
    prepare_jax()
    enable_compile_cache()
    model = TrainedModel(args.run)
    data = load_for(model, args.data)
    command = f"fer-jax publish runs/{args.run.resolve().name} {args.name} --data={Path(args.data).name}"
    if args.votes is not None:
        read_votes(args.votes, data)  # What is wrong with them is said before the long work.
        command += f" --votes={args.votes.name}"
    evaluate = evaluate_by_command(args.data, args.votes)
    places = {"folder": args.folder, "report": args.report}
    for path in publish(model, args.name, data, evaluate=evaluate, command=command, **places):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
