"""Checkers of chapter 08, your own media."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from seglib.exercises import ask, checker, expect, number


@checker("08-1")
def posterior(answer):
    for score in (-2.0, 0.0, 3.0):
        even = number(answer, score, 0.5)
        expect(np.isclose(even, expit(score)), "At even odds it is the probe's own probability.")
        for share in (0.001, 0.2, 0.9):
            found = number(answer, score, share)
            expect(0 <= found <= 1, f"Found {found:g}; a probability lies between 0 and 1.")
            expect(not np.isclose(found, expit(score) * share), "Multiply odds, not probabilities.")
            expect(np.isclose(found, expit(score + logit(share))), "The posterior is wrong.")


@checker("08-2")
def said(answer):
    cases = {(0.9, 0.5, 0.4): "above", (0.2, 0.5, 0.4): "below", (0.9, 0.5, 1.7): "none"}
    for case, true in cases.items():
        found = ask(answer, *case)
        hint = (
            "A face unlike the training ones gets no finding." if true == "none" else "Wrong side."
        )
        expect(found == true, hint)
    unknown = ask(answer, float("nan"), 0.5, 0.2)
    expect(unknown == "none", "Without a probability there is nothing to say.")
    expect(
        ask(answer, 0.9, 0.5, float("nan")) == "none", "A distance that is unknown is not small."
    )


@checker("08-3")
def video(answer):
    frames = np.array([1.0, np.nan, 3.0, -1.0])
    found = number(answer, frames)
    expect(not np.isnan(found), "One frame without a face makes your video's score vanish.")
    expect(found != 0.75, "A frame without a face is no evidence of either: it is not a zero.")
    expect(np.isclose(found, 1.0), "The video's score is the mean of its frames' log-odds.")
    expect(
        np.isnan(number(answer, np.full(3, np.nan))), "No frame was scored, and you give a score."
    )
