"""Exercises of chapter 05 and their solutions; the notebook's stubs are derived from them."""

# %% 05-1
# *Warm-up.* In which cell of a matrix is leakage largest? Ask it of the contextual one above, and
# see whether the isolated encoder stops it.
from seglib import exercises


def leak(auc):
    """Whose tokens, and what was forged: row and column of a DataFrame."""
    # solution
    cells = auc.stack()
    rows, columns = (cells.index.get_level_values(i) for i in (0, 1))
    return cells[rows != columns].idxmax()
    # end


exercises.check("05-1", leak)


# %% 05-2
# *Share it out.* The score of a linear probe on a mean, less its constant, is
# $(\bar t - c) \cdot w$. Give each token its share, so that they sum to it.
def shares(tokens, centre, direction):
    """Shares (n,) of tokens (n, D); centre and direction are (D,)."""
    # solution
    return (tokens - centre) @ direction / len(tokens)
    # end


exercises.check("05-2", shares)


# %% 05-3
# *Project.* Let the highest score name the forged part, and say nothing where nothing was scored.
# Then ask it of the microscope's face under both encodings.
def named(scores):
    """Part with the highest score of each picture; scores is a dict of
    (N,) log-odds by part, NaN where there is none; '' if no part has one."""
    # solution
    parts = sorted(scores)
    table = np.stack([scores[part] for part in parts])
    best = np.nan_to_num(table, nan=-np.inf).argmax(0)
    seen = ~np.isnan(table).all(0)
    return [parts[i] if ok else "" for i, ok in zip(best, seen, strict=True)]
    # end


exercises.check("05-3", named)
