"""Items to be measured: labels, scores and groups that fit each other, abstentions dealt with.

What an item without a score counts is a rule that has to be stated: left out, taken for undecided,
or for the worst there is. Taught in chapter 03.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from seglib.errors import SeglibError, unknown_name

ABSTENTIONS = ("dropped", "half", "worst")


class BadItems(SeglibError, ValueError):
    """Labels, scores, groups, probes or thresholds that do not describe the same items."""


class MissingScores(SeglibError, ValueError):
    """Scores that are not finite, and no rule that says what an abstention counts."""


class OneClass(SeglibError, ValueError):
    """A metric needs a fake and a bona fide item that one probe has scored."""


@dataclass(frozen=True)
class Items:
    """N checked items, abstentions dealt with.

    fake ``(N,)`` bool; scores: of each detector ``(S, N)``, finite but for the worst there is;
    groups ``(N,)``: numbers below count, which are drawn; probes ``(S, N)`` or None.
    """

    fake: np.ndarray
    scores: list[np.ndarray]
    groups: np.ndarray
    count: int
    probes: np.ndarray | None
    coverage: float

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        several: Sequence[np.ndarray],
        groups: np.ndarray,
        probes: np.ndarray | None = None,
        abstained: str | None = None,
        half: float = 0.0,
    ) -> Items:
        """Check the items of one or several detectors; parameters as in `metrics.measures`.

        Raises
        ------
        BadItems, MissingScores, OneClass, seglib.errors.UnknownName
        """
        labels, groups = np.asarray(labels), np.asarray(groups)
        several = [np.atleast_2d(np.asarray(scores, float)) for scores in several]
        probes = None if probes is None else np.atleast_2d(probes)
        _fit(labels, several, groups, probes)
        fake = labels == 1
        absent = np.any([np.isnan(scores).any(0) for scores in several], 0)
        _finite(several, absent, abstained)
        # By first appearance: what a group is called must not change who is drawn.
        groups, names = pd.factorize(groups)
        kept = ~absent if abstained == "dropped" else np.ones(len(fake), bool)
        filling = np.where(fake, -np.inf, np.inf) if abstained == "worst" else half
        items = cls(
            fake[kept],
            [np.where(np.isnan(scores), filling, scores)[:, kept] for scores in several],
            groups[kept],
            len(names),
            None if probes is None else probes[:, kept],
            float(1 - absent.mean()),
        )
        if items.fake.all() or not items.fake.any():
            raise OneClass(
                f"{items.fake.sum()} fake and {(~items.fake).sum()} bona fide items have a score; "
                "expected at least one of each. Check the labels (1 = fake) and the coverage."
            )
        return items

    @property
    def fewest_groups(self) -> int:
        """On how many groups the class stands that stands on the fewest."""
        return min(len(np.unique(self.groups[kind])) for kind in (self.fake, ~self.fake))


def _fit(
    labels: np.ndarray,
    several: list[np.ndarray],
    groups: np.ndarray,
    probes: np.ndarray | None,
) -> None:
    """Refuse labels that are no labels, and arrays of different lengths."""
    shapes = {"labels": labels.shape, "groups": groups.shape}
    shapes |= {f"scores {at}": scores.shape for at, scores in enumerate(several, 1)}
    right = labels.shape == groups.shape == (len(labels),) and len(labels) > 0
    right &= all(scores.ndim == 2 and scores.shape[1:] == labels.shape for scores in several)
    if probes is not None:
        shapes["probes"] = probes.shape
        right &= all(scores.shape == probes.shape for scores in several)
    if not right:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise BadItems(
            f"found {found}; expected labels (N,), groups (N,), scores (S, N) or (N,), and probes "
            "like the scores, of the same N > 0 items in the same order."
        )
    nameless = pd.isna(groups)
    if nameless.any():
        first = ", ".join(map(str, np.flatnonzero(nameless)[:5]))
        raise BadItems(
            f"{nameless.sum()} of {len(groups)} items have no group (NaN), first in rows {first}; "
            "expected one each. Give an item that shares nobody a group of its own."
        )
    strange = ~((labels == 0) | (labels == 1))
    if strange.any():
        found = ", ".join(map(repr, np.unique(labels[strange])[:3].tolist()))
        raise BadItems(
            f"{strange.sum()} of {len(labels)} labels are neither 0 nor 1, such as {found}; "
            "expected 0 for bona fide and 1 for fake."
        )


def _finite(several: list[np.ndarray], absent: np.ndarray, abstained: str | None) -> None:
    """Refuse infinite scores, and missing ones for which there is no rule."""
    if abstained is not None:
        known("rule for abstained items", abstained, ABSTENTIONS)
    infinite = np.any([np.isinf(scores).any(0) for scores in several], 0)
    rule = " | ".join(f'abstained="{name}"' for name in ABSTENTIONS)
    for rows, found, advice in (
        (infinite, "an infinite score", "Look how they came about."),
        (absent & (abstained is None), "no score (NaN)", f"State what they count: {rule}."),
    ):
        if rows.any():
            first = ", ".join(map(str, np.flatnonzero(rows)[:5]))
            raise MissingScores(
                f"{rows.sum()} of {len(rows)} items have {found}, the first in rows {first}; "
                f"expected finite log-odds. {advice}"
            )


def known(kind: str, name: str, choices: Sequence[str]) -> None:
    """Refuse a name that is not among the known ones."""
    if name not in choices:
        raise unknown_name(kind, name, choices)
