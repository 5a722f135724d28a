"""Several detectors on the same videos: AUCs with intervals, and who is ahead of whom.

A detector is whatever gives a score: a probe on one view, several seeds of it, or somebody
else's software whose scores come in as a CSV. All stand in one table, on the same items.
Taught in chapters 03 and 06.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from seglib import items, manifest, metrics, probing, training
from seglib.errors import SeglibError
from seglib.probing import Probe
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
    abstained. probes ``(S, N)``: which probe gave them, see `metrics.auc`. items ``(N,)`` names
    them, methods ``(N,)`` say how a fake was made. thresholds: for each view that has them
    ``(S, P)``, above which probe P of seed S says fake, chosen in training. ordinal: the scores
    are no log-odds, only their order counts. title is for people; seconds is what training and
    scoring took.
    """

    labels: np.ndarray
    groups: np.ndarray
    views: dict[str, np.ndarray]
    probes: np.ndarray | None = None
    items: np.ndarray | None = None
    methods: np.ndarray | None = None
    thresholds: dict[str, np.ndarray] = field(default_factory=dict)
    ordinal: bool = False
    title: str = ""
    seconds: float = 0.0

    def auc(self, view: str, abstained: str = "dropped") -> metrics.Interval:
        """AUC of one view with its group-bootstrap interval; see `metrics` for the rules."""
        return metrics.auc(self.labels, self.views[view], self.groups, **self._same(abstained))

    def measures(self, view: str) -> dict[str, metrics.Interval]:
        """Every metric of one view that its scores can have; accuracy where it has thresholds."""
        return metrics.measures(
            self.labels,
            self.views[view],
            self.groups,
            metrics.RANKED if self.ordinal else None,
            thresholds=self.thresholds.get(view),
            **self._same(),
        )

    def lead(self, view: str, rival: str) -> metrics.Interval:
        """How far a view is ahead of a rival in AUC, on the same items, resampled together."""
        a, b = self.views[view], self.views[rival]
        return metrics.difference(self.labels, a, b, self.groups, **self._same())

    def by_method(self, view: str) -> dict[str, metrics.Interval]:
        """AUC of one view for each way of forging, against all bona fide items."""
        found = {}
        for method in sorted(set(self.methods[self.labels == 1])):
            chosen = (self.labels == 0) | (self.methods == method)
            probes = None if self.probes is None else self.probes[:, chosen]
            scores = np.atleast_2d(self.views[view])[:, chosen]
            with suppress(items.OneClass):
                found[method] = metrics.auc(
                    self.labels[chosen],
                    scores,
                    self.groups[chosen],
                    **self._same() | {"probes": probes},
                )
        return found

    def abstentions(self) -> pd.DataFrame:
        """AUC of every view under each rule for the abstained, side by side.

        Returns
        -------
        DataFrame with the index ``view``, a column a rule, and ``coverage``
        """
        rows = {}
        for view in self.views:
            try:
                found = {rule: self.auc(view, rule) for rule in items.ABSTENTIONS}
            except items.OneClass:
                continue
            rows[view] = {rule: str(one) for rule, one in found.items()}
            rows[view]["coverage"] = found["dropped"].coverage
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("view")

    def _same(self, abstained: str = "dropped") -> dict:
        """What all measurements of these items have in common."""
        return {"probes": self.probes, "abstained": abstained}

    def table(self, against: str) -> pd.DataFrame:
        """One row a view: its AUC, and the lead of `against` over it, each with its interval.

        A view that scored no item of one class has no AUC: NaN, beside its coverage.
        """
        rows = []
        for view, scores in self.views.items():
            scored = (~np.isnan(np.atleast_2d(scores))).all(0)
            try:
                own, lead = self.auc(view), self.lead(against, view)
            except items.OneClass:
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
        if np.isnan(row.auc):
            lines.append(f"  {view} has scored no items of both classes: nothing to compare")
            continue
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


def train(
    table: pd.DataFrame, store: Store, view: str, recipe: Recipe, seeds: Sequence[int] = ()
) -> tuple[Probe, ...]:
    """Probes on one view of the frames of a manifest's ``train`` split.

    One probe on all of it; or, for several seeds, one a seed, each of which leaves another part
    of the people out (`training.fit_seeds`).

    Raises
    ------
    NoTraining, seglib.store.NotExtracted, seglib.training.TooFewGroups
    """
    rows = table[table.split == "train"].set_index("video_uid")
    if rows.label.nunique() < 2:
        found = table.groupby("split").label.value_counts().to_dict()
        raise NoTraining(
            f"the split 'train' holds {len(rows)} videos of {rows.label.nunique()} classes; "
            f"expected bona fide and fake ones. Videos by split and label: {found}."
        )
    frames, values = store.view(view, rows.index)
    seen, uids = rows.loc[frames.video_uid], frames.video_uid.to_numpy()
    case = values, seen.label.to_numpy(), seen.group.to_numpy(), recipe
    if seeds:
        return training.fit_seeds(*case, seeds, videos=uids)
    return (training.fit(*case, recipe.seed, videos=uids),)


@dataclass(frozen=True)
class Detector:
    """What one detector says of a manifest's videos, ``(N,)`` or ``(S, N)``, a row a seed.

    thresholds ``(S, 1)`` where it has some. frames: whose video each frame is, ``(F,)``, and its
    scores ``(S, F)``; None for somebody else's software, which scores videos.
    """

    videos: np.ndarray
    thresholds: np.ndarray | None = None
    frames: tuple[np.ndarray, np.ndarray] | None = None


