"""Formats that strangers' files come in, and a process that reads mutated ones.

What a reader makes of a file is a result, or a `SeglibError`. Anything else is a finding: another
exception, a crash of the interpreter, silence for `SECONDS`, more memory than `MEMORY`; and where
a format can tell that it was changed, a result that is not the original's. The seed of a finding
repeats it: ``python tests/fuzzing.py png 17``.
"""

import functools
import importlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import layouts
import mutation
import numpy as np
import pandas as pd
import yaml
from PIL import Image
from samples import made_up

from seglib import (
    backbones,
    claims,
    datasets,
    devices,
    evaluation,
    files,
    manifest,
    media,
    panel,
    probing,
    receipts,
    recipe,
    results,
    scoretable,
    video,
)
from seglib.descriptors import Descriptors
from seglib.errors import SeglibError
from seglib.novelty import Reference
from seglib.probing import Probe
from seglib.store import Store

SECONDS = 10
MEMORY = 4 << 30
RESULT, REFUSED = "result", "refused"
RECIPE = recipe.demo()


@dataclass(frozen=True)
class Format:
    """How sound files are made in a folder, which are mutated, how, and how they are read.

    unchanged: the reader can tell a changed file, so that a result is what the original gave.
    read returns something that can be compared.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], object]
    mutate: Callable = mutation.of_bytes
    files: str = "*"
    unchanged: bool = False


# -- pictures ---------------------------------------------------------------------------------


def pictures(suffix, *several):
    """Small pictures of one format, in the modes and with the options that it is met with."""

    def make(folder):
        rng = np.random.default_rng(0)
        for number, (mode, options) in enumerate(several):
            noise = rng.integers(0, 256, (6, 5, 4), np.uint8)
            picture = Image.fromarray(noise, "RGBA").resize((40, 30)).convert("RGB").convert(mode)
            picture.save(folder / f"{number}.{suffix}", **options)

    return make


def read_picture(path):
    image = media.read_image(path)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    return image.shape


TURNED = Image.Exif()
TURNED[0x0112] = 6
OTHER = Image.fromarray(np.full((30, 40, 3), 90, np.uint8))
PICTURES = {
    "jpg": (("RGB", {"exif": TURNED}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True})),
    "png": (("RGB", {"exif": TURNED}), ("P", {"transparency": 0}), ("RGBA", {}), ("1", {}),
            ("I;16", {})),
    "gif": (("P", {}), ("P", {"save_all": True, "append_images": [OTHER] * 3}),
            ("L", {"transparency": 7})),
    "tif": (("RGB", {"compression": "tiff_lzw", "exif": TURNED}), ("CMYK", {}),
            ("L", {"compression": "tiff_adobe_deflate"}), ("1", {"compression": "group4"}),
            ("RGB", {"compression": "jpeg"}), ("I;16", {})),
    "bmp": (("RGB", {}), ("P", {}), ("1", {})),
    "webp": (("RGB", {"exif": TURNED}), ("RGBA", {"lossless": True}),
             ("RGB", {"save_all": True, "append_images": [OTHER] * 2})),
    "ppm": (("RGB", {}), ("L", {}), ("1", {})),
}  # fmt: skip


# -- videos -----------------------------------------------------------------------------------

CODECS = {"mp4": "libx264", "avi": "mpeg4", "mkv": "libx264", "webm": "libvpx", "mov": "mjpeg"}


def videos(suffix):
    """Two short clips, of different sizes."""

    def make(folder):
        codec = CODECS[suffix]
        # So that a seed repeats its file: one thread, whole blocks, no date and no random name.
        same = video.REPEATABLE if codec == "libx264" else {"threads": "1"}
        for number, (width, height) in enumerate(((64, 32), (32, 64))):
            path, exact = str(folder / f"{number}.{suffix}"), {"fflags": "+bitexact"}
            with av.open(path, "w", options=exact) as container:
                stream = container.add_stream(codec, rate=25, options=same)
                stream.width, stream.height = width, height
                stream.pix_fmt = "yuvj420p" if suffix == "mov" else "yuv420p"
                for shade in range(10):
                    image = np.full((height, width, 3), 20 * shade, np.uint8)
                    image[shade : shade + 9, 10:30] = 255 - image[0, 0]
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
                container.mux(stream.encode())

    return make


def read_video(path):
    indices = video.evenly(video.length(path), 4)
    found = list(video.read(path, indices))
    assert [index for index, _ in found] == indices
    images = [image for _, image in found if not isinstance(image, SeglibError)]
    for image in images:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
    if not images:
        raise found[0][1]
    return [image.shape for image in images]


# -- tables of videos -------------------------------------------------------------------------


def make_manifest(folder):
    layouts.ffpp(folder)
    manifest.write(datasets.scan(folder, "ffpp").table, folder / "manifest.csv")


def read_manifest(path):
    """A manifest that is accepted can be written, read again and told from others."""
    return _kept(manifest.read(path), path)


def data_set(name, make, root):
    """What an adapter makes of a data set with a mutated index; root: above it, so many folders."""

    def read(path):
        found = datasets.scan(path.parents[root], name)
        found.problems.to_csv(path.with_name(f"problems of {path.name}.tmp"))
        return _kept(found.table, path)

    return make, read


def _kept(table, path):
    written = path.with_name(f"again {path.name}.tmp")
    manifest.write(table, written)
    again = manifest.read(written)
    written.unlink()
    pd.testing.assert_frame_equal(again, manifest.validate(table))
    manifest.counts(again)
    return manifest.digest(again)


def named(make, folder):
    """The names of files are what is mutated: a list of them, from which they are made again."""

    def made(root):
        make(root / "set")
        names = [str(p.relative_to(root / "set")) for p in (root / "set").rglob("*") if p.is_file()]
        (root / "names.txt").write_text("\n".join(sorted(names)) + "\n", encoding="utf-8")

    def read(path):
        root = path.parent / "set"
        shutil.rmtree(root)
        for name in path.read_bytes().split(b"\n"):
            inside = bytes(root) + b"/" + name.strip(b"/").replace(b"..", b"")
            touch(inside)
        found = datasets.scan(root, folder)
        return _kept(found.table, path)

    return made, read


def touch(path):
    """A file of that name with its folders, if a file system can have it."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb"):
            pass
    except (OSError, ValueError):
        return


