"""Exercises of chapter 07 and their solutions; the notebook's stubs are derived from them."""

# %% 07-1
# *Warm-up.* Draw the colours of a picture towards grey. At a factor of 1 nothing may change, at 0
# only luma is left: 0.299 of red, 0.587 of green, 0.114 of blue.
from seglib import exercises


def paler(image, factor):
    """An (H, W, 3) uint8 picture with a part of its colour, as uint8."""
    # solution
    luma = (image @ [0.299, 0.587, 0.114])[..., None]
    found = luma + factor * (image - luma)
    return np.clip(np.round(found), 0, 255).astype(np.uint8)
    # end


exercises.check("07-1", paler)


# %% 07-2
# *Fair treatment.* Add noise to a picture and to its forgery so that the noise cannot tell them
# apart, and so that tomorrow it is the same again.
def pair(real, fake, spread, seed):
    """Both (H, W, 3) float pictures with Gaussian noise of that spread."""
    # solution
    grain = np.random.default_rng(seed).normal(0, spread, real.shape)
    return real + grain, fake + grain
    # end


exercises.check("07-2", pair)


# %% 07-3
# *Project.* A detector that is silent on what is hard looks better than it is. Give the AUC of those
# that have a score, and the worst that it can be once the silent ones count. Then ask both of a kind
# that loses faces.
def bounds(labels, scores):
    """Two AUCs; labels (N,) of 0 and 1, scores (N,) with NaN for silent."""
    # solution
    from sklearn.metrics import roc_auc_score

    silent = np.isnan(scores)
    worst = np.where(labels == 1, -1e9, 1e9)
    filled = np.where(silent, worst, scores)
    spoken = roc_auc_score(labels[~silent], scores[~silent])
    return spoken, roc_auc_score(labels, filled)
    # end


exercises.check("07-3", bounds)
