"""The pictures of the front page: drawn from today's numbers, and light enough for it."""

import re

import numpy as np
from PIL import Image

import seglib
from book import pictures
from seglib import figures


def test_the_result_shows_the_published_numbers():
    with Image.open(pictures.RESULT) as picture:
        drawn = picture.text["Description"]
    assert drawn == figures.pictured(pictures.panels()), "python book/pictures.py draws it anew"


def test_the_cover_is_a_strip_and_light():
    with Image.open(pictures.COVER) as picture:
        assert picture.size == (4 * pictures.SIDE + 3 * pictures.SEAM, pictures.SIDE)
    assert pictures.COVER.stat().st_size < 200_000


def test_a_strip_has_a_seam_between_two_and_none_around():
    black = np.zeros((10, 10, 3), np.uint8)
    drawn = pictures.strip([black, black, black])
    light = drawn[0, :, 0] > 0
    assert drawn.shape == (pictures.SIDE, 3 * pictures.SIDE + 2 * pictures.SEAM, 3)
    assert light.sum() == 2 * pictures.SEAM
    assert not light[0]
    assert not light[-1]


def test_the_front_page_cites_this_version():
    text = (pictures.IMAGES.parent / "intro.md").read_text(encoding="utf-8")
    assert re.findall(r"Version ([\d.]+)\}", text) == [seglib.__version__]
