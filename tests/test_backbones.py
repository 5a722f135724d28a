"""Small transformers with the real ones' classes, and the real embedded one."""

import json
import shutil
import time

import numpy as np
import pytest
import skimage
import torch

from seglib import backbones
from seglib.backbones import BackboneUnavailable, UnsupportedModel, WrongCropSize
from seglib.errors import UnknownName
from seglib.faces import Crop

ASTRONAUT = skimage.data.astronaut()
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}
KINDS = {  # class -> its config
    "Dinov2": {**SMALL, "patch_size": 14},
    "Dinov2WithRegisters": {**SMALL, "patch_size": 14, "num_register_tokens": 3},
    "DINOv3ViT": {**SMALL, "patch_size": 8, "num_register_tokens": 4, "intermediate_size": 32},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of small models with random weights, by class."""
    backbones._let_torchvision_import()
    import transformers

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    for kind, options in KINDS.items():
        config = getattr(transformers, f"{kind}Config")(**options)
        model = getattr(transformers, f"{kind}Model")(config)
        for weight in model.parameters():  # registers and CLS begin as zeros or nearly
            torch.nn.init.normal_(weight, std=0.2)
        model.save_pretrained(root / kind)
    return root


@pytest.fixture(scope="module")
def embedded():
    return backbones.load("dinov2-s", device="cpu")


def crops_of(height, width, count=1):
    starts = range(0, 40 * count, 40)
    return [Crop(ASTRONAUT[x : x + height, x : x + width], None, None) for x in starts]


# -- the order of tokens -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_the_slices_that_the_config_announces(saved, kind):
    from transformers import AutoModel

    encoder = backbones.load(saved / kind, device="cpu")
    config = json.loads((saved / kind / "config.json").read_text())
    patch, registers = config["patch_size"], config.get("num_register_tokens", 0)
    rows, columns = 3, 5
    (crop,) = crops_of(rows * patch, columns * patch)
    tokens = encoder([crop])

    pixels = (crop.image / 255 - np.array(backbones.MEAN)) / np.array(backbones.STD)
    pixels = torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32)
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(saved / kind).eval()(pixels).last_hidden_state
    assert hidden.shape == (1, 1 + registers + rows * columns, 16)
    torch.testing.assert_close(tokens.cls, hidden[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens.registers, hidden[:, 1 : 1 + registers], rtol=0, atol=1e-5)
    for row in range(rows):
        for column in range(columns):
            torch.testing.assert_close(
                tokens.patches[:, row, column],
                hidden[:, 1 + registers + row * columns + column],
                rtol=0, atol=1e-5,
            )  # fmt: skip
    assert tokens.grid == (rows, columns)
    assert tokens.patches.dtype == torch.float32
    assert (encoder.patch, encoder.registers, encoder.width) == (patch, registers, 16)


def test_a_patch_token_stands_where_its_pixels_are(embedded):
    crop = Crop(ASTRONAUT[60:270, 130:340].copy(), None, None)  # 15 x 15 patches
    changed = crop.image.copy()
    changed[9 * 14 : 10 * 14, 4 * 14 : 5 * 14] = 255 - changed[9 * 14 : 10 * 14, 4 * 14 : 5 * 14]
    before, after = (embedded([Crop(image, None, None)]) for image in (crop.image, changed))
    moved = (after.patches - before.patches).norm(dim=-1)[0]
    assert divmod(int(moved.argmax()), 15) == (9, 4)


# -- the embedded model ------------------------------------------------------------------------


def test_the_demos_crop_gives_20_by_20_tokens(embedded):
    tokens = embedded(crops_of(280, 280, 2))
    assert tokens.grid == (20, 20)
    assert tokens.patches.shape == (2, 20, 20, 384)
    assert tokens.cls.shape == (2, 384)
    assert tokens.registers.shape == (2, 0, 384)
    assert embedded.width == 384
    assert not tokens.patches.requires_grad


def test_a_batch_gives_what_its_items_give_alone(embedded):
    crops = crops_of(140, 140, 3)
    batch, singles = embedded(crops), [embedded([crop]) for crop in crops]
    for name in ("cls", "patches"):
        alone = torch.cat([getattr(single, name) for single in singles])
        torch.testing.assert_close(getattr(batch, name), alone, rtol=0, atol=1e-4)
    assert (batch.cls[0] - batch.cls[1]).norm() > 1  # the crops do differ


def test_pixels_are_normalised_as_in_training(embedded):
    colour = np.array([10, 120, 250], np.uint8)
    pixels = embedded._pixels(np.broadcast_to(colour, (1, 28, 14, 3)).copy())
    assert pixels.shape == (1, 3, 28, 14)
    expected = (colour / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(pixels[0, :, 5, 5].numpy(), expected, atol=1e-5)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "nearest"), [(279, 280), (224 + 6, 224), (8, 14), (3, 14)])
def test_a_crop_that_patches_do_not_tile_names_the_nearest_size(embedded, side, nearest):
    with pytest.raises(WrongCropSize, match=f"{side} x {side}.*patches of 14.* {nearest}\\.$"):
        embedded(crops_of(side, side))


def test_a_mistyped_name_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'dinov2-s'"):
        backbones.load("dinov2s")


@pytest.mark.parametrize("name", ["dinov3-l", "nobody/no-such-model"])
def test_weights_that_are_not_here_fail_at_once_and_say_what_to_run(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(BackboneUnavailable) as caught:
        backbones.load(name)
    assert time.monotonic() - start < 15  # asking the hub without a network takes 23 s
    hub_id = backbones.HUB.get(name, name)
    assert f"https://huggingface.co/{hub_id} and run: hf download {hub_id}" in str(caught.value)


@pytest.mark.parametrize("name", ["./none", "../none", "a/b/none"])
def test_a_missing_folder_is_not_taken_for_a_hub_id(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackboneUnavailable, match="there is no folder") as caught:
        backbones.load(name)
    assert str(tmp_path) in str(caught.value)
    assert "huggingface.co" not in str(caught.value)


def no_config(folder):
    (folder / "config.json").unlink()


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def cut_config(folder):
    (folder / "config.json").write_text("{")


def other_width(folder):
    change(folder, hidden_size=32)


def more_layers(folder):
    change(folder, num_hidden_layers=3)  # which transformers would fill with random numbers


def change(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize(
    "damage", [no_config, no_weights, cut_weights, cut_config, other_width, more_layers]
)
def test_a_damaged_folder_is_refused_by_name(saved, tmp_path, damage):
    folder = tmp_path / "model"
    shutil.copytree(saved / "Dinov2", folder)
    backbones.load(folder, device="cpu")
    damage(folder)
    with pytest.raises(BackboneUnavailable, match="holds no whole model") as caught:
        backbones.load(folder)
    assert str(folder) in str(caught.value)


def test_a_model_without_patches_is_refused(tmp_path):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(UnsupportedModel, match=r"BertModel .* names no patch_size"):
        backbones.load(tmp_path / "bert")


def test_a_transformer_with_other_tokens_is_refused(tmp_path):
    backbones._let_torchvision_import()
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(image_size=64, embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=4)
    SwinModel(config).save_pretrained(tmp_path / "swin")
    encoder = backbones.load(tmp_path / "swin", device="cpu")
    with pytest.raises(UnsupportedModel, match=r"64 tokens for a grid of 16 x 16.* expected 257"):
        encoder(crops_of(64, 64))
