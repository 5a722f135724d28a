"""Real files, made here: every kind of picture that a data set holds, and every kind of rubbish."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageFile

from seglib import media

FACE = skimage.data.astronaut()[0:160, 150:270]  # (160, 120, 3)
greys = npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=9))


@pytest.fixture(autouse=True)
def no_warning_leaks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def save(path, picture, **options):
    picture.save(path, **options)
    return path


def read_bytes(folder, data, name="picture"):
    path = folder / name
    path.write_bytes(data)
    return media.read_image(path)


def encoded(picture, format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


# -- what is read, and as what -----------------------------------------------------------------


def test_rgb_comes_back_exactly_writeable_and_contiguous(tmp_path):
    found = media.read_image(str(save(tmp_path / "face.png", Image.fromarray(FACE))))
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, FACE)


def test_the_content_decides_not_the_suffix(tmp_path):
    path = tmp_path / "face.jpg"
    Image.fromarray(FACE).save(path, "PNG")
    np.testing.assert_array_equal(media.read_image(path), FACE)


@given(greys)
def test_grey_becomes_three_equal_channels(tmp_path_factory, grey):
    path = tmp_path_factory.getbasetemp() / "grey.png"
    found = media.read_image(save(path, Image.fromarray(grey)))
    np.testing.assert_array_equal(found, np.stack([grey] * 3, axis=-1))


def test_one_bit_becomes_black_and_white(tmp_path):
    bits = np.array([[True, False, True]])
    found = media.read_image(save(tmp_path / "bits.png", Image.fromarray(bits)))
    np.testing.assert_array_equal(found[..., 0], bits * 255)


@pytest.mark.parametrize("suffix", ["png", "pgm", "tif"])
@given(values=npst.arrays(np.uint16, npst.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_sixteen_bits_are_scaled_not_clipped(tmp_path_factory, suffix, values):
    path = tmp_path_factory.getbasetemp() / f"deep.{suffix}"
    found = media.read_image(save(path, Image.fromarray(values)))[..., 1]
    assert np.abs(found - values / 257).max() <= 0.5  # 65535 -> 255, 0 -> 0, to the nearest


def test_a_12_bit_pgm_is_scaled_by_its_own_white(tmp_path):
    data = b"P5 3 1 4095\n" + np.array([0, 2048, 4095], ">u2").tobytes()
    assert read_bytes(tmp_path, data)[0, :, 0].tolist() == [0, 128, 255]


@given(st.tuples(*[st.integers(0, 255)] * 4))
def test_transparency_is_composited_over_white(tmp_path_factory, rgba):
    path = tmp_path_factory.getbasetemp() / "rgba.png"
    found = media.read_image(save(path, Image.new("RGBA", (2, 3), rgba)))
    *colour, alpha = np.array(rgba) / 255
    expected = 255 * (alpha * np.array(colour) + 1 - alpha)
    assert found.shape == (3, 2, 3)
    assert np.abs(found - expected).max() <= 1


def test_grey_with_alpha_is_composited_too(tmp_path):
    picture = Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8))
    assert picture.mode == "LA"
    found = media.read_image(save(tmp_path / "la.png", picture))
    assert found.tolist() == [[[9, 9, 9], [255, 255, 255]]]


def palette_picture():
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.putdata([0, 1, 2])
    return picture


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp"])
def test_a_palette_gives_its_colours(tmp_path, suffix):
    found = media.read_image(save(tmp_path / f"palette.{suffix}", palette_picture()))
    assert found.tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_palettes_transparent_colour_is_white(tmp_path, suffix):
    path = save(tmp_path / f"palette.{suffix}", palette_picture(), transparency=1)
    assert media.read_image(path).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


def test_a_transparent_key_colour_of_rgb_is_white(tmp_path):
    picture = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    path = save(tmp_path / "key.png", picture, transparency=(1, 2, 3))
    assert media.read_image(path).tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize(
    ("ink", "colour"),
    [((0, 0, 0, 0), (255, 255, 255)), ((0, 0, 0, 255), (0, 0, 0)), ((0, 255, 255, 0), (255, 0, 0))],
)
def test_cmyk_ink_becomes_light(tmp_path, suffix, ink, colour):
    found = media.read_image(save(tmp_path / f"ink.{suffix}", Image.new("CMYK", (16, 16), ink)))
    assert np.abs(found.astype(int) - colour).max() <= 4  # JPEG rounds


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"film.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as check:
        assert check.n_frames == 3
    assert (media.read_image(path) == [255, 0, 0]).all()


def test_eight_by_eight_is_read(tmp_path):
    assert media.read_image(save(tmp_path / "s.png", Image.new("RGB", (8, 8)))).shape == (8, 8, 3)


UPRIGHT = {  # what a viewer does to the stored pixels, by EXIF orientation
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_the_exif_orientation_is_applied_once(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(FACE).save(path, exif=exif, **options.get(suffix, {}))
    found, expected = media.read_image(path), UPRIGHT[orientation](FACE)
    assert found.shape == expected.shape
    error = np.abs(found.astype(int) - expected)
    assert error.mean() < (1.5 if suffix == "jpg" else 1e-9)


def test_the_orientations_are_eight_different_pictures():
    turned = {UPRIGHT[k](FACE).tobytes() for k in UPRIGHT}
    assert len(turned) == 8


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_grey_is_turned_too(tmp_path, orientation, suffix, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = FACE[..., 1]
    picture = Image.fromarray(grey if mode == "L" else grey.astype(np.uint16) * 257)
    assert picture.mode == mode
    path = save(tmp_path / f"turned.{suffix}", picture, exif=exif)
    expected = UPRIGHT[orientation](np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(media.read_image(path), expected)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_broken_exif_costs_no_pixel(tmp_path_factory, noise):
    path = tmp_path_factory.getbasetemp() / "exif.jpg"
    grey = Image.new("L", (8, 8), 77)
    exif = b"Exif\x00\x00" + b"II*\x00\x08\x00\x00\x00"[: len(noise)] + noise
    found = media.read_image(save(path, grey, exif=exif))
    assert (found == 77).all()


# -- size --------------------------------------------------------------------------------------


def test_twelve_thousand_by_nine_thousand_is_read(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (12000, 9000), 1).save(path)
    found = media.read_image(path)
    assert found.shape == (9000, 12000, 3)
    assert found[::1000, ::1000].min() == 255


def png_header(width, height):
    """A PNG that announces a size and stops: a bomb's first 33 bytes."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunks + b"\0\0\0\4IDAT\0\0\0\0" + b"\0" * 4


