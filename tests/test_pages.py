"""The published pages, opened from disk in a browser that has no network.

Every page of the book is opened at the width of a desktop and of a phone. What a reader would
miss is a problem: a figure that is not drawn, maths that is not set, a request to the network.
"""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

from book import build

axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright",
    reason="the page tests need axe-core: pip install axe-playwright-python",
)

ROOT = Path(__file__).parent.parent
PAGES = [*build.toc_pages(ROOT / "_toc.yml"), "genindex"]
HEAVY = 3_000_000  # bytes; plotly's program, which all pages share, is loaded once
COLOUR_RULES = ["color-contrast", "link-in-text-block"]
COLOURS = {"runOnly": COLOUR_RULES}
ALL_BUT_COLOURS = {"rules": {rule: {"enabled": False} for rule in COLOUR_RULES}}
# Of the tables in the page of all numbers, whose colours would take axe-core a minute.
SHORTENED = "document.querySelectorAll('tbody tr:nth-child(n + 4)').forEach(row => row.remove())"
LOCAL = ("file:", "data:", "blob:")

INSPECT = r"""
async (patience) => {
  const problems = [];
  const name = (node) => node.outerHTML.slice(0, 120).replace(/\s+/g, " ");

  if (window.MathJax?.startup) await MathJax.startup.promise;
  for (const math of document.querySelectorAll("span.math, div.math")) {
    if (!math.querySelector("mjx-container")) problems.push("maths not set: " + math.textContent);
    if (math.querySelector("mjx-merror, [data-mjx-error]"))
      problems.push("maths wrong: " + name(math));
  }
  const prose = document.querySelector("article, main, body").cloneNode(true);
  prose.querySelectorAll("pre, code, script, style, mjx-container, .plotly-graph-div")
       .forEach((node) => node.remove());
  const raw = prose.textContent.match(/\\\(|\\\[|\$\$|\$[^$\s][^$\n]*\$/);
  if (raw) problems.push("raw maths: " + prose.textContent.substr(raw.index, 60));

  const marks = ".plot path, .plot image, .plot rect, .plot text, .imagelayer image, " +
                ".heatmaplayer image, " +
                ".trace *, .pielayer path, canvas";
  for (const figure of document.querySelectorAll(".plotly-graph-div")) {
    for (let wait = 0; wait < patience && !figure.querySelector(marks); wait++)
      await new Promise((resolve) => setTimeout(resolve, 100));
    if (!figure.querySelector(marks)) problems.push("figure not drawn: " + name(figure));
  }

  for (const image of document.querySelectorAll("img")) {
    image.loading = "eager";
    await image.decode().catch(() => {});
    if (!image.naturalWidth) problems.push("picture not shown: " + name(image));
    if (!image.alt.trim()) problems.push("picture without alt text: " + name(image));
  }

  const wide = document.documentElement.scrollWidth - window.innerWidth;
  if (wide > 1) problems.push(`the page is ${wide} px too wide`);
  return problems;
}
"""


@contextmanager
def opened(browser, page: Path, size: tuple[int, int], query: str = "", **options):
    """A page opened from disk, network off, and the list of what goes wrong while it is open."""
    problems = []
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)

    def route(route, request):
        if request.url.startswith(LOCAL):
            route.continue_()
        else:
            problems.append(f"asks the network for {request.url}")
            route.abort()

    context.route("**/*", route)
    tab = context.new_page()
    tab.on("console", lambda m: m.type == "error" and problems.append(f"console: {m.text}"))
    tab.on("pageerror", lambda error: problems.append(f"script: {error}"))
    tab.on("requestfailed", lambda r: problems.append(f"failed: {r.url}"))
    tab.goto(page.as_uri() + query, wait_until="load")
    yield tab, problems
    context.close()


def visit(browser, page: Path, width: int, patience: int = 100) -> list[str]:
    """Open a page; return everything that is wrong with it.

    patience: tenths of a second that a figure may take to be drawn.
    """
    with opened(browser, page, (width, 900)) as (tab, problems):
        problems += tab.evaluate(INSPECT, patience)
    return problems


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_without_a_network(book, browser, page, width):
    assert visit(browser, book / "html" / f"{page}.html", width) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_light(book, page):
    path = book / "html" / f"{page}.html"
    found = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select("img[src]")
    pictures = {path.parent / tag["src"] for tag in found if not tag["src"].startswith("data:")}
    assert path.stat().st_size + sum(one.stat().st_size for one in pictures) < HEAVY


