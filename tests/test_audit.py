"""Is the attribution true: who is trained on what, what is left out, and each number by hand."""

from dataclasses import replace
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from samples import made_up

from seglib import (
    alignment,
    audit,
    demo,
    faces,
    indexing,
    localisation,
    media,
    parsing,
    recipe,
    regions,
    training,
)
from seglib.audit import FORGED, PARTS, Case
from seglib.counterfactual import CHANGES, SUBSTITUTES
from seglib.evaluation import Scores

RECIPE = recipe.demo().but(c_grid=(0.1,), folds=2, inner_folds=2)
PEOPLE, EACH = 12, 3  # made up, each a group of their own
REAL = PEOPLE * EACH
NAMES = [prefix + part for part in PARTS for prefix in ("", "isolated ")]


@pytest.fixture(autouse=True)
def forgotten():
    """What one test made up, no other one is told; and no process is started for so little."""
    several = audit.case, audit.trained
    with joblib.parallel_config("threading"):
        for one in several:
            one.cache_clear()
        yield
        for one in several:
            one.cache_clear()


def made_up_case(leak=0.0):
    """A part's tokens tell that it was forged; with a leak the eyes, in context, tell of the mouth.

    The last view has no descriptor where the eyes or the nose were forged.
    """
    rng = np.random.default_rng(0)
    forged = np.repeat(["", *FORGED], REAL)
    names = [*NAMES, "random mouth", "isolated random mouth", "all", "box mouth"]
    views = {name: rng.normal(size=(forged.size, 4)) for name in names}
    for name in (*NAMES, "box mouth"):
        views[name][:, 0] += 4 * (forged == name.split()[-1])
    views["eyes"][:, 0] += leak * (forged == "mouth")
    views["box mouth"][np.isin(forged, ("eyes", "nose"))] = np.nan
    views |= {name.replace("mouth", part): views[name] for name in names[-4:-2] for part in FORGED}
    return Case(
        "made up",
        (forged != "").astype(int),
        np.tile(np.repeat(np.arange(PEOPLE), EACH), 1 + len(FORGED)),
        np.array([f"{i} {part}" for part in ("", *FORGED) for i in range(REAL)]),
        forged,
        views,
    )


@pytest.fixture
def known(monkeypatch):
    found = made_up_case()
    monkeypatch.setattr(audit, "case", lambda recipe: found)
    return found


# -- part x forged part ------------------------------------------------------------------------


def test_a_view_is_called_by_its_part_and_encoding():
    assert audit.view_name("mouth", "contextual") == "mouth"
    assert audit.view_name("random mouth", "isolated") == "isolated random mouth"


def test_every_experiment_of_the_audit_has_a_name():
    assert list(audit.EXPERIMENTS) == [
        "audit-orl-mouth", "audit-orl-eyes", "audit-orl-nose",
        "audit-orl-mouth--orl-eyes", "audit-orl-mouth--orl-nose", "audit-orl-eyes--orl-mouth",
        "audit-orl-eyes--orl-nose", "audit-orl-nose--orl-mouth", "audit-orl-nose--orl-eyes",
        "audit-shuffled", "audit-touched", "counterfactuals", "localisation",
    ]  # fmt: skip


@pytest.mark.parametrize("part", FORGED)
def test_each_part_alone_tells_that_it_was_forged(known, part):
    found = audit.EXPERIMENTS[f"audit-orl-{part}"](RECIPE, (0,))
    assert list(found.views)[:2] == [part, f"isolated {part}"]
    box = {"box mouth"} if part == "mouth" else set()
    assert set(found.views) == {*NAMES, f"random {part}", f"isolated random {part}"} | box
    for name in found.views:
        measured = found.auc(name)
        assert measured.coverage == 1
        if name.split()[-1] == part and "random" not in name:
            assert measured.low > 0.9
        else:
            assert measured.low < 0.6


def test_a_leak_is_found_where_it_was_planted_and_nowhere_else(monkeypatch):
    monkeypatch.setattr(audit, "case", lambda recipe: made_up_case(leak=4.0))
    found = audit.matrix("mouth", RECIPE, (0,))
    told = {name for name in found.views if found.auc(name).low > 0.8}
    assert told == {"mouth", "isolated mouth", "box mouth", "eyes"}
    assert found.lead("eyes", "isolated eyes").low > 0.1
    own = audit.elsewhere("eyes", "mouth", RECIPE, (0,))  # which takes one for the other
    assert own.auc("eyes").low > 0.8
    assert own.auc("isolated eyes").low < 0.6


