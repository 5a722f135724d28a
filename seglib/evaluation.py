"""Several detectors on the same videos: AUCs with intervals, and who is ahead of whom.

A detector is whatever gives a score: a probe on one view, several seeds of it, or somebody
else's software whose scores come in as a CSV. All stand in one table, on the same items.
Taught in chapters 03 and 06.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from seglib import manifest, metrics, probing
from seglib import recipe as recipes
from seglib.errors import SeglibError
from seglib.recipe import Recipe
from seglib.store import Store


class BadScores(SeglibError):
    """A CSV of scores that does not fit the manifest."""


class NoTraining(SeglibError):
    """The manifest holds nothing to train on."""


@dataclass(frozen=True)
class Scores:
    """What several detectors say of N items.

    labels ``(N,)`` with 1 = fake; groups ``(N,)``: what is resampled together; views: for each
    name ``(N,)`` or ``(S, N)`` scores, a row a seed, higher is more fake, NaN where the detector
    abstained. probes ``(S, N)``: which probe gave them, see `metrics.auc`.
    """

    labels: np.ndarray
    groups: np.ndarray
    views: dict[str, np.ndarray]
    probes: np.ndarray | None = None

    def auc(self, view: str) -> metrics.Interval:
        """AUC of one view with its group-bootstrap interval."""
        return metrics.auc(self.labels, self.views[view], self.groups, probes=self.probes)

    def lead(self, view: str, rival: str) -> metrics.Interval:
        """How far a view is ahead of a rival in AUC, on the same items, resampled together."""
        a, b = self.views[view], self.views[rival]
        return metrics.difference(self.labels, a, b, self.groups, probes=self.probes)

    def table(self, against: str) -> pd.DataFrame:
        """One row a view: its AUC, and the lead of `against` over it, each with its interval.

        A view that scored no item of one class has no AUC: NaN, beside its coverage.
        """
        rows = []
        for view, scores in self.views.items():
            scored = (~np.isnan(np.atleast_2d(scores))).all(0)
            try:
                own, lead = self.auc(view), self.lead(against, view)
            except metrics.OneClass:
                groups = len(np.unique(self.groups[scored]))
                rows.append((view, *[np.nan] * 6, scored.mean(), scored.sum(), groups))
                continue
            rows.append((view, own.value, own.low, own.high, lead.value, lead.low, lead.high,
                         own.coverage, own.items, own.groups))  # fmt: skip
        columns = ["view", "auc", "low", "high", "lead", "lead_low", "lead_high",
                   "coverage", "items", "groups"]  # fmt: skip
        table = pd.DataFrame(rows, columns=columns).set_index("view")
        table.attrs["part"] = against
        return table


def verdict(table: pd.DataFrame) -> str:
    """What a `Scores.table` allows to be said, one sentence a rival, from the intervals alone.

    A rival whose own interval lies below one half is called inverted: its probe learned
    something that points the wrong way here, and being ahead of it proves little.
    """
    against = table.attrs["part"]
    own = table.loc[against]
    lines = [f"{against}: AUC {own.auc:.3f} [{own.low:.3f}, {own.high:.3f}]"]
    for view, row in table.drop(index=against).iterrows():
        if row.lead_low > 0:
            verb = "is ahead of"
        elif row.lead_high < 0:
            verb = "is behind"
        else:
            verb = "cannot be told from"
        lead = f"{row.lead:+.3f} [{row.lead_low:+.3f}, {row.lead_high:+.3f}]"
        remark = " (inverted)" if row.high < 0.5 else ""
        lines.append(f"  {against} {verb} {view}{remark}: {lead}")
    return "\n".join(lines)


# -- videos -----------------------------------------------------------------------------------


def train(table: pd.DataFrame, store: Store, view: str, recipe: Recipe) -> Pipeline:
    """A probe on one view of the frames of a manifest's ``train`` split.

    Raises
    ------
    NoTraining, seglib.store.NotExtracted, seglib.probing.TooFewGroups
    """
    rows = table[table.split == "train"].set_index("video_uid")
    if rows.label.nunique() < 2:
        found = table.groupby("split").label.value_counts().to_dict()
        raise NoTraining(
            f"the split 'train' holds {len(rows)} videos of {rows.label.nunique()} classes; "
            f"expected bona fide and fake ones. Videos by split and label: {found}."
        )
    frames, values = store.view(view, rows.index)
    seen = rows.loc[frames.video_uid]
    return probing.fit(values, seen.label.to_numpy(), seen.group.to_numpy(), recipe, recipe.seed)


def score_videos(probe: Pipeline, store: Store, view: str, uids: pd.Series) -> np.ndarray:
    """Mean logit of each video's frames, ``(N,)``; NaN for a video without a descriptor."""
    frames, values = store.view(view, uids)
    logits = pd.Series(probing.score(probe, values)).groupby(frames.video_uid.to_numpy()).mean()
    return logits.reindex(uids).to_numpy()


