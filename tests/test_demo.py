"""The demo's people and forgeries: who lends to whom, who is never parted; and their cache."""

from itertools import islice

import numpy as np
import pandas as pd
import pytest

from seglib import assets, demo, faces, media, recipe, regions
from seglib.errors import UnknownName
from seglib.extraction import Descriptors

RECIPE = recipe.demo()


@pytest.fixture(scope="module")
def detector():
    return faces.load("mesh")


# -- people, partners, groups ------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("dataset", "count", "pictures"), [("orl", 40, 400), ("csu", 30, 173)])
def test_couples_are_closed_groups(dataset, count, pictures, seed):
    table = demo.people(dataset, seed)
    assert len(table) == pictures
    assert table.person.nunique() == count
    assert table.group.nunique() == count // 2
    partner = dict(zip(table.person, table.partner, strict=True))
    assert (table.groupby("person").partner.nunique() == 1).all()
    for person, lender in partner.items():
        assert lender != person
        assert partner[lender] == person
    # A group is exactly one couple: nobody shares a face with anyone outside it.
    for _, members in table.groupby("group"):
        assert len(set(members.person)) == 2
        assert set(members.person) == set(members.partner)


def test_rows_are_the_pictures_in_their_order():
    table = demo.people("csu")
    assert table.path.tolist() == [picture.path for picture in assets.pictures("csu")]
    assert table.person.tolist() == [picture.person for picture in assets.pictures("csu")]


def test_a_seed_decides_the_couples():
    pd.testing.assert_frame_equal(demo.people("orl", 3), demo.people("orl", 3))
    assert (demo.people("orl", 3).partner != demo.people("orl", 4).partner).any()


def test_the_two_collections_share_nobody():
    assert not set(demo.people("orl").person) & set(demo.people("csu").person)


def test_an_unknown_data_set_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'orl'"):
        demo.people("or")


# -- forging -----------------------------------------------------------------------------------


@pytest.mark.parametrize("blend", demo.BLENDS)
def test_one_forgery_of_each_picture_in_order(blend, detector):
    paths = demo.people("csu").path[:14]
    forged = list(islice(demo.forge("csu", "mouth", blend, detector), 14))
    for path, fake in zip(paths, forged, strict=True):
        image = media.read_image(path)
        np.testing.assert_array_equal(fake.mask, (fake.image != image).any(-1))
        assert 0.001 < fake.mask.mean() < 0.1, "not this picture, or not its mouth"


def test_the_partner_lends_the_part(monkeypatch, detector):
    lent = []
    swap = demo.forgery.part_swap

    def watched(target, face, source, *rest, **options):
        lent.append((target.tobytes(), source.tobytes()))
        return swap(target, face, source, *rest, **options)

    monkeypatch.setattr(demo.forgery, "part_swap", watched)
    table = demo.people("orl")
    owner = {
        media.read_image(p).tobytes(): who for p, who in zip(table.path, table.person, strict=True)
    }
    list(islice(demo.forge("orl", "mouth", "poisson", detector), 25))
    assert [(owner[target], owner[source]) for target, source in lent] == list(
        zip(table.person[:25], table.partner[:25], strict=True)
    )
    assert len({source for _, source in lent[:10]}) == 10  # ten pictures of one lender


@pytest.mark.slow
@pytest.mark.parametrize("dataset", demo.DATASETS)
def test_every_picture_of_a_collection_can_be_forged(dataset, detector):
    """Nobody is without a face, a mesh, or a partner's picture."""
    forged = [fake.mask.any() for fake in demo.forge(dataset, "mouth", "feathered", detector)]
    assert all(forged)
    assert len(forged) == len(demo.people(dataset))


def test_an_unknown_blend_gets_a_suggestion(detector):
    with pytest.raises(UnknownName, match="did you mean 'poisson'"):
        next(demo.forge("orl", "mouth", "poison", detector))


# -- samples and their cache -------------------------------------------------------------------


@pytest.fixture
def four_people(tmp_path, monkeypatch):
    """Four people, one picture each, and a cache of their own beside the real assets."""
    for name in assets.ASSETS:
        (tmp_path / name).symlink_to(assets.fetch(name))
    monkeypatch.setenv("SEGLIB_CACHE", str(tmp_path))
    few = assets.pictures("orl")[:40:10]
    monkeypatch.setattr(assets, "pictures", lambda name: few)
    return tmp_path / "demo"


def test_a_sample_is_computed_once_and_comes_back_identical(four_people, monkeypatch):
    first = demo.sample("orl", "mouth", "poisson", RECIPE)
    assert (first.name, first.part) == ("orl: mouth forged, poisson", "mouth")
    people = demo.people("orl").person
    assert first.items.tolist() == [
        f"{person}/1{forged}" for forged in ("", " forged") for person in people
    ]
    assert first.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert first.groups.tolist() == demo.people("orl").group.tolist() * 2
    assert first.descriptors.reasons.tolist() == [""] * 8
    bona_fide = demo.Extractor(RECIPE)([media.read_image(demo.people("orl").path[0])])
    np.testing.assert_allclose(first.descriptors.cls[:1], bona_fide.cls, rtol=1e-4, atol=1e-4)
    mouth, every = (first.descriptors.view(view) for view in ("mouth", "all"))
    assert (np.abs(mouth[:4] - mouth[4:]).max(1) > 0.1).all()  # a fake is not its original
    cosine = [
        np.array([np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a in every[:4]])
        for b in every[4:]
    ]
    assert np.argmax(cosine, axis=1).tolist() == [0, 1, 2, 3]  # but it is nobody else's

    files = {path.name: path.stat().st_mtime_ns for path in four_people.rglob("*.parquet")}
    assert sorted(files) == ["orl-mouth-poisson.parquet", "orl-real.parquet"]

    def never(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(demo, "_extractor", never)
    again = demo.sample("orl", "mouth", "poisson", RECIPE.but(c_grid=(1.0,)))  # comes afterwards
    for name in ("sums", "counts", "random", "cls", "reasons"):
        np.testing.assert_array_equal(
            getattr(again.descriptors, name), getattr(first.descriptors, name)
        )
    assert {path.name: path.stat().st_mtime_ns for path in four_people.rglob("*.parquet")} == files
    with pytest.raises(AssertionError, match="computed again"):  # another crop is another file
        demo.sample("orl", "mouth", "poisson", RECIPE.but(crop_scale=1.1))


def test_a_change_of_the_code_is_another_cache(monkeypatch):
    before = demo._code_key()
    monkeypatch.setattr(demo, "forge", lambda: "another way of pairing lenders")
    demo._code_key.cache_clear()
    after = demo._code_key()
    demo._code_key.cache_clear()
    assert before != after


def test_token_counts_are_those_of_the_parts_labels():
    counts = np.ones((5, len(regions.LABELS)), np.int64)
    counts[3, list(regions.part_ids("eyes"))] = 0  # one picture without eyes
    nothing = np.zeros((*counts.shape, 2), np.float32)
    found = Descriptors(nothing, counts, nothing, nothing[:, 0], np.full(5, ""))
    assert demo.token_counts(found, "mouth").tolist() == [3] * 5
    assert demo.token_counts(found, "eyes").tolist() == [2, 2, 2, 0, 2]
