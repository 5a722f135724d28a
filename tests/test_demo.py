"""The demo's people and forgeries: who lends to whom, who is never parted; and their cache."""

import re
import subprocess
import sys
from itertools import islice
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest
from mounts import mounted

from seglib import assets, demo, faces, media, recipe
from seglib.descriptors import Descriptors, Layout
from seglib.errors import UnknownName

RECIPE = recipe.demo()
COLUMNS = ("pools", "counts", "random", "cls", "sure", "reasons")


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


@pytest.fixture(autouse=True)
def little_beside(monkeypatch):
    """Of what chapters ask beside, a few."""
    monkeypatch.setattr(demo, "ISOLATED", ("mouth",))
    monkeypatch.setattr(demo, "AXES", {"layer": (-4,), "patch_rule": ("box",)})


def never(*_):
    raise AssertionError("computed again")


def same(one, other):
    assert one.layout == other.layout
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


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

    # In the same pass what the chapters will ask of these pictures: so many recipes, so many files.
    beside = [RECIPE, *(RECIPE.but(**changes) for changes in BESIDE)]
    files = {path: path.stat().st_mtime_ns for path in four_people.rglob("*.parquet")}
    for one in beside:
        names = {path.name for path in files if path.parent.name.startswith(one.descriptor_key)}
        assert names == {"orl-mouth-poisson.parquet", "orl-real.parquet"}
    assert len(files) == 2 * len(beside)

    monkeypatch.setattr(demo, "_extractor", never)
    again = demo.sample("orl", "mouth", "poisson", RECIPE.but(c_grid=(1.0,)))  # comes afterwards
    same(again.descriptors, first.descriptors)
    for one in beside[1:]:
        found = demo.sample("orl", "mouth", "poisson", one)
        assert found.descriptors.layout == Layout.of(one)
        assert found.descriptors.reasons.tolist() == [""] * 8
        assert (found.items == first.items).all()
        assert np.abs(found.descriptors.view("mouth") - mouth).max() > 0.1
    # And what is made beside is what it is by itself.
    alone = demo.Extractor(RECIPE.but(**BESIDE[0]))([media.read_image(demo.people("orl").path[0])])
    isolated = demo.sample("orl", "mouth", "poisson", RECIPE.but(**BESIDE[0])).descriptors
    np.testing.assert_allclose(
        isolated.view("mouth")[:1], alone.view("mouth"), rtol=1e-4, atol=1e-4
    )
    assert {path: path.stat().st_mtime_ns for path in four_people.rglob("*.parquet")} == files
    with pytest.raises(AssertionError, match="computed again"):  # another crop is another file
        demo.sample("orl", "mouth", "poisson", RECIPE.but(crop_scale=1.1))


BESIDE = ({"encoding": "isolated"}, {"layer": -4}, {"patch_rule": "box"})


def test_beside_the_demos_recipe_all_is_made_that_the_chapters_ask_for():
    plain = RECIPE.look
    isolated = [plain.but(encoding="isolated", region=part) for part in demo.ISOLATED]
    for dataset, part in (("orl", None), ("orl", "mouth")):
        found = demo._beside(RECIPE, dataset, part)
        assert found[: 1 + len(isolated)] == [plain, *isolated]
        rest = found[1 + len(isolated) :]
        assert len(rest) == sum(map(len, demo.AXES.values()))
        assert all(one.look == plain for one in found)
        assert len({one.descriptor_key for one in found}) == len(found)
    # Forged eyes are for the audit alone; another crop, or the other people, for one table.
    assert demo._beside(RECIPE, "orl", "eyes") == [plain, *isolated]
    assert demo._beside(RECIPE.but(region="nose", encoding="isolated"), "orl", "eyes") == [
        plain, *isolated,
    ]  # fmt: skip
    assert demo._beside(RECIPE, "csu", "mouth") == []
    assert demo._beside(RECIPE.but(crop_scale=1.1), "orl", "mouth") == []


# -- what is kept ------------------------------------------------------------------------------


