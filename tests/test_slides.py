"""The slide decks: what becomes of a page, and the real ones in a browser that has no network."""

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from test_barriers import violations
from test_pages import INSPECT, opened

from book import build, slides

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SIZES = [(1400, 900), (390, 844)]

PAGE = """
<html><head><title>1 · A chapter — A book</title>
<link rel="stylesheet" href="../_static/pygments.css?v=1">
<link rel="stylesheet" href="../_static/theme.css">
<script>window.MathJax = {{}}</script><script src="../_static/mathjax/tex.js"></script></head>
<body><nav>menu</nav><article><section id="a-chapter">
<h1>1 · A chapter<a class="headerlink" href="#a-chapter">#</a></h1>
<p><strong>You will</strong> learn.</p>
<div class="cell tag_parameters"><div class="cell_input"><pre>mode = "demo"</pre></div></div>
{}
</section></article></body></html>
"""


def deck(html):
    """The deck of a chapter with this content."""
    return BeautifulSoup(slides.deck(PAGE.format(html), "notebooks/01_one.html"), "html.parser")


def shown(html):
    """The slides behind the title, each as its heading, and what is before, shown, after, noted."""
    parts = (".before", ".shown", ".after", ".notes")
    return [
        (one.h2.get_text(), *(" ".join(t.get_text() for t in one.select(part)) for part in parts))
        for one in deck(html).select(".slides > section")[1:]
    ]


def section(html, heading="Part"):
    return f"<section id='part'><h2>{heading}<a class=headerlink>#</a></h2>{html}</section>"


def cell(*outputs, code="x = 1", tag=""):
    found = "".join(outputs)
    return (
        f"<div class='cell {tag}'><div class='cell_input'><div class='highlight-py'>"
        f"<div class='highlight'><pre>{code}</pre></div></div></div>"
        f"<div class='cell_output'>{found}</div></div>"
    )


TABLE = "<div class='output text_html'><table class=dataframe><td>a table</td></table></div>"
PLOT = "<div class='output'><figure><div class=plotly-graph-div>a plot</div></figure></div>"
PRINTED = "<div class='output stream'><pre>printed</pre></div>"
LONG = " ".join(f"Sentence {number} has five words." for number in range(40))


# --- a page becomes a deck


def test_the_title_slide_names_book_and_chapter_and_what_one_will_learn():
    title = deck("").select_one("section")
    assert title["class"] == ["title"]
    assert title.select_one(".above").get_text() == "A book"
    assert title.h1.get_text() == "1 · A chapter"
    assert title.select_one(".before").get_text() == "You will learn."


def test_every_section_has_a_slide_with_its_first_paragraph():
    inner = "<section><h3>Inner</h3><p>Within.</p></section>"
    made = deck(section("<p>About it.</p>" + inner))
    assert [one.get_text() for one in made.select("h2")] == ["Part", "Inner"]
    assert [one.get_text() for one in made.select(".before")][1:] == ["About it.", "Within."]
    assert made.select(".slides .above")[-1].get_text() == "Part"
    assert not made.select("nav, .headerlink")


def test_a_page_without_outputs_has_a_deck_all_the_same():
    assert shown(section(cell())) == []
    assert shown(section("<p>About it.</p>" + cell())) == [("Part", "About it.", "", "", "")]


def test_prose_between_two_figures_is_shared_out():
    texts = [f"<p>{name}</p>" for name in ("first", "second", "about one", "idle", "about two")]
    html = "".join([*texts[:2], cell(TABLE), *texts[2:], cell(TABLE), "<p>end</p><p>left</p>"])
    assert shown(section(html)) == [
        ("Part", "firstsecond", "a table", "about one", "idle"),
        ("Part", "about two", "a table", "end", ""),
        ("Part", "left", "", "", ""),
    ]


def test_two_things_in_a_row_share_what_announces_them():
    html = "<p>one</p><p>two</p>" + cell(TABLE) + cell(TABLE)
    assert [one[1] for one in shown(section(html))] == ["one", "two"]


def test_each_figure_of_a_cell_has_a_slide_and_what_was_printed_stands_with_it():
    (first, second) = shown(section("<p>Look.</p>" + cell(PRINTED, TABLE, TABLE)))
    assert first[2] == "printeda table"
    assert second[2] == "a table"


