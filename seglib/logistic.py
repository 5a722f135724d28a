"""Logistic regression of the same rows under several strengths of its penalty, all at once.

One after the other each is a matrix times a vector, over and over, which waits for memory; together
they are a matrix times a matrix. The optimum is scikit-learn's, found more exactly.

The solver is an inexact Newton method: steps by conjugate gradients, shortened until the gradient
is smaller (Eisenstat & Walker, *Globally Convergent Inexact Newton Methods*, SIAM Journal on
Optimization 4(2), 1994). One Gram matrix preconditions them all: as p (1 - p) is at most 1/4, a
quarter of it bounds the curvature under every strength (Böhning & Lindsay, *Monotonicity of
Quadratic-Approximation Algorithms*, Annals of the Institute of Statistical Mathematics 40, 1988).
Gradients are in double precision, and steps, of which a rough one will do, in single. Taught in
chapter 03.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from seglib.errors import SeglibError

TOLERANCE = 1e-9  # of the gradient in the end: a share of how one class pulls at 0, see `_small`
ROUGHNESS = 0.1  # what a step may leave of it
DESCENT = 1e-4  # the share of what a step promises that it has to keep
STEPS, HALVINGS = 100, 30  # the most that are made; a dozen steps and no halving is usual
# As many products with the rows as a 24th of their width take as long as their Hessian does, which
# makes an exact step: measured with 400 x 384 and 80 000 x 1024.
PATIENCE = 24
CACHED = 2**17  # numbers of the rows that stay in a core's cache between two products with them
BATCH = 4096  # rows that are copied at a time


class BadRows(SeglibError, ValueError):
    """Rows, labels, weights or strengths that no logistic regression can be fitted to."""


class NotConverged(SeglibError, RuntimeError):
    """The optimum was not found."""


def fit(
    rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit under each strength.

    What is minimised is ``w @ w / 2 + C * sum(weights * log(1 + exp(-y * (rows @ w + b))))`` with y
    of -1 and 1, as by scikit-learn's ``LogisticRegression``: the intercept b is not penalised.

    Parameters
    ----------
    rows : (N, D) float
        Also kept in single precision meanwhile; what else is needed is small beside that.
    labels : (N,) of 0 and 1
    weights : (N,) float
        A row of weight k counts like k rows.
    C : (L,) float
        Inverse strengths of the penalty.

    Returns
    -------
    coefficients : (L, D) float64
        w of each strength.
    intercepts : (L,) float64

    Raises
    ------
    BadRows, NotConverged
    """
    rows, labels, C = np.asarray(rows, float), np.asarray(labels), np.asarray(C, float)
    _check(rows, labels, weights, C)
    labels = labels.astype(int)  # of unsigned ones, less than 0 would be more than 0
    if len(rows) < rows.shape[1]:
        # The penalty is blind to rotations, so that fewer features than rows say as much.
        basis, turned = np.linalg.qr(rows.T)
        coefficients, intercepts = fit(turned.T, labels, weights, C)
        return coefficients @ basis.T, intercepts
    rough, pulls = rows.astype(np.float32), C[:, None] * weights
    values, vectors = np.linalg.eigh(_gram(rows, weights / 4))
    bounds = values.clip(0), vectors  # below 0 is rounding
    found = _minimised(_Objective(rows, rough, labels, pulls, C[:, None], *bounds))
    return found[:, :-1], found[:, -1]


def _check(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, C: np.ndarray) -> None:
    for name, array in {"the rows": rows, "the weights": weights, "C": C}.items():
        if not np.isfinite(array).all():
            raise BadRows(
                f"a number in {name} is not finite; expected all to be. Leave rows without a "
                "descriptor out."
            )
    if np.min(weights) < 0 or np.min(C) <= 0:
        raise BadRows(
            f"found a weight of {np.min(weights):g} and a C of {np.min(C):g}; expected no weight "
            "below 0, and each C above it."
        )
    kinds = np.unique(labels[weights > 0])
    if not np.array_equal(kinds, [0, 1]):
        raise BadRows(
            f"rows that count have the labels {kinds.tolist()}; expected 0 and 1. Add items of "
            "the other kind."
        )


