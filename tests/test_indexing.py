"""Patch labels against the plainest of loops, and pools that recombine."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from seglib import indexing, recipe, regions
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
    kept = {rule: indexing.keep(*cut, part, rule) for rule in ("largest", "touched", share, "box")}
    for place, pixels in pixels_of_patches(*cut):
        inside = sum(pixel in ids for pixel in pixels)
        assert kept["largest"][place] == (labels[place] in ids)
        assert kept["touched"][place] == (inside > 0)
        assert kept[share][place] == (inside / len(pixels) > share)
        assert kept["box"][place] == within(kept["largest"][place[0]], *place[1:])


def within(own, row, column):
    """Whether a place lies between the first and the last of those rows and columns."""
    rows, columns = own.nonzero()
    if not len(rows):
        return False
    return rows.min() <= row <= rows.max() and columns.min() <= column <= columns.max()


@given(cut_maps(), st.sampled_from(sorted(regions.PARTS)))
def test_a_box_is_a_rectangle_around_all_that_it_is_drawn_around(cut, part):
    own, box = (indexing.keep(*cut, part, rule) for rule in ("largest", "box"))
    assert not (own & ~box).any()
    np.testing.assert_array_equal(box, box.any(2)[:, :, None] & box.any(1)[:, None, :])
    for lines in (box.any(1), box.any(2)):  # without a gap
        assert (np.abs(np.diff(lines.astype(int), prepend=0, append=0)).sum(1) <= 2).all()
    np.testing.assert_array_equal(box.any((1, 2)), own.any((1, 2)))  # around nothing is nothing
    # Drawn around itself it stays as it is.
    again = np.where(box, regions.part_ids(part)[0], 0).astype(np.uint8)
    if 0 not in regions.part_ids(part):
        np.testing.assert_array_equal(indexing.keep(again, cut[1], part, "box"), box)


@given(cut_maps())
def test_single_parts_never_share_a_patch_under_the_largest_rule(cut):
    kept = sum(indexing.keep(*cut, part).astype(int) for part in SINGLE_PARTS)
    assert kept.max() <= 1
    assert indexing.keep(*cut, "all").all()


@pytest.mark.parametrize(
    ("rule", "hint"), [("touch", "'touched'"), (1, "share"), (-0.1, "share"), ("Box", "'box'")]
)
def test_an_unknown_rule_is_refused(rule, hint):
    with pytest.raises(UnknownName, match="unknown patch rule") as caught:
        indexing.keep(np.zeros((1, 4, 4), np.uint8), (2, 2), "mouth", rule)
    assert hint in str(caught.value)


def test_an_unknown_part_is_refused():
    with pytest.raises(UnknownName, match="did you mean 'mouth'"):
        indexing.keep(np.zeros((1, 4, 4), np.uint8), (2, 2), "mout")


# -- pools -------------------------------------------------------------------------------------

POOLINGS = recipe.CHOICES["pooling"]


def plainly(tokens, pooling):
    """Some tokens ``(n, D)`` as one descriptor, as numpy has it, in double precision."""
    tokens = tokens.astype(float)
    if pooling == "max":
        return tokens.max(0)
    mean = tokens.mean(0)
    return mean if pooling == "mean" else np.concatenate([mean, tokens.std(0)])


def nearly(found, expected, tokens, pooling):
    """Equal up to what float32 loses in the sum of squares, of which the deviation is a rest."""
    if pooling != "mean+std":
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        return
    (mean, std), (true_mean, true_std) = np.split(found, 2), np.split(expected, 2)
    np.testing.assert_allclose(mean, true_mean, rtol=1e-5, atol=1e-5)
    square = (tokens.astype(float) ** 2).mean(0)
    assert (np.abs(std**2 - true_std**2) <= 2e-6 * square + 1e-12).all()


@st.composite
def labelled_tokens(draw, whole=True):
    """Tokens with patch labels; whole numbers make every float addition exact."""
    batch, rows, columns, width = (draw(st.integers(1, top)) for top in (3, 5, 5, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (batch, rows, columns, width)
    tokens = rng.integers(-1000, 1000, shape) if whole else rng.normal(size=shape)
    labels = rng.integers(0, draw(st.integers(1, len(regions.LABELS))), shape[:3]).astype(np.uint8)
    return torch.from_numpy(tokens.astype(np.float32)), labels


@given(labelled_tokens(whole=False), st.sampled_from(POOLINGS), st.integers(0, 9))
@example((torch.ones(1, 1, 1, 1), np.zeros((1, 1, 1), np.uint8)), "max", 0)
def test_pooling_is_what_numpy_says_of_the_kept_tokens(labelled, pooling, seed):
    tokens, labels = labelled
    kept = np.random.default_rng(seed).random(labels.shape) < 0.5
    pooled, counts = indexing.pool(tokens, kept, pooling)
    assert pooled.dtype == np.float32
    assert counts.tolist() == kept.sum((1, 2)).tolist()
    for row, own, inside in zip(pooled, tokens.numpy(), kept, strict=True):
        if inside.any():
            nearly(row, plainly(own[inside], pooling), own[inside], pooling)
        else:
            assert np.isnan(row).all()


@given(labelled_tokens())
def test_sums_of_disjoint_sets_add_up_exactly(labelled):
    tokens, labels = labelled
    sums, counts = indexing.partial_pools(tokens, indexing.by_label(labels))
    np.testing.assert_array_equal(sums.sum(1), tokens.sum((1, 2)).numpy())
    assert (counts.sum(1) == labels[0].size).all()
    for label in range(len(regions.LABELS)):
        inside = torch.from_numpy(labels == label)
        expected = (tokens * inside[..., None]).sum((1, 2)).numpy()
        np.testing.assert_array_equal(sums[:, label], expected)
        np.testing.assert_array_equal(counts[:, label], inside.sum((1, 2)).numpy())


@given(labelled_tokens(), st.sampled_from(sorted(regions.PARTS)), st.sampled_from(POOLINGS))
@example((torch.ones(1, 1, 1, 1), np.zeros((1, 1, 1), np.uint8)), "nose", "max")
def test_any_union_of_sets_recombines_exactly(labelled, part, pooling):
    """To the bit, since whole numbers are added; rounding is another test's matter."""
    tokens, labels = labelled
    ids = list(regions.part_ids(part))
    pools, counts = indexing.partial_pools(tokens, indexing.by_label(labels), pooling)
    found = indexing.combined(pools[:, ids], counts[:, ids], pooling)
    expected = indexing.pool(tokens, np.isin(labels, ids), pooling)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@given(labelled_tokens(whole=False), st.sampled_from(POOLINGS))
