"""The same network in PyTorch (timm), timed on request by `fer_jax.benchmarking.torch_baseline`, in its own process.

The interpreter that runs this file needs torch and timm and nothing of this package. A line of JSON on standard input
says what to build, each later one how many steps to run; the answers are lines of JSON on standard output.
"""

import json
import os
import resource
import sys
import time


def build(request):
    """Return the function that runs one step, and the one that waits for the device.

    `request` holds: `what` ("train" or "eval"), `backbones` (pairs of timm's name and the drop path rate), `width`
    (features of all backbones), `hidden_units`, `dropout`, `num_classes`, `batch_size`, `input_size`, `dtype`,
    `learning_rate`, `device` ("cpu" or "cuda").
    """
    import timm
    import torch
    from torch import nn

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    # XLA multiplies float32 as TF32 on GPUs.
    torch.set_float32_matmul_precision("high")
    device = torch.device(request["device"])

    class FerNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbones = nn.ModuleList(
                [timm.create_model(name, num_classes=0, drop_path_rate=rate) for name, rate in request["backbones"]]
            )
            layers, width = [], request["width"]
            for units in request["hidden_units"]:
                layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(request["dropout"])]
                width = units
            self.classifier = nn.Sequential(*layers, nn.Linear(width, request["num_classes"]))

        def forward(self, x):
            return self.classifier(torch.cat([backbone(x) for backbone in self.backbones], 1))

    size = request["input_size"]
    model = FerNet().to(device, memory_format=torch.channels_last)
    images = torch.randn(request["batch_size"], 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, request["num_classes"], (request["batch_size"],), device=device)
    optimizer = torch.optim.Adam(model.parameters(), request["learning_rate"], eps=1e-7)

    def logits():
        with torch.autocast(device.type, torch.bfloat16, enabled=request["dtype"] == "bfloat16"):
            return model(images)

    def train():
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(logits().float(), labels).backward()
        optimizer.step()

    def evaluate():
        with torch.inference_mode():
            logits()

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    model.train(request["what"] == "train")
    name = f"torch {torch.__version__}, timm {timm.__version__}, {torch.get_num_threads()} threads"
    return name, train if request["what"] == "train" else evaluate, wait


def run(step, wait, steps):
    """Return the wall and CPU seconds of the given number of steps."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu_seconds}


def main():
    # Whatever a library prints must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    try:
        name, step, wait = build(json.loads(sys.stdin.readline()))
    # Without torch, timm or one of their libraries; without such a device (an AssertionError) or room on it.
    except (ImportError, OSError, RuntimeError, AssertionError) as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        return
    answer({"name": name})
    for line in sys.stdin:
        answer(run(step, wait, json.loads(line)["steps"]))


if __name__ == "__main__":
    main()
