"""Pictures in: any picture file becomes RGB uint8 ``(H, W, 3)``, or an error that says why not.

Data sets in the wild hold phone pictures that are only upright by their EXIF tag, 16-bit scans,
printers' CMYK, transparent logos, downloads cut short and web pages called ``.jpg``. What can be
read is read the way a viewer shows it; what cannot is refused with its own type of error, so
that a batch passes it over and the coverage ledger names the cause. A half-decoded picture is
never returned. But most formats hold no check sum of their pixels: where a bit of those has turned,
what comes out is another picture, and nothing can tell.

Taught in chapter 01.
"""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps

from seglib.errors import SeglibError

# Larger pictures are refused from their header, before memory is taken: 150 MP of RGB is 450 MB.
# A 12000 x 9000 scan (108 MP) passes. Pillow itself refuses above 179 MP.
MAX_PIXELS = 150_000_000

# What face data sets are made of. Pillow knows many more; of those EPS would run Ghostscript.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP")
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".pgm",
    ".ppm",
    ".pbm",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".webp",
)
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


class MissingFile(SeglibError):
    """There is nothing at this path."""


class NotAFile(SeglibError):
    """There is something at this path, but not a file: usually a folder."""


class UnreadableImage(SeglibError):
    """The file is not a picture, is empty, or is damaged."""


class UnsupportedPixels(SeglibError):
    """A sound picture whose pixel values have no defined reading as 8-bit RGB."""


class ImageTooLarge(SeglibError):
    """The picture's header announces more pixels than the limit."""


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a picture the way a viewer shows it.

    The EXIF rotation is applied; of an animation the first frame is read; grey, palette, 1-bit
    and CMYK become RGB; 16-bit values are scaled, not clipped: grey to the nearest,
    ``round(v / 257)``, while of colour PNG and TIFF Pillow keeps the high byte, ``v >> 8``, up to
    one step lower. Transparency is composited over white, as a browser shows it: the colours
    stored under transparent pixels are arbitrary. Colour profiles are not applied: values are
    taken to be sRGB.

    Parameters
    ----------
    path : path-like
        JPEG, PNG, PPM/PGM/PBM, BMP, GIF, TIFF or WebP, told apart by content, not by suffix.
    max_pixels : int
        Refuse larger pictures. Above 179 million Pillow's own limit applies.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB, writeable, contiguous.

    Raises
    ------
    MissingFile, NotAFile, UnreadableImage, UnsupportedPixels, ImageTooLarge
    """
    path = Path(path)
    _check_is_file(path)
    # Pillow warns about large pictures and odd metadata. Both are settled here: by the limit,
    # and by the pixels, which do not depend on metadata.
    with warnings.catch_warnings(), _nothing_filled_in():
        warnings.simplefilter("ignore")
        # Opened here and not by Pillow, which maps files that it opens itself into memory, and
        # then scrambles an uncompressed grey TIFF that its orientation lays on the side.
        with _open_file(path) as file, _open(path, file, max_pixels) as picture:
            _check_size(path, picture.size, max_pixels)
            _decode(path, picture)
            return np.array(_to_rgb(path, picture))


def read_all(
    paths: Iterable[str | os.PathLike],
) -> Iterator[tuple[Path, np.ndarray | SeglibError]]:
    """Read many pictures; a bad one is handed over as its error and never stops the batch.

    Yields
    ------
    (path, image) or (path, error)
        In the order of `paths`; `image` as from `read_image`, `error` what it raised.
    """
    for path in paths:
        try:
            yield Path(path), read_image(path)
        except SeglibError as error:
            yield Path(path), error


# -- before opening ---------------------------------------------------------------------------


def _check_is_file(path: Path) -> None:
    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        count = sum(entry.suffix.lower() in SUFFIXES for entry in path.iterdir())
        raise NotAFile(
            f"{path} is a folder with {count} picture{'' if count == 1 else 's'} in it, expected "
            f"one picture file. Give one of them, or read them all with read_all(folder.iterdir())."
        )
    if os.path.exists(path):
        raise NotAFile(f"{path} is a device or a pipe, expected a picture file.")
    if os.path.islink(path):
        raise MissingFile(f"{path} is a link to {os.readlink(path)}, which does not exist.")
    parent = path.parent
    if not os.path.isdir(parent):
        raise MissingFile(
            f"{path} does not exist, nor does its folder. The working folder is {Path.cwd()}."
        )
    near = difflib.get_close_matches(path.name, os.listdir(parent), n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Nothing in {parent} has a similar name."
    raise MissingFile(f"{path} does not exist. {hint}")


# -- opening and decoding ---------------------------------------------------------------------


@contextmanager
def _nothing_filled_in() -> Iterator[None]:
    """Keep Pillow from painting over what a cut picture lacks, which other libraries let it do."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _open_file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UnreadableImage(f"{path} cannot be opened: {error.strerror}.") from error


