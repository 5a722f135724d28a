"""Small transformers with the real ones' classes, and the real embedded one.

That nothing outside the kept patches moves an isolated descriptor is proved here, on both families.
"""

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import skimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from seglib import (
    assets,
    backbones,
    devices,
    faces,
    indexing,
    media,
    parsing,
    recipe,
    weights,
)
from seglib.backbones import (
    BackboneUnavailable,
    NoSuchLayer,
    Preprocessing,
    UnsupportedModel,
    WrongCropSize,
    WrongNormalisation,
)
from seglib.errors import UnknownName
from seglib.faces import Crop

ASTRONAUT = skimage.data.astronaut()
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}
WIDE = {**SMALL, "intermediate_size": 32}
KINDS = {  # class -> its config
    "Dinov2": {**SMALL, "patch_size": 14},
    "Dinov2WithRegisters": {**SMALL, "patch_size": 14, "num_register_tokens": 3},
    "DINOv3ViT": {**WIDE, "patch_size": 8, "num_register_tokens": 4},
    "ViT": {**WIDE, "patch_size": 8},
    "ViTMSN": {**WIDE, "patch_size": 8},
    "CLIPVision": {**WIDE, "patch_size": 8},
}
NORMS = {"DINOv3ViT": "norm", "CLIPVision": "post_layernorm"}  # the final one, where it is not
ABLE = ("Dinov2", "Dinov2WithRegisters", "DINOv3ViT")  # to encode kept patches alone
WIDTH = 384  # of the embedded one
BLOCKS = {"DINOv3ViT": "model.layer"}  # layernorm; and encoder.layer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of small models with random weights, by class."""
    devices.let_torchvision_import()
    import transformers

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    for kind, options in KINDS.items():
        config = getattr(transformers, f"{kind}Config")(**options)
        model = getattr(transformers, f"{kind}Model")(config)
        for weight in model.parameters():  # registers and CLS begin as zeros or nearly
            if weight.ndim > 1:  # and so much that tokens do look at one another
                torch.nn.init.normal_(weight, std=0.5)
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

    mean, std = np.array(backbones.NORMALISATIONS["imagenet"])
    pixels = ((crop.image / 255 - mean) / std).transpose(2, 0, 1)[None]
    model = AutoModel.from_pretrained(saved / kind).eval()
    resized = {} if "DINO" in kind.upper() else {"interpolate_pos_encoding": True}
    with torch.inference_mode():
        hidden = model(torch.tensor(pixels).float(), **resized).last_hidden_state
        if kind == "CLIPVision":  # whose own forward leaves the final norm to CLS alone
            hidden = model.post_layernorm(hidden)
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


def test_dinov3_gives_what_a_loop_over_its_own_layers_gives(saved):
    encoder = backbones.load(saved / "DINOv3ViT", device="cpu")
    crop, model = crops_of(40, 24)[0], encoder.model
    pixels = encoder.preprocessing(crop.image[None])
    with torch.inference_mode():
        x = model.embeddings(pixels)
        turns = model.rope_embeddings(pixels)
        for layer in model.model.layer:
            x = layer(x, position_embeddings=turns)
        normed = model.norm(x)
        states = model(pixels, output_hidden_states=True).hidden_states
    tokens = encoder([crop])
    found = torch.cat([tokens.cls[:, None], tokens.registers, tokens.patches.flatten(1, 2)], 1)
    torch.testing.assert_close(found, normed, rtol=0, atol=1e-6)
    torch.testing.assert_close(states[-1], x, rtol=0, atol=1e-6)
    assert (found - states[-1]).abs().mean() > 0.1  # those stand before the final norm


def test_the_image_half_of_a_clip_is_its_backbone(tmp_path):
    devices.let_torchvision_import()
    from transformers import CLIPConfig, CLIPModel

    halves = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    halves["num_attention_heads"] = 2
    image = {**halves, "patch_size": 8, "image_size": 32}
    model = CLIPModel(CLIPConfig(text_config={**halves, "vocab_size": 9}, vision_config=image))
    model.save_pretrained(tmp_path / "whole")
    model.vision_model.save_pretrained(tmp_path / "half")
    whole, half = (backbones.load(tmp_path / name, "cpu") for name in ("whole", "half"))
    crops = crops_of(32, 48)
    assert whole.digest == half.digest
    assert torch.equal(whole(crops).patches, half(crops).patches)


# -- the device and the precision --------------------------------------------------------------