def test_a_model_is_asked_of_forgeries_that_it_did_not_learn(known):
    found = audit.EXPERIMENTS["audit-orl-mouth--orl-eyes"](RECIPE, (0, 1))
    assert list(found.views) == ["mouth", "isolated mouth"]
    assert found.title == "orl: mouth forged → eyes forged"
    everything = audit.trained(RECIPE, "mouth", (0, 1))
    rows = np.isin(known.forged, ("", "eyes"))
    np.testing.assert_array_equal(found.views["mouth"], everything.views["mouth"][:, rows])
    first, second = found.views["mouth"]  # a seed each
    assert not np.allclose(first, second)
    for name in found.views:
        told = found.auc(name)
        assert told.low < 0.5 < told.high
        assert audit.matrix("mouth", RECIPE, (0, 1)).auc(name).low > 0.9


def test_one_training_serves_a_column_and_all_that_is_asked_of_other_forgeries(known, monkeypatch):
    times, held_out = [], audit.trials.held_out
    monkeypatch.setattr(
        audit.trials, "held_out", lambda *given: times.append(1) or held_out(*given)
    )
    audit.matrix("eyes", RECIPE, [0])
    audit.elsewhere("eyes", "nose", RECIPE, [0])
    audit.elsewhere("eyes", "mouth", RECIPE, [0])
    assert len(times) == 1


def test_a_probe_learns_one_kind_of_forgery_only(known):
    """Whatever the other forgeries look like, no score of the rest moves."""
    before = known.scores("mouth", ["mouth"], RECIPE, (0,))
    apart = np.isin(known.forged, ("eyes", "nose"))
    rows = np.where(apart[:, None], 100.0, known.views["mouth"])
    other = replace(known, views={"mouth": rows}).scores("mouth", ["mouth"], RECIPE, (0,))
    same = before.views["mouth"] == other.views["mouth"]
    assert same[:, ~apart].all()
    assert not same[:, apart].any()
    np.testing.assert_array_equal(before.thresholds["mouth"], other.thresholds["mouth"])


def test_the_models_of_all_parts_are_tested_in_the_same_folds(known):
    """So their scores of a picture come from the same training people."""
    mouth, eyes, nose = (audit.trained(RECIPE, part, (0,)).probes for part in FORGED)
    np.testing.assert_array_equal(mouth, eyes)
    np.testing.assert_array_equal(mouth, nose)


def test_of_the_scores_those_of_one_forgery_are_kept_with_all_that_belongs_to_them():
    known, size = made_up_case(), 4 * REAL
    marks = np.arange(size)
    scores = Scores(
        known.labels,
        known.groups,
        {"mouth": np.stack([marks, -marks]), "eyes": np.stack([marks, marks]) + 0.5},
        probes=np.stack([marks, marks[::-1]]),
        items=known.items,
        thresholds={"mouth": np.array([[1.0], [2.0]]), "eyes": np.array([[3.0], [4.0]])},
        title="one",
        seconds=2.0,
    )
    kept = [*range(REAL), *range(2 * REAL, 3 * REAL)]  # bona fide, and eyes
    found = known.tested_on(scores, "eyes")
    np.testing.assert_array_equal(found.views["mouth"], [kept, np.negative(kept)])
    np.testing.assert_array_equal(found.views["eyes"], np.array([kept, kept]) + 0.5)
    np.testing.assert_array_equal(found.probes, [kept, size - 1 - np.array(kept)])
    np.testing.assert_array_equal(found.labels, [0] * REAL + [1] * REAL)
    np.testing.assert_array_equal(found.groups, [*np.repeat(range(PEOPLE), EACH)] * 2)
    assert set(known.forged[np.isin(known.items, found.items)]) == {"", "eyes"}
    assert (found.items == known.items[kept]).all()
    assert found.thresholds.keys() == {"mouth", "eyes"}
    few = known.tested_on(scores, "nose", ["eyes"])
    assert list(few.views) == list(few.thresholds) == ["eyes"]
    assert few.thresholds["eyes"] is scores.thresholds["eyes"]
    assert "nose" in few.title


