"""Export a checkpoint to one file: %(prog)s --model=RUN --format=onnx --out=model.onnx [--data=SOURCE]

The file takes uint8 images and returns class probabilities (docs/export.md). Before it gets its name it is run in a
fresh process, on 512 images, and compared with the network; FILE.proof.json has the result.
"""

import argparse

from fer_jax.deployment.request import SUFFIXES, check_request
from fer_jax.errors import exit_on_input_error
from fer_jax.runtime.user_path import PlaceArgument, SourceArgument


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--model", required=True, action=PlaceArgument, help="a run's folder, a checkpoint, a model's file, or zoo:NAME"
    )
    parser.add_argument("--format", required=True, choices=tuple(SUFFIXES))
    parser.add_argument("--out", required=True, action=PlaceArgument, help="the file to write; replaced if it exists")
    parser.add_argument(
        "--data",
        action=SourceArgument,
        help="labelled images for the proof, as for train.py; without it, faces are drawn",
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="of --data (default: test)")
    parser.add_argument("--storage", default="float32", choices=("float32", "float16"), help="kernels in an ONNX file")
    args = parser.parse_args()

    check_request(args.format, args.out, args.storage)
    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.deployment.export import drawn_images, export_model, images_of_source
    from fer_jax.inference.model import TrainedModel
    from fer_jax.runtime.compile_cache import enable_compile_cache
    from fer_jax.runtime.jax_environment import prepare_jax

    prepare_jax()
    enable_compile_cache()
    model = TrainedModel(args.model)
    sample = images_of_source(args.data, args.split, model) if args.data else drawn_images(model.image_shape)
    proof = export_model(model, args.format, args.out, sample, storage=args.storage)
    print(
        f"proved on {proof['images']}, in a process without this package: largest difference of a probability "
        f"{proof['max_absolute_difference']:.2g}, same first class on {proof['top1_agreement']:.2%}"
    )
    if sample.labels is not None:
        print(f"accuracy: file {proof['accuracy_of_file']:.2%}, network {proof['accuracy_of_network']:.2%}")
    print(f"export: {args.out} ({proof['file_bytes'] / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