def test_rotary_frequencies_stay_exact_in_half_precision(saved, monkeypatch):
    full = backbones.load(saved / "DINOv3ViT", device="cpu")
    monkeypatch.setattr(devices, "dtype", lambda device: torch.bfloat16)
    half = backbones.load(saved / "DINOv3ViT", device="cpu")
    assert {weight.dtype for weight in half.model.parameters()} == {torch.bfloat16}
    frequencies = [encoder.model.rope_embeddings.inv_freq for encoder in (full, half)]
    torch.testing.assert_close(*frequencies, rtol=0, atol=0)  # of one dtype, too
    crops = crops_of(48, 80)
    near, tokens = half(crops), full(crops)
    assert near.patches.dtype == torch.float32
    assert 0 < (near.patches - tokens.patches).abs().mean() < 0.05


# -- what tells one set of weights from another ------------------------------------------------


def digest(folder):
    return backbones.load(folder, device="cpu").digest


def test_the_digest_is_that_of_the_weights_and_not_of_their_files(saved, tmp_path, monkeypatch):
    plain = digest(saved / "DINOv3ViT")
    assert len(plain) == 12
    assert set(plain) <= set("0123456789abcdef")
    encoder = backbones.load(saved / "DINOv3ViT", device="cpu")
    encoder.model.save_pretrained(tmp_path / "shards", max_shard_size="4KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    monkeypatch.setattr(devices, "dtype", lambda device: torch.bfloat16)
    assert digest(tmp_path / "shards") == plain


@pytest.mark.parametrize(
    ("name", "changes"),
    [("norm.bias", True), ("layer.1.mlp.up_proj.weight", True), ("embeddings.mask_token", False)],
)
def test_the_digest_changes_with_any_weight_that_is_read(saved, tmp_path, name, changes):
    folder = tmp_path / "model"
    shutil.copytree(saved / "DINOv3ViT", folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[-1] += 1e-3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert (digest(folder) != digest(saved / "DINOv3ViT")) == changes


# -- what the encoder sees of a crop -----------------------------------------------------------


@pytest.mark.parametrize("side", [None, 16])
def test_a_crop_of_the_inputs_size_is_normalised_and_nothing_else(side):
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(1, 1, 1, 3)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in backbones.NORMALISATIONS["imagenet"])
    pixels = Preprocessing(input_size=side)(values.numpy())
    assert torch.equal(pixels, (values.permute(0, 3, 1, 2) / 255 - mean) / std)  # to the last bit


@pytest.mark.parametrize("name", backbones.NORMALISATIONS)
def test_the_means_and_deviations_are_those_of_transformers(name):
    devices.let_torchvision_import()
    from transformers import image_utils

    theirs = {"imagenet": "IMAGENET_DEFAULT", "half": "IMAGENET_STANDARD", "clip": "OPENAI_CLIP"}
    for ours, kind in zip(backbones.NORMALISATIONS[name], ("MEAN", "STD"), strict=True):
        assert list(ours) == list(getattr(image_utils, f"{theirs[name]}_{kind}"))


def test_every_normalisation_of_the_recipe_has_its_numbers():
    assert set(backbones.NORMALISATIONS) == set(recipe.CHOICES["normalisation"])


@pytest.mark.parametrize("resize", recipe.CHOICES["resize"])
def test_a_fine_pattern_is_averaged_and_not_sampled(resize):
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::4] = 255  # one column in four: sampling every fourth gives black or white
    pixels = Preprocessing(16, resize, "half")(stripes) / 2 + 0.5
    assert pixels.shape == (1, 3, 16, 16)
    assert (pixels[..., 2:-2] - 0.25).abs().max() < 0.02


def test_bicubic_and_bilinear_differ():
    image = ASTRONAUT[None, :40, :40]
    one, other = (Preprocessing(64, resize)(image) for resize in recipe.CHOICES["resize"])
    assert (one - other).abs().mean() > 0.01


@given(
    crop=st.integers(2, 40),
    side=st.integers(1, 40),
    resize=st.sampled_from(recipe.CHOICES["resize"]),
    seed=st.integers(0, 9),
)
def test_an_input_has_its_side_and_stays_between_black_and_white(crop, side, resize, seed):
    image = np.random.default_rng(seed).choice([0, 255], (2, crop, crop, 3)).astype(np.uint8)
    pixels = Preprocessing(side, resize, "half")(image)
    assert pixels.shape == (2, 3, side, side)
    assert -1 <= pixels.min() <= pixels.max() <= 1


