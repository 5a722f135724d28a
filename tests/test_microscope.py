"""The token microscope: shares that add up, and a figure that keyboard and voice can follow."""

import json

import numpy as np
import pytest
import skimage.data
from bs4 import BeautifulSoup

from seglib import demo, indexing, microscope, probing, recipe
from seglib.probing import NotLinear, Probe

DEMO = recipe.demo()


def random_probe(seed, width=384, conditioning="standardise"):
    rng = np.random.default_rng(seed)
    mean, scale = rng.normal(size=width), rng.uniform(0.5, 2, width)
    return Probe(
        conditioning, weight=rng.normal(size=width), bias=0.3, C=1.0, slope=0.7, offset=-0.2,
        threshold=0.1, mean=mean, scale=scale,
    )  # fmt: skip


@pytest.fixture(scope="module")
def models():
    """Two parts, both encodings; directions of noise, which share out like any other."""
    pairs = [(part, how) for part in ("mouth", "nose") for how in ("contextual", "isolated")]
    return {pair: random_probe(seed) for seed, pair in enumerate(pairs)}


@pytest.fixture(scope="module")
def chain():
    return demo.networks(DEMO)


@pytest.fixture(scope="module")
def page(models, chain):
    portrait = skimage.data.astronaut()
    pictures = {"nothing": portrait, "mirrored": portrait[:, ::-1]}
    return microscope.page(pictures, models, chain, credit="NASA <public domain>")


def content(page):
    return json.loads(BeautifulSoup(page, "html.parser").find(type="application/json").string)


def test_the_shares_add_up_to_the_score(models, chain):
    portrait = skimage.data.astronaut()
    crops = [chain.crop(portrait)]
    maps, tokens = chain.parser(crops), chain.backbone(crops)
    views = microscope.look(portrait, models, chain)
    assert len(views) == len(models) * len(microscope.RULES)
    for (part, rule, how), view in views.items():
        probe = models[part, how]
        assert np.nansum(view.shares) + probe.constant == pytest.approx(view.score, abs=1e-5)
        kept = indexing.keep(maps, tokens.grid, part, rule)
        assert (view.kept == kept[0]).all()
        if how == "contextual":
            pooled, _ = indexing.pool(tokens.patches, kept)
            assert view.score == pytest.approx(probing.score(probe, pooled).item(), abs=1e-5)


def test_isolated_tokens_say_something_else(chain):
    same = random_probe(0)
    models = {("mouth", how): same for how in ("contextual", "isolated")}
    views = microscope.look(skimage.data.astronaut(), models, chain)
    one, other = (views["mouth", "largest", how] for how in ("contextual", "isolated"))
    assert (one.kept == other.kept).all()
    assert one.score != pytest.approx(other.score, abs=1e-3)


def test_a_part_without_a_token_has_no_score():
    nothing = np.full((3, 3), np.nan)
    view = microscope.View(nothing, np.zeros((3, 3), np.uint8), np.nan, above=False)
    assert view.told() == "0 of 9 tokens are kept: there is no descriptor, and no score."


def test_a_score_that_is_not_linear_is_refused(chain):
    models = {("mouth", "contextual"): random_probe(0, conditioning="layernorm")}
    with pytest.raises(NotLinear, match="layernorm"):
        microscope.look(skimage.data.astronaut(), models, chain)


def test_the_page_holds_every_choice_and_escapes_what_it_is_told(page):
    found = BeautifulSoup(page, "html.parser")
    views, axes = content(page)["views"], content(page)["axes"]
    lengths = [len(values) for _, values in axes]
    assert lengths == [2, 2, 4, 2]
    assert len(views) == np.prod(lengths)
    assert len({view["told"] for view in views}) > len(views) / 2
    assert found.figcaption.string == "NASA <public domain>"
    assert len(page) < 500_000


@pytest.fixture(scope="module")
def tab(page, lone_browser, tmp_path_factory):
    file = tmp_path_factory.mktemp("microscope") / "page.html"
    file.write_text(f"<!doctype html><html lang=en><link rel=icon href=data:,><body>{page}")
    tab = lone_browser.new_page(viewport={"width": 390, "height": 900})
    tab.context.set_offline(True)
    tab.goto(file.as_uri())
    return tab


def test_the_keyboard_steps_through_the_choices(tab, page):
    views = json.loads(
        BeautifulSoup(page, "html.parser").find("script", type="application/json").string
    )["views"]
    sliders = tab.locator("input[type=range]")
    at = [0, 0, 0, 0]
    for axis, steps in ((3, 1), (2, 3), (1, 1), (0, 1)):
        sliders.nth(axis).focus()
        for _ in range(steps):
            tab.keyboard.press("ArrowRight")
            at[axis] += 1
            view = views[np.ravel_multi_index(at, (2, 2, 4, 2))]
            assert tab.locator("[aria-live]").inner_text() == view["told"]
            cells = tab.locator("tbody.tokens tr td:last-child").all_text_contents()
            assert [float(cell) for cell in cells] == view["shares"]
        named = sliders.nth(axis).get_attribute("aria-valuetext")
        assert named == tab.locator("output").nth(axis).inner_text()


def test_the_label_map_can_be_shown(tab):
    def shown():
        return tab.locator("svg image").get_attribute("href")

    before = shown()
    tab.locator("input[type=checkbox]").focus()
    tab.keyboard.press("Space")
    assert shown() != before
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
