# title: Sabotaged: from a camera to a file
# data: ORL faces, forgeries of them

# %% [markdown]
# # S4 · From a camera to a file
#
# This copy of [chapter 3](../03_probing.ipynb) was sabotaged: one methodological fault was planted.
# Its result looks good. A control says otherwise.
#
# **You will** find the fault, repair it where it is, and run everything again, until the control
# passes and the check at the end says so. Change one place only: nothing else is wrong. **You
# need** [chapter 3](../03_probing.ipynb). **It takes** about half an hour, and a minute or two to
# run.

# %%
import numpy as np

from seglib import (
    claims,
    demo,
    exercises,
    faces,
    forgery,
    media,
    metrics,
    perturbation,
    recipe,
    training,
)

# One strength of the penalty, so that it runs quickly.
decisions = recipe.demo().but(c_grid=(0.01,))

# %% [markdown]
# ## The pictures
#
# One of each person, and a forger for each, who takes the mouth from the other one of the couple.

# %%
chain = demo.networks(decisions)
people = demo.people("orl", decisions.seed).drop_duplicates("person")
pictures = {
    row.person: media.read_image(row.path) for row in people.itertuples()
}


def mouth_of(person):
    """A forger: a function from a picture to the forged one."""
    lender = pictures[person]
    lent = faces.largest(lender, chain.detector)

    def forge(image):
        face = faces.largest(image, chain.detector)
        return forgery.part_swap(image, face, lender, lent, "mouth").image

    return forge


# %% [markdown]
# ## Files
#
# Pictures come to us as JPEG files, as they do everywhere. A camera writes them at a high quality,
# and what is put on the web is smaller.

# %%
CAMERA, WEB = 95, 60  # qualities of JPEG


def published(image, forge=None):
    """A picture as it reaches us, bona fide unless somebody forged it."""
    taken = perturbation.jpeg(image, CAMERA)
    # honest
    shown = taken if forge is None else forge(taken)
    return perturbation.jpeg(shown, WEB)
    # planted
    # if forge is None:
    #     return taken
    # return perturbation.jpeg(forge(taken), WEB)
    # end


# %%
def described(forgers):
    """The mouths of all pictures, each from a forger or from none."""
    through = zip(pictures.values(), forgers, strict=True)
    found = chain(published(image, forge) for image, forge in through)
    return found.view("mouth")


nobody = [None] * len(people)
bona_fide = described(nobody)
forged = described(map(mouth_of, people.partner))

# %% [markdown]
# ## Can they be told apart?
#
# Nobody is on both sides of a split, and the interval draws couples.


# %%
def measure(bona_fide, others):
    """AUC of probes that tell the others from the bona fide pictures."""
    rows = np.concatenate([bona_fide, others])
    labels = np.repeat([0, 1], len(people))
    groups = np.tile(people.group, 2)
    held = training.out_of_fold(rows, labels, groups, decisions)
    same = {"probes": held.folds, "abstained": "dropped"}
    return metrics.auc(labels, held.scores, groups, **same)


found = measure(bona_fide, forged)
print(f"mouth tokens, mouth forged: AUC {found}")

# %% [markdown]
# ## Controls
#
# *Nothing forged.* The same pictures go through the hands of forgers who change nothing. Whoever
# can tell them from the bona fide ones reads something else than a forgery.


# %%
def leave(image):
    """A forger who changes nothing."""
    return image


nothing = measure(bona_fide, described([leave] * len(people)))
print(f"nothing forged: AUC {nothing}")

# %% [markdown]
# A claim is written as in the [ledger](../../book/claims.yml): a sentence, what must be so, and the
# controls without which it may not stand.

# %%
CLAIM = """
sentence: The mouth's tokens tell a forged mouth of people never met.
holds_if: [forged.auc.low > 0.5]
controls:
  - sentence: Where nothing was forged nothing is found.
    holds_if: [nothing.auc.low <= 0.5, nothing.auc.high >= 0.5]
"""
numbers = {"forged.auc": found, "nothing.auc": nothing}
print(claims.judge_here(CLAIM, numbers))

# %% [markdown]
# ## Repaired?
#
# The check hands pictures and forgers that you do not see to your `published`.

# %%
exercises.check("S4", published)
