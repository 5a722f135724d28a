"""Shortcuts: what tells a collection's fakes without a look at a face.

Where all fakes were saved at one JPEG quality and all bona fide pictures at another, a probe that
finds the quality finds the fakes, and has learned nothing of forgeries (Geirhos et al., *Shortcut
Learning in Deep Neural Networks*, Nature Machine Intelligence 2, 2020). So each side channel is
asked alone before anything is trained. One convention: an AUC is that of the number as it is, 1
where every fake's is the larger and 0 where it is the smaller; ``apart`` is how far that is from
one half. A category becomes a number first, see `shares`. Taught on the page *Data and terms*.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import TargetEncoder
from tqdm import tqdm

from seglib import evaluation, media, metrics, video
from seglib.errors import SeglibError
from seglib.items import OneClass
from seglib.store import NotExtracted, Store

NUMBERS = (
    "file size",  # bytes; of a folder of frames all of them together
    "pixels",  # of a frame
    "JPEG quality",  # see `jpeg_quality`
    "frames",
    "duration",  # s
    "frame rate",  # 1/s
    "bit rate",  # bit/s, of the pictures, or where only that is known of the whole file
    "face size",  # pixels: the root of the box's area, the median of a video's frames
    "brightness",  # mean luma of a few frames, 0 to 255
)
CATEGORIES = ("resolution", "JPEG tables", "codec", "container", "pixel format")
CHANNELS = NUMBERS + CATEGORIES
MARGIN = 0.1  # an AUC less than this from one half is not suspicious, however sure it is
FEWEST = 4  # groups: of three couples chance alone parts the classes in 1 of 10 channels
FOLDS = 5  # of people, for the shares of fakes
LOOKS, EARLY = 3, 25  # frames to take the brightness of, among so many: decoding all takes hours
ADVICE = (
    "A probe may learn this instead of the face. Write both classes by the same steps (codec, "
    "quality, size, length), or keep only videos that are alike in it; then train again."
)

Channel = float | str | SeglibError


class NoChannel(SeglibError):
    """A file has no such side channel."""


# -- reading ----------------------------------------------------------------------------------


def channels(table: pd.DataFrame, store: Store | None = None) -> pd.DataFrame:
    """The side channels of a manifest's videos, a row each; where one has none, the error says why.

    The face's size is what the store's ledger knows of it: no face is looked for here.
    """
    rows = [of(Path(path)) for path in tqdm(table.path, "side channels", unit="video")]
    found = pd.DataFrame(rows, columns=CHANNELS, index=table.index, dtype=object)
    found["face size"] = _face_sizes(table.video_uid, store)
    return found


def of(path: Path) -> dict[str, Channel]:
    """The side channels of one video, folder of frames or picture, the face's size apart."""
    try:
        frames = video.length(path)
        pictures = video.folder_frames(path) if path.is_dir() else [path]
        is_video = pictures[0].suffix.lower() not in media.SUFFIXES
        found = _stream(path) if is_video else _picture(pictures[0], path.is_dir())
        looks = [image for _, image in video.read(path, video.evenly(min(frames, EARLY), LOOKS))]
        size = sum(picture.stat().st_size for picture in pictures)
    except SeglibError as error:
        return dict.fromkeys(CHANNELS, error)
    except OSError as error:  # no permission, a network drive that is gone
        return dict.fromkeys(CHANNELS, video.out_of_reach(path, error))
    kind = f"{found['codec']} ({found['container']})"
    lacks = {name: NoChannel(f"{kind} has no {name}") for name in CHANNELS}
    return lacks | found | {"file size": size, "frames": frames, "brightness": _brightness(looks)}


def _picture(path: Path, in_folder: bool) -> dict[str, Channel]:
    media.read_image(path)  # a header alone does not tell that the rest is damaged
    with Image.open(path, formats=media.FORMATS) as picture:
        tables = getattr(picture, "quantization", None)
        found = {"codec": picture.format, "pixel format": picture.mode} | _size(*picture.size)
    if tables:
        digest = hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()[:8]
        found["JPEG quality"] = jpeg_quality(tables)
        found["JPEG tables"] = f"{digest} (quality {found['JPEG quality']})"
    return found | {"container": "folder" if in_folder else "picture"}


