"""Checkers of chapter 01, parsing."""

from __future__ import annotations

import cv2
import numpy as np
import skimage.data

from seglib import assets, demo, media, recipe, regions
from seglib.exercises import ask, checker, expect, number


@checker("01-1")
def mouth_share(answer):
    rng = np.random.default_rng(1)
    nothing = np.zeros((8, 8), np.uint8)
    expect(number(answer, nothing) == 0, "In a map without a mouth the share is 0.")
    for _ in range(20):
        label_map = rng.integers(0, 11, (12, 20)).astype(np.uint8)
        found = number(answer, label_map)
        expect(0 <= found <= 1, f"Found {found:g}; a share lies between 0 and 1.")
        true = np.isin(label_map, regions.part_ids("mouth")).mean()
        expect(found <= true + 1e-9, "You count pixels that are not the mouth's.")
        expect(found >= true - 1e-9, "You miss pixels. How many labels belong to a mouth?")


@checker("01-2")
def turn(answer):
    rng = np.random.default_rng(2)
    for degrees in (0, 90, -90, *rng.uniform(-180, 180, 20)):
        scale, (x, y) = rng.uniform(0.2, 4), rng.uniform(-99, 99, 2)
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        found = number(
            answer, np.array([[scale * cos, -scale * sin, x], [scale * sin, scale * cos, y]])
        )
        expect(np.isfinite(found), "For one matrix your angle is no number. Does the scale matter?")
        expect(
            not np.isclose(found, np.radians(degrees)) or np.isclose(degrees, 0),
            "That is in radians; degrees are asked for.",
        )
        expect(
            not np.isclose(found, -degrees) or np.isclose(abs(degrees), (0, 180)).any(),
            "The sign is the other way round: y points down.",
        )
        off = (found - degrees + 180) % 360 - 180
        expect(abs(off) < 1e-6, f"For one matrix your angle is off by {abs(off):.1f} degrees.")


@checker("01-3")
def chin(answer):
    ring = np.asarray(ask(answer))
    expect(ring.ndim == 1 and len(ring) >= 3, "A ring has three points or more, in one list.")
    expect(np.issubdtype(ring.dtype, np.integer), "A point is named by its number.")
    expect(((ring >= 0) & (ring < 468)).all(), "The mesh has the points 0 to 467.")
    expect(len(set(ring.tolist())) == len(ring), "A point stands twice in your ring.")
    chain = demo.networks(recipe.demo())
    others = [media.read_image(one.path) for one in assets.pictures("orl")[::80]]
    for image in (skimage.data.astronaut(), *others):
        crop = chain.crop(image)
        labels = chain.parser([crop])[0]
        inside = np.zeros(labels.shape, np.uint8)
        cv2.fillPoly(inside, [np.round(crop.face.mesh[ring]).astype(np.int32)], 1)
        inside = inside.astype(bool)
        skin, lips = labels == regions.label_id("face"), labels == regions.label_id("llip")
        expect(inside.sum() > 0.02 * skin.sum(), "Your ring holds next to nothing of some face.")
        expect(inside.sum() < 0.3 * skin.sum(), "Your ring holds far more than a chin.")
        expect(skin[inside].mean() > 0.95, "On some face your ring leaves the skin.")
        below = np.nonzero(inside)[0].mean() > np.nonzero(lips)[0].max()
        expect(below, "On some face your ring does not lie below the lips.")
