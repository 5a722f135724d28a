"""Tables of scores on disk: read back as written, and a changed row is named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib import scoretable
from seglib.evaluation import Scores
from seglib.scoretable import BadRecord


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1]),
            st.one_of(st.just(np.nan), st.floats(-1e6, 1e6)),
            st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8),
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 3),
)
@settings(max_examples=50)
def test_any_table_comes_back(tmp_path_factory, rows, seeds):
    labels, scores, items = (np.array(column) for column in zip(*rows, strict=True))
    views = {"a view": np.stack([scores.astype(float)] * seeds)}
    table = Scores(labels, np.arange(len(labels)), views, items=items)
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    scoretable.write(table, path)
    again = scoretable.read(path, {})
    np.testing.assert_array_equal(again.labels, labels)
    np.testing.assert_array_equal(again.items, items)
    np.testing.assert_allclose(again.views["a view"], views["a view"], rtol=1e-4)
    assert again.probes is None
    assert again.methods.tolist() == [""] * len(labels)


@pytest.fixture
def path(tmp_path):
    labels = np.array([0, 1, 0, 1])
    scores = Scores(labels, labels, {"m": labels + 0.5}, items=np.array(["a", "b", "c, d", "e"]))
    scoretable.write(scores, tmp_path / "scores.csv")
    return tmp_path / "scores.csv"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("a,0,,0,0.5,", "a,0,,0,0.6,", "line 2, item 'a',"),
        ("a,0,,0,0.5,", "a,1,,0,0.5,", "line 2, item 'a',"),
        ("b,1,,1,1.5,", "b,1,,1,,", "line 3, item 'b',"),
        ('"c, d"', '"c, e"', "line 4, item 'c, e',"),
    ],
)
def test_a_changed_row_is_named(path, old, new, line):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(BadRecord, match=rf"scores\.csv: {line} was changed"):
        scoretable.read(path, {})


@pytest.mark.parametrize(
    "text", [None, "", "a,b\n1,2\n", "item,label\n", "\x00", "item,check\nx,y"]
)
def test_what_is_no_table_of_scores(path, text):
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(BadRecord, match=r"scores\.csv"):
        scoretable.read(path, {})


def test_groups_are_kept_as_they_are(tmp_path):
    labels = np.tile([False, True], 20)
    groups = 100000.0 + np.arange(40) // 2
    scoretable.write(Scores(labels, groups, {"m": np.zeros(40)}), tmp_path / "s.csv")
    again = scoretable.read(tmp_path / "s.csv", {})
    assert len(set(again.groups)) == 20
    assert again.labels.tolist() == [0, 1] * 20


def test_a_view_may_not_be_called_as_the_column_of_probes(tmp_path):
    labels = np.array([0, 1])
    with pytest.raises(BadRecord, match="a view is called 'probe'"):
        scoretable.write(Scores(labels, labels, {"probe": labels + 0.5}), tmp_path / "s.csv")