def make_scores(folder):
    table = scored_videos()
    rng = np.random.default_rng(0)
    scores = pd.DataFrame({"video_uid": table.video_uid, "score": rng.normal(size=len(table))})
    scores.to_csv(folder / "logits.csv", index=False)
    scores.assign(score=rng.random(len(table))).to_csv(folder / "shares.csv", index=False)


@functools.cache
def scored_videos():
    rows = [
        {"video_uid": f"ffpp/{kind}/{person:03}", "path": f"/{kind}{person}.mp4", "label": label,
         "dataset": "ffpp", "method": kind, "split": "test", "target": f"ffpp/{person:03}"}
        for person in range(6)
        for label, kind in enumerate(("original", "Deepfakes"))
    ]  # fmt: skip
    return manifest.from_rows(rows)


def read_scores(path):
    scores = evaluation.read_scores(path, scored_videos())
    assert scores.shape == (12,)
    assert not np.isinf(scores).any()
    return True


# -- descriptors ------------------------------------------------------------------------------

NETWORKS = {"detector": "d", "parser": "p", "backbone": "b", "width": 6, "precision": "float32"}
UID = "ffpp/c23/original/顔"


def described(rows, seed=0):
    """A few rows of the made-up sample, one of them missing."""
    kept = made_up(people=2, each=3, seed=seed).descriptors.of(slice(rows))
    return Descriptors.joined([kept, Descriptors.missing(["NoFace: nobody"], 6)])


def make_descriptors(folder):
    for seed in range(2):
        described(8, seed).save(folder / f"{seed}.parquet")


def read_descriptors(path):
    found = Descriptors.load(path)
    return [one.tobytes() for one in found._arrays()] + [str(found.layout)]


def make_store(folder):
    store = Store(folder, RECIPE, NETWORKS)
    columns = {"faces": 1, "score": 0.9, "x0": 0.0, "y0": 1.0, "x1": 2.0, "y1": 3.0}
    ledger = pd.DataFrame({"frame": range(9)}).assign(video_uid=UID, **columns)
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 11, (4, 4)).astype(np.uint8), rng.normal(size=(4, 4, 6))
    made_from = {"content": "ab" * 32, "stamp": "cd" * 32}
    store.write(UID, made_from, ledger, described(8), {1: grid, 5: grid})


