"""What a stranger could send: nothing of it is run, wherever it is put."""

import ast
import io
import json
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from seglib import assets, backbones, faces, panel, parsing, probing, scoring, weights
from seglib.backbones import Preprocessing
from seglib.descriptors import Descriptors
from seglib.errors import SeglibError

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path
    for folder in ("seglib", "book", "notebooks", "benchmarks")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".ipynb") and "_build" not in path.parts
)

# -- what the code never does ---------------------------------------------------------------------

# Modules and functions that run what they read, hand a line to a shell, unpack wherever an archive
# says, or name a temporary file before it is made.
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
NEVER = {
    "joblib.load", "joblib.dump", "pandas.read_pickle", "torch.jit.load", "torch.hub.load",
    "torch.package.PackageImporter", "yaml.load", "yaml.load_all", "yaml.unsafe_load",
    "yaml.full_load", "eval", "exec", "__import__", "os.system", "os.popen", "os.tempnam",
    "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp",
    "shutil.unpack_archive", "code.InteractiveInterpreter",
}  # fmt: skip
METHODS = {"extractall", "to_pickle", "read_pickle", "unsafe_load"}
ONLY = {"shell": False, "trust_remote_code": False, "allow_pickle": False, "weights_only": True}
COLAB = (
    '!pip list --format=freeze | grep -E "{held}" > held.txt',
    '%pip install -q -c held.txt "seglib @ {source}"',
)


def code_of(path):
    """The Python of a module, or of a notebook's cells: a shell's line becomes a call of it."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    code = "\n".join("".join(cell["source"]) for cell in cells)
    for line in COLAB:  # the only ones, and they hold nothing from outside
        code = code.replace(line, "...")
    return re.sub(
        r"^(\s*)[!%](.*)$", lambda line: f"{line[1]}os.system({line[2]!r})", code, flags=re.M
    )


def imported(tree):
    """What each imported name stands for: ``np`` for ``numpy``, ``load`` for ``torch.load``."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.asname: one.name for one in node.names if one.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {(one.asname or one.name): f"{node.module}.{one.name}" for one in node.names}
    return found


