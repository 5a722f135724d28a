"""Exercises of chapter 03 and their solutions; the notebook's stubs are derived from them."""

# %% 03-1
# *Warm-up.* The AUC is the share of pairs, one fake and one bona fide, in which the fake scores
# higher. Compute it by counting pairs.
from seglib import exercises


def auc(labels, scores):
    """AUC by counting; labels and scores (N,), 1 is fake; a draw is half."""
    # solution
    ahead = scores[labels == 1][:, None] - scores[labels == 0]
    return (ahead > 0).mean() + 0.5 * (ahead == 0).mean()
    # end


exercises.check("03-1", auc)


# %% 03-2
# *The leak.* Deal items into folds so that no group is in two. Then deal them at random, score the
# demo both ways, and say whether the AUC is higher, and why or why not.
def folds(groups, count, seed):
    """A fold, 0 to count - 1, for each item (N,) of `groups`."""
    # solution
    names = np.unique(groups)
    dealt = np.random.default_rng(seed).permutation(len(names)) % count
    return dealt[np.searchsorted(names, groups)]
    # end


exercises.check("03-2", folds)


# %% 03-3
# *Project.* A 95 % interval of the AUC by the bootstrap. What must be drawn again, a picture or
# everybody's pictures? Compare both on the demo's scores.
def interval(labels, scores, groups, seed):
    """Lower and upper end, from 300 draws or more."""
    # solution
    rng, names, drawn = np.random.default_rng(seed), np.unique(groups), []
    rows = [np.flatnonzero(groups == name) for name in names]
    for _ in range(400):
        chosen = [rows[i] for i in rng.integers(0, len(names), len(names))]
        some = np.concatenate(chosen)
        one, other = scores[some][labels[some] == 1], scores[some][labels[some] == 0]
        ahead = one[:, None] - other
        drawn.append((ahead > 0).mean() + 0.5 * (ahead == 0).mean())
    return np.quantile(drawn, [0.025, 0.975])
    # end


exercises.check("03-3", interval)
