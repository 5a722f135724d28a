"""The page of costs quotes what the benchmarks left, and refuses what they did not measure."""

import re
from pathlib import Path

import pytest
import torch
from sphinxpages import built_page, cells
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as benchmarks
from benchmarks import encoder, measuring
from benchmarks.measuring import Row
from book import costing
from seglib import devices, recipe
from seglib.store import at_most

PLAN = """
videos: [100, 200000]
length: 250
teraflops: 100
share: 0.5
gpu: 3
core: 0.5
terabyte: 20
"""


@pytest.fixture
def figures(tmp_path):
    """Writes the file of one benchmark."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()

    def written(name, *rows):
        measuring.report(list(rows), folder / f"{name}.json")
        return folder

    return written


@pytest.fixture
def build(tmp_path):
    """Build a page with this text; return it and the warnings."""

    def built(text, folder):
        source, out = tmp_path / "source", tmp_path / "out"
        source.mkdir(exist_ok=True)
        (source / "index.md").write_text(f"# Costs\n\n{text}\n")
        settings = {
            "extensions": ["myst_parser", "book.costing"],
            "seglib_benchmarks": str(folder),
        }
        return built_page(source, out, settings, "index")

    return built


def test_a_table_has_a_column_for_each_floor(figures, build):
    folder = figures(
        "pooling",
        Row("small", "a small batch", 0.25, "ms a crop", {"a read": 1.5, "a loop": 0.04}),
        Row("large", "a large one", 1234.5, "ms a crop", {"a read": 1.25}),
    )
    page, told = build("```{costs} pooling\n```", folder)
    assert told == ""
    (table,) = page("table")
    assert cells(table) == [
        ["what", "measured", "times a read", "times a loop"],
        ["a small batch", "0.25 ms a crop", "1.5", "0.04"],
        ["a large one", "1,234 ms a crop", "1.25", ""],
    ]
    assert f"{measuring.machine()['cores']} cores" in table.caption.text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (0.00006, "0.00006"), (0.0123, "0.0123"), (1234.5, "1,234")]
)
def test_a_figure_has_three_digits_and_no_power_of_ten(number, text):
    assert costing.shown(number) == text


def test_prose_quotes_a_figure_and_a_ratio(figures, build):
    folder = figures("pooling", Row("small", "a batch", 0.25, "ms", {"a read": 1.5}))
    page, told = build(
        "It takes {cost}`pooling.small`, {cost}`pooling.small/a read` reads.", folder
    )
    assert told == ""
    assert "It takes 0.25 ms, 1.5 reads." in page.text


@pytest.mark.parametrize(
    ("quoted", "said"),
    [
        ("{cost}`poling.small`", "expected the figures of one of pooling"),
        ("{cost}`pooling.smal`", "did you mean 'small'"),
        ("{cost}`pooling.small/a red`", "did you mean 'a read'"),
        ("```{costs} poling\n```", "python -m benchmarks.poling"),
        ("```{growth} poling\n:kinds: rate\n```", "python -m benchmarks.poling"),
        ("```{growth} pooling\n:kinds: large\n```", "no rows of ['large'] in pooling"),
        (f"```{{plan}}\n{PLAN}```", "decoding.json does not exist"),
    ],
)
def test_what_was_not_measured_is_a_warning(figures, build, quoted, said):
    folder = figures("pooling", Row("small", "a batch", 0.25, "ms", {"a read": 1.5}))
    _, told = build(quoted, folder)
    assert "WARNING: " in told or "ERROR: " in told
    assert said in told


def test_growth_is_drawn_and_told(figures, build):
    folder = figures(
        "growth",
        *(Row(f"rate-{n}", f"{n} videos", n / 10, "frames a second") for n in (1000, 10, 100)),
        Row("memory-10", "10 videos", 7.0, "MB"),
    )
    page, told = build("```{growth} growth\n:kinds: rate memory\n```", folder)
    assert told == ""
    drawing = page.find(class_="growth")
    assert drawing["aria-label"] == "frames a second: 1 at 10, 10 at 100, 100 at 1,000; MB: 7 at 10"
    assert drawing.svg.find("text", string="frames a second")
    assert "currentColor" in str(drawing)
    assert costing.INK not in str(drawing)


def planned(figures, kept=0.5):
    figures("decoding", Row("passed", "a frame", 3.6, "ms a frame"))
    figures(
        "encoder",
        Row("operations-paper", "", 900.0, "GFLOP a crop"),
        Row("operations-parser", "", 100.0, "GFLOP a crop"),
        Row("contextual-paper", "", 2000.0, "ms a crop"),
        Row("contextual-parser", "", 4000.0, "ms a crop"),
    )
    return figures(
        "growth",
        Row("store-10", "", 1.0, "kB a frame", {"uncompressed": 0.9}),
        Row("store-200", "", 1.0, "kB a frame", {"uncompressed": kept}),
    )


def test_the_plan_reckons_with_what_was_measured(figures, build):
    page, told = build(f"```{{plan}}\n{PLAN}```", planned(figures))
    assert told == ""
    assumed, plan = page("table")
    said = [row[1] for row in cells(assumed)[1:]]
    assert said == ["100, 200,000", "250", "100", "0.5", "3", "0.5", "20"]
    decisions, (small, large) = recipe.paper(), cells(plan)[1:]
    frames = 200_000 * decisions.frames
    cores = 200_000 * 250 * 0.0036 * measuring.machine()["cores"] / 3600
    on_gpu = frames * 1e12 / (100e12 * 0.5) / 3600
    terabytes = 0.5 * at_most(frames, 1024, decisions) / 1e12
    expected = [cores, on_gpu, frames * 6 / 3600 / 24 / 365, terabytes, on_gpu * 3 + cores * 0.5,
                terabytes * 20]  # fmt: skip
    assert large == ["200,000", *map(costing.shown, expected)]
    assert small[0] == "100"


def test_a_plan_that_does_not_say_all_it_assumes_is_refused(figures, build):
    _, told = build("```{plan}\nvideos: [1]\nprice: 3\n```", planned(figures))
    assert "expected ['core', 'gpu', 'length', 'share', 'terabyte', 'teraflops', 'videos']" in told


def test_every_benchmark_of_the_page_has_its_program():
    page = (Path(costing.__file__).parent / "costs.md").read_text(encoding="utf-8")
    quoted = re.findall(r"\{(?:costs|growth)\} (\w+)|\{cost\}`(\w+)\.", page)
    names = {name for pair in quoted for name in pair if name}
    assert {"extraction", "growth", "probe_fitting"} <= names <= set(benchmarks.ALL)
    assert all((costing.FOLDER / f"{name}.py").is_file() for name in benchmarks.ALL)


@pytest.mark.parametrize("page", ["costs", "large_runs"])
def test_every_figure_of_a_page_was_measured(page):
    text = (Path(costing.__file__).parent / f"{page}.md").read_text(encoding="utf-8")
    tables = re.findall(r"\{(?:costs|growth)\} (\w+)", text)
    made = [costing.load(costing.FOLDER, name).made for name in tables]
    assert {one["device"] for one in made} == {"cpu"}  # as the page says
    for key in re.findall(r"\{cost\}`([^`]+)`", text):
        costing.figure(costing.FOLDER, key)


def test_all_operations_of_an_encoder_are_counted():
    """torch's counter passes attention over on a CPU, unless it is written out."""
    devices.let_torchvision_import()
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2
    )
    found = []
    for attention in ("sdpa", "eager"):
        model = DINOv3ViTModel._from_config(config, attn_implementation=attention)
        counter = FlopCounterMode(display=False, custom_mapping=encoder.COUNTED)
        with torch.inference_mode(), counter:
            model(torch.zeros(1, 3, 64, 64))
        found.append(counter.get_total_flops())
    assert found[0] == found[1]
