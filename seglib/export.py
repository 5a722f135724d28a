"""A panel as a folder that a model hub accepts: card, licence notes, files without pickle.

And as ONNX, for those who run tokens through another runtime: pooling and probe in one graph.
Taught in chapter 08.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from seglib import __version__, files, panel
from seglib.errors import SeglibError
from seglib.panel import Panel
from seglib.probing import NOTES, Probe

OPSET = 17
FRONT = """\
---
license: other
library_name: seglib
tags:
- deepfake-detection
- linear-probe
- face-parsing
---
"""


class NotPooledByMean(SeglibError):
    """The ONNX graph pools by the mean, and these probes read something else."""


class FolderInUse(SeglibError):
    """The folder to export to holds other files."""


def write(probes: Panel, folder: Path, with_onnx: bool = False) -> list[Path]:
    """Write the folder and return its files.

    Parameters
    ----------
    with_onnx : bool
        Also a graph for each part, see `graph`.

    Raises
    ------
    FolderInUse
        It exists and was not written here: nothing of it is touched.
    NotPooledByMean, seglib.probing.NotLinear
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / panel.CARD).exists():
        raise FolderInUse(
            f"{folder} holds other files; expected an empty folder, or one of a former export. "
            "Name another one."
        )
    graphs = {part: graph(probes, part) for part in probes.views} if with_onnx else {}
    if (folder / panel.CARD).exists():
        for former in folder.iterdir():
            if former.suffix in (".safetensors", ".json", ".onnx"):
                former.unlink()
    panel.save(probes, folder)
    for part, model in graphs.items():
        with files.replacing(folder / f"{part}.onnx") as written:
            written.write_bytes(model.SerializeToString())
    with files.replacing(folder / "README.md") as written:
        written.write_text(FRONT + card(probes), encoding="utf-8")
    return sorted(folder.iterdir())


def card(probes: Panel) -> str:
    """The model card in Markdown."""
    own = {name: probes.card.get(name, NOTES[name]) for name in ("what", "limits", "licence")}
    lines = "\n".join(f"| {name} | {said} |" for name, said in probes.told() if name not in own)
    return f"""
# Look only there: linear probes on the tokens of face parts

{own["what"]}

| | |
| --- | --- |
{lines}

## Limits

{own["limits"]}

## Licence

{own["licence"]}

## Use

```python
from pathlib import Path

from seglib import panel, report, scoring

scorer = scoring.Scorer(panel.load(Path("this-folder")))
report.show(scorer("picture.jpg"), scorer.panel)
```

{probes.recipe}
"""


def graph(probes: Panel, part: str) -> onnx.ModelProto:
    """Pooling and probe of one part.

    Inputs are ``tokens`` (N, T, D) float32 and ``kept`` (N, T) bool; outputs are ``log_odds`` and
    ``probability``, both ``(N,)`` float32 and NaN where no token is kept.

    Raises
    ------
    NotPooledByMean, seglib.probing.NotLinear
    """
    if probes.recipe.pooling != "mean":
        raise NotPooledByMean(
            f"these probes read tokens pooled by {probes.recipe.pooling!r}; expected 'mean'. "
            "Export without ONNX, or train with pooling='mean'."
        )
    one: Probe = probes.probes[part][0]
    bias = one.constant - one.centre @ one.direction
    weights = {
        "direction": one.direction.astype(np.float32)[:, None],
        "bias": np.array([bias], np.float32),
        "nothing": np.array(0, np.float32),
        "across": np.array([1], np.int64),
        "last": np.array([2], np.int64),
        "both": np.array([1, 2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["kept"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weight", "across"], ["row"]),
        # A token that is not kept may be NaN, where it did not enter the encoder.
        helper.make_node("Unsqueeze", ["kept", "last"], ["column"]),
        helper.make_node("Where", ["column", "tokens", "nothing"], ["entered"]),
        helper.make_node("MatMul", ["row", "entered"], ["sum"]),
        helper.make_node("ReduceSum", ["row", "last"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),  # 0 / 0 is NaN: no token, no score
        helper.make_node("MatMul", ["mean", "direction"], ["logit"]),
        helper.make_node("Squeeze", ["logit", "both"], ["flat"]),
        helper.make_node("Add", ["flat", "bias"], ["log_odds"]),
        helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
    ]
    value, width = helper.make_tensor_value_info, len(one.direction)
    model = helper.make_model(
        helper.make_graph(
            nodes,
            f"seglib {part}",
            [
                value("tokens", TensorProto.FLOAT, ["N", "T", width]),
                value("kept", TensorProto.BOOL, ["N", "T"]),
            ],
            [value(name, TensorProto.FLOAT, ["N"]) for name in ("log_odds", "probability")],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name=f"seglib {__version__}",
    )
    model.ir_version = 8  # what opset 17 came with: older runtimes read it
    onnx.checker.check_model(model)
    return model
