"""A slide deck for every chapter, made from its published page.

A deck shows what a lecturer would: of each section the heading, its first sentences, and one
figure, table or formula a slide, with the page's own numbers and badges. The rest of the prose
goes into the speaker notes. reveal.js presents it, from a disk as well.
"""

from __future__ import annotations

import copy
import posixpath
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path

from bs4 import BeautifulSoup, Tag

REVEAL = "_assets/reveal"  # not in _static/: what lies there loads on every page
SHIPPED = (
    "LICENSE",
    "dist/reset.css",
    "dist/reveal.css",
    "dist/reveal.js",
    "plugin/notes/notes.js",
)
STYLES = re.compile(r"/(pygments|quoting|reading)\.css")  # of a page: code, badges, dark plots
SKIPPED = ("Further reading", "Your receipt")
HEADINGS = ("h1", "h2", "h3", "h4")
TEXT, SHOWN, TASK, NOTE = "text", "shown", "task", "note"  # kinds of blocks
LOOKED_AT = ("math", "pst-scrollable-table-container")  # classes of what is no prose
ALONE, ABOVE, BESIDE, BELOW = 95, 45, 50, 40  # words of prose: without a figure, or where it stands
SENTENCE = re.compile(r"(?<=[.?!])((?:</\w+>)*)\s+(?=(?:<[^>]+>)*[A-Z“(])")
INTERVAL = re.compile(r"^\S+ (\[\S+ \S+\]|to \S+)$")  # 0.704 [0.667, 0.744], 0.06 to 0.32
TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · slides</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="../{reveal}/reset.css">
<link rel="stylesheet" href="../{reveal}/reveal.css">
{head}
<link rel="stylesheet" href="../_static/slides.css">
</head>
<body>
<main><div class="reveal"><div class="slides tex2jax_ignore mathjax_ignore">
{slides}
</div></div></main>
<footer>{title} · mode {mode} · <a href="../{address}">the whole chapter</a></footer>
<script src="../{reveal}/reveal.js"></script>
<script src="../{reveal}/notes.js"></script>
<script src="../_static/slides.js"></script>
</body>
</html>
"""

Block = tuple[str, list[Tag]]


@dataclass
class Slide:
    """A heading, something to look at, prose before and after it, and what is only said."""

    heading: str
    above: str = ""  # the heading of the section around this one
    before: list[Tag] = field(default_factory=list)
    shown: list[Tag] = field(default_factory=list)
    after: list[Tag] = field(default_factory=list)
    notes: list[Tag] = field(default_factory=list)
    layout: str = ""

    def html(self) -> str:
        """The slide as reveal.js wants it."""
        plot = any(tag.select_one(".plotly-graph-div, input") for tag in self.shown)
        # Sentences that the program wrote below a plot: to be asked for before they are shown.
        spoken = [tag for tag in self.shown if plot and _is_printed(tag)]
        shown = [tag for tag in self.shown if tag not in spoken]
        beside = plot and self.before + self.after
        layout = self.layout or ("beside" if beside else "" if self.shown else "alone")
        room = {"beside": BESIDE, "": ABOVE}.get(layout, ALONE)
        before, unread = shortened(self.before, room)
        after, more = shortened(self.after, BELOW)
        said = "".join(map(_plain, [*unread, *spoken, *self.notes, *more]))
        level = 1 if layout == "title" else 2
        for inner in [one for tag in shown for one in tag.find_all("section")]:
            inner.name = "div"  # a section within a slide would be a slide
        for cell in [one for tag in shown for one in tag.find_all("td", string=INTERVAL)]:
            cell["class"] = [*cell.get("class", []), "interval"]
        parts = {"before": before, "shown": "".join(map(str, shown)), "after": after}
        return "\n".join([
            f'<section class="{layout}">',
            f'<header><p class="above">{self.above}</p>' if self.above else "<header>",
            f"<h{level}>{self.heading}</h{level}></header>",
            '<div class="content">',
            *(f'<div class="{name}">{part}</div>' for name, part in parts.items() if part),
            "</div>",
            f'<aside class="notes">{said}</aside>' if said else "",
            "</section>",
        ])  # fmt: skip


# ----------------------------------------------------------------------------------------- a deck


def write(html: Path) -> list[Path]:
    """Write ``slides/NN_name.html`` for every chapter among the built pages; return the decks."""
    (html / REVEAL).mkdir(parents=True)
    for name in SHIPPED:
        source = files("sphinx_revealjs") / "_static" / "revealjs" / name
        shutil.copy(str(source), html / REVEAL)
    (html / "slides").mkdir()
    decks = []
    for page in sorted((html / "notebooks").glob("[0-9][0-9]_*.html")):
        decks.append(html / "slides" / page.name)
        address = page.relative_to(html).as_posix()
        decks[-1].write_text(deck(page.read_text(encoding="utf-8"), address), encoding="utf-8")
    return decks


def deck(text: str, address: str) -> str:
    """The deck of the chapter with this HTML, whose page lies at `address` in the book."""
    page = BeautifulSoup(text, "html.parser")
    for tag in page.select("a.headerlink, [role=tooltip], article script[src]"):
        tag.decompose()  # reveal.js has no room for tooltips; plotly is loaded once, below
    chapter = page.select_one("article section")
    book = page.title.get_text().rpartition("— ")[2]
    parameters = "".join(tag.get_text() for tag in chapter.select("[class*=parameters]"))
    modes = re.findall(r'mode = "(\w+)"', parameters)
    made = "\n".join(one.html() for one in slides(chapter, book))
    # Plotly would resize a plot behind our back whenever its slide comes and goes.
    made = BeautifulSoup(made.replace('"responsive": true', '"responsive": false'), "html.parser")
    rebase(made, address)
    head = [tag for tag in page.select("head script") if "mathjax" in str(tag).lower()]
    head += [tag for tag in page.select("head link[href]") if STYLES.search(tag["href"])]
    if made.select(".plotly-graph-div"):
        head.append('<script src="../_assets/plotly.min.js"></script>')
    return TEMPLATE.format(
        title=escape(chapter.h1.get_text()),
        mode=modes[-1] if modes else "unknown",  # the injected one, where there are two
        address=address,
        reveal=REVEAL,
        head="\n".join(map(str, head)),
        slides=made,
    )


def rebase(made: BeautifulSoup, address: str) -> None:
    """Make the links and pictures of a page at `address` right for its deck; drop lost tooltips."""
    known = {tag["id"] for tag in made.select("[id]")}
    for tag in made.select("[href], [src], [aria-describedby]"):
        if tag.get("aria-describedby") not in known:
            del tag["aria-describedby"]
        for name in {"href", "src"} & tag.attrs.keys():
            path, mark, place = tag[name].partition("#")
            if re.match(r"[a-z]+:|//", path) or (not path and place in known):
                continue
            target = posixpath.join(posixpath.dirname(address), path) if path else address
            tag[name] = posixpath.relpath(target, "slides") + mark + place


# ------------------------------------------------------------------------------ from page to slides


def slides(section: Tag, above: str = "") -> Iterator[Slide]:
    """The slides of a section, then those of the sections in it."""
    title = section.find(HEADINGS, recursive=False)
    if title.get_text() in SKIPPED:
        return
    heading, found, opening = title.decode_contents(), list(blocks(section)), title.name == "h1"
    if opening:
        promised = found.pop(0)[1] if found and found[0][0] == TEXT else []
        yield Slide(heading, above, promised, layout="title")
        found = [(kind, tags) for kind, tags in found if not _is_printed(tags[0])]
        heading, above = heading.partition("· ")[2] or heading, ""
    yield from arranged(heading, above, found)
    for inner in section.find_all("section", recursive=False):
        yield from slides(inner, "" if opening else heading)


def blocks(section: Tag) -> Iterator[Block]:
    """What a section consists of, less its heading and the sections in it."""
    children = section.find_all(lambda tag: tag.name not in ("section", *HEADINGS), recursive=False)
    for is_claim, run in groupby(children, lambda tag: "claim" in tag.get("class", ())):
        if is_claim:
            yield from _claims(list(run))
            continue
        for tag in run:
            classes = tag.get("class", [])
            if "cell" in classes:
                yield from _cell(tag)
            elif tag.name in ("p", "ul", "ol") and "ran" not in classes:
                yield TEXT, [tag]
            elif tag.name in ("figure", "table") or set(LOOKED_AT) & {*classes} or _is_code(tag):
                yield SHOWN, [tag]
            else:  # margin notes, when the chapter ran, and whatever the book may yet bring
                yield NOTE, [tag]


def _cell(cell: Tag) -> Iterator[Block]:
    """A block an output, with what was printed beside it; of an exercise its stub."""
    if "tag_exercise" in cell["class"]:  # what the checker says of no answer is no news
        yield TASK, cell.select(".cell_input .highlight")
        return
    together: list[Tag] = []
    for output in cell.select(":scope > .cell_output > *"):
        if not _is_printed(output) and not all(map(_is_printed, together)):
            yield SHOWN, together
            together = []
        together.append(output)
    if together:
        yield SHOWN, together


def _claims(run: list[Tag]) -> Iterator[Block]:
    """Claims that follow each other as one list; what each stands on is only said."""
    items = "".join(f"<li>{claim.p.decode_contents()}</li>" for claim in run)
    yield SHOWN, [BeautifulSoup(f'<ul class="claims">{items}</ul>', "html.parser").ul]
    yield NOTE, [tag for claim in run for tag in claim.find_all("p", recursive=False)]


def _is_printed(tag: Tag) -> bool:
    return "stream" in tag.get("class", ())


def _is_code(tag: Tag) -> bool:
    return any(name.startswith("highlight-") for name in tag.get("class", ()))


def arranged(heading: str, above: str, found: Iterable[Block]) -> list[Slide]:
    """One slide for each block that is looked at, the prose around it, and one for what is left.

    Of several paragraphs between two figures the first is about the one before, the last about
    the next, and the others are only said.
    """
    made: list[Slide] = []
    texts: list[Tag] = []
    notes: list[Tag] = []
    for kind, tags in found:
        if kind == TEXT:
            texts += tags
        elif kind == NOTE:
            notes += tags
        elif kind == TASK:
            made.append(Slide(heading, above, texts[-1:], tags, [], texts[:-1] + notes, "task"))
            texts, notes = [], []
        elif kind == SHOWN and made and not texts and _is_slight(made[-1], tags):
            made[-1].shown += tags
        elif kind == SHOWN:
            if made and texts and (len(texts) > 1 or _is_formula(made[-1])):
                made[-1].after.append(texts.pop(0))
                made[-1].notes += texts[:-1]
                texts = texts[-1:]
            if made and not texts and len(made[-1].before) > 1:  # they announce two things
                texts = [made[-1].before.pop()]
            made.append(Slide(heading, above, texts, tags, [], notes))
            texts, notes = [], []
    if made and texts:
        made[-1].after.append(texts.pop(0))
    if texts:
        made.append(Slide(heading, above, texts))
    if made:
        made[-1].notes += notes
    return made


def _is_slight(former: Slide, shown: list[Tag]) -> bool:
    """Whether one of two that follow each other without a word was only printed."""
    return all(map(_is_printed, shown)) or (
        all(map(_is_printed, former.shown)) and len(former.before) < 2
    )


def _is_formula(slide: Slide) -> bool:
    return "math" in slide.shown[0].get("class", ())


# ------------------------------------------------------------------------------------------- prose


def shortened(texts: list[Tag], room: int) -> tuple[str, list[Tag]]:
    """The sentences for which there is room, in words, and the texts that were not shown whole.

    The first sentence is shown in any case.
    """
    shown, unread = "", []
    for text in texts:
        brief = _brief(text, room, bool(shown))
        if brief != str(text):
            unread.append(text)
        room = room - _words(brief) if brief == str(text) else 0
        shown += brief
    return shown, unread


def _brief(text: Tag, room: int, more: bool) -> str:
    """As much of a paragraph or list as is shown, after more of them or not."""
    if text.name == "p":
        pieces = sentences(text)
        if re.fullmatch("<strong>[^<]*</strong>", pieces[0]):  # says little alone
            pieces[:2] = [" ".join(pieces[:2])]
        kept = 0 if more else 1
        while _words(" ".join(pieces[: kept + 1])) <= room and kept < len(pieces):
            kept += 1
        if kept == len(pieces):
            return str(text)
        marked = [piece for piece in pieces[kept:] if "<strong>" in piece]  # the point of it all
        brief = " ".join([*pieces[:kept], *marked])
        return f"<p>{brief}</p>" if brief else ""
    if text.find("strong") and room:  # each item begins with what it is about
        leads = (sentences(item.p)[0] for item in text.find_all("li", recursive=False))
        return f"<ul>{''.join(f'<li>{lead}</li>' for lead in leads)}</ul>"
    return str(text) if _words(str(text)) <= room or not more else ""


def sentences(text: Tag) -> list[str]:
    """The sentences of a paragraph as HTML; none cuts a tag or a parenthesis in two."""
    found = [""]
    for piece in SENTENCE.sub("\\1\x1f", text.decode_contents()).split("\x1f"):
        whole = found[-1].count("</") == len(re.findall(r"<\w", found[-1]))
        if whole and found[-1].count("(") == found[-1].count(")"):
            found.append(piece)
        else:
            found[-1] += " " + piece
    return found[1:]


def _words(html: str) -> int:
    return len(re.sub(r"<[^>]+>", "", html).split())


def _plain(tag: Tag) -> str:
    """A block as it stands in the notes, where nothing is linked to and no note is in a note."""
    said = copy.copy(tag)
    for one in (said, *said.find_all(True)):
        del one["id"]
    said.name = "div" if said.name == "aside" else said.name
    return str(said)
