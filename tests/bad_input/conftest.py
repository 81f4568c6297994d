"""Random damage, and what every reader owes to whoever gives it: success or one explanation, soon, nothing touched."""

import copy
import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fer_jax.errors import InputError

_MANY = 5
"""How many times as many inputs a slow test tries as its `few`."""

_SHARE = 0.2
"""Of its `few` inputs, how much a test tries that is not slow; at least `_LEAST`."""

_LEAST = 5

_SECONDS = 20
"""After so long an input hangs its reader; the slowest one takes less than a second."""

_NASTY = (b"", b"\0", b"\xff\xfe", b"\n", b'"', b",", b"-1", b"nan", b"9" * 5000, b"1e999", b"../../x", b"/etc/passwd")
_NASTY_JSON = (None, True, -1, 0, 10**400, 1e308, float("nan"), "", "../x", "/etc/passwd", "\0", [], {}, [[]], [{}])


class _Hang(BaseException):
    """Not an `Exception`, which a reader may catch."""


def _splices(size: int) -> st.SearchStrategy:
    """Damage to `size` bytes: up to three places where some bytes, or all that follow, are replaced."""
    place = st.integers(0, size) | st.integers(0, min(size, 300))
    length = st.sampled_from((0, 1, 1, 8, 100, size))
    return st.lists(st.tuples(place, length, st.binary(max_size=8) | st.sampled_from(_NASTY)), min_size=1, max_size=3)


def _spliced(content: bytes, splices: list[tuple[int, int, bytes]]) -> bytes:
    for place, length, replacement in splices:
        content = content[:place] + replacement + content[place + length :]
    return content


def _values() -> st.SearchStrategy:
    return st.sampled_from(_NASTY_JSON) | st.integers() | st.text(max_size=8)


def _places(tree, above: tuple = ()) -> list[tuple]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [above, *(place for key, value in inner for place in _places(value, (*above, key)))]


def _json_damages(tree) -> st.SearchStrategy:
    """`tree`, of JSON, with one value replaced by any other or, where that is None, removed."""

    def damaged(choice):
        (*above, last), value = choice
        root = {"root": copy.deepcopy(tree)}
        node = root
        for key in above:
            node = node[key]
        if value is None and above:
            del node[last]
        else:
            node[last] = value
        return root["root"]

    return st.tuples(st.sampled_from([("root", *place) for place in _places(tree)]), _values()).map(damaged)


def _replace_by(kind: str, path: Path, outside: Path) -> None:
    """Puts something else in the place of a file or folder, which need not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "outside":
        path.symlink_to(outside)
    elif kind == "dangling":
        path.symlink_to(path.parent / "nowhere")


_KINDS = ("missing", "folder", "empty", "pipe", "loop", "outside", "dangling")


class Damage:
    """What tests damage with."""

    splices = staticmethod(_splices)
    spliced = staticmethod(_spliced)
    values = staticmethod(_values)
    json = staticmethod(_json_damages)
    replace_by = staticmethod(_replace_by)
    kinds = st.sampled_from(_KINDS)


@pytest.fixture(scope="session")
def damage() -> type[Damage]:
    """Strategies of damage, and what does it."""
    return Damage


def _content(folder: Path) -> dict[str, bytes | str]:
    """What lies below `folder`, without following links."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(parent, name)
            if path.is_symlink():
                found[str(path)] = f"link to {os.readlink(path)}"
            else:
                found[str(path)] = path.read_bytes() if path.is_file() else "no file"
    return found


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@pytest.fixture(params=["few", pytest.param("many", marks=pytest.mark.slow)])
def survives(request, tmp_path, monkeypatch):
    """A function that tries many inputs on one reader.

    `survives(inputs, lay, read, few=N)` draws `_SHARE` of N (or `_MANY` times N) of the strategy `inputs`.
    `lay(place, drawn)` puts the input into the empty folder `place` and returns what the reader is to be given, and
    `read` is called with that. It may return, or raise `InputError` with a message of one line that names `place` or
    what it was given. Nothing may have changed then; `writes` allows changes in `place` itself.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "treasure").write_text("to be kept")
    place = tmp_path / "place"

    def survives(inputs, lay, read, *, few, writes=False):
        count = {"read": 0, "refused": 0}

        def attempt(drawn):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            given_to_reader = lay(place, drawn)
            before = _content(tmp_path)
            try:
                _in_time(lambda: read(given_to_reader))
                count["read"] += 1
            except InputError as error:
                count["refused"] += 1
                message = str(error)
                assert any(_escaped(str(name)) in message for name in (place, given_to_reader)), message
                assert message.isprintable(), repr(message)
                assert len(message) <= InputError.LONGEST, message
            after = _content(tmp_path)
            if writes:
                before, after = ({k: v for k, v in c.items() if not k.startswith(f"{place}/")} for c in (before, after))
            assert after == before

        tries = few * _MANY if request.param == "many" else max(min(few, _LEAST), round(few * _SHARE))
        checks = settings(
            max_examples=tries,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # Without the search for a simpler one: it takes minutes, and the damage is small.
            phases=(Phase.generate,),
        )
        checks(given(inputs)(attempt))()
        print(f"{sum(count.values())} inputs: {count['read']} read, {count['refused']} refused")

    return survives


def _in_time(action) -> None:
    def late(*_):
        raise _Hang

    earlier = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    try:
        action()
    except _Hang:
        raise AssertionError(f"still reading after {_SECONDS} seconds") from None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
