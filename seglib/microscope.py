"""The token microscope: which tokens of a face are kept, what they come to, and each one's share.

A figure that needs no server: the faces, the kept tokens and their shares lie in the page, for
every choice of forgery, part, patch rule and encoding. Taught in chapter 05.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
from IPython.display import HTML, display
from jinja2 import Environment, PackageLoader
from scipy.special import expit
from tqdm import tqdm

from seglib import audit, demo, figures, indexing, media, probing, training
from seglib.extraction import Extractor
from seglib.faces import Crop
from seglib.probing import Probe
from seglib.recipe import Recipe
from seglib.regions import LABELS

RULES = ("largest", "touched", 0.5, "box")
SIDE = 280  # pixels of the face on the page
NAMES = {
    "rb": "right brow", "lb": "left brow", "re": "right eye", "le": "left eye",
    "ulip": "upper lip", "llip": "lower lip", "imouth": "inside of the mouth", "face": "skin",
}  # fmt: skip

Models = Mapping[tuple[str, str], Probe]


@dataclass(frozen=True)
class View:
    """What one choice shows.

    shares ``(gh, gw)``: what each kept token adds to the score, NaN where none is kept; with the
    probe's constant they sum to the score, calibrated log-odds of fake, NaN without a token.
    labels ``(gh, gw)`` uint8: of the patches.
    """

    shares: np.ndarray
    labels: np.ndarray
    score: float
    above: bool

    @property
    def kept(self) -> np.ndarray:
        """Which patches are kept, bool ``(gh, gw)``."""
        return np.isfinite(self.shares)

    def told(self) -> str:
        """The same in words."""
        kept = f"{self.kept.sum()} of {self.kept.size} tokens are kept"
        if not self.kept.any():
            return f"{kept}: there is no descriptor, and no score."
        row, column = np.unravel_index(np.nanargmax(np.abs(self.shares)), self.shares.shape)
        return (
            f"{kept}. Log-odds of fake {self.score:+.2f}, probability {expit(self.score):.2f}, "
            f"{'above' if self.above else 'below'} the threshold. Largest share: "
            f"{self.shares[row, column]:+.2f}, row {row + 1}, column {column + 1}, "
            f"{label_name(self.labels[row, column])}."
        )


def label_name(label: int) -> str:
    """How a LaPa id is called on the page."""
    return NAMES.get(LABELS[label], LABELS[label])


def forgeries(recipe: Recipe) -> dict[str, np.ndarray]:
    """The demo's first picture and its forgeries of the audit's parts, by name; not chosen."""
    detector = demo.networks(recipe).detector
    made = {
        part: next(demo.forge(audit.DATASET, part, audit.BLEND, detector, recipe.seed))
        for part in audit.FORGED
    }
    genuine = media.read_image(demo.people(audit.DATASET, recipe.seed).path[0])
    return {"nothing": genuine} | {part: one.image for part, one in made.items()}


def probes(recipe: Recipe) -> Models:
    """A probe for each part and encoding, taught the audit's forgeries of that part.

    The couple of the demo's first picture, which `forgeries` shows, is left out.
    """
    known = audit.case(recipe)
    others = known.groups != known.groups[0]

    def fit(part: str, encoding: str) -> Probe:
        rows = others & np.isin(known.forged, ("", part))
        seen = known.views[audit.view_name(part, encoding)][rows]
        labels, groups = known.labels[rows], known.groups[rows]
        return training.fit_seeds(seen, labels, groups, recipe, seeds=(0,))[0]

    return {(part, how): fit(part, how) for part, how in product(audit.FORGED, audit.ENCODINGS)}


def look(image: np.ndarray, models: Models, chain: Extractor) -> dict[tuple, View]:
    """What each part's tokens say of the largest face, by (part, rule, encoding).

    Parameters
    ----------
    image : (H, W, 3) uint8
    models : mapping of Probe
        By part and encoding, say from `probes`; their conditioning must be affine.
    chain : Extractor
        Of the recipe that the probes were trained under.

    Raises
    ------
    seglib.faces.NoFace, seglib.faces.FaceTooSmall, seglib.probing.NotLinear
    """
    crops = [chain.crop(image)]
    maps, grid = chain.parser(crops), chain.backbone.grid(crops)
    parts, encodings = _axes(models)
    choices = list(product(parts, RULES))
    kept = np.concatenate([indexing.keep(maps, grid, *choice) for choice in choices])
    labels, seen = indexing.patch_labels(maps, grid)[0], {}
    for encoding in encodings:
        patches = _encoded(chain, crops, kept, encoding)
        pooled, _ = indexing.pool(patches, kept)
        for place, (part, rule) in enumerate(choices):
            probe, row = models[part, encoding], pooled[place : place + 1]
            shares = _shares(probe, patches[place].cpu().numpy(), kept[place])
            score = probing.score(probe, row).item()
            seen[part, rule, encoding] = View(shares, labels, score, score > probe.threshold)
    return seen


def _encoded(
    chain: Extractor, crops: Sequence[Crop], kept: np.ndarray, encoding: str
) -> torch.Tensor:
    """One crop's tokens, once for each of K sets of kept patches, ``(K, gh, gw, D)``."""
    layer = chain.recipe.layer
    if encoding == "contextual":
        whole = chain.backbone.layers(crops, {layer})[layer].patches
        return whole.expand(len(kept), -1, -1, -1)
    return chain.backbone.isolated(list(crops) * len(kept), kept, layer=layer).patches


