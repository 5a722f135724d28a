"""The distance against a plain formula, its limit against people who were held out."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from seglib import novelty


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 3, np.arange(300) // 10


def test_the_distance_is_mahalanobiss(rows):
    descriptors, groups = rows
    (reference, _), learned = novelty.fit(descriptors, groups), LedoitWolf().fit(descriptors)
    inverse = np.linalg.inv(learned.covariance_)
    for row, found in zip(descriptors[:20], reference.distance(descriptors[:20]), strict=True):
        step = row - learned.location_
        assert found == pytest.approx(np.sqrt(step @ inverse @ step) / reference.limit)


def test_other_people_of_the_kind_are_inside_and_what_is_far_is_outside(rows):
    descriptors, groups = rows
    reference, _ = novelty.fit(descriptors[:200], groups[:200])
    assert (reference.distance(descriptors[200:]) > 1).mean() <= 0.05
    assert (reference.distance(descriptors[200:] + 100) > 1).all()
    assert np.isnan(reference.distance(np.full((1, 6), np.nan))).all()


def test_the_limit_is_of_people_held_out():
    """Each group lies apart from all the others: within, all would be near."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 30)
    descriptors = rng.normal(size=(10, 40))[groups] * 5 + 0.01 * rng.normal(size=(300, 40))
    reference, distances = novelty.fit(descriptors, groups)
    assert np.quantile(distances, 0.99) == pytest.approx(1)
    assert np.quantile(reference.distance(descriptors), 0.99) < 0.7


def test_rows_without_a_descriptor_are_left_out(rows):
    descriptors, groups = rows
    more = np.concatenate([descriptors, np.full((5, 6), np.nan)])
    again, distances = novelty.fit(more, np.concatenate([groups, groups[:5]]))
    first, _ = novelty.fit(descriptors, groups)
    np.testing.assert_array_equal(again.precision, first.precision)
    assert np.isnan(distances[-5:]).all()
    assert not np.isnan(distances[:-5]).any()