@pytest.mark.parametrize("side", [12_500, 60_000, 2**31 - 1])
def test_a_forged_header_is_refused_without_taking_memory(tmp_path, side):
    with pytest.raises(media.ImageTooLarge, match=f"{side**2:,} pixels, expected at most 150,000"):
        read_bytes(tmp_path, png_header(side, side))


BOMB = zlib.compress(bytes(300_000_000), 9)  # 0.3 MB
ASIDE = {  # what stands in a PNG beside its pixels
    "one text": [b"zTXta\0\0" + BOMB],
    "one international text": [b"iTXta\0\1\0\0\0" + BOMB],
    "a colour profile": [b"iCCPa\0\0" + BOMB],
    "many texts": [b"zTXt%d\0\0" % i + zlib.compress(bytes(1_000_000), 9) for i in range(200)],
}


@pytest.mark.parametrize("what", ASIDE)
def test_what_unpacks_to_hundreds_of_megabytes_is_not_unpacked(tmp_path, what):
    picture = save(tmp_path / "face.png", Image.fromarray(FACE)).read_bytes()
    chunks = [
        struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        for body in ASIDE[what]
    ]
    with pytest.raises(media.UnreadableImage):
        read_bytes(tmp_path, picture[:33] + b"".join(chunks) + picture[33:])


def test_exif_that_points_at_itself_costs_nothing(tmp_path):
    again = struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 8)  # an IFD whose child and next are itself
    exif = b"Exif\0\0II*\0\x08\0\0\0" + again
    path = save(tmp_path / "face.jpg", Image.fromarray(FACE), exif=exif)
    assert media.read_image(path).shape == FACE.shape


def test_the_limit_is_the_callers_and_inclusive(tmp_path):
    path = save(tmp_path / "face.png", Image.fromarray(FACE))
    assert media.read_image(path, max_pixels=160 * 120).shape == FACE.shape
    with pytest.raises(media.ImageTooLarge, match=r"120 x 160 = 19,200 pixels.*at most 19,199"):
        media.read_image(path, max_pixels=160 * 120 - 1)


# -- what is refused, and what the message says ------------------------------------------------


def test_a_missing_file_names_its_neighbour(tmp_path):
    save(tmp_path / "portrait.png", Image.fromarray(FACE))
    with pytest.raises(media.MissingFile, match=r"portrait\.jpg does not exist.*portrait\.png\?"):
        media.read_image(tmp_path / "portrait.jpg")
    with pytest.raises(media.MissingFile, match="has a similar name"):
        media.read_image(tmp_path / "zzz")
    with pytest.raises(media.MissingFile, match="nor does its folder"):
        media.read_image(tmp_path / "no" / "portrait.png")


