"""Cache the rows of a csv in an uncompressed `.npz`, named by the hash of the file's content."""

import hashlib
import logging
import zipfile
import zlib
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from fer_jax.data.csv_reader import CsvRows, csv_dataset, find_csv, read_rows
from fer_jax.data.dataset import Dataset
from fer_jax.data.options import FolderOptions
from fer_jax.data.packed import Member, members
from fer_jax.errors import InputError, is_exhaustion
from fer_jax.storage.files import replace_file

_log = logging.getLogger("fer_jax")

_FORMAT = "2"
_ARRAYS = ("images", "labels", "splits", "rows", "lines")


def default_cache_dir() -> Path:
    """Return the user's cache folder: `~/.cache/fer_jax` on Linux, or below `XDG_CACHE_HOME` if that is set."""
    return user_cache_path("fer_jax")


def read_csv_cached(
    path: str | Path,
    cache_dir: str | Path | None = None,
    *,
    validation_fraction: float | None = None,
    seed: int = 0,
    options: FolderOptions | None = None,
) -> Dataset:
    """Read a csv as `read_csv` does, but parse each content (by SHA-256) only once.

    The whole FER2013 takes 83 MB in `cache_dir` (default: `default_cache_dir()`). A cache file that is damaged or
    of another origin is rewritten; a cache that cannot be written causes a warning. Damaged rows are never cached.
    """
    path = Path(path)
    member = find_csv(members(path), str(path))
    try:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    cache = Path(cache_dir or default_cache_dir()) / f"{content}.npz"
    rows = _read_cache(cache, content)
    if rows is None:
        rows = _parse(member, cache, content)
    # The name of the source is that of the csv at hand: the same content may have come under another name before.
    return csv_dataset(rows, member, validation_fraction, seed, options or FolderOptions())


def _parse(member: Member, cache: Path, content: str) -> CsvRows:
    rows = read_rows(member)
    if not rows.damaged:
        try:
            _write_cache(cache, content, rows)
        except OSError as error:
            _log.warning("%s: cannot write the cache (%s); the csv will be parsed again next time", cache, error)
    return rows


def _read_cache(cache: Path, content: str) -> CsvRows | None:
    try:
        # The zip format checks a CRC-32 of each array, which catches damage.
        loaded = np.load(cache, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return None
        with loaded as arrays:
            if (str(arrays["format"]), str(arrays["content"])) != (_FORMAT, content):
                return None
            images, labels, splits, rows, lines = (arrays[name] for name in _ARRAYS)
            return CsvRows(images, labels, splits, rows, lines)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: encrypted, or compressed in an unknown way. The csv itself is at hand.
        if is_exhaustion(error):
            raise
        return None


def _write_cache(cache: Path, content: str, rows: CsvRows) -> None:
    with replace_file(cache) as beside:
        np.savez(beside, format=_FORMAT, content=content, **{name: getattr(rows, name) for name in _ARRAYS})
