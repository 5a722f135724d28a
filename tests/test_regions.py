"""Names of labels and parts."""

import pytest

from seglib import regions
from seglib.errors import UnknownName


def test_the_ids_are_lapas():
    # As FacePerceiver/facer lists them for farl/lapa/448; a model's output depends on it.
    assert [regions.label_id(name) for name in ("background", "rb", "le", "ulip", "hair")] == [
        0, 2, 5, 7, 10,
    ]  # fmt: skip
    assert regions.part_ids("mouth") == (7, 8, 9)


def test_the_face_is_the_disjoint_union_of_its_parts():
    small = [regions.part_ids(part) for part in ("mouth", "eyes", "brows", "nose", "skin")]
    together = [i for ids in small for i in ids]
    assert sorted(together) == sorted(regions.part_ids("face"))
    assert set(regions.part_ids("all")) - set(together) == {
        regions.label_id("background"),
        regions.label_id("hair"),
    }


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'mouth'"):
        regions.part_ids("mout")
    with pytest.raises(UnknownName, match="did you mean 'ulip'"):
        regions.label_id("ulib")