def test_sentences_below_a_plot_are_for_the_lecturer():
    (only,) = shown(section("<p>Look.</p>" + cell(PLOT, PRINTED)))
    assert only[2:] == ("a plot", "", "printed")


def test_a_formula_keeps_the_sentence_that_goes_on_behind_it():
    html = "<p>The mean,</p><div class=math>\\[m\\]</div><p>of all.</p>" + cell(TABLE)
    assert [one[1:4] for one in shown(section(html))] == [
        ("The mean,", "\\[m\\]", "of all."),
        ("", "a table", ""),
    ]


def test_captions_stay_with_their_figures():
    html = f"<figure id=fig-1>{TABLE}<figcaption><p>Fig. 1 So it is.</p></figcaption></figure>"
    (only,) = shown(section(cell(html)))
    assert only[2] == "a tableFig. 1 So it is."


def test_what_a_slide_has_no_room_for_is_in_the_notes():
    (only,) = shown(section(f"<p>{LONG}</p>" + cell(TABLE)))
    assert only[1].startswith("Sentence 0 has five words.")
    assert only[1].endswith("words.")
    assert 20 < len(only[1].split()) <= slides.ABOVE
    assert only[4] == LONG


def test_a_sentence_in_bold_is_never_left_to_the_notes():
    (only,) = shown(section(f"<p>{LONG} That is <strong>the point</strong>.</p>" + cell(TABLE)))
    assert only[1].startswith("Sentence 0")
    assert only[1].endswith("That is the point.")
    assert "Sentence 39" not in only[1]


def test_margin_notes_are_notes():
    (only,) = shown(section("<p>So.</p><aside class='margin'>By the way.</aside>" + cell(TABLE)))
    assert only[4] == "By the way."
    assert deck(section("<p>So.</p><aside class='margin'>By.</aside>")).select("aside aside") == []


def test_when_a_chapter_ran_is_no_prose():
    (only,) = shown("<p>So.</p>" + cell(TABLE) + "<p class=ran>Ran on a day.</p>")
    assert only[1:] == ("So.", "a table", "", "Ran on a day.")


def test_code_is_hidden():
    html = section("<p>So.</p>" + cell(TABLE, code="secret = 1") + cell(code="secret = 2"))
    assert "secret" not in str(deck(html))


def test_a_shell_command_of_the_prose_is_shown():
    html = "<p>Run:</p><div class='highlight-sh'><pre>seglib score</pre></div>"
    assert shown(section(html)) == [("Part", "Run:", "seglib score", "", "")]


@pytest.mark.parametrize("heading", slides.SKIPPED)
def test_what_is_for_readers_only_has_no_slide(heading):
    assert shown(section("<p>Long list.</p>" + cell(TABLE), heading)) == []


def test_every_exercise_has_a_slide_with_its_task_and_its_stub():
    html = "<p>How to.</p><p><strong>01-1</strong> Do.</p>"
    html += cell(PRINTED, code="one()", tag="tag_exercise") + "<p><strong>01-2</strong> Go.</p>"
    html += cell(PRINTED, code="two()", tag="tag_exercise")
    assert shown(section(html, "Exercises")) == [
        ("Exercises", "01-1 Do.", "one()", "", "How to."),
        ("Exercises", "01-2 Go.", "two()", "", ""),
    ]


def test_a_list_of_leads_shows_its_leads():
    items = ["<b>Small.</b> It is.", "<b>Faces</b>, of old."]
    html = "".join(f"<li><p>{item}</p></li>" for item in items).replace("b>", "strong>")
    (only,) = shown(section(f"<ul>{html}</ul>"))
    assert only[1] == "Small.Faces, of old."
    assert only[4] == "Small. It is.Faces, of old."


def test_claims_are_a_list_of_badges_and_sentences():
    claim = "<div class='claim'><p><span class=status>holds</span> It is.</p><p>Why</p></div>"
    (only,) = shown(section("<p>Claims:</p>" + 2 * claim))
    assert only[2] == "holds It is.holds It is."
    assert "Why" in only[4]


