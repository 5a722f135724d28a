"""Measures of heat maps against plain loops over every lot, and saliency against autograd."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seglib import backbones, devices, indexing, localisation, regions
from seglib.errors import UnknownName
from seglib.localisation import MapMismatch, WrongDirection


@st.composite
def masks_and_grids(draw):
    """A batch of masks and a grid that cuts them into (also oblong) patches."""
    batch, rows, columns = (draw(st.integers(1, top)) for top in (3, 4, 5))
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (batch, rows * height, columns * width)
    return rng.random(shape) < draw(st.floats(0, 1)), (rows, columns)


@st.composite
def maps(draw, rows=4, columns=5):
    """A batch of heat maps with many ties and gaps, forged shares, and areas."""
    shape = tuple(draw(st.integers(1, top)) for top in (3, rows, columns))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = [-np.inf, *range(-2, draw(st.integers(-1, 6)))]
    area = rng.integers(0, np.prod(shape[1:]) + 1, shape[0])
    return rng.choice(values, shape), rng.integers(0, 5, shape) / 4, area


def drawn(heat, share, area):
    """Hits expected over all lots and how many patches are taken, by drawing every lot there is."""
    hits = []
    places = [place for place in np.ndindex(heat.shape) if heat[place] > -np.inf]
    for lot in permutations(places):
        taken = sorted(lot, key=lambda place: -heat[place])[:area]  # sorted is stable
        hits.append(sum(share[place] for place in taken))
    return np.mean(hits), min(area, len(places))


# -- what was forged ---------------------------------------------------------------------------


@given(masks_and_grids())
def test_forged_shares_equal_a_plain_loop(cut):
    masks, (rows, columns) = cut
    share = localisation.forged_share(masks, (rows, columns))
    height, width = masks.shape[1] // rows, masks.shape[2] // columns
    assert share.shape == (len(masks), rows, columns)
    for b, i, j in np.ndindex(share.shape):
        patch = masks[b, i * height : (i + 1) * height, j * width : (j + 1) * width]
        assert share[b, i, j] == patch.sum() / patch.size


def test_a_mask_that_the_grid_does_not_cut_is_refused():
    with pytest.raises(indexing.GridMismatch, match=r"30 x 28 pixels .* 4 x 2 patches"):
        localisation.forged_share(np.zeros((1, 28, 30), bool), (2, 4))


# -- heat of parts -----------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1))
def test_a_patch_has_the_score_of_its_part(seed):
    rng = np.random.default_rng(seed)
    parts = ("mouth", "eyes", "nose")
    labels = rng.integers(0, len(regions.LABELS), (2, 3, 4)).astype(np.uint8)
    scores = rng.normal(size=(2, 3))
    scores[rng.random((2, 3)) < 0.3] = np.nan
    heat = localisation.part_heat(scores, parts, labels)
    for b, i, j in np.ndindex(labels.shape):
        own = [k for k, part in enumerate(parts) if labels[b, i, j] in regions.part_ids(part)]
        score = scores[b, own[0]] if own else np.nan
        assert heat[b, i, j] == (-np.inf if np.isnan(score) else score)


@pytest.mark.parametrize("scores", [(1.0, 3.0), (3.0, 1.0)])
def test_a_patch_of_two_parts_has_the_higher_score(scores):
    labels = np.full((1, 1, 1), regions.label_id("nose"), np.uint8)
    heat = localisation.part_heat(np.array([scores]), ("nose", "face"), labels)
    assert heat.item() == 3
    heat = localisation.part_heat(np.array([[np.nan, 2.0]]), ("nose", "face"), labels)
    assert heat.item() == 2


def test_scores_of_other_pictures_or_parts_are_refused_with_their_shape():
    labels = np.zeros((2, 3, 3), np.uint8)
    with pytest.raises(MapMismatch, match=r"\(3, 1\) for 2 label maps and 1 parts"):
        localisation.part_heat(np.zeros((3, 1)), ("mouth",), labels)
    with pytest.raises(MapMismatch, match=r"\(2, 1\) for 2 label maps and 2 parts"):
        localisation.part_heat(np.zeros((2, 1)), ("mouth", "nose"), labels)
    with pytest.raises(UnknownName, match="did you mean 'mouth'"):
        localisation.part_heat(np.zeros((2, 1)), ("mout",), labels)


# -- pointing and overlap ----------------------------------------------------------------------


@given(maps(rows=2, columns=3))
def test_pointing_is_the_mean_over_all_lots(case):
    heat, share, _ = case
    found = localisation.pointing(heat, share)
    for one, hot, forged in zip(found, heat, share, strict=True):
        expected, taken = drawn(hot, forged, 1)
        assert one == pytest.approx(expected if taken else np.nan, nan_ok=True)


@given(maps(rows=2, columns=3))
def test_overlap_is_that_of_the_mean_intersection_over_all_lots(case):
    heat, share, area = case
    found = localisation.overlap(heat, share, area)
    for one, hot, forged, patches in zip(found, heat, share, area, strict=True):
        hit, taken = drawn(hot, forged, patches)
        expected = hit / (taken + forged.sum() - hit) if taken else np.nan
        assert one == pytest.approx(expected, nan_ok=True)


@given(masks_and_grids(), st.integers(0, 2**32 - 1))
def test_without_ties_overlap_is_that_of_the_pixels(cut, seed):
    masks, (rows, columns) = cut
    share = localisation.forged_share(masks, (rows, columns))
    rng = np.random.default_rng(seed)
    heat = rng.permuted(np.arange(share.size, dtype=float)).reshape(share.shape)
    area = rng.integers(1, rows * columns + 1, len(masks))
    found = localisation.overlap(heat, share, area)
    for one, hot, mask, patches in zip(found, heat, masks, area, strict=True):
        taken = hot >= np.sort(hot.ravel())[-patches]
        height, width = mask.shape[0] // rows, mask.shape[1] // columns
        painted = taken.repeat(height, 0).repeat(width, 1)
        assert one == pytest.approx((painted & mask).sum() / (painted | mask).sum())


@given(maps())
def test_measures_are_shares_wherever_a_patch_has_a_number(case):
    heat, share, area = case
    something = (heat > -np.inf).any((1, 2))
    for found, there in (
        (localisation.pointing(heat, share), something),
        (localisation.overlap(heat, share, area), something & (area > 0)),
    ):
        np.testing.assert_array_equal(np.isnan(found), ~there)
        assert (found[there] >= 0).all()
        assert (found[there] <= 1 + 1e-12).all()


@given(maps())
def test_the_forged_region_as_its_own_map_is_found_in_full(case):
    _, share, _ = case
    share = (share > 0.5).astype(float)
    area = share.sum((1, 2)).astype(int)
    forged = area > 0
    np.testing.assert_array_equal(localisation.overlap(share, share, area)[forged], 1)
    np.testing.assert_allclose(localisation.pointing(share, share)[forged], 1)
    np.testing.assert_allclose(localisation.pointing(-share, share), area == share[0].size)


@given(maps(), st.integers(0, 2**32 - 1))
def test_the_order_of_patches_and_the_scale_of_heat_decide_nothing(case, seed):
    heat, share, area = case
    order = np.random.default_rng(seed).permutation(share[0].size)
    shape = share.shape
    moved = [one.reshape(len(one), -1)[:, order].reshape(shape) for one in (heat, share)]
    for measure in (localisation.pointing, lambda *given: localisation.overlap(*given, area)):
        expected = measure(heat, share)
        np.testing.assert_allclose(measure(*moved), expected, atol=1e-12)
        np.testing.assert_array_equal(measure(heat**3 + 7, share), expected)


def test_a_patch_that_is_nan_is_never_pointed_at():
    heat = np.array([[[np.nan, 2.0, 1.0, np.nan]]])
    share = np.array([[[1.0, 0.0, 0.5, 1.0]]])
    assert localisation.pointing(heat, share) == 0
    for area in (2, 3, 4):  # there are no more than two to take
        assert localisation.overlap(heat, share, np.array([area])) == 0.5 / (2 + 2.5 - 0.5)


def test_a_map_without_a_number_scores_nan_in_its_own_row_only():
    heat = np.stack([np.full((2, 2), -np.inf), np.eye(2), np.full((2, 2), np.nan)])
    share = np.stack([np.eye(2)] * 3)
    found = localisation.pointing(heat, share), localisation.overlap(heat, share, np.full(3, 2))
    np.testing.assert_array_equal(found, [[np.nan, 1, np.nan]] * 2)


def test_maps_of_another_grid_or_batch_are_refused_with_all_shapes():
    heat, share, area = np.zeros((2, 3, 3)), np.zeros((2, 3, 4)), np.ones(2, int)
    with pytest.raises(MapMismatch, match=r"\(2, 3, 3\), .* \(2, 3, 4\)"):
        localisation.pointing(heat, share)
    with pytest.raises(MapMismatch, match=r"areas of \(1,\)"):
        localisation.overlap(heat, heat, area[:1])


# -- chance ------------------------------------------------------------------------------------


@given(maps(), st.floats(-100, 100))
def test_a_flat_map_points_at_the_mean_share_of_its_patches(case, level):
    heat, share, area = case
    within = heat > -np.inf
    flat = np.where(within, level, -np.inf)
    pointing, overlap = localisation.pointing(flat, share), localisation.overlap(flat, share, area)
    for i, inside in enumerate(within):
        mean, taken = (
            share[i][inside].mean() if inside.any() else np.nan,
            min(area[i], inside.sum()),
        )
        assert pointing[i] == pytest.approx(mean, nan_ok=True)
        hit = taken * mean if taken else np.nan
        expected = hit / (taken + share[i].sum() - hit)
        assert overlap[i] == pytest.approx(expected, nan_ok=True)


def test_a_flat_map_scores_what_random_maps_do_in_the_mean():
    rng = np.random.default_rng(0)
    within, share = np.zeros((2, 8, 8), bool), np.zeros((2, 8, 8))
    within[:, 1:7, 1:6], share[0, 4:7, 2:5], share[1, 0:3, 2:4] = True, 0.75, 1
    area = np.array([9, 6])
    heat = np.where(within[:, None], rng.random((2, 4000, 8, 8)), -np.inf)
    flat = np.where(within, 0.0, -np.inf)
    pointing, overlap = localisation.pointing(flat, share), localisation.overlap(flat, share, area)
    for row in range(2):
        forged, patches = np.stack([share[row]] * 4000), np.full(4000, area[row])
        hits = localisation.pointing(heat[row], forged)
        assert hits.mean() == pytest.approx(pointing[row], abs=4 * hits.std() / 4000**0.5)
        overlaps = localisation.overlap(heat[row], forged, patches)
        assert 0 < overlaps.mean() - overlap[row] < 0.01  # the mean ratio, the ratio of means


# -- the named part ----------------------------------------------------------------------------


def test_the_highest_score_names_the_part_and_ties_share():
    scores = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [3.0, 3.0, 1.0], [5.0, 5.0, 5.0]])
    found = localisation.named(scores, np.array([1, 0, 0, 2]))
    np.testing.assert_array_equal(found, [1, 0, 1 / 2, 1 / 3])


def test_no_part_is_named_where_one_abstained():
    scores = np.array([[np.nan, 2.0], [2.0, np.nan], [np.nan, np.nan], [0.0, 1.0]])
    found = localisation.named(scores, np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, 1])


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_each_picture_names_one_part_in_all(parts, pictures, seed):
    scores = np.random.default_rng(seed).integers(0, 3, (pictures, parts)).astype(float)
    each = [localisation.named(scores, np.full(pictures, part)) for part in range(parts)]
    np.testing.assert_allclose(sum(each), 1)


@pytest.mark.parametrize("forged", [[0, -1], [0, 2], [0], [0, 1, 1]])
def test_a_forged_part_that_has_no_score_is_refused(forged):
    with pytest.raises(MapMismatch, match=r"from 0 to 1") as caught:
        localisation.named(np.zeros((2, 2)), np.array(forged))
    assert str(sorted(set(forged))) in str(caught.value)


# -- saliency ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["Dinov2", "Dinov2WithRegisters"])
def encoder(request):
    """A small random transformer of the real class, in double precision for the differences."""
    devices.let_torchvision_import()
    import transformers

    torch.manual_seed(0)
    options = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    options |= {"patch_size": 4, "image_size": 16}
    config = getattr(transformers, f"{request.param}Config")(**options)
    model = getattr(transformers, f"{request.param}Model")(config)
    for weight in model.parameters():  # registers and CLS begin as zeros or nearly
        torch.nn.init.normal_(weight, std=0.2)
    encoder = backbones.Encoder(model, "cpu")
    encoder.model.double()
    return encoder


@pytest.fixture(scope="module")
def looked_at():
    """Two pictures of 2 x 3 patches, and a direction."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(2, 3, 8, 12))), rng.normal(size=16)


