"""Files that went wrong: thousands of mutations, and for each a result or one of our errors."""

import ctypes
import random

import fuzzing
import mutation
import numpy as np
import pytest
from fuzzing import Format, Reader, fuzz

from seglib import media

FEW, MANY = 30, 140
NAMES = list(fuzzing.FORMATS)


@pytest.fixture(scope="module")
def reader():
    with Reader() as one:
        yield one


@pytest.mark.parametrize("name", NAMES)
def test_a_mutated_file_is_read_or_refused(reader, name):
    _, findings = fuzz(reader, name, range(FEW))
    assert not findings, "\n\n".join(findings)


@pytest.mark.slow
def test_thousands_are(reader, record_property):
    """The counts go into the report: pytest --runslow -rP, or --junit-xml."""
    assert len(NAMES) >= 8
    assert len(NAMES) * MANY >= 5000
    all_findings = []
    for name in NAMES:
        counts, findings = fuzz(reader, name, range(FEW, FEW + MANY))
        record_property(name, dict(counts))
        print(f"{name:20} {', '.join(f'{kind}: {n}' for kind, n in counts.most_common())}")
        all_findings += findings
        refused = sum(counts.values()) - counts[fuzzing.RESULT]
        assert refused, f"{name}: nothing was refused, are the mutations too mild?"
        if not fuzzing.FORMATS[name].unchanged:  # those refuse nearly every change
            assert counts[fuzzing.RESULT], f"{name}: nothing gets past the header"
    assert not all_findings, "\n\n".join(all_findings)


# -- the mutator ------------------------------------------------------------------------------

SOUND = {
    mutation.of_bytes: b"0123456789" * 9,
    mutation.of_table: b"path,label\na.mp4,real\nb.mp4,fake\n",
    mutation.of_lines: b"1 Celeb-real/a.mp4\n0 Celeb-synthesis/b.mp4\n",
    mutation.of_json: b'{"a": [1, 2.5, "three"], "b": {"c": null}}',
}


@pytest.mark.parametrize("mutate", SOUND)
def test_a_seed_repeats_its_mutation_and_most_of_them_differ(mutate):
    data = SOUND[mutate]
    once, again = (
        [mutate(data, data[::-1], random.Random(seed)) for seed in range(300)] for _ in range(2)
    )
    assert once == again
    assert len({changed for changed, _ in once}) > 200
    assert sum(changed == data for changed, _ in once) < 30


# -- the process that reads -------------------------------------------------------------------


def make(folder):
    (folder / "file").write_bytes(b"0" * 99)


def waits(path):
    """Hangs in C, where no signal handler of Python's runs, once the file is changed."""
    if path.read_bytes() != b"0" * 99:
        ctypes.PyDLL(None).pause()


def dies(path):
    if path.read_bytes() != b"0" * 99:
        ctypes.string_at(0)


def eats(path):
    return np.ones(fuzzing.MEMORY if path.read_bytes() != b"0" * 99 else 1).sum()


def raises(path):
    return {b"0" * 99: 1}[path.read_bytes()]


def refuses(path):
    return media.read_image(path) if path.read_bytes() != b"0" * 99 else None


def alters(path):
    return path.read_bytes()


FORMATS = {
    read.__name__: Format(make, read, unchanged=True)
    for read in (waits, dies, eats, raises, refuses, alters)
}


@pytest.fixture(scope="module")
def bad_reader():
    with Reader("test_fuzzing", seconds=3) as one:
        yield one


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("raises", "foreign", "KeyError"),
        ("eats", "foreign", "MemoryError"),
        ("alters", "silent", "a result that is not the original's"),
        pytest.param("dies", "crash", "ended with -11", marks=pytest.mark.slow),
        pytest.param("waits", "hang", "no answer after 3 s", marks=pytest.mark.slow),
    ],
)
def test_what_goes_wrong_is_found_and_the_next_input_read(bad_reader, name, kind, detail):
    counts, (finding,) = fuzz(bad_reader, name, [0])
    assert counts == {kind: 1}
    assert finding.startswith(f"{kind}, again with: python tests/fuzzing.py '{name}' 0\n")
    assert detail in finding
    assert fuzz(bad_reader, "refuses", [0]) == ({"UnreadableImage": 1}, [])
