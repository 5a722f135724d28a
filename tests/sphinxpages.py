"""Pages that a test has Sphinx build with an extension of the book."""

import io

from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace


def built_page(source, out, settings, name):
    """Build these sources; return one page and the warnings."""
    told = io.StringIO()
    settings = {"html_theme": "basic"} | settings
    with docutils_namespace():
        Sphinx(
            source, None, out, out, "html", settings, status=None, warning=told, freshenv=True
        ).build()
    html = (out / f"{name}.html").read_text(encoding="utf-8")
    return BeautifulSoup(html, "html.parser"), told.getvalue()


def cells(table):
    """The texts of a table, row by row."""
    return [[cell.text.strip() for cell in row.find_all(["td", "th"])] for row in table("tr")]
