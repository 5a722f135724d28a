"""Exercises of chapter 06 and their solutions; the notebook's stubs are derived from them."""

# %% 06-1
# *Warm-up.* Celeb-DF's list begins each line with a digit. Turn it into labels with 1 for fake.
from seglib import exercises


def fake(lines):
    """1 for a fake, 0 for bona fide, of each line of the list."""
    # solution
    return [1 - int(line.split()[0]) for line in lines]
    # end


exercises.check("06-1", fake)


# %% 06-2
# *Merged.* FaceForensics++ calls videos of different methods alike. Give each path a name of its own
# that may be a file's name, and that is the same tomorrow.
def uids(paths):
    """One name a path; different paths, different names."""
    # solution
    import hashlib

    return [hashlib.sha256(path.encode()).hexdigest()[:16] for path in paths]
    # end


exercises.check("06-2", uids)


# %% 06-3
# *Project.* Choose the lowest threshold above which at most a share of bona fide scores lies. Choose
# it on the training people, count the false alarms on others, and explain the difference.
def threshold(bona_fide, rate):
    """A threshold; an alarm is a score above it."""
    # solution
    scores = np.unique(bona_fide)
    above = [(bona_fide > score).mean() for score in scores]
    return scores[np.array(above) <= rate][0]
    # end


exercises.check("06-3", threshold)