def test_a_section_within_an_output_is_no_slide():
    made = deck(section(cell("<div class=output><section>a report</section></div>")))
    assert made.select("section section") == []
    assert made.select_one(".shown").get_text() == "a report"


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("02_two.html#x", "../notebooks/02_two.html#x"),
        ("../book/numbers.html#result-a", "../book/numbers.html#result-a"),
        ("#fig-here", "#fig-here"),
        ("#lost", "../notebooks/01_one.html#lost"),
        ("https://example.org/a.html#b", "https://example.org/a.html#b"),
    ],
)
def test_links_lead_where_they_led(href, expected):
    figure = "<figure id='fig-here'>a figure</figure>"
    made = deck(section(f"<p>See <a href='{href}'>this</a>.</p>{figure}"))
    assert made.select_one(".slides a")["href"] == expected


def test_pictures_are_found_and_keep_their_words():
    made = deck(section(cell("<div class=output><img src='../_images/x.png' alt='a face'></div>")))
    assert made.img["src"] == "../_images/x.png"
    assert made.img["alt"] == "a face"


def test_a_quoted_number_keeps_its_link_and_loses_its_tooltip():
    quoted = (
        "<span class=quoted><a href='../book/numbers.html#r' aria-describedby='tip-1'>0.7</a>"
        "<span role=tooltip id=tip-1>made today</span></span>"
    )
    made = deck(section(f"<p>It is {quoted}.</p>"))
    assert made.select_one(".before .quoted a").attrs == {"href": "../book/numbers.html#r"}
    assert "made today" not in str(made)


def test_the_lowest_line_names_chapter_mode_and_page():
    injected = "<div class='cell tag_injected-parameters'><pre>mode = \"paper\"</pre></div>"
    assert "1 · A chapter · mode demo" in deck("").footer.get_text()
    assert "mode paper" in deck(injected).footer.get_text()
    assert deck("").footer.a["href"] == "../notebooks/01_one.html"


def test_a_deck_loads_what_it_needs_and_no_more():
    loaded = [tag.get("src") or tag["href"] for tag in deck("").select("head [src], head [href]")]
    assert "../_static/mathjax/tex.js" in loaded
    assert "../_static/pygments.css?v=1" in loaded
    assert not [one for one in loaded if "theme" in one or "plotly" in one]
    plot = PLOT.replace("a plot", "<script src='../_assets/plotly.min.js'></script>" * 2)
    html = deck(section(cell(plot)))
    assert len(html.select("script[src*=plotly]")) == 1


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("One. Two? <em>Three.</em> “Four.”", ["One.", "Two?", "<em>Three.</em>", "“Four.”"]),
        ("<strong>Lead.</strong> More.", ["<strong>Lead.</strong>", "More."]),
        ("An AUC of 0.7 [0.6, 0.8]. So.", ["An AUC of 0.7 [0.6, 0.8].", "So."]),
        ("See <em>One. Two</em> there. So.", ["See <em>One. Two</em> there.", "So."]),
        ("It is (so. But) here. So.", ["It is (so. But) here.", "So."]),
        ('A <a title="X. Y">b</a> c. D.', ['A <a title="X. Y">b</a> c.', "D."]),
    ],
)
def test_prose_is_cut_between_sentences_only(html, expected):
    assert slides.sentences(BeautifulSoup(f"<p>{html}</p>", "html.parser").p) == expected


# --- the decks of the book


def page_and_deck(book, chapter):
    """The chapter's page, less what has no slide, and its deck."""
    texts = [(book / "html" / folder / f"{chapter}.html") for folder in ("notebooks", "slides")]
    page, made = (BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in texts)
    for tag in page.select("a.headerlink, [role=tooltip], .cell_input, .tag_exercise"):
        tag.decompose()
    for one in page.select("article section"):
        if not one.decomposed and one.find(["h1", "h2", "h3"]).get_text() in slides.SKIPPED:
            one.decompose()
    return page.select_one("article"), made


