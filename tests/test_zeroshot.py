"""Sets in the wild: pairs under one treatment, strangers' eigenfaces, what a panel learns from."""

from dataclasses import replace

import numpy as np
import pytest
from samples import made_up

from seglib import demo, faces, mismatch, perturbation, stacking, zeroshot
from seglib.errors import UnknownName


@pytest.fixture
def pictured(small, monkeypatch):
    """What would be described, in place of its descriptors: pictures by the name of the set."""
    made = {}

    def kept(name, recipe, describe, beside, made_by):
        class Watching:
            detector = faces.load("mesh")

            @staticmethod
            def several(pictures, recipes, total, label):
                made[name] = list(pictures)
                assert len(made[name]) == total
                return [None]

        monkeypatch.setattr(demo, "networks", lambda recipe: Watching)
        describe([recipe])
        return np.array([name])

    monkeypatch.setattr(demo, "kept", kept)
    monkeypatch.setattr(zeroshot.Descriptors, "joined", list)
    whole = demo.people("csu")
    table = whole[whole.group < 4].reset_index(drop=True)  # whole couples, in several folds
    monkeypatch.setattr(demo, "people", lambda dataset, seed=0: table)

    def found(method, draw=0, treated=True):
        made.clear()
        sample = zeroshot.in_the_wild("csu", method, small, draw, treated)
        return sample, *made.values()

    return found


@pytest.mark.parametrize("method", zeroshot.METHODS)
def test_a_picture_and_its_forgery_get_one_treatment(pictured, monkeypatch, method):
    treated = []
    monkeypatch.setattr(
        perturbation, "wild", lambda image, seed: treated.append(tuple(seed)) or image
    )
    sample, real, fake = pictured(method)
    count = len(real)
    assert treated[:count] == treated[count:] == [(0, 0, number) for number in range(count)]
    assert sample.labels.tolist() == [0] * count + [1] * count
    differ = [(one != other).any() for one, other in zip(real, fake, strict=True)]
    assert all(differ)
    assert all(one.shape == other.shape for one, other in zip(real, fake, strict=True))


def test_untouched_pictures_are_the_forged_ones_as_they_are(pictured, monkeypatch):
    monkeypatch.setattr(perturbation, "wild", lambda image, seed: pytest.fail("was treated"))
    sample, real, fake = pictured("mismatch", treated=False)
    looked = [zeroshot.enlarged(path, faces.load("mesh"))[0] for path in demo.people("csu").path]
    assert all((one == other).all() for one, other in zip(real, looked, strict=True))
    assert all((one != other).any() for one, other in zip(real, fake, strict=True))
    assert sample.name == "csu: mismatch"
    _, again, other = pictured("mismatch", draw=1, treated=False)
    assert all((one == two).all() for one, two in zip(real, again, strict=True))
    assert any((one != two).any() for one, two in zip(fake, other, strict=True))


def test_another_draw_redraws_everything(pictured):
    _, *first = pictured("mismatch", 0)
    _, *second = pictured("mismatch", 1)
    for one, other in zip(first, second, strict=True):
        differ = [(a != b).any() for a, b in zip(one, other, strict=True)]
        assert np.mean(differ) > 0.8


def test_eigenfaces_are_of_strangers(pictured, monkeypatch):
    learned, coded = [], []
    codec_of, recoded = mismatch.Codec.of, mismatch.recoded

    def of(pictures, found):
        codec = codec_of(pictures, found)
        learned.append((codec, {one.tobytes() for one in pictures}))
        return codec

    def watched(image, face, codec, seed):
        coded.append((image.tobytes(), codec))
        return recoded(image, face, codec, seed)

    monkeypatch.setattr(zeroshot.Codec, "of", of)
    monkeypatch.setattr(mismatch, "recoded", watched)
    pictured("recoded")
    groups = demo.people("csu").group.to_numpy()
    known = {id(codec): seen for codec, seen in learned}
    images = [image for image, _ in coded]
    for number, (_, codec) in enumerate(coded):
        own = {images[at] for at in np.flatnonzero(groups == groups[number])}
        assert known[id(codec)]
        assert not known[id(codec)] & own


def test_an_unknown_way_of_forging_is_refused(small):
    with pytest.raises(UnknownName, match="did you mean 'mismatch'"):
        zeroshot.in_the_wild("csu", "mismatched", small)


def test_a_small_picture_is_enlarged_before_it_is_forged():
    detector = faces.load("mesh")
    image, face = zeroshot.enlarged(demo.people("orl").path[0], detector)
    assert image.shape == (224, 184, 3)
    assert face.extent > 100


def test_the_panel_is_trained_on_the_taught_and_nothing_else(small, monkeypatch):
    asked = []

    def sample(dataset, method, recipe, draw):
        asked.append((dataset, method, draw))
        made = made_up(people=20, each=2, seed=len(asked))
        return replace(made, groups=np.array([f"{dataset} {group}" for group in made.groups]))

    monkeypatch.setattr(zeroshot, "in_the_wild", sample)
    fit, learned = stacking.fit, []
    monkeypatch.setattr(stacking, "fit", lambda *given: learned.append(given[2]) or fit(*given, 2))
    found = zeroshot.train(small)
    assert {method for _, method, _ in asked} == set(zeroshot.TAUGHT)
    assert {dataset for dataset, *_ in asked} == set(demo.DATASETS)
    assert "No real deepfake was seen" in found.card["training"]
    assert "80 photographs, each treated 2 times and forged 2 times each" in found.card["training"]
    assert found.card["limits"] == zeroshot.LIMITS
    assert len(learned) == 1
    assert len(set(learned[0])) == 2 * 20  # couples of two collections stay apart
