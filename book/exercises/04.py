"""Exercises of chapter 04 and their solutions; the notebook's stubs are derived from them."""

# %% 04-1
# *Warm-up.* The control of *where*: as many tokens as the part has, from anywhere in the crop.
from seglib import exercises


def anywhere(kept, rng):
    """As many patches as in the (gh, gw) mask, at random places."""
    # solution
    return rng.permutation(kept.ravel()).reshape(kept.shape)
    # end


exercises.check("04-1", anywhere)


# %% 04-2
# *A fairer rival.* Pool some labels together, say skin and mouth, from what the package stores.
# Where does that view fall in the first figure, and why?
def union(sums, counts, labels):
    """Mean over all tokens of some labels; sums (11, D), counts (11,)."""
    # solution
    total = counts[labels].sum()
    return sums[labels].sum(0) / (total if total else np.nan)
    # end


exercises.check("04-2", union)


# %% 04-3
# *One in twenty.* Which share of intervals excludes zero? Then shuffle ORL's labels inside each
# group ten times, give three poolings to `trials.held_out`, and count the leads that look resolved.
def resolved(low, high):
    """Share of the intervals from low (N,) to high (N,) without zero."""
    # solution
    return ((low > 0) | (high < 0)).mean()
    # end


exercises.check("04-3", resolved)