def test_shuffled_labels_are_dealt_inside_each_group_and_leave_nothing_to_find(known, monkeypatch):
    cases, held_out = [], audit.trials.held_out
    monkeypatch.setattr(
        audit.trials, "held_out", lambda case, *rest: cases.append(case) or held_out(case, *rest)
    )
    found = audit.EXPERIMENTS["audit-shuffled"](RECIPE, (0, 1))
    (dealt,) = cases
    rows = np.isin(known.forged, ("", "mouth"))
    np.testing.assert_array_equal(dealt.labels[~rows], 1)  # no other forgery takes part
    np.testing.assert_array_equal(found.labels, dealt.labels[rows])
    assert (dealt.labels != known.labels)[rows].mean() > 0.2
    for group in range(PEOPLE):
        assert dealt.labels[rows & (known.groups == group)].sum() == EACH
    assert list(found.views) == [prefix + part for part in FORGED for prefix in ("", "isolated ")]
    assert found.title == "shuffled labels: mouth forged"
    # Undealt, the mouth tells every forgery; of a dozen people chance leaves much.
    assert max(found.auc(view).value for view in ("mouth", "isolated mouth")) < 0.8
    assert known.labels.sum() == 3 * REAL  # the case itself stays as it is


# -- the demo's case ---------------------------------------------------------------------------


@pytest.fixture
def samples(monkeypatch):
    """Made-up samples in place of the demo's: bona fide rows are the recipe's, whatever is forged.

    Only the forged part tells, in the tokens that a recipe was made for.
    """
    asked = []

    def sample(dataset, part, blend, own):
        asked.append((dataset, part, blend, own))
        seed = [own.encoding, own.region, str(own.patch_rule)]
        return made_up(6, 2, seed=list("".join(seed).encode()), part=part)

    monkeypatch.setattr(demo, "sample", sample)
    return asked


def test_the_case_has_each_picture_once_and_a_forgery_of_each_part(samples):
    found = audit.case(RECIPE)
    assert found.labels.tolist() == [0] * 12 + [1] * 36
    assert found.forged.tolist() == [part for part in ("", *FORGED) for _ in range(12)]
    assert found.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] * 4
    assert len(set(found.items)) == 48
    assert found.items[0] == "p0/0"
    assert {item.split()[-1] for item in found.items[24:36]} == {"eyes"}
    assert all(len(rows) == 48 for rows in found.views.values())


def test_each_view_of_the_case_comes_from_its_own_recipe(samples):
    views = audit.case(RECIPE).views
    alone = [RECIPE.but(encoding="isolated", region=part) for part in PARTS]
    made = dict(zip(PARTS, alone, strict=True))
    box = RECIPE.but(patch_rule="box", region="mouth")
    expected = {"all": (RECIPE, "all")}
    for part in PARTS:
        for name in (part, f"random {part}"):
            expected |= {name: (RECIPE, name), f"isolated {name}": (made[part], name)}
    assert set(views) == {*expected, "box mouth"}
    for name, (own, view) in expected.items():
        several = [demo.sample("orl", part, "poisson", own).descriptors for part in FORGED]
        rows = [one.view(view) for one in several]
        np.testing.assert_array_equal(views[name][:12], rows[0][:12])
        np.testing.assert_array_equal(views[name][12:], np.concatenate([r[12:] for r in rows]))
    boxed = demo.sample("orl", "mouth", "poisson", box).descriptors.view("mouth")
    np.testing.assert_array_equal(views["box mouth"][:24], boxed)
    assert np.isnan(views["box mouth"][24:]).all()


def test_a_view_has_bona_fide_pictures_then_forgeries_of_each_part_and_gaps(samples):
    assert audit._kinds("mouth", "eyes") == ["mouth", "random mouth", "eyes", "random eyes"]
    eyes = demo.sample("orl", "eyes", "poisson", RECIPE)
    found = audit._stacked("mouth", {"eyes": eyes}, 12)
    np.testing.assert_array_equal(
        found[[*range(12), *range(24, 36)]], eyes.descriptors.view("mouth")
    )
    assert np.isnan(found[[*range(12, 24), *range(36, 48)]]).all()
    assert len(found) == 48


def test_nothing_is_asked_for_that_the_demo_does_not_make_along(samples, monkeypatch):
    """Else each would take minutes of its own."""
    audit.case(recipe.demo())
    for dataset, part, blend, own in samples:
        assert (dataset, blend) == ("orl", "poisson")
        along = demo._beside(recipe.demo(), "orl", part)
        assert own.descriptor_key in {one.descriptor_key for one in along}


# -- counterfactuals ---------------------------------------------------------------------------


