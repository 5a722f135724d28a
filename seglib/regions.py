"""Names of face labels, and parts as unions of them.

Label maps speak LaPa's eleven labels (Liu et al., AAAI 2020), in the order in which
FacePerceiver/facer lists them. Numbers are never written anywhere else: every label and
part is resolved by its name. "Right" is the person's right. What the parsers lack:

- LaPa (``farl/lapa``) has no label of its own for ears, which belong to ``face``, nor for
  glasses, hats, neck and clothes.
- CelebAMask-HQ (``farl/celebm``) lacks none of the eleven and has eight more, see `CELEBM`.
- The mesh (``mesh``) lacks ``hair``, which stays background, and ears.

Taught in chapter 01.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seglib.errors import SeglibError, unknown_name

LABELS = (
    "background", "face", "rb", "lb", "re", "le", "nose", "ulip", "imouth", "llip", "hair",
)  # fmt: skip

PARTS = {
    "mouth": ("ulip", "imouth", "llip"),
    "eyes": ("re", "le"),
    "brows": ("rb", "lb"),
    "nose": ("nose",),
    "skin": ("face",),
    "face": ("face", "rb", "lb", "re", "le", "nose", "ulip", "imouth", "llip"),
    "all": LABELS,
}

# What CelebAMask-HQ's labels beyond the eleven are in LaPa. Ears are face: FaRL's own reader of
# LaPa calls that class "face_lr_rr", left and right ear included (FacePerceiver/FaRL,
# farl/datasets/lapa.py). Glasses are face by our decision: CelebAMask-HQ paints them over the
# eyes, and what lies behind a lens is not known; so whoever wears them may lack eyes. Which of a
# pair is the right one is facer's word: FaRL's reader of CelebAMask-HQ calls its "l_eye" "re"
# (farl/datasets/celebamask_hq.py). The parts join both.
CELEBM = {
    "rr": "face",
    "lr": "face",
    "eyeg": "face",
    "hat": "background",
    "earr": "background",
    "neck": "background",
    "neck_l": "background",
    "cloth": "background",
}


class MissingLabel(SeglibError):
    """A parser's labels do not cover the eleven that label maps are made of."""


def label_id(name: str) -> int:
    """LaPa id of one label, say 7 for ``"ulip"``."""
    if name not in LABELS:
        raise unknown_name("label", name, LABELS)
    return LABELS.index(name)


def part_ids(part: str) -> tuple[int, ...]:
    """LaPa ids whose union is a part, say ``(7, 8, 9)`` for ``"mouth"``."""
    if part not in PARTS:
        raise unknown_name("part", part, PARTS)
    return tuple(label_id(name) for name in PARTS[part])


def vocabulary(names: Sequence[str]) -> np.ndarray:
    """Where a parser's own labels stand among LaPa's.

    Parameters
    ----------
    names : sequence of C str
        The parser's labels in its own order, as facer names them.

    Returns
    -------
    (C,) uint8 array
        ``vocabulary(names)[labels]`` is a map of the parser in LaPa ids.

    Raises
    ------
    UnknownName
        A label that is neither among `LABELS` nor in `CELEBM`.
    MissingLabel
        One of the eleven is not among the names.
    """
    missing = [name for name in LABELS if name not in names]
    if missing:
        raise MissingLabel(
            f"the parser's labels are {', '.join(names)}: without {', '.join(missing)}; expected "
            f"all of {', '.join(LABELS)}. Take a parser that was trained on LaPa or CelebAMask-HQ."
        )
    return np.array([label_id(CELEBM.get(name, name)) for name in names], np.uint8)