def words(tag):
    return " ".join(tag.get_text().split())


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_nothing_that_a_page_shows_or_says_is_lost(book, chapter):
    page, made = page_and_deck(book, chapter)
    for what in ("img", ".plotly-graph-div", "table.dataframe", "input"):
        assert len(made.select(f".shown {what}")) == len(page.select(what)), what
    said = words(made)
    assert [words(p) for p in page.select("section > p") if words(p) not in said] == []
    quoted = {a["href"].rpartition("/")[2] for a in page.select("section > p .quoted a")}
    assert quoted <= {a["href"].rpartition("/")[2] for a in made.select(".quoted a")}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_may_not_be_published_is_not_in_a_deck_either(book, chapter):
    path = book / "html" / "slides" / f"{chapter}.html"
    text = path.read_text(encoding="utf-8")
    assert build.page_problems(text) == []
    assert build.page_problems(text.replace("../_assets", "https://cdn.example.org")) != []
    page = BeautifulSoup(text, "html.parser")
    links = [tag.get("href") or tag.get("src") for tag in page.select("[href], [src]")]
    local = {link.partition("#")[0].partition("?")[0] for link in links}
    local = {link for link in local if link and not re.match(r"[a-z]+:", link)}
    assert [link for link in local if not (path.parent / link).is_file()] == []


def test_teachers_find_every_deck(book):
    guide = book / "html" / "book" / "teaching" / "slides.html"
    page = BeautifulSoup(guide.read_text(encoding="utf-8"), "html.parser")
    links = [a["href"] for a in page.select("article a[href*='/slides/']")]
    assert [Path(link).stem for link in links] == CHAPTERS
    assert [link for link in links if not (guide.parent / link).is_file()] == []


LOOK = r"""
() => {
  const slide = Reveal.getCurrentSlide(), problems = [], edge = slide.getBoundingClientRect();
  const name = (node) => node.outerHTML.slice(0, 100).replace(/\s+/g, " ");
  const scrolls = (node) => /auto|scroll/.test(getComputedStyle(node).overflow) &&
    (node.scrollHeight > node.clientHeight + 1 || node.scrollWidth > node.clientWidth + 1);
  const outside = (inner, outer) => inner.left < outer.left - 1 || inner.right > outer.right + 1 ||
    inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
  const foot = document.querySelector("body > footer").getBoundingClientRect();

  if (outside(edge, { left: 0, top: 0, right: innerWidth, bottom: foot.top }))
    problems.push("the slide leaves the screen, or lies below the lowest line");
  if (!slide.querySelector(".content").textContent.trim()) problems.push("the slide is empty");
  const drawn = "mjx-container *, .plotly-graph-div *, svg *, .w"; // .w: blanks at a line's end
  for (const node of slide.querySelectorAll("header *, .content, .content *")) {
    if (node.matches(drawn) || !node.checkVisibility()) continue; // in closed details
    if (scrolls(node) && node.tabIndex < 0) problems.push("out of reach: " + name(node));
    let around = node.parentNode;
    while (around !== slide && !scrolls(around)) around = around.parentNode;
    const box = node.getBoundingClientRect();
    if (around === slide && box.width && outside(box, edge))
      problems.push("too large: " + name(node));
  }
  for (const plot of slide.querySelectorAll(".plotly-graph-div")) {
    const box = plot.querySelector(".main-svg")?.getBoundingClientRect();
    const around = plot.closest(".shown").getBoundingClientRect();
    if (!box?.height || Math.abs(box.width - around.width) > 2)
      problems.push(`the plot is ${box?.width} wide where ${around.width} is free`);
  }
  return problems;
}
"""


def walk(browser, path, size):
    """Everything that is wrong on the way through a deck by keyboard."""
    with opened(browser, path, size) as (tab, problems):
        tab.wait_for_function("Reveal.isReady()")
        problems += tab.evaluate(INSPECT, 50)
        for number in range(tab.evaluate("Reveal.getTotalSlides()")):
            if tab.evaluate("Reveal.getSlidePastCount()") != number:
                problems.append(f"slide {number + 1} is not reached")
            for _ in range(20):  # a plot is fitted to its slide a moment later
                tab.wait_for_timeout(50)
                if not (found := tab.evaluate(LOOK)):
                    break
            problems += [f"slide {number + 1}: {problem}" for problem in found]
            tab.keyboard.press("ArrowRight")
        if not tab.evaluate("document.querySelector('.notes')?.textContent.trim()"):
            problems.append("no notes")
    return problems


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_deck_is_whole_without_a_network(book, browser, chapter, size):
    assert walk(browser, book / "html" / "slides" / f"{chapter}.html", size) == []


