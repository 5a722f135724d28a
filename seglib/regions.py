"""Names of face labels, and parts as unions of them.

Label maps speak LaPa's eleven labels (Liu et al., AAAI 2020), in the order in which
FacePerceiver/facer lists them. Numbers are never written anywhere else: every label and
part is resolved by its name. Taught in chapter 01.
"""

from __future__ import annotations

from seglib.errors import unknown_name

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
