"""Numbers of others: each one an AUC, each with its source, none at odds with another."""

import pandas as pd
import pytest

from seglib import claims, published


def test_every_published_number_is_an_auc_with_a_source():
    table = pd.DataFrame(published.detectors())
    assert list(table) == ["detector", "dataset", "auc", "level", "source", "reported_by"]
    assert table.auc.astype(float).between(0.5, 1).all()
    assert set(table.level) <= {"video", "frame", ""}
    assert set(table.dataset) == {"Celeb-DF v2", "DFD", "DFDC"}
    assert (table[["detector", "source", "reported_by"]] != "").all(axis=None)
    assert not table.duplicated(["detector", "dataset"]).any()


def test_the_ledger_agrees_with_the_published_numbers():
    paper = {claim.key: claim.paper for claim in claims.load() if claim.paper is not None}
    known = pd.DataFrame(published.detectors()).set_index(["detector", "dataset"]).auc.astype(float)
    mouth = paper["celebdf-mouth"].value
    assert mouth == known["Al-Zyoud & El Saddik", "Celeb-DF v2"]
    assert paper["dfd-mouth"].value == known["Al-Zyoud & El Saddik", "DFD"]
    for claim, rival in (("over-lipforensics", "LipForensics"), ("over-xception", "Xception")):
        lead = 100 * (mouth - known[rival, "Celeb-DF v2"])
        assert lead == pytest.approx(paper[claim].value, abs=0.06)