@dataclass(frozen=True)
class _Objective:
    """What is minimised, under L strengths, at points ``(K, W)`` of some of them, `under` ``(K,)``.

    A point has W = D + 1 numbers, of which the last is the intercept. rough ``(N, D)``: the rows in
    single precision; pulls ``(L, N)``: C times the weights; values ``(W,)`` and vectors ``(W, W)``:
    of a quarter of the Gram matrix.
    """

    rows: np.ndarray
    rough: np.ndarray
    labels: np.ndarray
    pulls: np.ndarray
    C: np.ndarray
    values: np.ndarray
    vectors: np.ndarray

    def slopes(self, points: np.ndarray, under: np.ndarray) -> tuple[np.ndarray, ...]:
        """Gradients ``(K, W)``; what each row bends ``(K, N)``; how hard all rows pull ``(K,)``."""
        bends, strain = np.empty((len(points), len(self.rows)), np.float32), np.zeros(len(points))

        def pull(logits: np.ndarray, batch: slice) -> np.ndarray:
            # Where a row is nearly certain, 1 - (1 - doubt) would be mostly rounding.
            signs = 2 * self.labels[batch] - 1
            doubts = expit(-signs * logits)
            pulls = self.pulls[under, batch] * doubts
            bends[:, batch] = pulls * (1 - doubts)
            strain[:] += pulls.sum(1)
            return -signs * pulls

        return _penalised(points) + _pulled(points, self.rows, pull), bends, strain

    def bent(self, steps: np.ndarray, bends: np.ndarray) -> np.ndarray:
        """The Hessians times a step each, ``(K, W)``."""
        single = steps.astype(np.float32)
        pulled = _pulled(single, self.rough, lambda logits, batch: bends[:, batch] * logits)
        return _penalised(steps) + pulled

    def newton(self, gradient: np.ndarray, bends: np.ndarray) -> np.ndarray:
        """The exact step ``(W,)`` of one objective."""
        hessian = _gram(self.rows, bends) + np.diag(_penalised(np.ones(len(gradient))))
        try:
            return -cho_solve(cho_factor(hessian), gradient)
        except np.linalg.LinAlgError as error:
            raise NotConverged(
                f"the curvature of a logistic regression has no inverse ({error}); expected rows "
                "of moderate size. Divide each feature by its standard deviation (conditioning "
                "`standardise`), or lower C."
            ) from error

    def preconditioned(self, gradients: np.ndarray, under: np.ndarray) -> np.ndarray:
        """The gradients times what bounds the inverse of their Hessian, ``(K, W)``."""
        bound = self.C[under] * self.values + 1
        return (gradients @ self.vectors / bound) @ self.vectors.T


