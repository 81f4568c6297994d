"""The forms in which people have FER2013 and its kin: packed, of other software, in lists, in rows, without a split."""

import bz2
import gzip
import io
import json
import logging
import lzma
import tarfile
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from fer_jax.data.csv_reader import read_csv
from fer_jax.data.options import FolderOptions
from fer_jax.data.sources import load
from fer_jax.errors import InputError
from fer_jax.expressions import EIGHT_EXPRESSIONS, EXPRESSIONS

USAGES = ("Training", "Training", "PublicTest", "PrivateTest")
FACES = np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8)
LABELS = (3, 0, 6, 1)
RAFDB = "surprise,fear,disgust,happy,sad,angry,neutral"


def rows(labels=LABELS, usages=USAGES, faces=FACES):
    pixels = (" ".join(map(str, face.ravel())) for face in faces)
    return [",".join(map(str, row)) for row in zip(labels, pixels, usages, strict=True)]


def csv_text(header="emotion,pixels,Usage", **of):
    return "\n".join([header, *rows(**of), ""])


CSV = csv_text()


def png(face=FACES[0]):
    stream = io.BytesIO()
    Image.fromarray(face).save(stream, "PNG")
    return stream.getvalue()


def save(root, *names):
    for index, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(FACES[index % 4]))


def read(source, tmp_path, fraction=None, **options):
    cache = tmp_path / "the cache"
    return load(source, validation_fraction=fraction, cache_dir=cache, folder=FolderOptions(**options))


def counts(data):
    return len(data.train), len(data.validation), len(data.test)


def check_faces(data):
    assert counts(data) == (2, 1, 1)
    np.testing.assert_array_equal(data.train.images, FACES[:2])
    assert [split.labels.tolist() for split in (data.train, data.validation, data.test)] == [[3, 0], [6], [1]]
    assert data.class_names == EXPRESSIONS


