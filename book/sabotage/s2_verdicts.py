# title: Sabotaged: right or wrong
# data: ORL faces, forgeries of them

# %% [markdown]
# # S2 · Right or wrong
#
# This copy of [chapter 3](../03_probing.ipynb) was sabotaged: one methodological fault was planted.
# Its result looks good. A control says otherwise.
#
# **You will** find the fault, repair it where it is, and run everything again, until the control
# passes and the check at the end says so. Change one place only: nothing else is wrong. **You
# need** [chapter 3](../03_probing.ipynb), *More than one number*. **It takes** about half an hour,
# and a minute to run, once chapter 3 has been run on this machine.

# %%
import numpy as np
import pandas as pd

from seglib import (
    claims,
    demo,
    exercises,
    metrics,
    probing,
    recipe,
    training,
    trials,
)

# One strength of the penalty, so that it runs quickly.
decisions = recipe.demo().but(c_grid=(0.01,))

# %% [markdown]
# ## The pictures
#
# Four of each person, as photographed and with a forged mouth.

# %%
orl = demo.sample("orl", "mouth", "poisson", decisions)
people = demo.people("orl", decisions.seed)
rank = np.tile(people.groupby("person").cumcount(), 2)
rows = orl.descriptors.view("mouth")
chosen = (rank < 4) & ~np.isnan(rows).any(1)
rows, labels, groups = rows[chosen], orl.labels[chosen], orl.groups[chosen]
print(f"{(labels == 0).sum()} bona fide, {(labels == 1).sum()} forged")

# %% [markdown]
# ## From a score to a verdict
#
# An AUC says how well pictures are ordered. Whoever decides needs a threshold, and wants to know how
# often the verdict is right. Nobody is in two folds; a picture is judged by a probe that was
# trained on the other four folds.


# %%
def called_fake(rows, labels, groups):
    """The verdict on each picture, (N,) bool."""
    called = np.zeros(len(labels), bool)
    folds = training.outer_folds(labels, groups, decisions, seeds=[0])[0]
    for fold in np.unique(folds):
        test = folds == fold
        known = rows[~test], labels[~test], groups[~test]
        probe = training.fit(*known, decisions)
        odds = probing.score(probe, rows[test])
        # honest
        threshold = probe.threshold
        # planted
        # threshold = training.best_threshold(labels[test], odds)
        # end
        called[test] = odds > threshold
    return called


# %% [markdown]
# There are as many fakes as bona fide pictures, so a coin is right in one half.

# %%
right = called_fake(rows, labels, groups) == labels
found = metrics.mean(right, groups)
print(f"right: {found}")

# %%
called = np.where(called_fake(rows, labels, groups), "fake", "bona fide")
truth = np.where(labels == 1, "fake", "bona fide")
pd.crosstab(pd.Series(truth, name="it is"), pd.Series(called, name="called"))

# %% [markdown]
# ## Controls
#
# *Labels dealt anew.* Inside each couple the labels are dealt out at random: of these nobody can
# know anything. This is done eight times, and all is trained and judged anew each time.

# %%
draws = [
    trials.dealt(labels, groups, np.random.default_rng(n)) for n in range(8)
]
by_chance = [called_fake(rows, draw, groups) == draw for draw in draws]
nothing = metrics.mean(np.stack(by_chance), groups)
print(f"right, labels dealt anew: {nothing}")

# %% [markdown]
# *Nobody on both sides.* Counted are couples that are in more than one fold.

# %%
fold = training.outer_folds(labels, groups, decisions, seeds=[0])[0]
shared = (pd.Series(fold).groupby(groups).nunique() > 1).sum()

# %% [markdown]
# A claim is written as in the [ledger](../../book/claims.yml): a sentence, what must be so, and the
# controls without which it may not stand.

# %%
CLAIM = """
sentence: The verdict is right more often than a coin.
holds_if: [right.mean.low > 0.5]
controls:
  - sentence: Nobody is in more than one fold.
    holds_if: [people.shared.value <= 0]
  - sentence: On labels dealt anew it is right as often as a coin.
    holds_if: [dealt.mean.low <= 0.5, dealt.mean.high >= 0.5]
"""
numbers = {"right.mean": found, "dealt.mean": nothing, "people.shared": shared}
print(claims.judge_here(CLAIM, numbers))

# %% [markdown]
# ## Repaired?
#
# The check hands pictures that you do not see to your `called_fake`.

# %%
exercises.check("S2", called_fake)
