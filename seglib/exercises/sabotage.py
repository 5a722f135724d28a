"""Checkers of the sabotaged chapters: each runs the chapter's control on made-up data.

They say which control fails, and by how much; where the fault is has to be found.
"""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
import pandas as pd

from seglib.exercises import ask, checker, expect

COUPLES, EACH, WIDTH = 12, 8, 24  # of made-up people: pictures a person, numbers a picture


@checker("S1")
def couples(answer):
    def mean_auc(trace, draws):
        found = (ask(answer, *_couples(seed, trace)) for seed in range(draws))
        return np.mean([float(getattr(one, "value", one)) for one in found])

    nothing = mean_auc(0, 8)
    expect(
        abs(nothing - 0.5) < 0.15,
        "The control of labels dealt anew fails: a coin said who of each couple is forged, and "
        f"your AUC is {nothing:.2f} on average.",
    )
    found = mean_auc(8, 2)
    expect(found > 0.8, f"A trace that nobody could miss is there, and your AUC is {found:.2f}.")


def _couples(seed, trace):
    """Descriptors and a table like the chapter's; a coin says which of a couple is forged."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(2 * COUPLES), EACH)
    group, partner = person // 2, person ^ 1
    label = (person + rng.integers(0, 2, COUPLES)[group]) % 2
    looks = rng.normal(size=(2 * COUPLES, WIDTH))
    rows = looks[person] + 0.5 * label[:, None] * looks[partner]
    rows += rng.normal(0, 0.3, rows.shape)
    rows[:, 0] += trace * label
    columns = {"label": label, "person": person, "partner": partner, "group": group}
    order = rng.permutation(len(rows))
    table = pd.DataFrame(columns | {"item": [f"item {n:03}" for n in range(len(rows))]})
    return rows[order], table.iloc[order].reset_index(drop=True)


@checker("S2")
def verdicts(answer):
    def judged(rows, labels, groups):
        found = np.asarray(ask(answer, rows, labels.copy(), groups))
        expect(found.shape == labels.shape, "Every picture gets one verdict.")
        return found

    def share_right(trace, draws):
        drawn = [_pictures(seed, trace) for seed in range(draws)]
        return np.mean([judged(*one) == one[1] for one in drawn])

    nothing = share_right(0, 20)
    expect(
        abs(nothing - 0.5) < 0.05,
        "The control of labels dealt anew fails: a coin said what is forged, and your verdicts "
        f"are right in {nothing:.0%} of all cases.",
    )
    found = share_right(6, 3)
    expect(
        found > 0.8,
        f"A trace that nobody could miss is there, and your verdicts are right in {found:.0%}.",
    )
    for seed in range(8):
        rows, labels, groups = _pictures(seed, 0)
        couple = groups == seed
        turned = np.where(couple, 1 - labels, labels)
        same = judged(rows, labels, groups)[couple] == judged(rows, turned, groups)[couple]
        expect(
            same.all(),
            "Only the labels of one couple were turned round, and the verdicts on that couple "
            "changed.",
        )


def _pictures(seed, trace):
    """Of each couple one bona fide and one forged, which shows by so much."""
    rng = np.random.default_rng(seed)
    groups, labels = np.repeat(np.arange(15), 2), np.tile([0, 1], 15)
    rows = rng.normal(size=(30, 8))
    rows[:, 0] += trace * labels
    return rows, labels, groups


@checker("S3")
def clips(answer):
    frames = _frames()
    true = frames.groupby("video_uid").agg(
        {"label": "first", "group": "first", "score": "mean", "frame": "size"}
    )
    found = ask(answer, frames.copy())
    expect(
        isinstance(found, pd.DataFrame) and {"label", "group", "score", "frames"} <= set(found),
        "Expected a table with label, group, score and frames.",
    )
    expect(
        len(found) == len(true),
        f"The control of the count fails: the manifest has {len(true)} videos, and your table "
        f"{len(found)}.",
    )
    expect(
        found.frames.max() <= true.frame.max(),
        f"The control of frames fails: {true.frame.max()} were asked of each video, and one of "
        f"yours has {found.frames.max()}.",
    )
    expect(
        np.allclose(np.sort(found.score), np.sort(true.score)),
        "Your scores are not the means of the videos' frames.",
    )
    same = [np.sort(one.score[one.label == 1]) for one in (found, true)]
    expect(len(same[0]) == len(same[1]) and np.allclose(*same), "A score has another's label.")
    groups = [sorted(zip(one.group, one.score.round(9), strict=True)) for one in (found, true)]
    expect(groups[0] == groups[1], "A score has another's group.")


def _frames():
    """Frames of a collection with methods, and compressions, that call their videos alike."""
    rng, rows = np.random.default_rng(3), []
    homes = {"original": "original_sequences/youtube"}
    homes |= {way: f"manipulated_sequences/{way}" for way in ("Deepfakes", "NeuralTextures")}
    for (way, home), rate, pair in product(homes.items(), ("c23", "c40"), range(4)):
        one, other = f"{2 * pair:03}", f"{2 * pair + 1:03}"
        stem = one if way == "original" else f"{one}_{other}"
        video = {
            "video_uid": f"ffpp/{rate}/{way}/{stem}",
            "path": f"/data/{home}/{rate}/videos/{stem}.mp4",
            "label": int(way != "original"),
            "dataset": "ffpp",
            "method": way,
            "compression": rate,
            "split": "test",
            "source": f"ffpp/{other}" if way != "original" else "",
            "target": f"ffpp/{one}",
            "pair_id": f"ffpp/{rate}/original/{one}" if way != "original" else "",
            "group": f"ffpp/c23/original/{one}",
        }
        count = rng.integers(2, 6)
        rows += [video | {"frame": n, "reason": "", "score": rng.normal()} for n in range(count)]
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


@checker("S4")
def files(answer):
    rng = np.random.default_rng(4)
    for _ in range(3):
        image = cv2.GaussianBlur(rng.integers(0, 256, (96, 80, 3), dtype=np.uint8), (0, 0), 1.5)
        bona_fide, left = (
            np.asarray(ask(answer, image.copy(), *forge), int) for forge in ((), (np.copy,))
        )
        forged = np.asarray(ask(answer, image.copy(), _patched), int)
        expect(
            all(one.shape == image.shape for one in (bona_fide, left, forged)),
            "Expected a picture as large as the one that was given.",
        )
        expect(np.abs(bona_fide - image).mean() < 20, "The picture itself is lost.")
        change = np.abs(forged - left)
        expect(change[40:56, 30:50].mean() > 30, "What the forger did cannot be seen any more.")
        apart = np.abs(bona_fide - left).max()
        expect(
            apart == 0,
            "The control of nothing forged fails: from the hands of a forger who changes nothing a "
            f"picture comes up to {apart} grey levels away from the bona fide one.",
        )


def _patched(image):
    """A forger who cannot be overlooked."""
    found = image.copy()
    found[40:56, 30:50] = 255 - found[40:56, 30:50] // 4
    return found
