# title: Sabotaged: one of each couple is forged
# data: ORL faces, forgeries of them

# %% [markdown]
# # S1 · One of each couple is forged
#
# This copy of [chapter 3](../03_probing.ipynb) was sabotaged: one methodological fault was planted.
# Its result looks good. A control says otherwise.
#
# **You will** find the fault, repair it where it is, and run everything again, until the control
# passes and the check at the end says so. Change one place only: nothing else is wrong. **You
# need** [chapter 3](../03_probing.ipynb). **It takes** about half an hour, and a minute to run,
# once chapter 3 has been run on this machine.

# %%
import numpy as np
import pandas as pd

from seglib import claims, demo, exercises, metrics, recipe, training, trials

# One strength of the penalty, so that it runs quickly.
decisions = recipe.demo().but(c_grid=(0.01,))

# %% [markdown]
# ## The pictures
#
# In chapter 3 everybody is there bona fide and forged. In many collections that is not so: of some
# people there are only fakes, of others none. Here one person of each couple is shown as
# photographed, and the other one with a mouth that the first has lent.

# %%
orl = demo.sample("orl", "mouth", "poisson", decisions)
people = demo.people("orl", decisions.seed)
table = pd.concat([people.assign(label=label) for label in (0, 1)])
table["item"] = orl.items
first = table.groupby("group").person.transform("min")
chosen = ((table.label == 1) == (table.person == first)).to_numpy()
rows = orl.descriptors.view("mouth")[chosen]
table = table[chosen].reset_index(drop=True)

# %%
kinds = table.label.map({0: "bona fide", 1: "forged"})
table.groupby(kinds)[["item", "person", "group"]].nunique()

# %% [markdown]
# ## Scores from outside
#
# A picture may not be scored by a probe that was trained on it. So everything is dealt into five
# folds, and those of a fold are scored by a probe that was trained on the other four.


# %%
def held_out(rows, table):
    """Scores of all rows, and the fold in which each was tested."""
    labels = table.label.to_numpy()
    # honest
    apart = table.group.to_numpy()
    # planted
    # apart = table.item.to_numpy()
    # end
    return training.out_of_fold(rows, labels, apart, decisions, seeds=[0])


# %%
def measure(rows, table):
    """AUC of scores from outside; the interval draws couples."""
    labels, groups = table.label.to_numpy(), table.group.to_numpy()
    held = held_out(rows, table)
    same = {"probes": held.folds, "abstained": "dropped"}
    return metrics.auc(labels, held.scores, groups, **same)


found = measure(rows, table)
print(f"mouth tokens, mouth forged: AUC {found}")

# %% [markdown]
# ## Controls
#
# *Labels dealt anew.* In each couple a coin says which of the two is called forged, whatever was
# done to the pictures. Whoever can still tell the classes apart reads something else than a
# forgery.


# %%
def dealt(table, seed):
    """The same table; in each couple it was drawn who is called forged."""
    of = table.groupby("person")[["label", "group"]].first()
    rng = np.random.default_rng(seed)
    labels = trials.dealt(of.label.to_numpy(), of.group.to_numpy(), rng)
    called = dict(zip(of.index, labels, strict=True))
    return table.assign(label=table.person.map(called))


nothing = measure(rows, dealt(table, seed=0))
print(f"labels dealt anew: AUC {nothing}")

# %% [markdown]
# *Nobody on both sides.* A forged picture shows two people: whose picture it is, and who lent the
# mouth. Counted are those whose pictures, or whose mouths, are in more than one fold.

# %%
fold = held_out(rows, table).folds[0]
forged = table.label == 1
shown = pd.DataFrame({"person": table.person, "fold": fold})
lent = pd.DataFrame({"person": table.partner, "fold": fold})[forged]
seen = pd.concat([shown, lent]).groupby("person").fold.nunique()
shared = (seen > 1).sum()

# %% [markdown]
# A claim is written as in the [ledger](../../book/claims.yml): a sentence, what must be so, and the
# controls without which it may not stand.

# %%
CLAIM = """
sentence: The mouth's tokens tell a forged mouth.
holds_if: [mouth.auc.low > 0.5]
controls:
  - sentence: Of labels dealt anew nothing is found.
    holds_if: [dealt.auc.low <= 0.5, dealt.auc.high >= 0.5]
  - sentence: Nobody is in more than one fold.
    holds_if: [people.shared.value <= 0]
"""
numbers = {"mouth.auc": found, "dealt.auc": nothing, "people.shared": shared}
print(claims.judge_here(CLAIM, numbers))

# %% [markdown]
# ## Repaired?
#
# The check hands pictures that you do not see to your `measure`. A claim may be lost by a repair.
# If it is, that is the result.

# %%
exercises.check("S1", measure)