def _open(path: Path, file: BinaryIO, max_pixels: int) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        announced = int(re.search(r"\d+", str(error))[0])
        limit = min(max_pixels, 2 * Image.MAX_IMAGE_PIXELS)  # the second one is Pillow's own
        raise ImageTooLarge(_too_large(path, f"{announced:,} pixels", limit)) from error
    except Exception as error:
        file.seek(0)
        raise UnreadableImage(f"{path} {_cause(file.read(64))}") from error


def _check_size(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        found = f"{width} x {height} = {width * height:,} pixels"
        raise ImageTooLarge(_too_large(path, found, max_pixels))


def _too_large(path: Path, found: str, limit: int) -> str:
    return (
        f"{path} announces {found}, expected at most {limit:,}. Scale it down first, or, if it is "
        f"no forged header, raise max_pixels (to 179 million at most)."
    )


def _decode(path: Path, picture: Image.Image) -> None:
    """Decode the pixels and turn them upright, in place."""
    try:
        picture.load()
    except MemoryError:
        raise
    except Exception as error:  # decoders meet hostile bytes: they raise a dozen different types
        raise UnreadableImage(
            f"{path} is a damaged {picture.format} picture, probably cut short: its header "
            f"announces {picture.width} x {picture.height} pixels, but decoding them fails "
            f"({error}). Nothing of it is used; copy or download it again."
        ) from error
    try:
        ImageOps.exif_transpose(picture, in_place=True)
    except Exception:  # broken EXIF says nothing about the pixels: leave them as they are stored
        return


def _to_rgb(path: Path, picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture
    # Pillow gives the 16 bits of PGM, and in older versions those of PNG, the mode "I".
    in_wider = picture.mode == "I" and picture.format in ("PPM", "PNG")
    if picture.mode.startswith("I;16") or in_wider:
        wide = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F", "LAB"):
        kind = {"I": "32-bit integer", "F": "floating-point", "LAB": "L*a*b*"}[picture.mode]
        raise UnsupportedPixels(
            f"{path} holds {kind} pixels, whose black and white are not defined; expected 8 or 16 "
            f"bits a channel. Scale it yourself and save it as PNG."
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


# -- naming what is not a picture -------------------------------------------------------------

# (offset, bytes, what the file is), letter case apart; the first match wins
SIGNATURES = (
    (0, b"<!doctype html", "a web page, perhaps the error or login page of a download"),
    (0, b"<html", "a web page, perhaps the error or login page of a download"),
    (0, b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
    (0, b"<svg", "an SVG drawing: export it as PNG"),
    (0, b"%!ps", "a PostScript file: export it as PNG"),
    (0, b"%pdf", "a PDF document: export the page as PNG"),
    (4, b"ftyphe", "a HEIC photo: convert it to JPEG or PNG"),
    (4, b"ftypmif1", "a HEIC photo: convert it to JPEG or PNG"),
    (4, b"ftypavi", "an AVIF picture: convert it to JPEG or PNG"),
    (4, b"ftyp", "a video (MP4 or MOV): extract a frame first"),
    (8, b"avi ", "a video (AVI): extract a frame first"),
    (0, b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM): extract a frame first"),
    (0, b"pk\x03\x04", "a ZIP archive: unpack it first"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it first"),
    (0, b"\x93numpy", "a NumPy array, not a picture file"),
    (0, b"\xff\xd8\xff", "a JPEG whose header is damaged: copy or download it again"),
    (0, b"\x89png", "a PNG whose header is damaged: copy or download it again"),
    (0, b"II*\0", "a TIFF whose header is damaged: copy or download it again"),
    (0, b"MM\0*", "a TIFF whose header is damaged: copy or download it again"),
    (0, b"gif8", "a GIF whose header is damaged: copy or download it again"),
    (8, b"webp", "a WebP whose header is damaged: copy or download it again"),
)


def _cause(start: bytes) -> str:
    """Say what a file that does not open as a picture seems to be, by its first bytes."""
    if not start:
        return "is empty (0 bytes), expected a picture. Copy or download it again."
    plain = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for offset, mark, kind in SIGNATURES:
        if plain[offset:].startswith(mark.lower()):
            return f"is not a readable picture; it looks like {kind}."
    return f"is not a picture: it starts with {start[:12]!r}; expected one of {', '.join(FORMATS)}."
