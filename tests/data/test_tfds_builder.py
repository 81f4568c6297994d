"""The TFDS dataset: the same data back, without TensorFlow, and nothing else accepted."""

import json
import shutil
import subprocess
import sys

import pytest

from fer_jax.data.synthetic import synthetic_faces
from fer_jax.data.tfds_builder import dataset_place, read_tfds, write_tfds
from fer_jax.errors import InputError


@pytest.fixture
def written(tmp_path):
    data = synthetic_faces(40, 8, 12, seed=0)
    return data, write_tfds(data, tmp_path / "out")


def test_round_trip(written, tmp_path):
    data, place = written
    assert place == dataset_place(tmp_path / "out")
    for directory in (tmp_path / "out", place.parent, place):
        read = read_tfds(directory)
        assert read.fingerprint() == data.fingerprint()
        assert read.source == f"tfds from {data.source}"
    assert list(place.parent.iterdir()) == [place]
    assert json.loads((place / "dataset_info.json").read_text())["fileFormat"] == "array_record"


def test_tensorflow_is_neither_needed_nor_imported(written, tmp_path):
    program = f"""
import sys

from importlib.machinery import ModuleSpec

class Installed:  # TensorFlow as far as anyone can see, until it is imported.
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.partition(".")[0] == "tensorflow" else None

    def create_module(self, spec):
        raise SystemExit("TensorFlow was imported")

sys.meta_path.insert(0, Installed())
from fer_jax.data.tfds_builder import read_tfds, write_tfds
write_tfds(read_tfds({str(written[1])!r}), {str(tmp_path / "again")!r})
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert read_tfds(tmp_path / "again").fingerprint() == written[0].fingerprint()


def test_an_existing_dataset_stays(written, tmp_path):
    before = {path: path.read_bytes() for path in written[1].iterdir()}
    with pytest.raises(InputError, match="there is a dataset already"):
        write_tfds(synthetic_faces(16, 2, 4, seed=1), tmp_path / "out")
    assert {path: path.read_bytes() for path in written[1].iterdir()} == before


def test_labels_are_mapped_by_name(written):
    data, place = written
    names = (place / "label.labels.txt").read_text().split()
    (place / "label.labels.txt").write_text("\n".join(reversed(names)) + "\n")
    assert (read_tfds(place).train.labels == 6 - data.train.labels).all()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("fer2013-train.array_record-00000-of-00001", b"", "damaged"),
        ("fer2013-test.array_record-00000-of-00001", None, "damaged"),
        ("dataset_info.json", b"{", "damaged"),
        ("label.labels.txt", b"a\nb\nc\nd\ne\nf\ng\n", "classes a, b, c"),
        ("dataset_info.json", None, "no TFDS dataset"),
    ],
)
def test_damage_is_reported(written, file, content, message):
    place = written[1]
    if content is None:
        (place / file).unlink()
    else:
        (place / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_tfds(place)


def test_a_missing_split_is_reported(written):
    info = written[1] / "dataset_info.json"
    content = json.loads(info.read_text())
    content["splits"] = [split for split in content["splits"] if split["name"] != "validation"]
    info.write_text(json.dumps(content))
    with pytest.raises(InputError, match="no images in the split 'validation', found"):
        read_tfds(written[1])


def test_two_datasets_are_ambiguous(written, tmp_path):
    shutil.copytree(written[1], written[1].with_name("1.1.0"))
    with pytest.raises(InputError, match="several TFDS datasets"):
        read_tfds(tmp_path / "out")