def test_the_encoder_sees_what_the_preprocessing_makes(saved):
    model = saved / "DINOv3ViT"
    resized = backbones.load(model, "cpu", Preprocessing(40, "bilinear", "half"))
    tokens = resized(crops_of(56, 56))
    assert tokens.grid == (5, 5)
    ready = Preprocessing(40, "bilinear", "half")(crops_of(56, 56)[0].image[None])
    with torch.inference_mode():
        expected = resized.model(ready).last_hidden_state
    torch.testing.assert_close(tokens.cls, expected[:, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "[" * 20_000),
        ("config.json", "[]"),
        ("config.json", '{"model_type": ["dinov2"]}'),
        ("config.json", '{"model_type": "dinov2", "hidden_size": "~"}'),
        ("config.json", '{"model_type": "dinov2", "hidden_act": "gelux"}'),
        ("config.json", '{"model_type": "dinov2", "dtype": "floaT32"}'),
        ("preprocessor_config.json", '{"image_mean": "~", "image_std": [1, 1, 1]}'),
        ("preprocessor_config.json", '{"image_mean": [1, 1], "image_std": [1, 1, 1]}'),
        ("preprocessor_config.json", '{"image_mean": {"a": 1}, "image_std": [1, 1, 1]}'),
    ],
)
def test_a_folder_whose_json_says_nonsense_is_refused(saved, tmp_path, name, text):
    folder = shutil.copytree(saved / "DINOv3ViT", tmp_path / "model")
    (folder / name).write_text(text)
    with pytest.raises(BackboneUnavailable, match="holds no whole model"):
        backbones.load(folder, "cpu")


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


# -- tokens of other blocks --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_the_models_own_hidden_state_behind_its_final_norm(saved, kind):
    encoder = backbones.load(saved / kind, "cpu")
    crops = crops_of(3 * encoder.patch, 2 * encoder.patch, 2)
    told = {} if "DINO" in kind.upper() else {"interpolate_pos_encoding": True}
    with torch.inference_mode():
        states = encoder.model(
            encoder.pixels(crops), output_hidden_states=True, **told
        ).hidden_states
        norm = getattr(encoder.model, NORMS.get(kind, "layernorm"))
        expected = [norm(state) for state in states]
    found = encoder.layers(crops, (-1, -2))
    assert list(found) == [-1, -2]
    for layer in (-1, -2):
        torch.testing.assert_close(whole(found[layer]), expected[layer], rtol=0, atol=1e-6)
        assert torch.equal(whole(encoder(crops, layer)), whole(found[layer]))
    assert torch.equal(whole(encoder(crops)), whole(found[-1]))
    assert (whole(found[-1]) - whole(found[-2])).norm() > 0.01


@pytest.mark.parametrize("layer", [-3, 0, 1])
def test_a_layer_that_is_not_there_is_refused_with_those_that_are(saved, layer):
    encoder = backbones.load(saved / "DINOv3ViT", "cpu")
    crops = crops_of(16, 16)
    asked = [
        lambda: encoder(crops, layer),
        lambda: encoder.layers(crops, [-1, layer]),
        lambda: encoder.isolated(crops, np.ones((1, 2, 2), bool), layer=layer),
    ]
    for ask in asked:
        with pytest.raises(NoSuchLayer, match=f"layer {layer} of .* 2 blocks; .* -1 .* to -2 for"):
            ask()


def test_hidden_states_have_the_gradient_of_the_pixels(saved):
    encoder = backbones.load(saved / "DINOv3ViT", "cpu")
    (crop,) = crops_of(24, 16)
    pixels = encoder.pixels([crop]).requires_grad_()
    hidden = encoder.hidden(pixels)[-1]
    assert torch.equal(hidden.detach(), whole(encoder([crop])))
    direction = torch.randn(hidden.shape, generator=torch.manual_seed(0))
    (hidden * direction).sum().backward()
    step = 1e-2 * torch.randn(pixels.shape, generator=torch.manual_seed(1))
    ends = [encoder.hidden(pixels.detach() + sign * step)[-1] for sign in (1, -1)]
    slope = ((ends[0] - ends[1]) * direction).sum() / 2
    torch.testing.assert_close((pixels.grad * step).sum(), slope, rtol=0.02, atol=1e-4)


# -- isolated: nothing outside the kept patches can move what comes out --------------------------


@pytest.fixture(scope="module", params=["dinov2-s", *ABLE])
def isolating(request, saved):
    """An encoder of each family that has been tried: absolute and rotary positions."""
    if request.param == "dinov2-s":
        return request.getfixturevalue("embedded")
    return backbones.load(saved / request.param, "cpu")


@pytest.fixture(scope="module")
def portraits():
    """Crops of two people, 16 x 16 patches of 14 pixels or 28 x 28 of 8; their label maps."""
    detector = faces.load("mesh")
    images = [media.read_image(picture.path) for picture in assets.pictures("orl")[:20:10]]
    crops = [faces.crop(image, faces.largest(image, detector), 224, 1.0) for image in images]
    return crops, parsing.load("mesh")(crops)


