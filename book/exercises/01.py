"""Exercises of chapter 01 and their solutions; the notebook's stubs are derived from them."""

# %% 01-1
# *Warm-up.* Which share of a label map is mouth? Then ask it of the six `label_maps` above.
from seglib import exercises, regions


def mouth_share(label_map):
    """Share of the pixels of an (H, W) label map that are the mouth's."""
    # solution
    import numpy as np

    return np.isin(label_map, regions.part_ids("mouth")).mean()
    # end


exercises.check("01-1", mouth_share)


# %% 01-2
# *Turn it.* By how many degrees does a map like `crop.matrix` turn a picture? Turn the portrait
# anticlockwise by a few angles, `skimage.transform.rotate(portrait, 20, preserve_range=True)` as
# `np.uint8`, run the chain, and see how far your answer *moves* from that of the unturned one: the
# crop turns back, and the detector is good to a degree or so.
def turn(matrix):
    """Degrees of a (2, 3) map of turning, scaling and shifting; clockwise
    on the screen is positive, for y points down."""
    # solution
    import math

    return math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
    # end


exercises.check("01-2", turn)


# %% 01-3
# *Project.* Draw your own part: the chin, as a ring of mesh points (`crop.face.mesh`), that stays
# below the lips and on the skin for other people too.
def chin():
    """Numbers of mesh points, in order around the chin."""
    # solution
    return [18, 194, 32, 140, 176, 148, 152, 377, 400, 369, 262, 418]
    # end


exercises.check("01-3", chin)
