"""Draw the pictures of the front page into book/images: the cover, and the published result."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import skimage.data
from PIL import Image

from seglib import demo, figures, indexing, recipe, results

IMAGES = Path(__file__).with_name("images")
COVER, RESULT = IMAGES / "cover.jpg", IMAGES / "result.png"
SIDE, SEAM = 420, 6  # pixels
PANELS = {
    "orl-mouth-poisson": "A mouth was forged",
    "orl-eyes-poisson": "The eyes were forged",
    "orl-mouth-poisson--csu-mouth-feathered": "A mouth, other people → another blend",
}


def main() -> int:
    """Draw both."""
    Image.fromarray(cover()).save(COVER, quality=88, optimize=True)
    figures.save_result(panels(), str(recipe.demo()), RESULT)
    print(COVER, RESULT, sep="\n")
    return 0


def cover() -> np.ndarray:
    """One face on its way to the tokens of its mouth; it is NASA's, in the public domain."""
    chain = demo.networks(recipe.demo())
    crop = chain.crop(skimage.data.astronaut())
    label_map = chain.parser([crop])[0]
    grid, patch = chain.backbone.grid([crop]), chain.backbone.patch
    by_patch = indexing.patch_labels(label_map[None], grid)[0].repeat(patch, 0).repeat(patch, 1)
    kept = indexing.keep(label_map[None], grid, "mouth")[0]
    return strip(
        [
            crop.image,
            figures.overlay(crop.image, label_map),
            figures.overlay(crop.image, by_patch),
            figures.patches(crop.image, kept),
        ]
    )


def strip(images: list[np.ndarray]) -> np.ndarray:
    """Square pictures beside each other, a white seam between two."""
    seam = np.full((SIDE, SEAM, 3), 255, np.uint8)
    large = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for image in images]
    return np.hstack([piece for image in large for piece in (seam, image)][1:])


def panels() -> dict[str, pd.DataFrame]:
    """The published AUCs that are shown, by title."""
    known = {record.name: record for record in results.records()}
    return {title: known[name].table().rename(index=named) for name, title in PANELS.items()}


def named(view: str) -> str:
    """What a view is called on the picture."""
    return "random" if view.startswith("random-") else view


if __name__ == "__main__":
    sys.exit(main())
