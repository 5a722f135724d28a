"""Samples as `seglib.demo` gives them, without a picture, and a file that is heard and not seen."""

import av
import numpy as np

from seglib import demo, regions
from seglib.descriptors import Descriptors


def made_up(people=12, each=5, seed=0, lead=4.0, part="mouth", sure=1.0):
    """A sample in which the tokens of one part, and only they, tell a fake."""
    rng = np.random.default_rng(seed)
    groups = np.tile(np.repeat(np.arange(people), each), 2)
    labels = np.repeat([0, 1], people * each)
    sums = rng.normal(size=(labels.size, len(regions.LABELS), 6)).astype(np.float32)
    sums[:, list(regions.part_ids(part)), 0] += lead * labels[:, None]
    counts = np.ones(sums.shape[:2], np.int64)
    counts[3, list(regions.part_ids("eyes"))] = 0  # one picture without eyes
    sums[3, list(regions.part_ids("eyes"))] = 0
    random = rng.normal(size=sums.shape).astype(np.float32) * counts[..., None]
    cls = rng.normal(size=(labels.size, 6)).astype(np.float32)
    reasons, sures = np.full(labels.size, ""), np.full(labels.size, sure)
    found = Descriptors(sums, counts, random, cls, sures, reasons)
    items = [f"p{person}/{number}" for person in range(people) for number in range(each)]
    items = np.array([*items, *(f"{item} forged" for item in items)])
    return demo.Sample("made up", part, found, labels, groups, items)


def sound(path):
    """A file with sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
