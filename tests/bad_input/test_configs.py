"""Damaged config files, texts of configs in checkpoints, and overrides that nobody should write."""

import json

from hypothesis import strategies as st

from fer_jax.config.defaults import default_config, flatten
from fer_jax.config.loading import from_json, load_config, to_json

FILE = b"""from fer_jax.config.defaults import default_config


def get_config():
    config = default_config()
    config.model.backbones = ("mobilenet_v2",)
    config.train.epochs = 6
    return config
"""
VALUES = (
    "",
    "None",
    "nan",
    "1e999",
    "-1",
    "9" * 400,
    "9" * 5000,
    "()",
    "([],)",
    "({},)",
    "((" * 200,
    "(1,",
    "\0",
    "True",
)


class _Given:
    """What a reader is given, whose text a message must name."""

    def __init__(self, named, *content):
        self.named, self.content = named, content

    def __str__(self):
        return self.named


def _file(place, content):
    (place / "mine.py").write_bytes(content)
    return place / "mine.py"


def test_bytes_of_a_config_file(survives, damage):
    def lay(place, splices):
        return _Given("config.", _file(place, damage.spliced(FILE, splices)))

    survives(damage.splices(len(FILE)), lay, lambda given: load_config([f"--config={given.content[0]}"]), few=60)


def test_something_else_in_the_place_of_a_config_file(survives, damage):
    def lay(place, kind):
        damage.replace_by(kind, place / "mine.py", place.parent / "outside")
        return place / "mine.py"

    survives(damage.kinds, lay, lambda path: load_config([f"--config={path}"]), few=10)


def test_overrides(survives):
    """Any value for any key."""
    keys = st.sampled_from(sorted(flatten(default_config())))
    values = st.sampled_from(VALUES) | st.text(max_size=12) | st.integers().map(str) | st.floats().map(str)

    def lay(place, drawn):
        return _Given(drawn[0], _file(place, FILE), *drawn)

    def read(given):
        path, key, value = given.content
        load_config([f"--config={path}", f"--config.{key}={value}"])

    survives(st.tuples(keys, values), lay, read, few=200)


def test_text_of_a_saved_config(survives, damage):
    config = json.loads(to_json(default_config()))
    whole = to_json(default_config()).encode()
    texts = damage.json(config).map(json.dumps)
    texts |= damage.splices(len(whole)).map(lambda splices: damage.spliced(whole, splices).decode("utf-8", "replace"))

    # The message has no file here: those who read the text add it.
    survives(texts, lambda place, text: _Given("config", text), lambda given: from_json(*given.content), few=150)