def _stream(path: Path) -> dict[str, Channel]:
    import av

    with video.opened(path) as (container, stream):
        found = {
            "codec": stream.codec_context.name,
            "container": container.format.name,
            "pixel format": stream.codec_context.pix_fmt,
            "duration": (container.duration or 0) / av.time_base,
            "frame rate": float(stream.average_rate or 0),
            "bit rate": stream.bit_rate or container.bit_rate,
        }
        found |= _size(stream.codec_context.width, stream.codec_context.height)
    return {name: value for name, value in found.items() if value}  # 0: the file does not say


def _size(width: int, height: int) -> dict[str, Channel]:
    return {"pixels": width * height, "resolution": f"{width} x {height}"}


def _brightness(looks: Sequence[np.ndarray | SeglibError]) -> Channel:
    seen = [Image.fromarray(one).convert("L") for one in looks if not isinstance(one, SeglibError)]
    return float(np.mean([np.mean(luma) for luma in seen])) if seen else looks[0]


def _face_sizes(uids: pd.Series, store: Store | None) -> list[Channel]:
    if store is None:
        return [NoChannel("no descriptor store, whose ledger has the faces")] * len(uids)
    try:
        ledger = store.ledger(uids)
    except NotExtracted as error:
        return [error] * len(uids)
    sides = np.sqrt((ledger.x1 - ledger.x0) * (ledger.y1 - ledger.y0))
    sizes = sides.groupby(ledger.video_uid).median().reindex(uids)
    return [NoChannel("no face was found") if np.isnan(size) else size for size in sizes]


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int:
    """The quality, 1 to 100, at which libjpeg's first quantisation table is nearest to a file's.

    Exact for what libjpeg wrote, which scales table K.1 of ITU-T T.81 (its ``jcparam.c``); of
    another encoder's tables the nearest by the sum of absolute differences.
    """
    return 1 + int(np.abs(_libjpeg() - tables[min(tables)]).sum(1).argmin())


@cache
def _libjpeg() -> np.ndarray:
    """Its first table at each quality, as it writes them itself, ``(100, 64)``."""
    rows = []
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        rows.append(Image.open(file).quantization[0])
    return np.array(rows)


# -- asking -----------------------------------------------------------------------------------


def hunt(table: pd.DataFrame, store: Store | None = None) -> pd.DataFrame:
    """How well each side channel alone tells a manifest's fakes: its `channels`, measured.

    Raises
    ------
    seglib.items.OneClass
        Before any file is opened.
    """
    if table.label.nunique() < 2:
        raise OneClass(
            f"{len(table)} videos of {table.label.nunique()} classes; expected bona fide and fake "
            "ones, to ask what tells them apart. Check the labels, or choose another split."
        )
    return measure(table, channels(table, store))