def test_random_floats_recombine_to_rounding(labelled, pooling):
    tokens, labels = labelled
    pools = indexing.partial_pools(tokens, indexing.by_label(labels), pooling)
    found, _ = indexing.combined(*pools, pooling)
    for row, own in zip(found, tokens.flatten(1, 2).numpy(), strict=True):
        nearly(row, plainly(own, pooling), own, pooling)


@given(labelled_tokens())
def test_labels_are_disjoint_sets_that_leave_nothing_out(labelled):
    _, labels = labelled
    members = indexing.by_label(labels)
    assert members.shape == (len(labels), len(regions.LABELS), *labels.shape[1:])
    assert (members.sum(1) == 1).all()
    np.testing.assert_array_equal(members.argmax(1), labels)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean+std"])
def test_one_token_is_its_own_mean_and_maximum_and_deviates_by_nothing(pooling):
    tokens = torch.tensor([3.3, -12.7, 1e-3, 100.0]).expand(1, 2, 2, 4)
    kept = np.zeros((1, 2, 2), bool)
    kept[0, 1, 0] = True
    pooled, _ = indexing.pool(tokens, kept, pooling)
    np.testing.assert_allclose(pooled[0, :4], tokens[0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(pooled[0, 4:], 0, atol=1e-3)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_kept_token_is_a_missing_value_in_its_own_row_only(pooling):
    tokens = torch.ones(2, 3, 3, 4)
    kept = np.zeros((2, 3, 3), bool)
    kept[1, 0, :2] = True
    descriptors, counts = indexing.pool(tokens, kept, pooling)
    assert counts.tolist() == [0, 2]
    assert np.isnan(descriptors[0]).all()
    assert (descriptors[1, :4] == 1).all()
    assert descriptors.dtype == np.float32
    nowhere, counts = indexing.pool(tokens, kept & False, pooling)
    assert nowhere.shape == descriptors.shape
    assert np.isnan(nowhere).all()
    assert not counts.any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_belongs_to_no_set_may_be_nan(pooling):
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.normal(size=(2, 4, 4, 3)).astype(np.float32))
    labels = rng.integers(0, 3, (2, 4, 4))
    members = indexing.by_label(labels)[:, 1:3]  # without the background
    holes = torch.where(torch.from_numpy(labels == 0)[..., None], torch.nan, tokens)
    clean = indexing.partial_pools(tokens, members, pooling)
    for one, other in zip(indexing.partial_pools(holes, members, pooling), clean, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "pooling",
    [
        "mean",
        "max",
        "mean+std",
    ],
)
def test_a_nan_inside_a_set_is_not_swallowed(pooling):
    tokens = torch.ones(1, 2, 2, 3)
    tokens[0, 0, 0, 1] = torch.nan
    members = np.zeros((1, 3, 2, 2), bool)
    members[0, 0, 0, 0] = members[0, 1, 1, 1] = True  # and a third set that is empty
    pools, counts = indexing.partial_pools(tokens, members, pooling)
    assert np.isnan(pools[0, 0, 1])
    assert pools[0, 0, 0] == 1
    both, _ = indexing.combined(pools, counts, pooling)
    assert np.isnan(both[0, 1])
    assert np.isfinite(both[0, [0, 2]]).all()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(
    "view",
    [
        lambda tokens: tokens[:, 5:].unflatten(1, (4, 4)),  # behind CLS and registers
        lambda tokens: tokens[:1, :16].unflatten(1, (4, 4)).expand(3, -1, -1, -1),
        lambda tokens: tokens[:, :20].unflatten(1, (4, 5))[:, :, 1:],
        lambda tokens: tokens[:, :16].unflatten(1, (4, 4))[..., 1:],
        lambda tokens: tokens[:, 5:].unflatten(1, (4, 4)).transpose(1, 2),
        lambda tokens: tokens[:0, 5:].unflatten(1, (4, 4)),
    ],
    ids=["behind specials", "one crop for all", "fewer columns", "narrower", "turned", "none"],
)
def test_a_view_is_pooled_like_its_copy(view, pooling):
    rng = np.random.default_rng(0)
    tokens = view(torch.from_numpy(rng.normal(size=(3, 21, 6)).astype(np.float32)))
    members = rng.random((len(tokens), 2, 4, 4)) < 0.5
    found = indexing.partial_pools(tokens, members, pooling)
    expected = indexing.partial_pools(tokens.clone().contiguous(), members, pooling)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    width = tokens.shape[-1] * (2 if pooling == "mean+std" else 1)
    assert found[0].shape == (len(tokens), 2, width)


def test_half_precision_tokens_are_squared_in_full():
    token = torch.full((1, 1, 1, 1), 1.0078125, dtype=torch.bfloat16)  # its square is none
    pools, _ = indexing.partial_pools(token, np.ones((1, 1, 1, 1), bool), "mean+std")
    assert pools[0, 0].tolist() == [1.0078125, 1.0078125**2]


def test_half_precision_tokens_are_counted_and_summed_in_full():
    tokens = torch.ones(1, 28, 28, 2, dtype=torch.bfloat16)  # 784 is no bfloat16 number
    sums, counts = indexing.partial_pools(tokens, np.ones((1, 1, 28, 28), bool))
    assert counts[0, 0] == 784
    assert (sums[0, 0] == 784).all()


def test_an_unknown_pooling_gets_a_suggestion():
    with pytest.raises(UnknownName, match="unknown pooling 'mena'; did you mean 'mean'"):
        indexing.pool(torch.ones(1, 2, 2, 3), np.ones((1, 2, 2), bool), "mena")


# -- the control for where ---------------------------------------------------------------------


@given(labelled_tokens(), st.integers(0, 2**32 - 1))
def test_shuffling_keeps_how_many_patches_each_set_has_and_that_none_is_shared(labelled, seed):
    _, labels = labelled
    members = indexing.by_label(labels)[:, 1:]
    moved = indexing.shuffled(members, np.random.default_rng(seed))
    assert moved.shape == members.shape
    assert moved.dtype == bool
    np.testing.assert_array_equal(moved.sum((2, 3)), members.sum((2, 3)))
    assert moved.sum(1).max() <= 1
    np.testing.assert_array_equal(moved, indexing.shuffled(members, np.random.default_rng(seed)))


def test_shuffling_moves_sets_anywhere_and_differently_in_each_picture():
    members = np.zeros((400, 2, 4, 4), bool)
    members[:, 0, 0, 0] = members[:, 1, 3, 3] = True
    moved = indexing.shuffled(members, np.random.default_rng(0))
    # 16 places for one patch in 400 pictures: 25 expected on each, and 5 deviations of room.
    assert moved.sum(0).min() > 0
    assert moved.sum(0).max() < 50


def test_a_set_goes_where_it_would_go_alone():
    """So a part is compared with the same random patches, whoever else is dealt beside it."""
    rng = np.random.default_rng(1)
    members = indexing.by_label(rng.integers(0, 5, (3, 4, 6)))
    together = indexing.shuffled(members, np.random.default_rng(2))
    union = indexing.shuffled(members[:, 2:4].any(1, keepdims=True), np.random.default_rng(2))
    np.testing.assert_array_equal(together[:, 2:4].any(1), union[:, 0])


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
    with pytest.raises(indexing.GridMismatch, match=r"\(1, 4, 4, 8\).*\(1, 2, 4, 5\)"):
        indexing.partial_pools(torch.zeros(1, 4, 4, 8), np.zeros((1, 2, 4, 5), bool))
    with pytest.raises(indexing.GridMismatch, match=r"\(2, 4, 4, 8\).*\(1, 1, 4, 4\)"):
        indexing.pool(torch.zeros(2, 4, 4, 8), np.zeros((1, 4, 4), bool))
