# title: Sabotaged: from clips to a number
# data: ORL faces, clips of them, forged and not

# %% [markdown]
# # S3 · From clips to a number
#
# This copy of [chapter 6](../06_generalisation.ipynb) was sabotaged: one methodological fault was
# planted. Its result looks good. A control says otherwise.
#
# **You will** find the fault, repair it where it is, and run everything again, until the control
# passes and the check at the end says so. Change one place only: nothing else is wrong. **You
# need** [chapter 6](../06_generalisation.ipynb), *From a folder to a table*. **It takes** about half
# an hour, and a minute or two to run, once chapter 3 has been run on this machine.

# %%
import json
import tempfile
from pathlib import Path

from seglib import (
    claims,
    clips,
    datasets,
    demo,
    exercises,
    extraction,
    metrics,
    probing,
    recipe,
    training,
)

# %%
from seglib.store import Store

# One strength of the penalty, so that it runs quickly.
decisions = recipe.demo().but(c_grid=(0.01,))
few = decisions.but(frames=3)
chain = extraction.Extractor(few)

# %% [markdown]
# ## A collection
#
# Six couples of the demo's people, filmed: each clip as it is, and forged in two ways, with a mouth
# that the other one lends. Folders and names are those of FaceForensics++ (Rössler and others, 2019).
# The two ways stand where two of its methods would, and are not these methods.

# %%
WAYS = {"Deepfakes": "poisson", "FaceSwap": "feathered"}
folder = Path(tempfile.mkdtemp()) / "collection"


def film(one, other):
    """A person's clip, and its forgeries with a mouth of the other."""
    home = folder / "original_sequences/youtube/c23/videos"
    clips.write(home / f"{one:03}.mp4", one, chain.detector)
    for way, blend in WAYS.items():
        path = folder / "manipulated_sequences" / way / "c23/videos"
        path = path / f"{one:03}_{other:03}.mp4"
        how = {"part": "mouth", "blend": blend, "lender": other}
        clips.write(path, one, chain.detector, **how)


# %%
people = demo.people("orl").drop_duplicates("person", ignore_index=True)
couples = [people.index[people.group == n].tolist() for n in range(6)]
for one, other in couples:
    film(one, other)
    film(other, one)
names = [[f"{one:03}", f"{other:03}"] for one, other in couples]
splits = {"train": names[:1], "val": names[1:2], "test": names[2:]}
for split, pairs in splits.items():
    (folder / f"{split}.json").write_text(json.dumps(pairs))

# %%
table = datasets.scan(folder, "ffpp", methods=list(WAYS)).table
table.groupby(["label", "method"])[["video_uid", "group"]].nunique()

# %% [markdown]
# Three frames of each video, described; and a probe that was trained on the pictures of all the
# other couples. It meets nobody here whom it knows, so that the whole collection can be tested.

# %%
stores = folder.parent / "stores"
print(extraction.extract(table, chain, stores))
frames, values = Store.find(stores, few).view("mouth", table.video_uid)

# %%
orl = demo.sample("orl", "mouth", "poisson", decisions)
others = orl.groups >= len(couples)
known = orl.descriptors.view("mouth"), orl.labels, orl.groups
probe = training.fit(*(one[others] for one in known), decisions)
frames["score"] = probing.score(probe, values)
frames = frames.dropna(subset="score").merge(table, on="video_uid")

# %% [markdown]
# ## From frames to videos
#
# A video's score is the mean of its frames' scores.


# %%
def per_video(frames):
    """One row a video: score, label, group, and how many frames it had."""
    # honest
    video = frames.video_uid
    # planted
    # video = frames.path.map(lambda path: Path(path).stem)
    # end
    found = frames.groupby(video)[["label", "group"]].first()
    score = frames.groupby(video).score
    return found.assign(score=score.mean(), frames=score.size())


# %%
videos = per_video(frames)
case = videos.label, videos.score, videos.group
found = metrics.auc(*(one.to_numpy() for one in case))
print(f"mouth tokens, mouth forged: AUC {found}")

# %% [markdown]
# ## Controls
#
# *Nothing is lost, nothing is there twice.* The manifest names the videos, and the recipe says how
# many frames each is asked for.
#
# A claim is written as in the [ledger](../../book/claims.yml): a sentence, what must be so, and the
# controls without which it may not stand.

# %%
CLAIM = """
sentence: The mouth's tokens tell forged clips of people never met.
holds_if: [mouth.auc.low > 0.5]
controls:
  - sentence: The AUC is of as many videos as the manifest has.
    holds_if: [videos.scored.value >= videos.listed.value]
  - sentence: No video has more frames than it was asked for.
    holds_if: [frames.most.value <= frames.asked.value]
"""
numbers = {"videos.scored": len(videos), "videos.listed": len(table)}
numbers |= {"frames.most": videos.frames.max(), "frames.asked": few.frames}
print(claims.judge_here(CLAIM, numbers | {"mouth.auc": found}))

# %% [markdown]
# ## Repaired?
#
# The check hands frames of a collection that you do not see to your `per_video`.

# %%
exercises.check("S3", per_video)