def read_store(path):
    """What is in the store of one video, or nothing of it: then it is extracted again."""
    root = path.parents[2 if path.suffix == ".parquet" else 1]
    store = Store.find(root, RECIPE, NETWORKS)
    store.made_from(UID)  # where it says something else, the video is extracted again
    ledger = store.ledger([UID])
    frames, values = store.view("mouth", [UID])
    cls, random_ = (store.view(name, [UID])[1].tobytes() for name in ("cls", "random eyes"))
    grids = [one.tobytes() for one in store.tokens(UID)]
    tables = ledger.to_csv(), frames.to_csv()
    return [*tables, values.tobytes(), cls, random_, *grids]


# -- probes -----------------------------------------------------------------------------------


def probe(rng, conditioning):
    scaled = conditioning in probing.STANDARDISED
    mean, scale = (rng.normal(size=6), 1 + rng.random(6)) if scaled else (np.zeros(6), np.ones(6))
    return Probe(conditioning, 0.1, rng.normal(size=6), 0.3, mean, scale, 1.2, -0.1, 0.4)


SHORTCUTS = [{"channel": "file size", "told": "AUC 1", "suspicious": True}]


def make_probe(folder):
    for number, conditioning in enumerate(("standardise", "none")):
        several = [probe(np.random.default_rng(seed), conditioning) for seed in range(3)]
        card = {"view": "mouth", "networks": NETWORKS, "recipe": RECIPE.__dict__, "redrawn": 2,
                "shortcuts": SHORTCUTS}  # fmt: skip
        probing.save(several, folder / f"{number}.safetensors", card)


def read_probe(path):
    """Its scores and what else of it a command uses."""
    probes, card = probing.load(path.with_suffix(".safetensors"))
    rows = np.random.default_rng(7).normal(size=(5, 6)).astype(np.float32)
    scores = [probing.score(one, rows).tobytes() for one in probes]
    read_panel(path.with_suffix(".safetensors"))
    decisive = [card[name] for name in ("view", "recipe", "networks")]
    return [scores, [one.threshold for one in probes], json.dumps(decisive, sort_keys=True)]


def make_panel(folder):
    rng = np.random.default_rng(0)
    probes = {part: tuple(probe(rng, "none") for _ in range(3)) for part in panel.PARTS[:3]}
    measured = {"auc": [0.7, 0.6, 0.8], "false_positive_rate": [0.1, 0.0, 0.2]}
    card = {"networks": NETWORKS, "training": "noise", "redrawn": 2,
            "measured": dict.fromkeys((*probes, panel.OVERALL), measured),
            "shortcuts": SHORTCUTS}  # fmt: skip
    references = {part: Reference(rng.normal(size=6), np.eye(6), 2.0) for part in probes}
    combination = panel.Combination(1.1, 0.2, 0.5, 1.3)
    whole = panel.Panel(RECIPE, probes, references, combination, card)
    panel.save(whole, folder)


def read_panel(path):
    folder = path if path.suffix == ".safetensors" and path.stem.isdigit() else path.parent
    found = panel.load(folder)
    rows = np.random.default_rng(7).normal(size=(5, 6)).astype(np.float32)
    views = dict.fromkeys(found.views, rows)
    numbers = {**found.scores(views), "far": found.distances(views), "above": found.thresholds}
    panel.check_networks(found, NETWORKS)
    return [str(numbers), str(found.told()), found.suspicious, found.recipe.key]


# -- records ----------------------------------------------------------------------------------


def make_records(folder):
    """A record and its table, of few items: intervals take the time."""
    found = evaluation.Scores(
        np.tile([0, 1], 10), np.repeat(np.arange(5), 4),
        {view: np.random.default_rng(seed).normal(size=20)
         for seed, view in enumerate(("mouth", "eyes"))},
        items=np.array([f"p{i}" for i in range(20)]),
    )  # fmt: skip
    results.save("noise", found, RECIPE, chapter="03", folder=folder)
    results.save("count", {"people": 7.0}, RECIPE, chapter="03", folder=folder)


def read_record(path):
    record = results.load(path)
    return str(record), str(record.quoted()), str(record.listed()), str(record.table())


def read_score_table(path):
    return str(results.recomputed(results.load(path.with_suffix(".json"))))


def make_receipts(folder):
    for path in receipts.paths():
        shutil.copy(path, folder)


