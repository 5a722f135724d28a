"""What keeps some readers from a page, as axe-core sees it: the published pages have none of it.

It is looked for at the widths of a desktop and of a phone; colours, which take the longest, where
the width or the theme gives other ones.
"""

from pathlib import Path

import pytest
from test_pages import PAGES

axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright",
    reason="the page tests need axe-core: pip install axe-playwright-python",
)

COLOUR_RULES = ["color-contrast", "link-in-text-block"]
COLOURS = {"runOnly": COLOUR_RULES}
ALL_BUT_COLOURS = {"rules": {rule: {"enabled": False} for rule in COLOUR_RULES}}
# Of the tables in the page of all numbers, whose colours would take axe-core a minute.
SHORTENED = "document.querySelectorAll('tbody tr:nth-child(n + 4)').forEach(row => row.remove())"


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
    tab.evaluate("() => window.MathJax?.startup?.promise.then(() => null)")
    tab.wait_for_function("!document.getAnimations().length")  # colours fade into each other
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