def test_copies_are_never_learned_from(known):
    rows = np.array([0, 5, REAL, REAL + 5])
    copies = np.full((3 * len(rows), 4), 1e3)
    both = known.extended(rows, {"mouth": copies})
    assert (both.forged == "changed").sum() == len(copies)
    with_copies = both.scores("mouth", ["mouth"], RECIPE, (0,))
    without = known.scores("mouth", ["mouth"], RECIPE, (0,))
    np.testing.assert_array_equal(with_copies.views["mouth"][:, : 4 * REAL], without.views["mouth"])
    np.testing.assert_array_equal(with_copies.groups[4 * REAL :], known.groups[[*rows] * 3])
    np.testing.assert_array_equal(with_copies.labels[4 * REAL :], known.labels[[*rows] * 3])
    assert len(set(both.items)) == len(both.items) == 4 * REAL + len(copies)


def test_a_copy_is_scored_by_probes_that_never_met_its_group(known):
    """Ruin all that could be learned of one group: its copies' scores stay, others' do not."""
    rows = np.arange(2 * REAL)
    both = known.extended(rows, {"mouth": known.views["mouth"][rows]})
    ruined = both.views["mouth"].copy()
    group, first = both.groups == 4, np.arange(len(both.groups)) < 4 * REAL
    ruined[group & first] = 50 - 100 * both.labels[group & first, None]
    before, after = (
        one.scores("mouth", ["mouth"], RECIPE, (0,)).views["mouth"]
        for one in (both, replace(both, views={"mouth": ruined}))
    )
    np.testing.assert_array_equal(before[:, group & ~first], after[:, group & ~first])
    assert (before != after)[:, ~group & ~first].mean() > 0.5


@pytest.fixture
def few(monkeypatch):
    """The first picture of each couple, a couple being a made-up group."""
    first = np.arange(REAL) % EACH == 0
    monkeypatch.setattr(audit, "_few", lambda recipe: first)
    return np.flatnonzero(np.tile(first, 2))  # bona fide, then forged mouths


def test_what_was_not_changed_does_not_move(known, few, monkeypatch):
    same = {name: np.tile(known.views[name][few], (len(CHANGES), 1)) for name in NAMES[:2]}
    monkeypatch.setattr(audit, "_changed_mouths", lambda recipe: same)
    found = audit.counterfactuals(RECIPE, (0,))
    measures = [
        f"{side}-{how}.{one}" for side, how in CHANGES for one in ("moved", "fakes", "reals")
    ]
    measures += [f"outside-less-inside-{how}.moved" for how in SUBSTITUTES]
    assert [*found] == [
        f"{coded}-{one}" for coded in ("contextual", "isolated") for one in measures
    ]
    for key, one in found.items():
        assert (one.value, one.low, one.high, one.coverage) == (0, 0, 0, 1)
        assert one.groups == PEOPLE
        assert one.items == (2 * PEOPLE if key.endswith(".moved") else PEOPLE)


def read_off(case, views, recipe, seeds, learned):
    """In place of probes: the score is the first number, on a scale of its own for each seed."""
    scale = np.arange(1.0, 1 + len(seeds))[:, None]
    scores = {name: scale * rows[:, 0] for name, rows in views.items()}
    return Scores(case.labels, case.groups, scores, items=case.items)


def test_shifts_are_in_standard_deviations_of_the_scores_before(known, few, monkeypatch):
    """Change number k moves bona fide pictures up by k deviations, forged ones down by 2 k."""
    monkeypatch.setattr(audit.trials, "held_out", read_off)
    fake, changed = known.labels[few], {}
    for name in NAMES[:2]:
        rows = known.views[name][few]
        step = rows[:, 0].std() * np.where(fake, -2, 1)
        changed[name] = np.tile(rows, (len(CHANGES), 1))
        changed[name][:, 0] += np.concatenate([k * step for k in range(len(CHANGES))])
    changed["mouth"][0] = np.nan  # one picture has no mouth after the first change
    monkeypatch.setattr(audit, "_changed_mouths", lambda recipe: changed)
    found = audit.counterfactuals(RECIPE, (0, 1, 2))
    for k, (side, how) in enumerate(CHANGES):
        for encoding in ("contextual", "isolated"):
            moved, fakes, reals = (
                found[f"{encoding}-{side}-{how}.{one}"] for one in ("moved", "fakes", "reals")
            )
            assert moved.value == pytest.approx(1.5 * k)
            assert fakes.value == pytest.approx(-2 * k)
            assert reals.value == pytest.approx(k)
            gone = encoding == "contextual" and k == 0
            assert moved.coverage == (pytest.approx(1 - 1 / len(few)) if gone else 1)
            assert reals.coverage == (pytest.approx(1 - 1 / PEOPLE) if gone else 1)
            assert fakes.coverage == 1


