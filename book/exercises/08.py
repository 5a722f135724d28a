"""Exercises of chapter 08 and their solutions; the notebook's stubs are derived from them."""

# %% 08-1
# *Warm-up.* The probe's log-odds are for even odds of both classes. What is the probability where
# only some share of all pictures is forged? Take one in a thousand.
from seglib import exercises


def posterior(score, share):
    """Probability of fake, given log-odds at even odds and the share."""
    # solution
    import math

    odds = math.exp(score) * share / (1 - share)
    return odds / (1 + odds)
    # end


exercises.check("08-1", posterior)


# %% 08-2
# *What may be said?* A distance above 1 is beyond the training's range. Score a picture, save it as
# JPEG at quality 20, score it again: which moves more, the probability or the distance?
def said(probability, threshold, distance):
    """'above', 'below', or 'none' where nothing may be said."""
    # solution
    if not distance <= 1 or probability != probability:
        return "none"
    return "above" if probability > threshold else "below"
    # end


exercises.check("08-2", said)


# %% 08-3
# *Project.* One score for a video, from its frames. Then design a measure of the chance in *which
# forgeries* were trained on, and try it on those of `zeroshot.METHODS`.
def video(frames):
    """Log-odds of a video from its frames' (N,), NaN where no face was."""
    # solution
    seen = [score for score in frames if score == score]
    return sum(seen) / len(seen) if seen else float("nan")
    # end


exercises.check("08-3", video)
