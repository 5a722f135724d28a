"""Any picture or video -> what a panel of probes says of each face in it, or why it says nothing.

Every face of a picture is scored, every face of a video on a track of its own. A file that cannot
be read, a picture without a face, a part that is hidden: each is a reason, and never a score.
Taught in chapter 08.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from scipy.special import expit
from tqdm import tqdm

from seglib import faces, files, localisation, panel, probing, regions, video
from seglib.errors import SeglibError
from seglib.extraction import Extractor, Look
from seglib.faces import Crop, Face, FaceTooSmall
from seglib.media import SUFFIXES, VIDEO_SUFFIXES
from seglib.panel import OVERALL, Panel

FRAMES = 32  # of a video, evenly spaced
JUMP = 1.0  # how far a face may move between two frames that are looked at, in its own extents
ENOUGH = 20  # probes on redrawn people; of fewer no interval is made
LEVEL = 95  # per cent of the redrawn probes that an interval holds
FAR = 2.0  # limits of distance beyond which an estimate is withheld: arithmetic, and no finding
SMALL = 480  # pixels of the longer side of a frame that is kept to be shown
PICTURED = 40  # files whose pictures a report shows; of the others it has the numbers
BAR = 2  # files or frames from which on a progress bar is worth its line
OWN = Path(str(resources.files("seglib"))) / "probes" / "demo"


class NothingToScore(SeglibError):
    """None of the paths leads to a picture or a video."""


class PartHidden(SeglibError):
    """A part has no patch in any frame, so that its probe has nothing to read."""


class TooFewParts(SeglibError):
    """Too few parts have a score for them to have one together."""


class OutsideTraining(SeglibError):
    """A face is so unlike those that were trained on that a score would mean nothing."""


@dataclass(frozen=True)
class Estimate:
    """What one part, or all together, says of a face.

    log_odds, calibrated at even odds, with the ends of its interval; threshold: above it the probe
    would call the face fake, and the share of held-out bona fide faces that lay above it, with the
    ends of its interval. distance from the training faces in limits, above 1 is outside. What is
    not known is NaN. Where there is a reason, there is no score.
    """

    log_odds: float
    low: float
    high: float
    threshold: float
    false_positive_rate: tuple[float, float, float]
    distance: float
    reason: str = ""

    @property
    def probability(self) -> float:
        """Of fake, where fakes of the training's kind are as frequent as bona fide faces."""
        return float(expit(self.log_odds))

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the probability's interval."""
        return float(expit(self.low)), float(expit(self.high))

    @property
    def outside(self) -> bool:
        """Whether the face is unlike those that the probe was trained on."""
        return bool(self.distance > 1)

    @property
    def above(self) -> bool:
        """Whether it is above the threshold."""
        return bool(self.log_odds > self.threshold)


@dataclass(frozen=True)
class Shown:
    """One frame of a track, to be looked at.

    picture: the whole frame ``(h, w, 3)`` uint8, at most `SMALL` pixels wide or tall, and the
    face's box in its pixels; crop ``(S, S, 3)`` uint8; label_map ``(S, S)``, labels ``(gh, gw)``:
    LaPa ids of pixels and of patches; shares ``(gh, gw)`` of each part's tokens, see
    `localisation.token_shares`, none where the score is not linear.
    """

    frame: int
    picture: np.ndarray
    box: np.ndarray
    crop: np.ndarray
    label_map: np.ndarray
    labels: np.ndarray
    shares: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Track:
    """One face of a file, in the F frames in which it was seen.

    boxes ``(F, 4)`` in pixels of the frame; curves: log-odds ``(F,)`` of each part and of all
    together; estimates: what they come to. shown is the frame whose overall score is in the
    middle.
    """

    number: int
    frames: np.ndarray
    boxes: np.ndarray
    curves: Mapping[str, np.ndarray]
    estimates: Mapping[str, Estimate]
    shown: Shown | None


