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

ROOT = Path(__file__).parent.parent
PAGES = [*build.toc_pages(ROOT / "_toc.yml"), "genindex"]
HEAVY = 3_000_000  # bytes; plotly's program, which all pages share, is loaded once
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
