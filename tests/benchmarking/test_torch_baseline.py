"""The peer's process: what it is asked, what it answers, and what it says where it cannot run."""

import json
import os
import sys

import pytest

from fer_jax.benchmarking import torch_baseline, torch_baseline_program
from fer_jax.config.defaults import default_config
from fer_jax.errors import InputError

ANSWERS = """
import json, sys
request = json.loads(sys.stdin.readline())
with open({seen!r}, "w") as file:
    json.dump(request, file)
print(json.dumps({first}), flush=True)
for line in sys.stdin:
    print(json.dumps({{"seconds": 2.0 * json.loads(line)["steps"], "cpu_seconds": 1.0}}), flush=True)
"""


def interpreter(tmp_path, first):
    """An executable that takes a script, as an interpreter does, and answers for it."""
    (tmp_path / "answers.py").write_text(ANSWERS.format(seen=str(tmp_path / "seen.json"), first=first))
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'answers.py'}\n")
    os.chmod(path, 0o755)
    return str(path)


def test_peer_is_asked_for_the_network_of_the_config(tmp_path):
    config = default_config()
    config.model.backbones = ("efficientnet_b0", "mobilenet_v2")
    with torch_baseline.torch_peer(config, "train", 16, interpreter(tmp_path, {"name": "torch 9"})) as running:
        assert running.name == "torch 9"
        result = running(3)
    assert (result.images, result.seconds, result.cpu_seconds) == (48, 6.0, 1.0)
    request = json.loads((tmp_path / "seen.json").read_text())
    assert request["backbones"] == [["efficientnet_b0", 0.2], ["mobilenetv2_100", 0.0]]
    assert (request["width"], request["hidden_units"], request["num_classes"]) == (2560, [4096, 1024], 7)
    assert (request["what"], request["batch_size"], request["input_size"]) == ("train", 16, 200)


def test_missing_package_says_what_to_install(tmp_path):
    error = {"error": "ModuleNotFoundError: No module named 'torch'"}
    with (
        pytest.raises(InputError, match=r"No module named 'torch'.*install torch and timm.*--peer-python"),
        torch_baseline.torch_peer(default_config(), "eval", 8, interpreter(tmp_path, error)),
    ):
        pass


def test_peer_without_torch_answers_with_the_error(monkeypatch, capfd):
    for name in ("torch", "timm"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # main replaces it
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    monkeypatch.setattr(torch_baseline_program.json, "loads", lambda line: {})
    torch_baseline_program.main()
    assert "ModuleNotFoundError" in capfd.readouterr().out


def test_peer_that_dies_is_told(tmp_path):
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\nexit 3\n")
    os.chmod(path, 0o755)
    with (
        pytest.raises(InputError, match="ended with status 3"),
        torch_baseline.torch_peer(default_config(), "train", 8, str(path)),
    ):
        pass


@pytest.mark.parametrize("python", ["nowhere/python", "."])
def test_interpreter_that_is_none(python):
    with (
        pytest.raises(InputError, match=r"--peer-python=.*expected a Python interpreter"),
        torch_baseline.torch_peer(default_config(), "train", 8, python),
    ):
        pass


def test_network_without_peer_is_refused_before_any_process():
    config = default_config()
    config.model.pooling = "flatten"
    with (
        pytest.raises(InputError, match=r"no peer with config\.model\.pooling=flatten"),
        torch_baseline.torch_peer(config, "eval", 8),
    ):
        pass