def _pulled(points: np.ndarray, rows: np.ndarray, pull: Callable) -> np.ndarray:
    """The rows, each times what `pull` says of its logits at each point, summed: ``(K, W)``."""
    found, size = np.zeros_like(points), max(CACHED // rows.shape[1], 1)
    for start in range(0, len(rows), size):
        batch = slice(start, start + size)
        pulls = pull(points[:, :-1] @ rows[batch].T + points[:, -1:], batch)
        found[:, :-1] += pulls @ rows[batch]
        found[:, -1] += pulls.sum(1)
    return found


def _penalised(points: np.ndarray) -> np.ndarray:
    """All but the intercept."""
    points = points.copy()
    points[..., -1] = 0
    return points


def _gram(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted, of the rows with a 1 behind each: ``(D + 1, D + 1)``."""
    gram = np.zeros((rows.shape[1] + 1, rows.shape[1] + 1))
    for start in range(0, len(rows), BATCH):
        batch = slice(start, start + BATCH)
        some = np.pad(rows[batch], ((0, 0), (0, 1)), constant_values=1)
        some *= np.sqrt(weights[batch, None])
        gram += some.T @ some
    return gram


def _minimised(objective: _Objective) -> np.ndarray:
    """The optimum under each strength, ``(L, W)``.

    Raises
    ------
    NotConverged
    """
    under = np.arange(len(objective.C))
    points = np.zeros((len(under), len(objective.values)))
    gradients, bends, strain = objective.slopes(points, under)
    sizes, small = _sizes(objective, gradients, under), _small(objective, strain)
    for _ in range(STEPS):
        far = ~(sizes <= small[under] * strain)  # what is no number is far, too
        if not far.any():
            return points
        now = under, gradients, bends, strain, sizes
        under, gradients, bends, strain, sizes = (one[far] for one in now)
        steps = _steps(objective, gradients, bends, sizes, under)
        waiting, length = np.arange(len(under)), 1.0
        for _ in range(HALVINGS):
            tried = points[under[waiting]] + length * steps[waiting]
            found = objective.slopes(tried, under[waiting])
            size = _sizes(objective, found[0], under[waiting])
            lower = size <= (1 - DESCENT * length) * sizes[waiting]
            taken = waiting[lower]
            points[under[taken]], sizes[taken] = tried[lower], size[lower]
            gradients[taken], bends[taken], strain[taken] = (one[lower] for one in found)
            waiting, length = waiting[~lower], length / 2
            if not waiting.size:
                break
        else:
            break
    left = ", ".join(f"{C:g}" for C in objective.C[under[~(sizes <= small[under] * strain)], 0])
    raise NotConverged(
        f"no optimum was found under C = {left}; expected one within {STEPS} steps. Divide each "
        "feature by its standard deviation (conditioning `standardise`), or lower C."
    )


def _small(objective: _Objective, strain: np.ndarray) -> np.ndarray:
    """How small a gradient has to be ``(L,)`` for as hard as all rows pull together.

    Not a share of the gradient at 0 itself: where both classes have the same rows it is nothing
    but rounding, and 0 is the optimum.
    """
    pulls = objective.pulls * objective.labels / 2
    alone = np.column_stack([pulls @ objective.rows, pulls.sum(1)])
    return TOLERANCE * _sizes(objective, alone, np.arange(len(alone))) / strain


def _steps(
    objective: _Objective,
    gradients: np.ndarray,
    bends: np.ndarray,
    sizes: np.ndarray,
    under: np.ndarray,
) -> np.ndarray:
    """Newton's steps ``(K, W)``: rough ones by conjugate gradients, else exact ones."""
    steps, left = np.zeros_like(gradients), -gradients
    directions = objective.preconditioned(left, under)
    energies, going = sizes**2, np.arange(len(under))
    for _ in range(len(objective.values) // PATIENCE):
        bent = objective.bent(directions[going], bends[going])
        lengths = energies[going] / np.einsum("kw,kw->k", directions[going], bent)
        steps[going] += lengths[:, None] * directions[going]
        left[going] -= lengths[:, None] * bent
        ahead = objective.preconditioned(left[going], under[going])
        energy = np.einsum("kw,kw->k", left[going], ahead)
        directions[going] = ahead + (energy / energies[going])[:, None] * directions[going]
        energies[going] = energy
        going = going[energy > (ROUGHNESS * sizes[going]) ** 2]
        if not going.size:
            break
    for one in going:
        steps[one] = objective.newton(gradients[one], bends[one])
    return steps


def _sizes(objective: _Objective, gradients: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Lengths of gradients ``(K,)``, in which a stiff direction counts no more than another."""
    ahead = objective.preconditioned(gradients, under)
    return np.sqrt(np.einsum("kw,kw->k", gradients, ahead))