@pytest.fixture(scope="module")
def mouths(isolating, portraits):
    """An encoder, crops, and which of their patches are mouth: in each another number."""
    crops, maps = portraits
    kept = indexing.keep(maps, isolating.grid(crops), "mouth")
    assert len(set(kept.sum((1, 2)))) == len(crops)
    return isolating, crops, kept


@pytest.fixture(scope="module")
def alone(mouths):
    """The tokens of each of these crops by itself, with and without CLS and registers."""
    return {specials: one_by_one(*mouths, specials=specials) for specials in (True, False)}


@pytest.fixture(scope="module")
def contextual(mouths):
    """What a mouth's tokens say that have seen the whole crop."""
    encoder, crops, kept = mouths
    return torch.from_numpy(indexing.pool(encoder(crops).patches, kept)[0])


def whole(tokens):
    """CLS, registers and patches in one row again, ``(B, 1 + R + gh gw, D)``."""
    return torch.cat([tokens.cls[:, None], tokens.registers, tokens.patches.flatten(1, 2)], 1)


def bits(tokens):
    """All numbers as they lie in memory: NaN equals itself, and almost equal is not equal."""
    return whole(tokens).view(torch.int32)


def difference(one, other):
    """Length of the difference over the length of the other, of what is not NaN."""
    assert torch.equal(one.isnan(), other.isnan())
    one, other = one.nan_to_num(), other.nan_to_num()
    return ((one - other).norm() / other.norm()).item()


def one_by_one(encoder, crops, kept, **options):
    """The same without a batch."""
    return [encoder.isolated([crop], kept[i : i + 1], **options) for i, crop in enumerate(crops)]


def elsewhere(crops, kept, patch, how):
    """The same crops with other pixels wherever no kept patch is."""
    images = np.stack([crop.image for crop in crops])
    pixels = {
        "noise": np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8),
        "black": np.zeros_like(images),
        "another face": np.roll(images, 1, axis=0),
    }[how]
    inside = kept.repeat(patch, axis=1).repeat(patch, axis=2)[..., None]
    return [
        replace(crop, image=image)
        for crop, image in zip(crops, np.where(inside, images, pixels), strict=True)
    ]


# How far a contextual mouth moves at least, in lengths of itself.
MOVES = {"noise": 0.5, "black": 0.8, "another face": 0.1}
SMALL_MOVES = 0.02  # the small ones were never trained to look around


@pytest.mark.parametrize("how", MOVES)
def test_no_pixel_outside_moves_an_isolated_descriptor_by_a_single_bit(
    mouths, alone, contextual, how
):
    encoder, crops, kept = mouths
    changed = elsewhere(crops, kept, encoder.patch, how)
    for specials, before in alone.items():
        after = one_by_one(encoder, changed, kept, specials=specials)
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            assert torch.equal(bits(one), bits(other))
            means = [indexing.pool(tokens.patches, kept[i : i + 1])[0] for tokens in (one, other)]
            np.testing.assert_array_equal(*means)
            assert np.isfinite(means[0]).all()
    # The contextual one, which keeps tokens of the very same patches, has seen it all.
    moved = torch.from_numpy(indexing.pool(encoder(changed).patches, kept)[0])
    least = MOVES[how] if encoder.width == WIDTH else SMALL_MOVES
    assert min(map(difference, moved, contextual)) > least


@pytest.mark.parametrize("how", MOVES)
def test_nor_in_a_ragged_batch_whatever_the_other_crops_are(mouths, how):
    encoder, crops, kept = mouths
    before = whole(encoder.isolated(crops, kept))
    after = whole(encoder.isolated(elsewhere(crops, kept, encoder.patch, how), kept))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6, equal_nan=True)
    # The other crop becomes something else altogether, then also in another number of patches.
    others = [crops[0], *elsewhere(crops, kept & False, encoder.patch, how)[1:]]
    after = whole(encoder.isolated(others, kept))
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-6, equal_nan=True)
    assert difference(after[1], before[1]) > SMALL_MOVES
    after = whole(encoder.isolated(others, np.concatenate([kept[:1], ~kept[1:]])))
    assert difference(after[0], before[0]) < 1e-5


def test_a_ragged_batch_gives_what_each_crop_gives_alone(mouths, alone):
    encoder, crops, kept = mouths
    for specials, singles in alone.items():
        batch = whole(encoder.isolated(crops, kept, specials))
        for row, single in zip(batch, singles, strict=True):
            assert difference(row, whole(single)[0]) < 1e-5