def _shares(probe: Probe, tokens: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """What each kept token adds to the score of the mean, NaN where none is kept."""
    shares = np.full(kept.shape, np.nan)
    inside = tokens[kept].astype(float)
    shares[kept] = (inside - probe.centre) @ probe.direction / max(len(inside), 1)
    return shares


def _axes(models: Models) -> tuple[list[str], list[str]]:
    """Parts and encodings that there are probes for."""
    parts, encodings = zip(*models, strict=True)
    return list(dict.fromkeys(parts)), list(dict.fromkeys(encodings))


def show(
    pictures: Mapping[str, np.ndarray], models: Models, chain: Extractor, credit: str = ""
) -> None:
    """The microscope, in a notebook or in the published page, over faces of any pictures.

    Parameters
    ----------
    pictures : mapping of (H, W, 3) uint8
        By what was forged in them, say ``{"unknown": picture}``.
    models, chain
        As for `look`.
    credit : str
        A line below the figure.
    """
    display(HTML(page(pictures, models, chain, credit)))


def page(
    pictures: Mapping[str, np.ndarray], models: Models, chain: Extractor, credit: str = ""
) -> str:
    """The same as HTML."""
    bar = tqdm(pictures.items(), "faces", unit="face", leave=False)
    seen = {name: look(image, models, chain) for name, image in bar}
    faces = [_face(image, chain) for image in pictures.values()]
    parts, encodings = _axes(models)
    axes = [
        ("forged", list(pictures)),
        ("tokens of", parts),
        ("patch rule", [_rule(rule) for rule in RULES]),
        ("encoding", encodings),
    ]
    # In the order of the sliders, the last running fastest: the page counts a view's place.
    order = list(product(seen, parts, RULES, encodings))
    views = [seen[name][tuple(choice)] for name, *choice in order]
    content = {
        "axes": axes,
        "faces": faces,
        "views": [_packed(view) for view in views],
        "labels": [_names(by_choice) for by_choice in seen.values()],
    }
    digest = hashlib.sha256(repr((axes, faces)).encode()).hexdigest()[:8]
    table = [
        (name, part, [seen[name][part, rule, how].score for how in encodings for rule in RULES])
        for name, part in product(seen, parts)
    ]
    return _templates().get_template("microscope.html").render(
        id=f"microscope-{digest}", content=content, credit=credit, table=table,
        heads=[f"{how}, {_rule(rule)}" for how in encodings for rule in RULES],
        rows=views[0].kept.shape[0], columns=views[0].kept.shape[1], side=SIDE,
    )  # fmt: skip


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("seglib"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )


def _rule(rule: str | float) -> str:
    return rule if isinstance(rule, str) else f"more than {rule:.0%}"


def _names(views: Mapping[tuple, View]) -> list[str]:
    """Of each patch of a face the name of its label, in reading order."""
    return [label_name(label) for label in next(iter(views.values())).labels.ravel()]


def _face(image: np.ndarray, chain: Extractor) -> dict[str, str]:
    """The upright face, and the same with its label map, as the page shows them."""
    crop = chain.crop(image)
    labelled = figures.overlay(crop.image, chain.parser([crop])[0])
    return {
        "plain": figures.data_uri(crop.image, SIDE, "JPEG"),
        "labelled": figures.data_uri(labelled, SIDE, "JPEG"),
    }


def _packed(view: View) -> dict:
    """Kept tokens by their place in reading order, and their shares."""
    places = np.flatnonzero(view.kept)
    shares = view.shares.ravel()[places].round(4)
    return {"kept": places.tolist(), "shares": shares.tolist(), "told": view.told()}