def read_receipt(path):
    receipt = receipts.load(path)
    receipts.spread([receipt], [])
    return json.dumps(receipt.payload), receipt._repr_html_()


def read_receipt_by_its_name(path):
    """Under the name that its new digest gives it."""
    try:
        found = json.loads(path.read_bytes())
        named = path.with_name(f"{found['chapter']}-{found['digest'][:8]}.json")
        path.rename(named)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return read_receipt(path)
    try:
        return read_receipt(named)
    finally:
        named.unlink()


def make_backbone(folder):
    """A model of one small block, with what says how its pictures were prepared."""
    devices.let_torchvision_import()
    import torch
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, patch_size=14, image_size=28
    )
    torch.manual_seed(0)
    Dinov2Model(config).save_pretrained(folder)
    mean, std = backbones.NORMALISATIONS["imagenet"]
    prepared = {"image_mean": list(mean), "image_std": list(std)}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))


def read_backbone(path):
    """Weights have no check sum here: their digest names the descriptors that they make."""
    return backbones.load(path.parent, "cpu").width


def make_claims(folder):
    rows = yaml.safe_load(claims.LEDGER.read_text(encoding="utf-8"))
    (folder / "claims.yml").write_text(json.dumps(rows[:6]), encoding="utf-8")


def read_claims(path):
    for claim in claims.load(path):
        claims.judge(claim, {})
    return True


def signed_anew(read):
    """Read what was changed by somebody who signed it anew, so that only its form can be wrong."""

    def resealed(path):
        try:
            found = json.loads(path.read_bytes())
            for key, numbers in found.get("results", {}).items():
                numbers["check"] = scoretable.check(
                    key, *(number for name, number in numbers.items() if name != "check")
                )
            found["digest"] = files.digest(found)
        except (ValueError, TypeError, AttributeError, RecursionError):
            return read(path)
        path.write_text(json.dumps(found), encoding="utf-8")
        return read(path)

    return resealed


FORMATS = {
    **{name: Format(pictures(name, *kinds), read_picture) for name, kinds in PICTURES.items()},
    **{name: Format(videos(name), read_video) for name in CODECS},
    "manifest": Format(make_manifest, read_manifest, mutation.of_table, "manifest.csv"),
    "ffpp": Format(*data_set("ffpp", layouts.ffpp, 1), mutation.of_json, "splits/*.json"),
    "celebdf": Format(*data_set("celebdf", layouts.celebdf, 0), mutation.of_lines, "*.txt"),
    "dfdc": Format(*data_set("dfdc", layouts.dfdc, 1), mutation.of_json, "*/metadata.json"),
    "deepfakebench": Format(
        *data_set("deepfakebench", layouts.deepfakebench, 0), mutation.of_json, "*.json"
    ),
    "table": Format(*data_set("table", layouts.table, 0), mutation.of_table, "*.csv"),
    "names of dfd": Format(*named(layouts.dfd, "dfd"), files="names.txt"),
    "names of a folder": Format(*named(layouts.folder, "folder"), files="names.txt"),
    "scores of others": Format(make_scores, read_scores, mutation.of_table),
    "descriptors": Format(make_descriptors, read_descriptors, unchanged=True),
    "store": Format(make_store, read_store, files="*/*/*.parquet", unchanged=True),
    "store header": Format(make_store, read_store, mutation.of_json, "*/header.json", True),
    "probe": Format(make_probe, read_probe, files="*.safetensors", unchanged=True),
    "probe card": Format(make_probe, read_probe, mutation.of_json, "*.json", True),
    "panel": Format(make_panel, read_panel, files="*.safetensors", unchanged=True),
    "panel card": Format(make_panel, read_panel, mutation.of_json, "*.json", True),
    "record": Format(make_records, read_record, mutation.of_json, "*/*.json", True),
    "score table": Format(make_records, read_score_table, mutation.of_table, "*/*.csv", True),
    "receipt": Format(make_receipts, read_receipt, mutation.of_json, unchanged=True),
    "probe card signed anew": Format(
        make_probe, signed_anew(read_probe), mutation.of_json, "*.json"
    ),
    "panel card signed anew": Format(
        make_panel, signed_anew(read_panel), mutation.of_json, "panel.json"
    ),
    "record signed anew": Format(
        make_records, signed_anew(read_record), mutation.of_json, "*/*.json"
    ),
    "receipt signed anew": Format(
        make_receipts, signed_anew(read_receipt_by_its_name), mutation.of_json
    ),
    "weights of a backbone": Format(make_backbone, read_backbone, files="*.safetensors"),
    "backbone's JSON": Format(make_backbone, read_backbone, mutation.of_json, "*.json"),
    "claims": Format(make_claims, read_claims, mutation.of_json),
}


