"""Requests to Google Cloud Storage: repeated while it does not answer, given up after a stated time, in one line."""

import functools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from fer_jax.errors import InputError, first_line
from fer_jax.storage.environment import number_from_environment

if TYPE_CHECKING:
    from google.cloud import storage

_log = logging.getLogger("fer_jax")
_Result = TypeVar("_Result")

PATIENCE_VARIABLE = "FER_JAX_BUCKET_PATIENCE"
"""The environment variable that says for how many seconds requests that fail are repeated."""

_PATIENCE_SECONDS = 600.0
# A request counts as failed without a byte for so long; less where the patience is short.
_SILENCE_SECONDS = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
# Statuses of HTTP: a timeout, too many requests, an error of the server's, a gateway that has no answer.
_BUSY = (408, 429, 500, 502, 503, 504)
# One failed request is everyday life, and no news.
_FAILURES_BEFORE_A_WORD = 3


class BucketError(InputError, OSError):
    """A bucket that cannot be read or written: as an `OSError` to those who handle files, one line to the user."""

    def __init__(self, message: object):
        super().__init__(message)
        self.filename, _, self.strerror = self.args[0].partition(": ")

    def __str__(self) -> str:
        return self.args[0]


class MissingObject(BucketError, FileNotFoundError):
    """There is no such object, or no such bucket."""


class ConditionFailed(BucketError, FileExistsError):
    """The object is not of the generation that the request asked for: somebody else has written it."""


class _Silence:
    """Whether a request was given up and none has succeeded since: then the next one is tried only once.

    A run that ends because its bucket is gone would otherwise wait as long again for each thing that it still writes.
    """

    def __init__(self) -> None:
        self._given_up = threading.Event()

    def patience(self) -> float:
        """Return the seconds for which a request is repeated."""
        return 0.0 if self._given_up.is_set() else patience_seconds()

    def note(self, given_up: bool) -> None:
        """Keep how the last request ended."""
        if given_up:
            self._given_up.set()
        else:
            self._given_up.clear()


_silence = _Silence()


def patience_seconds() -> float:
    """Return for how long a request that fails is repeated; `InputError` if the environment says nonsense."""
    expected = "a number of seconds, such as 600"
    return number_from_environment(PATIENCE_VARIABLE, _PATIENCE_SECONDS, lambda found: 0 <= found < 1e6, expected)


@functools.cache
def client() -> "storage.Client":
    """Return the client of this process, with the credentials that the platform gives by default.

    Raises `InputError` if the package is missing or there are no credentials.
    """
    try:
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import storage
    except ImportError as error:
        raise InputError(
            f"gs://: reading and writing buckets needs the package google-cloud-storage ({first_line(error)}); "
            "pip install 'fer_jax[gcs]'"
        ) from error
    # Telemetry that nobody has asked for, by requests of its own about the bucket.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    try:
        # No project: objects are found by the name of their bucket alone.
        return storage.Client(project=None)
    except GoogleAuthError as error:
        raise _no_credentials("gs://", error) from error


def request(place: object, action: Callable[[tuple[float, float]], _Result], *, once: bool = False) -> _Result:
    """Return `action(timeout)`, which makes one request about `place`; repeat it while the service does not answer.

    `timeout` is to connect and to wait for a byte, in seconds. Pauses grow from one second to half a minute, with
    some chance in them, for `patience_seconds` in all; `once` repeats nothing.

    Raises:
      MissingObject, ConditionFailed: the service says so.
      BucketError: it refuses the request, or did not answer for that long.
    """
    from google.api_core import exceptions, retry
    from google.auth.exceptions import GoogleAuthError

    patience = 0.0 if once else _silence.patience()
    silence = min(_SILENCE_SECONDS, max(1.0, patience_seconds() / 4))
    failures = 0
    start = time.monotonic()

    def note(error: Exception) -> None:
        nonlocal failures
        failures += 1
        if failures == _FAILURES_BEFORE_A_WORD:
            _log.warning("%s: no answer (%s); trying again for up to %.0f s", place, first_line(error), patience)

    again = retry.Retry(
        predicate=_may_pass, initial=_FIRST_PAUSE, maximum=_LONGEST_PAUSE, multiplier=2.0, timeout=patience
    )
    try:
        result = again(action, on_error=note)((min(10.0, silence), silence))
    except exceptions.NotFound as error:
        raise MissingObject(f"{place}: is missing ({_reason(error)})") from error
    except exceptions.PreconditionFailed as error:
        raise ConditionFailed(f"{place}: was written by another process meanwhile") from error
    except GoogleAuthError as error:
        raise _no_credentials(place, error) from error
    except exceptions.RetryError as error:
        cause = error.cause or error
        if not once:
            _silence.note(given_up=True)
        raise BucketError(
            f"{place}: no answer from the storage within {time.monotonic() - start:.0f} s, in {failures} requests "
            f"({_reason(cause)}); what was saved before is whole: give the same command again when it answers"
        ) from error
    except exceptions.GoogleAPIError as error:
        raise BucketError(f"{place}: the storage refuses it ({_reason(error)})") from error
    _silence.note(given_up=False)
    return result


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later: the service is busy, broken or out of reach, or lost some bytes."""
    import http.client

    import urllib3
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import TransportError
    from google.cloud.storage.exceptions import DataCorruption
    from requests import RequestException

    if isinstance(error, GoogleAPICallError):
        return error.code in _BUSY
    passing = (RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, ConnectionError)
    return isinstance(error, (*passing, DataCorruption, TransportError))


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _no_credentials(place: object, error: Exception) -> BucketError:
    return BucketError(
        f"{place}: no credentials for Google Cloud ({first_line(error)}); on a machine of Google's give it a service "
        "account that may use the bucket, elsewhere run `gcloud auth application-default login`"
    )