def by_hand(encoder, pixels, direction):
    """The logits, one a picture, from the tokens of `transformers` itself."""
    hidden = encoder.model(pixel_values=pixels).last_hidden_state
    return hidden[:, -6:].mean(1) @ torch.from_numpy(direction)  # patches are the last


def summed(slopes):
    """``(B, 3, 8, 12)`` -> ``(B, 2, 3)``: over channels and pixels of each patch of 4."""
    return slopes.abs().reshape(-1, 3, 2, 4, 3, 4).sum((1, 3, 5)).numpy()


def test_saliency_is_the_gradient_that_autograd_takes(encoder, looked_at):
    pixels, direction = looked_at
    inputs = pixels.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(by_hand(encoder, inputs, direction).sum(), inputs)
    found = localisation.saliency(encoder, pixels, direction)
    assert found.shape == (2, 2, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, summed(slopes), rtol=1e-5)
    assert not pixels.requires_grad


def test_saliency_is_what_small_steps_of_each_pixel_do(encoder, looked_at):
    pixels, direction = looked_at
    step = 1e-5 * torch.eye(pixels[0].numel(), dtype=torch.float64).reshape(-1, *pixels.shape[1:])
    with torch.inference_mode():
        slopes = [
            by_hand(encoder, one + step, direction) - by_hand(encoder, one - step, direction)
            for one in pixels
        ]
    slopes = torch.stack(slopes).reshape(pixels.shape) / 2e-5
    found = localisation.saliency(encoder, pixels, direction)
    np.testing.assert_allclose(found, summed(slopes), rtol=1e-5)


def test_saliency_of_a_batch_is_that_of_each_picture(encoder, looked_at):
    pixels, direction = looked_at
    found = localisation.saliency(encoder, pixels, direction)
    for one, picture in zip(found, pixels, strict=True):
        np.testing.assert_allclose(
            localisation.saliency(encoder, picture[None], direction)[0], one, rtol=1e-5
        )


def test_saliency_grows_with_the_probe_and_ignores_its_sign(encoder, looked_at):
    pixels, direction = looked_at
    found = localisation.saliency(encoder, pixels, direction)
    np.testing.assert_allclose(
        localisation.saliency(encoder, pixels, -3 * direction), 3 * found, rtol=1e-5
    )


def test_a_probe_of_other_descriptors_has_no_saliency_here(encoder, looked_at):
    with pytest.raises(WrongDirection, match=r"\(32,\) for tokens of width 16"):
        localisation.saliency(encoder, looked_at[0], np.zeros(32))