def detect(probes: Sequence[Probe], store: Store, view: str, uids: pd.Series) -> Detector:
    """Score videos by the probes of one view; NaN where there is no descriptor."""
    rows, values = store.view(view, uids)
    frames = rows.video_uid.to_numpy(), np.stack([probing.score(p, values) for p in probes])
    thresholds = np.array([[probe.threshold] for probe in probes])
    return Detector(score_videos(*frames, uids), thresholds, frames)


def score_videos(frames: np.ndarray, scores: np.ndarray, uids: pd.Series) -> np.ndarray:
    """Mean log-odds of each video's frames, ``(S, N)``; NaN for a video without a descriptor.

    frames ``(F,)`` and scores ``(S, F)`` are a `Detector`'s. Videos are told apart by their uid,
    which is never a file's stem: two methods may share a stem.
    """
    means = pd.DataFrame(scores.T).groupby(frames).mean()
    return means.reindex(uids).to_numpy().T


def together(
    table: pd.DataFrame, detectors: dict[str, Detector], title: str = ""
) -> tuple[Scores, str]:
    """Several detectors on the videos of a manifest, and what their intervals resample."""
    groups, drawn = resampled_by(table)
    thresholds = {name: one.thresholds for name, one in detectors.items()}
    scores = Scores(
        table.label.to_numpy(),
        groups,
        {name: one.videos for name, one in detectors.items()},
        items=table.video_uid.to_numpy(),
        methods=table.method.to_numpy(),
        thresholds={name: found for name, found in thresholds.items() if found is not None},
        title=title,
    )
    return scores, drawn


def frame_auc(scores: Scores, detector: Detector) -> metrics.Interval:
    """AUC of single frames, as some papers report it; its interval draws groups all the same.

    scores are those of `together`, of which the detector is one that has frames.
    """
    owner, values = detector.frames
    place = pd.Index(scores.items).get_indexer(owner)
    return metrics.auc(scores.labels[place], values, scores.groups[place], abstained="dropped")


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


def fits(card: dict, recipe: Recipe, networks: dict) -> None:
    """Refuse descriptors that a probe was not trained for.

    How many frames a video gives, what is done to them, which of several faces is taken and in
    which precision the networks ran may differ.

    Raises
    ------
    seglib.probing.BadProbe
        With every field that differs.
    """
    ours = {**dataclasses.asdict(recipe), **networks}
    # A card may be older than a decision, which then was what is the default today.
    theirs = dataclasses.asdict(Recipe(**card["recipe"]))
    theirs |= dict.fromkeys(networks) | card["networks"]
    free = recipe.afterwards | {"seed", "frames", "perturbation", "face_choice", "precision"}
    differ = [
        f"{name} is {theirs[name]!r} for the probe and {ours[name]!r} for the descriptors"
        for name in ours
        if name not in free and ours[name] != theirs[name]
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

    Scores that all lie between 0 and 1 are taken for probabilities, and become log-odds as ours
    are: the order stays, and 0.5 is undecided for both. Any others are taken for log-odds.

    Parameters
    ----------
    path : path-like
        A CSV with the columns ``video_uid`` and ``score``, higher is more fake. An empty score is
        an abstention.
    table : DataFrame
        The manifest.

    Raises
    ------
    BadScores
        Columns are missing, a video stands twice, a score is no number (NaN and infinity are
        none), or no video is known.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise _bad(path, "it cannot be read, there is no such file")
    try:
        found = pd.read_csv(
            path, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig"
        )
    except (OSError, ValueError) as error:
        raise _bad(path, f"it cannot be read ({error})") from error
    if not {"video_uid", "score"} <= set(found.columns):
        raise _bad(path, f"its columns are {list(found.columns)}")
    twice = found.video_uid[found.video_uid.duplicated()]
    if len(twice):
        raise _bad(path, f"{twice.iloc[0]!r} stands there twice")
    absent = found.score.str.strip() == ""
    scores = pd.to_numeric(found.score.where(~absent), errors="coerce").astype(float)
    bad = ~absent & ~np.isfinite(scores)
    if bad.any():
        row = found[bad].iloc[0]
        raise _bad(path, f"line {bad.idxmax() + 2}, {row.video_uid!r}: {row.score!r} is no finite "
                         "number (leave it empty where the detector abstained)")  # fmt: skip
    if not found.video_uid.isin(table.video_uid).any():
        some = found.video_uid.head(3).tolist()
        raise _bad(path, f"none of its {len(found)} videos is in the manifest, say {some}")
    if absent.all():
        raise _bad(path, "all its scores are empty")
    if scores.min() >= 0 and scores.max() <= 1:
        smallest = np.finfo(float)  # the log-odds of 0 and 1 are infinite
        scores = special.logit(scores.clip(smallest.tiny, 1 - smallest.eps))
    return scores.set_axis(found.video_uid).reindex(table.video_uid).to_numpy(float)


def _bad(path: Path, found: str) -> BadScores:
    return BadScores(
        f"{path} is no table of scores: {found}; expected the columns video_uid and score, one "
        "row a video of the manifest. The uids are those of the manifest's CSV."
    )
