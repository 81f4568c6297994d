"""Frames of videos and cameras with their exact times, and the writing of a video; by PyAV, which has the codecs."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from PIL import Image

from fer_jax.errors import InputError, first_line
from fer_jax.prediction.sources import Source

_MISSING = "reading videos needs PyAV, which is not installed: pip install 'fer_jax[video]'"

_SOUND = 0.5
"""Seconds by which the sound of a whole video may outlast its last frame."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame: its `index` from 0, its `time` in seconds from the first one, and the upright RGB picture."""

    index: int
    time: float
    picture: Image.Image


def frames(source: Source, rate: float) -> Iterator[Frame]:
    """Yield at most `rate` frames for each second of a video or camera, at even distances; 0: every frame.

    Raises:
      InputError: the video cannot be opened, or ends before the time that it announces; what is whole comes before.
    """
    av = _av()
    try:
        with _opened(av, source) as container:
            yield from _sampled(_decoded(av, container, source), rate)
    except av.error.FFmpegError as error:
        what = "no readable video" if source.kind == "video" else "the camera cannot be opened"
        raise InputError(f"{what}: {error.strerror or first_line(error)}") from error


def _opened(av, source: Source):
    if source.kind == "camera":
        return av.open(f"/dev/video{source.name}", format="v4l2")
    if os.path.getsize(source.file) == 0:
        raise InputError("an empty file, no video")
    return av.open(source.file)


def _decoded(av, container, source: Source) -> Iterator[Frame]:
    if not container.streams.video:
        raise InputError("no pictures in this video, only sound")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    start = last = None
    try:
        for index, frame in enumerate(container.decode(stream)):
            # A stream without times: those of its mean rate.
            time = frame.time if frame.time is not None else index / float(stream.average_rate or 25)
            start = time if start is None else start
            last = time - start
            picture = frame.to_image()
            yield Frame(index, last, picture.rotate(frame.rotation, expand=True) if frame.rotation else picture)
    except av.error.FFmpegError as error:
        where = "before the first frame" if last is None else f"after {last:.2f} s"
        raise InputError(f"the video breaks off {where}: {error.strerror or first_line(error)}") from error
    if last is None:
        raise InputError("no frame in this video; it is damaged or ends early")
    if source.kind == "video":
        _check_end(container, stream, last)


def _check_end(container, stream, last: float) -> None:
    """Raise `InputError` if the last frame, at `last` seconds, is far from the end that the file announces.

    Not every kind of file announces its length. Where the track and the whole file differ, the shorter one is right:
    a video that was trimmed keeps frames that are not shown, and the sound may be longer than the pictures.
    """
    lengths = [] if stream.duration is None else [float(stream.duration * stream.time_base)]
    lengths += [] if container.duration is None else [container.duration / 1e6]
    slack = 2 / float(stream.average_rate or 25)
    if stream.duration is None and container.streams.audio:
        slack += _SOUND
    if lengths and last + slack < min(lengths):
        raise InputError(f"the video ends after {last:.2f} s of the {min(lengths):.2f} s that it announces")


def _sampled(every: Iterator[Frame], rate: float) -> Iterator[Frame]:
    due = 0.0
    for frame in every:
        # Times are fractions of a millisecond off.
        if rate == 0 or frame.time >= due - 1e-4:
            yield frame
            due = (frame.time * rate // 1 + 1) / rate if rate else 0.0


@contextlib.contextmanager
def video_writer(path: Path, size: tuple[int, int], rate: float):
    """Yield a function that adds a picture, at its time in seconds, to a new H.264 video of `size` at `path`."""
    av = _av()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        # The codec halves the colours' resolution.
        stream.width, stream.height = (side + side % 2 for side in size)
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)

        def add(picture: Image.Image, time: float) -> None:
            frame = av.VideoFrame.from_image(picture.resize((stream.width, stream.height)))
            frame.pts, frame.time_base = round(time * 90_000), stream.time_base
            container.mux(stream.encode(frame))

        yield add
        container.mux(stream.encode())


def _av():
    try:
        import av
    except ImportError as error:
        raise InputError(_MISSING) from error
    return av