def test_outside_and_inside_are_compared_picture_by_picture(known, few, monkeypatch):
    """A picture without a mouth after either change drops out; no interval where all agree."""
    monkeypatch.setattr(audit.trials, "held_out", read_off)
    changed = {}
    for name in NAMES[:2]:
        rows = known.views[name][few]
        own = np.arange(len(few)) * rows[:, 0].std()  # each picture's step is its own, but
        steps = [own + (side == "outside") * rows[:, 0].std() / 2 for side, _ in CHANGES]
        changed[name] = np.tile(rows, (len(CHANGES), 1))
        changed[name][:, 0] += np.concatenate(steps)
    changed["mouth"][0] = np.nan  # after the first change, outside by the mean
    monkeypatch.setattr(audit, "_changed_mouths", lambda recipe: changed)
    found = audit.counterfactuals(RECIPE, (0, 1))
    for encoding in ("contextual", "isolated"):
        for how in SUBSTITUTES:
            less = found[f"{encoding}-outside-less-inside-{how}.moved"]
            assert (less.value, less.low, less.high) == pytest.approx((0.5, 0.5, 0.5))
            gone = (encoding, how) == ("contextual", "mean")
            assert less.coverage == (pytest.approx(1 - 1 / len(few)) if gone else 1)
            assert less.items == len(few) - gone


# -- real faces --------------------------------------------------------------------------------


def chain(grid=(20, 20)):
    """The extractor without an encoder."""
    detector, own = faces.load("mesh"), recipe.demo()
    backbone = SimpleNamespace(grid=lambda crops: grid, pixels=lambda crops: crops)

    def crop(image):
        return faces.crop(image, faces.largest(image, detector), own.crop_size, own.crop_scale)

    parser = parsing.load("mesh")
    return SimpleNamespace(detector=detector, parser=parser, crop=crop, backbone=backbone, batch=3)


@pytest.fixture
def networks(monkeypatch):
    found = chain()
    monkeypatch.setattr(demo, "networks", lambda recipe: found)
    return found


def test_where_looking_is_dear_each_couple_shows_one_picture():
    table = demo.people("orl", RECIPE.seed)
    asked = audit._few(RECIPE)
    assert asked.shape == (400,)
    assert sorted(table.group[asked]) == [*range(20)]
    assert (table.groupby("group").cumcount()[asked] == 0).all()


@pytest.mark.parametrize("part", FORGED)
def test_a_forgerys_mask_lies_in_its_crop_where_it_differs(four_people, networks, part):
    asked = audit._few(RECIPE)
    paths = demo.people("orl", RECIPE.seed).path[asked]
    found = list(audit._cropped(RECIPE, part, asked))
    assert len(found) == 2
    for path, (crop, mask) in zip(paths, found, strict=True):
        assert mask.shape == crop.image.shape[:2] == (280, 280)
        original = alignment.warp(media.read_image(path), crop.matrix, 280)
        differs = np.abs(crop.image.astype(int) - original).max(-1) > 8
        assert differs.sum() > 200
        assert (differs & mask).sum() > 0.9 * differs.sum()
        assert 0.02 < mask.mean() < 0.2


def test_a_bona_fide_picture_has_no_forged_pixel(four_people, networks):
    asked = audit._few(RECIPE)
    for path, (crop, mask) in zip(
        demo.people("orl", RECIPE.seed).path[asked],
        audit._cropped(RECIPE, "", asked),
        strict=True,
    ):
        assert not mask.any()
        np.testing.assert_array_equal(crop.image, networks.crop(media.read_image(path)).image)


def test_a_couples_other_person_lends_a_face_that_is_in_no_forgery_of_this_picture(monkeypatch):
    def cropped(recipe, part, asked):
        assert not part  # bona fide
        return ((SimpleNamespace(image=row), None) for row in np.flatnonzero(asked))

    monkeypatch.setattr(audit, "_cropped", cropped)
    table, asked = demo.people("orl", RECIPE.seed), audit._few(RECIPE)
    own, other = table[asked], table.iloc[audit._lent(RECIPE, asked)]
    np.testing.assert_array_equal(other.group, own.group)
    np.testing.assert_array_equal(other.person, own.partner)
    rank = table.groupby("person").cumcount()
    assert (rank[other.index].to_numpy() != rank[own.index].to_numpy()).all()  # see demo.forge


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_touched_where_a_mask_lies_over_it(four_people, networks, monkeypatch, part):
    cropped = audit._cropped

    def over(recipe, forged, asked):
        for crop, _ in cropped(recipe, forged, asked):
            yield crop, np.isin(networks.parser([crop])[0], regions.part_ids(part))

    monkeypatch.setattr(audit, "_cropped", over)
    found = audit.EXPERIMENTS["audit-touched"](RECIPE)
    assert [*found] == [f"{forged}-{one}.touched" for forged in FORGED for one in PARTS]
    for key, one in found.items():
        assert 0 <= one.value <= 1
        assert (one.value == 1) == key.endswith(f"-{part}.touched")
        assert one.groups == 2


