"""The report: whole without a network, nothing of a stranger's name becomes markup, no verdict
without its numbers.
"""

import datetime
import re
import sys
from contextlib import nullcontext
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from seglib import assets, clips, panel, probing, report, scoring
from seglib.files import printable
from seglib.scoring import Verdict

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HOSTILE = [
    "<script>alert(1)</script>.jpg",
    '"><img src=x onerror=alert(1)>.jpg',
    "'; DROP TABLE faces; --.jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "\x1b[2J\u202egpj.exe",
]


class Tags(HTMLParser):
    """Counts tags, and keeps what they point to and all text."""

    def __init__(self, text):
        super().__init__()
        self.names, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def scorer(probes):
    return scoring.Scorer(probes, frames=3)


@pytest.fixture(scope="module")
def verdicts(scorer, tmp_path_factory):
    clip = tmp_path_factory.mktemp("clips") / "clip.mp4"
    clips.write(clip, 0, scorer.extractor.detector)
    return [scorer(assets.pictures("csu")[0].path), scorer(clip), scorer(Path("absent.jpg"))]


def test_a_page_needs_nothing_else(verdicts, probes):
    page = report.page(verdicts, probes)
    found = Tags(page)
    assert "script" not in found.names
    assert found.links
    assert all(link.startswith("data:image/") for link in found.links)
    assert not re.search(r"url\(|@import|https?://", page)
    assert found.names.count("main") == found.names.count("h1") == 1  # where a reader's eyes begin
    assert found.names.count("svg") > 6  # a bar for each part of each face, and a timeline


def test_it_says_probability_threshold_and_false_positive_rate_together(verdicts, probes):
    text = " ".join(Tags(report.page(verdicts, probes)).text.split())
    one = verdicts[0].tracks[0].estimates[panel.OVERALL]
    assert f"Probability of fake {one.probability:.2f}" in text
    rate = probes.card["measured"][panel.OVERALL]["false_positive_rate"][0]
    assert f"above which {rate:.0%}" in text
    assert "is fake" not in text
    assert "is real" not in text
    for part in panel.PARTS:
        assert f"{probes.card['measured'][part]['auc'][0]:.3f}" in text
    assert "absent.jpg" in text
    assert "MissingFile" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_a_name(verdicts, probes, name):
    plain = Tags(report.page(verdicts, probes))
    named = [replace(one, path=Path(name)) for one in verdicts]
    named[-1] = Verdict(Path(name), reason=f"UnreadableImage: {printable(name)} is no picture")
    found = Tags(report.page(named, probes))
    assert found.names == plain.names
    assert found.text.count(printable(name)) >= 4
    assert "\u202e" not in found.text  # it turns around the letters behind it


def test_a_face_unlike_the_training_ones_is_warned_of(verdicts, probes):
    track = verdicts[0].tracks[0]
    for distance, warned in ((0.5, False), (2.5, True), (np.nan, False)):
        estimates = {k: replace(one, distance=distance) for k, one in track.estimates.items()}
        one = replace(verdicts[0], tracks=[replace(track, estimates=estimates)])
        text = Tags(report.page([one], probes)).text
        assert ("Unlike the training faces" in text) == warned


def test_a_single_probe_has_a_report_too(probes, tmp_path):
    panel.save(probes, tmp_path)
    path = tmp_path / "mouth.safetensors"
    alone = scoring.Scorer(panel.load(path))
    found = alone(assets.pictures("csu")[0].path)
    rate = probes.card["measured"]["mouth"]["false_positive_rate"][0]
    assert f"above which {rate:.0%}" in " ".join(
        Tags(report.page([found], alone.panel)).text.split()
    )
    several, card = probing.load(path)
    probing.save(several, path, card | {"measured": None})  # as `seglib train` leaves it
    bare = scoring.Scorer(panel.load(path))
    page = report.page([bare(assets.pictures("csu")[0].path)], bare.panel)
    assert "whose false-positive rate is not known" in " ".join(Tags(page).text.split())


def test_many_files_have_their_numbers_and_some_their_pictures(verdicts, probes, monkeypatch):
    monkeypatch.setattr(report, "PICTURED", 2)
    many = [replace(verdicts[0], path=Path(f"{n}.jpg")) for n in range(5)]
    found = Tags(report.page(many, probes))
    assert all(f"{n}.jpg" in found.text for n in range(5))
    assert "3 more faces are in the table only" in " ".join(found.text.split())


def test_two_files_of_one_name_are_two(verdicts, probes):
    """Told apart by where they stand, and not by comparing their pictures."""
    found = Tags(report.page([verdicts[0], replace(verdicts[0])], probes))
    assert found.text.count("Face 1") == 2


def test_it_is_written_whole_or_not_at_all(verdicts, probes, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    report.write(verdicts, probes, path)
    before = path.read_text(encoding="utf-8")
    assert before == report.page(verdicts, probes)
    monkeypatch.setattr(report, "page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(verdicts, probes, path)
    assert path.read_text(encoding="utf-8") == before


def test_a_notebook_shows_the_same(verdicts, probes, monkeypatch):
    shown = []
    monkeypatch.setattr(report, "display", shown.append)
    report.show(verdicts[0], probes)
    (one,) = shown
    assert one.data.strip().startswith('<div class="seglib-report">')
    assert "Probability of fake" in one.data
    assert verdicts[0].path.name in one.data
    assert str(verdicts[0].path.parent) not in one.data


def test_the_timeline_does_not_bridge_frames_without_a_score(verdicts, probes):
    clip = verdicts[1]
    (track, *_) = clip.tracks
    asked, seen = range(0, 12, 2), np.array([0, 2, 4, 8, 10])
    score = np.array([0.1, 0.2, np.nan, 0.3, 0.4])
    gapped = replace(
        track,
        frames=seen,
        boxes=np.tile(track.boxes[:1], (5, 1)),
        curves=dict.fromkeys(track.curves, score),
    )
    page = report.page([replace(clip, asked=asked, length=12, tracks=[gapped])], probes)
    lines = re.findall(r'<polyline points="([^"]*)"', page)
    assert [len(line.split()) for line in lines] == [2, 2]
    (figure,) = re.findall(r"<figure class=\"line\">.*?</figure>", page, re.DOTALL)
    assert figure.count("<circle") == 4  # the other circles are thresholds


def test_every_table_that_scrolls_has_a_name_of_its_own(verdicts, probes):
    twice = [*verdicts, replace(verdicts[0], path=Path("another.pgm"))]
    names = re.findall(r'role="region" aria-label="([^"]*)"', report.page(twice, probes))
    assert len(names) == len(set(names)) > 3


# -- in a notebook ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, dict])
def test_what_is_uploaded_is_scored_under_its_own_name(scorer, kind, tmp_path):
    content = Path(assets.pictures("csu")[0].path).read_bytes()
    name = "../<b>my face</b>.pgm"
    value = {name: {"content": content}} if kind is dict else [{"name": name, "content": content}]
    ((named, inside),) = report.uploaded(value)
    found = report.scored(scorer, named, inside)
    assert str(found.path) == name
    assert len(found.tracks) == 1


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, OSError])
def test_what_is_uploaded_is_nobody_elses_and_does_not_stay(tmp_path, monkeypatch, error):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []

    def scorer(path):
        seen.append((path.name, path.read_bytes(), path.parent.stat().st_mode & 0o077))
        if error:
            raise error
        return Verdict(path)

    with pytest.raises(error) if error else nullcontext():
        report.scored(scorer, "../../my face.pgm", b"a picture")
    assert seen == [("file.pgm", b"a picture", 0)]
    assert not list(tmp_path.iterdir())


def test_the_button_scores_what_is_chosen(scorer, monkeypatch):
    import ipywidgets

    shown, done = [], []
    monkeypatch.setattr(report, "display", lambda *given: shown.extend(given))
    monkeypatch.setattr(report, "show", lambda verdict, panel: done.append(verdict))
    report.upload(scorer)
    button, _ = shown
    assert isinstance(button, ipywidgets.FileUpload)
    content = Path(assets.pictures("csu")[0].path).read_bytes()
    button.set_trait("value", ({"name": "a.pgm", "type": "", "size": len(content),
                                "content": content, "last_modified": NOW},))  # fmt: skip
    assert [str(one.path) for one in done] == ["a.pgm"]


def test_in_the_book_a_sentence_stands_in_its_place(scorer, monkeypatch):
    shown = []
    monkeypatch.setattr(report, "display", shown.append)
    monkeypatch.setenv("SEGLIB_PLOTLYJS", "plotly.js")
    report.upload(scorer)
    assert "Run this chapter" in shown[0].data


def test_without_ipywidgets_it_says_what_to_install(scorer, monkeypatch):
    monkeypatch.delenv("SEGLIB_PLOTLYJS", raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(report.WidgetsMissing, match=r"pip install 'seglib\[lab\]'"):
        report.upload(scorer)
