"""Convert published or own weights of a backbone into a safetensors file for `--config.init`.

    %(prog)s --list
    %(prog)s --source keras_efficientnet_b0
    %(prog)s --source keras_efficientnet_b0 --file efficientnetb0.h5
    %(prog)s --file mine.h5 --arch mobilenet_v2 --out mine.safetensors
    %(prog)s --verify dog.jpg --source keras_efficientnet_b0

With --source alone the published file is downloaded, once; with --file, it is taken from there. --out is by default
where `--config.init` looks for the source; it, --file and the image may be in a bucket (gs://BUCKET/NAME). --verify
converts nothing: it prints the classes that the converted weights predict for an image.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.models.backbones import BACKBONES
from fer_jax.pretrained.manifest import FLAVOURS, SOURCES, Source, cache_folder, converted_place
from fer_jax.runtime.user_path import PlaceArgument, input_path
from fer_jax.storage.bucket import BucketPath

if TYPE_CHECKING:
    from fer_jax.pretrained.weights import Weights


@exit_on_input_error
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the published weights and stop")
    parser.add_argument("--source", metavar="NAME", help="which published weights")
    parser.add_argument("--file", metavar="PATH", action=PlaceArgument, help="a file of weights; of --source, if given")
    parser.add_argument("--arch", choices=tuple(BACKBONES), help="of --file without --source")
    parser.add_argument("--flavour", choices=FLAVOURS, help="of --file without --source (default: by its names)")
    parser.add_argument("--out", metavar="FILE", action=PlaceArgument, help="the file to write; replaced if it exists")
    parser.add_argument(
        "--verify", metavar="IMAGE", action=PlaceArgument, help="print the top 5 classes by --out or --source"
    )
    args = parser.parse_args(arguments)

    if args.list:
        _print_list()
        return
    source = _source(args.source)
    out = args.out or (converted_place(source.name) if source else None)
    if args.verify:
        if out is None:
            raise InputError("--verify: give the converted weights by --out FILE or --source NAME")
        _print_classes(input_path(out, "--out"), input_path(args.verify, "--verify"))
        return
    if args.file and not args.file.exists():
        raise InputError(f"--file {args.file}: no such file")
    if source and (args.arch or args.flavour):
        raise InputError("--source decides --arch and --flavour; leave them out")
    if not source and not (args.file and args.arch):
        raise InputError("give --source NAME (see --list), or --file PATH and --arch NAME")
    if out is None:
        raise InputError("--file: give --out FILE.safetensors")
    if out.suffix != ".safetensors":
        raise InputError(f"--out {out}: expected a name that ends in .safetensors")
    if isinstance(out, BucketPath):
        out.exists()  # refuses a bucket that there is not, before the work
    file = args.file and input_path(args.file, "--file")
    # Here and not above: what follows imports JAX and more, for seconds that neither --help nor a wrong option waits.
    from fer_jax.pretrained.convert import convert_file
    from fer_jax.pretrained.weights import write_weights

    weights = _convert_source(source, file) if source else convert_file(file, args.arch, args.flavour)
    write_weights(out, weights)
    print("\n".join([*weights.notes, _summary(weights)]))
    print(f"weights: {out}")


def _source(name: str | None) -> Source | None:
    if name is not None and name not in SOURCES:
        raise InputError(f"--source {name}: unknown, expected one of {', '.join(SOURCES)}")
    return SOURCES[name] if name else None


def _convert_source(source: Source, path: Path | None) -> "Weights":
    from fer_jax.pretrained.download import download
    from fer_jax.pretrained.torch_state import require_torch

    if (source.member or source.url).endswith(".pth"):
        require_torch(source.url)
    if path is not None:
        return _convert_published(source, path)
    path = download(source, cache_folder() / "downloads")
    try:
        return _convert_published(source, path)
    except InputError:
        # Not every source has a hash: what cannot be converted is not kept as if it were the published file.
        path.unlink()
        raise


def _convert_published(source: Source, path: Path) -> "Weights":
    from fer_jax.pretrained.convert import convert_source
    from fer_jax.pretrained.download import check_hash, weights_file

    check_hash(source, path)
    with weights_file(source, path) as file:
        return convert_source(source, file)


def _print_list() -> None:
    for source in SOURCES.values():
        conventions = source.conventions
        print(f"{source.name}\n    {source.architecture}, ImageNet top-1 {source.top1:.1f} %, {source.licence}")
        print(f"    padding {conventions.padding}, batch norm epsilon {conventions.batch_norm_epsilon:g}")
        print(f"    {source.url}\n    {source.hash or 'no hash published'}")


def _summary(weights: "Weights") -> str:
    spec = weights.spec
    mean, std = (", ".join(f"{value:g}" for value in values) for values in vars(spec.preprocessing).values())
    head = f"with a classifier of {len(weights.head['bias'])} classes" if weights.head else "without a classifier"
    return (
        f"{spec.name} from {weights.origin}, {head}\n"
        f"padding {spec.padding}, batch norm epsilon {spec.batch_norm_epsilon:g}, "
        f"preprocessing (x - ({mean})) / ({std}) of RGB in 0..255"
    )


def _print_classes(path: Path, image: Path) -> None:
    from fer_jax.pretrained.verify import class_names, top_classes
    from fer_jax.pretrained.weights import read_weights

    weights = read_weights(path)
    classes = top_classes(weights, image)
    names = class_names(weights)
    for index, probability in classes:
        print(f"{probability:6.1%}  {index}" + (f"  {names[index]}" if names else ""))


if __name__ == "__main__":
    main()
