"""What a reader reads is spelt right: Hunspell's English, and the words of this book's own.

The dictionary is American; the book is written in British spelling, whose words stand in
``book/dictionary.txt`` beside names and terms.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from hunspell import Hunspell
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "book").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
DRAWINGS = sorted((ROOT / "seglib" / "drawings").glob("*.svg"))
OWN = (ROOT / "book" / "dictionary.txt").read_text(encoding="utf-8").split()
MARKUP = re.compile(
    r"\{[\w:]+\}|\$\$?[^$]+\$\$?|https?://\S+|&\w+;|<[^>]+>|^:\w+:|\S*[/_@=]\S*", re.M
)
WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’](?=[^\W\d_]))+")


@pytest.fixture(scope="module")
def english():
    checker = Hunspell("en_US")
    for word in OWN:
        checker.add(word)
    return checker


def prose(markdown: str) -> Iterator[str]:
    """The sentences of a Markdown text, those inside directives too; no code."""
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "inline":
            yield "".join(t.content if t.type == "text" else " " for t in token.children)
        elif token.type == "fence" and token.info.startswith("{"):
            argument = token.info.partition("}")[2]
            yield from () if "{math}" in token.info else prose(f"{argument}\n\n{token.content}")


def misspelt(texts, checker) -> set[str]:
    words = {word for text in texts for word in WORD.findall(MARKUP.sub(" ", text))}
    plain = {word.replace("’", "'").removesuffix("'s") for word in words}
    return {word for word in plain if not checker.spell(word)}


def said(notebook) -> Iterator[str]:
    """The prose of a chapter and the captions of its figures."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            yield from prose(cell.source)
        yield cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_is_spelt_right(english, path):
    assert misspelt(prose(path.read_text(encoding="utf-8")), english) == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_is_spelt_right(english, path):
    assert misspelt(said(path), english) == set()


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_is_spelt_right(english, path):
    drawn = path.read_text(encoding="utf-8")
    words = [*re.findall(r">([^<]+)</text>", drawn), *re.findall(r'aria-label="([^"]+)"', drawn)]
    assert len(words) > 2
    assert misspelt(words, english) == set()


def test_the_claims_are_spelt_right(english):
    ledger = yaml.safe_load((ROOT / "book" / "claims.yml").read_text(encoding="utf-8"))
    texts = [
        text
        for claim in ledger
        for text in (claim["sentence"], *(one["sentence"] for one in claim.get("controls", ())))
    ]
    assert len(texts) > 20
    assert misspelt((" ".join(prose(text)) for text in texts), english) == set()


@pytest.mark.parametrize(
    ("markdown", "wrong"),
    [
        ("A tokken of the mouth.", {"tokken"}),
        ("```{margin} Marjin\nA noet.\n```", {"Marjin", "noet"}),
        ("| a | b |\n| - | - |\n| clum | `kode` |", {"clum"}),
        ("The model’s [chaptr](03_probing), {cite:p}`alain2017probes`, $x_i$", {"chaptr"}),
        ("```python\nimprot numpy\n```", set()),
    ],
)
def test_a_slip_is_noticed_and_code_is_not(english, markdown, wrong):
    assert misspelt(prose(markdown), english) == wrong


def test_the_books_own_words_are_sorted_and_needed():
    assert sorted(set(OWN), key=lambda word: (word.lower(), word)) == OWN
    checker = Hunspell("en_US")
    assert [word for word in OWN if checker.spell(word)] == []