def barriers(
    browser, page: Path, width: int, theme: str, shortened: bool = False, **options
) -> list[str]:
    """What `violations` finds on a page, opened from disk with no network.

    shortened: of each table in its first three rows.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    context.set_offline(True)
    tab = context.new_page()
    tab.goto(page.as_uri(), wait_until="load")
    tab.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    tab.wait_for_timeout(500)  # colours fade into each other
    if shortened:
        tab.evaluate(SHORTENED)
    found = violations(tab, **options)
    context.close()
    return found


def violations(tab, **options) -> list[str]:
    """What axe-core finds serious or critical on an open page; options go to it."""
    options = {"resultTypes": ["violations"], **options}
    found = axe.Axe().run(tab, options=options).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_bars_nobody(book, browser, page, width):
    path = book / "html" / f"{page}.html"
    assert barriers(browser, path, width, "light", **ALL_BUT_COLOURS) == []


@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (1400, "dark"), (390, "dark")])
@pytest.mark.parametrize("page", PAGES)
def test_text_stands_out_from_its_background(book, browser, page, width, theme):
    path = book / "html" / f"{page}.html"
    long = page == "book/numbers"
    assert barriers(browser, path, width, theme, long, **COLOURS) == []


FAINT = "<p style='color: #aaa; background: #fff'>faint</p>"


@pytest.mark.parametrize(
    ("html", "rules", "problem"),
    [
        ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>", ALL_BUT_COLOURS,
         "image-alt"),
        ("<input type=range>", ALL_BUT_COLOURS, "label"),
        (FAINT, COLOURS, "color-contrast"),
    ],
)  # fmt: skip
def test_a_barrier_is_noticed(browser, tmp_path, html, rules, problem):
    page = tmp_path / "page.html"
    head = "<!doctype html><html lang=en><title>page</title><link rel=icon href=data:,>"
    page.write_text(f"{head}<main><h1>Page</h1>{html}</main>")
    (found,) = barriers(browser, page, 390, "light", **rules)
    assert found.startswith(problem)


@pytest.mark.parametrize(("row", "noticed"), [(3, True), (4, False)])
def test_of_a_shortened_table_three_rows_are_looked_at(browser, tmp_path, row, noticed):
    page = tmp_path / "page.html"
    rows = [f"<tr><td>{FAINT if number == row else 'black'}" for number in range(1, 6)]
    page.write_text(f"<!doctype html><html lang=en><table><tbody>{''.join(rows)}</table>")
    assert bool(barriers(browser, page, 390, "light", shortened=True, **COLOURS)) == noticed


def test_the_first_page_leads_into_the_book(book, browser):
    context = browser.new_context()
    tab = context.new_page()
    tab.goto((book / "html" / "index.html").as_uri())
    tab.wait_for_url(f"**/{PAGES[0]}.html")
    context.close()


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ("<script>null.x</script>", "script: "),
        ("<script>console.error('ours')</script>", "console: ours"),
        ("<script src='https://cdn.example.org/x.js'></script>", "asks the network"),
        ("<script src='missing.js'></script>", "failed: "),
        ("<div class='plotly-graph-div'></div>", "figure not drawn"),
        ("<div class='plotly-graph-div'><svg class='main-svg'></svg></div>", "figure not drawn"),
        ("<img src='missing.png' alt='a face'>", "picture not shown"),
        ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>", "without alt"),
        (r"<span class='math'>\(x_1\)</span>", "maths not set"),
        ("<p>a token $z_k$</p>", "raw maths"),
        ("<div style='width: 900px'>wide</div>", "px too wide"),
    ],
)
def test_a_broken_page_is_noticed(browser, tmp_path, html, problem):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><link rel=icon href=data:,><article>{html}</article>")
    assert any(problem in found for found in visit(browser, page, 390, patience=5))


def test_a_sound_page_passes(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><link rel=icon href=data:,><article>It costs $5.</article>")
    assert visit(browser, page, 390) == []


def test_no_dead_buttons_while_the_address_is_a_placeholder(book):
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    if "OWNER/REPOSITORY" not in config["repository"]["url"]:
        pytest.skip("the address is set: the buttons are meant to be there")
    for page in PAGES:
        text = (book / "html" / f"{page}.html").read_text(encoding="utf-8")
        assert not re.search(r'href="[^"]*(OWNER/REPOSITORY|colab\.research)', text), page


@pytest.mark.parametrize("page", ["notebooks/03_probing", "notebooks/04_ablations"])
def test_a_chapter_that_measures_draws_what_it_measured(book, browser, page):
    context = browser.new_context()
    tab = context.new_page()
    tab.goto((book / "html" / f"{page}.html").as_uri())
    tab.wait_for_selector(".plotly-graph-div .points path")  # visible, or it times out
    context.close()