def measure(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """AUC of each column of `cells`, which are named and filled as those of `channels`.

    Returns
    -------
    DataFrame with the index ``channel`` and the columns
        auc, low, high: with its interval over the groups that `evaluation.resampled_by` chooses,
        NaN where it cannot be had; apart; coverage, items, groups: on how much it stands; bona_fide
        and fake: a class's median, or commonest value; note: why some have no value, or no AUC is
        there; suspicious: apart by `MARGIN` at least, on `FEWEST` groups at least, and the interval
        leaves one half out. A category has to be above one half: below it, what goes with fakes
        among some people goes with bona fide videos among others, and no one thing can be learned.
    """
    labels, (groups, _) = table.label.to_numpy(), evaluation.resampled_by(table)
    rows = {
        name: _asked(cells[name], name in CATEGORIES, labels, groups)
        for name in tqdm(cells, "asking each", unit="channel", leave=False)
    }
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("channel")
    apart = (found.auc - 0.5).abs()
    sure = (found.low > 0.5) | ((found.high < 0.5) & ~found.index.isin(CATEGORIES))
    sure &= (apart >= MARGIN) & (found.groups >= FEWEST)
    return found.assign(apart=apart, suspicious=sure)


def _asked(values: pd.Series, category: bool, labels: np.ndarray, groups: np.ndarray) -> dict:
    has = ~values.map(lambda value: isinstance(value, SeglibError)).to_numpy()
    own = values[has].astype(str if category else float)
    scores, folds, note = np.full(len(values), np.nan), np.zeros(len(values), int), ""
    try:
        if category:
            scores[has], folds[has] = shares(own.to_numpy(), labels[has], groups[has])
        else:
            scores[has] = own
        one = metrics.auc(labels, scores, groups, probes=folds, abstained="dropped")
    except OneClass as error:
        stands = has.sum(), len(np.unique(groups[has])), has.mean()
        one, note = metrics.Interval(np.nan, np.nan, np.nan, *stands), str(error)
    if not has.all():
        note = f"{(~has).sum()} without, say: {values[~has].map(str).mode()[0]}"
    usual = own.groupby(labels[has]).agg(lambda some: some.mode()[0] if category else some.median())
    return {
        "auc": one.value, "low": one.low, "high": one.high,
        "coverage": one.coverage, "items": one.items, "groups": one.groups,
        "bona_fide": usual.get(0, ""), "fake": usual.get(1, ""), "note": note,
    }  # fmt: skip


def shares(
    values: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A category as a number: the share of fakes among other people's items of the same one.

    To leave out each item's own group by itself would turn the AUC round: of two items that are
    alike the fake gets the lower share, since one fake less is left. So people fall into folds,
    all items of a fold learn from the same others, and are compared with each other only, as
    *probes* in `metrics.measures`. Each share is drawn to that of all as by one item more
    (Micci-Barreca, SIGKDD Explorations 3(1), 2001): what nobody else has says nothing.

    Parameters
    ----------
    values : (N,) of str
    labels : (N,) of 0 and 1
    groups : (N,)

    Returns
    -------
    shares : (N,) float
    folds : (N,) int

    Raises
    ------
    seglib.items.OneClass
        A class is of fewer than two groups: there are no others to learn from.
    """
    fewest = min(len(np.unique(groups[labels == kind])) for kind in (0, 1))
    if fewest < 2:
        raise OneClass(
            f"a class has items of {fewest} groups; expected two at least, so that one is told by "
            "the others. Add people."
        )
    found, folds = np.zeros(len(values)), np.zeros(len(values), int)
    splitter = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=0)
    column = values.astype(object)[:, None]
    for fold, (others, own) in enumerate(splitter.split(column, labels, groups)):
        encoder = TargetEncoder(target_type="binary", smooth=1.0)
        found[own] = encoder.fit(column[others], labels[others]).transform(column[own])[:, 0]
        folds[own] = fold
    return found, folds


# -- telling ----------------------------------------------------------------------------------


def told(row: pd.Series) -> str:
    """One channel's row of `measure` as a sentence."""
    if np.isnan(row.auc):
        return "not measured: too few bona fide or fake videos have one"
    usual = [one if isinstance(one, str) else f"{one:,.6g}" for one in (row.bona_fide, row.fake)]
    said = (
        "AUC {:.3f} [{:.3f}, {:.3f}] on {:.0%} of the videos; typically {} in bona fide and {} in "
        "fake ones"
    )
    said = said.format(row.auc, row.low, row.high, row.coverage, *usual)
    return f"SUSPICIOUS, {said}" if row.suspicious else said


def warning(found: pd.DataFrame) -> str:
    """What `measure` found: each suspicious channel, and what to do about it."""
    lines = [f"{name} alone: {told(row)}" for name, row in found[found.suspicious].iterrows()]
    if lines:
        return "\n".join([*lines, ADVICE])
    measured = found[found.auc.notna()]
    if measured.empty:
        return "no side channel could be measured: nothing is known of shortcuts here"
    if (groups := measured.groups.max()) < FEWEST:
        return f"{groups:.0f} groups are too few to suspect anything; expected {FEWEST} at least"
    return (
        f"none of {len(measured)} side channels tells the fakes by itself (AUC {MARGIN} from one "
        "half or more, and its interval leaves one half out)"
    )


def card(found: pd.DataFrame) -> list[dict]:
    """The rows of `measure` for a probe's card: no NaN, which JSON lacks, and no file's name."""
    rows = found.drop(columns="note").assign(told=found.apply(told, axis=1)).reset_index()
    return json.loads(rows.to_json(orient="records", double_precision=6))
