"""Names of labels and parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib import regions
from seglib.errors import UnknownName

# As FacePerceiver/facer 0.0.5 lists them for farl/celebm/448.
CELEBM = (
    "background", "neck", "face", "cloth", "rr", "lr", "rb", "lb", "re", "le", "nose", "imouth",
    "llip", "ulip", "hair", "eyeg", "hat", "earr", "neck_l",
)  # fmt: skip


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


def test_lapas_own_labels_stand_where_they_stood():
    found = regions.vocabulary(regions.LABELS)
    assert found.dtype == np.uint8
    assert found.tolist() == list(range(11))


def test_celebamasks_labels_find_their_place_by_name():
    found = dict(zip(CELEBM, regions.vocabulary(CELEBM).tolist(), strict=True))
    assert {name: found[name] for name in regions.LABELS} == {
        name: regions.label_id(name) for name in regions.LABELS
    }
    assert {found[name] for name in ("face", "rr", "lr", "eyeg")} == {regions.label_id("face")}
    beyond = ("background", "hat", "earr", "neck", "neck_l", "cloth")
    assert {found[name] for name in beyond} == {regions.label_id("background")}


@given(st.permutations(CELEBM))
def test_the_order_of_the_names_does_not_matter(names):
    in_order = dict(zip(CELEBM, regions.vocabulary(CELEBM), strict=True))
    assert regions.vocabulary(names).tolist() == [in_order[name] for name in names]


def test_a_label_that_nobody_knows_is_refused():
    with pytest.raises(UnknownName, match=r"unknown label 'beard'.*background"):
        regions.vocabulary([*regions.LABELS, "beard"])


def test_a_set_that_lacks_labels_is_refused_by_their_names():
    with pytest.raises(regions.MissingLabel, match=r"without rb, hair; expected all of background"):
        regions.vocabulary([name for name in CELEBM if name not in ("rb", "hair")])