# -- one input --------------------------------------------------------------------------------


class Corpus:
    """The sound files of one format in a folder of their own."""

    def __init__(self, name, format, root):
        self.name, self.format, self.folder = name, format, Path(root) / name
        self.folder.mkdir(parents=True)
        self.format.make(self.folder)
        paths = sorted(self.folder.glob(self.format.files))
        self.sound = {path: path.read_bytes() for path in paths if path.is_file()}
        self.given = {path: self.format.read(path) for path in self.sound}

    def outcome(self, seed):
        """What became of one mutated file: a kind, what more is known, what was done to it."""
        rng = random.Random(f"{self.name} {seed}")
        path, other = rng.choice(list(self.sound)), rng.choice(list(self.sound))
        data, said = self.format.mutate(self.sound[path], self.sound[other], rng)
        said = f"{path.name}: {said}"
        path.write_bytes(data)
        try:
            found = self.format.read(path)
        except SeglibError as error:
            return REFUSED, type(error).__name__, said
        except BaseException:  # KeyboardInterrupt too: a library that raises it ends a batch
            return "foreign", traceback.format_exc(), said
        finally:
            path.write_bytes(self.sound[path])
        if self.format.unchanged and found != self.given[path]:
            return "silent", "a result that is not the original's", said
        return RESULT, "", said


# -- many inputs ------------------------------------------------------------------------------


def serve(inputs, root, module):
    """In a process of its own: make the sound files of a format, then read what it is told to."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders grumble about what they meet
    formats, corpora = importlib.import_module(module).FORMATS, {}
    while True:
        name, seed = inputs.recv()
        try:
            if name not in corpora:
                corpora[name] = Corpus(name, formats[name], root)
            inputs.send(corpora[name].outcome(seed) if seed is not None else "")
        except BaseException:
            inputs.send(traceback.format_exc())


class Reader:
    """A process that reads mutated files; it is killed where it hangs, and another takes over.

    module: its ``FORMATS`` are those that are known by name. seconds: how long a file may take.
    """

    def __init__(self, module="fuzzing", seconds=SECONDS):
        self.module, self.seconds, self.process = module, seconds, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end()

    def outcome(self, name, seed):
        """What became of an input, as `Corpus.outcome` says."""
        if self.process is None:
            self._start()
        if name not in self.made:
            self.inputs.send((name, None))
            problem = self.inputs.recv()
            assert not problem, f"the sound files of {name!r}: {problem}"
            self.made.add(name)
        self.inputs.send((name, seed))
        try:
            if self.inputs.poll(self.seconds):
                return self.inputs.recv()
            found = "hang", f"no answer after {self.seconds} s", ""
        except EOFError:
            self.process.join()
            found = "crash", f"the interpreter ended with {self.process.exitcode}", ""
        self._end()
        return found

    def _start(self):
        context = multiprocessing.get_context("spawn")
        self.inputs, theirs = context.Pipe()
        self.folder, self.made = tempfile.TemporaryDirectory(prefix="seglib-fuzz-"), set()
        given = theirs, self.folder.name, self.module
        self.process = context.Process(target=serve, args=given, daemon=True)
        self.process.start()
        theirs.close()

    def _end(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None
            self.inputs.close()
            self.folder.cleanup()


def fuzz(reader, name, seeds):
    """Outcomes of so many inputs of a format: how many of each kind, and the findings."""
    counts, findings = Counter(), []
    for seed in seeds:
        kind, detail, said = reader.outcome(name, seed)
        counts[detail if kind == REFUSED else kind] += 1
        if kind not in (RESULT, REFUSED):
            again = f"python tests/fuzzing.py {name!r} {seed}"
            finding = f"{kind}, again with: {again}\n{said}\n{detail.strip()}"
            findings.append(files.readable(finding))
    return counts, findings


def main(name, seed):
    """One input in this process, for whoever looks into a finding."""
    with tempfile.TemporaryDirectory() as folder:
        print(*Corpus(name, FORMATS[name], folder).outcome(int(seed)), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