@pytest.fixture
def broken(book, tmp_path):
    """Write a deck whose slide holds this; it lies among the book's own files."""
    for folder in ("_assets", "_static"):
        (tmp_path / folder).symlink_to(book / "html" / folder)

    def write(html, notes="<aside class='notes'>Say.</aside>"):
        path = tmp_path / "slides" / "one.html"
        path.parent.mkdir()
        slide = f"<section><header><h1>One</h1></header><div class=content>{html}</div>{notes}"
        path.write_text(
            slides.TEMPLATE.format(
                title="One", mode="demo", address="one", reveal=slides.REVEAL, head="",
                slides=f"{slide}</section>",
            )
        )  # fmt: skip
        return path

    return write


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ("<p style='width: 2000px; position: absolute'>wide</p>", "too large: <p"),
        ("<p style='overflow: auto; height: 20px'>a<br>b<br>c</p>", "out of reach: <p"),
        ("<p style='overflow: auto; height: 20px' tabindex=0>a<br>b<br>c</p>", None),
        ("<p style='position: relative; top: 900px'>low</p>", None),
        ("", "the slide is empty"),
        ("<div class=shown><div class='plotly-graph-div'>a</div></div>", "the plot is"),
        ("<div class=shown>a<script>null.x</script></div>", "script: "),
    ],
)
@pytest.mark.parametrize("size", SIZES)
def test_a_broken_slide_is_noticed(browser, broken, size, html, problem):
    found = walk(browser, broken(html), size)
    assert any(problem in one for one in found) if problem else found == []


def test_a_deck_without_notes_is_noticed(browser, broken):
    assert walk(browser, broken("<p>a</p>", notes=""), SIZES[0]) == ["no notes"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_deck_bars_nobody(book, browser, chapter, theme):
    path = book / "html" / "slides" / f"{chapter}.html"
    with opened(browser, path, SIZES[0], color_scheme=theme) as (tab, _):
        tab.wait_for_function("Reveal.isReady()")
        assert tab.evaluate("document.documentElement.dataset.theme") == theme
        assert violations(tab) == []
    # As for printing: all slides below each other, with nothing over them, so that axe-core sees
    # each and can tell its colours.
    with opened(browser, path, SIZES[0], "?print-pdf", color_scheme=theme) as (tab, problems):
        tab.wait_for_selector(".pdf-page")
        tab.wait_for_function("!document.querySelector('.slides section[aria-hidden]')")
        slides_in_source = len(page_and_deck(book, chapter)[1].select(".slides > section"))
        assert tab.locator(".pdf-page").count() == slides_in_source
        assert problems == []  # before axe-core reads style sheets from disk, and fails
        assert violations(tab) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_barrier_on_a_slide_is_noticed(browser, broken, theme):
    path = broken("<p style='color: #888; background: #999'>faint</p>")
    with opened(browser, path, SIZES[0], "?print-pdf", color_scheme=theme) as (tab, _):
        tab.wait_for_selector(".pdf-page")
        (found,) = violations(tab)
    assert found.startswith("color-contrast")


def test_the_microscope_works_on_its_slide_and_keeps_its_keys(book, browser):
    with opened(browser, book / "html" / "slides" / "05_audit.html", SIZES[0]) as (tab, problems):
        tab.wait_for_function("Reveal.isReady()")
        place = tab.evaluate(
            "Reveal.getSlides().findIndex((slide) => slide.querySelector('.seglib-microscope'))"
        )
        tab.evaluate("place => Reveal.slide(place)", place)
        told = tab.locator(".seglib-microscope .told")
        before = told.inner_text()
        tab.locator(".seglib-microscope input[type=range]").first.focus()
        tab.keyboard.press("ArrowRight")
        assert told.inner_text() != before
        assert tab.evaluate("Reveal.getSlidePastCount()") == place
        tab.locator(".present h2").click()
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate("Reveal.getSlidePastCount()") == place + 1
        assert problems == []


def test_the_speaker_sees_the_notes(book, browser):
    path = book / "html" / "slides" / "02_token_indexing.html"
    with opened(browser, path, SIZES[0]) as (tab, problems):
        tab.wait_for_function("Reveal.isReady()")
        while not tab.evaluate("Reveal.getSlideNotes()"):
            tab.keyboard.press("ArrowRight")
        notes = tab.locator(".present .notes").text_content()
        with tab.expect_popup() as popup:
            tab.keyboard.press("s")
        shown = popup.value.locator(".speaker-controls-notes .value")
        shown.get_by_text(notes.split("\n")[0].strip()[:30]).first.wait_for()
        assert problems == []
