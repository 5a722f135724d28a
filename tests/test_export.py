"""An export is read again, and the ONNX graph gives the probe's own scores."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from seglib import assets, export, panel, probing
from seglib.export import FolderInUse, NotPooledByMean

ROOT = Path(__file__).resolve().parent.parent


def test_an_exported_folder_is_a_panel_with_a_card(probes, tmp_path):
    names = [path.name for path in export.write(probes, tmp_path / "hub")]
    assert {"README.md", "panel.json", "mouth.safetensors", "mouth.json"} <= set(names)
    assert panel.load(tmp_path / "hub").views == probes.views
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: other\n")
    assert "## Limits" in card
    assert "## Licence" in card
    assert f"{probes.card['measured']['mouth']['auc'][0]:.3f}" in card
    json.loads((tmp_path / "hub" / "panel.json").read_text())


@pytest.mark.parametrize("part", panel.PARTS)
def test_the_graph_pools_and_scores_as_the_probe_does(probes, part):
    rng, probe = np.random.default_rng(0), probes.probes[part][0]
    tokens = rng.normal(size=(7, 20, 32)).astype(np.float32)
    kept = rng.random((7, 20)) < 0.3
    kept[3] = False
    tokens[2][~kept[2]] = np.nan  # did not enter the encoder
    model = export.graph(probes, part).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    odds, probability = session.run(None, {"tokens": tokens, "kept": kept})
    means = [
        t[k].mean(0) if k.any() else np.full(32, np.nan) for t, k in zip(tokens, kept, strict=True)
    ]
    expected = probing.score(probe, np.stack(means))
    np.testing.assert_allclose(odds, expected, atol=1e-4)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-expected)), atol=1e-5)
    assert np.isnan(odds[3])


def test_graphs_are_written_on_request(probes, tmp_path):
    export.write(probes, tmp_path / "plain")
    assert not list((tmp_path / "plain").glob("*.onnx"))
    export.write(probes, tmp_path / "plain", with_onnx=True)  # a former export is replaced
    assert len(list((tmp_path / "plain").glob("*.onnx"))) == len(panel.PARTS)
    panel.save(probes, tmp_path / "all")
    export.write(panel.load(tmp_path / "all" / "nose.safetensors"), tmp_path / "plain")
    names = {path.name for path in (tmp_path / "plain").iterdir()}
    expected = {"README.md", "nose.json", "nose.safetensors", "panel.json"}
    assert names == expected | {"references.safetensors"}


def test_the_cards_example_runs(probes, tmp_path):
    export.write(probes, tmp_path / "this-folder")
    card = (tmp_path / "this-folder" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    shutil.copy(assets.pictures("csu")[0].path, tmp_path / "picture.pgm")
    done = subprocess.run(
        [sys.executable, "-c", code.replace("picture.jpg", "picture.pgm")],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_other_files_are_left_alone(probes, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FolderInUse, match="Name another one"):
        export.write(probes, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_the_graph_cannot_say_is_refused(probes):
    from dataclasses import replace

    odd = replace(probes, recipe=probes.recipe.but(pooling="max"))
    with pytest.raises(NotPooledByMean, match="pooled by 'max'"):
        export.graph(odd, "mouth")
