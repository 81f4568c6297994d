"""Open a page on this machine that judges pictures and the webcam: %(prog)s [--model=zoo:NAME]

Drop a picture on the page or use the webcam: each face is shown with a bar for each class and, on demand, with what the
model looks at (Grad-CAM). Pictures are judged here, not kept, and sent nowhere else. Ctrl-C ends it.
"""

import argparse
import sys

from fer_jax.errors import InputError, exit_on_input_error
from fer_jax.prediction.classifiers import load_classifier
from fer_jax.prediction.crops import FACES
from fer_jax.runtime.user_path import PlaceArgument
from fer_jax.zoo.shipped import default_name

_BATCH = 4  # Faces judged at once: most pictures have few.


@exit_on_input_error
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--model",
        action=PlaceArgument,
        help="a run's folder, zoo:NAME, a .safetensors file, or an exported file, which cannot tell where it looks; "
        "default: the smallest that fer_jax comes with",
    )
    parser.add_argument(
        "--faces", choices=FACES, default="auto", help="as of predict; whole needs no detector and takes all as a face"
    )
    parser.add_argument("--min-score", type=float, default=0.5, help="the least score of a detected face (0.5)")
    parser.add_argument("--threshold", type=float, default=0.0, help="be unsure below this probability (0: never)")
    parser.add_argument("--port", type=int, default=8765, help="of the page (8765); 0: any that is free")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen at; default: 127.0.0.1, which only this machine reaches; 0.0.0.0: everyone who "
        "reaches this machine can use it",
    )
    args = parser.parse_args()
    for name, value in (("min-score", args.min_score), ("threshold", args.threshold)):
        if not 0 <= value <= 1:
            raise InputError(f"--{name}={value:g}: expected a number from 0 to 1")
    if not 0 <= args.port < 2**16:
        raise InputError(f"--port={args.port}: expected a number from 0 to {2**16 - 1}")
    # Here, because what finds faces is not always installed, nor ever needed for --help.
    from fer_jax.demo.judge import Judge
    from fer_jax.demo.server import DemoServer

    detect = None
    if args.faces != "whole":
        from fer_jax.detection.centerface import FaceDetector

        detect = FaceDetector(args.min_score)
    model = str(args.model or default_name())
    judge = Judge(load_classifier(model, _BATCH), detect, batch_size=_BATCH, threshold=args.threshold)
    with DemoServer(args.host, args.port, judge, model, faces=args.faces) as server:
        judge.warm_up()
        if not server.is_loopback:
            print("note: everyone who reaches this machine can use the page; --host=127.0.0.1 is for you alone")
        print(f"demo: {server.url} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
