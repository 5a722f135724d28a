"""How far a descriptor lies from those that a probe was trained on.

A linear probe gives a score to anything. What lies farther from its training descriptors than
nearly all held-out ones did is a picture of another kind, and its score says little. The distance
is Mahalanobis's with a shrunk covariance (Ledoit & Wolf, *A Well-Conditioned Estimator for
Large-Dimensional Covariance Matrices*, Journal of Multivariate Analysis 88, 2004), as Lee et al.
use it on a network's features (NeurIPS 2018, arXiv 1807.03888). Taught in chapter 08.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FOLDS = 5
USUAL = 0.99  # the share of descriptors of other people that are no farther than the limit


@dataclass(frozen=True)
class Reference:
    """What a probe was trained on, as far as its distance is concerned.

    centre ``(W,)``; precision ``(W, W)``, the inverse of the shrunk covariance; limit: the
    distance that `USUAL` of the training descriptors did not exceed when their people were held
    out.
    """

    centre: np.ndarray
    precision: np.ndarray
    limit: float

    def distance(self, descriptors: np.ndarray) -> np.ndarray:
        """Distance ``(N,)`` from the centre, in limits: above 1 is outside; NaN without one."""
        return _distance(descriptors, self.centre, self.precision) / self.limit


def fit(descriptors: np.ndarray, groups: np.ndarray) -> tuple[Reference, np.ndarray]:
    """Learn from all rows that have a descriptor; also the distances ``(N,)`` of people held out.

    Parameters
    ----------
    descriptors : (N, W) float
        NaN rows are left out.
    groups : (N,)
        Whose distance is taken to learn the limit has not been learned from, nor has anyone of
        their group.
    """
    from sklearn.covariance import LedoitWolf  # only who trains waits for them
    from sklearn.model_selection import GroupKFold

    seen = ~np.isnan(descriptors).any(1)
    rows, groups = descriptors[seen].astype(float), np.asarray(groups)[seen]
    held_out = np.zeros(len(rows))
    for train, test in GroupKFold(FOLDS).split(rows, groups=groups):
        learned = LedoitWolf().fit(rows[train])
        held_out[test] = _distance(rows[test], learned.location_, learned.precision_)
    whole, limit = LedoitWolf().fit(rows), usual(held_out)
    distances = np.full(len(seen), np.nan)
    distances[seen] = held_out / limit
    return Reference(whole.location_, whole.precision_, limit), distances


def usual(distances: np.ndarray) -> float:
    """The distance that `USUAL` of them do not exceed."""
    return float(np.nanquantile(distances, USUAL))


def _distance(descriptors: np.ndarray, centre: np.ndarray, precision: np.ndarray) -> np.ndarray:
    steps = descriptors - centre
    # Rounding may take the form of a descriptor near the centre below 0.
    return np.sqrt(np.einsum("nw,wv,nv->n", steps, precision, steps, optimize=True).clip(0))
