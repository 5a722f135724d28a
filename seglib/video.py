"""Videos in: evenly spaced frames over the whole of a video, decoded once from front to back.

A video is a file, a folder of its frames, or a single picture. Frames are counted before any is
decoded, so that they are spread over the whole and not over the beginning; then the file is
decoded in order, for seeking to each frame takes several times longer. A frame that cannot be
had is handed over as its error, and the others stand. Taught in chapter 06.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from seglib.assets import naturally
from seglib.errors import SeglibError
from seglib.media import (
    MAX_PIXELS,
    SUFFIXES,
    ImageTooLarge,
    MissingFile,
    NotAFile,
    read_all,
)

# What x264 writes depends on how many threads share the work and on the CPU; and with AVX-512 it
# reads beyond rows whose length 32 does not divide, so that it also depends on what memory holds.
REPEATABLE = {"threads": "1", "x264-params": "cpu-independent=1"}
# Of what FFmpeg can take apart, that in which films are kept. Among the rest are playlists, scripts
# and session descriptions, which have it read other files or listen to the network.
CONTAINERS = "mov,avi,matroska,mpegts,mpeg,flv,asf,ogg"
# What one video may ask of a machine. A film is far below; a file that was made to exhaust it, not.
MAX_FRAMES = 2_000_000  # eleven hours at fifty a second
MAX_SECONDS = 3600  # of decoding: two hours of full HD take half of it on two cores


class UnreadableVideo(SeglibError):
    """The file is no video, is empty, or breaks off."""


class DamagedFrame(SeglibError):
    """The decoder had to guess a part of this frame, or of one it is made from: no evidence."""


class VideoTooLarge(SeglibError):
    """A video has more frames, takes longer to decode or needs more memory than one may."""


class EmptyFolder(SeglibError):
    """A folder of frames without a picture in it."""


def evenly(total: int, count: int) -> list[int]:
    """Indices of `count` frames spread over `total`: the middle of each of as many stretches.

    All frames where there are fewer.
    """
    count = min(total, count)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def length(path: str | os.PathLike) -> int:
    """Number of frames of a video file, of a folder of frames, or of one picture, which is 1.

    A file's packets are counted and nothing is decoded; the header's own count is often absent
    and sometimes wrong.

    Raises
    ------
    MissingFile, NotAFile, EmptyFolder, UnreadableVideo, ImageTooLarge, VideoTooLarge
    """
    path = Path(path)
    if os.path.isdir(path):
        return len(folder_frames(path))
    return 1 if _is_picture(path) else _packets(path)


def read(
    path: str | os.PathLike, indices: Sequence[int]
) -> Iterator[tuple[int, np.ndarray | SeglibError]]:
    """Some frames of a video, in order.

    Parameters
    ----------
    path : path-like
        Told apart by what it is: a folder, a file with a picture's suffix, or else a video.
    indices : sequence of int
        Rising, from 0, say what `evenly` chose.

    Yields
    ------
    (index, image) or (index, error)
        image ``(H, W, 3)`` uint8 RGB, upright by the file's rotation mark.

    Raises
    ------
    MissingFile, NotAFile, EmptyFolder, UnreadableVideo, ImageTooLarge
        Nothing at all can be read; before the first frame.
    """
    path = Path(path)
    if os.path.isdir(path):
        return _pictures(path, folder_frames(path), indices)
    if _is_picture(path):
        return _pictures(path, [path], indices)
    return _decoded(path, indices)


def folder_frames(folder: Path) -> list[Path]:
    """The pictures of a folder of frames, in natural order: ``9.png`` before ``10.png``."""
    pictures = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if not pictures:
        raise EmptyFolder(
            f"{folder} is a folder without a picture in it; expected the frames of one video as "
            f"{', '.join(SUFFIXES[:3])} files. Extract the frames, or give the video file."
        )
    return sorted(pictures, key=naturally)


def is_file(path: str | os.PathLike) -> bool:
    """Whether it is a video file, and not a folder of frames or a picture."""
    return not (os.path.isdir(path) or _is_picture(Path(path)))


def write(path: Path, images: Iterable[np.ndarray], rate: int = 25, crf: int = 23) -> None:
    """Write pictures ``(H, W, 3)`` uint8 of one size as an H.264 video.

    The same pictures make the same file, see `REPEATABLE`. crf is x264's quality, lower is better;
    23 is what FaceForensics++ calls c23, 40 its c40 (Rössler et al., ICCV 2019, section 3).
    """
    import av

    with av.open(str(path), "w") as container:
        options = REPEATABLE | {"crf": str(crf)}
        stream = container.add_stream("libx264", rate=rate, options=options)
        for number, image in enumerate(images):
            if number == 0:
                stream.height, stream.width = (side // 2 * 2 for side in image.shape[:2])
                stream.pix_fmt = "yuv420p"  # which wants even sides
            even = np.ascontiguousarray(image[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())


@contextmanager
def opened(path: Path) -> Iterator[tuple]:
    """A video file's container and its first video stream, as PyAV has them.

    Raises
    ------
    MissingFile, NotAFile, UnreadableVideo, ImageTooLarge
    """
    import av

    if not os.path.exists(path):
        raise MissingFile(f"{path} does not exist; expected a video. Check the manifest.")
    if not path.is_file():  # opening a pipe would wait for whoever writes to it
        raise NotAFile(f"{path} is a device or a pipe; expected a video file. Check the manifest.")
    only = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        # Said to be a file: else a name with a colon in it could be taken for an address.
        container = av.open(f"file:{path}", options=only, metadata_errors="replace")
    except av.FFmpegError as error:
        raise _unreadable(path, f"it does not open ({error.strerror})") from error
    with container:
        if not container.streams.video:
            raise _unreadable(path, "it has no picture")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise _unreadable(path, "its codec is not known here")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise ImageTooLarge(
                f"{path} announces frames of {width} x {height} pixels, expected at most "
                f"{MAX_PIXELS:,} pixels. Scale it down first."
            )
        # The header may lie, and the size change midway.
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.thread_type = "AUTO"
        yield container, stream


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _packets(path: Path) -> int:
    import av

    count = 0
    with opened(path) as (container, stream):
        try:
            for packet in _timely(path, container.demux(stream)):
                count += packet.size > 0
                if count > MAX_FRAMES:
                    raise too_large(path, f"more than {MAX_FRAMES:,} frames", "as many at most")
        except av.FFmpegError as error:
            raise _unreadable(path, f"reading it fails ({error.strerror})") from error
    if not count:
        raise _unreadable(path, "it holds no frame")
    return count


def _pictures(
    path: Path, pictures: list[Path], indices: Sequence[int]
) -> Iterator[tuple[int, np.ndarray | SeglibError]]:
    for index in indices:
        if index < len(pictures):
            ((_, image),) = read_all([pictures[index]])
            yield index, image
        else:
            yield index, _absent(path, index, f"there are {len(pictures)}")


def _decoded(path: Path, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray | SeglibError]]:
    import av

    # What was made from a damaged frame is damaged without being marked: all up to the next key
    # frame, and B-frames that stand before it, so that these wait for the next one of another type.
    waiting, held, damaged = deque(indices), [], False
    found, late = "the video ends before it", None
    with opened(path) as (container, stream):
        try:
            for index, frame in enumerate(_timely(path, container.decode(stream))):
                if not waiting and not held:
                    return
                between = frame.pict_type == av.video.frame.PictureType.B
                damaged |= frame.is_corrupt
                if not between:
                    yield from ((i, _image(path, i, one, damaged)) for i, one in held)
                    held.clear()
                    damaged &= frame.is_corrupt or not frame.key_frame
                if waiting and index == waiting[0]:
                    waiting.popleft()
                    if between:
                        held.append((index, frame))
                    else:
                        yield index, _image(path, index, frame, damaged)
        except av.FFmpegError as error:
            found = f"decoding breaks off before it ({error.strerror})"
        except VideoTooLarge as error:
            late = error
        yield from ((i, _image(path, i, one, damaged)) for i, one in held)
    for index in waiting:
        yield index, late or _absent(path, index, found)


def _timely(path: Path, items: Iterator) -> Iterator:
    """The same, while making them takes no longer than one video may; VideoTooLarge."""
    spent, end = 0.0, object()
    while True:
        started = time.monotonic()
        item = next(items, end)
        spent += time.monotonic() - started  # and not what is done with them in between
        if item is end:
            return
        if spent > MAX_SECONDS:
            raise too_large(path, f"{spent:,.0f} s of decoding", f"at most {MAX_SECONDS:,} s")
        yield item


def _absent(path: Path, index: int, found: str) -> UnreadableVideo:
    return _unreadable(path, f"frame {index} cannot be had, {found}")


def _image(path: Path, index: int, frame, damaged: bool) -> np.ndarray | SeglibError:
    if damaged:
        return DamagedFrame(
            f"frame {index} of {path}, or one that it is made from, is damaged; the decoder filled "
            "in what was missing. Nothing of it is used; copy or download the video again."
        )
    # The mark says how far the picture was turned clockwise from upright, in degrees.
    return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90).copy()


def out_of_reach(path: str | os.PathLike, error: OSError) -> UnreadableVideo:
    """Build, not raise, the error for a file that the system did not let be read."""
    return UnreadableVideo(
        f"{path} cannot be read: {error.strerror}. Check the file and its folder."
    )


def too_large(path: str | os.PathLike, found: str, expected: str) -> VideoTooLarge:
    """Build, not raise, the error for a video that asks too much of a machine."""
    return VideoTooLarge(
        f"{path} has {found}; expected {expected}. Cut out or scale down what matters, and give "
        "that."
    )


def _unreadable(path: Path, found: str) -> UnreadableVideo:
    return UnreadableVideo(
        f"{path} is no whole video: {found}; expected what ffmpeg can decode, say H.264 in MP4. "
        "Copy or download it again."
    )
