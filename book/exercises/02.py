"""Exercises of chapter 02 and their solutions; the notebook's stubs are derived from them."""

# %% 02-1
# *Warm-up.* How many tokens of a part are left under each rule? Then ask it for `"eyes"` on the `label_map` above.
from seglib import exercises


def tokens_left(label_map, grid, part, rules):
    """Kept tokens by rule, a dict, of an (H, W) label map."""
    # solution
    return {rule: indexing.keep(label_map[None], grid, part, rule).sum() for rule in rules}
    # end


exercises.check("02-1", tokens_left)


# %% 02-2
# *By hand.* Compute the label of one patch with loops over its pixels, without NumPy's counting.
def patch_label(label_map, side, row, column):
    """Label of one patch of `side` pixels; a tie goes to the lower one."""
    # solution
    counts = [0] * 11
    for y in range(row * side, (row + 1) * side):
        for x in range(column * side, (column + 1) * side):
            counts[label_map[y, x]] += 1
    return counts.index(max(counts))
    # end


exercises.check("02-2", patch_label)


# %% 02-3
# *Project.* Which two parts have the most similar descriptors, by the mean cosine over people? Write
# the function, give it the demo's people, and find out whether it is a matter of distance.
def most_alike(parts):
    """Two places on the second axis of descriptors (people, parts, width);
    NaN where somebody lacks a part."""
    # solution
    unit = parts / np.linalg.norm(parts, axis=-1, keepdims=True)
    cosine = np.nanmean(unit @ unit.transpose(0, 2, 1), axis=0)
    np.fill_diagonal(cosine, -np.inf)
    return np.unravel_index(cosine.argmax(), cosine.shape)
    # end


exercises.check("02-3", most_alike)
