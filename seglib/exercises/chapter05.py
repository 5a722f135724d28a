"""Checkers of chapter 05, the audit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seglib.exercises import ask, checker, expect


@checker("05-1")
def leak(answer):
    rng = np.random.default_rng(1)
    for _ in range(20):
        rows, columns = ["mouth", "eyes", "brows", "nose"], ["eyes", "nose", "mouth"]
        table = pd.DataFrame(rng.uniform(0.3, 0.8, (4, 3)), rows, columns)
        for part in columns:
            table.loc[part, part] = 0.95
        found = tuple(ask(answer, table.copy()))
        expect(len(found) == 2, "Expected whose tokens, and what was forged.")
        expect(found[0] in rows and found[1] in columns, f"The matrix has no cell {found}.")
        expect(found[0] != found[1], "That is detection: the tokens' own part was forged.")
        others = table.stack().drop([(part, part) for part in columns])
        expect(found == others.idxmax(), "Another cell leaks more.")


@checker("05-2")
def shares(answer):
    rng = np.random.default_rng(2)
    for count in (1, 7):
        tokens, centre, direction = rng.normal(size=(count, 12)), *rng.normal(size=(2, 12))
        found = np.asarray(ask(answer, tokens, centre, direction), float)
        expect(found.shape == (count,), f"Found shape {found.shape}; expected a share a token.")
        score = (tokens.mean(0) - centre) @ direction
        expect(
            count == 1 or not np.isclose(found.sum(), score * count),
            "They sum to too much: the probe sees the mean.",
        )
        expect(np.isclose(found.sum(), score), "The shares do not sum to the score.")
        one = ((tokens - centre) @ direction) / count
        expect(np.allclose(found, one), "The sum is right; the shares are not each token's own.")


@checker("05-3")
def named(answer):
    nan = np.nan
    scores = {
        "mouth": np.array([2.0, -3.0, nan, nan, -1.0]),
        "eyes": np.array([1.0, -1.0, 0.5, nan, -2.0]),
        "nose": np.array([0.0, -2.0, nan, nan, 3.0]),
    }
    found = list(ask(answer, scores))
    expect(len(found) == 5, f"Found {len(found)} names; expected one a picture.")
    expect(found[3] == "", "Where no part has a score, nothing can be named: expected ''.")
    expect(found[2] == "eyes", "A part without a score was let win, or lost to nobody.")
    expect(found == ["mouth", "eyes", "eyes", "", "nose"], "The highest score does not win.")
    turned = [str(name) for name in ask(answer, dict(reversed(scores.items())))]
    expect(turned == found, "Your answer depends on the order of the parts.")
