"""Patch labels against the plainest of loops, and sums that add up."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seglib import indexing, regions
from seglib.errors import UnknownName

SINGLE_PARTS = ("mouth", "eyes", "brows", "nose", "skin")  # disjoint; two labels are in none


@st.composite
def cut_maps(draw):
    """A batch of label maps and a grid that cuts it into (also oblong) patches.

    Few labels a map, so that ties are frequent.
    """
    batch, rows, columns = (draw(st.integers(1, top)) for top in (2, 4, 5))
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    names = draw(st.lists(st.integers(0, len(regions.LABELS) - 1), min_size=1, max_size=4))
    seed = draw(st.integers(0, 2**32 - 1))
    shape = (batch, rows * height, columns * width)
    return np.random.default_rng(seed).choice(names, shape).astype(np.uint8), (rows, columns)


def pixels_of_patches(label_maps, grid):
    """Yield the place of each patch and the labels of its pixels, by three plain loops."""
    height, width = label_maps.shape[1] // grid[0], label_maps.shape[2] // grid[1]
    for b in range(len(label_maps)):
        for i in range(grid[0]):
            for j in range(grid[1]):
                patch = label_maps[b, i * height : (i + 1) * height, j * width : (j + 1) * width]
                yield (b, i, j), patch.ravel().tolist()


# -- patch labels ------------------------------------------------------------------------------


@given(cut_maps())
def test_patch_labels_equal_a_plain_triple_loop(cut):
    label_maps, grid = cut
    found = indexing.patch_labels(label_maps, grid)
    assert found.shape == (len(label_maps), *grid)
    assert found.dtype == np.uint8
    for place, pixels in pixels_of_patches(label_maps, grid):
        most = max(Counter(pixels).values())
        assert found[place] == min(i for i in set(pixels) if pixels.count(i) == most)


@given(cut_maps())
def test_label_counts_equal_a_plain_count(cut):
    counts = indexing.label_counts(*cut)
    for place, pixels in pixels_of_patches(*cut):
        assert counts[place].tolist() == [pixels.count(i) for i in range(len(regions.LABELS))]


def test_a_tie_goes_to_the_lower_label():
    nose, mouth = regions.label_id("nose"), regions.label_id("ulip")
    label_map = np.array([[[mouth, nose], [nose, mouth]]], np.uint8)
    assert indexing.patch_labels(label_map, (1, 1)).item() == min(nose, mouth)


# -- keep --------------------------------------------------------------------------------------


@given(cut_maps(), st.sampled_from(sorted(regions.PARTS)), st.data())
def test_keep_equals_a_plain_loop_under_every_rule(cut, part, data):
    share = data.draw(st.sampled_from([0, 0.25, 0.5, 2 / 3]) | st.floats(0, 1, exclude_max=True))
    ids = regions.part_ids(part)
    labels = indexing.patch_labels(*cut)
    kept = {rule: indexing.keep(*cut, part, rule) for rule in ("largest", "touched", share)}
    for place, pixels in pixels_of_patches(*cut):
        inside = sum(pixel in ids for pixel in pixels)
        assert kept["largest"][place] == (labels[place] in ids)
        assert kept["touched"][place] == (inside > 0)
        assert kept[share][place] == (inside / len(pixels) > share)


@given(cut_maps())
def test_single_parts_never_share_a_patch_under_the_largest_rule(cut):
    kept = sum(indexing.keep(*cut, part).astype(int) for part in SINGLE_PARTS)
    assert kept.max() <= 1
    assert indexing.keep(*cut, "all").all()


@pytest.mark.parametrize(("rule", "hint"), [("touch", "'touched'"), (1, "share"), (-0.1, "share")])
def test_an_unknown_rule_is_refused(rule, hint):
    with pytest.raises(UnknownName, match="unknown patch rule") as caught:
        indexing.keep(np.zeros((1, 4, 4), np.uint8), (2, 2), "mouth", rule)
    assert hint in str(caught.value)


def test_an_unknown_part_is_refused():
    with pytest.raises(UnknownName, match="did you mean 'mouth'"):
        indexing.keep(np.zeros((1, 4, 4), np.uint8), (2, 2), "mout")


# -- pool and sums -----------------------------------------------------------------------------


@st.composite
def labelled_tokens(draw, whole=True):
    """Tokens with patch labels; whole numbers make every float addition exact."""
    batch, rows, columns, width = (draw(st.integers(1, top)) for top in (3, 5, 5, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (batch, rows, columns, width)
    tokens = rng.integers(-1000, 1000, shape) if whole else rng.normal(size=shape)
    labels = rng.integers(0, draw(st.integers(1, len(regions.LABELS))), shape[:3]).astype(np.uint8)
    return torch.from_numpy(tokens.astype(np.float32)), labels


@given(labelled_tokens())
def test_sums_of_disjoint_parts_add_up_exactly(labelled):
    tokens, labels = labelled
    sums, counts = indexing.label_sums(tokens, labels)
    np.testing.assert_array_equal(sums.sum(1), tokens.sum((1, 2)).numpy())
    assert (counts.sum(1) == labels[0].size).all()
    for label in range(len(regions.LABELS)):
        inside = torch.from_numpy(labels == label)
        expected = (tokens * inside[..., None]).sum((1, 2)).numpy()
        np.testing.assert_array_equal(sums[:, label], expected)
        np.testing.assert_array_equal(counts[:, label], inside.sum((1, 2)).numpy())


@given(labelled_tokens(), st.sampled_from(sorted(regions.PARTS)))
def test_a_part_recombined_from_sums_equals_pooling_its_tokens(labelled, part):
    tokens, labels = labelled
    kept = np.isin(labels, regions.part_ids(part))
    pooled, counts = indexing.pool(tokens, kept)
    from_sums, same_counts = indexing.part_mean(*indexing.label_sums(tokens, labels), part)
    np.testing.assert_array_equal(pooled, from_sums)
    np.testing.assert_array_equal(counts, same_counts)
    for row, own, inside in zip(pooled, tokens.numpy(), kept, strict=True):
        if inside.any():
            np.testing.assert_allclose(row, own[inside].mean(0, dtype=float), rtol=1e-6, atol=1e-6)


@given(labelled_tokens(whole=False))
def test_random_floats_add_up_to_rounding(labelled):
    tokens, labels = labelled
    sums, counts = indexing.label_sums(tokens, labels)
    np.testing.assert_allclose(sums.sum(1), tokens.sum((1, 2)).numpy(), atol=1e-5)
    mean, _ = indexing.part_mean(sums, counts, "all")
    np.testing.assert_allclose(mean, tokens.mean((1, 2)).numpy(), atol=1e-5)


def test_no_kept_token_is_a_missing_value_in_its_own_row_only():
    tokens = torch.ones(2, 3, 3, 4)
    kept = np.zeros((2, 3, 3), bool)
    kept[1, 0, :2] = True
    descriptors, counts = indexing.pool(tokens, kept)
    assert counts.tolist() == [0, 2]
    assert np.isnan(descriptors[0]).all()
    assert (descriptors[1] == 1).all()
    assert descriptors.dtype == np.float32


def test_half_precision_tokens_are_counted_and_summed_in_full():
    tokens = torch.ones(1, 28, 28, 2, dtype=torch.bfloat16)  # 784 is no bfloat16 number
    sums, counts = indexing.label_sums(tokens, np.zeros((1, 28, 28), np.uint8))
    assert counts[0, 0] == 784
    assert (sums[0, 0] == 784).all()


@given(labelled_tokens(), st.integers(0, 2**32 - 1))
def test_shuffling_keeps_how_many_patches_each_label_has(labelled, seed):
    _, labels = labelled
    moved = indexing.shuffled(labels, np.random.default_rng(seed))
    assert moved.shape == labels.shape
    np.testing.assert_array_equal(
        np.sort(moved.reshape(len(labels), -1)), np.sort(labels.reshape(len(labels), -1))
    )
    np.testing.assert_array_equal(moved, indexing.shuffled(labels, np.random.default_rng(seed)))


def test_shuffling_moves_labels_anywhere_and_differently_in_each_picture():
    labels = np.zeros((400, 4, 4), np.uint8)
    labels[:, 0, 0] = 1
    moved = indexing.shuffled(labels, np.random.default_rng(0))
    # 16 places for one label in 400 pictures: 25 expected on each, and 5 deviations of room.
    assert moved.sum(0).min() > 0
    assert moved.sum(0).max() < 50


# -- shapes that do not fit --------------------------------------------------------------------


def test_a_map_that_the_grid_does_not_cut_is_refused_with_both_sizes():
    with pytest.raises(indexing.GridMismatch, match=r"30 x 28 pixels .* 4 x 2 patches"):
        indexing.patch_labels(np.zeros((1, 28, 30), np.uint8), (2, 4))


def test_a_label_beyond_lapa_is_refused_with_its_number():
    label_map = np.zeros((1, 4, 4), np.uint8)
    label_map[0, 1, 1] = 18  # hair in CelebAMask
    with pytest.raises(indexing.GridMismatch, match=r"label 18 .* 0 to 10"):
        indexing.patch_labels(label_map, (2, 2))


def test_tokens_of_another_grid_are_refused_with_both_shapes():
    with pytest.raises(indexing.GridMismatch, match=r"\(1, 4, 4, 8\).*\(1, 4, 5\)"):
        indexing.label_sums(torch.zeros(1, 4, 4, 8), np.zeros((1, 4, 5), np.uint8))
