"""Keep a second command out of a folder: by a lock of the operating system's on a disk, by a lease in a bucket."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from fer_jax.errors import InputError
from fer_jax.storage.bucket import AnyPath, BucketPath
from fer_jax.storage.environment import number_from_environment
from fer_jax.storage.patience import BucketError, ConditionFailed, MissingObject
from fer_jax.storage.periodic import PeriodicCall

_log = logging.getLogger("fer_jax")

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

LEASE_VARIABLE = "FER_JAX_BUCKET_LEASE"
"""The environment variable with the seconds after which a lease in a bucket that nobody renews has expired."""

_LEASE_SECONDS = 120.0
# Of the leases that this process holds.
_held: set[str] = set()


@contextlib.contextmanager
def held(place: AnyPath) -> Iterator[Callable[[], None]]:
    """Hold the lock file `place` for the block; yield what raises `InputError` if it was lost meanwhile.

    On a disk it is a lock of the operating system's, gone with the process however that ends, and never lost. In a
    bucket it is an object that is created only if there is none, and renewed: see `_Lease`.

    Raises:
      InputError: another process holds it.
      OSError: it cannot be written.
    """
    if isinstance(place, BucketPath):
        lease = _Lease(place)
        try:
            yield lease.check
        finally:
            lease.release()
        return
    file = _lock(place)
    try:
        yield lambda: None
    finally:
        file.close()


def _in_use(place: AnyPath, holder: str) -> InputError:
    return InputError(
        f"{place.parent}: {holder or 'another process'} trains in this folder; wait for its end, or give another "
        "--workdir"
    )


def no_link(path: str, flags: int) -> int:
    """Open `path`, unless it is a link: what it leads to would be overwritten."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _lock(place: Path) -> TextIO:
    """The lock file, locked, with this process named in it."""
    # Open as long as the lock is held.
    file = open(place, "a+", encoding="utf-8", errors="replace", opener=no_link)  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read(200).strip()
        file.close()
        raise _in_use(place, holder) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            file.close()
            raise
        _log.warning("%s: its file system has no locks; do not start two runs in it at once", place.parent)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


class _Lease:
    """The hold of a bucket's folder: an object with its owner, which a thread renews four times within the lease.

    An object that is there already is another command's. If its process ran on this machine and is gone, or if the
    object is not renewed for the length of a lease (which is then waited for), the hold is taken over; no clock of
    another machine is asked. A holder that could not renew it for so long finds out before it writes anything more.

    Raises `InputError` if the holder is alive.
    """

    def __init__(self, place: BucketPath):
        self._place = place
        self._seconds = lease_seconds()
        self._lock = threading.Lock()
        self._lost: InputError | None = None
        self._token = secrets.token_hex(8)
        self._renewed = _now()
        self._generation = self._acquire()
        _held.add(self._token)
        # A storage that does not answer is the business of whoever writes the run, and of the next renewal.
        self._renewing = PeriodicCall(lambda: self._renew(once=True), self._seconds / 4)
        self._released = False

    def check(self) -> None:
        """Raise `InputError` if another command has the folder now; ask the storage only if that may be so."""
        if _now() - self._renewed > self._seconds:
            self._renew()
        if self._lost:
            raise self._lost

    def release(self) -> None:
        """Delete the object, if it is still this one's; a storage that does not answer lets it expire."""
        self._renewing.end()
        _held.discard(self._token)
        with self._lock, contextlib.suppress(BucketError):
            self._released = True
            if not self._lost:
                self._place.unlink(if_generation=self._generation, once=True)

    def _acquire(self) -> int:
        while True:
            try:
                return self._write(if_generation=0)
            except ConditionFailed:
                pass
            try:
                generation, content = self._place.generation(), self._place.read_bytes()
            except MissingObject:
                continue
            holder, lease, gone = _parse(content)
            if not gone:
                self._wait_for_expiry(generation, holder, lease)
            try:
                return self._write(if_generation=generation)
            except ConditionFailed:
                raise _in_use(self._place, holder) from None

    def _wait_for_expiry(self, generation: int, holder: str, lease: float) -> None:
        """Return when the object has not been renewed for the length of its lease; `InputError` if it was."""
        _log.warning(
            "%s: %s trained in this folder; waiting for up to %.0f s to see whether it still does",
            self._place.parent,
            holder,
            lease,
        )
        start = _now()
        while (left := lease - (_now() - start)) > 0:
            time.sleep(min(left, lease / 8))
            try:
                renewed = self._place.generation() != generation
            except MissingObject:  # its end
                return
            if renewed:
                raise _in_use(self._place, holder)

    def _write(self, *, if_generation: int, once: bool = False) -> int:
        """Write the object on that condition, also if an answer was lost and the request repeated."""
        # A content that no other write has, by which this one is known.
        lease = {"owner": _this_process(), "token": self._token, "lease": self._seconds}
        content = json.dumps(lease | {"write": secrets.token_hex(8)}).encode()
        asked = _now()
        try:
            generation = self._place.write_bytes(content, if_generation=if_generation, once=once)
        except ConditionFailed:
            if not self._holds(content):
                raise
            generation = self._place.generation()
        self._renewed = asked
        return generation

    def _holds(self, content: bytes) -> bool:
        try:
            return self._place.read_bytes() == content
        except MissingObject:
            return False

    def _renew(self, *, once: bool = False) -> None:
        with self._lock:
            if self._lost or self._released:
                return
            try:
                self._generation = self._write(if_generation=self._generation, once=once)
            except (ConditionFailed, MissingObject):
                self._lost = InputError(
                    f"{self._place}: was not renewed in time, and another command has taken the folder over; this one "
                    "has ended, nothing that it saved is lost"
                )


def lease_seconds() -> float:
    """Return the length of a lease; `InputError` if the environment says nonsense."""
    expected = "a number of seconds from 1, such as 120"
    return number_from_environment(LEASE_VARIABLE, _LEASE_SECONDS, lambda found: 1 <= found <= 86400, expected)


def _now() -> float:
    """Seconds of a clock that also counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _this_process() -> dict[str, str | int]:
    return {"host": socket.gethostname(), "pid": os.getpid(), **_incarnation(os.getpid())}


def _incarnation(pid: int) -> dict[str, str]:
    """What tells a process from every other one of the same number: the boot, the name space, when it started."""
    return {
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "namespace": os.readlink("/proc/self/ns/pid"),
        # The 20th field after the name, which may hold spaces: proc(5).
        "started": Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19],
    }


def _parse(content: bytes) -> tuple[str, float, bool]:
    """The holder in words, the seconds of its lease, and whether it was a process of this machine that is gone.

    What is no lease, such as the lock file of a run that was copied here from a disk, nobody renews.
    """
    try:
        found = json.loads(content)
        owner, lease = found["owner"], float(found["lease"])
        words = f"process {int(owner['pid'])} on {owner['host']}"
    except (ValueError, LookupError, TypeError):
        return "another process", 0.0, True
    try:
        here = _incarnation(owner["pid"])
    except OSError:
        here = _incarnation(os.getpid()) | {"started": "never"}
    same_machine = all(owner.get(key) == here[key] for key in ("boot", "namespace"))
    ended = owner.get("started") != here["started"] or (owner["pid"] == os.getpid() and found.get("token") not in _held)
    return words, min(max(lease, 1.0), 86400.0), same_machine and ended
