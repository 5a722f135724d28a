"""What a page gets: pictures with words for those who cannot see them, plots with no network."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from seglib import figures, regions
from seglib.errors import UnknownName

NASTY = "\"><script>alert('x')</script> & mouth < eyes"
GREY = np.full((30, 20, 3), 120, np.uint8)
TABLE = pd.DataFrame(
    {"auc": [0.734, 0.613], "low": [0.701, 0.574], "high": [0.766, 0.652]}, index=["mouth", "cls"]
)


class Tags(HTMLParser):
    """Every opening tag with its attributes, and the text outside scripts."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] != "script":
            self.text.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def shown(monkeypatch):
    """What was handed to the page, as HTML."""
    pages = []
    monkeypatch.setattr(figures, "display", lambda page: pages.append(page.data))
    return pages


@pytest.fixture
def in_the_book(monkeypatch):
    monkeypatch.setenv("SEGLIB_PLOTLYJS", "../_static/plotly.min.js")


# -- pictures ----------------------------------------------------------------------------------


def test_every_picture_has_its_alt_text_and_caption(shown):
    figures.show_pictures([GREY, GREY], ["one", "two"], ["a grey field", "another"], credit="Me")
    page = Tags(shown[0])
    assert [image["alt"] for image in page.all("img")] == ["a grey field", "another"]
    assert page.text == ["one", "two", "Me"]


def test_what_is_written_beside_a_picture_is_text_and_never_markup(shown):
    figures.show_pictures([GREY], [NASTY], [NASTY], credit=NASTY)
    page = Tags(shown[0])
    assert page.all("img")[0]["alt"] == NASTY
    assert not page.all("script")
    assert "".join(page.text) == NASTY * 2


@pytest.mark.parametrize("rivals", [(["one"], ["one", "two"]), (["one", "two"], ["one"])])
def test_a_picture_without_words_is_refused(shown, rivals):
    with pytest.raises(ValueError, match="zip"):
        figures.show_pictures([GREY, GREY], *rivals)
    assert not shown


def test_the_picture_itself_is_in_the_page(shown):
    image = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    figures.show_pictures([image], ["noise"], ["noise"], side=40)
    source = Tags(shown[0]).all("img")[0]["src"]
    head, _, data = source.partition(",")
    assert head == "data:image/png;base64"
    back = np.array(Image.open(io.BytesIO(base64.b64decode(data))))
    assert back.shape == (120, 80, 3)  # twice as sharp as it is shown
    np.testing.assert_array_equal(back[::4, ::4], image)


# -- label maps and patches --------------------------------------------------------------------


