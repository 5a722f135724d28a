"""What all errors of this package have in common.

A message tells the reader three things, in this order: what was found, what was
expected, and what to do next. There is one exception type per cause, defined in the
module that raises it; everything derives from `SeglibError`, so a batch can pass over
a bad item, and the command line can print one message, by catching a single type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SeglibError(Exception):
    """Base of every error that this package raises on purpose."""


class UnknownName(SeglibError, ValueError):
    """A name (of a region, a parser, an asset, ...) that is not among the known ones."""


def unknown_name(kind: str, name: object, choices: Iterable[str]) -> UnknownName:
    """Build, not raise, the error for a name that is not among `choices`.

    Parameters
    ----------
    kind : str
        What the name should have named, in the singular: ``"region"``.
    name : object
        What was given.
    choices : iterable of str
        The names that would have been accepted, in the order to show them in.

    Examples
    --------
    >>> raise unknown_name("region", "mout", ["mouth", "nose"])
    Traceback (most recent call last):
    seglib.errors.UnknownName: unknown region 'mout'; did you mean 'mouth'? Known: mouth, nose
    """
    choices = list(choices)
    known = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    hint = f"; did you mean {known[near[0]]!r}?" if near else "."
    return UnknownName(f"unknown {kind} {name!r}{hint} Known: {', '.join(choices) or '(none)'}")