@dataclass(frozen=True)
class Verdict:
    """What is said of one file: its tracks, or the reason why there are none.

    length is the number of its frames, asked are those that were looked at; reasons: by frame, why
    nothing is said of it, or of the small faces beside a larger one.
    """

    path: Path
    length: int = 0
    asked: Sequence[int] = ()
    tracks: Sequence[Track] = ()
    reasons: Mapping[int, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def is_video(self) -> bool:
        """Whether it has more than one frame."""
        return self.length > 1

    @property
    def scored(self) -> bool:
        """Whether anything is said of any face."""
        return any(not one.reason for track in self.tracks for one in track.estimates.values())

    def light(self) -> Verdict:
        """The same without pictures, of which a thousand take gigabytes."""
        return replace(self, tracks=[replace(one, shown=None) for one in self.tracks])


def score(path: str | Path, probe: str | Path | None = None, device: str | None = None) -> Verdict:
    """Score one picture or video by the demo's probes, or by those of a file or folder.

    Networks and probes are loaded once.
    """
    return _scorer(None if probe is None else Path(probe), device)(path)


@cache
def _scorer(probe: Path | None, device: str | None) -> Scorer:
    return Scorer(panel.load(probe or OWN), device)


class Scorer:
    """A panel of probes and the networks that it was trained with.

    Raises
    ------
    seglib.panel.BadPanel
        The networks that are here are not those that the probes were trained with.
    """

    def __init__(self, probes: Panel, device: str | None = None, frames: int = FRAMES) -> None:
        self.panel, self.frames = probes, frames
        self.extractor = Extractor(probes.recipe.look, device)
        panel.check_networks(probes, self.extractor.networks)

    def __call__(self, path: str | Path) -> Verdict:
        """Score one file; what cannot be scored is a verdict with its reason."""
        path = Path(path)
        try:
            length = video.length(path)
            asked = video.evenly(length, self.frames)
            return self._judged(path, length, asked, video.read(path, asked))
        except SeglibError as error:
            return Verdict(path, reason=_reason(error))
        except OSError as error:  # no permission, a network drive that is gone
            return Verdict(path, reason=_reason(video.out_of_reach(path, error)))

    def picture(self, image: np.ndarray, name: str = "picture") -> Verdict:
        """Score a ``(H, W, 3)`` uint8 RGB picture that is in memory."""
        return self._judged(Path(name), 1, [0], [(0, image)])

    def all(self, paths: Iterable[Path], total: int | None = None) -> Iterator[Verdict]:
        """Score many files in their order, with a progress bar."""
        disable = total is not None and total < BAR
        yield from map(
            self, tqdm(paths, "scoring", total, unit="file", leave=False, disable=disable)
        )

    def _judged(
        self, path: Path, length: int, asked: Sequence[int], frames: Iterable[tuple]
    ) -> Verdict:
        reasons: dict[int, str] = {}
        sightings: list[_Sightings] = []
        waiting: list[_Seen] = []
        bar = tqdm(frames, files.printable(path.name), len(asked), unit="frame", leave=False,
                   disable=len(asked) < BAR)  # fmt: skip
        for index, image in bar:
            try:
                found, passed_over = self._faces(image)
            except SeglibError as error:
                reasons[index] = _reason(error)
                continue
            if passed_over:
                reasons[index] = passed_over
            recipe, small = self.panel.recipe, _small(image)
            for track, face in _linked(sightings, found):
                crop = faces.crop(image, face, recipe.crop_size, recipe.crop_scale)
                waiting.append(_Seen(track, index, face, crop, *small))
            while len(waiting) >= self.extractor.batch:
                self._look(waiting)
        while waiting:
            self._look(waiting)
        tracks = [self._track(number, one) for number, one in enumerate(sightings, 1)]
        reason = "" if tracks else _most_common(reasons)
        return Verdict(path, length, list(asked), tracks, reasons, reason)

    def _faces(self, image: np.ndarray | SeglibError) -> tuple[list[Face], str]:
        """Every face that is large enough, and what is said of the others; raises if none is."""
        if isinstance(image, SeglibError):
            raise image
        found = self.extractor.detector(image)
        faces.choose(found, image.shape[1::-1])  # raises NoFace, FaceTooSmall
        enough = [face for face in found if face.extent >= faces.MIN_FACE]
        small = [face for face in found if face.extent < faces.MIN_FACE]
        return enough, _reason(_too_small(small)) if small else ""

    def _look(self, waiting: list[_Seen]) -> None:
        """Take the first batch off the list, and add to the tracks what is found."""
        batch = list(islice(waiting, self.extractor.batch))
        del waiting[: len(batch)]
        crops = [one.crop for one in batch]
        look = self.extractor.look(crops, [(0,)] * len(crops), self.panel.recipes)
        views = self.panel.described(look.descriptors)
        distances = self.panel.distances(views)
        near = {  # a part that is too strange has no say in the whole either
            part: np.where((distances.get(part, np.zeros(len(batch))) > FAR)[:, None], np.nan, rows)
            for part, rows in views.items()
        }
        scores = self.panel.scores(near)
        for i, one in enumerate(batch):
            track = one.track
            track.index.append(one.index)
            track.box.append(one.face.box)
            track.scores.append({name: rows[:, i] for name, rows in scores.items()})
            track.distances.append({name: rows[i] for name, rows in distances.items()})
            box, shares = one.face.box * one.scale, self._shares(look, i)
            # Copies: a view would hold the whole batch in memory.
            labels = look.maps[i].copy(), look.labels[i].copy()
            pixels = one.picture, box, one.crop.image, *labels
            track.shown.append(Shown(one.index, *pixels, shares))

    def _shares(self, look: Look, i: int) -> dict[str, np.ndarray]:
        """The shares of each part's tokens in crop i, where a part's score is their sum."""
        recipe = self.panel.recipe
        if recipe.pooling != "mean" or recipe.conditioning not in probing.AFFINE:
            return {}
        shares = {}
        for at, (part, probes) in enumerate(self.panel.probes.items()):
            if part not in regions.PARTS:  # CLS and the random control are no part
                continue
            at = 0 if len(look.patches) == 1 else at  # one look for all parts, or one for each
            sets = look.descriptors[at].layout.of_part(part)
            kept = look.members[at][i, sets].any(0)
            patches = look.patches[at][i].cpu().numpy()
            shares[part] = localisation.token_shares(probes[0], patches, kept)
        return shares

    def _track(self, number: int, one: _Sightings) -> Track:
        estimates, curves = {}, {}
        for name, threshold in self.panel.thresholds.items():
            scores = np.stack([frame[name] for frame in one.scores], axis=1)
            distances = np.array([frame.get(name, np.nan) for frame in one.distances])
            measured = self.panel.card.get("measured", {}).get(name, {})
            rate = tuple(measured.get("false_positive_rate", [np.nan] * 3))
            estimates[name] = _estimate(name, scores, distances, threshold, rate)
            curves[name] = scores[0]
        middle = _middle(next(reversed(curves.values())))
        return Track(
            number, np.array(one.index), np.stack(one.box), curves, estimates, one.shown[middle]
        )


@dataclass
class _Sightings:
    """A track while it grows: lists of one length."""

    index: list[int] = field(default_factory=list)
    box: list[np.ndarray] = field(default_factory=list)
    scores: list[dict[str, np.ndarray]] = field(default_factory=list)
    distances: list[dict[str, float]] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    last: Face | None = None  # where it was seen last, though not described yet


@dataclass(frozen=True)
class _Seen:
    """A face that waits for the networks; picture is its frame, made smaller by `scale`."""

    track: _Sightings
    index: int
    face: Face
    crop: Crop
    picture: np.ndarray
    scale: float


def _too_small(small: Sequence[Face]) -> FaceTooSmall:
    """Why nothing is said of faces beside a larger one."""
    tallest = max(face.extent for face in small)
    which = "a further face is" if len(small) == 1 else f"{len(small)} further faces are at most"
    return FaceTooSmall(
        f"{which} {tallest:.0f} pixels tall; expected at least {faces.MIN_FACE}. Use the picture "
        "at its full size."
    )


def _small(image: np.ndarray) -> tuple[np.ndarray, float]:
    """A frame in a size to be shown, and how much smaller that is."""
    scale = min(SMALL / max(image.shape[:2]), 1.0)
    size = [max(round(side * scale), 1) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


def _linked(tracks: list[_Sightings], found: Sequence[Face]) -> Iterator[tuple[_Sightings, Face]]:
    """Each face with the track that it goes on, or that it begins.

    By place and size alone: the assignment that moves all faces least (Kuhn's Hungarian method,
    by SciPy), none farther than `JUMP`. After a cut a face may go on another's track.
    """
    apart = np.array([[_apart(track.last, face) for face in found] for track in tracks])
    pairs = {}
    if tracks:
        from scipy.optimize import linear_sum_assignment  # a picture's faces do without its load

        pairs = {
            at: tracks[row]
            # What is too far is equally bad: else a far pair could part a near one.
            for row, at in zip(*linear_sum_assignment(apart.clip(max=2 * JUMP)), strict=True)
            if apart[row, at] <= JUMP
        }
    for at, face in enumerate(found):
        track = pairs.get(at)
        if track is None:
            track = _Sightings()
            tracks.append(track)
        track.last = face
        yield track, face


def _apart(one: Face, other: Face) -> float:
    """How far two faces lie from each other in place and in size, in extents."""
    centres = [(face.box[:2] + face.box[2:]) / 2 for face in (one, other)]
    step = np.hypot(*(centres[0] - centres[1])) / max(one.extent, other.extent)
    return float(step + abs(np.log2(one.extent / other.extent)))


def _estimate(
    name: str,
    scores: np.ndarray,
    distances: np.ndarray,
    threshold: float,
    rate: tuple[float, float, float],
) -> Estimate:
    """What the frames of a track come to; scores ``(S, F)``, the first row by the probe itself.

    The others' rows, each over frames that are drawn anew, give the interval.
    """
    seen, known = ~np.isnan(scores[0]), distances[~np.isnan(distances)]
    distance = float(np.median(known)) if len(known) else np.nan
    if not seen.any():
        nothing = np.nan, np.nan, np.nan, threshold, rate, distance
        return Estimate(*nothing, _reason(_silent(name, distance, scores.shape[1])))
    found = scores[:, seen]
    value, low, high = float(found[0].mean()), np.nan, np.nan
    if len(found) > ENOUGH:
        shape = len(found) - 1, found.shape[1]
        draws = np.random.default_rng(0).integers(found.shape[1], size=shape)
        redrawn = np.take_along_axis(found[1:], draws, axis=1).mean(1)
        low, high = np.percentile(redrawn, [50 - LEVEL / 2, 50 + LEVEL / 2])
        low, high = float(min(low, value)), float(max(high, value))
    return Estimate(value, low, high, threshold, rate, distance)


def _silent(name: str, distance: float, frames: int) -> SeglibError:
    """Why a part says nothing in any frame of a track."""
    if name == OVERALL:
        return TooFewParts(
            f"half or more of the parts have no score in any of {frames} frames with this face; "
            "their reasons say why"
        )
    if distance > FAR:
        return OutsideTraining(
            f"{distance:.1f} times the distance that nearly all held-out faces stay within; "
            f"expected at most {FAR:g} times, of the training's kind of pictures. Train probes on "
            "pictures of this kind"
        )
    return PartHidden(
        f"no patch of the {name} in any of {frames} frames with this face; expected one at least. "
        "Take a larger picture, or one from the front"
    )


def _middle(curve: np.ndarray) -> int:
    """Which frame's score is in the middle; the first where none has one."""
    order = np.argsort(curve)  # NaN comes last
    return int(order[max(np.count_nonzero(~np.isnan(curve)) - 1, 0) // 2])


def _reason(error: SeglibError) -> str:
    return files.printable(f"{type(error).__name__}: {error}")


def _most_common(reasons: Mapping[int, str]) -> str:
    kinds = Counter(reason.partition(":")[0] for reason in reasons.values())
    kind, count = kinds.most_common(1)[0]
    first = next(reason for reason in reasons.values() if reason.startswith(f"{kind}:"))
    return first if len(reasons) == 1 else f"{first} ({count} of {len(reasons)} frames)"


# -- which files ------------------------------------------------------------------------------


def found(paths: Iterable[str | Path]) -> list[Path]:
    """Pictures and videos that paths lead to, each once, in order.

    A folder stands for all pictures and videos in it and below, by their suffix, hidden ones left
    out; a path with ``*``, ``?`` or ``[`` that does not exist is a pattern. A file named by itself
    is taken whatever its suffix.

    Raises
    ------
    NothingToScore
        A folder or a pattern leads to none.
    """
    several: dict[Path, None] = {}
    for given in map(Path, paths):
        if given.is_dir():
            some = _below(given)
        elif not given.exists() and glob.has_magic(str(given)):
            matches = map(Path, sorted(glob.glob(str(given), recursive=True)))
            some = [path for path in matches if _looks_right(path)]
        else:
            some = [given]
        if not some:
            raise NothingToScore(
                f"no picture or video under {files.readable(given)}; expected files that end in "
                f"{', '.join((*SUFFIXES, *VIDEO_SUFFIXES))}. Name a file to have it read whatever "
                "its suffix, or leave this out."
            )
        several |= dict.fromkeys(some)
    return list(several)


def _below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if _looks_right(path)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _looks_right(path: Path) -> bool:
    """By its suffix; a link that leads nowhere is taken too, so that it is told."""
    known = path.suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES)
    return known and (path.is_file() or path.is_symlink())


# -- as numbers -------------------------------------------------------------------------------


def records(verdict: Verdict, curves: bool = False) -> Iterator[dict]:
    """A row for each face and each part of it, or one row that says why there is none.

    curves: with the probability of each frame, and why others have none.
    """
    own = {"path": files.readable(verdict.path), "frames": len(verdict.asked)}
    if curves:
        own["reasons"] = {str(frame): reason for frame, reason in verdict.reasons.items()}
    if not verdict.tracks:
        yield own | {"face": None, "part": None, "reason": verdict.reason}
    for track in verdict.tracks:
        for part, one in track.estimates.items():
            row = own | {"face": track.number, "seen": len(track.frames), "part": part}
            if curves:
                pairs = zip(track.frames.tolist(), expit(track.curves[part]).tolist(), strict=True)
                row["curve"] = [[frame, value] for frame, value in pairs if value == value]
            yield row | numbers(one)


def numbers(one: Estimate) -> dict:
    """An estimate as probabilities, with all that has to stand beside them."""
    low, high = one.interval
    rate, least, most = one.false_positive_rate
    return {
        "probability": one.probability,
        "low": low,
        "high": high,
        "threshold": float(expit(one.threshold)),
        "above": None if one.reason else one.above,
        "false_positive_rate": rate,
        "false_positive_rate_low": least,
        "false_positive_rate_high": most,
        "distance": one.distance,
        "outside": None if np.isnan(one.distance) else one.outside,
        "reason": one.reason,
    }