def test_of_real_forgeries_the_forged_part_is_touched_most(four_people, networks):
    found = audit.touched(RECIPE)
    for forged in FORGED:
        own, *others = (found[f"{forged}-{part}.touched"].value
                        for part in (forged, *(one for one in PARTS if one != forged)))  # fmt: skip
        assert own > 0.9
        assert all(0 <= one < own for one in others)


def test_a_face_without_a_part_is_left_out_rather_than_called_untouched(
    four_people, networks, monkeypatch
):
    def parser(crops):
        labels = parsing.load("mesh")(crops)
        labels[0] = regions.label_id("nose")  # all of the first face
        return labels

    monkeypatch.setattr(networks, "parser", parser)
    found = audit.touched(RECIPE)
    assert found["mouth-mouth.touched"].coverage == 0.5
    assert found["mouth-mouth.touched"].value > 0.9
    assert found["mouth-nose.touched"].coverage == 1


@pytest.mark.parametrize("side", ["inside", "outside"])
@pytest.mark.parametrize("how", ["noise", "other"])
def test_one_side_is_replaced_and_the_other_stays(side, how):
    rng = np.random.default_rng(0)
    image, other = rng.integers(0, 256, (2, 28, 28, 3), np.uint8)
    inside = np.zeros((28, 28), bool)
    inside[:14, :14] = True
    found = audit._changed(faces.Crop(image, None, None), other, inside, side, how, rng).image
    where = inside if side == "inside" else ~inside
    np.testing.assert_array_equal(found[~where], image[~where])
    assert (found[where] != image[where]).mean() > 0.9
    assert (found[where] == other[where]).all() == (how == "other")


@pytest.fixture
def tiny(small):
    """A recipe of a small encoder that isolates: what it sees is the crop itself."""
    return small.but(crop_size=140, input_size=140, c_grid=(1.0,))


def test_pixels_outside_move_isolated_mouths_by_nothing(four_people, tiny, monkeypatch):
    """Each change in its place, of each picture in its place; they are made once."""
    extractor, asked = demo.networks(tiny), audit._few(tiny)
    crops = [one for part in ("", "mouth") for one, _ in audit._cropped(tiny, part, asked)]
    alone = tiny.but(encoding="isolated", region="mouth")
    before = extractor.describe(crops, [(0,)] * len(crops), [tiny, alone])
    changed = audit._changed_mouths(tiny)
    assert list(changed) == ["mouth", "isolated mouth"]
    moved = {}
    for (name, rows), one in zip(changed.items(), before, strict=True):
        assert len(rows) == len(CHANGES) * len(crops)
        steps = rows.reshape(len(CHANGES), len(crops), -1) - one.view("mouth")
        moved[name] = dict(zip(CHANGES, np.abs(steps).max((1, 2)), strict=True))
    for side, how in CHANGES:
        assert moved["mouth"][side, how] > 1e-3
        if side == "outside":
            assert moved["isolated mouth"][side, how] < 1e-5
        else:
            assert moved["isolated mouth"][side, how] > 1e-2
    monkeypatch.setattr(demo, "networks", None)  # asked for again, it is not computed again
    again = audit._changed_mouths(tiny)
    np.testing.assert_array_equal([*again.values()], [*changed.values()])


@pytest.mark.slow
def test_pixels_outside_move_no_isolated_verdict_of_the_demo(book):
    """Needs the real descriptors, which building the book leaves in the cache."""
    found = audit.counterfactuals(recipe.demo(), (0,))
    for key, one in found.items():
        assert one.groups == 20
        if key.startswith("isolated-outside-less-inside"):
            assert one.high < -0.01
        elif key.startswith("isolated-outside"):
            assert max(map(abs, (one.value, one.low, one.high))) < 1e-5
        elif key.endswith(".moved") and "-less-" not in key:
            assert one.value > 0.01


# -- localisation ------------------------------------------------------------------------------