def test_with_all_patches_kept_isolated_is_contextual(isolating, portraits):
    crops, _ = portraits
    found = isolating.isolated(crops, np.ones((len(crops), *isolating.grid(crops)), bool))
    torch.testing.assert_close(whole(found), whole(isolating(crops)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [-1, -2])
@pytest.mark.parametrize("kind", ABLE)
def test_isolated_is_the_whole_sequence_with_a_mask_over_what_is_left_out(saved, kind, layer):
    """Another way to the same: nothing is gathered or padded; nobody looks at a dropped patch."""
    encoder = backbones.load(saved / kind, "cpu")
    crops = crops_of(3 * encoder.patch, 5 * encoder.patch, 2)  # an oblong grid
    kept = np.random.default_rng(1).random((2, 3, 5)) < 0.4
    assert len(set(kept.sum((1, 2)))) == 2
    first = 1 + encoder.registers
    dropped = torch.cat([torch.zeros(2, first).bool(), torch.from_numpy(~kept).flatten(1)], 1)
    for specials in (True, False):
        dropped[:, :first] = not specials
        mask = torch.zeros(2, 1, 1, dropped.shape[1]).masked_fill(dropped[:, None, None], -1e30)
        with torch.inference_mode():
            pixels = encoder.pixels(crops)
            hidden = encoder.model.embeddings(pixels)
            turned = {}
            if kind == "DINOv3ViT":
                turned = {"position_embeddings": encoder.model.rope_embeddings(pixels)}
            blocks = encoder.model.get_submodule(BLOCKS.get(kind, "encoder.layer"))
            for block in blocks[: len(blocks) + 1 + layer]:
                hidden = block(hidden, attention_mask=mask, **turned)
            norm = getattr(encoder.model, NORMS.get(kind, "layernorm"))
            expected = norm(hidden).masked_fill(dropped[..., None], torch.nan)
        found = whole(encoder.isolated(crops, kept, specials, layer))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("layer", [-1, -2])
@pytest.mark.parametrize("kind", ABLE)
def test_no_layer_of_an_oblong_crop_lets_a_pixel_in(saved, kind, layer):
    encoder = backbones.load(saved / kind, "cpu")
    crops = crops_of(3 * encoder.patch, 5 * encoder.patch, 3)
    kept = np.zeros((3, 3, 5), bool)
    kept[0, 0, 3:], kept[1, 1:, 0], kept[2, 2, 4] = True, True, True
    changed = elsewhere(crops, kept, encoder.patch, "noise")
    before, after = (one_by_one(encoder, c, kept, layer=layer) for c in (crops, changed))
    assert all(map(torch.equal, map(bits, before), map(bits, after)))
    contextual = [encoder(c, layer).patches[torch.from_numpy(kept)] for c in (changed, crops)]
    assert difference(*contextual) > SMALL_MOVES


def test_what_did_not_enter_is_nan_and_what_did_is_not(mouths, alone):
    _, _, kept = mouths
    for specials, singles in alone.items():
        found = torch.cat([tokens.patches for tokens in singles])
        assert found.dtype == torch.float32
        assert torch.equal(found.isnan().any(-1), torch.from_numpy(~kept))
        assert torch.equal(found.isnan().all(-1), torch.from_numpy(~kept))
        for tokens in singles:
            for token in (tokens.cls, tokens.registers):
                assert (token.isfinite() if specials else token.isnan()).all()
    for with_them, bare in zip(*alone.values(), strict=True):  # patches do look at them
        assert difference(bare.patches, with_them.patches) > SMALL_MOVES


def test_cls_and_registers_carry_no_pixel_of_their_own(isolating, portraits):
    """Of a crop of which nothing is kept they are the model's alone."""
    crops, _ = portraits
    nothing = np.zeros((len(crops), *isolating.grid(crops)), bool)
    one, other = one_by_one(isolating, crops, nothing)
    assert torch.equal(bits(one), bits(other))
    assert one.cls.isfinite().all()
    assert one.registers.isfinite().all()
    assert one.patches.isnan().all()
    assert difference(whole(isolating.isolated(crops, nothing))[1], whole(one)[0]) < 1e-5
    assert whole(isolating.isolated(crops, nothing, specials=False)).isnan().all()


def test_a_crop_of_which_nothing_is_kept_leaves_its_batch_alone(mouths, alone):
    encoder, crops, kept = mouths
    some = np.concatenate([kept[:1] & False, kept[1:]])
    for specials, (_, single) in alone.items():
        found = encoder.isolated(crops, some, specials)
        assert difference(whole(found)[1], whole(single)[0]) < 1e-5
        assert found.patches[0].isnan().all()
        assert found.cls[0].isnan().all() != specials


def test_crops_in_another_order_give_the_same_in_that_order(mouths):
    encoder, crops, kept = mouths
    found = encoder.isolated(crops[::-1], kept[[1, 0]])
    assert difference(whole(found), whole(encoder.isolated(crops, kept)).flip(0)) < 1e-5


@pytest.mark.parametrize("specials", [True, False])
def test_a_patch_knows_where_it_stands(isolating, specials):
    """The same two pictures in two patches, and then in two others."""
    side, found = isolating.patch, []
    for places in ([(0, 0), (0, 1)], [(1, 4), (3, 2)]):
        image, kept = np.zeros((4 * side, 6 * side, 3), np.uint8), np.zeros((1, 4, 6), bool)
        for (row, column), tile in zip(places, crops_of(side, side, 2), strict=True):
            image[row * side :][:side, column * side :][:, :side] = tile.image
            kept[0, row, column] = True
        found.append(isolating.isolated([Crop(image, None, None)], kept, specials).patches[kept])
    assert difference(*found) > SMALL_MOVES


@given(st.lists(st.integers(0, 400), max_size=40), st.sampled_from([0, 1, 5]))
def test_who_travels_together_wastes_little_and_nobody_is_left_behind(counts, specials):
    batches = list(backbones._alike(counts, specials))
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == [row for row, count in enumerate(counts) if count + specials]
    for batch in batches:
        lengths = [counts[row] + specials for row in batch]
        padding = 1 - sum(lengths) / (max(lengths) * len(lengths))
        assert padding <= backbones.PADDING + 1e-9


def test_no_more_tokens_than_that_go_through_the_blocks(mouths):
    encoder, crops, kept = mouths
    every_other = np.arange(kept.shape[2]) % 2 == 0
    kept = np.concatenate([kept, kept & every_other, ~kept[:1]])
    went, first = [], encoder.model.get_submodule(encoder._kind.blocks)[0]

    def count(block, given):
        went.append(given[0].shape[0] * given[0].shape[1])

    hook = first.register_forward_pre_hook(count)
    encoder.isolated([*crops, *crops, crops[0]], kept)
    hook.remove()
    needed = kept.sum() + len(kept) * (1 + encoder.registers)
    assert needed <= sum(went) <= needed / (1 - backbones.PADDING)
    assert 1 < len(went) < len(kept)


@pytest.mark.parametrize("kind", ["Dinov2WithRegisters", "DINOv3ViT"])
def test_half_precision_is_as_tight(saved, portraits, kind, monkeypatch):
    full = backbones.load(saved / kind, "cpu")
    monkeypatch.setattr(devices, "dtype", lambda device: torch.bfloat16)
    half = backbones.load(saved / kind, "cpu")
    crops, maps = portraits
    kept = indexing.keep(maps, half.grid(crops), "mouth")
    kept[1, :8] = True  # so many that they travel alone, and the other two are padded
    changed = elsewhere(crops, kept, half.patch, "noise")
    before, after = (one_by_one(half, c, kept) for c in (crops, changed))
    assert all(map(torch.equal, map(bits, before), map(bits, after)))
    batch = half.isolated(crops, kept)
    assert batch.patches.dtype == torch.float32
    assert difference(whole(batch), whole(half.isolated(changed, kept))) < 1e-6
    for i, (one, exact) in enumerate(zip(before, one_by_one(full, crops, kept), strict=True)):
        assert difference(whole(batch)[i], whole(one)[0]) < 0.02
        assert 0 < difference(whole(one), whole(exact)) < 0.05


@pytest.mark.parametrize("kind", ["ViT", "ViTMSN", "CLIPVision"])
def test_a_family_that_was_not_tried_is_refused(saved, kind):
    encoder = backbones.load(saved / kind, "cpu")
    found = f"isolated encoding of a model of type {encoder.model.config.model_type}; expected one"
    with pytest.raises(UnsupportedModel, match=f"{found} of dinov2, .*, dinov3_vit.*contextual"):
        encoder.isolated(crops_of(16, 16), np.ones((1, 2, 2), bool))


def test_resizing_would_carry_pixels_over_the_border_and_is_refused(saved):
    encoder = backbones.load(saved / "DINOv3ViT", "cpu", Preprocessing(40))
    kept = np.ones((1, 5, 5), bool)
    assert encoder.isolated(crops_of(40, 40), kept).patches.isfinite().all()
    with pytest.raises(WrongCropSize, match=r"crop of 56 x 56 pixels for an input of 40; expected"):
        encoder.isolated(crops_of(56, 56), kept)


def test_the_grid_is_known_before_anything_is_encoded(saved):
    plain = backbones.load(saved / "DINOv3ViT", "cpu")
    resized = backbones.load(saved / "DINOv3ViT", "cpu", Preprocessing(40))
    for encoder, crops in ((plain, crops_of(24, 40)), (resized, crops_of(56, 56))):
        assert encoder.grid(crops) == encoder(crops).grid


# -- the control with random weights -------------------------------------------------------------


def test_the_random_backbone_is_always_the_same_and_never_trained(embedded):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, other = (backbones.load(backbones.RANDOM, "cpu") for _ in range(2))
    assert torch.equal(torch.rand(3), expected)  # nobody else's numbers are drawn
    assert one.digest == other.digest != embedded.digest
    crops = crops_of(56, 56)
    assert torch.equal(bits(one(crops)), bits(other(crops)))
    assert (one.patch, one.width, one.registers) == (14, 384, 0)
    shapes = [{n: w.shape for n, w in e.model.named_parameters()} for e in (one, embedded)]
    assert shapes[0] == shapes[1]
    assert difference(whole(one(crops)), whole(embedded(crops))) > 0.5


def test_the_random_backbone_sees_what_the_embedded_one_sees():
    with pytest.raises(WrongNormalisation, match=f"'clip' for {backbones.RANDOM}; .*'imagenet'"):
        backbones.load(backbones.RANDOM, "cpu", Preprocessing(normalisation="clip"))


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "nearest"), [(279, 280), (224 + 6, 224), (8, 14), (3, 14)])
def test_a_crop_that_patches_do_not_tile_names_the_nearest_size(embedded, side, nearest):
    with pytest.raises(WrongCropSize, match=f"{side} x {side}.*patches of 14.* {nearest}\\.$"):
        embedded(crops_of(side, side))


