"""Numbers of others: published, not re-run here, each with its source.

``detectors.csv`` holds cross-data-set AUCs of detectors. They are printed beside ours and never
as ours: protocols differ, and level says whether frames or videos were scored, where the source
says so. What the abstract of arXiv 2606.00098 claims stands in `claims`. Taught in chapter 06.
"""

from __future__ import annotations

import csv
from pathlib import Path

FILE = Path(__file__).parent / "detectors.csv"


def detectors() -> list[dict[str, str]]:
    """One row a number: detector, dataset, auc, level, source, reported_by.

    All are texts: a number has the digits that it was taken over with.
    """
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