@pytest.fixture
def localised(known, monkeypatch):
    """What is found when each part's own model gives these scores, ``(S, fakes, 3)``."""
    first = np.arange(REAL) % EACH == 0
    monkeypatch.setattr(audit, "_few", lambda recipe: first)
    monkeypatch.setattr(audit, "_pointed", lambda *given: {})

    def found(contextual, isolated):
        def trained(recipe, part, seeds):
            views, column = {}, FORGED.index(part)
            for other in FORGED:  # another part's tokens, in this model: not to be taken
                views |= {other: np.full((len(seeds), 4 * REAL), 1e6), f"isolated {other}": None}
            for name, scores in ((part, contextual), (f"isolated {part}", isolated)):
                views[name] = np.full((len(seeds), 4 * REAL), 1e6)
                views[name][:, REAL:] = scores[..., column]
            return Scores(known.labels, known.groups, views)

        monkeypatch.setattr(audit, "trained", trained)
        return audit.localised(RECIPE, range(len(contextual)))

    return found


TRUE = np.repeat(np.eye(3), REAL, axis=0)[None].repeat(2, 0)  # as the forgeries are, two seeds


def test_perfect_scores_name_all_and_equal_ones_a_third(localised):
    found = localised(TRUE, np.full_like(TRUE, 0.3))
    assert found["contextual.named"].value == 1
    assert found["isolated.named"].value == pytest.approx(1 / 3)
    for part in FORGED:
        assert found[f"contextual-{part}.named"].value == 1
        assert found[f"isolated-{part}.named"].value == pytest.approx(1 / 3)
        assert found[f"isolated-{part}.named"].items == REAL
    assert found["isolated.named"].items == 3 * REAL
    assert found["isolated.named"].groups == PEOPLE
    lead = found["contextual-over-isolated.named"]
    assert (lead.value, lead.items) == (pytest.approx(2 / 3), 3 * REAL)


def test_one_part_that_is_always_the_highest_names_its_own_forgeries_only(localised):
    mouth = np.broadcast_to([1.0, 0.0, 0.0], TRUE.shape)
    found = localised(TRUE[..., [1, 2, 0]], mouth)
    assert found["contextual.named"].value == 0
    assert [found[f"isolated-{part}.named"].value for part in FORGED] == [1, 0, 0]


def test_a_forgery_of_which_a_part_abstained_is_left_out_and_said_so(localised):
    some = TRUE.copy()
    some[0, [0, REAL], 2] = np.nan
    found = localised(some, TRUE)
    told = found["contextual.named"]
    assert (told.value, told.coverage) == (1, pytest.approx(1 - 2 / (3 * REAL)))
    assert found["contextual-eyes.named"].coverage == pytest.approx(1 - 1 / REAL)
    assert found["contextual-nose.named"].coverage == 1
    assert found["isolated.named"].coverage == 1


def test_a_map_is_compared_with_its_rivals_on_the_same_pictures(localised, monkeypatch):
    rng = np.random.default_rng(0)
    rows = 3 * PEOPLE
    maps = {
        measure: {
            name: rng.random((seeds, rows))
            for name, seeds in (
                ("contextual", 2), ("isolated", 2), ("saliency", 1), ("chance", 1),
            )
        }
        for measure in ("pointing", "overlap", "named")
    }  # fmt: skip
    given = []
    monkeypatch.setattr(audit, "_pointed", lambda *asked: given.append(asked) or maps)
    found = localised(TRUE, TRUE)
    ((_, shown, groups, forged),) = given
    np.testing.assert_array_equal(shown["isolated"], TRUE[:, ::EACH])
    np.testing.assert_array_equal(groups, [*range(PEOPLE)] * 3)
    np.testing.assert_array_equal(forged, np.repeat(range(3), PEOPLE))
    for measure, of in maps.items():
        for name, rival in (
            ("contextual", "isolated"), ("contextual", "saliency"), ("contextual", "chance"),
            ("isolated", "saliency"), ("isolated", "chance"), ("saliency", "chance"),
        ):  # fmt: skip
            lead = found[f"few-{name}-over-{rival}.{measure}"]
            assert lead.value == pytest.approx(of[name].mean() - of[rival].mean())
            assert (lead.items, lead.groups) == (rows, PEOPLE)
            alone = audit.metrics.mean(of[name] - of[rival], groups)
            assert (lead.low, lead.high) == (alone.low, alone.high)
        for name, values in of.items():
            own = found[f"few-{name}.{measure}"]
            assert (own.value, own.items) == (pytest.approx(values.mean()), rows)
    assert sum(key.startswith("few-") for key in found) == 3 * (4 + 6)
    assert found["isolated.named"].items == 3 * REAL  # of all forgeries