def modules(tree):
    """Every module that is imported, anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def unsafe(code):
    """Whatever in it runs what it reads, as ``line: call``."""
    tree = ast.parse(code)
    names, found = imported(tree), []
    if bad := PICKLES & {name.partition(".")[0] for name in modules(tree)}:
        found.append(f"import {sorted(bad)}")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        called = names.get(first, first) + dot + rest
        given = {one.arg: getattr(one.value, "value", "?") for one in node.keywords}
        if (
            called in NEVER
            or called.rpartition(".")[2] in METHODS
            or any(given.get(name, safe) is not safe for name, safe in ONLY.items())
            or (called == "torch.load" and given.get("weights_only") is not True)
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_runs_what_it_reads(path):
    assert unsafe(code_of(path)) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import torch\ntorch.load('a')",
        "import torch as t\nt.load('a', weights_only=False)", "from torch import load\nload('a')",
        "from torch import jit\njit.load('a')", "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import numpy as np\nnp.load(f, allow_pickle=some)", "import yaml\nyaml.load(text)",
        "eval('1')", "exec(text)", "import subprocess\nsubprocess.run(line, shell=True)",
        "import subprocess\nsubprocess.run(line, shell=maybe)", "import os\nos.system('ls')",
        "from tempfile import mktemp\nmktemp()", "archive.extractall(folder)",
        "from joblib import load\nload('a')", "Model.from_pretrained(f, trust_remote_code=True)",
        "import pandas as pd\npd.read_pickle('a')", "import shutil\nshutil.unpack_archive('a')",
    ],
)  # fmt: skip
def test_what_would_is_seen(code):
    """Else the test above would prove nothing."""
    assert unsafe(code)


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load(f, map_location='cpu', weights_only=True)", "model.eval()",
        "import numpy as np\nnp.load('a')", "import yaml\nyaml.safe_load(text)",
        "import subprocess\nsubprocess.run([a, b])", "from torch import nn\nnn.Linear(1, 2)",
    ],
)  # fmt: skip
def test_what_does_not_is_let_through(code):
    assert not unsafe(code)


# -- pickles in the place of every file that is loaded -------------------------------------------


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def plain(bomb):
    return pickle.dumps(bomb, protocol=2)


def zipped(bomb):
    """As torch saves today."""
    file = io.BytesIO()
    torch.save({"state_dict": bomb}, file)
    return file.getvalue()


def legacy(bomb):
    """As torch saved before 2020."""
    file = io.BytesIO()
    torch.save({"state_dict": bomb}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def script(bomb):
    """A TorchScript archive whose constants are the bomb."""
    whole, file = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(file, "w") as target:
        for one in source.infolist():
            aside = one.filename.endswith(("data.pkl", "constants.pkl"))
            target.writestr(one, plain(bomb) if aside else source.read(one))
    return file.getvalue()


def release(load, name):
    """A loader of one file of weights."""

    def opened(content, folder, monkeypatch):
        monkeypatch.setenv("SEGLIB_WEIGHTS", str(folder))
        (folder / weights.WEIGHTS[name].file).write_bytes(content)
        load()

    return opened


def model(file, **changes):
    """A loader of a folder of `transformers`, in which one file is the bomb."""

    def opened(content, folder, monkeypatch):
        embedded = json.loads((assets.fetch("dinov2-s") / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(embedded | changes))
        (folder / file).write_bytes(content)
        backbones.load(folder, "cpu")

    return opened


def probe(content, folder, monkeypatch):
    (folder / "mouth.safetensors").write_bytes(content)
    (folder / "mouth.json").write_text("{}")
    probing.load(folder / "mouth.safetensors")


def references(content, folder, monkeypatch):
    shutil.copytree(scoring.OWN, folder / "probes")
    (folder / "probes" / panel.REFERENCES).write_bytes(content)
    panel.load(folder / "probes")


def descriptors(content, folder, monkeypatch):
    (folder / "a.parquet").write_bytes(content)
    Descriptors.load(folder / "a.parquet")


TIMM = {"architecture": "vit_small_patch16_dinov3"}
LOADERS = {
    "retinaface": release(lambda: faces.load("retinaface", "cpu"), "retinaface"),
    "farl/lapa": release(lambda: parsing.load("farl/lapa", "cpu"), "farl/lapa"),
    "farl/celebm": release(lambda: parsing.load("farl/celebm", "cpu"), "farl/celebm"),
    "farl-b": release(
        lambda: backbones.load("farl-b", "cpu", Preprocessing(normalisation="clip")), "farl-b"
    ),
    "a folder's old checkpoint": model("pytorch_model.bin"),
    "a folder's tensors": model("model.safetensors"),
    "timm's old checkpoint": model("pytorch_model.bin", **TIMM),
    "timm's tensors": model("model.safetensors", **TIMM),
    "a probe": probe,
    "a panel's references": references,
    "descriptors": descriptors,
}


@pytest.mark.parametrize("form", [plain, zipped, legacy, script])
@pytest.mark.parametrize("loader", LOADERS)
def test_a_pickle_is_refused_and_never_loaded(loader, form, tmp_path, monkeypatch):
    faces.facer()  # before the bomb is laid: it must be the loader that refuses
    folder, ran = tmp_path / "files", tmp_path / "ran"
    folder.mkdir()
    with pytest.raises(SeglibError, match=re.escape(str(folder))):
        LOADERS[loader](form(Touch(ran)), folder, monkeypatch)
    assert not ran.exists()


def test_such_a_pickle_would_run(tmp_path):
    """Else the test above would prove nothing."""
    for form in (plain, zipped, legacy):
        ran = tmp_path / form.__name__
        (tmp_path / "file").write_bytes(form(Touch(ran)))
        if form is plain:
            pickle.loads((tmp_path / "file").read_bytes())
        else:
            torch.load(tmp_path / "file", weights_only=False)
        assert ran.exists()


def test_code_that_lies_in_a_models_folder_is_not_run(tmp_path, monkeypatch):
    """Nor is the reader asked whether it should be."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    ran = tmp_path / "ran"
    (tmp_path / "modeling.py").write_text(f"open({str(ran)!r}, 'w')\nclass Model: pass\n")
    own = {"AutoConfig": "modeling.Model", "AutoModel": "modeling.Model"}
    config = {"model_type": "its_own", "auto_map": own}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(backbones.BackboneUnavailable):
        backbones.load(tmp_path, "cpu")
    assert not ran.exists()
