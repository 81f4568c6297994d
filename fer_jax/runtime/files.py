"""Files that are whole or not there: written beside their place, then moved into it."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replace_file(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path beside `path`, moved into its place if the block ends well and removed if it does not.

    The temporary name keeps the suffix of `path`, by which some writers choose a format. Folders above `path` are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8 in one move."""
    with replace_file(path) as beside:
        beside.write_text(text, encoding="utf-8")