@pytest.mark.parametrize("side", [0, 44, 7])
def test_an_input_that_patches_do_not_tile_is_refused_before_any_crop(saved, side):
    with pytest.raises(WrongCropSize, match=f"input is {side} x {side} .* multiple of 8"):
        backbones.load(saved / "DINOv3ViT", "cpu", Preprocessing(side))


def test_an_oblong_crop_is_not_squeezed_into_a_square(saved):
    encoder = backbones.load(saved / "DINOv3ViT", "cpu", Preprocessing(40))
    with pytest.raises(WrongCropSize, match=r"the crop is 40 x 56 pixels.* would distort"):
        encoder(crops_of(56, 40))


@pytest.mark.parametrize(
    ("field", "value", "near"),
    [("resize", "bicubik", "bicubic"), ("normalisation", "image-net", "imagenet")],
)
def test_a_mistyped_decision_gets_a_suggestion(field, value, near):
    with pytest.raises(UnknownName, match=f"unknown {field} .* did you mean '{near}'"):
        Preprocessing(**{field: value})


def test_a_mistyped_name_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'dinov2-s'"):
        backbones.load("dinov2s")


@pytest.mark.parametrize("name", [*backbones.HUB, "nobody/no-such", "nobody/no-such@v2"])
def test_weights_that_are_not_here_fail_at_once_and_say_what_to_run(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(BackboneUnavailable) as caught:
        backbones.load(name)
    assert time.monotonic() - start < 15  # asking the hub without a network takes 23 s
    repository, _, revision = name.partition("@")
    if name in backbones.HUB:
        repository, revision = weights.hub(name)
        assert len(revision) == 40
    command = f"hf download {repository} --revision {revision}".removesuffix(" --revision ")
    found = str(caught.value)
    assert found.endswith(f"https://huggingface.co/{repository} and run: {command}")


def test_farls_file_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLIB_WEIGHTS", str(tmp_path))
    with pytest.raises(weights.WeightsMissing, match="FaRL-Base-Patch16"):
        backbones.load("farl-b", "cpu", Preprocessing(normalisation="clip"))


@pytest.fixture
def hub(saved, tmp_path, monkeypatch):
    """A local hub cache with a commit of one repository, as the hub's own client lays it out."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def add(repository, commit, branch=None):
        cached = tmp_path / ("models--" + repository.replace("/", "--"))
        shutil.copytree(saved / "DINOv3ViT", cached / "snapshots" / commit)
        if branch:
            (cached / "refs").mkdir()
            (cached / "refs" / branch).write_text(commit)
        return cached / "snapshots" / commit

    return add


def test_a_hub_id_is_read_from_the_local_cache_at_its_revision(saved, hub):
    commit = "0123456789" * 4
    hub("owner/model", commit, "main")
    plain = digest(saved / "DINOv3ViT")
    for name in ("owner/model", "owner/model@main", f"owner/model@{commit}"):
        assert digest(name) == plain
    with pytest.raises(BackboneUnavailable, match=r"hf download owner/model --revision v2$"):
        backbones.load("owner/model@v2")


def test_a_known_name_means_its_pinned_commit(saved, hub):
    repository, commit = weights.hub("dinov3-l")
    hub(repository, "f" * 40, "main")
    with pytest.raises(BackboneUnavailable, match=f"--revision {commit}$"):
        backbones.load("dinov3-l")
    hub(repository, commit)
    assert digest("dinov3-l") == digest(saved / "DINOv3ViT")


def test_a_half_downloaded_repository_is_refused(hub):
    folder = hub("owner/model", "f" * 40, "main")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackboneUnavailable, match="holds no whole model"):
        backbones.load("owner/model")


# -- normalisation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [("dinov2-s", "clip", "imagenet"), ("farl-b", "imagenet", "clip")],
)
def test_a_known_model_is_refused_another_normalisation(name, wrong, right):
    match = f"normalisation '{wrong}' for {name}; .*normalisation='{right}'"
    with pytest.raises(WrongNormalisation, match=match):
        backbones.load(name, "cpu", Preprocessing(normalisation=wrong))


def test_a_dinov3_of_the_hub_is_refused_another_normalisation(hub):
    hub(*weights.hub("dinov3-b"))
    with pytest.raises(WrongNormalisation, match=r"trained with mean \[0.485, 0.456, 0.406\]"):
        backbones.load("dinov3-b", "cpu", Preprocessing(normalisation="half"))


def states(mean, std):
    """What a model's own files say, in the layout of transformers and in timm's."""
    processor = {"image_mean": mean, "image_std": std}
    return {
        "preprocessor_config.json": processor,
        "config.json": {"pretrained_cfg": {"mean": mean, "std": std}},
    }


@pytest.mark.parametrize("file", ["preprocessor_config.json", "config.json"])
def test_a_models_own_files_overrule_the_recipe(saved, tmp_path, file):
    folder = tmp_path / "model"
    shutil.copytree(saved / "DINOv3ViT", folder)

    def write(mean, std):
        fields = states(mean, std)[file]
        if file == "config.json":
            change(folder, **fields)
        else:
            (folder / file).write_text(json.dumps(fields))

    write([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    backbones.load(folder, "cpu", Preprocessing(normalisation="half"))
    with pytest.raises(WrongNormalisation, match=r"'imagenet' .*expected \['half'\]"):
        backbones.load(folder, "cpu")
    write([0.43, 0.411, 0.296], [0.213, 0.156, 0.143])  # DINOv3 of satellite pictures
    with pytest.raises(WrongNormalisation, match=r"expected another.* mean \[0.43, .*Take another"):
        backbones.load(folder, "cpu")
    write(None, None)  # nothing stated: the recipe is trusted
    backbones.load(folder, "cpu", Preprocessing(normalisation="clip"))


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


def cut_processor(folder):
    (folder / "preprocessor_config.json").write_text("{")


def no_timm_weights(folder):
    no_weights(folder)
    change(folder, architecture="vit_small_patch16_dinov3")


def cut_timm_weights(folder):
    cut_weights(folder)
    change(folder, architecture="vit_small_patch16_dinov3")


@pytest.mark.parametrize("damage", [cut_processor, no_timm_weights, cut_timm_weights])
def test_a_damaged_dinov3_is_refused_by_name(saved, tmp_path, damage):
    folder = tmp_path / "model"
    shutil.copytree(saved / "DINOv3ViT", folder)
    damage(folder)
    with pytest.raises(BackboneUnavailable, match="holds no whole model") as caught:
        backbones.load(folder)
    assert str(folder) in str(caught.value)


TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


@pytest.mark.parametrize(
    ("kind", "options", "found"),
    [
        ("Bert", {**TINY, "vocab_size": 9, "intermediate_size": 8}, "of type bert"),
        ("Swin", {"embed_dim": 8, "depths": [1], "num_heads": [1]}, "of type swin"),  # no CLS
        ("DeiT", {**TINY, "image_size": 32}, "of type deit"),  # a second token for distillation
        ("ViTMAE", {**TINY, "image_size": 32}, "of type vit_mae"),  # drops and shuffles patches
        ("DINOv3ViT", {**TINY, "patch_size": [8, 16]}, r"its patch_size is \[8, 16\]"),
    ],
)
def test_a_transformer_with_other_tokens_is_refused(tmp_path, kind, options, found):
    devices.let_torchvision_import()
    import transformers

    config = getattr(transformers, f"{kind}Config")(**options)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match=f"{kind}Model is no plain .*{found}"):
        backbones.load(tmp_path, "cpu")
