"""Predict many pictures: threads read, detect and cut out, batches go through the network, rows come in order.

One thread walks through the sources and the frames of videos, and hands each picture to the pool; the caller's thread
takes what is ready in the order of the sources, fills batches across files and frames, and yields rows. What waits
between them is bounded, so that memory is too.
"""

import dataclasses
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from fer_jax.data import image_files
from fer_jax.detection.centerface import Face
from fer_jax.errors import InputError
from fer_jax.prediction import crops, video
from fer_jax.prediction.classifiers import Classifier
from fer_jax.prediction.results import ERROR, FACE, NO_FACE, Row
from fer_jax.prediction.sources import Source

_AHEAD = 2  # Batches that are judged or wait for it.
_PATIENCE = 2.0  # Seconds that a face waits for others to be judged with, where pictures come slowly.

Detect = Callable[[Image.Image], list[Face]]


@dataclasses.dataclass
class Predicted:
    """A picture, or a frame, with its rows: one a face, or one that says why there is none.

    `picture` is kept only if it was asked for. `last` tells that no other frame of `source` follows.
    """

    source: Source
    rows: list[Row]
    pixels: list[np.ndarray] = dataclasses.field(default_factory=list)
    picture: Image.Image | None = None


class Prediction:
    """The prediction of `sources` by `classifier`; iterate over it once.

    `faces` is one of `crops.FACES`; `detect` finds faces in pictures that are not taken whole, and may be None for
    `whole`. `rate` is the frames a second of videos, 0 for all. With `keep_pictures` the results carry their pictures.
    `threads` read and detect. A camera's frames are judged one by one, all else in batches of `batch_size` faces.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        classifier: Classifier,
        *,
        faces: str,
        detect: Detect | None,
        batch_size: int,
        rate: float,
        threads: int,
        keep_pictures: bool = False,
    ):
        self._sources = sources
        self._classifier = classifier
        self._faces = faces
        self._detect = detect
        self._batch_size = batch_size
        self._rate = rate
        self._threads = threads
        self._keep_pictures = keep_pictures

    def __iter__(self) -> Generator[Predicted, None, None]:
        # Enough to fill the next batch while one is computed.
        ready: queue.Queue[Future | Predicted | BaseException | None] = queue.Queue(2 * self._batch_size)
        stop = threading.Event()
        with ThreadPoolExecutor(self._threads) as pool:
            reader = threading.Thread(target=self._read, args=(pool, ready, stop), daemon=True)
            reader.start()
            try:
                yield from self._judged(_in_order(ready))
            finally:
                stop.set()
                # The reader may wait for a place in the queue.
                while reader.is_alive():
                    _drain(ready)
                    reader.join(0.01)
                pool.shutdown(cancel_futures=True)

    def _read(self, pool: ThreadPoolExecutor, ready: queue.Queue, stop: threading.Event) -> None:
        """Put the picture of each source, or a future of it, into `ready`; None at the end, or what was raised."""
        try:
            for source in self._sources:
                if source.error:
                    ready.put(_failed(source, source.error))
                elif source.kind == "picture":
                    ready.put(pool.submit(self._prepared_file, source))
                else:
                    try:
                        for frame in video.frames(source, self._rate):
                            ready.put(pool.submit(self._prepared, source, frame.picture, frame.index, frame.time))
                            if stop.is_set():
                                return
                    except InputError as error:
                        ready.put(_failed(source, str(error)))
                if stop.is_set():
                    return
            ready.put(None)
        except BaseException as error:  # Raised again by the thread that waits for the pictures.
            ready.put(error)

    def _prepared_file(self, source: Source) -> Predicted:
        try:
            picture = image_files.picture(Path(source.file))
        except InputError as error:
            return _failed(source, str(error).removeprefix(f"{Path(source.file)}: "))
        return self._prepared(source, picture)

    def _prepared(
        self, source: Source, picture: Image.Image, frame: int | None = None, time: float | None = None
    ) -> Predicted:
        """The faces of a picture, cut out, without probabilities yet."""
        whole = self._faces == "whole" or (self._faces == "auto" and crops.is_cut_out(picture.size))
        found = crops.crops(picture, self._classifier.image_shape, None if whole else self._detect)
        rows = [Row(source.name, FACE, frame, time, crop.box, crop.score) for crop in found]
        rows = rows or [Row(source.name, NO_FACE, frame, time)]
        kept = picture if self._keep_pictures else None
        return Predicted(source, rows, [crop.pixels for crop in found], kept)

    def _judged(self, pictures: Iterable[Predicted]) -> Iterator[Predicted]:
        """Yield `pictures` with probabilities, in order, each soon after its last face is judged.

        A thread judges, so that the next batch is there when one is done: the network never waits.
        """
        waiting: deque[Predicted] = deque()
        pixels: list[np.ndarray] = []
        rows: list[Row] = []
        judged: deque[tuple[list[Row], Future]] = deque()

        def submit() -> None:
            n = self._batch_size
            judged.append((rows[:n], judge.submit(self._classifier.predict, np.stack(pixels[:n]))))
            del rows[:n], pixels[:n]

        def settle(most: int) -> None:
            """Give rows their probabilities until at most `most` batches are being judged."""
            while len(judged) > most or (judged and judged[0][1].done()):
                for row, found in zip(judged[0][0], judged[0][1].result(), strict=True):
                    row.probabilities = found
                judged.popleft()

        with ThreadPoolExecutor(1) as judge:
            since = time.monotonic()
            for picture in pictures:
                waiting.append(picture)
                is_live = picture.source.kind == "camera"
                since = since if pixels else time.monotonic()
                pixels += picture.pixels
                rows += [row for row in picture.rows if row.status == FACE]
                is_due = is_live or (not judged and time.monotonic() - since > _PATIENCE)
                while len(pixels) >= self._batch_size or (pixels and is_due):
                    submit()
                    since = time.monotonic()
                settle(0 if is_live else _AHEAD)
                while waiting and not _is_open(waiting[0]):
                    yield waiting.popleft()
            if pixels:
                submit()
            settle(0)
        yield from waiting


def _is_open(picture: Predicted) -> bool:
    return any(row.status == FACE and row.probabilities is None for row in picture.rows)


def _failed(source: Source, error: str) -> Predicted:
    return Predicted(source, [Row(source.name, ERROR, error=error)])


def _in_order(ready: queue.Queue) -> Iterator[Predicted]:
    while (item := ready.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item.result() if isinstance(item, Future) else item


def _drain(ready: queue.Queue) -> None:
    try:
        while True:
            ready.get_nowait()
    except queue.Empty:
        pass
