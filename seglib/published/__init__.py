"""Numbers of others: published, not re-run here, each with its source.

``detectors.csv`` holds cross-data-set AUCs of detectors. They are printed beside ours and never
as ours: protocols differ, and level says whether frames or videos were scored, where the source
says so. What the abstract of arXiv 2606.00098 claims stands in `claims`. Taught in chapter 06.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent


def detectors() -> pd.DataFrame:
    """One row a number: detector, dataset, auc, level, source, reported_by."""
    return pd.read_csv(HERE / "detectors.csv", keep_default_na=False)