@pytest.mark.parametrize("name", ["a\0b", "n" * 5000, ""])
def test_impossible_paths_are_refused_like_others(tmp_path, name):
    with pytest.raises((media.MissingFile, media.NotAFile)):
        media.read_image(os.path.join(tmp_path, name))


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
def test_a_dangling_link_and_a_pipe_are_named(tmp_path):
    (tmp_path / "link.png").symlink_to("gone.png")
    with pytest.raises(media.MissingFile, match=r"link to gone\.png"):
        media.read_image(tmp_path / "link.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(media.NotAFile, match="a pipe"):  # and does not wait for a writer
        media.read_image(tmp_path / "pipe.png")


def test_a_folder_says_how_many_pictures_it_holds(tmp_path):
    for name in ("a.png", "b.JPG", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(media.NotAFile, match=r"folder with 2 pictures.*read_all"):
        media.read_image(tmp_path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html><head>Log in", "web page"),
        (b"<HTML>404 Not Found", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", r"video \(MP4 or MOV\)"),
        (b"\x1a\x45\xdf\xa3\x01\0\0\0", "Matroska"),
        (b"RIFF\x24\0\0\0AVI LIST", "AVI"),
        (b"\0\0\0\x24ftypheic\0\0\0\0", "HEIC"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"PK\x03\x04\x14\0", "ZIP"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG whose header is damaged"),
        (b"\x89PNG\r\n\x1a\n\0\0", "PNG whose header is damaged"),
        (b"just some text", r"starts with b'just some te'; expected one of JPEG"),
        (b"P5 0 4 255\n", "picture"),
    ],
)
def test_what_is_not_a_picture_is_named(tmp_path, data, says):
    with pytest.raises(media.UnreadableImage, match=says):
        read_bytes(tmp_path, data, "photo.jpg")


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_library_that_lets_pillow_fill_in_does_not_change_that(tmp_path, monkeypatch, format):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(Image.fromarray(FACE), format)
    with pytest.raises(media.UnreadableImage, match=f"damaged {format}"):
        read_bytes(tmp_path, data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES  # as that library left it


def test_a_truncated_jpeg_is_damaged_not_half_read(tmp_path):
    whole = encoded(Image.fromarray(FACE), "JPEG")
    with pytest.raises(media.UnreadableImage, match=r"damaged JPEG.*120 x 160.*truncated"):
        read_bytes(tmp_path, whole[: len(whole) // 2])


SMALL = Image.fromarray(FACE[::4, ::4])
WHOLE = {
    "JPEG": encoded(SMALL, "JPEG"),
    "progressive JPEG": encoded(SMALL, "JPEG", progressive=True),
    "PNG": encoded(SMALL, "PNG"),
    "PPM": encoded(SMALL, "PPM"),
    "BMP": encoded(SMALL, "BMP"),
    "GIF": encoded(SMALL, "GIF"),
    "TIFF": encoded(SMALL, "TIFF"),
    "deflated TIFF": encoded(SMALL, "TIFF", compression="tiff_deflate"),
    "WebP": encoded(SMALL, "WEBP", lossless=True),
}


@settings(max_examples=300)
@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1, exclude_max=True))
def test_cut_anywhere_a_picture_is_whole_or_refused(tmp_path_factory, format, share):
    data = WHOLE[format]
    folder = tmp_path_factory.getbasetemp()
    whole = read_bytes(folder, data)
    try:
        found = read_bytes(folder, data[: int(share * len(data))])
    except media.UnreadableImage:
        return
    np.testing.assert_array_equal(found, whole)  # only a trailer was missing


@settings(max_examples=400)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20),
)
def test_noise_gives_a_picture_or_one_of_our_errors(tmp_path_factory, format, noise):
    data = bytearray(WHOLE[format])
    for share, value in noise:
        data[int(share * min(len(data), 200))] = value  # most of the harm is in headers
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(data)
    ((_, found),) = media.read_all([path])  # any other error comes through here
    if isinstance(found, np.ndarray):
        assert (found.dtype, found.ndim, found.shape[2]) == (np.uint8, 3, 3)
        assert found.size > 0


@pytest.mark.parametrize(
    ("dtype", "says"), [(np.float32, "floating"), (np.int32, "32-bit integer")]
)
def test_pixels_without_a_white_are_refused(tmp_path, dtype, says):
    path = save(tmp_path / "depth.tif", Image.fromarray(np.zeros((4, 4), dtype)))
    with pytest.raises(media.UnsupportedPixels, match=says):
        media.read_image(path)


# -- batches -----------------------------------------------------------------------------------


def test_a_batch_passes_over_bad_files_and_loses_nothing(tmp_path):
    good = save(tmp_path / "good.png", Image.fromarray(FACE))
    (tmp_path / "empty.png").touch()
    paths = [good, tmp_path / "absent.png", str(tmp_path / "empty.png"), tmp_path, good]
    found = list(media.read_all(paths))
    assert [path for path, _ in found] == [type(good)(path) for path in paths]
    kinds = [type(result) for _, result in found]
    assert kinds == [
        np.ndarray, media.MissingFile, media.UnreadableImage, media.NotAFile, np.ndarray
    ]  # fmt: skip