@pytest.fixture
def describe(tmp_path, monkeypatch):
    """Makes rows that say which recipe asked for them, and remembers what it was asked."""
    monkeypatch.setenv("SEGLIB_CACHE", str(tmp_path))
    asked = []

    def make(several):
        asked.append(list(several))
        return [Descriptors.missing([one.descriptor_key], 3, Layout.of(one)) for one in several]

    make.asked = asked
    return make


OTHER, THIRD = RECIPE.but(encoding="isolated"), RECIPE.but(layer=-2)


def test_what_is_kept_is_made_once_and_what_lies_beside_it_with_it(describe):
    for _ in range(2):
        (row,) = demo.kept("some", RECIPE, describe, [RECIPE, OTHER]).reasons
        assert row == RECIPE.descriptor_key
    same(demo.kept("some", OTHER, never), describe([OTHER])[0])
    assert describe.asked[:-1] == [[RECIPE, OTHER]]
    demo.kept("others", RECIPE, describe)  # another set of pictures
    assert describe.asked[-1] == [RECIPE]


def test_of_what_lies_beside_only_what_is_missing_is_made(describe):
    demo.kept("some", OTHER, describe)
    demo.kept("some", RECIPE, describe, [OTHER, THIRD])
    assert describe.asked == [[OTHER], [RECIPE, THIRD]]
    demo.kept("some", RECIPE, never, [RECIPE.but(layer=-3)])  # never for its own sake


def test_a_damaged_file_is_made_again(describe, tmp_path):
    demo.kept("some", RECIPE, describe, [OTHER])
    (path,) = (tmp_path / "demo").glob(f"{RECIPE.descriptor_key}-*/some.parquet")
    path.write_bytes(path.read_bytes()[:50])
    found = demo.kept("some", RECIPE, describe, [OTHER])
    assert found.reasons.tolist() == [RECIPE.descriptor_key]
    assert describe.asked == [[RECIPE, OTHER], [RECIPE]]


def test_a_failure_midway_keeps_nothing(describe, tmp_path):
    def fails(several):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.kept("some", RECIPE, fails, [OTHER])
    assert not list(tmp_path.rglob("*.parquet"))
    assert demo.kept("some", RECIPE, describe).reasons.tolist() == [RECIPE.descriptor_key]


# Another process with a cache; argv says where, what is asked for and how many ask for it.
KEEPING = """
    import os
    import sys
    import time
    from pathlib import Path
    from seglib import demo, recipe
    from seglib.descriptors import Descriptors, Layout
    from seglib.errors import SeglibError

    cache, name, several = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.environ["SEGLIB_CACHE"] = cache

    def describe(recipes):
        if several:
            Path(cache, f"{os.getpid()}.here").touch()
        while len(list(Path(cache).glob("*.here"))) < several:
            time.sleep(0.01)
        return [Descriptors.missing(["made"] * 5000, 3, Layout.of(one)) for one in recipes]

    try:
        print(len(demo.kept(name, recipe.demo(), describe)))
    except SeglibError as error:
        print(error)
"""


@pytest.mark.slow
def test_two_processes_that_make_the_same_do_not_meet(tmp_path):
    """Both have found nothing before either has made it."""
    run = [sys.executable, "-c", dedent(KEEPING), str(tmp_path), "some", "2"]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.communicate(timeout=300)[0].split()[-1] for one in both] == ["5000"] * 2
    (kept,) = (path for path in (tmp_path / "demo").rglob("*") if path.is_file())
    assert Descriptors.load(kept).reasons.tolist() == ["made"] * 5000


@pytest.mark.slow
def test_a_read_only_cache_gives_what_it_has_and_says_what_to_do_for_the_rest(describe, tmp_path):
    demo.kept("some", RECIPE, describe)
    assert mounted(dedent(KEEPING), tmp_path, "ro", tmp_path, "some", 0).split()[-1] == "1"
    said = mounted(dedent(KEEPING), tmp_path, "ro", tmp_path, "others", 0)
    assert re.search(r"others\.parquet cannot be written: .*Read-only.*SEGLIB_CACHE", said)


def test_a_change_of_the_code_is_another_cache(monkeypatch):
    before = demo._code_key()
    monkeypatch.setattr(demo, "forge", lambda: "another way of pairing lenders")
    demo._code_key.cache_clear()
    after = demo._code_key()
    demo._code_key.cache_clear()
    assert before != after
