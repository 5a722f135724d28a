"""Reading evenly spaced frames of a video, against decoding alone and against other ways to read.

The clip is generated: ten seconds in 1280 x 720 under a swaying camera, with noise that keeps the
codec busy. The floor is PyAV decoding all frames without making a picture of any. Seeking to each
frame, and turning every frame into a picture, are what is often written instead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import skimage.data

from benchmarks.measuring import Row, against, options, report, turns
from seglib import video

LENGTH, TAKEN = 300, 32  # frames
HEIGHT, WIDTH = 720, 1280
EXAMPLES = """\
  python -m benchmarks.decoding
  python -m benchmarks.decoding --video FILE --rounds 3
"""


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = options(__doc__, EXAMPLES)
    parser.add_argument("--video", type=Path, metavar="FILE", help="another video to read")
    parser.add_argument("--rounds", type=int, default=5, help="timings of each (default: 5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.video
        if path is None:
            path = Path(folder, "clip.mp4")
            video.write(path, filmed())
        rows = measure(path, arguments.rounds)
    report(rows, arguments.json)


def filmed() -> Iterator[np.ndarray]:
    """A portrait that sways in front of noise."""
    rng, portrait = np.random.default_rng(0), skimage.data.astronaut()
    large = cv2.resize(portrait, (WIDTH, WIDTH))[:HEIGHT]
    for number in range(LENGTH):
        matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 3 * np.sin(number / 8), 1.05)
        moved = cv2.warpAffine(large, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        yield cv2.add(moved, rng.integers(0, 12, moved.shape, np.uint8))


def measure(path: Path, rounds: int) -> list[Row]:
    """Milliseconds of a frame that is taken, and the ratios."""
    indices = video.evenly(video.length(path), TAKEN)
    seconds = turns(
        {
            "ours": lambda: list(video.read(path, indices)),
            "decoding alone": lambda: decoded(path),
            "seeking to each frame": lambda: sought(path, indices),
            "a picture of every frame": lambda: decoded(path, pictures=True),
        },
        rounds,
        "decoding",
    )
    ((_, first),) = video.read(path, [0])
    what = "{} frames of {}, {} x {}".format(len(indices), video.length(path), *first.shape[1::-1])
    taken = against("taken", what, seconds, len(indices), "ms a frame taken")
    passed = Row("passed", "the same, by all frames decoded", taken.value * len(indices)
                 / video.length(path), "ms a frame")  # fmt: skip
    return [taken, passed]


def decoded(path: Path, pictures: bool = False) -> None:
    """Decode all frames."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            if pictures:
                frame.to_ndarray(format="rgb24")


def sought(path: Path, indices: list[int]) -> None:
    """Take frames by OpenCV, which seeks to each."""
    capture = cv2.VideoCapture(str(path))
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        assert capture.read()[0]


if __name__ == "__main__":
    main()