def card(table: pd.DataFrame, store: Store, view: str, recipe: Recipe) -> dict:
    """What to write beside a probe: enough to use it on the right descriptors only."""
    rows = table[table.split == "train"]
    return {
        "view": view,
        "recipe": dataclasses.asdict(recipe),
        "networks": store.networks,
        "manifest": manifest.digest(table),
        "videos": len(rows),
        "fakes": int(rows.label.sum()),
        "groups": int(rows.group.nunique()),
        "note": str(recipe),
    }


def fits(card: dict, store: Store) -> None:
    """Refuse descriptors that a probe was not trained for.

    How many frames a video gives, which of several faces is taken and in which precision the
    networks ran may differ.

    Raises
    ------
    seglib.probing.BadProbe
        With every field that differs.
    """
    ours = {**dataclasses.asdict(store.recipe), **store.networks}
    theirs = {**card["recipe"], **card["networks"]}
    free = {*recipes.AFTERWARDS, "seed", "frames", "face_choice", "precision"}
    differ = [
        f"{name} is {theirs[name]!r} for the probe and {ours[name]!r} for the descriptors"
        for name in ours
        if name not in free and ours[name] != theirs.get(name)
    ]
    if differ:
        raise probing.BadProbe(
            f"this probe was trained on other descriptors: {'; '.join(differ)}. Extract with the "
            "probe's recipe, or train another probe."
        )


def coverage(table: pd.DataFrame, ledger: pd.DataFrame) -> pd.DataFrame:
    """Frames by class and by what became of them: described, or the kind of reason.

    Returns
    -------
    DataFrame with the index ``outcome`` and the columns ``bona fide`` and ``fake``
    """
    labels = ledger.video_uid.map(table.set_index("video_uid").label)
    outcome = ledger.reason.str.partition(":")[0].replace("", "described")
    found = pd.crosstab(outcome.rename("outcome"), labels)
    return found.reindex(columns=[0, 1], fill_value=0).set_axis(["bona fide", "fake"], axis=1)


def by_method(table: pd.DataFrame, scores: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    """AUC of one detector for each kind of fake against all bona fide videos.

    Returns
    -------
    DataFrame with the index ``method`` and the columns auc, low, high, coverage, items, groups
    """
    rows = {}
    for method in sorted(table.method[table.label == 1].unique()):
        chosen = ((table.label == 0) | (table.method == method)).to_numpy()
        try:
            found = metrics.auc(table.label.to_numpy()[chosen], scores[chosen], groups[chosen])
        except metrics.OneClass:
            continue
        rows[method] = (found.value, found.low, found.high, found.coverage, found.items,
                        found.groups)  # fmt: skip
    columns = ["auc", "low", "high", "coverage", "items", "groups"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("method")


def resampled_by(table: pd.DataFrame) -> tuple[np.ndarray, str]:
    """What the bootstrap draws for these videos, and its name.

    Connected components of shared identities, if there are enough of them. In Celeb-DF and DFD
    nearly all fakes hang together through a few dozen people who lend to each other: drawing the
    one component that holds more than half of a class says nothing. There the person in whose
    video the fake was made is drawn instead, which leaves the lender's share out.
    """
    largest = max(
        rows.group.value_counts(normalize=True).max() for _, rows in table.groupby("label")
    )
    if largest <= 0.5:
        return table.group.to_numpy(), "identity groups"
    known = table.target.where(table.target != "", table.video_uid)
    return known.to_numpy(), "target identities"


def read_scores(path: str | os.PathLike, table: pd.DataFrame) -> np.ndarray:
    """Somebody else's scores of a manifest's videos, ``(N,)``; NaN for those it left out.

    Parameters
    ----------
    path : path-like
        A CSV with the columns ``video_uid`` and ``score``, higher is more fake.
    table : DataFrame
        The manifest.

    Raises
    ------
    BadScores
        Columns are missing, a video stands twice, a score is no number, or no video is known.
    """
    path = Path(path)
    try:
        found = pd.read_csv(path, dtype={"video_uid": str}, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise _bad(path, f"it cannot be read ({error})") from error
    if not {"video_uid", "score"} <= set(found.columns):
        raise _bad(path, f"its columns are {list(found.columns)}")
    twice = found.video_uid[found.video_uid.duplicated()]
    if len(twice):
        raise _bad(path, f"{twice.iloc[0]!r} stands there twice")
    scores = pd.to_numeric(found.score, errors="coerce")
    bad = found.score[scores.isna() & found.score.notna()]
    if len(bad):
        raise _bad(path, f"{bad.iloc[0]!r} is no number")
    if not found.video_uid.isin(table.video_uid).any():
        some = found.video_uid.head(3).tolist()
        raise _bad(path, f"none of its {len(found)} videos is in the manifest, say {some}")
    return scores.set_axis(found.video_uid).reindex(table.video_uid).to_numpy(float)


def _bad(path: Path, found: str) -> BadScores:
    return BadScores(
        f"{path} is no table of scores: {found}; expected the columns video_uid and score, one "
        "row a video of the manifest. The uids are those of the manifest's CSV."
    )