def test_maps_of_real_forgeries_point_where_their_scores_say(four_people, networks, monkeypatch):
    groups, forged = np.array([0, 1] * 3), np.repeat(range(3), 2)
    right = np.eye(3)[forged]
    scores = {"contextual": right[None], "isolated": np.stack([-right, right])}
    seen = []

    def cold(recipe, crops, whose):
        seen.append((len(crops), whose.tolist()))
        return np.ones((len(crops), 20, 20), np.float32)

    monkeypatch.setattr(audit, "_saliency", cold)
    found = audit._pointed(RECIPE, scores, groups, forged)
    assert seen == [(6, groups.tolist())]
    assert found.keys() == {"pointing", "overlap", "named"}
    for of in found.values():
        assert {name: len(values) for name, values in of.items()} == {
            "contextual": 1, "isolated": 2, "saliency": 1, "chance": 1,
        }  # fmt: skip
        # A map that is flat where patches are drawn from is chance itself.
        np.testing.assert_allclose(of["saliency"], of["chance"], atol=1e-6)
        np.testing.assert_array_equal(of["isolated"][1], of["contextual"][0])
    # One of three parts was forged: in the whole face a tenth of the patches, among them a third.
    assert found["pointing"]["chance"].mean() > 0.25
    assert found["pointing"]["contextual"].min() > 0.9
    assert found["pointing"]["isolated"][0].max() < 0.1
    assert (found["overlap"]["contextual"] > found["overlap"]["chance"]).all()
    np.testing.assert_array_equal(found["named"]["contextual"], 1)
    np.testing.assert_array_equal(found["named"]["isolated"][0], 0)
    np.testing.assert_allclose(found["named"]["chance"], 1 / 3)


def test_the_overlap_takes_as_many_patches_as_the_forged_part_has(
    four_people, networks, monkeypatch
):
    forged = np.repeat(range(3), 2)
    monkeypatch.setattr(audit, "_saliency", lambda *given: np.ones((6, 20, 20)))
    scores = {"contextual": np.eye(3)[forged][None]}
    found = audit._pointed(RECIPE, scores, np.array([0, 1] * 3), forged)["overlap"]["contextual"][0]
    asked = audit._few(RECIPE)
    seen = [(part, one) for part in FORGED for one in audit._cropped(RECIPE, part, asked)]
    for (part, (crop, mask)), overlap in zip(seen, found, strict=True):
        labels = indexing.patch_labels(networks.parser([crop]), (20, 20))[0]
        share = localisation.forged_share(mask[None], (20, 20))[0]
        own = np.isin(labels, regions.part_ids(part))
        hit = share[own].sum()
        assert overlap == pytest.approx(hit / (own.sum() + share.sum() - hit))


def test_saliency_is_that_of_a_probe_that_never_met_the_person(known, monkeypatch):
    monkeypatch.setattr(demo, "networks", lambda recipe: chain(grid=(2, 2)))
    learned, fit = [], training.fit

    def spy(rows, labels, groups, *rest):
        found = fit(rows, labels, groups, *rest)
        learned.append((found.direction, set(groups)))
        return found

    def saliency(backbone, pixels, direction):
        (whose,) = (groups for one, groups in learned if (one == direction).all())
        assert len(pixels) <= 3  # a batch
        assert not {group for group, _ in pixels} & whose
        return np.array([np.full((2, 2), mark) for _, mark in pixels])

    monkeypatch.setattr(training, "fit", spy)
    monkeypatch.setattr(audit.localisation, "saliency", saliency)
    groups = np.array([*range(PEOPLE)] * 3)
    pictures = [(group, mark) for mark, group in enumerate(groups)]
    heat = audit._saliency(RECIPE, pictures, groups)
    np.testing.assert_array_equal(heat[:, 0, 0], range(len(groups)))  # each in its place
    assert len(learned) == RECIPE.folds
    assert set.union(*(whose for _, whose in learned)) == set(range(PEOPLE))


def test_a_part_without_a_patch_has_no_heat():
    mouth, eyes, nose = [[1, 1], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [1, 0]]
    heat = np.array([[[1.0, 3.0], [4.0, -np.inf]]])
    found = audit._hottest(heat, np.array([[mouth, eyes, nose]], bool))
    np.testing.assert_array_equal(found, [[2, np.nan, 4]])
