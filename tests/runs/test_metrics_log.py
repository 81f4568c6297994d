"""The record of a run, read back as JSON and as TensorBoard events, across resumes and crashes."""

import json
import math
import struct

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from fer_jax.errors import InputError
from fer_jax.runs.metrics_log import MetricsLog, epoch_history, read_metrics


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), bit by bit: reflected polynomial 0x82F63B78 (RFC 3720)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The masking of TFRecord files: rotate right by 15 bits, add a constant."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_events(path) -> list[Event]:
    """The events of a TFRecord file: uint64 length, its crc, the event, its crc."""
    data, place, events = path.read_bytes(), 0, []
    while place < len(data):
        length, length_crc = struct.unpack_from("<QI", data, place)
        body = data[place + 12 : place + 12 + length]
        (body_crc,) = struct.unpack_from("<I", data, place + 12 + length)
        assert length_crc == masked(crc32c(data[place : place + 8]))
        assert body_crc == masked(crc32c(body))
        events.append(Event.FromString(body))
        place += 16 + length
    return events


def event_files(workdir):
    return sorted((workdir / "tensorboard").iterdir())


def scalars(events):
    return [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]


def test_the_checksum_used_here_equals_the_published_one():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C


def test_lines_and_events_hold_what_was_written(tmp_path):
    with MetricsLog(tmp_path / "run") as log:
        log.write(5, {"epoch": 0.5, "loss": jnp.float32(1.5), "accuracy": np.float32(0.25)})
        # Readable at once, not only after close.
        assert json.loads((tmp_path / "run/metrics.jsonl").read_text())["loss"] == 1.5
        log.write(10, {"epoch": 1, "train_loss": 1.25, "validation_accuracy": 0.5}, kind="epoch")

    lines = read_metrics(tmp_path / "run")
    assert lines == [
        {"kind": "train", "step": 5, "epoch": 0.5, "loss": 1.5, "accuracy": 0.25},
        {"kind": "epoch", "step": 10, "epoch": 1, "train_loss": 1.25, "validation_accuracy": 0.5},
    ]
    assert epoch_history(lines) == [{"step": 10, "epoch": 1, "train_loss": 1.25, "validation_accuracy": 0.5}]
    (path,) = event_files(tmp_path / "run")
    assert scalars(read_events(path)) == [
        (5, "train/epoch", 0.5),
        (5, "train/loss", 1.5),
        (5, "train/accuracy", 0.25),
        (10, "epoch/epoch", 1),
        (10, "epoch/train_loss", 1.25),
        (10, "validation/accuracy", 0.5),
    ]


def test_text_reaches_tensorboard(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write_text("config", "seed: 0")
    (path,) = event_files(tmp_path)
    values = [value for event in read_events(path) for value in event.summary.value]
    assert [value.tag for value in values] == ["config/text_summary"]
    assert values[0].tensor.string_val == [b"seed: 0"]


def test_values_that_are_not_finite_become_null(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, {"loss": math.nan, "accuracy": jnp.inf})
    text = (tmp_path / "metrics.jsonl").read_text()

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(text, parse_constant=refuse) == {"kind": "train", "step": 1, "loss": None, "accuracy": None}
    values = [value for _, _, value in scalars(read_events(event_files(tmp_path)[0]))]
    assert math.isnan(values[0])
    assert values[1] == math.inf


def test_a_resumed_run_drops_what_it_will_do_again(tmp_path):
    with MetricsLog(tmp_path) as log:
        for step in (10, 20, 30):
            log.write(step, {"loss": float(step)})
    with MetricsLog(tmp_path, resume_step=20) as log:
        assert [line["step"] for line in read_metrics(tmp_path)] == [10, 20]
        log.write(30, {"loss": -1.0})
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(10, 10), (20, 20), (30, -1)]

    first, second = event_files(tmp_path)
    assert len(scalars(read_events(first))) == 3
    events = read_events(second)
    # TensorBoard hides earlier events with a step of at least that of the START event: 30, and not 20.
    assert [event.step for event in events if event.session_log.status == SessionLog.START] == [21]
    assert scalars(events) == [(30, "train/loss", -1.0)]


def test_the_line_of_an_epoch_that_was_not_saved_is_dropped(tmp_path):
    with MetricsLog(tmp_path) as log:
        for epoch in (1, 2):
            log.write(10 * epoch, {"loss": 1.0})
            log.write(10 * epoch, {"epoch": epoch}, kind="epoch")
    with MetricsLog(tmp_path, resume_step=20, resume_epoch=1):
        kept = [(line["kind"], line["step"]) for line in read_metrics(tmp_path)]
    assert kept == [("train", 10), ("epoch", 10), ("train", 20)]


def test_a_new_run_starts_an_empty_record(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(10, {"loss": 1.0})
    with MetricsLog(tmp_path):
        assert read_metrics(tmp_path) == []


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = '{"kind": "train", "step": 10, "loss": 1.0}\n'
    # The second case is cut off just before its newline, the third within a character.
    for tail in (b'{"kind": "train", "st', whole.strip().encode(), '{"kind": "é'.encode()[:-1]):
        path.write_bytes(whole.encode() + tail)
        assert [line["step"] for line in read_metrics(tmp_path)] == [10]
    with MetricsLog(tmp_path, resume_step=10) as log:
        log.write(20, {"loss": 2.0})
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 20]


@pytest.mark.parametrize("damaged", ['{"kind": "train", "st', "[1]", '{"kind": "train"}', '{"kind": "x", "step": 1}'])
def test_a_damaged_line_is_named_and_nothing_is_overwritten(tmp_path, damaged):
    text = f'{{"kind": "train", "step": 10}}\n{damaged}\n{{"kind": "train", "step": 20}}\n'
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2: expected"):
        MetricsLog(tmp_path, resume_step=20)
    assert (tmp_path / "metrics.jsonl").read_text() == text


def test_no_file_is_no_lines_and_other_kinds_are_refused(tmp_path):
    assert read_metrics(tmp_path / "nowhere") == []
    with MetricsLog(tmp_path) as log, pytest.raises(ValueError, match="kind"):
        log.write(1, {"loss": 1.0}, kind="test")