def zipped(*members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(*members, mode="w:gz"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


RAW = CSV.encode()
PACKED = {
    "fer2013.csv.gz": gzip.compress(RAW),
    "fer2013.gz": gzip.compress(RAW),
    "fer2013.csv.bz2": bz2.compress(RAW),
    "fer2013.csv.xz": lzma.compress(RAW),
    "archive.zip": zipped(("fer2013/", ""), ("fer2013/fer2013.csv", RAW), ("fer2013/README", "see the paper")),
    "fer2013.tar.gz": tarred(("fer2013/README", b"see"), ("fer2013/fer2013.csv", RAW)),
    "fer2013.tar": tarred(("fer2013.csv", RAW), mode="w"),
    "really a zip.csv": zipped(("../../fer2013.csv", RAW)),
    "without_ending": RAW,
    "fer2013.txt": RAW,
    "utf16.csv": CSV.encode("utf-16"),
    "utf16 big endian without mark.csv": CSV.encode("utf-16-be"),
    "semicolon.csv": CSV.replace(",", ";").encode(),
    "tab.tsv": CSV.replace(",", "\t").encode(),
    "quoted.csv": csv_text().replace(",", '","').replace("\n", '"\n"').join('""').encode()[:-2],
    "floats.csv": csv_text(labels=("3.0", "0.", "06", "1")).encode(),
    "words.csv": csv_text(labels=("Happiness", "ANGER", "neutral", "disgusted")).encode(),
    "splits.csv": csv_text("Label;Pixels;Split".replace(";", ","), usages=("train", "TRAIN", "Val", "test")).encode(),
    "lists.csv": "\n".join(
        [CSV.partition("\n")[0], *(r.replace(",", ',"[', 1)[::-1].replace(",", ',"]', 1)[::-1] for r in rows())]
    ).encode(),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_csv_in_other_forms_is_the_same_data(tmp_path, name):
    (tmp_path / name).write_bytes(PACKED[name])
    check_faces(read(tmp_path / name, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "the cache"])


@pytest.mark.parametrize("name", ["fer2013.csv", "fer2013.tar.gz", "archive.zip"])
def test_the_csv_in_a_folder_is_found(tmp_path, name):
    place = tmp_path / "data" / "deeper"
    place.mkdir(parents=True)
    (place / name).write_bytes(PACKED.get(name, RAW))
    (place / "README").write_text("see the paper")
    check_faces(read(tmp_path / "data", tmp_path))


def test_of_the_files_of_the_competition_the_whole_set_is_read(tmp_path):
    place = tmp_path / "competition"
    place.mkdir()
    (place / "train.csv").write_text(csv_text("emotion,pixels", usages=USAGES).replace(",Training", ""))
    (place / "test.csv").write_text("pixels\n1 2 3\n")
    (place / "icml_face_data.csv").write_text(CSV.replace("emotion,pixels,Usage", "emotion, pixels, Usage"))
    check_faces(read(place, tmp_path))
    (place / "again.csv").write_text(CSV)
    with pytest.raises(InputError, match=r"several csv files of faces \(again.csv, icml_face_data.csv\)"):
        read(place, tmp_path)


REFUSED = {
    "page.csv": (b"<!DOCTYPE html>\n<html>", "a web page, not a csv"),
    "pointer.csv": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"),
    "no header.csv": ("\n".join(rows()).encode(), "the header line is missing"),
    "no labels.csv": (b"pixels\n1 2 3\n", r"scripts/predict\.py"),
    "wide.csv": (b"label,pixel0,pixel1\n1,2,3\n", "join them with spaces in one column"),
    "names.csv": (b"image_path,label\na.png,happy\n", "sort the images into a folder for each class"),
    "images.zip": (zipped(("train/happy/a.png", png())), r"holds train/happy/a\.png, no csv.*unpack it"),
    "arrays.npz": (zipped(("x.npy", b"")), "arrays of NumPy"),
    "table.xlsx": (zipped(("xl/workbook.xml", b"")), "save it as csv"),
    "model.pt": (zipped(("model/data.pkl", b"")), "a file of PyTorch"),
    "two.zip": (zipped(("a.csv", RAW), ("b.csv", RAW)), r"several csv files of faces \(a.csv, b.csv\)"),
    "cut.zip": (PACKED["archive.zip"][:2000], "cannot be read"),
    "cut.tar.gz": (PACKED["fer2013.tar.gz"][:2000], "cannot be read"),
    "cut.gz": (PACKED["fer2013.gz"][:2000], "cannot be read"),
    "x.npy": (b"\x93NUMPY...", "not a known kind of file.*NumPy"),
    "x.h5": (b"\x89HDF...", "not a known kind of file.*HDF5"),
    "face.png": (png(), r"a single image.*scripts/predict\.py"),
    "broken.parquet": (b"PAR1....", "cannot be read as parquet"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named_with_the_remedy(tmp_path, name):
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / name, tmp_path)
    assert name in str(caught.value)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_jax.data.packed.MAX_BYTES", 20_000)
    for name in ("fer2013.csv.gz", "archive.zip", "fer2013.tar.gz"):
        (tmp_path / name).write_bytes(PACKED[name])
        with pytest.raises(InputError, match="more than 20,000 bytes"):
            read(tmp_path / name, tmp_path)
    monkeypatch.undo()
    (tmp_path / "line.csv").write_bytes(b"emotion,pixels\n" + b"1" * 2**21)
    with pytest.raises(InputError, match=r"a line of more than 1,048,576 characters"):
        read(tmp_path / "line.csv", tmp_path)


def test_links_in_a_tar_are_not_followed(tmp_path):
    (tmp_path / "secret.csv").write_bytes(RAW)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("fer2013.csv")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.csv")
        archive.addfile(info)
    (tmp_path / "a.tar").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match="no csv with the columns"):
        read(tmp_path / "a.tar", tmp_path)


def test_a_csv_may_lack_splits(tmp_path):
    path = tmp_path / "faces.csv"
    labels, faces = [3, 0] * 5, np.repeat(FACES, 3, axis=0)[:10]
    path.write_text("emotion,pixels\n" + "\n".join(r.removesuffix(",") for r in rows(labels, [""] * 10, faces)))
    with pytest.raises(InputError, match=r"no row of the validation split .* config\.data\.validation_fraction"):
        read(path, tmp_path)
    data = read(path, tmp_path, 0.4)
    assert counts(data) == (6, 4, 0)
    assert np.bincount(data.validation.labels).tolist() == [2, 0, 0, 2]
    assert sorted([*data.train.row_ids, *data.validation.row_ids]) == list(range(10))
    # To evaluate, everything is of the one split that is asked for.
    assert counts(read(path, tmp_path, class_names=EXPRESSIONS)) == (0, 0, 10)
    assert counts(read(path, tmp_path, 0.4, class_names=EXPRESSIONS, unsplit="train")) == (6, 4, 0)

    path.write_text(csv_text(usages=("Training", "Training", "PublicTest", "PublicTest")))
    assert counts(read(path, tmp_path)) == (2, 2, 0)
    path.write_text(csv_text(usages=("Training", "Training", "PrivateTest", "PrivateTest")))
    with pytest.raises(InputError, match="no row of the validation split"):
        read(path, tmp_path)
    assert counts(read(path, tmp_path, class_names=EXPRESSIONS)) == (2, 0, 2)
    path.write_text(csv_text(usages=["PublicTest"] * 4))
    assert counts(read(path, tmp_path, class_names=EXPRESSIONS)) == (0, 4, 0)
    with pytest.raises(InputError, match="no image of the train split"):
        read(path, tmp_path)


def test_contempt_is_the_eighth_class_on_demand(tmp_path, caplog):
    path = tmp_path / "ckextended.csv"
    path.write_text(csv_text(labels=(7, 0, 6, 1)))
    with pytest.raises(InputError, match=r"emotion '7'.*config\.data\.classes=with_contempt.*or drop its rows"):
        read(path, tmp_path)
    data = read(path, tmp_path, classes="with_contempt")
    assert (data.class_names, data.train.labels.tolist()) == (EIGHT_EXPRESSIONS, [7, 0])
    with caplog.at_level(logging.WARNING, "fer_jax"):
        assert read(path, tmp_path, class_names=EXPRESSIONS).train.labels.tolist() == [0]
    assert "1 images of contempt, which the model does not know, are left out" in caplog.text
    # By name, whatever the order of the model's classes.
    anger_last = ("contempt", "disgust", "neutral", "anger")
    assert read(path, tmp_path, class_names=anger_last).train.labels.tolist() == [0, 3]

    folder = tmp_path / "affect8"
    save(folder, *(f"{split}/{name}/a.png" for split in ("train", "val") for name in ("anger", "Contempt", "sad")))
    with pytest.raises(InputError, match=r"Contempt: unknown class folder.*config\.data\.classes=with_contempt"):
        read(folder, tmp_path)
    assert read(folder, tmp_path, classes="with_contempt").train.labels.tolist() == [7, 0, 4]
    assert read(folder, tmp_path, classes="folders").class_names == ("Contempt", "anger", "sad")


@pytest.mark.parametrize(
    "names", [RAFDB, str(tuple(RAFDB.split(","))), "7=neutral,1=surprise,2=fear,3=disgust,4=happy,5=sad,6=anger"]
)
def test_numbered_folders_are_named(tmp_path, caplog, names):
    save(tmp_path, *(f"{split}/{number}/a.png" for split in ("train", "val") for number in range(1, 8)))
    with caplog.at_level(logging.WARNING, "fer_jax"):
        assert read(tmp_path, tmp_path).class_names == tuple("1234567")
    assert f"--class-names) names them in this order, as surprise,fear,... (RAF-DB's 1 to 7 are {RAFDB})" in caplog.text
    data = read(tmp_path, tmp_path, names=names)
    assert data.class_names == EXPRESSIONS
    assert [EXPRESSIONS[label] for label in data.train.labels] == RAFDB.split(",")
    assert read(tmp_path, tmp_path, names=names, class_names=("happy", "surprise")).train.labels.tolist() == [1, 0]
    with pytest.raises(InputError, match=r"train/1: unknown class folder.*--class-names\) says what the numbers mean"):
        read(tmp_path, tmp_path, class_names=EXPRESSIONS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("a,b", r"2 names \(a, b\), but .* has 3 labels: 2, 10, b"),
        ("a,b,a", "expected different names"),
        ("4=a", "no class folder '4', found 2, 10, b"),
        ("2=", "expected LABEL=NAME"),
        ("2=a,10", "expected LABEL=NAME"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, names, message):
    save(tmp_path, *(f"{split}/{name}/a.png" for split in ("train", "val") for name in ("2", "10", "b")))
    with pytest.raises(InputError, match=rf"config\.data\.class_names \(--class-names\): .*{message}"):
        read(tmp_path, tmp_path, names=names)
    assert read(tmp_path, tmp_path, names="zwei,zehn,b").train.labels.tolist() == [1, 2, 0]


def test_names_of_the_labels_of_a_csv(tmp_path):
    path = tmp_path / "faces.csv"
    path.write_text(csv_text(labels=("1", "2", "1", "2")))
    data = read(path, tmp_path, names="1=dog,2=cat")
    assert (data.class_names, data.train.labels.tolist()) == (("cat", "dog"), [1, 0])


def test_class_folders_without_a_split(tmp_path, caplog):
    folder = tmp_path / "ck48"
    save(folder, *(f"{name}/{k}.png" for name in ("anger", "sadness") for k in range(5)))
    (folder / "annotations").mkdir()
    with pytest.raises(InputError, match=r"class folders without a split; set config\.data\.validation_fraction"):
        read(folder, tmp_path)
    with caplog.at_level(logging.WARNING, "fer_jax"):
        data = read(folder, tmp_path, 0.2)
    assert counts(data) == (8, 2, 0)
    assert data.train.files[0].startswith("anger/")
    assert "passed over annotations, without an image" in caplog.text
    evaluated = read(folder, tmp_path, class_names=EXPRESSIONS)
    assert counts(evaluated) == (0, 0, 10)
    assert evaluated.test.files[-1] == "sadness/4.png"
    # A class on its own, by the name of its folder.
    assert read(folder / "sadness", tmp_path, class_names=EXPRESSIONS).test.labels.tolist() == [4] * 5
    assert counts(read(folder, tmp_path, 0.2, class_names=EXPRESSIONS, unsplit="train")) == (8, 2, 0)


def test_pictures_without_labels_are_for_predict(tmp_path):
    save(tmp_path / "photos", "a.png", "b.png")
    for options in ({}, {"class_names": EXPRESSIONS}):
        with pytest.raises(InputError, match=r"images without class folders; scripts/predict\.py predicts"):
            read(tmp_path / "photos", tmp_path, **options)


def test_nested_folders_are_looked_into(tmp_path, caplog):
    save(
        tmp_path,
        *(f"nested/images/images/{split}/{name}/a.png" for split in ("train", "val") for name in ("sad", "fear")),
    )
    (tmp_path / "nested" / "labels.csv").write_text("image,label\na.png,1\n")
    with caplog.at_level(logging.WARNING, "fer_jax"):
        assert counts(read(tmp_path / "nested", tmp_path)) == (2, 2, 0)
    assert "nested: reading " in caplog.text
    save(tmp_path, "nested/other/train/sad/a.png")
    with pytest.raises(InputError, match=r"several data sets \(.*images/images, .*nested/other\)"):
        read(tmp_path / "nested", tmp_path)
    # Below the splits as well.
    save(tmp_path, *(f"below/{split}/images/{name}/a.png" for split in ("train", "val") for name in ("sad", "fear")))
    assert read(tmp_path / "below", tmp_path).train.labels.tolist() == [2, 4]


def test_litter_is_passed_over_and_the_rest_is_named(tmp_path, caplog):
    save(tmp_path, *(f"{split}/{name}/a.jfif" for split in ("train", "val") for name in ("sad", "fear")))
    for litter in ("annotations", "train/@eaDir", "train/sad/@eaDir", "train/sad/.ipynb_checkpoints", "lost+found"):
        (tmp_path / litter).mkdir()
    (tmp_path / "train" / "labels.csv").write_text("a,b\n")
    with caplog.at_level(logging.WARNING, "fer_jax"):
        assert counts(read(tmp_path, tmp_path)) == (2, 2, 0)
    passed = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert [message.partition(":")[0].rpartition("/")[2] for message in passed] == ["annotations", "labels.csv"]

    (tmp_path / "train" / "sad" / "link.png").symlink_to("/nonexistent/face.png")
    save(tmp_path, "train/sad/S001/1.png")
    (tmp_path / "val" / "fear" / "photo.heic").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        read(tmp_path, tmp_path)
    assert "S001: not an image file, but a folder inside a class folder; move its images up" in str(caught.value)
    assert "3 are damaged or not to be used (train/sad/S001, train/sad/link.png, val/fear/photo.heic)" in str(
        caught.value
    )
    with caplog.at_level(logging.WARNING, "fer_jax"):
        assert counts(read(tmp_path, tmp_path, skip_damaged=True)) == (2, 2, 0)
    assert "but a link to /nonexistent/face.png, which is not there" in caplog.text
    assert "photo.heic: not an image file of a kind that is read; convert it to JPEG or PNG" in caplog.text


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_all_damaged_files_are_in_one_message_or_passed_over(tmp_path, kind):
    save(tmp_path, *(f"{split}/{name}/{k}.png" for split in ("train", "val") for name in "ab" for k in range(9)))
    for k in range(8):
        (tmp_path / "train" / "a" / f"{k}.png").write_text("<html>404</html>")
    for k in range(4):
        # Whole in its header, and cut below it.
        (tmp_path / "val" / "b" / f"{k}.png").write_bytes(png()[:-200])
    header_only = kind == "streaming"
    with pytest.raises(
        InputError, match=rf"train/a/0\.png: not a readable.*{8 if header_only else 12} are damaged"
    ) as found:
        read(tmp_path, tmp_path, input=kind)
    assert ("val/b/1.png, ...)" in str(found.value)) != header_only
    assert "skip_damaged=True" in str(found.value)
    data = read(tmp_path, tmp_path, input=kind, skip_damaged=True)
    assert counts(data) == (10, 14, 0)
    assert data.source == f"folder {tmp_path.name}, without 12 damaged"
    # The row ids are those of the whole listing.
    assert data.train.row_ids.tolist() == [8, *range(9, 18)]
    assert len(data.in_memory().validation.images) == 14


def test_damaged_rows_are_in_one_message_or_passed_over(tmp_path):
    lines = csv_text(
        labels=[3, 0] * 8,
        usages=["Training", "Training", "PublicTest", "PublicTest"] * 4,
        faces=np.repeat(FACES, 4, axis=0),
    ).split("\n")
    for row in range(12):
        lines[row + 3] = lines[row + 3].replace(" ", " x", 1)
    (tmp_path / "faces.csv").write_text("\n".join(lines))
    with pytest.raises(
        InputError, match=r"row 2 \(line 4\): pixel 1 is 'x.*12 are damaged .*row 2, row 3, .*row 11, \.\.\."
    ):
        read_csv(tmp_path / "faces.csv")
    data = read(tmp_path / "faces.csv", tmp_path, skip_damaged=True)
    assert [split.row_ids.tolist() for split in (data.train, data.validation)] == [[0, 1], [14, 15]]
    assert not (tmp_path / "the cache").exists()


def test_a_source_that_is_all_damaged_is_refused(tmp_path):
    for name in ("train/a/x.png", "train/b/x.png", "val/a/x.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    for skip in (False, True):
        with pytest.raises(InputError, match="3 are damaged"):
            read(tmp_path, tmp_path, skip_damaged=skip)
    (tmp_path / "a.csv").write_text("emotion,pixels,Usage\n1,2 3,Training\n")
    with pytest.raises(InputError, match="found 2 pixels"):
        read(tmp_path / "a.csv", tmp_path, skip_damaged=True)


def test_classes_without_images_are_named_and_one_class_alone_is_refused(tmp_path, caplog):
    save(tmp_path, "train/sad/a.png", "train/fear/a.png", "train/happy/a.png", "val/sad/a.png", "val/angry/a.png")
    with caplog.at_level(logging.WARNING, "fer_jax"):
        read(tmp_path, tmp_path)
    (message,) = [m for m in caplog.messages if "no image of" in m]
    assert (
        "no image of disgust, surprise, neutral in any split, of angry in train, of fear, happy in validation"
        in message
    )
    save(tmp_path / "one", "train/sad/a.png", "val/sad/a.png")
    with pytest.raises(InputError, match=r"all 1 training images are of one class, 'sad'"):
        read(tmp_path / "one", tmp_path)
    assert counts(read(tmp_path / "one", tmp_path, class_names=EXPRESSIONS)) == (1, 1, 0)


def parquet(path, labels, names=None, image=lambda index: {"bytes": png(FACES[index % 4]), "path": None}):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"image": [image(index) for index in range(len(labels))], "label": labels})
    if names:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pyarrow.parquet.write_table(table, path)


def test_parquet_of_the_hubs(tmp_path):
    hub = tmp_path / "hub"
    parquet(hub / "data" / "train-00000-of-00002.parquet", [3])
    parquet(hub / "data" / "train-00001-of-00002.parquet", [0], image=lambda _: {"bytes": png(FACES[1]), "path": "x"})
    parquet(hub / "data" / "validation-00000-of-00001.parquet", [6], image=lambda _: png(FACES[2]))
    parquet(hub / "data" / "test-00000-of-00001.parquet", [1], image=lambda _: png(FACES[3]))
    (hub / "README.md").write_text("of a hub")
    check_faces(read(hub, tmp_path))
    # Named by the file, in another order; a folder for each split.
    names = ["Anger", "Sad", "Happy"]
    for split in ("train", "valid"):
        parquet(tmp_path / "other" / split / "0000.parquet", [2, 0, 1], names)
    assert read(tmp_path / "other", tmp_path).train.labels.tolist() == [3, 0, 4]
    # One file without a split, and words.
    parquet(tmp_path / "all.parquet", ["cat", "dog"] * 4)
    data = read(tmp_path / "all.parquet", tmp_path, 0.25)
    assert (counts(data), data.class_names) == ((6, 2, 0), ("cat", "dog"))


@pytest.mark.parametrize(
    ("labels", "image", "message"),
    [
        ([3, 9], png(), r"train\.parquet, row 1: label 9, expected a number from 0 to 7"),
        ([3, 7], png(), r"unknown label 'contempt'.*classes=with_contempt"),
        ([3, None], png(), r"row 1: label None"),
        ([3, 3, 3, 0, 0, 0], b"", r"train\.parquet, row 0: not a readable image.*6 are damaged"),
        ([3, 0], 5, r"the column image is of 'int64', expected the encoded bytes"),
        ([[3], [0]], png(), r"the column label is of .*list.*expected numbers or words"),
    ],
)
def test_other_parquet_is_refused(tmp_path, labels, image, message):
    parquet(tmp_path / "train.parquet", labels, image=lambda _: image)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "train.parquet", tmp_path, 0.4)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(InputError, match="the columns text; expected an image"):
        read(tmp_path / "text.parquet", tmp_path)


def test_a_data_set_saved_by_datasets_is_explained(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match=r"library `datasets`.*to_parquet"):
        read(tmp_path, tmp_path)


def test_rafdb_by_its_list(tmp_path):
    root, lines = tmp_path / "rafdb", []
    for split in ("train", "test"):
        for number in range(1, 8):
            save(root, f"Image/aligned/{split}_{number:05d}_aligned.jpg")
            save(root, f"Image/original/{split}_{number:05d}.jpg")
            lines.append(f"{split}_{number:05d}.jpg {number}")
    (root / "EmoLabel").mkdir()
    (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"RAF-DB has no validation split; set config\.data\.validation_fraction"):
        read(root, tmp_path)
    data = read(root, tmp_path, class_names=EXPRESSIONS)
    assert counts(data) == (7, 0, 7)
    assert [EXPRESSIONS[label] for label in data.test.labels] == RAFDB.split(",")
    assert data.test.files[0] == "Image/aligned/test_00001_aligned.jpg"
    (root / "Image" / "aligned" / "test_00003_aligned.jpg").unlink()
    with pytest.raises(InputError, match=r"test_00003\.jpg: not a readable image"):
        read(root, tmp_path, class_names=EXPRESSIONS)
    (root / "EmoLabel" / "list_patition_label.txt").write_text("train_00001.jpg 11\n")
    with pytest.raises(
        InputError, match=r"list_patition_label\.txt, line 1: 'train_00001.jpg 11', expected .* from 1 to 7"
    ):
        read(root, tmp_path)


def test_ferplus_in_its_folders(tmp_path):
    root = tmp_path / "ferplus"
    # neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not a face
    votes = ["0,8,0,0,0,0,0,0,2,0", "0,0,0,0,0,0,0,9,1,0", "5,5,0,0,0,0,0,0,0,0", "0,0,0,0,10,0,0,0,0,0"]
    for split in ("FER2013Train", "FER2013Valid", "FER2013Test"):
        save(root / "data" / split, "0.png", "1.png", "2.png", "3.png")
        table = "".join(f'{k}.png,"(0, 0, 48, 48)",{vote}\n' for k, vote in enumerate(votes))
        (root / "data" / split / "label.csv").write_text(table + '"","(0, 0, 48, 48)",0,0,0,0,0,0,0,0,0,10\n')
    data = read(root, tmp_path)
    assert counts(data) == (2, 2, 2)
    assert [EXPRESSIONS[label] for label in data.train.labels] == ["happy", "angry"]
    eight = read(root, tmp_path, classes="with_contempt")
    assert [EIGHT_EXPRESSIONS[label] for label in eight.train.labels] == ["happy", "contempt", "angry"]
    (root / "data" / "FER2013Test" / "label.csv").write_text("0.png,box,1,2\n")
    with pytest.raises(InputError, match=r"label\.csv, line 1: .*expected the name of a file, its box and 10 numbers"):
        read(root, tmp_path)


@pytest.mark.parametrize("content", ["train/images/a.png train/labels/a.png", "model.tfrecord", "angry/notes.md"])
def test_other_layouts_are_named(tmp_path, content):
    for name in content.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png())
    message = {"train": "layout of YOLO", "model": "TFRecord files are not read", "angry": "hold no image files"}
    with pytest.raises(InputError, match=message[content[:5]]):
        read(tmp_path, tmp_path)
