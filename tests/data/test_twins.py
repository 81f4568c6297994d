"""Lists of twins: read back, held against the data, and what they leave out of training."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from fer_jax.audit.audit import audit
from fer_jax.config.defaults import default_config
from fer_jax.data.configured import as_configured
from fer_jax.data.dataset import from_rows
from fer_jax.data.synthetic import synthetic_faces
from fer_jax.data.twins import COLUMNS, KINDS, SHIPPED, TwinIndex, read_twins
from fer_jax.errors import InputError
from fer_jax.testing import write_votes

REAL = Path(__file__).parents[3] / "shared" / "data" / "fer2013.npz"


@pytest.fixture(scope="module")
def data():
    """Images a, b, ... in train a b c d e, validation a, test d (mirrored), b (brighter), f."""
    a, b, c, d, e, f = np.random.default_rng(0).integers(0, 200, (6, 48, 48), np.uint8)
    images = np.stack([a, b, c, d, e, a, d[:, ::-1], b + 40, f])
    return from_rows(images, np.arange(9) % 7, np.array([0] * 5 + [1] + [2] * 3), "by hand")


@pytest.fixture(scope="module")
def listed(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("twins") / "twins.csv"
    path.write_text(audit(data).twins_csv())
    return path


def config(drop, twins=None):
    config = default_config()
    config.data.drop_twins = drop
    config.data.twins = None if twins is None else str(twins)
    return config


def kinds(index, split):
    return [None if kind < 0 else KINDS[kind] for kind in index.kinds(split, ("train",))]


def test_kinds_of_twins(data, listed):
    index = TwinIndex(data, str(listed))
    assert kinds(index, "validation") == ["exact"]
    assert kinds(index, "test") == ["mirrored", "near", None]
    # Without a list the exact ones are still known.
    assert TwinIndex(data).twins is None
    assert kinds(TwinIndex(data), "validation") == ["exact"]
    assert kinds(TwinIndex(data), "test") == [None, None, None]


def test_a_list_holds_for_the_same_images_in_any_order(data, listed):
    images = np.concatenate([data.split(name).images for name in ("test", "validation", "train")])
    other = from_rows(images, np.zeros(9, int), np.array([2, 2, 2, 1, 0, 0, 0, 0, 0]), "sorted")
    assert kinds(TwinIndex(other, str(listed)), "test") == ["mirrored", "near", None]


def test_twins_are_left_out_of_training(data, listed):
    assert as_configured(config("none"), data) is data
    assert as_configured(config("exact"), data).train.row_ids.tolist() == [1, 2, 3, 4]
    without = as_configured(config("near", listed), data)
    assert without.train.row_ids.tolist() == [2, 4]
    assert without.source.endswith("without 3 training images that have twins of any kind in validation or test")
    np.testing.assert_array_equal(without.test.images, data.test.images)


def test_near_twins_of_unknown_data_need_a_list(data):
    with pytest.raises(InputError, match=r"drop_twins=near: by hand is not the whole FER2013, .*fer-jax audit"):
        as_configured(config("near"), data)


def test_votes_and_twins_go_together(tmp_path):
    faces = synthetic_faces(60, 10, 10, seed=0)
    images = np.concatenate([faces.split(name).images for name in ("train", "validation", "test")])
    images[60] = images[7]  # an exact twin in train of the first validation image
    labels = np.concatenate([faces.split(name).labels for name in ("train", "validation", "test")])
    faces = from_rows(images, labels, np.repeat([0, 1, 2], [60, 10, 10]), "twins")
    both = config("exact")
    both.data.votes = str(write_votes(tmp_path / "votes.csv", faces))
    made = as_configured(both, faces)
    assert made.train.row_ids.tolist() == [row for row in range(60) if row != 7]
    assert made.train.targets.shape == (59, 8)


BAD = {
    "of other data": (lambda text: text.replace("\n0,", "\n0,", 1), "of its images are in"),
    "another header": (lambda text: text.replace("digest_a", "hash", 1), "no column 'digest_a'"),
    "another kind": (lambda text: text.replace(",near,", ",far,", 1), r"row \d: kind and digests \(.*'far'"),
    "a short row": (lambda text: text + "1,train\n", r"row \d: kind and digests"),
    "empty": (lambda text: "", "no column 'row_a'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_list_that_does_not_serve_is_one_line(name, data, listed, tmp_path):
    change, message = BAD[name]
    path = tmp_path / "list.csv"
    path.write_text(change(listed.read_text()))
    other = synthetic_faces(20, 8, 8, seed=1) if name == "of other data" else data
    with pytest.raises(InputError, match=message) as error:
        TwinIndex(other, str(path))
    assert str(error.value).startswith(str(path))


def test_files_that_are_no_list_are_one_line(tmp_path):
    (tmp_path / "damaged.csv.gz").write_bytes(gzip.compress(b"x" * 5000)[:-20])
    (tmp_path / "plain.csv.gz").write_bytes(b"not gzip")
    for name in ("damaged.csv.gz", "plain.csv.gz", "missing.csv", "."):
        with pytest.raises(InputError, match=r"damaged|cannot be read"):
            read_twins(tmp_path / name)


def test_an_audit_without_pairs_serves(tmp_path, data):
    (tmp_path / "none.csv").write_text(",".join(COLUMNS) + "\n")
    assert kinds(TwinIndex(data, str(tmp_path / "none.csv")), "test") == [None, None, None]


def test_the_shipped_list_has_no_images():
    twins = read_twins(SHIPPED)
    assert len(twins.pairs) > 5000
    assert SHIPPED.stat().st_size < 400_000


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="needs the real FER2013")
def test_known_figures_of_the_real_data():
    real = np.load(REAL)
    index = TwinIndex(from_rows(real["pixels"], real["emotion"], real["usage"], "real"))
    for split, exact in (("validation", 280), ("test", 288)):
        found = index.kinds(split, ("train",))
        assert (found == 0).sum() == exact
        # Without scaling, at thresholds of 0.8 and 0.72: 371 to 422 and 378 to 427 others.
        assert 540 < (found > 0).sum() < 620
