"""The same network in another framework, beside ours: in a process of its own, so that no thread pools meet."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from fer_jax.benchmarking.rounds import Round
from fer_jax.errors import InputError
from fer_jax.expressions import NUM_EXPRESSIONS
from fer_jax.models.backbones import BACKBONES

TIMM_NAMES = {
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_lite0": "efficientnet_lite0",
    "mobilenet_v2": "mobilenetv2_100",
}
"""timm's name of each backbone."""


class Peer:
    """A running peer: call it with a number of steps. `name` says what it is, with versions and threads."""

    def __init__(self, process: subprocess.Popen[str], python: str, request: dict):
        self._process, self._python = process, python
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests, self._answers = process.stdin, process.stdout
        self._batch_size = request["batch_size"]
        self.name = self._ask(request)["name"]

    def __call__(self, steps: int) -> Round:
        answer = self._ask({"steps": steps})
        return Round(steps * self._batch_size, answer["seconds"], answer["cpu_seconds"])

    def _ask(self, request: dict) -> dict:
        with contextlib.suppress(BrokenPipeError):  # it ended: told below, as it gives no answer
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
        line = self._answers.readline()
        if not line:
            status = self._process.wait()
            raise InputError(f"--peer=torch: {self._python} ended with status {status}; see its output above")
        answer = json.loads(line)
        if "error" in answer:
            raise InputError(
                f"--peer=torch: {self._python} cannot run the peer ({answer['error']}); install torch and timm in an "
                "environment of their own and name its interpreter: --peer-python=PATH"
            )
        return answer


@contextlib.contextmanager
def torch_peer(config: ConfigDict, what: str, batch_size: int, python: str = sys.executable) -> Iterator[Peer]:
    """Run the network of `config` in PyTorch and timm by the interpreter `python`; it ends with the block.

    Its step has the same backbones, classifier, batch, input size, dtype and Adam, images in channels-last layout,
    and no augmentation: its batch stands ready.

    Args:
      config: the config.
      what: `train`, a training step, or `eval`, a forward pass.
      batch_size: images of a step.
      python: an interpreter with torch and timm.

    Raises:
      InputError: for an interpreter that is missing or lacks torch or timm, and a backbone, a pooling or an
        accelerator that has no peer.
    """
    try:
        process = subprocess.Popen(
            [python, str(Path(__file__).with_name("torch_baseline_program.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    except OSError as error:
        raise InputError(
            f"--peer-python={python}: cannot be run ({error.strerror}); expected a Python interpreter"
        ) from None
    try:
        yield Peer(process, python, _request(config, what, batch_size))
    finally:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it ended before it took its request, which is still to be sent
                process.stdin.close()
        process.terminate()
        process.wait()


def _request(config: ConfigDict, what: str, batch_size: int) -> dict:
    platform = jax.default_backend()
    if platform not in ("cpu", "gpu"):
        raise InputError(f"--peer=torch: runs on CPU and GPU, not on {platform}; leave it out")
    unknown = [name for name in config.model.backbones if name not in TIMM_NAMES]
    if unknown:
        raise InputError(f"--peer=torch: no peer of {unknown[0]}; expected {', '.join(TIMM_NAMES)}")
    if config.model.pooling != "avg":
        raise InputError(f"--peer=torch: no peer with config.model.pooling={config.model.pooling}; expected avg")
    specs = [BACKBONES[name] for name in config.model.backbones]
    return {
        "what": what,
        "backbones": [(TIMM_NAMES[spec.name], config.model.drop_path if spec.drop_path else 0.0) for spec in specs],
        "width": sum(spec.top_channels for spec in specs),
        "hidden_units": list(config.model.hidden_units),
        "dropout": config.model.dropout,
        "num_classes": NUM_EXPRESSIONS,
        "batch_size": batch_size,
        "input_size": config.model.input_size,
        "dtype": config.model.dtype,
        "learning_rate": config.optimizer.learning_rate,
        "device": "cuda" if platform == "gpu" else "cpu",
    }
