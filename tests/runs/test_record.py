"""What is read back is what was written, and what cannot have been written is named."""

import json
import math

import msgspec
import pytest

from fer_jax.errors import InputError
from fer_jax.runs.checkpoint import find_model
from fer_jax.runs.record import as_json, decode_description, decode_record, encode_description


@pytest.fixture(scope="module")
def record(whole_run):
    return find_model(whole_run[0]).record


def test_description_comes_back_from_its_file(record):
    text = encode_description(record.description)
    assert decode_description(text.encode(), "run.json") == record.description
    assert json.loads(text) == json.loads(json.dumps(as_json(record.description)))


def test_mean_losses_that_are_not_finite_come_back(record):
    entry = msgspec.structs.replace(record.history[0], train_loss=math.inf, validation_loss=math.nan)
    written = json.dumps(as_json(msgspec.structs.replace(record, history=(entry,))))
    (found,) = decode_record(json.loads(written), "record").history
    assert found.train_loss == math.inf
    assert math.isnan(found.validation_loss)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("epoch",), -1, "epoch is -1, expected int >= 0"),
        (("history", 0, "train_loss"), "1", r"history\[0\].train_loss is '1', expected float"),
        (("description", "class_names"), ["a", "a"], "class_names is .*'a', 'a'.*, expected two or more different"),
        (("description", "selected_on"), "luck", "selected_on is 'luck', expected one of train"),
        (("description", "split_roles"), {"train": "a"}, "split_roles is .*, expected one for each of train"),
        (("description", "data", "image_shape"), [48, 47], r"image_shape is \[48, 47\], expected height"),
        (("description", "data", "images", "train"), 0.5, "is 0.5, expected int|images.*expected int"),
        (("description", "backbones"), [], r"backbones is \[\], expected array of length >= 1"),
        (("description", "backbones", 0, "padding"), "odd", "padding 'odd', expected same or symmetric"),
        (("description", "config"), "{", "the saved config is damaged"),
    ],
)
def test_damage_is_named_by_key_and_value(record, keys, value, message):
    content = json.loads(json.dumps(as_json(record)))
    *above, last = keys
    inner = content
    for key in above:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(InputError, match=f"(?s)^FILE: .*({message}).*; it is damaged, bring it back from a backup$"):
        decode_record(content, "FILE")


def test_missing_key_is_named(record):
    content = json.loads(json.dumps(as_json(record)))
    del content["best"]["seconds"]
    with pytest.raises(InputError, match="FILE: best: seconds is missing"):
        decode_record(content, "FILE")
