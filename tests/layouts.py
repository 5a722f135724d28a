"""Small data sets in their true folder layout, with their true index files.

``write(path, person, forged, seed)`` makes one file: a clip or, for crops, a frame. `person` is a
number, whose face is in it; `seed` differs between files. ``mask``, where there is one, makes
the masks of the fakes in the same way. Each function returns its root.
"""

import csv
import json
from itertools import count, permutations

SCENES = ("hugging_happy", "talking_against_wall")


class Writer:
    """Calls `write` with the folder made and a new seed each time."""

    def __init__(self, write):
        self.write, self.seeds = write, count()

    def __call__(self, path, person, forged):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write(path, person, forged, next(self.seeds))


def touch(path, person, forged, seed):
    """A file with nothing in it: all that an adapter looks at."""
    path.touch()


def ffpp(
    root,
    write=touch,
    pairs=(5, 2, 2),
    methods=("Deepfakes", "FaceSwap"),
    compression="c23",
    mask=None,
):
    """FaceForensics++: so many pairs of people in train, val and test, forged by each method."""
    clip, masks, people = Writer(write), Writer(mask), iter(range(2 * sum(pairs)))
    for split, number in zip(("train", "val", "test"), pairs, strict=True):
        listed = [(next(people), next(people)) for _ in range(number)]
        stems = [[f"{person:03}" for person in pair] for pair in listed]
        index(root / "splits" / f"{split}.json", json.dumps(stems, indent=2))
        for pair in listed:
            for person in pair:
                home = root / "original_sequences/youtube"
                clip(home / compression / "videos" / f"{person:03}.mp4", person, False)
            for method in methods:
                home = root / "manipulated_sequences" / method
                for target, source in permutations(pair):
                    name = f"{target:03}_{source:03}.mp4"
                    clip(home / compression / "videos" / name, target, True)
                    if mask:
                        masks(home / "masks/videos" / name, target, True)
    return root


def dfd(root, write=touch, actors=4, scenes=SCENES, compression="c23", mask=None):
    """DFD: every actor in every scene, and forged with the next one's face."""
    clip, masks = Writer(write), Writer(mask)
    real = root / "original_sequences/actors"
    fake = root / "manipulated_sequences/DeepFakeDetection"
    for scene in scenes:
        for target in range(actors):
            source = (target + 1) % actors
            name = f"{target + 1:02}_{source + 1:02}__{scene}__YVGY8LOK.mp4"
            clip(real / compression / "videos" / f"{target + 1:02}__{scene}.mp4", target, False)
            clip(fake / compression / "videos" / name, target, True)
            if mask:
                masks(fake / "masks/videos" / name, target, True)
    return root


def celebdf(root, write=touch, people=4, clips=2, strangers=2, newline="\n"):
    """Celeb-DF v2: the last clip of everybody is not in the list."""
    clip, lines = Writer(write), []
    for person in range(strangers):
        clip(root / f"YouTube-real/{person:05}.mp4", people + person, False)
        lines.append(f"1 YouTube-real/{person:05}.mp4")
    for target in range(people):
        source = (target + 1) % people
        for number in range(clips + 1):
            real = f"Celeb-real/id{target}_{number:04}.mp4"
            fake = f"Celeb-synthesis/id{target}_id{source}_{number:04}.mp4"
            clip(root / real, target, False)
            clip(root / fake, target, True)
            lines += [f"1 {real}", f"0 {fake}"] if number < clips else []
    index(root / "List_of_testing_videos.txt", newline.join([*lines, ""]))
    return root


def dfdc(root, write=touch, parts=2, originals=3):
    """DFDC: parts whose clips have the same names, each original forged once."""
    for part in range(parts):
        clip, metadata = Writer(write), {}
        folder = root / f"dfdc_train_part_{part}"
        for number in range(originals):
            real, fake = f"real{number}.mp4", f"fake{number}.mp4"
            clip(folder / real, part * originals + number, False)
            clip(folder / fake, part * originals + number, True)
            metadata[fake] = {"label": "FAKE", "split": "train", "original": real}
            metadata[real] = {"label": "REAL", "split": "train"}
        index(folder / "metadata.json", json.dumps(metadata))
    return root


def deepfakebench(root, write=touch, frames=3, slash="/"):
    """DeepfakeBench: DFD, its actors in all lists, and FaceForensics++ in two compressions."""
    frame = Writer(write)

    def video(folder, person, forged, kind):
        paths = [f"{folder}/{number:03}.png" for number in range(frames)]
        for path in paths:
            frame(root / path, person, forged)
        return {"label": kind, "frames": [path.replace("/", slash) for path in paths]}

    dfd = {kind: {"train": {}, "val": {}, "test": {}} for kind in ("DFD_fake", "DFD_real")}
    home = "DeepFakeDetection/{}/c23/frames/{}"
    for actor, split in enumerate(("train", "val", "test"), start=1):
        real = f"{actor:02}__{SCENES[0]}"
        fake = f"{actor:02}_{actor % 3 + 1:02}__{SCENES[0]}__YVGY8LOK"
        for name, kind, forged in ((real, "DFD_real", False), (fake, "DFD_fake", True)):
            folder = home.format("manipulated" if forged else "original", name)
            dfd[kind][split][name] = video(folder, actor, forged, kind)
    index(root / "DFD.json", json.dumps({"DFD": dfd}))

    ffpp = {kind: {"train": {}, "val": {}, "test": {}} for kind in ("FF-real", "FF-DF", "FF-FS")}
    folders = {"FF-real": "original_sequences/youtube", "FF-DF": "manipulated_sequences/Deepfakes"}
    folders["FF-FS"] = "manipulated_sequences/FaceSwap"
    for kind, lists in ffpp.items():
        for pair, split in enumerate(lists):
            couple = (2 * pair, 2 * pair + 1)
            names = [f"{one:03}" for one in couple]
            names = names if kind == "FF-real" else ["_".join(p) for p in permutations(names)]
            for compression in ("c23", "c40"):
                base = f"FaceForensics++/{folders[kind]}/{compression}/frames"
                lists[split][compression] = {
                    name: video(f"{base}/{name}", person, kind != "FF-real", kind)
                    for name, person in zip(names, couple, strict=True)
                }
    index(root / "FaceForensics++.json", json.dumps({"FaceForensics++": ffpp}))
    return root


def table(root, write=touch, people=3, suffix=".mp4"):
    """A table of one's own: a bona fide file and a fake of each person, linked by a group."""
    clip, rows = Writer(write), []
    for person in range(people):
        for label in ("real", "fake"):
            name = f"clips/{label} {person}{suffix}"
            clip(root / name, person, label == "fake")
            rows.append({"file": name, "label": label, "group": f"{person:03}"})
    with (root / "videos.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


def folder(root, write=touch, people=3, suffix=".mp4"):
    """A folder of one's own."""
    clip = Writer(write)
    for person in range(people):
        for name in ("real", "fake"):
            clip(root / name / f"{person}{suffix}", person, name == "fake")
    return root


def index(path, text):
    """Write an index file, in bytes: what line ends it has, it keeps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