def test_every_label_has_a_colour_and_background_is_left_alone():
    assert set(figures.COLOURS) == set(regions.LABELS)
    label_map = np.arange(11, dtype=np.uint8).reshape(1, 11)
    colours = figures.coloured(label_map)
    assert colours[0].tolist() == [list(figures.COLOURS[name]) for name in regions.LABELS]
    image = np.full((1, 11, 3), 200, np.uint8)
    laid = figures.overlay(image, label_map, opacity=0.5)
    np.testing.assert_array_equal(laid[0, 0], image[0, 0])
    np.testing.assert_array_equal(laid[0, 1:], (image[0, 1:].astype(int) + colours[0, 1:]) // 2)


def test_kept_patches_are_shown_as_they_are_and_others_faint():
    image = np.random.default_rng(0).integers(0, 200, (8, 12, 3), np.uint8)
    kept = np.zeros((2, 3), bool)
    kept[1, 2] = True
    shown = figures.patches(image, kept)
    np.testing.assert_array_equal(shown[5:, 9:], image[5:, 9:])
    assert shown[1:4, 1:4].min() >= 191
    assert (shown[4] == 200).all()  # a line between


def test_components_give_like_tokens_like_colours():
    tokens = np.zeros((4, 4, 6))
    tokens[:2, :, 0], tokens[:, :2, 1], tokens[1::2, :, 2] = 3, 2, 1
    inside = np.ones((4, 4), bool)
    inside[0, 0] = False
    shown = figures.components(tokens, inside)
    assert (shown[0, 0] == 225).all()
    np.testing.assert_array_equal(shown[0, 2], shown[0, 3])
    assert (shown[3, 3] != shown[1, 0]).any()


# -- plots -------------------------------------------------------------------------------------


def test_a_plots_alternative_says_its_numbers(shown, in_the_book):
    figures.show_aucs(TABLE, "Who sees it?")
    frame = Tags(shown[0]).all("figure")[0]
    assert frame["aria-label"] == (
        "Who sees it?. mouth AUC 0.734, interval 0.701 to 0.766; "
        "cls AUC 0.613, interval 0.574 to 0.652"
    )


def test_a_plot_draws_with_the_books_copy_of_plotly_and_no_network(shown, in_the_book):
    figures.show_aucs(TABLE, "Who sees it?")
    page = Tags(shown[0])
    sources = [script["src"] for script in page.all("script") if "src" in script]
    assert sources == ["../_static/plotly.min.js"]
    assert not page.all("link")
    # plotly's own settings name its sharing service; nothing else may point outside.
    assert set(re.findall(r"https?://[^\"'\s]+", shown[0])) <= {"https://plot.ly"}
    assert "cdn" not in shown[0].lower()
    assert len(shown[0]) < 50_000  # the library itself is not pasted into every plot


def test_the_plot_shows_the_tables_numbers(shown, in_the_book):
    figures.show_aucs(TABLE, "Who sees it?")
    assert "Plotly.newPlot" in shown[0]
    for word in ("mouth", "cls", "Who sees it?"):
        assert f'"{word}"' in shown[0]


def test_names_in_a_plot_are_text_and_never_markup(shown, in_the_book):
    figures.show_aucs(TABLE.rename(index={"mouth": NASTY}), NASTY)
    page = Tags(shown[0])
    assert page.all("figure")[0]["aria-label"].startswith(NASTY)
    assert "<script>alert" not in shown[0]


def test_elsewhere_plotly_shows_it_its_own_way(shown, monkeypatch):
    monkeypatch.delenv("SEGLIB_PLOTLYJS", raising=False)
    drawn = []

    monkeypatch.setattr(go.Figure, "show", lambda figure: drawn.append(figure))
    figures.show_plot(go.Figure(), "words")
    assert len(drawn) == 1
    assert not shown


def test_all_plots_have_the_look_of_the_book(shown, in_the_book):
    figures.show_aucs(TABLE, "AUCs")
    figures.show_logits(np.array([0, 1]), np.array([-1.0, 2.0]), "Logits")
    for page in shown:
        assert '"paper_bgcolor":"rgba(0,0,0,0)"' in page  # light or dark is the page's
        assert f'"colorway":["{figures.ACCENT}","{figures.CHANCE}"' in page


@pytest.fixture
def matrix():
    """Three AUCs and a cell in which nobody has a score."""
    auc = pd.DataFrame({"one": [0.9, 0.55], "two": [0.2, np.nan]}, index=["a", "b"])
    return auc, auc - 0.1, auc + 0.1


def test_a_matrix_says_which_cells_hold_one_half_and_which_have_none(monkeypatch, matrix):
    drawn = []
    monkeypatch.setattr(figures, "show_plot", lambda figure, alt: drawn.append((figure, alt)))
    figures.show_matrix(*matrix, "AUCs", rows="perturbed by", span=0.45)
    ((figure, alt),) = drawn
    assert figure.data[0].text.tolist() == [["0.90", "0.20"], ["(0.55)", "none"]]
    assert figure.layout.yaxis.title.text == "perturbed by"
    assert (figure.data[0].zmin, figure.data[0].zmax) == pytest.approx((0.05, 0.95))
    assert alt == (
        "AUCs. a, one: 0.900, interval 0.800 to 1.000; a, two: 0.200, interval 0.100 to 0.300; "
        "b, one: 0.550, interval 0.450 to 0.650; b, two: none"
    )


def test_a_contact_sheet_has_headings_and_says_what_each_picture_is(shown):
    figures.show_contact_sheet({"blur": [GREY, GREY], NASTY: [GREY, GREY]}, ["0", "5"], "Me")
    page = Tags(shown[0])
    assert [one["alt"] for one in page.all("img")] == [
        "blur, 0", "blur, 5", f"{NASTY}, 0", f"{NASTY}, 5"
    ]  # fmt: skip
    assert [one["scope"] for one in page.all("th")] == ["col"] * 3 + ["row"] * 2
    assert "<script>" not in shown[0]
    assert page.text[-1] == "Me"


# -- drawings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(figures.DRAWINGS.glob("*.svg")), ids=lambda p: p.stem)
def test_a_drawing_says_what_it_shows_and_takes_the_colour_of_the_text(shown, path):
    figures.show_drawing(path.stem)
    (drawing,) = Tags(shown[0]).all("svg")
    assert drawing["role"] == "img"
    assert len(drawing["aria-label"].split()) > 10
    assert drawing["stroke"] == "currentColor"
    assert not re.search(r"(black|white|#000|#fff)", shown[0])


def test_a_drawing_that_is_not_there_is_named(shown):
    with pytest.raises(UnknownName, match="did you mean 'parsing'"):
        figures.show_drawing("parsin")


def test_described_has_a_part_for_each_row():
    assert figures.described(TABLE).count(";") == 1
    assert "interval nan to nan" in figures.described(TABLE.assign(low=np.nan, high=np.nan))


# -- one decision changed ----------------------------------------------------------------------


def leads(*rows):
    """A table as `evaluation.Scores.table` has it, its first row the standard."""
    table = pd.DataFrame(rows, columns=["view", "lead", "lead_low", "lead_high"]).set_index("view")
    table.attrs["part"] = rows[0][0]
    return table


CHANGES = {
    "pooling": leads(("mean", 0, 0, 0), ("max", 0.04, 0.01, 0.06), ("median", -0.02, -0.05, 0.01)),
    "layer": leads(("last", 0, 0, 0), ("first", 0.3, 0.2, 0.4)),
}


def test_a_change_is_the_lead_turned_round(shown, in_the_book):
    figures.show_changes(CHANGES, "Other choices")
    assert Tags(shown[0]).all("figure")[0]["aria-label"] == (
        "Other choices. pooling, max -0.040, interval -0.060 to -0.010; "
        "pooling, median +0.020, interval -0.010 to +0.050; "
        "layer, first -0.300, interval -0.400 to -0.200"
    )


def test_only_a_resolved_change_is_filled(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "show_plot", lambda figure, alt: drawn.append(figure))
    figures.show_changes(CHANGES, "Other choices")
    dots = drawn[0].data[0]
    # From below: plotly's first row is the lowest.
    assert [list(level) for level in dots.y] == [
        ["layer", "pooling", "pooling"], ["first", "median", "max"]
    ]  # fmt: skip
    assert list(dots.x) == [-0.3, 0.02, -0.04]
    assert list(dots.marker.symbol) == ["circle", "circle-open", "circle"]
    assert dots.error_x.arrayminus[1:] == pytest.approx([0.03, 0.02])
    assert dots.error_x.array[1:] == pytest.approx([0.03, 0.03])


# -- the README's picture ----------------------------------------------------------------------


def test_the_result_is_saved_as_a_png_with_a_panel_a_table(tmp_path):
    path, wide = tmp_path / "new" / "result.png", tmp_path / "wide.png"
    figures.save_result({"one": TABLE}, "a note", path)
    figures.save_result({"one": TABLE, "two": TABLE}, "a note", wide)
    with Image.open(path) as one, Image.open(wide) as two:
        assert one.format == two.format == "PNG"
        assert two.width > 1.6 * one.width
        pixels = np.array(one.convert("RGB")).reshape(-1, 3)
    accent = [int(figures.ACCENT[i : i + 2], 16) for i in (1, 3, 5)]
    assert (pixels == accent).all(1).sum() > 50  # the dots are drawn


@pytest.mark.parametrize(("low", "high"), [(0.74, 0.766), (np.nan, np.nan), (0.734, 0.734)])
def test_an_odd_interval_is_drawn_too(tmp_path, low, high):
    """Its end may pass its estimate, as a percentile's can; or there is none."""
    figures.save_result({"one": TABLE.assign(low=low, high=high)}, "", tmp_path / "odd.png")
    assert (tmp_path / "odd.png").stat().st_size > 1000
